"""The distillation loss against closed forms and a float64 reference written from the formula."""

from dataclasses import asdict, replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.distillation import descriptions
from pipeline.distillation.descriptions import (
    CrossEntropy,
    Decoupled,
    JensenShannon,
    Kl,
    Relations,
    Softened,
    SquaredError,
    Standardised,
    TeachersChoice,
)
from pipeline.distillation.loss import DistillationLoss
from pipeline.distillation.soft_losses import cross_entropy, kl_divergence

ULP = 2.0**-24  # half the gap between neighbouring float32 numbers, relative: one rounding's largest error

TEACHER = np.array([[2.0, -1.0, 0.5, 0.0], [0.0, 3.0, -2.0, 1.0], [-1.5, 0.25, 4.0, 1.0]])
STUDENT = np.array([[1.0, 0.5, -0.5, 2.0], [-1.0, 2.0, 0.0, 0.5], [0.25, -3.0, 1.0, 1.5]])
LABELS = np.array([0, 1, 3])


def softmax(logits, temperature=1.0):
    powers = np.exp(np.asarray(logits, np.float64) / temperature)
    return powers / powers.sum(axis=-1, keepdims=True)


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    top = logits.max(axis=-1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(axis=-1, keepdims=True))


def targets(labels, soft):
    soft = np.asarray(soft, np.float32)
    return np.concatenate([np.eye(soft.shape[1], dtype=np.float32)[labels], soft], axis=1)


def per_row(loss, y_true, z):
    """The loss of each row as TensorFlow computes it in float32, as float64."""
    return loss.call(tf.constant(y_true, tf.float32), tf.constant(z, tf.float32)).numpy().astype(np.float64)


def gradient(loss, y_true, z):
    """d loss / d z of each row, float32 as float64."""
    variable = tf.Variable(np.asarray(z, np.float32))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(loss.call(tf.constant(y_true, tf.float32), variable))
    return tape.gradient(total, variable).numpy().astype(np.float64)


def reference(y_true, z, temperature, weight, scaled=True):
    """The formula of `DistillationLoss` in float64."""
    y, p = np.split(np.asarray(y_true, np.float64), 2, axis=1)
    cross_entropy = -np.sum(y * log_softmax(z), axis=1)
    logarithms = np.log(p, where=p > 0, out=np.zeros_like(p))
    divergence = np.sum(p * (logarithms - log_softmax(np.asarray(z, np.float64) / temperature)), axis=1)
    return weight * cross_entropy + (1 - weight) * (temperature**2 if scaled else 1.0) * divergence


def rounding_bound(z, temperature, weight, scaled):
    """Largest float32 error of the loss, for logits of at most R in size.

    A log-softmax of numbers up to M rounds: the division by T (M, and again for T itself), the difference
    to the largest (2M), the exponentials (relative error of their arguments, 2M, plus 1), a sum of C
    terms (C), a logarithm and a last difference (2M + log C each): below 10M + 2C + 8 roundings. The
    sum over classes of p (log p - log q), with sum p = 1, sum p |log p| <= log C and |log q| <= 2M + log C,
    adds C + 4 roundings of 2M + 2 log C. The weights and T^2 add 4 more of the terms themselves.
    """
    size, classes = np.abs(z).max(), z.shape[1]

    def log_softmax_error(largest):
        return 10 * largest + 2 * classes + 8

    def term(largest):
        return 2 * largest + 2 * np.log(classes)

    hard = log_softmax_error(size) + 4 * term(size)
    soft = log_softmax_error(size / temperature) + (classes + 8) * term(size / temperature)
    return ULP * (weight * hard + (1 - weight) * (temperature**2 if scaled else 1.0) * soft)


# Numbers worked out by hand


def test_hard_term_alone_by_hand():
    # z = (0, ln 3): softmax = (1/4, 3/4); the label is class 0, so the loss is ln 4 = 1.386294.
    loss = DistillationLoss(temperature=4.0, hard_label_weight=1.0)
    assert per_row(loss, [[1, 0, 0.5, 0.5]], [[0.0, np.log(3.0)]]) == pytest.approx([1.3862944], rel=4 * ULP)


