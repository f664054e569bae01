"""Where models are cut for a phase: by hand, and that both parts together are the whole model."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from described_model import described_model
from keras import layers

from pipeline.models import architectures, frozen_part, keras_files
from pipeline.models.frozen_part import Cut, NotCut, cut

SIDE = 8
"""Images have 8 x 8 x 3 = 192 numbers."""


def model_of(build, dropout=0.0, batch_normalization=False, side=SIDE):
    """A model whose backbone a function makes of its input."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(1)
    inputs = keras.Input((side, side, 3), name="images")
    return architectures.chain(
        keras.Model(inputs, build(inputs), name="backbone"),
        preprocessing="unit",
        pooling="avg",
        batch_normalization=batch_normalization,
        hidden_units=[],
        dropout=dropout,
        classes=3,
        name="small",
    )


def conv(filters, name, strides=1, **options):
    return layers.Conv2D(filters, 3, strides=strides, padding="same", name=name, **options)


def chain(x):
    """4 x 4 x 4 = 64 numbers, then 2 x 2 x 8 = 32, then 2 x 2 x 8 of a layer that is trained."""
    x = layers.ReLU(name="relu1")(conv(4, "conv1", 2)(x))
    return conv(8, "last")(conv(8, "conv2", 2)(x))


def residual(x, within=2, after=2):
    """64 numbers, from which come 4 x 4 x `after`; a trained layer makes 64 of these, to which the first are added."""
    x = layers.ReLU(name="relu1")(conv(4, "conv1", 2)(x))
    narrow = conv(after, "narrow")(conv(within, "wide")(x))
    return layers.Add(name="add")([x, conv(4, "last")(narrow)])


def dear_residual(x):
    """Here 32 numbers take 2 * 16 * (9 * 4 * 40 + 40 + 9 * 40 * 2 + 2) = 70,464 FLOPs, which count as 70 numbers."""
    return residual(x, within=40)


def two_branches(x):
    """Two branches of 4 x 4 x 2 and 4 x 4 x 3 numbers from 8 x 8 x 4 = 256, more than the pixels."""
    x = conv(4, "conv1")(x)
    return conv(4, "last")(layers.Concatenate(name="joined")([conv(2, "two", 2)(x), conv(3, "three", 2)(x)]))


def unequal_branches(x):
    """One branch is trained from 4 x 4 x 4 numbers on, the other has shrunk to 2 x 2 x 4 before it meets the first."""
    x = conv(4, "conv1", 2)(x)
    frozen = layers.MaxPooling2D(name="shrunk")(conv(4, "conv2")(x))
    trained = conv(4, "last", 2)(x)
    return layers.Add(name="add")([frozen, trained])


def with_dropout(x):
    return conv(4, "last")(conv(4, "conv2", 2)(layers.Dropout(0.5, name="drop")(conv(4, "conv1", 2)(x))))


def with_normalization(x):
    """Batch normalisation that is trained, but has no weights that are."""
    x = layers.BatchNormalization(name="frozen_bn")(conv(4, "conv1", 2)(x))
    return layers.ReLU(name="relu1")(layers.BatchNormalization(center=False, scale=False, name="last")(x))


def shared(x):
    """A frozen layer that is used before and behind the cut."""
    again = conv(3, "shared", 2)
    return conv(4, "last")(again(layers.SpatialDropout2D(0.5, name="drop")(again(x))))


def nested(x):
    """All layers of a nested model are frozen; its first has fewer numbers, 16, than its last, 4 x 4 x 4."""
    inner = keras.Sequential([conv(1, "inner1", 2), conv(4, "inner2"), layers.BatchNormalization()], name="inner")
    return conv(4, "last")(inner(x))


def nested_widening(x):
    """What a nested model takes to compute 64 numbers of 32 again is not known, so it is not left to the rest."""
    inner = keras.Sequential([conv(4, "inner1")], name="inner")
    return conv(4, "last")(inner(conv(2, "conv1", 2)(x)))


