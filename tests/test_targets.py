"""Hard beside soft labels: joined by id, and refused by name where the two do not belong together."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.index import Image, Index
from pipeline.soft_labels import SoftTargets
from pipeline.targets import hard_and_soft_labels

FILE = Path("data/soft_labels/soft_targets_T4.h5")
CLASSES = {"a": "HP", "b": "SSA", "c": "other", "d": "SSA", "e": "HP", "f": "other", "g": "HP"}
# One soft row for each image that no other image has; 1/8 steps are exact in float32.
SOFT = {
    "a": [0.875, 0.125, 0.0],
    "b": [0.25, 0.5, 0.25],
    "c": [0.125, 0.125, 0.75],
    "d": [0.0, 1.0, 0.0],
    "e": [0.5, 0.375, 0.125],
    "f": [0.375, 0.375, 0.25],
    "g": [0.625, 0.25, 0.125],
}
HARD = {"HP": [1, 0, 0], "SSA": [0, 1, 0], "other": [0, 0, 1]}


def image(name, label, split="train"):
    return Image(f"MHIST_{name}.png", f"data/split/{split}/{label}/MHIST_{name}.png", label, split, "", name * 64)


def index_of(classes=CLASSES):
    return Index(image(name, label) for name, label in classes.items())


def soft_targets(index, order="abcdefg", **change):
    """What a soft-target file says of the images named in `order`, with a second view that must not be used."""
    first = np.array([SOFT[name] for name in order], np.float32)
    targets = SoftTargets(
        temperature=4.0,
        dataset=index.fingerprint(),
        class_names=("HP", "SSA", "other"),
        ids=tuple(f"MHIST_{name}.png" for name in order),
        hard=np.array([HARD[CLASSES[name]] for name in order], np.uint8),
        soft=np.stack([first, first[::-1]]),
    )
    return replace(targets, **change)


def expected(order):
    return np.array([HARD[CLASSES[name]] + SOFT[name] for name in order], np.float32)


def by_name(index, order):
    images = {entry.id: entry for entry in index.images}
    return [images[f"MHIST_{name}.png"] for name in order]


@pytest.mark.parametrize("stored", ["abcdefg", "gfedcba", "dagcfbe"])
@pytest.mark.parametrize("asked", ["abcdefg", "gbdafce", "ca", "b"])
def test_each_image_gets_its_own_soft_row(stored, asked):
    index = index_of()
    found = hard_and_soft_labels(index, by_name(index, asked), soft_targets(index, stored), FILE)
    assert found.shape == (len(asked), 6)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected(asked))


def test_an_image_asked_for_twice_is_answered_twice():
    index = index_of()
    found = hard_and_soft_labels(index, by_name(index, "cbc"), soft_targets(index), FILE)
    np.testing.assert_array_equal(found, expected("cbc"))


def test_the_two_halves_are_distributions():
    index = index_of()
    found = hard_and_soft_labels(index, index.images, soft_targets(index), FILE)
    np.testing.assert_array_equal(found[:, :3].sum(axis=1), np.ones(7))
    np.testing.assert_array_equal(found[:, 3:].sum(axis=1), np.ones(7))


def refusal(index, targets, images=None):
    with pytest.raises(PipelineError) as error:
        hard_and_soft_labels(index, index.images if images is None else images, targets, FILE)
    message = str(error.value)
    assert str(FILE) in message
    assert "`dvc repro`" in message
    return message


def test_one_missing_image_is_named():
    index = index_of()
    message = refusal(index, soft_targets(index, "abdefg"))
    assert "no soft labels for 1 image(s): MHIST_c.png. " in message


def test_many_missing_images_are_counted_and_five_are_named():
    index = index_of()
    message = refusal(index, soft_targets(index, "d"))
    assert (
        "no soft labels for 6 image(s): MHIST_a.png, MHIST_b.png, MHIST_c.png, MHIST_e.png, MHIST_f.png and 1 more. "
        in message
    )
    assert "MHIST_g.png" not in message


def test_exactly_five_missing_images_leave_no_more():
    index = index_of()
    message = refusal(index, soft_targets(index, "dg"))
    assert "5 image(s): MHIST_a.png, MHIST_b.png, MHIST_c.png, MHIST_e.png, MHIST_f.png. " in message
    assert "more" not in message


def test_images_that_nobody_asks_for_may_be_missing():
    index = index_of()
    found = hard_and_soft_labels(index, by_name(index, "ab"), soft_targets(index, "ab"), FILE)
    np.testing.assert_array_equal(found, expected("ab"))


@pytest.mark.parametrize(
    "names", [("SSA", "HP", "other"), ("HP", "SSA"), ("HP", "SSA", "Other"), ("HP", "SSA", "other", "extra")]
)
def test_other_class_names_or_another_order_are_refused(names):
    index = index_of()
    message = refusal(index, soft_targets(index, class_names=names))
    assert str(list(names)) in message
    assert "['HP', 'SSA', 'other']" in message


def test_a_changed_label_is_named():
    before = index_of()
    after = index_of(CLASSES | {"d": "HP"})
    message = refusal(after, soft_targets(before))
    assert "other labels than the index for 1 image(s): MHIST_d.png. " in message


def test_a_changed_label_of_an_image_that_was_not_asked_for_is_still_another_data_set():
    before = index_of()
    after = index_of(CLASSES | {"d": "HP"})
    message = refusal(after, soft_targets(before), by_name(after, "abc"))
    assert "another data set" in message


def test_changed_pixels_are_another_data_set():
    before = index_of()
    changed = [replace(entry, sha256="0" * 64) if entry.id == "MHIST_b.png" else entry for entry in before.images]
    after = Index(changed)
    message = refusal(after, soft_targets(before))
    assert f"fingerprint is {before.fingerprint()[:12]}, the index has {after.fingerprint()[:12]}. " in message
    assert before.fingerprint()[:12] != after.fingerprint()[:12]


def test_an_image_moved_to_another_split_is_another_data_set():
    before = index_of()
    after = Index(replace(entry, split="val") if entry.id == "MHIST_b.png" else entry for entry in before.images)
    assert "another data set" in refusal(after, soft_targets(before))