def test_soft_term_alone_by_hand():
    # T = 2, z = (0, 2 ln 3): softmax(z / 2) = (1/4, 3/4). p = (1/2, 1/2).
    # KL = 1/2 ln(1/2 : 1/4) + 1/2 ln(1/2 : 3/4) = 1/2 ln 2 + 1/2 ln(2/3) = 1/2 ln(4/3) = 0.14384104
    # T^2 KL = 4 * 0.14384104 = 0.57536414
    loss = DistillationLoss(temperature=2.0, hard_label_weight=0.0)
    assert per_row(loss, [[1, 0, 0.5, 0.5]], [[0.0, 2 * np.log(3.0)]]) == pytest.approx([0.57536414], rel=16 * ULP)


def test_both_terms_by_hand():
    # T = 2, z = (0, 2 ln 3), label 1, p = (1/2, 1/2): softmax(z) = (1/10, 9/10), CE = ln(10/9) = 0.10536052.
    # w = 0.3: 0.3 * 0.10536052 + 0.7 * 0.57536414 = 0.03160816 + 0.40275490 = 0.43436306
    loss = DistillationLoss(temperature=2.0, hard_label_weight=0.3)
    assert per_row(loss, [[0, 1, 0.5, 0.5]], [[0.0, 2 * np.log(3.0)]]) == pytest.approx([0.43436306], rel=32 * ULP)


def test_kl_divergence_by_hand():
    # p = (3/4, 1/4), q = (1/2, 1/2): 3/4 ln(3/2) + 1/4 ln(1/2) = 0.30409883 - 0.17328680 = 0.13081203
    assert kl_divergence(tf.constant([[0.75, 0.25]]), tf.zeros((1, 2))).numpy() == pytest.approx(
        [0.13081203], rel=16 * ULP
    )


def test_kl_divergence_is_not_symmetric():
    # The other way round, p = (1/2, 1/2), q = (3/4, 1/4) gives 1/2 ln(2/3) + 1/2 ln 2 = 1/2 ln(4/3) = 0.14384104.
    logits = tf.constant([[np.log(3.0), 0.0]], tf.float32)
    assert kl_divergence(tf.constant([[0.5, 0.5]]), logits).numpy() == pytest.approx([0.14384104], rel=16 * ULP)


def test_kl_divergence_of_a_distribution_to_itself_is_zero():
    probabilities = tf.constant(softmax(TEACHER), tf.float32)
    divergence = kl_divergence(probabilities, tf.constant(TEACHER, tf.float32)).numpy()
    # Each of 4 terms p (log p - log q) may miss zero by the roundings of two logarithms below 8 in size.
    assert np.abs(divergence).max() <= 4 * 8 * 2 * ULP


# Invariances


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
def test_a_constant_added_to_the_students_logits_changes_nothing(weight):
    # All numbers are multiples of 1/4 and 1024 is exact, so that only the function could make a difference.
    loss = DistillationLoss(4.0, weight)
    y_true = targets(LABELS, softmax(TEACHER, 4.0))
    for constant in (1024.0, -1024.0):
        np.testing.assert_allclose(
            per_row(loss, y_true, STUDENT + constant), per_row(loss, y_true, STUDENT), rtol=8 * ULP
        )
        np.testing.assert_allclose(
            gradient(loss, y_true, STUDENT + constant), gradient(loss, y_true, STUDENT), atol=8 * ULP
        )


def test_a_constant_added_to_the_teachers_logits_changes_nothing():
    # Keras' LogitsDistillation fails this: without a softmax, its default loss moves with the constant.
    loss = DistillationLoss(4.0, 0.4)
    plain = per_row(loss, targets(LABELS, softmax(TEACHER, 4.0)), STUDENT)
    shifted = per_row(loss, targets(LABELS, softmax(TEACHER + 64.0, 4.0)), STUDENT)
    np.testing.assert_allclose(shifted, plain, rtol=8 * ULP)


def test_the_order_of_the_classes_means_nothing():
    order = [2, 0, 3, 1]
    loss = DistillationLoss(3.0, 0.4)
    y, p = np.split(targets(LABELS, softmax(TEACHER, 3.0)), 2, axis=1)
    plain = per_row(loss, np.concatenate([y, p], axis=1), STUDENT)
    permuted = per_row(loss, np.concatenate([y[:, order], p[:, order]], axis=1), STUDENT[:, order])
    np.testing.assert_allclose(permuted, plain, rtol=0, atol=2 * rounding_bound(STUDENT, 3.0, 0.4, True))