def nested_dropout(x):
    inner = keras.Input((4, 4, 4))
    dropped = keras.Model(inner, conv(4, "inner1", 2)(layers.Dropout(0.5)(inner)), name="inner")
    return conv(4, "last")(dropped(conv(4, "conv1", 2)(x)))


def dropout_behind(x):
    """What is trained drops nothing, and normalises by its own statistics, where the backbone is in inference mode."""
    x = conv(4, "last")(conv(4, "conv1", 2)(x))
    return layers.BatchNormalization(name="bn")(layers.Dropout(0.5, name="drop")(x))


def with_dense(x):
    """A frozen Dense layer is the same in training, though it is told whether it trains; 4 x 4 x 2."""
    return conv(4, "last")(layers.Dense(2, name="dense")(conv(4, "conv1", 2)(x)))


def trained_elsewhere(x):
    """A layer within a frozen nested model also stands outside of it, where it is trained."""
    shared, inner = conv(3, "last"), keras.Input((4, 4, 3))
    within = keras.Model(inner, layers.MaxPooling2D(name="shrunk")(shared(inner)), name="inner")
    return shared(within(conv(3, "conv1", 2)(x)))


@keras.saving.register_keras_serializable("tests")
class Halves(layers.Layer):
    """Gives the first channel, and the others."""

    def call(self, x):
        return x[..., :1], x[..., 1:]


def two_results(x):
    first, others = Halves(name="halves")(conv(4, "conv1", 2)(x))
    return layers.Concatenate(name="joined")([first, conv(4, "last")(others)])


def with_half(x):
    """Computes in float16; 4 x 4 x 4."""
    return conv(4, "last")(conv(4, "conv1", 2, dtype="mixed_float16")(x))


FROM = "last"
GRAPHS = {
    "chain": (chain, FROM, False, {"conv2": (2, 2, 8)}),
    "chain, head only": (chain, None, False, {"pooling": (8,)}),
    # With 64 + 1 (2,368 FLOPs of `wide`, 608 of `narrow`, each less than 1,000 or twice) or 64 + 32 numbers.
    "residual": (residual, FROM, False, {"relu1": (4, 4, 4)}),
    "dear residual": (dear_residual, FROM, False, {"relu1": (4, 4, 4), "narrow": (4, 4, 2)}),
    "residual, head only": (residual, None, False, {"pooling": (4,)}),
    "two branches": (two_branches, FROM, False, {"joined": (4, 4, 5)}),
    "two branches, trained addition": (two_branches, "joined", False, {"joined": (4, 4, 5)}),
    "unequal branches": (unequal_branches, FROM, False, {"conv1": (4, 4, 4)}),
    "dropout": (with_dropout, FROM, False, {"conv1": (4, 4, 4)}),
    "dropout in inference mode": (with_dropout, FROM, True, {"conv2": (2, 2, 4)}),
    "dropout, head only": (with_dropout, None, False, {"pooling": (4,)}),
    "normalization": (with_normalization, FROM, False, {"frozen_bn": (4, 4, 4)}),
    "normalization in inference mode": (with_normalization, FROM, True, {"pooling": (4,)}),
    "shared": (shared, FROM, False, {"shared, call 1": (4, 4, 3)}),
    "shared in inference mode": (shared, FROM, True, {"shared, call 2": (2, 2, 3)}),
    "nested": (nested, FROM, False, {"inner": (4, 4, 4)}),
    "nested, wider than what it takes": (nested_widening, FROM, False, {"inner": (4, 4, 4)}),
    "dropout behind": (dropout_behind, FROM, False, {"conv1": (4, 4, 4)}),
    "dropout behind in inference mode": (dropout_behind, FROM, True, {"conv1": (4, 4, 4)}),
    "nested dropout": (nested_dropout, FROM, False, {"conv1": (4, 4, 4)}),
    "nested dropout in inference mode": (nested_dropout, FROM, True, {"inner": (2, 2, 4)}),
    "dense": (with_dense, FROM, False, {"dense": (4, 4, 2)}),
    "trained elsewhere": (trained_elsewhere, FROM, False, {"conv1": (4, 4, 3)}),
    "float16": (with_half, FROM, False, {"conv1": (4, 4, 4)}),
}
"""A backbone, `trainable_from`, whether it is in inference mode, and the tensors at which a person cuts it."""


