"""A model whose end gives no logits is refused, however the end is made; logits that were moved or scaled are taken."""

import keras
import numpy as np
import pytest
from conftest import MODEL
from keras import layers, ops

from pipeline.models.ensembles import combined
from pipeline.models.model_end import refuse_no_logits
from pipeline.runtime.errors import UnusableError

SHAPE = (4, 5, 3)


def functional(*last, units=3, shape=SHAPE):
    keras.utils.set_random_seed(3)
    features = inputs = keras.Input(shape)
    for layer in (layers.Flatten(), layers.Dense(units), *last):
        features = layer(features)
    return keras.Model(inputs, features)


def sequential(*last):
    keras.utils.set_random_seed(3)
    return keras.Sequential([keras.Input(SHAPE), layers.Flatten(), *last])


def squashed(values):
    return ops.tanh(values)


def output_as(container):
    model = functional(layers.Activation("relu"))
    return keras.Model(model.inputs[0], container(model.outputs[0]))


def nested(*last):
    """The end in a model of its own, behind one that gives logits."""
    return keras.Sequential([keras.Input(SHAPE), functional(), keras.Sequential([keras.Input((3,)), *last])])


NO_LOGITS = {
    "relu": (lambda: sequential(layers.Dense(3, "relu")), "relu"),
    "tanh": (lambda: sequential(layers.Dense(3, "tanh")), "tanh"),
    "an activation layer": (lambda: sequential(layers.Dense(3), layers.Activation("hard_sigmoid")), "hard_sigmoid"),
    "a layer of its own": (lambda: functional(layers.LeakyReLU()), "LeakyReLU"),
    "a layer as activation": (lambda: sequential(layers.Dense(3, layers.ReLU())), "relu"),
    "an operation": (lambda: functional(ops.softplus), "Softplus"),
    "an operation as activation": (lambda: sequential(layers.Dense(3, ops.tanh)), "tanh"),
    "a function as activation": (lambda: sequential(layers.Dense(3, squashed)), "squashed"),
    "a list of one output": (lambda: output_as(lambda output: [output]), "relu"),
    "a map of one output": (lambda: output_as(lambda output: {"logits": output}), "relu"),
    "nested": (lambda: nested(layers.Activation("relu")), "relu"),
    "one output": (lambda: functional(layers.Activation("relu"), units=1), "relu"),
    "scaled probabilities": (
        lambda: functional(layers.Softmax(), layers.Rescaling(100.0)),
        "softmax, with Rescaling behind it",
    ),
    "moved probabilities": (
        lambda: functional(ops.softmax, lambda values: values - 0.5),
        "softmax, with Subtract behind it",
    ),
    "clipped probabilities": (lambda: functional(ops.softmax, lambda values: ops.clip(values, 0.1, 0.9)), "Clip"),
    "scaled probabilities in two models": (
        lambda: keras.Sequential([functional(layers.Softmax()), nested_scaling()]),
        "softmax, with Rescaling behind it",
    ),
    "the mean of probabilities": (
        lambda: averaged(lambda tensor: layers.Dense(3, "softmax")(tensor)),
        "softmax, with Average behind it",
    ),
    "turned round": (lambda: functional(layers.Rescaling(-1.0)), "Rescaling"),
    "divided by logits": (lambda: functional(lambda values: 1.0 / values), "TrueDivide"),
    "taken from a constant": (lambda: functional(lambda values: 0.0 - values), "Subtract"),
    "taken from an array": (lambda: functional(lambda values: ops.subtract(np.float32([1, 2, 3]), values)), "Subtract"),
    "taken from their mean": (
        lambda: functional(lambda values: ops.mean(values, axis=-1, keepdims=True) - values),
        "Subtract",
    ),
    "taken from other logits": (lambda: joined(layers.Subtract()), "Subtract"),
    "one output, taken from another": (lambda: joined(layers.Subtract(), units=1), "Subtract"),
    "taken from a constant in an inner model": (lambda: nested(of_three(lambda values: 1.0 - values)), "Subtract"),
    "a mean over the batch, taken from them": (
        lambda: functional(lambda values: values - ops.mean(values, axis=0)),
        "Subtract",
    ),
    "the larger of them and a constant": (lambda: functional(lambda values: ops.maximum(values, -1.0)), "Maximum"),
    "a recurrent layer": (lambda: sequential(layers.Reshape((20, 3)), layers.GRU(3)), "tanh"),
}