# Gradients


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0, 40.0])
def test_gradient_of_the_soft_term(temperature):
    y_true = targets(LABELS, softmax(TEACHER, temperature))
    actual = gradient(DistillationLoss(temperature, 0.0), y_true, STUDENT)
    expected = temperature * (softmax(STUDENT, temperature) - softmax(TEACHER, temperature))
    # Two probabilities, each with the error of a softmax of numbers up to 3 / T, multiplied by T.
    bound = ULP * temperature * (2 * (10 * 4 / temperature + 2 * 4 + 8) + 4)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=bound)


def test_gradient_of_the_soft_term_without_the_scale():
    y_true = targets(LABELS, softmax(TEACHER, 4.0))
    actual = gradient(DistillationLoss(4.0, 0.0, scale_by_temperature_squared=False), y_true, STUDENT)
    np.testing.assert_allclose(actual, (softmax(STUDENT, 4.0) - softmax(TEACHER, 4.0)) / 4.0, rtol=0, atol=16 * ULP)


def test_gradient_of_both_terms():
    y_true = targets(LABELS, softmax(TEACHER, 4.0))
    hard = softmax(STUDENT) - np.eye(4)[LABELS]
    soft = 4.0 * (softmax(STUDENT, 4.0) - softmax(TEACHER, 4.0))
    actual = gradient(DistillationLoss(4.0, 0.25), y_true, STUDENT)
    np.testing.assert_allclose(actual, 0.25 * hard + 0.75 * soft, rtol=0, atol=200 * ULP)


@pytest.mark.parametrize("temperature", [30.0, 100.0, 1000.0])
def test_gradient_at_high_temperature_matches_logits(temperature):
    """Hinton et al., section 2.1: for centred logits the gradient tends to (z - v) / C.

    With u = z / T and |u| <= r = R / T < 1, e^u = 1 + u + e where 0 <= e <= r^2 e^r / 2, so that
    softmax(u) = (1 + u + e_i) / (C + sum e) lies within r^2 e^r (1 + r) / (2 C) of (1 + u) / C. The
    gradient is T times the difference of two such: its error is at most R^2 e^r (1 + r) / (T C).
    """
    student, teacher = (logits - logits.mean(axis=1, keepdims=True) for logits in (STUDENT, TEACHER))
    actual = gradient(DistillationLoss(temperature, 0.0), targets(LABELS, softmax(teacher, temperature)), student)
    largest = max(np.abs(student).max(), np.abs(teacher).max())
    ratio = largest / temperature
    bound = largest**2 * np.exp(ratio) * (1 + ratio) / (temperature * 4)
    rounding = ULP * temperature * 16  # probabilities near 1/4, a few roundings each, times T
    np.testing.assert_allclose(actual, (student - teacher) / 4, rtol=0, atol=bound + rounding)


# Rows without a label


