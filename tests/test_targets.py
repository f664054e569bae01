"""Targets: hard labels beside the soft labels of the same view, joined by id."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from soft_label_files import DENSE, IDS, INDEX, TOP2, VIEWS, edit, write_both

from pipeline.distillation.targets import HardAndSoftLabels
from pipeline.images.augmentation import Augmentation
from pipeline.images.sampling import sample_views
from pipeline.images.transforms import SAME_COLOR
from pipeline.images.views import Views
from pipeline.soft_labels import one_view
from pipeline.soft_labels.reading import open_soft_targets

HARD = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]], np.float32)
TRAIN = INDEX.split("train")


@pytest.fixture(scope="module", params=[DENSE, TOP2], ids=["dense", "top-k"])
def path(tmp_path_factory, request):
    return write_both(tmp_path_factory.mktemp("soft"), stored_as=request.param)[1]


@pytest.fixture(autouse=True, params=[one_view.LARGEST_IN_MEMORY, 0], ids=["in memory", "in the file"])
def _place_of_a_view(monkeypatch, request):
    monkeypatch.setattr(one_view, "LARGEST_IN_MEMORY", request.param)


def soft_of(path, view):
    """The soft labels, read with h5py and NumPy as docs/format.md describes."""
    with h5py.File(path) as file:
        group = file["train"]
        if "soft" in group:
            return group["soft"][view]
        dense = np.repeat(group["tail"][view][:, None], 3, axis=1)  # the tail is one class of three
        np.put_along_axis(dense, group["index"][view].astype(int), group["probability"][view], axis=1)
        return dense


def labels_of(file, images):
    return HardAndSoftLabels(file, "train", images, INDEX.one_hot(images))


def take(supervision, view, rows):
    """The affine and color transforms and the targets of some rows of a view."""
    transforms = supervision.transforms(view)[rows]
    return transforms.affine, transforms.color, supervision.targets(view, np.array(rows))


@pytest.mark.parametrize("rows", [[4, 2, 0, 1, 3], [3, 1]])
@pytest.mark.parametrize("view", [0, 1, 2])
def test_each_image_gets_the_labels_and_transforms_of_its_view(path, rows, view):
    with open_soft_targets(path) as file:
        supervision = labels_of(file, TRAIN)
        affines, colors, targets = take(supervision, view, rows)
    assert targets.shape == (len(rows), 6)
    assert targets.dtype == np.float32
    np.testing.assert_array_equal(targets[:, :3], HARD[rows])
    np.testing.assert_array_equal(targets[:, 3:], soft_of(path, view)[rows])
    expected = sample_views(VIEWS.augmentation, VIEWS.seed, [IDS["train"][row] for row in rows], view)
    np.testing.assert_array_equal(affines, expected.affine)
    np.testing.assert_array_equal(colors, expected.color)


@pytest.mark.parametrize("order", [[2, 0, 4], [1, 0, 2, 3, 4], [0, 1, 2]], ids=["some", "two swapped", "the first"])
def test_images_in_another_order_than_the_file_are_joined_by_id(path, order):
    with open_soft_targets(path) as file:
        whole = take(labels_of(file, TRAIN), 1, order)
        reordered = take(labels_of(file, [TRAIN[row] for row in order]), 1, range(len(order)))
    for part, part_of_whole in zip(reordered, whole, strict=True):
        np.testing.assert_array_equal(part, part_of_whole)


def test_rows_of_the_file_may_stand_in_any_order(path, tmp_path):
    """docs/format.md: a reader MUST NOT rely on the order of ids."""
    with open_soft_targets(path) as file:
        expected = [take(labels_of(file, TRAIN), view, range(5)) for view in range(3)]

    def turn_round(file):
        group = file["train"]
        for name, dataset in group.items():
            by_view = name not in ("id", "image_sha256", "label", "hard")
            dataset[...] = dataset[...][:, ::-1] if by_view else dataset[...][::-1]

    turned = Path(shutil.copy(path, tmp_path))
    edit(turned, turn_round)
    with open_soft_targets(turned) as file:
        assert file.ids("train")[0] == IDS["train"][-1]
        supervision = labels_of(file, TRAIN)
        for view in range(3):
            for part, expected_part in zip(take(supervision, view, range(5)), expected[view], strict=True):
                np.testing.assert_array_equal(part, expected_part)


def test_views_may_be_taken_to_and_fro(path):
    with open_soft_targets(path) as file:
        supervision = labels_of(file, TRAIN)
        first = [take(supervision, view, range(5)) for view in (0, 1, 2)]
        again = [take(supervision, view, range(5)) for view in (2, 0, 1)]
    for number, view in enumerate((2, 0, 1)):
        for part, expected_part in zip(again[number], first[view], strict=True):
            np.testing.assert_array_equal(part, expected_part)


@pytest.mark.parametrize(("count", "views"), [(3, [0, 1, 2, 0, 1, 2, 0, 1]), (1, [0] * 8)])
def test_epochs_take_one_view_after_another(tmp_path, count, views):
    _, path = write_both(tmp_path, views=replace(VIEWS, count=count))
    with open_soft_targets(path) as file:
        supervision = labels_of(file, TRAIN)
        assert [supervision.view(epoch) for epoch in range(8)] == views


def test_an_image_asked_for_twice_is_answered_twice(path):
    with open_soft_targets(path) as file:
        targets = labels_of(file, TRAIN).targets(0, np.array([2, 1, 2]))
    np.testing.assert_array_equal(targets[0], targets[2])
    np.testing.assert_array_equal(targets[:, :3], HARD[[2, 1, 2]])


def test_the_two_halves_are_distributions(path):
    with open_soft_targets(path) as file:
        targets = labels_of(file, TRAIN).targets(2, np.arange(5))
    np.testing.assert_array_equal(targets[:, :3].sum(axis=1), np.ones(5))
    np.testing.assert_allclose(targets[:, 3:].sum(axis=1), np.ones(5), rtol=0, atol=3e-7)


@pytest.mark.parametrize("split", ["val", "test"])
def test_other_splits_are_untouched(path, split):
    images = INDEX.split(split)
    with open_soft_targets(path) as file:
        supervision = HardAndSoftLabels(file, split, images, INDEX.one_hot(images))
        affines, colors, targets = take(supervision, supervision.view(17), range(len(images)))
    assert supervision.augmentation.is_identity
    np.testing.assert_array_equal(affines, np.tile([1, 0, 0, 0, 1, 0], (len(images), 1)))
    np.testing.assert_array_equal(colors, np.tile([1, 1, 1, 0, 0, 0], (len(images), 1)))
    np.testing.assert_array_equal(targets[:, :3].argmax(axis=1), INDEX.labels(images))


def test_views_without_color_have_the_same_color(tmp_path):
    _, path = write_both(tmp_path, views=Views(2, 1, Augmentation(rotation=0.5)))
    with open_soft_targets(path) as file:
        colors = labels_of(file, TRAIN).transforms(1)[[3, 0]].color
    np.testing.assert_array_equal(colors, np.tile(SAME_COLOR, (2, 1)))


def test_the_fingerprint_names_file_and_split(tmp_path):
    """A training that was begun with one file must not go on with another."""
    fingerprints = set()
    for name, options in {"a": {}, "b": {"teacher_sha256": "ac" * 32}, "c": {"temperature": 2.0}}.items():
        with open_soft_targets(write_both(tmp_path / name, **options)[1]) as file:
            for split in ("train", "val"):
                images = INDEX.split(split)
                fingerprints.add(HardAndSoftLabels(file, split, images, INDEX.one_hot(images)).fingerprint)
    assert len(fingerprints) == 6
    with open_soft_targets(tmp_path / "a/soft_targets_T4.h5") as file:
        assert labels_of(file, TRAIN).fingerprint in fingerprints


def test_rows_in_the_file_are_read_when_they_are_asked_for(tmp_path, path):
    """Of float32, uint16 and single numbers; a file that was cut off behind our back is told."""
    path = shutil.copy(path, tmp_path)
    with h5py.File(path) as file:
        for name, dataset in reversed([*file["train"].items()]):
            if name in ("soft", "index", "probability", "tail"):
                rows = one_view.RowsInFile(dataset, 2)
                for chosen in ([4, 0, 0, 3], [1], []):
                    found = rows[np.array(chosen, np.int64)]
                    assert found.dtype == dataset.dtype
                    np.testing.assert_array_equal(found, dataset[2][chosen])
                os.truncate(path, dataset.id.get_offset() + dataset.nbytes - 1)
                with pytest.raises(OSError, match=rf"ends before row 4 of /train/{name}"):
                    rows[np.array([3, 4])]
