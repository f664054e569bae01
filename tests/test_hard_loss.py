"""The loss of hard labels, with label smoothing and class weights; also within the loss of a student."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax, softmax

from pipeline.distillation.descriptions import CrossEntropy, Kl
from pipeline.distillation.loss import DistillationLoss
from pipeline.images.index import Image, Index
from pipeline.runtime.errors import ParameterError
from pipeline.tools import live_teacher
from pipeline.training.class_weights import balanced, with_class_weights
from pipeline.training.hard_loss import HardLoss
from pipeline.training.recipe import Phase, Recipe

GENERATOR = np.random.default_rng(15)
LOGITS = GENERATOR.normal(0, 3, (8, 3)).astype(np.float32)
LABELS = np.array([0, 1, 2, 0, 1, 2, 1, 0])
ONE_HOT = np.eye(3, dtype=np.float32)[LABELS]
SOFT = GENERATOR.dirichlet([1.0, 1.0, 1.0], 8).astype(np.float32)
BOTH = np.concatenate([ONE_HOT, SOFT], axis=1)
WEIGHTS = [0.5, 2.0, 3.25]


def value_and_gradient(loss, targets, logits=LOGITS, **options):
    variable = tf.Variable(logits)
    with tf.GradientTape() as tape:
        value = loss(targets, variable, **options)
    return value.numpy(), tape.gradient(value, variable).numpy()


def assert_same(one, other):
    for ours, theirs in zip(one, other, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_it_is_keras_own_with_sample_weights(smoothing, weights):
    keras_own = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
    of_rows = None if weights is None else np.array(weights, np.float32)[LABELS]
    expected = value_and_gradient(keras_own, ONE_HOT, sample_weight=of_rows)
    assert_same(value_and_gradient(HardLoss(smoothing, weights), ONE_HOT), expected)
    assert_same(value_and_gradient(HardLoss(smoothing, weights), BOTH), expected)  # what else is in a batch


def test_without_either_it_has_the_bits_of_keras_own():
    keras_own = keras.losses.CategoricalCrossentropy(from_logits=True)
    found, expected = (value_and_gradient(loss, ONE_HOT) for loss in (HardLoss(), keras_own))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_label_smoothing_by_hand():
    """Logits 0, 0, log 2: probabilities 1/4, 1/4, 1/2. At 0.3, the label of the last class is 0.1, 0.1, 0.8."""
    logits, label = np.log(np.array([[1, 1, 2]], np.float32)), np.array([[0, 0, 1]], np.float32)
    value, gradient = value_and_gradient(HardLoss(0.3), label, logits)
    np.testing.assert_allclose(value, 0.2 * np.log(4) + 0.8 * np.log(2), rtol=1e-6)
    np.testing.assert_allclose(gradient, [[0.15, 0.15, -0.3]], rtol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_mixed_label_is_smoothed_and_weighted_as_both_parts(share):
    """A row of weight w has the gradient w (p - y), with the weight and the label mixed alike."""
    one, other = ONE_HOT[:1], ONE_HOT[1:2]
    mixed = np.float32(share) * one + np.float32(1 - share) * other
    value, gradient = value_and_gradient(HardLoss(0.2, WEIGHTS), mixed, LOGITS[:1])
    weight = share * WEIGHTS[0] + (1 - share) * WEIGHTS[1]
    label = 0.8 * mixed.astype(np.float64) + 0.2 / 3
    exact = LOGITS[:1].astype(np.float64)
    np.testing.assert_allclose(value, -weight * (label * log_softmax(exact, axis=1)).sum(), rtol=1e-5)
    np.testing.assert_allclose(gradient, weight * (softmax(exact, axis=1) - label), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_a_row_without_a_label_has_no_hard_loss(weights):
    half = ONE_HOT * (np.arange(8) < 4)[:, None]
    value, gradient = value_and_gradient(HardLoss(0.2, weights), half)
    labelled, _ = value_and_gradient(HardLoss(0.2, weights), ONE_HOT[:4], LOGITS[:4])
    np.testing.assert_allclose(value, labelled / 2, rtol=1e-6)
    assert not gradient[4:].any()
    assert gradient[:4].all()


@pytest.mark.parametrize("kind", [Kl(), CrossEntropy()], ids=["kl", "cross_entropy"])
def test_class_weights_weigh_both_terms_of_a_student(kind):
    of_rows = np.array(WEIGHTS, np.float32)[LABELS]
    plain = DistillationLoss(3.0, 0.3, True, kind)
    expected = value_and_gradient(plain, BOTH, sample_weight=of_rows)
    assert_same(value_and_gradient(DistillationLoss(3.0, 0.3, True, kind, class_weights=WEIGHTS), BOTH), expected)


def test_a_student_weighs_rows_without_a_label_as_1():
    rows = np.array(WEIGHTS, np.float32)[LABELS]
    rows[4:] = 1
    targets = BOTH.copy()
    targets[4:, :3] = 0
    expected = value_and_gradient(DistillationLoss(3.0, 0.3), targets, sample_weight=rows)
    assert_same(value_and_gradient(DistillationLoss(3.0, 0.3, class_weights=WEIGHTS), targets), expected)


def test_label_smoothing_leaves_the_soft_labels_as_they_are():
    smooth, plain = DistillationLoss(3.0, 0.3, label_smoothing=0.1), DistillationLoss(3.0, 0.3)
    hard = [value_and_gradient(HardLoss(smoothing), ONE_HOT) for smoothing in (0.1, 0.0)]
    found, before = value_and_gradient(smooth, BOTH), value_and_gradient(plain, BOTH)
    for number in range(2):
        difference = 0.3 * (hard[0][number] - hard[1][number])
        np.testing.assert_allclose(found[number] - before[number], difference, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loss", [HardLoss(reduction="sum"), DistillationLoss(3.0, 0.3, False, CrossEntropy())])
def test_a_phase_says_what_the_loss_does_with_the_labels(loss):
    phase = Phase(1, 0.1, "all", label_smoothing=0.2, class_weight=dict(zip("abc", WEIGHTS, strict=True)))
    of_phase = loss.for_phase(phase)
    assert of_phase.get_config() == loss.get_config() | {"label_smoothing": 0.2, "class_weights": WEIGHTS}
    again = keras.losses.deserialize(keras.losses.serialize(of_phase))
    assert_same(value_and_gradient(again, BOTH), value_and_gradient(of_phase, BOTH))
    assert loss.for_phase(Phase(1, 0.1, "all")).get_config() == loss.get_config()


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_the_distillers_hard_loss_is_the_same(weights):
    """Of rows with a label, with a mixed one and without one."""
    targets = ONE_HOT.copy()
    targets[0], targets[1] = [0.25, 0.75, 0.0], 0
    found = value_and_gradient(lambda y, z: live_teacher.hard_loss(y, z, 0.1, weights), targets)
    assert_same(found, value_and_gradient(HardLoss(0.1, weights), targets))


# The weights of classes


def index_of(**counts):
    """Training images of each class, and one of each for validation and test, which do not count."""
    images = []
    for name, count in counts.items():
        labelled = "" if name == "none" else name
        splits = ["train"] * count + (["val", "test"] if labelled else [])
        images += [Image(f"{name}{number}", "", labelled, part, "", "") for number, part in enumerate(splits)]
    return Index(images)


def weights_of(class_weight, data):
    recipe = with_class_weights(Recipe([Phase(1, 0.1, "all", class_weight=class_weight)], 8, 1), data)
    return recipe.phases[0].class_weight


def test_balanced_weights_by_hand():
    """N / (C n) of 2, 6 and 4 images; those without a label do not count."""
    data = index_of(b=2, a=6, c=4, none=7)
    weights = weights_of("balanced", data)
    assert weights == pytest.approx({"a": 12 / 18, "b": 2.0, "c": 1.0})
    assert list(weights) == ["a", "b", "c"]
    assert sum(weights[image.class_name] for image in data.labelled("train")) == pytest.approx(12)


def test_given_weights_come_in_the_order_of_the_classes():
    assert list(weights_of({"b": 2.0, "a": 0.5}, index_of(a=1, b=1)).items()) == [("a", 0.5), ("b", 2.0)]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"a": 1.0, "B": 2.0}, ["'B'", "its classes are 'a', 'b'", "Did you mean 'b'?"]),
        ({"a": 1.0, "b": 2.0, "c": 1.0}, ["class_weight names 'c', which the data set does not have"]),
        ({"a": 1.0}, ["no number for 'b'", "Expected one for each class"]),
    ],
)
def test_class_names_that_do_not_fit_are_refused(given, told):
    with pytest.raises(ParameterError) as error:
        weights_of(given, index_of(a=1, b=1))
    assert all(text in str(error.value) for text in told)


def test_balance_needs_an_image_of_each_class():
    with pytest.raises(ParameterError, match="'b' of 2 classes have no labelled training image"):
        balanced(index_of(a=3, b=0))


def test_a_loss_needs_the_weight_of_each_class():
    with pytest.raises(ValueError, match="'balanced'"):
        HardLoss().for_phase(SimpleNamespace(class_weight="balanced", label_smoothing=0.0))