def without_label(y_true, rows):
    """The targets, in which some rows have no label."""
    y_true = y_true.copy()
    y_true[rows, : y_true.shape[1] // 2] = 0
    return y_true


def test_a_row_without_a_label_by_hand():
    # As in test_both_terms_by_hand, where the soft term is 0.57536414: 0.7 of it, and nothing else.
    loss = DistillationLoss(temperature=2.0, hard_label_weight=0.3)
    assert per_row(loss, [[0, 0, 0.5, 0.5]], [[0.0, 2 * np.log(3.0)]]) == pytest.approx([0.40275490], rel=32 * ULP)


@pytest.mark.parametrize("kind", [Kl(), CrossEntropy()])
@pytest.mark.parametrize("weight", [0.25, 0.9])
def test_a_row_without_a_label_has_the_soft_term_alone(kind, weight):
    """Value and gradient, against float64; its neighbours keep both terms."""
    loss, labelled = DistillationLoss(4.0, weight, soft_loss=kind), targets(LABELS, softmax(TEACHER, 4.0))
    y_true, mass = without_label(labelled, [0, 2]), np.array([[0.0], [1.0], [0.0]])
    soft = soft_term_in_float64(y_true, STUDENT, 4.0, True, kind)
    hard = -log_softmax(STUDENT)[range(3), LABELS] * mass[:, 0]
    bound = rounding_bound(STUDENT, 4.0, weight, True)
    np.testing.assert_allclose(per_row(loss, y_true, STUDENT), weight * hard + (1 - weight) * soft, rtol=0, atol=bound)
    hard = mass * (softmax(STUDENT) - np.eye(4)[LABELS])
    soft = 4.0 * (softmax(STUDENT, 4.0) - softmax(TEACHER, 4.0))
    for step in (gradient, compiled_gradient):
        np.testing.assert_allclose(
            step(loss, y_true, STUDENT), weight * hard + (1 - weight) * soft, rtol=0, atol=200 * ULP
        )


def compiled_gradient(loss, y_true, z):
    """As `gradient`, of the mean over rows in a compiled step, times the number of rows."""

    @tf.function
    def step(z):
        with tf.GradientTape() as tape:
            tape.watch(z)
            mean = loss(tf.constant(y_true, tf.float32), z)
        return tape.gradient(mean, z)

    return len(z) * step(tf.constant(z, tf.float32)).numpy().astype(np.float64)


def test_no_soft_term_and_no_label_leave_no_loss():
    y_true = without_label(targets(LABELS, softmax(TEACHER, 4.0)), [1])
    loss = DistillationLoss(4.0, 1.0)
    assert per_row(loss, y_true, STUDENT)[1] == 0.0
    assert not gradient(loss, y_true, STUDENT)[1].any()
    assert gradient(loss, y_true, STUDENT)[[0, 2]].all()


# Limits that equal Keras' own losses


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_hard_labels_alone_are_keras_cross_entropy_bit_for_bit(temperature):
    generator = np.random.default_rng(5)
    z = generator.normal(0, 6, (200, 7)).astype(np.float32)
    y_true = targets(generator.integers(7, size=200), softmax(generator.normal(0, 3, (200, 7)), temperature))
    ours = DistillationLoss(temperature, 1.0, reduction="none")(y_true, z)
    keras_own = keras.losses.CategoricalCrossentropy(from_logits=True, reduction="none")(y_true[:, :7], z)
    np.testing.assert_array_equal(ours.numpy(), keras_own.numpy())
    mean = DistillationLoss(temperature, 1.0)(y_true, z)
    assert mean.numpy() == keras.losses.CategoricalCrossentropy(from_logits=True)(y_true[:, :7], z).numpy()


@pytest.mark.parametrize("weight", [0.0, 0.4])
@pytest.mark.parametrize("scaled", [True, False])
def test_one_hot_soft_labels_at_t_1_give_plain_cross_entropy(weight, scaled):
    y_true = targets(LABELS, np.eye(4)[LABELS])
    actual = per_row(DistillationLoss(1.0, weight, scaled), y_true, STUDENT)
    np.testing.assert_allclose(actual, -log_softmax(STUDENT)[range(3), LABELS], rtol=32 * ULP)


def test_the_soft_term_is_keras_kl_divergence_where_none_clips():
    soft = softmax(TEACHER, 4.0).astype(np.float32)
    keras_own = keras.losses.KLDivergence(reduction="none")(soft, softmax(STUDENT, 4.0).astype(np.float32)).numpy()
    ours = per_row(DistillationLoss(4.0, 0.0), targets(LABELS, soft), STUDENT)
    np.testing.assert_allclose(ours / 16.0, keras_own, rtol=0, atol=64 * ULP)


# The cross-entropy in place of the divergence


def test_cross_entropy_by_hand():
    # p = (3/4, 1/4), z = (0, ln 3): softmax = (1/4, 3/4).
    # -3/4 ln(1/4) - 1/4 ln(3/4) = 1.03972077 + 0.07192052 = 1.11164129
    logits = tf.constant([[0.0, np.log(3.0)]], tf.float32)
    assert cross_entropy(tf.constant([[0.75, 0.25]]), logits).numpy() == pytest.approx([1.11164129], rel=16 * ULP)


@pytest.mark.parametrize(("scaled", "expected"), [(True, 2.37517516), (False, 0.61749991)])
def test_cross_entropy_as_soft_term_by_hand(scaled, expected):
    # T = 2, z = (0, 2 ln 3), label 1, p = (1/2, 1/2): softmax(z / 2) = (1/4, 3/4), and the hard term is
    # ln(10/9) = 0.10536052. The soft term is -1/2 ln(1/4) - 1/2 ln(3/4) = 1/2 ln(16/3) = 0.83698822.
    # w = 0.3: 0.03160816 + 0.7 * 4 * 0.83698822 = 2.37517516 scaled, 0.03160816 + 0.7 * 0.83698822 = 0.61749991.
    loss = DistillationLoss(2.0, 0.3, scaled, CrossEntropy())
    actual = per_row(loss, [[0, 1, 0.5, 0.5]], [[0.0, 2 * np.log(3.0)]])
    assert actual == pytest.approx([expected], rel=32 * ULP)


SYSTEMS_TEMPERATURES = [0.3, 1.0, 3.25, 40.0]


def both_kinds(temperature, scaled=True, weight=0.0):
    return [DistillationLoss(temperature, weight, scaled, kind) for kind in (CrossEntropy(), Kl())]


@pytest.mark.parametrize("temperature", SYSTEMS_TEMPERATURES)
def test_cross_entropy_is_divergence_plus_entropy_of_soft_labels(temperature):
    p = softmax(TEACHER, temperature)
    entropy = -np.sum(p * np.log(p), axis=1)
    of_cross_entropy, of_divergence = (
        per_row(loss, targets(LABELS, p), STUDENT) for loss in both_kinds(temperature, scaled=False)
    )
    bound = 2 * rounding_bound(STUDENT, temperature, 0.0, False)
    np.testing.assert_allclose(of_cross_entropy, of_divergence + entropy, rtol=0, atol=bound)
    np.testing.assert_array_less(of_divergence, of_cross_entropy)


@pytest.mark.parametrize("temperature", SYSTEMS_TEMPERATURES)
@pytest.mark.parametrize("scaled", [True, False])
def test_cross_entropy_has_the_gradient_of_the_divergence(temperature, scaled):
    y_true = targets(LABELS, softmax(TEACHER, temperature))
    of_cross_entropy, of_divergence = (gradient(loss, y_true, STUDENT) for loss in both_kinds(temperature, scaled))
    factor = temperature if scaled else 1 / temperature
    # As in test_gradient_of_the_soft_term.
    bound = ULP * factor * (2 * (10 * 4 / temperature + 2 * 4 + 8) + 4)
    np.testing.assert_allclose(of_cross_entropy, of_divergence, rtol=0, atol=2 * bound)
    expected = factor * (softmax(STUDENT, temperature) - softmax(TEACHER, temperature))
    np.testing.assert_allclose(of_cross_entropy, expected, rtol=0, atol=bound)


@pytest.mark.parametrize("temperature", SYSTEMS_TEMPERATURES)
def test_cross_entropy_is_that_of_keras_on_divided_logits(temperature):
    soft = softmax(TEACHER, temperature).astype(np.float32)
    z = (STUDENT / temperature).astype(np.float32)
    keras_own = keras.losses.CategoricalCrossentropy(from_logits=True, reduction="none")(soft, z).numpy()
    actual = per_row(DistillationLoss(temperature, 0.0, False, CrossEntropy()), targets(LABELS, soft), STUDENT)
    np.testing.assert_allclose(actual, keras_own, rtol=0, atol=2 * rounding_bound(STUDENT, temperature, 0.0, False))


@pytest.mark.parametrize("kind", [Kl(), CrossEntropy()])
@pytest.mark.parametrize(("weight", "scaled"), [(0.0, True), (0.05, False), (0.5, True), (0.9, False), (1.0, True)])
def test_the_part_that_is_reported_makes_up_the_loss(kind, weight, scaled):
    loss = DistillationLoss(3.25, weight, scaled, kind)
    y_true = targets(LABELS, softmax(TEACHER, 3.25))
    assert list(loss.parts) == ["soft_loss"]
    soft = loss.parts["soft_loss"](tf.constant(y_true), tf.constant(STUDENT, tf.float32)).numpy().astype(np.float64)
    expected = soft_term_in_float64(y_true, STUDENT, 3.25, scaled, kind)
    bound = rounding_bound(STUDENT, 3.25, 0.0, scaled)
    np.testing.assert_allclose(soft, expected, rtol=0, atol=bound)
    hard = -log_softmax(STUDENT)[range(3), LABELS]
    actual = per_row(loss, y_true, STUDENT)
    np.testing.assert_allclose(actual, weight * hard + (1 - weight) * soft, rtol=0, atol=bound)


def soft_term_in_float64(y_true, z, temperature, scaled, kind):
    """The formulas of the two kinds, written out."""
    p = np.asarray(y_true, np.float64)[:, z.shape[1] :]
    logarithms = np.log(p) if kind == Kl() else np.zeros_like(p)
    return (temperature**2 if scaled else 1.0) * np.sum(p * (logarithms - log_softmax(z / temperature)), axis=1)


# The scale, the weights of rows, extreme logits


@pytest.mark.parametrize("temperature", [0.3, 2.0, 40.0])
def test_scale_flag_divides_the_soft_term_by_temperature_squared(temperature):
    y_true = targets(LABELS, softmax(TEACHER, temperature))
    scaled = per_row(DistillationLoss(temperature, 0.0), y_true, STUDENT)
    plain = per_row(DistillationLoss(temperature, 0.0, scale_by_temperature_squared=False), y_true, STUDENT)
    np.testing.assert_allclose(scaled, temperature**2 * plain, rtol=4 * ULP)


def test_scale_flag_leaves_the_hard_term_alone():
    y_true = targets(LABELS, softmax(STUDENT, 4.0))  # soft labels that the student already gives: only CE is left
    scaled = per_row(DistillationLoss(4.0, 0.5), y_true, STUDENT)
    plain = per_row(DistillationLoss(4.0, 0.5, scale_by_temperature_squared=False), y_true, STUDENT)
    expected = -0.5 * log_softmax(STUDENT)[range(3), LABELS]
    np.testing.assert_allclose(scaled, expected, rtol=0, atol=16 * 64 * ULP)
    np.testing.assert_allclose(plain, expected, rtol=0, atol=64 * ULP)


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_sample_weights_reach_both_terms(weight):
    y_true = targets(LABELS, softmax(TEACHER, 4.0))
    row_weights = np.array([0.0, 1.0, 5.0])
    actual = DistillationLoss(4.0, weight, reduction="none")(
        y_true, STUDENT.astype(np.float32), sample_weight=row_weights.astype(np.float32)
    ).numpy()
    expected = row_weights * reference(y_true, STUDENT, 4.0, weight)
    assert actual[0] == 0.0
    np.testing.assert_allclose(actual, expected, rtol=0, atol=5 * rounding_bound(STUDENT, 4.0, weight, True))


def test_the_reduced_loss_is_the_mean_over_rows():
    y_true = targets(LABELS, softmax(TEACHER, 4.0))
    actual = float(DistillationLoss(4.0, 0.3)(y_true, STUDENT.astype(np.float32)))
    assert actual == pytest.approx(np.mean(reference(y_true, STUDENT, 4.0, 0.3)), abs=1e-5)


def test_saturated_logits_keep_their_value_and_their_gradient():
    # p = (1, 0) against z = (-40, 40): -log softmax(z)_0 = ln(1 + e^80) = 80 to within e^-80.
    # The gradient is softmax(z) - p = (e^-80 - 1, 1 - e^-80) = (-1, 1).
    loss, y_true, z = DistillationLoss(1.0, 0.0), [[0, 1, 1.0, 0.0]], [[-40.0, 40.0]]
    assert per_row(loss, y_true, z) == pytest.approx([80.0], rel=4 * ULP)
    np.testing.assert_allclose(gradient(loss, y_true, z), [[-1.0, 1.0]], rtol=0, atol=4 * ULP)
    # What this guards against: Keras' own clips the student's probability at 1e-7, -ln 1e-7 = 16.118.
    clipped = keras.losses.KLDivergence()(np.array([[1.0, 0.0]]), softmax(z)).numpy()
    assert clipped == pytest.approx(16.118, abs=0.01)


def test_teacher_and_student_saturated_alike_agree():
    soft = softmax([[40.0, -40.0]]).astype(np.float32)
    assert per_row(DistillationLoss(1.0, 0.0), targets([0], soft), [[40.0, -40.0]])[0] == 0.0


@pytest.mark.parametrize("smallest", [0.0, 1e-45, 1e-38, 2e-38])
def test_soft_labels_of_zero_and_below_normal_numbers(smallest):
    # 0 ln 0 is 0, and so, to within 1e-36, is 1e-38 ln 1e-38: only p = 1 counts, against q = 1/3: ln 3.
    soft = np.array([[1.0, smallest, 0.0]], np.float32)
    for kl in (kl_divergence, tf.function(kl_divergence)):
        assert kl(tf.constant(soft), tf.zeros((1, 3))).numpy() == pytest.approx([np.log(3.0)], rel=8 * ULP)
    # Gradient of the soft term at T = 1: softmax(z) - p.
    actual = gradient(DistillationLoss(1.0, 0.0), targets([0], soft), np.zeros((1, 3)))
    np.testing.assert_allclose(actual, [[-2 / 3, 1 / 3, 1 / 3]], rtol=0, atol=8 * ULP)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_loss_equals_the_float64_reference(data):
    classes, rows = data.draw(st.integers(2, 6)), data.draw(st.integers(1, 4))
    size = classes * rows
    logit = st.floats(-30, 30, width=32)
    z, v = (
        np.array(data.draw(st.lists(logit, min_size=size, max_size=size)), np.float32).reshape(rows, classes)
        for _ in "zv"
    )
    temperature = data.draw(st.floats(0.3, 40.0))
    weight = data.draw(st.floats(0.0, 1.0))
    scaled = data.draw(st.booleans())
    labels = data.draw(st.lists(st.integers(0, classes - 1), min_size=rows, max_size=rows))
    shifted = v.astype(np.float64) - v.max(axis=1, keepdims=True)
    y_true = targets(labels, softmax(shifted, temperature))
    actual = per_row(DistillationLoss(temperature, weight, scaled), y_true, z)
    expected = reference(y_true, z, temperature, weight, scaled)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=rounding_bound(z, temperature, weight, scaled))


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(logits=st.lists(st.floats(-20, 20, width=32), min_size=8, max_size=8))
def test_kl_divergence_is_never_negative(logits):
    # Gibbs' inequality, up to rounding and up to how far the rounded p misses a sum of 1.
    v, z = np.array(logits, np.float32).reshape(2, 1, 4)
    divergence = kl_divergence(tf.constant(softmax(v), tf.float32), tf.constant(z)).numpy()
    assert divergence[0] >= -rounding_bound(z, 1.0, 0.0, True)


