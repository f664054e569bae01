"""Metrics against hand-computed numbers, brute force, and scikit-learn."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, f1_score, log_loss, recall_score

from pipeline.evaluation import dvc_plots, metrics

# Four images of two classes, as probabilities that were worked with by hand.
#   image  p(HP)  p(SSA)  label  predicted  right  confidence
#     0     0.9    0.1     HP       HP       yes      0.9
#     1     0.6    0.4     SSA      HP       no       0.6
#     2     0.3    0.7     HP       SSA      no       0.7
#     3     0.2    0.8     SSA      SSA      yes      0.8
PROBABILITIES = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.2, 0.8]])
LOGITS = np.log(PROBABILITIES) + np.array([[3.0], [-2.0], [0.0], [7.0]])  # a constant a row means nothing
LABELS = np.array([0, 1, 0, 1])
# A teacher that chooses HP, HP, SSA, HP, each with 3/4.
TEACHER = np.log(np.array([[0.75, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.25]]))
TEACHER_KL = (0.09233151 + 0.04985675 + 0.00616426 + 0.70052918) / 4


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def pair_count(scores, positive):
    """AUC as its definition: how often a positive outranks a negative, ties counting half."""
    pairs = list(itertools.product(scores[positive], scores[~positive]))
    wins = sum(1.0 if p - n > 1e-12 else 0.5 if abs(p - n) <= 1e-12 else 0.0 for p, n in pairs)
    return wins / len(pairs)


def one_against_rest(logits, labels):
    probabilities = softmax(logits)
    return np.mean([pair_count(probabilities[:, k], labels == k) for k in range(logits.shape[1])])


# Numbers worked out by hand


def test_accuracy_by_hand():
    assert metrics.accuracy(LOGITS, LABELS) == 2 / 4


def test_negative_log_likelihood_by_hand():
    # -(ln 0.9 + ln 0.4 + ln 0.3 + ln 0.8) / 4 = (0.10536052 + 0.91629073 + 1.20397280 + 0.22314355) / 4
    assert metrics.negative_log_likelihood(LOGITS, LABELS) == pytest.approx(0.6121919, abs=1e-7)


def test_brier_score_by_hand():
    # Both classes miss by the same: 2 (0.1^2 + 0.6^2 + 0.7^2 + 0.2^2) / 4 = 2 * 0.90 / 4
    assert metrics.brier_score(LOGITS, LABELS) == pytest.approx(0.45, abs=1e-12)


def test_brier_score_of_three_classes_by_hand():
    # p = (0.5, 0.3, 0.2), label 2: 0.25 + 0.09 + 0.64 = 0.98; label 0: 0.25 + 0.09 + 0.04 = 0.38
    logits = np.log([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]])
    assert metrics.brier_score(logits, np.array([2, 0])) == pytest.approx((0.98 + 0.38) / 2, abs=1e-12)


def test_area_under_roc_curve_by_hand():
    # p(SSA): positives 0.4 and 0.8, negatives 0.1 and 0.7. 0.4 beats 0.1 only, 0.8 beats both: 3 of 4 pairs.
    assert metrics.area_under_roc_curve(LOGITS, LABELS) == 3 / 4


def test_expected_calibration_error_by_hand():
    # Every image is alone in its bin: (|1 - 0.9| + |0 - 0.6| + |0 - 0.7| + |1 - 0.8|) / 4 = 1.6 / 4
    assert metrics.expected_calibration_error(LOGITS, LABELS) == pytest.approx(0.4, abs=1e-12)


def test_expected_calibration_error_of_shared_bins_by_hand():
    # Bin 13 of 15 is (0.8667, 0.9333]: confidences 0.88, 0.90, 0.93 with 2 of 3 right: |2/3 - 2.71/3| = 0.71/3.
    # Bin 9 is (0.6, 0.6667]: confidences 0.62 and 0.66, none right: |0 - 0.64| = 0.64.
    # (3 * 0.71/3 + 2 * 0.64) / 5 = (0.71 + 1.28) / 5 = 0.398
    confidence = np.array([0.88, 0.90, 0.93, 0.62, 0.66])
    logits = np.log(np.column_stack([confidence, 1 - confidence]))
    labels = np.array([0, 0, 1, 1, 1])
    assert metrics.expected_calibration_error(logits, labels) == pytest.approx(0.398, abs=1e-12)


def test_calibration_error_of_an_honest_classifier_is_zero():
    # 4 images at 0.75, of which 3 are right.
    logits = np.log(np.tile([0.75, 0.25], (4, 1)))
    assert metrics.expected_calibration_error(logits, np.array([0, 0, 0, 1])) == pytest.approx(0.0, abs=1e-12)


def test_mean_kl_divergence_by_hand():
    # (3/4, 1/4) against (0.9, 0.1): 3/4 ln(0.75/0.9) + 1/4 ln(0.25/0.1) = -0.13674117 + 0.22907268 = 0.09233151
    # (3/4, 1/4) against (0.6, 0.4): 3/4 ln(0.75/0.6) + 1/4 ln(0.25/0.4) = 0.16735766 - 0.11750091 = 0.04985675
    # (1/4, 3/4) against (0.3, 0.7): 1/4 ln(0.25/0.3) + 3/4 ln(0.75/0.7) = -0.04558039 + 0.05174465 = 0.00616426
    # (3/4, 1/4) against (0.2, 0.8): 3/4 ln(0.75/0.2) + 1/4 ln(0.25/0.8) = 0.99131688 - 0.29078770 = 0.70052918
    assert metrics.mean_kl_divergence(LOGITS, TEACHER) == pytest.approx(TEACHER_KL, abs=1e-8)


def test_agreement_by_hand():
    # A teacher that chooses HP, SSA, SSA, HP where the model chooses HP, HP, SSA, SSA.
    teacher = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0], [5.0, 4.0]])
    assert metrics.agreement(LOGITS, teacher) == 2 / 4
    assert metrics.agreement(LOGITS, LOGITS * 0.1 - 3.0) == 1.0


def test_summary_puts_each_number_under_its_name():
    summary = metrics.summarise(LOGITS, LABELS, TEACHER)
    assert summary == pytest.approx(
        {
            "accuracy": 0.5,
            "balanced_accuracy": 0.5,
            "auc": 0.75,
            "f1": 0.5,  # TP 1, FP 1, FN 1
            "sensitivity": 0.5,
            "specificity": 0.5,
            "nll": 0.6121919,
            "brier": 0.45,
            "ece": 0.4,
            "teacher_agreement": 0.75,  # the model chooses HP, HP, SSA, SSA
            "teacher_kl": TEACHER_KL,
        },
        abs=1e-7,
    )
    assert all(type(value) is float for value in summary.values())


# Classes of unequal size

UNEQUAL = np.array([0, 0, 0, 0, 0, 0, 1, 1, 2, 2])
CHOSEN = np.array([0, 0, 0, 0, 0, 1, 1, 0, 0, 1])
"""Found: 5 of 6, 1 of 2, none of 2."""


def test_recalls_and_balanced_accuracy_by_hand():
    logits = np.eye(3)[CHOSEN]
    np.testing.assert_allclose(metrics.recalls(logits, UNEQUAL), [5 / 6, 1 / 2, 0])
    assert metrics.balanced_accuracy(logits, UNEQUAL) == pytest.approx((5 / 6 + 1 / 2) / 3)
    assert metrics.accuracy(logits, UNEQUAL) == 0.6


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_balanced_accuracy_and_f1_equal_scikit_learn(classes):
    random = np.random.default_rng(classes)
    labels = np.append(
        np.arange(classes), random.choice(classes, 90, p=np.arange(1, classes + 1) / np.arange(1, classes + 1).sum())
    )
    logits = random.normal(0, 1, (len(labels), classes)) + np.eye(classes)[labels]
    chosen = logits.argmax(axis=1)
    assert metrics.balanced_accuracy(logits, labels) == pytest.approx(balanced_accuracy_score(labels, chosen))
    np.testing.assert_allclose(metrics.recalls(logits, labels), recall_score(labels, chosen, average=None))
    if classes == 2:
        assert metrics.f1_score(logits, labels) == pytest.approx(f1_score(labels, chosen))
        summary = metrics.summarise(logits, labels, logits)
        assert summary["sensitivity"] == pytest.approx(recall_score(labels, chosen))
        assert summary["specificity"] == pytest.approx(recall_score(labels, chosen, pos_label=0))


def test_f1_of_one_error_of_each_kind_by_hand():
    """TP 3, FN 1, FP 2: 6 / (6 + 1 + 2); the true negatives do not count."""
    labels, chosen = np.repeat([1, 1, 0, 0], [3, 1, 2, 9]), np.repeat([1, 0, 1, 0], [3, 1, 2, 9])
    assert metrics.f1_score(np.eye(2)[chosen], labels) == pytest.approx(6 / 9)


def test_metrics_of_two_classes_are_not_there_for_three():
    summary = metrics.summarise(np.eye(3)[CHOSEN], UNEQUAL, np.eye(3)[CHOSEN])
    assert summary.keys().isdisjoint({"f1", "sensitivity", "specificity"})
    assert "balanced_accuracy" in summary


def test_a_class_without_images_leaves_out_what_is_not_defined():
    """Without class 2: recalls 5/6 and 1/2. The areas of the other classes against the rest are left."""
    logits, labels = np.eye(3)[CHOSEN[:8]], UNEQUAL[:8]
    summary = metrics.summarise(logits, labels, logits)
    assert math.isnan(metrics.recalls(logits, labels)[2])
    assert summary["balanced_accuracy"] == pytest.approx((5 / 6 + 1 / 2) / 2)
    # Class 0: positives 5 of 6 score high, negatives 1 of 2. Class 1: 1 of 2, and 1 of 6. Ties count half.
    assert summary["auc"] == pytest.approx(
        (pair_count(logits[:, 0], labels == 0) + pair_count(logits[:, 1], labels == 1)) / 2
    )


@pytest.mark.parametrize(
    ("label", "there", "missing"), [(0, "specificity", "sensitivity"), (1, "sensitivity", "specificity")]
)
def test_a_single_class_has_no_area_and_one_recall(label, there, missing):
    logits = np.eye(2)[[0, 1, 1, 1]]
    summary = metrics.summarise(logits, np.full(4, label), logits)
    assert summary[there] == (0.25, 0.75)[label]
    assert summary.keys().isdisjoint({missing, "auc"})
    assert ("f1" in summary) == (label == 1)


# Area under the ROC curve


def test_auc_of_a_tie_counts_half():
    # Positives score 1 and 2, negatives 1 and 0: (half + 1 + 1 + 1) / 4 = 0.875
    logits = np.array([[0.0, 1.0], [0.0, 2.0], [0.0, 1.0], [0.0, 0.0]])
    assert metrics.area_under_roc_curve(logits, np.array([1, 1, 0, 0])) == 0.875


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(margins=st.lists(st.integers(-3, 3), min_size=4, max_size=25), data=st.data())
def test_auc_of_two_classes_equals_the_pair_count(margins, data):
    labels = np.array([0, 1, *data.draw(st.lists(st.integers(0, 1), min_size=len(margins) - 2, max_size=25))])
    margins = np.array(margins[: len(labels)] + [0] * (len(labels) - len(margins)), np.float32)
    logits = np.column_stack([-margins / 2, margins / 2]).astype(np.float32)
    assert metrics.area_under_roc_curve(logits, labels) == pytest.approx(pair_count(margins, labels == 1), abs=1e-12)


def test_auc_of_three_classes_equals_the_pair_count_with_ties():
    # Every triple of the logits 0, 1, 2: many share a probability of a class, by equal and by permuted logits.
    logits = np.array(list(itertools.product([0.0, 1.0, 2.0], repeat=3)))
    labels = (np.arange(27) * 5 + np.arange(27) // 9) % 3
    expected = one_against_rest(logits, labels)
    assert 0.1 < expected < 0.9
    assert metrics.area_under_roc_curve(logits, labels) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("classes", [3, 5])
def test_auc_of_random_logits_equals_the_pair_count(classes):
    generator = np.random.default_rng(classes)
    logits = generator.normal(0, 2, (60, classes)).astype(np.float32)
    labels = np.append(np.arange(classes), generator.integers(classes, size=60 - classes))
    found = metrics.area_under_roc_curve(logits, labels)
    assert found == pytest.approx(one_against_rest(logits.astype(np.float64), labels), abs=1e-12)


def test_every_class_weighs_the_same_however_rare():
    logits = np.log(
        [[0.90, 0.06, 0.04], [0.40, 0.55, 0.05], [0.30, 0.60, 0.10], [0.20, 0.79, 0.01], [0.94, 0.03, 0.03]]
    )
    labels = np.array([0, 2, 2, 2, 1])
    # Class 0: 0.90 against 0.40, 0.30, 0.20, 0.94: 3/4. Class 1: 0.03 against 0.06, 0.55, 0.60, 0.79: 0.
    # Class 2: 0.05 and 0.10 beat both of 0.04 and 0.03, 0.01 neither: 4/6. (3/4 + 0 + 2/3) / 3 = 17/36.
    # Weighed by the number of images it would be 0.55.
    assert metrics.area_under_roc_curve(logits, labels) == pytest.approx(17 / 36, abs=1e-12)


def test_auc_ranks_saturated_logits():
    # float64 softmax gives 1.0 for each of these margins: ranked by probability, the AUC would be 0.5.
    logits = np.array([[0.0, 40.0], [0.0, 50.0], [0.0, 60.0]], np.float32)
    assert set(softmax(logits.astype(np.float64))[:, 1]) == {1.0}
    assert metrics.area_under_roc_curve(logits, np.array([0, 1, 1])) == 1.0
    assert metrics.area_under_roc_curve(logits, np.array([1, 0, 0])) == 0.0
    # The middle one positive beats one of two.
    assert metrics.area_under_roc_curve(logits, np.array([0, 1, 0])) == 0.5


def test_auc_ranks_saturated_logits_of_three_classes():
    # p of the first class is 1 - e^-40, 1 - e^-50, 1 - e^-60; of the second and third e^-40 ... tiny, but apart.
    logits = np.array([[40.0, 0.0, -5.0], [50.0, 0.0, -5.0], [60.0, 0.0, -5.0]])
    # Class 0: positive 60 beats both, 1. Class 1: positive 40 (largest p of class 1) beats both, 1.
    # Class 2: positive 50 beats one of two, 1/2.
    assert metrics.area_under_roc_curve(logits, np.array([1, 2, 0])) == pytest.approx(2.5 / 3, abs=1e-12)


def test_auc_ignores_a_constant_on_each_image():
    # Margins in steps of 1/8, so that the constants lose no digits.
    logits = np.array([[0.125, 0.5], [1.0, 0.25], [-0.5, 0.375], [0.75, 0.875], [0.0, -0.25]], np.float32)
    labels = np.array([0, 1, 1, 0, 1])
    shifted = logits + np.array([[128.0], [-64.0], [512.0], [0.0], [-256.0]], np.float32)
    assert metrics.area_under_roc_curve(shifted, labels) == metrics.area_under_roc_curve(logits, labels)


# Likelihood, Brier score, KL


@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
def test_nll_of_the_uniform_distribution_is_log_of_the_classes(classes):
    logits = np.full((5, classes), 7.25, np.float32)
    assert metrics.negative_log_likelihood(logits, np.arange(5) % classes) == pytest.approx(np.log(classes), rel=1e-14)


@pytest.mark.parametrize("classes", [2, 6])
def test_nll_and_brier_equal_scikit_learn(classes):
    generator = np.random.default_rng(11)
    logits = generator.normal(0, 3, (80, classes))
    labels = np.append(np.arange(classes), generator.integers(classes, size=80 - classes))
    probabilities = softmax(logits)
    assert metrics.negative_log_likelihood(logits, labels) == pytest.approx(log_loss(labels, probabilities), rel=1e-12)
    if classes == 2:  # scikit-learn counts one of the two classes only
        expected = 2 * brier_score_loss(labels, probabilities[:, 1])
    else:
        expected = np.mean([brier_score_loss(labels == k, probabilities[:, k]) for k in range(classes)]) * classes
    assert metrics.brier_score(logits, labels) == pytest.approx(expected, rel=1e-12)


def test_nll_of_huge_logits_is_exact():
    # -ln p = ln(1 + e^10000) = 10000, where a probability would be 0 and its logarithm infinite.
    logits = np.array([[0.0, 1e4], [1e4, 0.0]], np.float32)
    assert metrics.negative_log_likelihood(logits, np.array([0, 0])) == 5e3


@pytest.mark.parametrize(("margin", "expected"), [(1000.0, 0.0), (-1000.0, 2.0), (0.0, 0.5)])
def test_brier_score_runs_from_zero_to_two(margin, expected):
    # Certain and right 0; certain and wrong (1 - 0)^2 + (0 - 1)^2 = 2; undecided 2 * 0.5^2.
    assert metrics.brier_score(np.array([[margin, 0.0]]), np.array([0])) == pytest.approx(expected, abs=1e-15)


def test_kl_of_a_model_to_itself_is_zero():
    logits = np.random.default_rng(2).normal(0, 4, (30, 5)).astype(np.float32)
    assert metrics.mean_kl_divergence(logits, logits) == 0.0
    shift = np.arange(30, dtype=np.float64)[:, None] * 8 - 100
    assert metrics.mean_kl_divergence(logits + shift, logits) == pytest.approx(0.0, abs=1e-12)


def test_kl_of_saturated_logits_is_exact():
    # Teacher sure of class 0, student sure of class 1 by 40: KL = ln(1 + e^40) = 40 to within e^-40.
    assert metrics.mean_kl_divergence(np.array([[0.0, 40.0]]), np.array([[1000.0, 0.0]])) == pytest.approx(40.0)


def test_log_softmax_is_float64_and_normalised():
    logits = np.array([[1e4, 1e4 - 1, -1e4]], np.float32)
    found = metrics.log_softmax(logits)
    assert found.dtype == np.float64
    # 1e4 and 1e4 - 1: -ln(1 + e^-1) = -0.31326169, one less for the second, 20000 less for the third.
    np.testing.assert_allclose(found, [[-0.31326169, -1.31326169, -20000.31326169]], rtol=0, atol=1e-8)


# Calibration


def test_reliability_has_a_row_for_each_bin_that_holds_images():
    # The five images of the shared-bin test above.
    confidence = np.array([0.88, 0.90, 0.93, 0.62, 0.66])
    logits = np.log(np.column_stack([confidence, 1 - confidence]))
    table = metrics.reliability(logits, np.array([0, 0, 1, 1, 1]))
    assert list(table.columns) == ["bin", "confidence", "accuracy", "images"]
    assert table["bin"].tolist() == [9, 13]
    assert table["images"].tolist() == [2, 3]
    assert table["accuracy"].tolist() == [0.0, pytest.approx(2 / 3)]
    assert table["confidence"].tolist() == [pytest.approx(0.64), pytest.approx(2.71 / 3)]


@pytest.mark.parametrize(
    ("classes", "bins", "expected"),
    [
        (2, 15, 7),  # 1/2 lies inside (7/15, 8/15]
        (3, 15, 4),  # 1/3 = 5/15 is the upper edge of (4/15, 5/15]
        (5, 15, 2),  # 1/5 = 3/15
        (2, 2, 0),  # 1/2 is the upper edge of (0, 1/2]
        (2, 4, 1),
        (1000, 15, 0),
    ],
)
def test_a_confidence_on_a_bins_edge_belongs_to_the_bin_below(classes, bins, expected):
    # Equal logits: the confidence is 1 / C.
    table = metrics.reliability(np.zeros((1, classes)), np.array([0]), bins)
    assert table["bin"].tolist() == [expected]


def test_full_confidence_is_in_the_last_bin():
    assert metrics.reliability(np.array([[1000.0, 0.0]]), np.array([0]))["bin"].tolist() == [14]


def test_calibration_error_keeps_edge_and_next_bin_apart():
    # 0.6 = 9/15 closes bin 8 and 0.61 lies in bin 9: (|0 - 0.6| + |1 - 0.61|) / 2 = 0.495.
    # In one bin they would give |0.5 - 0.605| = 0.105.
    logits = np.log(np.array([[0.6, 0.4], [0.61, 0.39]]))
    assert metrics.expected_calibration_error(logits, np.array([1, 0])) == pytest.approx(0.495, abs=1e-12)


def test_one_bin_reduces_the_error_to_the_gap_of_the_means():
    # Mean confidence (0.9 + 0.6 + 0.7 + 0.8) / 4 = 0.75, accuracy 0.5.
    assert metrics.expected_calibration_error(LOGITS, LABELS, bins=1) == pytest.approx(0.25, abs=1e-12)


# Tables behind the plots


def test_confusion_names_what_is_and_what_was_said():
    table = dvc_plots.confusion(LOGITS, LABELS, ["HP", "SSA"])
    assert table.to_dict("list") == {
        "actual": ["HP", "SSA", "HP", "SSA"],
        "predicted": ["HP", "HP", "SSA", "SSA"],
        "actual_index": [0, 1, 0, 1],
        "predicted_index": [0, 0, 1, 1],
    }


def test_roc_points_by_hand():
    # Falling p(SSA): 0.8 positive, 0.7 negative, 0.4 positive, 0.1 negative.
    table = dvc_plots.roc_points(LOGITS, LABELS, ["HP", "SSA"])
    assert set(table["class"]) == {"SSA"}
    points = list(zip(table["false_positive_rate"], table["true_positive_rate"], strict=True))
    assert points == [(0.0, 0.0), (0.0, 0.5), (0.5, 0.5), (0.5, 1.0), (1.0, 1.0)]


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_roc_points_span_the_square_and_enclose_the_auc(classes):
    generator = np.random.default_rng(classes)
    logits = generator.integers(-3, 4, (50, classes)).astype(np.float32)  # with ties
    labels = np.append(np.arange(classes), generator.integers(classes, size=50 - classes))
    names = [f"class {k}" for k in range(classes)]
    table = dvc_plots.roc_points(logits, labels, names)
    assert list(table.columns) == ["class", "false_positive_rate", "true_positive_rate"]
    assert table.index.tolist() == list(range(len(table)))
    areas = []
    for _, curve in table.groupby("class"):
        x, y = curve["false_positive_rate"].to_numpy(), curve["true_positive_rate"].to_numpy()
        assert (x[0], y[0], x[-1], y[-1]) == (0.0, 0.0, 1.0, 1.0)
        assert (np.diff(x) >= 0).all()
        assert (np.diff(y) >= 0).all()
        areas.append(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))
    assert list(table["class"].unique()) == (["class 1"] if classes == 2 else names)
    assert np.mean(areas) == pytest.approx(metrics.area_under_roc_curve(logits, labels), abs=1e-12)
    probabilities = softmax(logits.astype(np.float64))
    expected = pair_count(probabilities[:, -1], labels == classes - 1)
    assert areas[-1] == pytest.approx(expected, abs=1e-12)


# Over seeds


def test_mean_and_sample_deviation_over_seeds_by_hand():
    found = metrics.over_seeds([{"a": 1.0, "b": 0.5}, {"a": 2.0, "b": 0.5}, {"a": 6.0, "b": 0.5}])
    assert found == {"a": {"mean": 3.0, "std": pytest.approx(7**0.5)}, "b": {"mean": 0.5, "std": 0.0}}
    assert list(found) == ["a", "b"]


def test_one_seed_has_a_mean_only():
    assert metrics.over_seeds([{"a": 0.25}]) == {"a": {"mean": 0.25}}


def test_a_metric_is_over_the_seeds_that_have_it():
    found = metrics.over_seeds([{}, {"a": 1.0}, {"a": 3.0, "b": 4.0}])
    assert found == {"a": {"mean": 2.0, "std": pytest.approx(2**0.5)}, "b": {"mean": 4.0}}
    assert metrics.over_seeds([{}]) == {}
