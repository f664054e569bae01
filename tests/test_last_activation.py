"""The last softmax or sigmoid of a teacher is found and switched off, however the model is made."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, ops
from scipy.special import expit, softmax

from pipeline.models.last_activation import last_activation, switched_off
from pipeline.runtime.errors import UnusableError

FILE = Path("given.keras")
SHAPE = (4, 5, 3)
PIXELS = np.random.default_rng(0).uniform(0, 1, (6, *SHAPE)).astype(np.float32)


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(3)


def sequential(*last):
    return keras.Sequential([keras.Input(SHAPE), layers.Flatten(), *last], name="sequential")


def functional(*last):
    features = inputs = keras.Input(SHAPE)
    for layer in (layers.Flatten(), *last):
        features = layer(features)
    return keras.Model(inputs, features, name="functional")


def nested(*last):
    """A head that is a model, in a model that is the last layer of a Sequential."""
    head = keras.Sequential([keras.Input((7,)), *last], name="head")
    inner = functional(layers.Dense(7, activation="relu"), head)
    return keras.Sequential([keras.Input(SHAPE), layers.Rescaling(0.5), inner], name="outer")


def convolutional(activation):
    """As the first MobileNet ends: a convolution of the pooled features, and no dense layer."""
    inputs = keras.Input(SHAPE)
    pooled = layers.GlobalAveragePooling2D(keepdims=True)(inputs)
    return keras.Model(inputs, layers.Reshape((3,))(layers.Conv2D(3, 1, activation=activation)(pooled)))


def adapted(activation):
    """What `adapt` has learned is kept beside the weights, and is computed from them when a file is loaded."""
    scaling = layers.Normalization()
    scaling.adapt(PIXELS * 9)
    return keras.Sequential([keras.Input(SHAPE), scaling, layers.Flatten(), layers.Dense(3, activation)])


def dense(activation=None, units=3, **options):
    return layers.Dense(units, activation, **options)


HALF = {"dtype": "mixed_bfloat16"}
KINDS = {
    "Sequential": (lambda: sequential(dense("softmax")), lambda: sequential(dense())),
    "Functional": (lambda: functional(dense("softmax")), lambda: functional(dense())),
    "a layer of softmax": (lambda: functional(dense(), layers.Softmax()), lambda: functional(dense())),
    "a layer of softmax in a Sequential": (lambda: sequential(dense(), layers.Softmax()), lambda: sequential(dense())),
    "an activation layer": (
        lambda: sequential(dense(), layers.Activation("softmax")),
        lambda: sequential(dense()),
    ),
    "a layer as activation": (lambda: sequential(dense(layers.Softmax())), lambda: sequential(dense())),
    "an operation": (lambda: functional(dense(), ops.softmax), lambda: functional(dense())),
    "nested": (lambda: nested(dense("softmax")), lambda: nested(dense())),
    "nested, a layer of softmax": (lambda: nested(dense(), layers.Softmax()), lambda: nested(dense())),
    "convolutional": (lambda: convolutional("softmax"), lambda: convolutional(None)),
    "adapted": (lambda: adapted("softmax"), lambda: adapted(None)),
    "softmax in float32 behind half precision": (
        lambda: functional(dense(**HALF), layers.Activation("softmax", dtype="float32")),
        lambda: functional(dense(**HALF)),
    ),
    "softmax in half precision": (lambda: functional(dense("softmax", **HALF)), lambda: functional(dense(**HALF))),
    "cast behind softmax": (
        lambda: functional(dense("softmax", **HALF), lambda values: ops.cast(values, "float32")),
        lambda: functional(dense(**HALF)),
    ),
    "a linear activation behind softmax": (
        lambda: functional(dense("softmax"), layers.Activation("linear"), layers.Identity()),
        lambda: functional(dense()),
    ),
    "sigmoid": (lambda: sequential(dense("sigmoid", 1)), lambda: sequential(dense(None, 1))),
    "a layer of sigmoid": (
        lambda: functional(dense(None, 1), layers.Activation("sigmoid")),
        lambda: functional(dense(None, 1)),
    ),
    "an operation of sigmoid": (lambda: functional(dense(None, 1), ops.sigmoid), lambda: functional(dense(None, 1))),
}


def values(model):
    return ops.convert_to_numpy(ops.cast(model(PIXELS, training=False), "float32"))


@pytest.mark.parametrize("kind", KINDS)
def test_without_its_last_activation_it_gives_its_logits(kind):
    given, by_hand = (make() for make in KINDS[kind])
    for model in (given, by_hand):
        model.set_weights([np.random.default_rng(5).normal(0, 1, weight.shape) for weight in given.weights])
    if kind == "adapted":
        for model in (given, by_hand):
            model.layers[0].adapt(PIXELS * 9)
    given.save(FILE)
    loaded = keras.saving.load_model(FILE, compile=False)
    assert last_activation(loaded) == ("sigmoid" if "sigmoid" in kind else "softmax")
    bare = switched_off(loaded, FILE)
    assert last_activation(bare) == "linear"
    logits = values(bare)
    np.testing.assert_array_equal(logits, values(by_hand))
    assert logits.std() > 0.1
    probabilities = expit(logits) if "sigmoid" in kind else softmax(logits, axis=1)
    rounding = 1e-2 if kind.endswith(("in half precision", "behind softmax")) and "linear" not in kind else 1e-6
    np.testing.assert_allclose(values(loaded), probabilities, rtol=0, atol=rounding)
    bare.save("again.keras")
    np.testing.assert_array_equal(values(keras.saving.load_model("again.keras", safe_mode=True)), logits)


def average_of_softmax():
    inputs = keras.Input(SHAPE)
    features = layers.Flatten()(inputs)
    return keras.Model(inputs, layers.Average()([dense("softmax")(features), dense("softmax")(features)]))


def used_twice():
    """The last layer is the one before as well: without its softmax it would be another function."""
    inputs = keras.Input((3,))
    twice = dense("softmax")
    return keras.Model(inputs, twice(twice(inputs)))


@pytest.mark.parametrize(
    ("make", "activation"),
    [
        (lambda: sequential(dense()), "linear"),
        (lambda: sequential(dense("relu")), "relu"),
        (lambda: sequential(dense("log_softmax")), "log_softmax"),
        (lambda: sequential(dense(), layers.BatchNormalization()), None),
        (average_of_softmax, None),
        (used_twice, None),
    ],
)
def test_what_ends_otherwise_is_told(make, activation):
    assert last_activation(make()) == activation


def test_a_softmax_in_the_middle_is_no_last_one():
    assert last_activation(sequential(dense("softmax"), dense())) == "linear"


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: sequential(dense("sigmoid", 2)), r"given\.keras .*sigmoid of 2 outputs.*softmax.*activation=None"),
        (lambda: sequential(dense("softmax", 1)), r"given\.keras .*softmax of one output.*sigmoid"),
        (
            lambda: sequential(dense(), layers.Softmax(axis=0)),
            r"softmax at the end of given\.keras .*by up to [01].*activation=None",
        ),
    ],
    ids=["multi-label", "softmax of one", "softmax over the batch"],
)
def test_what_gives_no_probabilities_of_classes_is_refused(make, named):
    make().save(FILE)
    with pytest.raises(UnusableError, match=named):
        switched_off(keras.saving.load_model(FILE), FILE)
