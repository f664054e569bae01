"""Which JPEG files go the same way through a decoder, so that `split` compares one of them."""

import io

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from conftest import MODEL

from pipeline.images import checks
from pipeline.images.checks import problems_of
from pipeline.images.decoding import by_tensorflow
from pipeline.images.image_files import read_pixels
from pipeline.images.index import Image, Index, write_index
from pipeline.images.jpeg_form import form_of
from pipeline.images.views import Augmentation, Views
from pipeline.runtime.digests import sha256_bytes
from pipeline.runtime.errors import UnusableError
from pipeline.stages import train_baseline
from pipeline.training.recipe import Phase, Recipe

SMOOTH = PIL.Image.effect_mandelbrot((40, 33), (-2, -1, 1, 1), 50).convert("RGB")


def jpeg(picture=SMOOTH, **options):
    file = io.BytesIO()
    picture.save(file, "JPEG", **options)
    return file.getvalue()


PLAIN = jpeg(subsampling=2)
OTHERS = {
    "sampling": jpeg(subsampling=0),
    "half sampling": jpeg(subsampling=1),
    "grey": jpeg(SMOOTH.convert("L")),
    "restarts": jpeg(subsampling=2, restart_marker_blocks=1),
    "RGB": jpeg(subsampling=0, keep_rgb=True),
    "CMYK": jpeg(SMOOTH.convert("CMYK")),
    "without JFIF": PLAIN[:2] + PLAIN[20:],
}


def damaged(content):
    """With the marker of a segment (APP9) within its numbers, whose length lies beyond the end: Pillow reads on."""
    scan = content.index(b"\xff\xda") + 40
    return content[:scan] + b"\xff\xe9\xe6\x35" + content[scan + 4 :]


def test_each_way_through_a_decoder_is_another_form():
    forms = [form_of(content) for content in (PLAIN, *OTHERS.values())]
    assert None not in forms
    assert len(set(forms)) == len(forms)


def test_pixels_quality_and_notes_are_no_part_of_the_form():
    picture = SMOOTH.transpose(PIL.Image.Transpose.ROTATE_90)
    assert form_of(jpeg(picture, subsampling=2, quality=20, optimize=True, comment=b"a" * 300)) == form_of(PLAIN)


@pytest.mark.parametrize(
    "content",
    [
        jpeg(progressive=True),
        jpeg(SMOOTH.resize((15, 40))),
        damaged(PLAIN),
        PLAIN[:-2],
        PLAIN[: PLAIN.index(b"\xff\xda")],
        PLAIN[:2] + b"\x00" + PLAIN[2:],
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"",
    ],
)
def test_other_files_have_none(content):
    assert form_of(content) is None


def test_one_file_of_each_form_is_compared(monkeypatch):
    contents = [PLAIN, jpeg(subsampling=2, quality=30), OTHERS["grey"], PLAIN, OTHERS["grey"], OTHERS["CMYK"]]
    decoded = []
    monkeypatch.setattr(checks, "by_tensorflow", lambda content: (decoded.append(content), by_tensorflow(content))[1])
    assert problems_of(contents) == [None] * 6
    assert decoded == [PLAIN, OTHERS["grey"]]


def test_a_form_that_is_read_otherwise_is_compared_in_each_file(monkeypatch):
    monkeypatch.setattr(checks, "by_tensorflow", lambda content: by_tensorflow(content) // 2)
    assert [bool(problem) for problem in problems_of([PLAIN] * 3)] == [True] * 3


def test_what_tensorflow_alone_refuses_is_found_behind_others():
    bad = damaged(PLAIN)
    assert read_pixels(bad).shape == (33, 40, 3)
    assert problems_of([PLAIN, PLAIN, bad]) == [None, None, checks.UNREAD]


@pytest.mark.parametrize("trainable_from", ["all", None])
def test_a_stage_names_what_it_cannot_decode(tmp_path, monkeypatch, trainable_from):
    monkeypatch.chdir(tmp_path)
    rows = []
    for number in range(6):
        content = damaged(PLAIN) if number == 2 else PLAIN
        (tmp_path / f"{number}.jpg").write_bytes(content)
        split = ("train", "train", "train", "train", "val", "test")[number]
        rows.append(Image(f"i{number}", f"{number}.jpg", "ab"[number % 2], split, "", sha256_bytes(content)))
    write_index(tmp_path / "index.csv", Index(rows, ["a", "b"]))
    with pytest.raises(UnusableError, match=r"^1 of 5 image files cannot be used: i2 \(damaged: Pillow reads it, Tens"):
        train_baseline.run(
            index=tmp_path / "index.csv",
            model=MODEL,
            recipe=Recipe(batch_size=2, seed=1, phases=[Phase(1, 0.01, trainable_from)]),
            views=Views(1, 1, Augmentation()),
            output=tmp_path / "baseline.keras",
            history=tmp_path / "history.csv",
        )


def test_files_of_a_known_form_are_read_alike_or_not_at_all():
    """2,000 damaged files: those that kept a form of sound files are refused by both libraries, or read alike."""
    words = np.random.default_rng(7)
    bases = [PLAIN, *(OTHERS[name] for name in ("sampling", "grey", "restarts"))]
    forms, read = {form_of(base) for base in bases}, 0
    for number in range(2_000):
        content = bytearray(bases[number % len(bases)])
        at = words.integers(2, len(content))
        content[at : at + words.integers(0, 3)] = words.integers(0, 256, words.integers(1, 4), np.uint8).tobytes()
        if form_of(bytes(content)) in forms:
            by_both = [_pixels(bytes(content), reader) for reader in (read_pixels, by_tensorflow)]
            np.testing.assert_array_equal(*by_both)
            read += by_both[0] is not None
    assert read > 200


def _pixels(content, reader):
    try:
        return np.asarray(reader(content))
    except (checks.DamagedError, UnusableError, tf.errors.OpError):
        return None
