"""Several steps in one call of TensorFlow are the same steps; the reference is Keras' loop, one in each call."""

import math
from itertools import islice

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipeline.training.steps_in_one_call import StepsInOneCall

STEPS, EPOCHS = 7, 3
"""A prime number of steps, which no other number of steps divides."""


@pytest.fixture(scope="module")
def data():
    """Batches of 4 rows, 4, 4, 4, 4, 4 and then 1."""
    noise = np.random.default_rng(3)
    rows = noise.normal(size=(25, 5)).astype(np.float32)
    targets = np.eye(3, dtype=np.float32)[noise.integers(0, 3, 25)]
    return tf.data.Dataset.from_tensor_slices((rows, targets)).batch(4)


def model():
    built = keras.Sequential([keras.Input((5,)), keras.layers.Dropout(0.5, seed=1), keras.layers.Dense(3)])
    built.set_weights([np.linspace(-1, 1, 15).reshape(5, 3), np.zeros(3)])
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    built.compile(keras.optimizers.Adam(0.1), loss, metrics=["accuracy"], jit_compile=False)
    return built


def result(fitted, history):
    return [weight.tobytes() for weight in fitted.get_weights()], history.history, int(fitted.optimizer.iterations)


@pytest.fixture(scope="module")
def one_by_one(data):
    """The weights, curves and number of steps of Keras' own loop."""
    plain = model()
    history = plain.fit(
        data.repeat(), steps_per_epoch=STEPS, epochs=EPOCHS, validation_data=data, shuffle=False, verbose=0
    )
    return result(plain, history)


@pytest.mark.parametrize(
    ("seconds", "calls"),
    [
        (0.0, [1] * STEPS * EPOCHS),  # every step takes longer than that
        # The first call traces, so it says nothing of a step; from the second on they double, up to the epoch's end.
        (math.inf, [1, 1, 2, 3, 4, 3, 7]),
    ],
)
def test_weights_curves_and_steps_are_those_of_keras(data, one_by_one, seconds, calls):
    fitted, made = model(), []
    fitted.train_function = StepsInOneCall(fitted, fitted.train_step, STEPS, made.append, seconds)
    fitted.test_function = StepsInOneCall(fitted, fitted.test_step, STEPS, seconds=seconds)
    history = fitted.fit(
        data.repeat(EPOCHS),  # not one batch more than the steps need
        steps_per_epoch=1,
        epochs=EPOCHS,
        validation_data=data.repeat(),
        validation_steps=1,
        shuffle=False,
        verbose=0,
    )
    assert result(fitted, history) == one_by_one
    assert one_by_one[2] == STEPS * EPOCHS
    assert made == calls


def test_a_call_that_is_long_enough_grows_no_more(data, monkeypatch):
    """Ctrl-C is heard between two calls. The clock is made up: a step takes 30 ms, and tracing a minute."""
    steps, told, now = 64, [], 0.0

    class Clock:
        @staticmethod
        def monotonic():
            return now

    function = StepsInOneCall(model(), None, steps, told.append, seconds=0.25)

    def run(iterator, count):
        nonlocal now
        now += 0.03 * int(count) + (0 if told else 60)
        return {"loss": 0.0}

    monkeypatch.setattr("pipeline.training.steps_in_one_call.time", Clock)
    function._run = run
    function(None)
    assert list(islice(told, 4)) == [1, 1, 2, 4]
    assert set(told[4:-1]) == {8}  # 0.24 s
    assert sum(told) == steps