# Every kind of soft loss

KINDS = [
    Kl(),
    CrossEntropy(),
    JensenShannon(),
    SquaredError(),
    Decoupled(),
    Relations(),
    Standardised(),
    TeachersChoice(),
]
"""Of `distill.loss`, with the parameters that each has by default."""


def given_to(loss, labels=LABELS):
    """Targets as the loss needs them."""
    of_teacher = softmax(TEACHER, loss.temperature) if loss.needs == "probabilities" else TEACHER
    return targets(labels, of_teacher)


def test_standardised_logits_before_dkd_by_hand():
    """Standardised, then divided by T, they are what DKD takes; its own T is 1 then, and the whole is scaled by T^2."""

    def standardised(logits):
        return (logits - logits.mean(axis=1, keepdims=True)) / logits.std(axis=1, keepdims=True) / 2.0

    found = DistillationLoss(2.0, 0.0, soft_loss=Standardised(before="dkd", alpha=0.5, beta=3.0))
    dkd = DistillationLoss(1.0, 0.0, soft_loss=Decoupled(alpha=0.5, beta=3.0))
    expected = 4 * per_row(dkd, targets(LABELS, standardised(TEACHER)), standardised(STUDENT))
    assert per_row(found, targets(LABELS, TEACHER), STUDENT) == pytest.approx(expected, rel=1e-5)


