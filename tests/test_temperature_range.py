"""The range of T: within it the float32 gradient of each loss is that of float64 to 1 %, at both of its ends."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from pydantic import TypeAdapter, ValidationError
from scipy.special import softmax

from pipeline.cli.options import checked_temperatures
from pipeline.distillation.descriptions import (
    CrossEntropy,
    Decoupled,
    JensenShannon,
    Kl,
    Relations,
    Standardised,
)
from pipeline.distillation.loss import DistillationLoss
from pipeline.params.distill import Temperature
from pipeline.runtime.temperatures import HIGHEST, LOWEST

WITH_T = {
    "kl": Kl(),
    "cross_entropy": CrossEntropy(),
    "js": JensenShannon(),
    "dkd": Decoupled(),
    "dist": Relations(),
    "standardised kl": Standardised(),
    "standardised dkd": Standardised(before="dkd"),
}
ROWS = 16
TOLD_APART = 0.05
"""How far student and teacher are from each other at least, as a share of the spread of the logits of a row."""


def gradient(loss, temperature, labels, told, z, dtype):
    """Of the soft term with the student's logits z, computed in one precision; what comes in is the same in both."""
    computed = DistillationLoss(temperature, 0.0, soft_loss=loss, dtype=dtype)
    y_true, logits = tf.constant(np.concatenate([labels, told], axis=1), dtype), tf.Variable(z, dtype=dtype)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(computed.soft_term(y_true, logits))
    return tape.gradient(total, logits).numpy().astype(np.float64)


def error(loss, temperature, v, z, labels):
    """The distance of both gradients of a batch, as a share of that of float64."""
    told = v if loss.needs == "logits" else softmax(v.astype(np.float64) / temperature, axis=1)
    told = told.astype(np.float32)
    before = keras.config.floatx()
    try:
        keras.config.set_floatx("float64")
        exact = gradient(loss, temperature, labels, told, z, "float64")
    finally:
        keras.config.set_floatx(before)
    found = gradient(loss, temperature, labels, told, z, "float32")
    return np.linalg.norm(found - exact) / np.linalg.norm(exact)


def batch(classes, spread, apart, offset=0.0):
    """Logits of teacher and student, and one-hot labels."""
    draws = np.random.default_rng(classes)
    v = draws.normal(size=(ROWS, classes)) * spread
    z = v + draws.normal(size=v.shape) * apart + offset
    v -= v.mean(axis=1, keepdims=True)
    return v.astype(np.float32), z.astype(np.float32), np.eye(classes)[draws.integers(classes, size=ROWS)]


@pytest.mark.parametrize("classes", [2, 10, 1000])
@pytest.mark.parametrize("name", WITH_T)
def test_gradients_are_right_at_the_highest_temperature(name, classes):
    """A student that is close to its teacher is the worst case: their probabilities differ in the last digits."""
    loss = WITH_T[name]
    if classes >= loss.fewest_classes:
        for spread in (1.0, 20.0):
            assert error(loss, HIGHEST, *batch(classes, spread, apart=TOLD_APART * spread)) < 0.01


@pytest.mark.parametrize("classes", [2, 10, 1000])
@pytest.mark.parametrize("name", [name for name in WITH_T if not name.startswith("standardised")])
def test_gradients_are_right_at_the_lowest_temperature(name, classes):
    """Only classes whose logits are nearly equal have gradients there, and large equal logits are the worst case."""
    v, z, labels = batch(classes, spread=2 * LOWEST, apart=LOWEST, offset=20.0)
    assert error(WITH_T[name], LOWEST, v, z, labels) < 0.01


@pytest.mark.parametrize("name", ["kl", "cross_entropy", "js", "dkd", "standardised kl"])
def test_gradients_are_wrong_far_above(name):
    """So that the test above can fail."""
    assert error(WITH_T[name], 1e6, *batch(10, 1.0, apart=TOLD_APART)) > 0.3


@pytest.mark.parametrize("temperature", [LOWEST, 1, HIGHEST])
def test_the_ends_are_allowed(temperature):
    assert TypeAdapter(Temperature).validate_python(temperature) == temperature
    assert checked_temperatures(None, None, (str(temperature),)) == (temperature,)


@pytest.mark.parametrize("beyond", [np.nextafter(LOWEST, 0), np.nextafter(HIGHEST, np.inf)])
def test_the_first_number_beyond_is_refused(beyond):
    with pytest.raises(ValidationError, match=r"from 0\.001 to 1000, within which gradients are right to 1 %"):
        TypeAdapter(Temperature).validate_python(float(beyond))
    with pytest.raises(ValidationError, match=r"from 0\.001 to 1000"):
        TypeAdapter(Kl).validate_python({"student_temperature": float(beyond)})
    with pytest.raises(Exception, match=r"from 0\.001 to 1000"):
        checked_temperatures(None, None, (repr(float(beyond)),))
