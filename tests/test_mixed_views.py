"""Mixed views from the file to the batch: teacher, student and baseline see the same pictures and mixed labels."""

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from soft_label_files import DENSE, IDS, INDEX, LABELS, TOP2, edit, write_both

from pipeline.distillation.targets import HardAndSoftLabels
from pipeline.images import decoded_images
from pipeline.images.augmentation import Augmentation, Erasing, Mixing, Operations
from pipeline.images.decoded_images import DecodedImages
from pipeline.images.index import Index
from pipeline.images.rendering import render
from pipeline.images.resize import DEFAULT_RESIZE
from pipeline.images.transforms import Transforms
from pipeline.images.views import Views
from pipeline.inference.forward import Forward
from pipeline.runtime.errors import DamagedError
from pipeline.soft_labels.reading import open_logits, open_soft_targets
from pipeline.soft_labels.writing import rows_of_split
from pipeline.teacher_pass.labellers import ModelLabeller, SplitOfViews, in_order
from pipeline.training.input_pipeline import Examples, HardLabels, training_batches

SHAPE = (9, 7, 3)
OPERATIONS = Operations(2, of={"solarize": 1.0, "saturation": 0.5})
MIXED = Augmentation(
    translation=0.2,
    contrast=0.25,
    operations=OPERATIONS,
    erasing=Erasing(0.5),
    mixup=Mixing(1.0, 0.4),
    cutmix=Mixing(1.0, 0.4),
)
VIEWS = Views(4, 3, MIXED)
TRAIN = INDEX.split("train")
ROWS = np.arange(len(TRAIN))
HARD = np.eye(3, dtype=np.float32)[LABELS["train"]]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The index of the soft-label files, with a picture of noise for each image."""
    folder, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    images = []
    for number, image in enumerate(INDEX.images):
        path = folder / f"{number}.png"
        PIL.Image.fromarray(random.integers(0, 256, SHAPE, np.uint8)).save(path)
        images.append(image._replace(path=str(path)))
    return Index(images)


@pytest.fixture(scope="module")
def pixels(data):
    return DecodedImages([image.path for image in data.split("train")], SHAPE, keep=True)


@pytest.fixture(scope="module", params=[DENSE, TOP2], ids=["dense", "topk"])
def path(tmp_path_factory, request):
    return write_both(tmp_path_factory.mktemp("soft"), views=VIEWS, stored_as=request.param)[1]


@pytest.fixture(scope="module")
def seen(tmp_path_factory, pixels):
    """A file, and what its student sees: the pictures and targets of each pass."""
    targets = write_both(tmp_path_factory.mktemp("seen"), views=VIEWS)[1]
    with open_soft_targets(targets) as file:
        yield file, list(passes(HardAndSoftLabels(file, "train", TRAIN, HARD), pixels))


def passes(supervision, pixels):
    """The pictures and targets of four passes, each in the order of the rows."""
    batches = list(training_batches(Examples([], pixels, _Numbered(supervision)), 2, 1, range(12)))
    for of_pass in (batches[first : first + 3] for first in range(0, 12, 3)):
        targets = np.concatenate([targets.numpy() for _, targets in of_pass])
        order = np.argsort(targets[:, -1])
        yield np.concatenate([images.numpy() for images, _ in of_pass])[order], targets[order, :-1]


class _Numbered:
    """Adds the row of each image to its targets."""

    def __init__(self, supervision):
        self.inner, self.augmentation = supervision, supervision.augmentation
        self.view, self.transforms = supervision.view, supervision.transforms

    def targets(self, view, rows):
        return np.column_stack([self.inner.targets(view, rows), rows.astype(np.float32)])


def centres(size):
    return (2 * np.arange(size) + 1) / size - 1


def mixed_by_hand(own, partner, share, box):
    """docs/format.md, in float64."""
    left, top, right, bottom = box.astype(np.float64)
    if left < right and top < bottom:
        x, y = np.meshgrid(centres(SHAPE[1]), centres(SHAPE[0]))
        inside = (left <= x) & (x < right) & (top <= y) & (y < bottom)
        return np.where(inside[..., None], partner, own)
    return float(share) * own.astype(np.float64) + (1 - float(share)) * partner


def test_a_batch_shows_the_stored_mix_of_two_pictures(seen, pixels):
    file, of_student = seen
    kinds = set()
    for view, (shown, _) in enumerate(of_student):
        stored = file.transforms("train", view)
        own = render(pixels.rows(ROWS), stored, MIXED).numpy()
        for row in ROWS:
            partner = own[stored.partner[row]] if stored.partner[row] >= 0 else own[row]
            expected = mixed_by_hand(own[row], partner, stored.own_share[row], stored.box[row])
            np.testing.assert_allclose(shown[row], expected, rtol=0, atol=255 * 2.0**-22)
            kinds.add((stored.partner[row] >= 0, bool(stored.box[row].any())))
    assert kinds == {(False, False), (True, False), (True, True)}


def test_baseline_and_student_see_the_same(seen, pixels):
    baseline = HardLabels([image.id for image in TRAIN], HARD, MIXED, VIEWS.seed, VIEWS.count)
    for (pictures, hard), (of_student, targets) in zip(passes(baseline, pixels), seen[1], strict=True):
        np.testing.assert_array_equal(pictures, of_student)
        np.testing.assert_array_equal(hard, targets[:, :3])


def test_the_teacher_sees_what_the_student_sees(seen, data):
    """The teacher is a model that answers with its pixels."""
    inputs = keras.Input(SHAPE)
    answers = labelled_by(keras.Model(inputs, keras.layers.Flatten()(inputs)), data)
    for view, (of_student, _) in enumerate(seen[1]):
        np.testing.assert_array_equal(answers.reshape(len(ROWS), 4, *SHAPE)[:, view], of_student)


def test_a_hard_label_is_mixed_by_the_stored_share(path):
    with open_soft_targets(path) as file:
        student = HardAndSoftLabels(file, "train", TRAIN, HARD)
        mixed = 0
        for view in range(4):
            targets, stored = student.targets(view, ROWS[::-1]), file.transforms("train", view)
            np.testing.assert_array_equal(targets[:, 3:], file.soft_labels("train", view, slice(None))[::-1])
            for target, row in zip(targets, ROWS[::-1], strict=True):
                expected = np.zeros(3)
                expected[LABELS["train"][row]] += float(stored.own_share[row])
                expected[LABELS["train"][stored.partner[row]]] += 1 - float(stored.own_share[row])
                np.testing.assert_allclose(target[:3], expected, rtol=0, atol=2.0**-24)
                mixed += stored.partner[row] >= 0
    assert mixed > 10


def test_partners_follow_images_in_another_order(path):
    with open_soft_targets(path) as file:
        order = [3, 0, 4, 2, 1]
        images = [TRAIN[row] for row in order]
        reordered = HardAndSoftLabels(file, "train", images, HARD[order])
        for view in range(4):
            stored, partner = file.transforms("train", view), reordered.transforms(view).partner
            named = [None if row < 0 else images[row].id for row in partner]
            of_file = [None if row < 0 else file.ids("train")[row] for row in stored.partner]
            assert named == [of_file[row] for row in order]
            targets = HardAndSoftLabels(file, "train", TRAIN, HARD).targets(view, np.array(order))
            np.testing.assert_array_equal(reordered.targets(view, ROWS), targets)


def test_without_its_partners_an_image_has_no_targets(path):
    with open_soft_targets(path) as file, pytest.raises(AssertionError, match="not among the images"):
        HardAndSoftLabels(file, "train", TRAIN[:1], HARD[:1])


@pytest.mark.parametrize("row", [-2, 5, 2**31 - 1])
def test_a_partner_that_is_no_row_is_refused(tmp_path, row):
    logits, targets = write_both(tmp_path, views=VIEWS)
    for file, opened in ((logits, open_logits), (targets, open_soft_targets)):
        edit(file, lambda content: content["train/partner"].write_direct(np.full((4, 5), row, np.int32)))
        with opened(file) as content, pytest.raises(DamagedError, match=rf"no rows of train: {row}, .*dvc repro"):
            content.transforms("train", 1)


def test_images_without_a_label_mix_among_themselves(tmp_path):
    """Their row of the hard half stays 0; a labelled row's sums to 1."""
    bare = {IDS["train"][0], IDS["train"][3]}
    index = Index([one._replace(class_name="") if one.id in bare else one for one in INDEX.images], INDEX.class_names)
    images = index.split("train")
    one_hot, labelled = index.one_hot(images), np.array([image.is_labelled for image in images])
    _, targets = write_both(tmp_path, index=index, views=VIEWS)
    with open_soft_targets(targets) as file:
        student = HardAndSoftLabels(file, "train", images, one_hot)
        baseline = HardLabels([image.id for image in images if image.is_labelled], one_hot[labelled], MIXED, 3, 4)
        mixed = 0
        for view in range(4):
            sums = student.targets(view, ROWS)[:, :3].sum(axis=1)
            np.testing.assert_allclose(sums, labelled, rtol=0, atol=2.0**-23)
            partner = student.transforms(view).partner
            mixed += ((partner >= 0) & ~labelled).sum()
            assert all(labelled[row] == labelled[other] for row, other in enumerate(partner) if other >= 0)
            of_student = student.targets(view, np.flatnonzero(labelled))[:, :3]
            np.testing.assert_array_equal(of_student, baseline.targets(view, np.arange(3)))
    assert mixed > 2