def test_weights_are_those_of_the_papers_by_default():
    """Zhao et al., 2022 (CIFAR-100: alpha 1, beta 8), and Huang et al., 2022 (beta and gamma 1)."""
    assert (Decoupled().alpha, Decoupled().beta) == Standardised(before="dkd").weights == (1.0, 8.0)
    assert (Relations().beta, Relations().gamma) == (1.0, 1.0)


def test_every_kind_is_tried():
    assert {kind.kind for kind in KINDS} == set(descriptions.KINDS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_with_its_scale_no_gradient_falls_with_t(kind):
    """Without T^2, those of divergences would be a quarter. Logits / T are at most 1 / 50 there."""
    sizes = []
    for temperature in (200.0, 400.0):
        loss = DistillationLoss(temperature, 0.0, soft_loss=kind)
        sizes.append(np.abs(gradient(loss, given_to(loss), STUDENT)).max())
    assert sizes[1] == pytest.approx(sizes[0], rel=0.05)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_the_soft_term_alone_learns_from_unlabelled_rows(kind):
    loss = DistillationLoss(4.0, 0.25, soft_loss=kind)
    y_true = without_label(given_to(loss), [0, 2])
    soft = loss.soft_term(tf.constant(y_true), tf.constant(STUDENT, tf.float32)).numpy()
    assert (soft > 0).all()
    found = per_row(loss, y_true, STUDENT)
    np.testing.assert_allclose(found[[0, 2]], 0.75 * soft[[0, 2]], rtol=4 * ULP)
    assert found[1] == pytest.approx(0.75 * soft[1] + 0.25 * -log_softmax(STUDENT)[1, LABELS[1]], rel=1e-6)
    assert np.abs(gradient(loss, y_true, STUDENT)).max(axis=1).all()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if isinstance(kind, Softened)], ids=lambda kind: kind.kind)
