"""Soft-label files of images without a label: what they hold, and how everything that reads them takes it."""

import h5py
import numpy as np
import pytest
from soft_label_files import CLASS_NAMES, DENSE, IDS, INDEX, LABELS, TOP2, VIEWS, edit, write_both

from pipeline.distillation.targets import HardAndSoftLabels
from pipeline.images.index import Index, write_index
from pipeline.runtime.errors import DamagedError
from pipeline.soft_labels import answers, reading
from pipeline.soft_labels.answers import answers_in
from pipeline.soft_labels.identity import differences
from pipeline.soft_labels.logit_storage import softmax
from pipeline.soft_labels.reading import open_logits, open_soft_labels, open_soft_targets
from pipeline.tools.inspect_file import describe
from pipeline.tools.verify import verify

BARE = [0, 3]
"""The rows of the training images that have no label."""

STORAGES = {"dense": DENSE, "topk": TOP2}
of_each_storage = pytest.mark.parametrize("storage", STORAGES)
of_each_format = pytest.mark.parametrize("number", [0, 1], ids=["logits", "targets"])


def without_labels(rows):
    """The index, in which some rows of the training images have no label."""
    names = {IDS["train"][row] for row in rows}
    return Index([one._replace(class_name="") if one.id in names else one for one in INDEX.images], CLASS_NAMES)


