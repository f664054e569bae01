"""The forward pass: the logits of an image are the same, bit for bit, beside any other images."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipeline.images.augmentation import Augmentation
from pipeline.images.decoded_images import DecodedImages
from pipeline.images.rendered_views import PORTION_VIEWS, _portions
from pipeline.images.rendering import render
from pipeline.images.transforms import Transforms
from pipeline.images.views import Views
from pipeline.inference.forward import Forward, all_logits
from pipeline.models.descriptions import Cnn

SIZE = (16, 16, 3)
VIEWS = Views(4, 2, Augmentation(rotation=0.3, translation=0.3, horizontal_flip=True, contrast=0.2))
IDS = [f"{number:02d}.png" for number in range(23)]


@pytest.fixture(scope="module")
def model():
    """With a matrix product wide enough that its rounding depends on the shape of the batch."""
    description = Cnn(
        input_shape=SIZE,
        weights=None,
        filters=[8, 64],
        downsampling="stride",
        pooling="flatten",
        batch_normalization=True,
        dropout=0.5,
    )
    return description.build(classes=5, seed=1)


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(4).uniform(0, 255, (23, *SIZE)).astype(np.float32)


@pytest.fixture(scope="module")
def images(tmp_path_factory, pixels):
    folder = tmp_path_factory.mktemp("images")
    for name, content in zip(IDS, pixels, strict=True):
        (folder / name).write_bytes(tf.io.encode_png(content.astype(np.uint8)).numpy())
    return DecodedImages([folder / name for name in IDS], SIZE, keep=False)


def logits_of(forward, pixels):
    batches = tf.data.Dataset.from_tensor_slices(pixels).batch(forward.batch_size)
    return np.concatenate(list(forward(batches)))


@pytest.mark.parametrize("batch_size", [1, 4, 8, 32])
def test_logits_are_those_of_the_model(model, pixels, batch_size):
    actual = logits_of(Forward(model, batch_size), pixels)
    assert actual.shape == (23, 5)
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, model(pixels, training=False).numpy(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("batch_size", [4, 8, 32])
def test_logits_depend_on_neither_neighbours_nor_order_nor_count(model, pixels, batch_size):
    forward = Forward(model, batch_size)
    whole = logits_of(forward, pixels)
    for chosen in [[0], [5, 3], [22, 21, 20, 19, 18, 17, 16], list(range(23))[::-1], [7] * 9]:
        np.testing.assert_array_equal(logits_of(forward, pixels[chosen]), whole[chosen])


class StandIn:
    """A model whose logits are the means of the channels plus `disturbance(batch)`."""

    input_shape = (None, *SIZE)

    def __init__(self, disturbance=lambda batch: 0.0):
        self.disturbance, self.batches = disturbance, []

    def __call__(self, batch, training):
        assert training is False
        assert batch.shape.as_list()[1:] == [*SIZE]
        tf.py_function(lambda values: self.batches.append(values.numpy().copy()), [batch], [])
        return tf.reduce_mean(batch, axis=(1, 2)) + self.disturbance(batch)


def test_every_batch_has_the_same_shape(pixels):
    """The last batch is filled up with copies, which are not in the result."""
    model = StandIn()
    actual = logits_of(Forward(model, 8), pixels)
    assert {len(batch) for batch in model.batches} == {8}
    last = model.batches[-1]
    np.testing.assert_array_equal(last[:7], pixels[16:])
    np.testing.assert_array_equal(last[7], pixels[22])
    np.testing.assert_allclose(actual, pixels.mean(axis=(1, 2)), rtol=1e-5)


def of_places(*numbers):
    """Other rounding in some places of a batch, as in the rows left over by a matrix kernel's blocks."""

    def disturbance(batch):
        return tf.reduce_sum(tf.one_hot(numbers, len(batch)), axis=0)[:, None] * 1e-3

    return disturbance


PLACES = {
    "the last two": ((6, 7), [0, 1, 2, 3, 4, 5]),
    "the first": ((0,), [1, 2, 3, 4, 5, 6, 7]),
    "in between": ((2, 5), [0, 1, 3, 4, 6, 7]),
    "just half": ((1, 3, 5, 7), [0, 2, 4, 6]),
}


@pytest.mark.parametrize(("disturbed", "used"), PLACES.values(), ids=PLACES)
def test_no_image_is_put_where_the_model_rounds_otherwise(pixels, disturbed, used):
    """On any processor: an image in a disturbed place would be off by a thousandth."""
    forward = Forward(StandIn(of_places(*disturbed)), 8)
    assert forward.places.tolist() == used
    assert forward.is_steady
    whole = logits_of(forward, pixels)
    for chosen in [[22, 21, 20, 19, 18, 17, 16], list(range(23))[::-1], *([row] for row in range(23))]:
        np.testing.assert_array_equal(logits_of(forward, pixels[chosen]), whole[chosen])


def of_neighbours(batch):
    return tf.reduce_mean(batch)


def by_chance(batch):
    numbers = tf.numpy_function(lambda: np.random.default_rng().normal(size=3).astype(np.float32), [], tf.float32)
    return tf.ensure_shape(numbers, (3,))