def test_the_student_may_have_a_temperature_of_its_own(kind):
    """It divides the student's logits in place of T, and its square is the scale."""
    loss = DistillationLoss(4.0, 0.0, soft_loss=replace(kind, student_temperature=2))
    twice = DistillationLoss(4.0, 0.0, soft_loss=kind)
    y_true = given_to(loss)
    z = 2 * STUDENT if kind.kind != "logit_standardization" else STUDENT
    found, expected = per_row(loss, y_true, STUDENT), per_row(twice, y_true, z)
    if kind.kind == "logit_standardization":  # which takes the size of logits away before it divides
        assert (np.abs(found - expected) > 0.01).any()
    else:
        np.testing.assert_allclose(found, expected / (4 if kind.is_scaled else 1), rtol=1e-5)


@pytest.mark.parametrize(("last", "expected"), [(2.0, [8.0, 6.0, 4.0, 2.0]), (8.0, [8.0] * 4)])
def test_a_temperature_goes_in_equal_steps(last, expected):
    loss, y_true = DistillationLoss(8.0, 0.0, last_temperature=last), targets(LABELS, TEACHER)
    for epoch, temperature in enumerate(expected):
        loss.at_epoch(epoch, 4)
        fixed = DistillationLoss(temperature, 0.0)
        given = y_true if loss.needs == "logits" else targets(LABELS, softmax(TEACHER, temperature))
        found = per_row(loss, given, STUDENT)
        same = per_row(fixed, targets(LABELS, softmax(TEACHER, temperature)), STUDENT)
        np.testing.assert_allclose(found, same, rtol=1e-5)


