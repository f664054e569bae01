"""A soft-label file and what it is used with: what belongs to another data set, teacher or T is refused by name."""

import re
from dataclasses import replace

import numpy as np
import pytest
from soft_label_files import CLASS_NAMES, IDS, INDEX, VIEWS, edit, image, write_both

from pipeline.images.augmentation import Augmentation, Erasing
from pipeline.images.index import Index
from pipeline.images.resize import DEFAULT_RESIZE
from pipeline.images.views import Views
from pipeline.runtime.errors import MismatchError
from pipeline.soft_labels.identity import Expected, differences, refuse_other, rows_of
from pipeline.soft_labels.reading import open_logits, open_soft_targets

FORMATS = {"teacher_logits.h5": (open_logits, "precompute"), "soft_targets_T4.h5": (open_soft_targets, "soften")}
of_both_formats = pytest.mark.parametrize("name", FORMATS)
NEW = [image("train", 0)._replace(id=f"new_{number}.png") for number in range(7)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    write_both(folder)
    return folder


def refusal(folder, name, index=INDEX, **used_with):
    """The message: it names the file and the command that makes it up to date."""
    opened, stage = FORMATS[name]
    with opened(folder / name) as file, pytest.raises(MismatchError) as refused:
        refuse_other(file, index, Expected(**used_with))
    message = str(refused.value)
    assert message.startswith(f"{folder / name} ")
    assert message.endswith(f" `dvc repro {stage}`.")
    return message


def without(*ids):
    return Index(entry for entry in INDEX.images if entry.id not in ids)


def changed(**by_id):
    """The index with other values for some images, named by the first letters of their ids."""
    return Index(
        entry._replace(**next((change for start, change in by_id.items() if entry.id.startswith(start)), {}))
        for entry in INDEX.images
    )


@of_both_formats
def test_what_belongs_together_is_accepted(folder, name):
    opened, _ = FORMATS[name]
    with opened(folder / name) as file:
        assert differences(file, INDEX, Expected(views=VIEWS, teacher_sha256="ab" * 32)) == []
        refuse_other(file, INDEX, Expected(views=VIEWS, teacher_sha256="ab" * 32))
        refuse_other(file, Index(reversed(INDEX.images)), Expected(splits=("train", "val")))


OTHER_IMAGES = {
    "one image is new": (Index([*INDEX.images, NEW[0]]), "no soft labels for 1 train image(s): new_0.png. "),
    "seven images are new": (
        Index([*INDEX.images, *NEW]),
        "no soft labels for 7 train image(s): new_0.png, new_1.png, new_2.png, new_3.png, new_4.png and 2 more "
        "(all in .work/names-train-1.txt). ",
    ),
    "five images are new": (
        Index([*INDEX.images, *NEW[:5]]),
        "no soft labels for 5 train image(s): new_0.png, new_1.png, new_2.png, new_3.png, new_4.png. ",
    ),
    "a validation image is new": (
        Index([*INDEX.images, NEW[0]._replace(split="val")]),
        "no soft labels for 1 val image(s): new_0.png. ",
    ),
    "an image is gone": (
        without("é.png"),
        "the index does not know, for 1 train image(s): é.png. ",
    ),
    "two test images are gone": (
        without("h.png", "j.png"),
        "the index does not know, for 2 test image(s): h.png, j.png. ",
    ),
    "all files were renamed": (
        Index(entry._replace(id=f"new_{entry.id}") for entry in INDEX.images),
        "no soft labels for 5 train image(s): new_MHIST_aaa.png, ",
    ),
    "a file was renamed": (changed(MHIST_a={"id": "MHIST_z.png"}), "no soft labels for 1 train image(s): MHIST_z"),
    "two ids differ in case": (changed(g={"id": "G.png"}), "no soft labels for 1 val image(s): G.png. "),
    "an image changed": (changed(é={"sha256": "f" * 64}), "other content of 1 train image(s): é.png. "),
    "two images changed places": (
        changed(h={"sha256": image("test", 1).sha256}, j={"sha256": image("test", 0).sha256}),
        "other content of 2 test image(s): h.png, j.png. ",
    ),
    "a label changed": (
        changed(d={"class_name": "HP"}),
        "other labels than the index for 1 train image(s): d d.png. ",
    ),
    "labels were exchanged": (
        changed(MHIST_a={"class_name": "SSA"}, MHIST_e={"class_name": "HP"}),
        "other labels than the index for 2 train image(s): MHIST_aaa.png, MHIST_eee.png. ",
    ),
    "an image moved to another split": (
        changed(MHIST_e={"split": "val"}),
        "the index does not know, for 1 train image(s): MHIST_eee.png. ",
    ),
    "an image moved from another split": (
        changed(h={"split": "train"}),
        "no soft labels for 1 train image(s): h.png. ",
    ),
}


@of_both_formats
@pytest.mark.parametrize("other", OTHER_IMAGES)
def test_other_images_are_counted_and_the_first_are_named(folder, name, other):
    index, said = OTHER_IMAGES[other]
    assert said in refusal(folder, name, index)


@of_both_formats
def test_other_splits_matter_only_through_the_fingerprint(folder, name):
    """The student asks for train and val; its labels were made in one pass with those of test."""
    index = without("h.png")
    message = refusal(folder, name, index, splits=("train", "val"))
    assert "another data set" in message
    assert f"{INDEX.fingerprint()[:12]}, the index has {index.fingerprint()[:12]}. " in message
    assert INDEX.fingerprint()[:12] != index.fingerprint()[:12]


@of_both_formats
@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("SSA", "HP", "tumeur à part"), "['SSA', 'HP', 'tumeur à part']"),
        (("tumeur à part", "HP", "SSA"), "['tumeur à part', 'HP', 'SSA']"),
        (("HP", "SSA", "Tumeur à part"), "['HP', 'SSA', 'Tumeur à part']"),
        (("HP", "SSA", "tumeur à part", "more"), "['HP', 'SSA', 'tumeur à part', 'more']"),
    ],
    ids=["two exchanged", "all moved", "another case", "one more"],
)
def test_another_class_order_and_other_classes_are_refused(tmp_path, name, names, said):
    write_both(tmp_path, class_names=names)
    assert f"{said}, the index has {CLASS_NAMES}. " in refusal(tmp_path, name)