@pytest.mark.parametrize("disturbance", [of_neighbours, by_chance])
@pytest.mark.parametrize("batch_size", [2, 8])
def test_logits_that_are_not_the_images_own_are_noticed(disturbance, batch_size):
    forward = Forward(StandIn(disturbance), batch_size)
    assert not forward.is_steady
    assert forward.places.tolist() == list(range(batch_size))


def test_places_that_all_round_otherwise_are_noticed():
    """A pass that left seven of eight places empty would take eight times as long."""
    forward = Forward(StandIn(lambda batch: tf.cast(tf.range(len(batch)), tf.float32)[:, None]), 8)
    assert not forward.is_steady
    assert forward.places.tolist() == list(range(8))


def test_the_only_place_of_a_batch_is_used(pixels):
    forward = Forward(StandIn(), 1)
    assert (forward.places.tolist(), forward.is_steady) == ([0], True)
    assert not Forward(StandIn(by_chance), 1).is_steady


def test_logits_of_nan_count_as_equal(pixels):
    """NaN is not equal to NaN, but its bits are equal; other checks refuse NaN."""
    assert Forward(StandIn(lambda batch: float("nan")), 4).is_steady


def test_dropout_is_off(model, pixels):
    forward = Forward(model, 8)
    np.testing.assert_array_equal(logits_of(forward, pixels), logits_of(forward, pixels))


def test_logits_of_half_precision_models_are_float32():
    inputs = keras.Input(SIZE)
    outputs = keras.layers.Dense(2, dtype="float16")(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, outputs)
    assert logits_of(Forward(model, 4), np.ones((3, *SIZE), np.float32)).dtype == np.float32


def transforms():
    return Transforms.joined([VIEWS.sample(IDS, view)[None] for view in range(4)])


def of_views(forward, images, views, rows):
    return list(forward.of_views(images, np.array(views), np.array(rows), transforms(), VIEWS.augmentation))


ROWS, VIEW_OF_ROW = np.nonzero(np.ones((23, 4)))


@pytest.fixture(scope="module")
def labelled(model, images):
    """A forward pass, and the batches of logits that it gave for all views."""
    forward = Forward(model, 8)
    return forward, of_views(forward, images, VIEW_OF_ROW, ROWS)


def test_each_logit_is_that_of_its_view_of_its_image(labelled, images):
    forward, blocks = labelled
    assert sum(map(len, blocks)) == 23 * 4
    assert {len(block) for block in blocks[:-1]} == {len(forward.places)}
    for view in range(4):
        rendered = render(images.rows(np.arange(23)), transforms()[view], VIEWS.augmentation).numpy()
        np.testing.assert_array_equal(np.concatenate(blocks)[view == VIEW_OF_ROW], logits_of(forward, rendered))


@pytest.mark.parametrize(
    "chosen",
    [
        [(0, 0)],
        [(2, 3), (0, 3), (3, 3)],
        [(1, 0), (1, 1), (1, 2), (1, 5), (1, 22)],
        [(3, 4), (0, 9), (1, 9), (2, 9), (3, 9), (0, 21), (2, 21)],
    ],
    ids=["one", "views of one image in any order", "one view", "some views of some images"],
)
def test_some_views_have_the_logits_that_they_have_among_all(labelled, images, chosen):
    """So a pass that continues after a kill, or computes only new views, ends with the same bytes."""
    forward, blocks = labelled
    whole = np.concatenate(blocks).reshape(23, 4, 5)
    actual = np.concatenate(of_views(forward, images, *zip(*chosen, strict=True)))
    expected = np.stack([whole[row, view] for view, row in chosen])
    np.testing.assert_array_equal(actual, expected)


def test_no_views_are_no_batches(labelled, images):
    assert of_views(labelled[0], images, [], []) == []


def test_each_image_is_decoded_once(model, images, monkeypatch):
    decoded = []
    read = DecodedImages._read

    def counted(self, path):
        tf.py_function(lambda name: decoded.append(name.numpy()), [path], [])
        return read(self, path)

    monkeypatch.setattr(DecodedImages, "_read", counted)
    of_views(Forward(model, 8), images, VIEW_OF_ROW, ROWS)
    assert len(decoded) == len(set(decoded)) == 23


def test_untouched_images_have_the_logits_of_the_identity_view(model, images, capsys):
    """`evaluate` and `precompute` give an image the same logits, bit for bit, at the same batch size."""
    plain = all_logits(model, images, 8, "evaluate")
    views, rows = np.zeros(23, int), np.arange(23)
    actual = Forward(model, 8).of_views(images, views, rows, Transforms.of((1, 23)), Augmentation())
    np.testing.assert_array_equal(np.concatenate(list(actual)), plain)
    assert "evaluate" in capsys.readouterr().err


@pytest.mark.parametrize("views", [1, 3, 15, 16, 17, 40, 200])
def test_portions_cut_an_image_only_if_it_has_very_many_views(views):
    rows = np.repeat(np.arange(7), views)
    cuts = [*_portions(rows), len(rows)]
    sizes = np.diff(cuts)
    assert cuts[0] == 0
    assert sizes.max() < 2 * PORTION_VIEWS
    inside = [cut for cut in cuts[1:-1] if rows[cut - 1] == rows[cut]]
    assert len(inside) <= 7 * ((views - 1) // PORTION_VIEWS)