def test_a_compiled_step_follows_the_temperature():
    loss, y_true = DistillationLoss(8.0, 0.0, last_temperature=2.0), tf.constant(targets(LABELS, TEACHER))
    step = tf.function(lambda z: loss.call(y_true, z))
    z = tf.constant(STUDENT, tf.float32)
    first = step(z).numpy()
    loss.at_epoch(1, 2)
    second = step(z).numpy()
    np.testing.assert_allclose(second, loss.call(y_true, z).numpy(), rtol=1e-6)
    assert (np.abs(first - second) > 0.01).all()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_every_kind_survives_being_saved(kind):
    loss = DistillationLoss(8.0, 0.3, soft_loss=replace(kind, hard_label_weight=0.3), last_temperature=2.0)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert again.get_config() == loss.get_config()
    assert (again.soft_loss, again.course, again.needs) == (loss.soft_loss, loss.course, loss.needs)


# As Keras saves it


@pytest.mark.parametrize(
    ("scaled", "kind", "reduction"),
    [(True, Kl(), "sum_over_batch_size"), (False, CrossEntropy(hard_label_weight=0.2, student_temperature=3), "sum")],
)
def test_a_loss_that_was_saved_is_the_same_loss(scaled, kind, reduction):
    loss = DistillationLoss(2.5, 0.3, scaled, kind, name="mine", reduction=reduction)
    assert loss.get_config() == {
        "name": "mine",
        "reduction": reduction,
        "temperature": 2.5,
        "hard_label_weight": 0.3,
        "scale_by_temperature_squared": scaled,
        "soft_loss": asdict(kind),
        "last_temperature": None,
        "label_smoothing": 0.0,
        "class_weights": None,
    }
    y_true, z = targets(LABELS, softmax(TEACHER, 2.5)), STUDENT.astype(np.float32)
    for again in (
        DistillationLoss.from_config(loss.get_config()),
        keras.losses.deserialize(keras.losses.serialize(loss)),
    ):
        assert isinstance(again, DistillationLoss)
        assert again.get_config() == loss.get_config()
        assert again(y_true, z).numpy() == loss(y_true, z).numpy()


def test_a_compiled_model_learns_the_teachers_probabilities():
    # One logit vector is the whole model: gradient descent on the soft term must end at softmax(z) = p.
    soft = np.tile(np.array([0.7, 0.2, 0.1], np.float32), (60, 1))
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(3, use_bias=False, kernel_initializer="zeros")])
    model.compile(keras.optimizers.SGD(3.0), DistillationLoss(1.0, 0.0))
    model.fit(np.ones((60, 1)), targets([2] * 60, soft), batch_size=1, shuffle=False, verbose=0)
    np.testing.assert_allclose(softmax(model.get_weights()[0])[0], [0.7, 0.2, 0.1], rtol=0, atol=1e-4)