# The teacher's pass


def labelled_by(model, data, chosen=slice(None)):
    """The answers of a model to the chosen ones of all views, by image and view; they are sampled again."""
    transforms = Transforms.joined([VIEWS.sample(IDS["train"], view)[None] for view in range(4)])
    split = SplitOfViews("train", rows_of_split(data, "train"), MIXED, transforms)
    rows, views = np.repeat(ROWS, 4), np.tile(np.arange(4), len(ROWS))
    labeller = ModelLabeller(Forward(model, 4), data, DEFAULT_RESIZE)
    return in_order(labeller.logits(split, views[chosen], rows[chosen]))


@pytest.fixture(scope="module")
def model():
    inputs = keras.Input(SHAPE)
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))


@pytest.fixture
def decoded(monkeypatch):
    """The files that are decoded."""
    names, read = [], DecodedImages._read

    def counted(images, path):
        tf.py_function(lambda name: names.append(name.numpy()), [path], [])
        return read(images, path)

    monkeypatch.setattr(DecodedImages, "_read", counted)
    return names


def test_each_image_of_a_pass_is_decoded_once(model, data, decoded):
    every_view = labelled_by(model, data)
    assert len(decoded) == len(set(decoded)) == len(TRAIN)
    decoded.clear()
    few = slice(0, 2)  # two views of the first image
    partners = {int(VIEWS.sample(IDS["train"], view).partner[0]) for view in (0, 1)} - {-1}
    np.testing.assert_array_equal(labelled_by(model, data, few), every_view[few])
    assert len(decoded) == 1 + len(partners)


def test_pixels_that_do_not_fit_into_memory_are_decoded_again(model, data, decoded, monkeypatch, capsys):
    expected = labelled_by(model, data)
    assert "do not fit" not in capsys.readouterr().err
    monkeypatch.setattr(decoded_images, "MEMORY_SHARE", 0.0)
    decoded.clear()
    np.testing.assert_array_equal(labelled_by(model, data), expected)
    assert len(decoded) > len(TRAIN)
    assert "do not fit" in capsys.readouterr().err