@of_both_formats
def test_a_class_that_the_index_no_longer_has_is_refused(folder, name):
    index = Index(entry for entry in INDEX.images if entry.class_name != "SSA")
    assert f"{CLASS_NAMES}, the index has ['HP', 'tumeur à part']. " in refusal(folder, name, index)


@of_both_formats
@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"count": 4}, "count 3, expected 4. "),
        ({"seed": 6}, "seed 5, expected 6. "),
        ({"augmentation": Augmentation()}, "augmentation.contrast 0.25, expected None"),
        ({"augmentation": replace(VIEWS.augmentation, rotation=0.24)}, "augmentation.rotation 0.25, expected 0.24"),
        (
            {"augmentation": replace(VIEWS.augmentation, fill_mode="nearest")},
            "augmentation.fill_mode None, expected nearest",
        ),
        ({"augmentation": replace(VIEWS.augmentation, erasing=Erasing(0.5))}, "augmentation.erasing None, expected {"),
        ({"count": 2, "seed": 1}, "count 3, expected 2, seed 5, expected 1. "),
    ],
    ids=str,
)
def test_other_views_are_refused_and_told(folder, name, other, said):
    message = refusal(folder, name, views=replace(VIEWS, **other))
    assert "holds other views: " in message
    assert said in message


@of_both_formats
def test_views_that_are_written_in_another_way_are_the_same(folder, name):
    """What is off and what is not named are one: 0 and 0.0, a crop of the whole image."""
    same = Augmentation(rotation=0.25, translation=0.125, contrast=0.25, zoom=0, crop_area=(1, 1))
    opened, _ = FORMATS[name]
    with opened(folder / name) as file:
        assert differences(file, INDEX, Expected(views=Views(3, 5, same))) == []


@of_both_formats
def test_another_teacher_is_refused(folder, name):
    message = refusal(folder, name, teacher_sha256="ac" * 32)
    assert re.search(f"another teacher.* {'ab' * 6}, expected {'ac' * 6}\\. ", message)


def test_targets_of_other_logits_are_refused(folder):
    with open_logits(folder / "teacher_logits.h5") as file:
        its_own = file.sha256
    with open_soft_targets(folder / "soft_targets_T4.h5") as file:
        assert differences(file, INDEX, Expected(logits_sha256=its_own)) == []
    message = refusal(folder, "soft_targets_T4.h5", logits_sha256="ac" * 32)
    assert f"was softened from other logits, {its_own[:12]}, expected {'ac' * 6}. " in message


@of_both_formats
def test_pixels_that_were_resized_otherwise_are_refused(folder, name):
    opened, _ = FORMATS[name]
    with opened(folder / name) as file:
        assert differences(file, INDEX, Expected(resize=DEFAULT_RESIZE)) == []
    message = refusal(folder, name, resize=replace(DEFAULT_RESIZE, antialias=not DEFAULT_RESIZE.antialias))
    assert "was made from other pixels: resize.antialias " in message


def test_a_file_renamed_from_another_temperature_is_refused(folder, tmp_path):
    (tmp_path / "soft_targets_T4.h5").write_bytes((folder / "soft_targets_T4.h5").read_bytes())
    assert "temperature 4, expected 2. " in refusal(tmp_path, "soft_targets_T4.h5", temperature=2.0)
    with open_soft_targets(tmp_path / "soft_targets_T4.h5") as file:
        assert differences(file, INDEX, Expected(temperature=4.0)) == []


@of_both_formats
def test_a_label_changed_in_the_file_is_refused(tmp_path, name):
    """With a digest that fits: only the index can tell."""
    write_both(tmp_path)

    def relabel(file):
        group = file["val"]
        stored = "label" if "label" in group else "hard"
        group[stored][...] = group[stored][...][::-1]

    edit(tmp_path / name, relabel)
    assert "other labels than the index for 2 val image(s): MHIST_f.png, g.png. " in refusal(tmp_path, name)


@of_both_formats
def test_everything_that_differs_is_listed(folder, name):
    index = changed(d={"class_name": "HP"}, j={"sha256": "f" * 64})
    opened, _ = FORMATS[name]
    with opened(folder / name) as file:
        found = differences(file, index, Expected(views=replace(VIEWS, seed=1), teacher_sha256="ac" * 32))
    expected = ["other labels .* 1 train image", "other content of 1 test image", "another teacher", "other views"]
    assert len(found) == len(expected)
    assert all(re.search(words, difference) for words, difference in zip(expected, found, strict=True))


@pytest.mark.parametrize("at_once", [2, 4096])
@of_both_formats
def test_rows_are_found_by_id_in_any_order(monkeypatch, folder, name, at_once):
    monkeypatch.setattr("pipeline.soft_labels.reading.SLAB_ROWS", at_once)
    opened, _ = FORMATS[name]
    with opened(folder / name) as file:
        for order in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 0], [1, 1]):
            found = rows_of(file, "train", [IDS["train"][row] for row in order])
            np.testing.assert_array_equal(found, order)