def pixels_of(count, side=SIDE):
    return np.random.default_rng(0).uniform(0, 255, (count, side, side, 3)).astype(np.float32)


@pytest.fixture(scope="module", params=GRAPHS)
def case(request):
    build, trainable_from, inference_mode, expected = GRAPHS[request.param]
    model = model_of(build, dropout=0.3)
    whole = architectures.for_phase(model, trainable_from, inference_mode)
    return whole, cut(model, trainable_from, inference_mode), expected


def test_the_cut_is_the_one_found_by_hand(case):
    _, found, expected = case
    assert isinstance(found, Cut)
    assert found.tensors == expected
    assert found.values == sum(np.prod(shape) for shape in expected.values())
    assert found.frozen.output_shape == found.rest.input_shape == (None, found.values)


def seeded(model):
    for layer in model._flatten_layers():
        for generator in layer._seed_generators:
            generator.state.assign([7, 0])


def step(model, inputs):
    """Logits of a training step and all the weights behind it, from the same weights and random numbers."""
    before = model.get_weights()
    seeded(model)
    with tf.GradientTape() as tape:
        logits = model(inputs, training=True)
        loss = tf.reduce_mean(tf.square(logits - tf.eye(3, num_columns=3)[:3]))
    for weight, gradient in zip(model.trainable_weights, tape.gradient(loss, model.trainable_weights), strict=True):
        weight.assign_sub(0.1 * gradient)
    after = {weight.path: weight.numpy() for weight in model.weights}
    model.set_weights(before)
    return logits.numpy(), after


def test_both_parts_together_are_the_whole_model(case):
    whole, found, _ = case
    pixels = pixels_of(3)
    features = found.frozen(pixels, training=False)
    assert features.dtype == "float32"
    np.testing.assert_allclose(found.rest(features, training=False), whole(pixels, training=False), rtol=0, atol=1e-5)
    assert [one.path for one in found.rest.trainable_weights] == [one.path for one in whole.trainable_weights]
    assert found.rest.name == whole.name
    (logits, after), (expected, weights) = step(found.rest, features), step(whole, pixels)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5)
    for path, weight in after.items():
        np.testing.assert_allclose(weight, weights[path], rtol=0, atol=1e-5, err_msg=path)
    frozen = {one.path for one in found.frozen.weights}
    assert frozen | set(after) == set(weights)
    np.testing.assert_array_equal(found.frozen(pixels, training=False), features)  # the step changed no weight of it


# What is never kept


def cut_behind(layer, trainable_from=FROM, inference_mode=False, first=2):
    """The kept tensors of: a convolution to 4 x 4 x 4 numbers, the layer, a frozen convolution, a trained one."""
    model = model_of(lambda x: conv(4, "last")(conv(first, "conv2", 2)(layer(conv(4, "conv1", 2)(x)))))
    found = cut(model, trainable_from, inference_mode)
    assert isinstance(found, Cut)
    return [*found.tensors]


class AddsLoss(layers.Layer):
    def call(self, x):
        self.add_loss(keras.ops.mean(x))
        return x


class Counts(layers.Layer):
    def build(self, shape):
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        self.count.assign_add(1)
        return x


class DrawsAlways(layers.Layer):
    def __init__(self):
        super().__init__()
        self.generator = keras.random.SeedGenerator(1)

    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x), seed=self.generator)


class LooksAtTraining(layers.Layer):
    def call(self, x, training=False):
        return 2 * x if training else x


class Contains(layers.Layer):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, x):
        return self.inner(x)


class OwnNormalization(layers.BatchNormalization):
    def call(self, x, training=None):
        return super().call(x, training=training) + (1 if training else 0)


