"""Batches: their images, order, views and targets; a student and a baseline see the same views."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from soft_label_files import DENSE, INDEX, TOP2, VIEWS, write_both

from pipeline.distillation.targets import HardAndSoftLabels
from pipeline.images import decoded_images, decoding
from pipeline.images.augmentation import Augmentation
from pipeline.images.decoded_images import DecodedImages
from pipeline.images.index import Image, Index
from pipeline.images.rendering import render
from pipeline.images.sampling import sample_views
from pipeline.runtime.digests import sha256_file
from pipeline.runtime.errors import MismatchError
from pipeline.soft_labels.reading import open_soft_targets
from pipeline.training.input_pipeline import Examples, HardLabels, training_batches, validation_batches

AUGMENTATION = Augmentation(translation=0.2, rotation=0.1, horizontal_flip=True, contrast=0.2, channel_gain=0.1)
IDS = [f"{number:02d}.png" for number in range(11)]
OWN_NUMBER = np.eye(11, dtype=np.float32)
"""One-hot targets, each with the number of its image."""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for name in IDS:
        content = tf.io.encode_png(random.integers(0, 256, (9, 7, 3), np.uint8)).numpy()
        (folder / name).write_bytes(content)
    return [folder / name for name in IDS]


@pytest.fixture(scope="module")
def pixels(files):
    return DecodedImages(files, (9, 7, 3), keep=True)


def examples(pixels, supervision):
    return Examples([(name, name) for name in IDS], pixels, supervision)


def hard_labels(augmentation=AUGMENTATION, seed=3, count=None, ids=IDS, one_hot=OWN_NUMBER):
    return HardLabels(ids, one_hot, augmentation, seed, count)


def epochs_of(batches, per_epoch):
    arrays = [(images.numpy(), targets.numpy()) for images, targets in batches]
    return [arrays[start : start + per_epoch] for start in range(0, len(arrays), per_epoch)]


def rendered(pixels, view, augmentation=AUGMENTATION, seed=3):
    """One view of every image, rendered at once."""
    transforms = sample_views(augmentation, seed, IDS, view)
    return render(pixels.rows(np.arange(11)), transforms, augmentation).numpy()


# Order


def test_an_epoch_holds_every_image_once_with_its_own_target(pixels):
    plain = pixels.rows(np.arange(11)).numpy().astype(np.float32)
    orders = []
    batches = training_batches(examples(pixels, hard_labels(Augmentation())), 4, 3, range(9))
    for epoch in epochs_of(batches, 3):
        assert [len(images) for images, _ in epoch] == [4, 4, 3]
        rows = np.concatenate([targets for _, targets in epoch]).argmax(axis=1)
        assert sorted(rows) == list(range(11))
        np.testing.assert_array_equal(np.concatenate([images for images, _ in epoch]), plain[rows])
        orders.append(rows.tolist())
    assert orders[0] != orders[1] != orders[2] != orders[0]


def order_of(pixels, seed, batch_size, supervision):
    batches = training_batches(
        examples(pixels, supervision), batch_size, seed, steps_of_passes(range(2, 3), batch_size)
    )
    return np.concatenate([targets.numpy() for _, targets in batches]).argmax(axis=1).tolist()


def steps_of_passes(passes, batch_size):
    """Of a training on the 11 images."""
    of_a_pass = -(-11 // batch_size)
    return range(passes.start * of_a_pass, passes.stop * of_a_pass)


@pytest.mark.slow
@given(st.integers(1, 13), st.integers(0, 40), st.integers(1, 25))
@settings(max_examples=25, deadline=None)
def test_any_stretch_of_steps_is_that_stretch_of_the_whole(batch_size, start, count):
    """So an epoch of a fixed number of batches goes on through the images where the last one ended."""
    supervision = hard_labels(Augmentation())
    some = Examples([], Plain(), supervision)
    whole = [t.numpy().argmax(1).tolist() for _, t in training_batches(some, batch_size, 3, range(65))]
    part = [t.numpy().argmax(1).tolist() for _, t in training_batches(some, batch_size, 3, range(start, start + count))]
    assert part == whole[start : start + count]
    of_a_pass = -(-11 // batch_size)
    for number in range(5):
        rows = np.concatenate(whole[number * of_a_pass : (number + 1) * of_a_pass])
        assert sorted(rows) == list(range(11))


class Plain:
    """Eleven images of one grey pixel."""

    def __len__(self):
        return 11

    def load(self):
        pass

    def rows(self, rows):
        return tf.zeros((tf.shape(rows)[0], 1, 1, 1), tf.uint8)


def test_the_order_depends_on_seed_and_epoch_alone(pixels):
    """Not on batch size or views: student and baseline of one seed see the images in one order."""
    one = order_of(pixels, 5, 4, hard_labels())
    assert one == order_of(pixels, 5, 11, hard_labels(Augmentation(), seed=8, count=2))
    assert one != order_of(pixels, 6, 4, hard_labels())


def test_epochs_do_not_depend_on_where_training_starts(pixels):
    of_all = examples(pixels, hard_labels())
    whole = epochs_of(training_batches(of_all, 4, 3, range(9)), 3)
    resumed = epochs_of(training_batches(of_all, 4, 3, range(6, 9)), 3)
    for (images, targets), (images_again, targets_again) in zip(whole[2], resumed[0], strict=True):
        np.testing.assert_array_equal(images, images_again)
        np.testing.assert_array_equal(targets, targets_again)


# Views


@pytest.mark.parametrize("batch_size", [1, 4])
def test_views_are_those_of_the_key_whatever_the_batch_size(pixels, batch_size):
    expected = rendered(pixels, 5)
    steps = steps_of_passes(range(5, 6), batch_size)
    for images, targets in training_batches(examples(pixels, hard_labels()), batch_size, 9, steps):
        np.testing.assert_array_equal(images.numpy(), expected[targets.numpy().argmax(axis=1)])


@pytest.mark.parametrize(("count", "views"), [(None, [0, 1, 2, 3, 4, 5, 6]), (3, [0, 1, 2, 0, 1, 2, 0]), (1, [0] * 7)])
def test_an_epoch_shows_a_new_view_or_the_next_of_a_fixed_number(pixels, count, views):
    supervision = hard_labels(count=count)
    assert [supervision.view(epoch) for epoch in range(7)] == views
    for epoch, batches in enumerate(epochs_of(training_batches(examples(pixels, supervision), 11, 1, range(7)), 1)):
        ((images, targets),) = batches
        np.testing.assert_array_equal(images, rendered(pixels, views[epoch])[targets.argmax(axis=1)])


def test_hard_labels_of_some_rows_are_those_rows_of_all():
    supervision = hard_labels()
    whole = supervision.targets(2, np.arange(11))
    for rows in ([3, 1, 4], [10], [0, 0]):
        np.testing.assert_array_equal(supervision.targets(2, np.array(rows)), whole[rows])


def test_the_fingerprint_of_hard_labels_sees_every_change():
    changes = [
        {},
        {"augmentation": replace(AUGMENTATION, rotation=0.2)},
        {"augmentation": replace(AUGMENTATION, fill_mode="nearest")},
        {"seed": 4},
        {"count": 1},
        {"count": 2},
        {"one_hot": OWN_NUMBER[::-1].copy()},
    ]
    assert len({hard_labels(**change).fingerprint for change in changes}) == len(changes)
    assert hard_labels().fingerprint == hard_labels().fingerprint


# A student sees the baseline's views, with the labels of each view


TRAIN = INDEX.split("train")
TRAIN_IDS = [image.id for image in TRAIN]


@pytest.fixture(scope="module", params=[DENSE, TOP2], ids=["dense", "top-k"])
def soft_file(tmp_path_factory, request):
    _, path = write_both(tmp_path_factory.mktemp("soft"), stored_as=request.param)
    with open_soft_targets(path) as file:
        yield file


@pytest.mark.parametrize("rows", [[4, 3, 2, 1, 0], [2, 0, 3]], ids=str)
def test_views_sampled_for_the_baseline_equal_the_stored_ones(soft_file, rows):
    one_hot = INDEX.one_hot(TRAIN)
    of_student = HardAndSoftLabels(soft_file, "train", TRAIN, one_hot)
    of_baseline = HardLabels(TRAIN_IDS, one_hot, VIEWS.augmentation, VIEWS.seed, VIEWS.count)
    assert of_student.augmentation == of_baseline.augmentation
    for view in range(3):
        stored, sampled = of_student.transforms(view)[rows], of_baseline.transforms(view)[rows]
        assert stored.affine.dtype == sampled.affine.dtype == np.float16
        for name in vars(stored):
            assert getattr(stored, name).tobytes() == getattr(sampled, name).tobytes()
        hard = of_baseline.targets(view, np.array(rows))
        np.testing.assert_array_equal(of_student.targets(view, np.array(rows))[:, :3], hard)
    assert [of_student.view(epoch) for epoch in range(9)] == [of_baseline.view(epoch) for epoch in range(9)]


def test_student_and_baseline_see_the_same_pixels(soft_file, files):
    images = DecodedImages(files[:5], (9, 7, 3), keep=True)
    one_hot = INDEX.one_hot(TRAIN)
    supervisions = (
        HardAndSoftLabels(soft_file, "train", TRAIN, one_hot),
        HardLabels(TRAIN_IDS, one_hot, VIEWS.augmentation, VIEWS.seed, VIEWS.count),
    )
    of_student, of_baseline = (
        list(training_batches(Examples([], images, supervision), 2, 4, range(12))) for supervision in supervisions
    )
    assert len(of_student) == len(of_baseline) == 12
    for (student_pixels, targets), (baseline_pixels, hard) in zip(of_student, of_baseline, strict=True):
        np.testing.assert_array_equal(student_pixels, baseline_pixels)
        np.testing.assert_array_equal(targets[:, :3], hard)


def test_epoch_e_trains_on_view_e_mod_v_with_its_labels(soft_file, files):
    """Compared with the file itself; all soft rows differ, so a row identifies its image and its view."""
    images = DecodedImages(files[:5], (9, 7, 3), keep=True)
    supervision = HardAndSoftLabels(soft_file, "train", TRAIN, INDEX.one_hot(TRAIN))
    soft = [soft_file.storage.probabilities(soft_file.columns("train", view), soft_file.classes) for view in range(3)]
    assert len(np.unique(np.concatenate(soft), axis=0)) == 15
    batches = training_batches(Examples([], images, supervision), 2, 4, range(21))
    for epoch, of_epoch in enumerate(epochs_of(batches, 3)):
        view = epoch % 3
        all_targets = np.concatenate([targets for _, targets in of_epoch])
        rows = np.array([np.flatnonzero((soft[view] == row[3:]).all(axis=1))[0] for row in all_targets])
        assert sorted(rows) == [0, 1, 2, 3, 4]
        np.testing.assert_array_equal(all_targets[:, :3], INDEX.one_hot(TRAIN)[rows])
        transforms = soft_file.transforms("train", view)
        expected = render(images.rows(np.arange(5)), transforms, VIEWS.augmentation).numpy()
        np.testing.assert_array_equal(np.concatenate([batch for batch, _ in of_epoch]), expected[rows])


# Validation


@pytest.mark.parametrize("batch_size", [4, 100])
def test_validation_is_untouched_and_in_order(pixels, batch_size):
    untouched = examples(pixels, hard_labels(Augmentation(), seed=0, count=1))
    batches = validation_batches(untouched, batch_size)
    assert len(batches) == -(-11 // batch_size)
    arrays = list(batches)
    np.testing.assert_array_equal(
        np.concatenate([images.numpy() for images, _ in arrays]), pixels.rows(np.arange(11)).numpy()
    )
    np.testing.assert_array_equal(np.concatenate([targets.numpy() for _, targets in arrays]), OWN_NUMBER)


def test_a_student_is_validated_on_the_soft_labels_of_its_images(soft_file, files):
    images = INDEX.split("val")
    two = DecodedImages(files[:2], (9, 7, 3), keep=True)
    supervision = HardAndSoftLabels(soft_file, "val", images, INDEX.one_hot(images))
    ((_, targets),) = validation_batches(Examples([], two, supervision), 8)
    np.testing.assert_array_equal(targets[:, :3], INDEX.one_hot(images))
    soft = soft_file.storage.probabilities(soft_file.columns("val", 0), 3)
    np.testing.assert_array_equal(targets[:, 3:], soft)


# Examples of an index


def index_of_files(folder):
    random = np.random.default_rng(2)
    images = []
    for number in range(4):
        path = folder / f"{number}.png"
        path.write_bytes(tf.io.encode_png(random.integers(0, 256, (5, 5, 3), np.uint8)).numpy())
        images.append(Image(path.name, str(path), "HP", "train", "", sha256_file(path)))
    return Index(images)


def test_examples_know_their_content(tmp_path):
    images = index_of_files(tmp_path).images
    of_index = Examples.of(images, (5, 5, 3), hard_labels())
    assert list(of_index.content) == [(image.id, image.sha256) for image in images]
    assert len(of_index.images) == 4


@pytest.fixture
def decoded(monkeypatch):
    """The paths of the files that are decoded; none were decoded before."""
    monkeypatch.setattr(decoded_images, "LAST_DECODED", {})
    paths, read = [], decoding.decode

    def noted(content, *how):
        return read(tf.numpy_function(lambda data: paths.append(data) or data, [content], tf.string), *how)

    monkeypatch.setattr(decoding, "decode", noted)
    return paths


def test_a_process_decodes_images_once_for_all_trainings(tmp_path, decoded):
    """Of the training and the validation images; other images, or other sizes, are decoded as ever."""
    index = index_of_files(tmp_path)
    pixels = {}
    for training in range(3):
        for rows in (slice(2), slice(2, 4)):
            images = Examples.of(index.images[rows], (5, 5, 3), hard_labels()).images
            images.load()
            pixels[training, rows.start] = images.rows(np.arange(2)).numpy()
    assert len(decoded) == 4
    np.testing.assert_array_equal(pixels[0, None], pixels[2, None])
    np.testing.assert_array_equal(pixels[0, 2], pixels[2, 2])
    assert (pixels[0, None] != pixels[0, 2]).any()
    smaller = Examples.of(index.images[:2], (4, 5, 3), hard_labels()).images
    smaller.load()
    assert smaller.rows(np.arange(2)).shape == (2, 4, 5, 3)
    assert (len(decoded), len(decoded_images.LAST_DECODED)) == (6, 2)


def test_pixels_are_kept_by_the_content_of_their_files(tmp_path, decoded):
    first, second, *_ = index_of_files(tmp_path).images
    Examples.of([first, second], (5, 5, 3), hard_labels()).images.load()
    Path(first.path).write_bytes(Path(second.path).read_bytes())
    images = Examples.of([first._replace(sha256=second.sha256), second], (5, 5, 3), hard_labels()).images
    images.load()
    assert len(decoded) == 4
    np.testing.assert_array_equal(*images.rows(np.arange(2)).numpy())


@pytest.mark.parametrize("damage", ["missing", "another"])
def test_images_that_are_not_those_of_the_index_are_refused(tmp_path, damage):
    images = index_of_files(tmp_path).images
    breaks = {"missing": lambda path: path.unlink(), "another": lambda path: path.write_bytes(b"another")}
    breaks[damage](tmp_path / "2.png")
    with pytest.raises(MismatchError, match=r"^1 .*2\.png.*--force split"):
        Examples.of(images, (5, 5, 3), hard_labels())
