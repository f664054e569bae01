"""Images are compared with the index again when their pixels have been read."""

import os
import sqlite3
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from pipeline.images.augmentation import Augmentation, Mixing
from pipeline.images.index import Image, Index
from pipeline.images.transforms import Transforms
from pipeline.images.unchanged import Unchanged
from pipeline.runtime import seen_files
from pipeline.runtime.digests import sha256_file
from pipeline.runtime.errors import MismatchError
from pipeline.soft_labels.reading import Rows
from pipeline.teacher_pass.compared import UnchangedSplits
from pipeline.teacher_pass.labellers import Labellers, SplitOfViews


@pytest.fixture
def images(tmp_path, monkeypatch):
    """6 files of their own content, and their rows: 2 of each split; they count as settled at once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(seen_files, "SETTLED_SECONDS", -1.0)
    rows = []
    for number, split in enumerate(("test", "train", "val", "test", "train", "val")):
        Path(str(number)).write_text(f"content {number}")
        rows.append(Image(str(number), str(number), "a", split, "", sha256_file(Path(str(number)))))
    return rows


def put_back(name):
    """Lets a file have another content for a while, and leaves nothing of it but `ctime`."""
    before, content = os.stat(name), Path(name).read_bytes()
    while os.stat(name).st_ctime_ns == before.st_ctime_ns:  # until the clock of the file system moves on
        Path(name).write_text("another")
        Path(name).write_bytes(content)
        os.utime(name, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_files_that_stay_are_compared_without_the_record(images, monkeypatch):
    files = Unchanged(images)
    monkeypatch.setattr(sqlite3, "connect", None)
    files.refuse_changed()
    files.refuse_changed(np.array([5, 0]))


@pytest.mark.parametrize("rows", [None, np.array([3, 4])])
def test_another_content_is_named(images, rows):
    files = Unchanged(images)
    Path("4").write_text("content X")
    with pytest.raises(MismatchError, match=r"^1 image file\(s\) are missing or not those of the index: 4\. "):
        files.refuse_changed(rows)
    files.refuse_changed(np.array([0, 1, 2, 3, 5]))


def test_a_file_that_was_put_back_is_not_trusted(images):
    files = Unchanged(images)
    put_back("3")
    told = r"^1 image file\(s\) changed while they were read, though they now have the content of the index: 3\. "
    for _ in range(2):  # what was read stays wrong
        with pytest.raises(MismatchError, match=told):
            files.refuse_changed()
    Unchanged(images).refuse_changed()  # the next run


def test_a_file_written_a_moment_ago_is_read_again(images, monkeypatch):
    """Its times would not show a further change, so its content is compared, until it has settled."""
    monkeypatch.setattr(seen_files, "SETTLED_SECONDS", 1e6)
    files = Unchanged(images)
    put_back("3")
    files.refuse_changed()
    state = os.stat("3")
    Path("3").write_text("content X")
    os.utime("3", ns=(state.st_atime_ns, state.st_mtime_ns))
    with pytest.raises(MismatchError, match=r"not those of the index: 3\. "):
        files.refuse_changed()


def test_a_file_that_settled_later_is_not_trusted_either(images, monkeypatch):
    monkeypatch.setattr(seen_files, "SETTLED_SECONDS", 1e6)
    files = Unchanged(images)
    monkeypatch.setattr(seen_files, "SETTLED_SECONDS", -1.0)
    files.refuse_changed()
    put_back("3")
    with pytest.raises(MismatchError, match="changed while they were read"):
        files.refuse_changed()


class Answering:
    """A labeller of one view at a time, which tells how far it is."""

    at_once, unused_places, is_steady = 1, 0, True

    def __init__(self, before_answer):
        self.before_answer = before_answer

    def logits(self, split, views, rows):
        for place in range(len(rows)):
            self.before_answer(place)
            yield slice(place, place + 1), np.zeros((1, 2), np.float32)


@pytest.mark.parametrize(("damaged", "answers"), [("1", 0), ("4", 1), ("0", 2)])
def test_an_answer_counts_if_all_images_behind_it_stayed(images, damaged, answers):
    """The first view is of image 1 alone, the second one mixes image 4 in; image 0 is of another split."""
    files = UnchangedSplits(Index(images))
    transforms = Transforms.of((2, 2), partner=np.array([[-1, -1], [1, -1]], np.int32))
    split = SplitOfViews("train", Rows(("1", "4"), (0, 0), ("", "")), Augmentation(mixup=Mixing(1, 1)), transforms)
    labeller = files.compared(Labellers(Answering(lambda place: place or put_back(damaged)), None)).usual
    answered = labeller.logits(split, np.array([0, 1]), np.array([0, 0]))
    assert [part.start for part, _ in islice(answered, answers)] == [*range(answers)]
    if answers < 2:
        with pytest.raises(MismatchError, match=rf"index: {damaged}\. "):
            next(answered)