@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.Dropout(0.1),
        lambda: layers.SpatialDropout2D(0.1),
        lambda: layers.GaussianNoise(0.1),
        lambda: layers.RandomFlip(),
        lambda: layers.SpectralNormalization(conv(4, "inner")),
        lambda: layers.Lambda(lambda x: x),
        lambda: Contains(layers.Dropout(0.1)),
        lambda: Contains(keras.Sequential([layers.ReLU(), layers.Dropout(0.1)])),
        DrawsAlways, LooksAtTraining, OwnNormalization,
    ],
)  # fmt: skip
def test_kept_only_in_inference_mode(layer):
    assert cut_behind(layer()) == ["conv1"]
    assert cut_behind(layer(), inference_mode=True) == ["conv2"]


@pytest.mark.parametrize(
    "layer", [AddsLoss, Counts, lambda: conv(4, "inner", activity_regularizer="l2"), lambda: Contains(AddsLoss())]
)
def test_a_loss_or_a_changed_variable_is_never_cut_off(layer):
    assert cut_behind(layer()) == cut_behind(layer(), inference_mode=True) == ["conv1"]


@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.BatchNormalization(),
        lambda: keras.Sequential([layers.BatchNormalization(), layers.Activation("relu")]),
        lambda: Contains(layers.BatchNormalization()),
        lambda: layers.LayerNormalization(),
        lambda: keras.ops.relu,
    ],
)
def test_frozen_layers_that_do_the_same_in_training_are_kept(layer):
    assert cut_behind(layer()) == ["conv2"]


def in_the_batch(x):
    """16 x 4 numbers, as 16 rows of 4 for each image, and back."""
    apart = layers.ReLU(name="apart")(keras.ops.reshape(x, (-1, 1, 1, 4)))
    return layers.Reshape((4, 4, 4), name="together")(keras.ops.reshape(apart, (-1, 64)))


def whole_numbers(x):
    """2 x 2 x 4 whole numbers, which become 4 x 4 x 4 others."""
    x = keras.ops.cast(layers.MaxPooling2D(name="pooled")(x), "int32")
    return keras.ops.cast(layers.UpSampling2D(name="together")(x), "float32")


def transposed(x):
    """The images of a batch lie along the last axis."""
    x = keras.ops.transpose(layers.GlobalMaxPooling2D(name="pooled")(x))
    x = layers.ReLU(name="back")(keras.ops.transpose(layers.Softmax(name="across")(x)))
    return layers.Reshape((4, 4, 4), name="together")(layers.RepeatVector(16)(x))


def masked(x):
    """The mask is a tensor, too, of truth values."""
    x = layers.Masking(name="masking")(layers.Reshape((2, 8), name="steps")(layers.MaxPooling2D(name="pooled")(x)))
    return layers.Reshape((4, 4, 1), name="together")(layers.LSTM(16, name="lstm")(x))


@pytest.mark.parametrize(
    ("through", "expected"),
    [(in_the_batch, "together"), (whole_numbers, "pooled"), (transposed, "back"), (masked, "steps")],
)
def test_kept_tensors_hold_an_exact_row_of_each_image(through, expected):
    model = model_of(lambda x: conv(4, "last")(through(conv(4, "conv1", 2)(x))))
    found = cut(model, FROM, through is not masked)  # an LSTM cannot be kept but in inference mode
    assert [*found.tensors] == [expected]
    features = found.frozen(pixels_of(3), training=False)
    whole = architectures.for_phase(model, FROM, True)
    np.testing.assert_allclose(found.rest(features), whole(pixels_of(3)), rtol=0, atol=1e-5)


def test_kept_tensors_have_the_type_that_they_had():
    found = cut(model_of(with_half), FROM, False)
    assert found.rest.get_layer("kept_tensors").output.dtype == "float16"


def test_each_result_of_a_layer_is_a_tensor_of_its_own():
    """A layer gives one channel and three; both are needed where what is trained takes the three."""
    found = cut(model_of(two_results), FROM, False)
    assert found.tensors == {"halves, output 1": (4, 4, 1), "halves, output 2": (4, 4, 3)}