def nested_scaling():
    return keras.Sequential([keras.Input((3,)), layers.Rescaling(100.0)])


def of_three(last):
    inputs = keras.Input((3,))
    return keras.Model(inputs, last(inputs))


def averaged(head):
    keras.utils.set_random_seed(3)
    inputs = keras.Input(SHAPE)
    features = layers.Flatten()(inputs)
    return keras.Model(inputs, layers.Average()([head(features), head(features)]))


def joined(join, units=3):
    keras.utils.set_random_seed(3)
    inputs = keras.Input(SHAPE)
    features = layers.Flatten()(inputs)
    return keras.Model(inputs, join([layers.Dense(units)(features), layers.Dense(units)(features)]))


@pytest.mark.parametrize("kind", NO_LOGITS)
def test_what_gives_no_logits_is_refused_with_its_name(kind):
    make, named = NO_LOGITS[kind]
    with pytest.raises(UnusableError) as refusal:
        refuse_no_logits(make(), "given.keras")
    message = str(refusal.value)
    assert f"given.keras ends in {named}" in message
    assert "activation=None" in message


LOGITS = {
    "linear": lambda: functional(),
    "log_softmax": lambda: sequential(layers.Dense(3, "log_softmax")),
    "a temperature": lambda: functional(lambda values: values / 4.0),
    "a scale": lambda: functional(layers.Rescaling(3.0, offset=-1.0)),
    "a factor before": lambda: functional(lambda values: 2.0 * values),
    "an array of factors": lambda: functional(lambda values: values * np.array([1.0, 2.0, 3.0], np.float32)),
    "a shift": lambda: functional(lambda values: values - 2.0),
    "a shift of each row": lambda: functional(lambda values: values - ops.max(values, axis=-1, keepdims=True)),
    "a shift by one number for all": lambda: functional(lambda values: values - ops.mean(values)),
    "the larger of two": lambda: joined(layers.Maximum()),
    "normalised": lambda: functional(layers.BatchNormalization()),
    "a second half in float32": lambda: functional(layers.Activation("linear", dtype="float32")),
    "parts": lambda: functional(lambda values: ops.concatenate([values[:, 1:], values[:, :1]], axis=-1)),
    "a mean": lambda: averaged(layers.Dense(3)),
    "nested": lambda: nested(layers.Rescaling(2.0)),
    "class maps": lambda: keras.Sequential([keras.Input(SHAPE), layers.Conv2D(3, 1), layers.GlobalAveragePooling2D()]),
    "weights behind a softmax": lambda: sequential(layers.Dense(3, "softmax"), layers.Dense(3)),
    "our network": lambda: MODEL.build(classes=2, seed=1),
    "our ensemble of logits": lambda: combined([functional(), functional()], "logits"),
    "our ensemble of probabilities": lambda: combined([functional(), functional()], "probabilities"),
    "one output": lambda: functional(units=1),
    "zeros, of weights that are not trained": lambda: sequential(layers.Dense(3, kernel_initializer="zeros")),
}


@pytest.mark.parametrize("kind", LOGITS)
def test_what_gives_logits_is_taken(kind):
    refuse_no_logits(LOGITS[kind](), "given.keras")


@pytest.mark.parametrize(
    ("first", "named"),
    [
        ("softmax", r"given\.keras gives probabilities.* 7 images.* sum to 1.*activation=None"),
        ("relu", r"given\.keras .*negative.* 7 images.* exactly 0.*activation=None"),
    ],
)
def test_numbers_tell_what_the_layers_hide(first, named):
    """A last layer that changes nothing is linear, and what comes before it shows in the outputs alone."""
    model = sequential(layers.Dense(3, first), layers.Dense(3, kernel_initializer="identity"))
    with pytest.raises(UnusableError, match=named):
        refuse_no_logits(model, "given.keras")