BARE_INDEX = without_labels(BARE)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Writes both files of a storage, in the current folder."""
    monkeypatch.chdir(tmp_path)

    def write(storage="dense", index=BARE_INDEX):
        return write_both(tmp_path, index=index, stored_as=STORAGES[storage])

    return write


def labels_of(rows):
    return [-1 if row in rows else label for row, label in enumerate(LABELS["train"])]


@of_each_storage
def test_the_files_hold_minus_one_or_a_row_of_zeros(files, storage):
    logits, targets = files(storage)
    with h5py.File(logits) as file:
        assert file["train/label"][:].tolist() == labels_of(BARE)
    with h5py.File(targets) as file:
        if storage == "topk":
            assert file["train/label"][:].tolist() == labels_of(BARE)
        else:
            one_hot = [[int(label == number) for number in range(3)] for label in labels_of(BARE)]
            assert file["train/hard"][:].tolist() == one_hot
            assert file["train/hard"].dtype == np.uint8


@of_each_storage
@of_each_format
def test_only_labels_differ_from_those_of_labelled_images(files, tmp_path, storage, number):
    path = files(storage)[number]
    (tmp_path / "labelled").mkdir()
    other = write_both(tmp_path / "labelled", stored_as=STORAGES[storage])[number]
    with h5py.File(path) as bare, h5py.File(other) as labelled:
        assert bare.attrs["version"] == labelled.attrs["version"] == 2
        names: list[str] = []
        bare.visititems(lambda name, what: names.append(name) if isinstance(what, h5py.Dataset) else None)
        different = [name for name in names if not np.array_equal(bare[name][...], labelled[name][...])]
    assert different in (["train/label"], ["train/hard"])


@of_each_storage
@of_each_format
def test_the_reader_gives_minus_one(files, storage, number):
    with open_soft_labels(files(storage)[number]) as file:
        assert file.labels("train").tolist() == labels_of(BARE)
        assert file.labels("val").tolist() == LABELS["val"]


@of_each_storage
def test_a_students_targets_have_no_hard_half(files, storage):
    with open_soft_targets(files(storage)[1]) as file:
        images = BARE_INDEX.split("train")
        labels = HardAndSoftLabels(file, "train", images, BARE_INDEX.one_hot(images))
        targets = labels.targets(1, np.arange(5))
    rows = [IDS["train"].index(image.id) for image in images]
    np.testing.assert_array_equal(targets[:, :3].any(axis=1), [row not in BARE for row in rows])
    np.testing.assert_allclose(targets[:, 3:].sum(axis=1), 1, atol=1e-6)


@of_each_format
def test_the_file_belongs_to_its_own_labels_alone(files, number):
    with open_soft_labels(files()[number]) as file:
        assert differences(file, BARE_INDEX) == []
        for rows, row in ((BARE[:1], 3), ([*BARE, 1], 1)):
            (told,) = differences(file, without_labels(rows))
            assert told == f"has other labels than the index for 1 train image(s): {IDS['train'][row]}"


def test_a_file_of_labelled_images_is_not_one_of_others(files):
    with open_soft_labels(files(index=INDEX)[1]) as file:
        (told,) = differences(file, BARE_INDEX)
    assert "has other labels than the index for 2 train image(s)" in told


# The teacher's answers


@of_each_format
@pytest.mark.parametrize("slab", [1, 2, 5])
@pytest.mark.parametrize("most", [1, 2, 4096])
def test_answers_are_those_to_labelled_images(files, monkeypatch, number, slab, most):
    monkeypatch.setattr(reading, "SLAB_ROWS", slab)
    monkeypatch.setattr(answers, "MOST_ROWS", most)
    logits, targets = files()
    with open_logits(logits) as file:
        expected = np.delete(file.columns("train", 0)["logits"], BARE, axis=0)
    with open_soft_labels((logits, targets)[number]) as file:
        found = answers_in(file, "train")
    assert found.labels.tolist() == np.delete(LABELS["train"], BARE).tolist()
    assert found.predictions.tolist() == expected.argmax(axis=1).tolist()
    sampled = expected[:: -(-3 // most) if most < 3 else 1]
    np.testing.assert_allclose(softmax(found.logits, 1.0), softmax(sampled, 1.0), rtol=1e-4)


def test_accuracy_is_the_share_of_equal_classes():
    found = answers.Answers(np.array([0, 1, 2, 2]), np.array([0, 2, 2, 2]), np.zeros((4, 3)))
    assert found.accuracy == 0.75


# verify and inspect


def checked(path, index=BARE_INDEX):
    """The checks of a file by name; without parameters, teacher and logits."""
    place, nowhere = path.parent / "index.csv", path.parent / "nowhere"
    write_index(place, index)
    checks = verify(path, place, nowhere, nowhere, DamagedError("none"))
    return {check.name: check for check in checks}


@of_each_storage
@of_each_format
def test_verify_takes_them_for_sound_and_counts_them(files, storage, number):
    path = files(storage)[number]
    found = checked(path)
    assert [name for name, check in found.items() if check.ok is False] == []
    detail = found["values of train"].detail
    assert detail.startswith("5 image(s), 2 of them without a label, 3 view(s); ")
    with open_soft_labels(path) as file:
        right = [
            file.soft_labels("train", view, slice(0, 5)).argmax(axis=1) == LABELS["train"]
            for view in range(VIEWS.count)
        ]
    assert f"the teacher is right on {np.delete(right, BARE, axis=1).mean():.4f};" in detail


def test_verify_takes_training_images_without_any_label(files):
    found = checked(files(index=without_labels(range(5)))[1], without_labels(range(5)))
    assert [name for name, check in found.items() if check.ok is False] == []
    assert "5 image(s), 5 of them without a label" in found["values of train"].detail


def set_label(split, row, label):
    def change(file):
        if "hard" in file[split]:
            file[split]["hard"][row] = np.arange(3) == label
        else:
            file[split]["label"][row] = label

    return change


@of_each_storage
@of_each_format
@pytest.mark.parametrize("split", ["val", "test"])
def test_other_images_need_a_label(files, storage, number, split):
    path = files(storage)[number]
    edit(path, set_label(split, 1, -1))
    detail = checked(path)[f"values of {split}"].detail
    assert detail.startswith("1 label(s) are of no class")
    with pytest.raises(DamagedError, match="1 label"):
        describe(path)


@of_each_storage
def test_a_label_of_minus_two_is_no_missing_one(files, storage):
    path = files(storage)[0]
    edit(path, set_label("train", 0, -2))
    assert checked(path)["values of train"].detail.startswith("1 label(s) are of no class")


@pytest.mark.parametrize("hard", [[1, 1, 0], [2, 0, 0]])
def test_a_hard_row_that_is_neither_is_wrong(files, hard):
    path = files()[1]
    edit(path, lambda file: file["train/hard"].__setitem__(0, hard))
    assert checked(path)["values of train"].detail.startswith("1 hard label(s) are not one-hot")


@of_each_format
def test_inspect_has_a_line_for_them(files, number):
    lines = [line.split() for line in describe(files()[number]).splitlines()]
    (line,) = [line for line in lines if line[:3] == ["train", "(no", "label)"]]
    assert line[3] == "2"
    assert len(line) == 6  # no share that is right
    of_classes = [line for line in lines if line[:1] == ["train"] and line[1:2] != ["(no"] and "." in line[-1]]
    assert sum(int(line[-4]) for line in of_classes) == 3


@of_each_format
def test_inspect_has_none_where_all_have_a_label(files, number):
    assert "(no label)" not in describe(files(index=INDEX)[number])