# Where nothing is cut


def reason(build, trainable_from=FROM, inference_mode=False, **options):
    found = cut(model_of(build, **options), trainable_from, inference_mode)
    assert isinstance(found, NotCut)
    return found.reason


def test_nothing_is_frozen():
    assert (
        reason(chain, "all")
        == reason(lambda x: layers.Flatten()(x)[:, None, None], None)
        == ("no layer with weights is frozen")
    )


def test_a_random_layer_stands_before_all_others():
    augmented = {"build": lambda x: conv(4, "last")(conv(4, "conv1", 2)(layers.RandomFlip(name="flip")(x)))}
    assert reason(**augmented) == (
        "no frozen layer with weights depends on the pixels alone: "
        "flip may do something else in training than in inference"
    )


def test_what_would_be_kept_is_no_smaller_than_the_pixels():
    """8 x 8 x 3 numbers, as many as the pixels have; 8 x 8 x 2 of them are fewer."""
    expected = (
        "what leaves the frozen layers is no smaller than the 192 numbers of the pixels; they end where last is trained"
    )
    assert reason(lambda x: conv(4, "last")(conv(3, "conv1")(x))) == expected
    assert cut(model_of(lambda x: conv(4, "last")(conv(2, "conv1")(x))), FROM, False).values == 128
    # A frozen layer widens what pooling has made small.
    assert reason(lambda x: conv(4, "last")(conv(12, "conv1")(layers.MaxPooling2D()(x)))) == expected


def test_a_smaller_tensor_before_what_widens_it_is_kept():
    """4 x 4 x 2 numbers become 4 x 4 x 12, as many as the pixels, at a cost of 100 numbers and more."""

    def build(x):
        return conv(4, "last")(conv(12, "conv3")(conv(40, "conv2")(conv(2, "conv1", 2)(x))))

    assert cut(model_of(build), FROM, False).tensors == {"conv1": (4, 4, 2)}


def test_all_is_kept_but_for_the_head():
    """Its batch normalisation is trained, also where the backbone is in inference mode."""
    assert cut(model_of(chain, batch_normalization=True), None, True).tensors == {"pooling": (8,)}


# What a cut leaves as it is


def test_cutting_changes_nothing_in_the_file_of_a_model(tmp_path):
    files = []
    for is_cut in (False, True):
        model = model_of(shared)
        architectures.for_phase(model, FROM)
        if is_cut:
            cut(model, None, False)
            cut(model, FROM, False)
        keras_files.save(model, tmp_path / f"{is_cut}.keras")
        files.append((tmp_path / f"{is_cut}.keras").read_bytes())
    assert files[0] == files[1]


def test_a_frozen_part_has_one_configuration_in_all_processes():
    """What came before it in a process, such as other phases, does not show."""
    configs = []
    for phases in ([FROM], ["all", None, FROM]):
        model = model_of(dear_residual)
        for trainable_from in phases:
            architectures.for_phase(model, trainable_from)
            found = cut(model, trainable_from, False)
        configs.append(found.frozen.get_config())
    assert configs[0] == configs[1]


def test_mobilenet_is_cut_before_what_widens_its_features(monkeypatch):
    """Neither a block earlier, at 14 * 14 * 64 numbers, nor behind the layer that makes 14 * 14 * 576 of them."""
    model = described_model(
        architecture="mobilenetv2", input_shape=(224, 224, 3), weights=None, pooling="avg", dropout=0.2
    ).build(classes=2, seed=1)
    assert cut(model, None, False).tensors == {"pooling": (1280,)}
    found = []
    for price in (frozen_part.NUMBERS_A_FLOP, 1 / 4000, 1 / 250, 1 / 5000, 1 / 100):
        monkeypatch.setattr(frozen_part, "NUMBERS_A_FLOP", price)
        found.append([*cut(model, 100, False).tensors])
    cheaper, dearer = ["block_9_add"], ["block_10_project_BN", "block_11_expand_relu"]
    assert found == [["block_10_project_BN"]] * 3 + [cheaper, dearer]
