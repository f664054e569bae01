"""Intervals against closed forms, DeLong's variance, Wilson's published limits, and simulated experiments."""

import numpy as np
import pytest
from scipy import special, stats

from pipeline.evaluation import contributions as module
from pipeline.evaluation.contributions import FEWEST_OF_A_CLASS, contributions
from pipeline.evaluation.metrics import summarise
from pipeline.evaluation.uncertainty import (
    interval_of,
    interval_of_difference,
    share_interval,
    share_interval_of_counts,
)


def scores(images, classes, ties=False):
    random = np.random.default_rng(11)
    labels = random.integers(0, classes, images)
    logits = random.normal(0, 1, (images, classes)) + 1.5 * np.eye(classes)[labels]
    return (np.round(logits) if ties else logits), labels, random.normal(0, 2, (images, classes))


def interval(values):
    """Of a plain mean: one that is no share and no area."""
    values = np.asarray(values, float)
    return interval_of_difference("nll", values, np.zeros(values.shape[1], int))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_contributions_are_those_of_the_metrics(classes, ties):
    logits, labels, teacher = scores(500, classes, ties)
    parts, metrics = contributions(logits, labels, teacher), summarise(logits, labels, teacher)
    assert parts.keys() == metrics.keys() - {"ece"}
    of_one_class = {"sensitivity": np.sum(labels == 1), "specificity": np.sum(labels == 0)}
    for name, values in parts.items():
        assert values.shape == (of_one_class.get(name, 500),)
        assert values.mean() == pytest.approx(metrics[name], rel=1e-9, abs=1e-12), name


def test_contributions_to_the_auc_by_hand(monkeypatch):
    """Of two positives, 0.9 is above all three negatives and 0.6 above two: A = 5/6; c = A + (share - A) / weight."""
    monkeypatch.setattr(module, "FEWEST_OF_A_CLASS", 2)
    logits = np.log([[0.1, 0.9], [0.4, 0.6], [0.5, 0.5], [0.3, 0.7], [0.9, 0.1]])
    labels = np.array([1, 1, 0, 0, 0])
    of_auc = contributions(logits, labels, logits)["auc"]
    np.testing.assert_allclose(of_auc, [5 / 4, 5 / 12, 10 / 9, 5 / 18, 10 / 9])


def delong_variance(positive, negative):
    """DeLong, DeLong and Clarke-Pearson (1988), equation 4, written out."""
    wins = (positive[:, None] > negative).astype(float) + 0.5 * (positive[:, None] == negative)
    of_positives, of_negatives = wins.mean(axis=1), wins.mean(axis=0)
    return np.var(of_positives, ddof=1) / len(positive) + np.var(of_negatives, ddof=1) / len(negative)


def two_groups(positives, negatives, seed, shift=1.5):
    """Logits and labels of two classes that a margin tells apart, the shift being in its standard deviations."""
    labels = np.repeat([1, 0], [positives, negatives])
    margin = np.random.default_rng(seed).normal(0, 1, positives + negatives) + shift * labels
    return np.stack([np.zeros_like(margin), margin], axis=1), labels


def of_auc(positives, negatives, seed, shift=1.5):
    logits, labels = two_groups(positives, negatives, seed, shift)
    parts = contributions(logits, labels, logits)["auc"]
    return parts.mean(), interval_of("auc", parts[None], labels)


@pytest.mark.parametrize(("positives", "negatives"), [(1500, 1500), (40, 960), (300, 60)])
def test_the_variance_of_an_auc_is_delongs(positives, negatives):
    """Width on the scale of log(A / (1 - A)): twice the quantile times the standard error over A (1 - A)."""
    logits, labels = two_groups(positives, negatives, 3)
    area, (low, high) = of_auc(positives, negatives, 3)
    error = np.sqrt(delong_variance(logits[labels == 1, 1], logits[labels == 0, 1])) / (area * (1 - area))
    reach = (special.logit(high) - special.logit(low)) / 2
    assert stats.t.ppf(0.975, 3000) * error <= reach <= stats.t.ppf(0.975, min(positives, negatives) - 1) * error
    assert special.logit(high) + special.logit(low) == pytest.approx(2 * special.logit(area))


@pytest.mark.parametrize(("positives", "negatives"), [(10, 300), (20, 1000), (12, 12), (200, 200)])
def test_an_auc_interval_holds_the_truth_for_a_rare_class_too(positives, negatives):
    """The truth of two normal distributions is Phi(shift / sqrt(2)); where all are told apart, nothing is said."""
    truth = stats.norm.cdf(1.5 / np.sqrt(2))
    found = [of_auc(positives, negatives, seed)[1] for seed in range(400)]
    told = [ends for ends in found if ends is not None]
    assert len(told) > 380
    assert np.mean([low <= truth <= high for low, high in told]) > 0.9
    assert all(0 < low < high < 1 for low, high in told)


def test_an_auc_of_1_or_of_few_images_has_no_interval():
    logits, labels = two_groups(FEWEST_OF_A_CLASS - 1, 100, 1)
    assert "auc" not in contributions(logits, labels, logits)
    assert of_auc(20, 20, 1, shift=100.0) == (1.0, None)
    perfect = contributions(*two_groups(20, 20, 1, shift=100.0), two_groups(20, 20, 1)[0])["auc"]
    assert interval_of_difference("auc", (perfect - perfect)[None], np.repeat([1, 0], 20)) is None


def test_the_interval_of_one_seed_is_students_over_images():
    values = np.random.default_rng(2).normal(2, 3, 40)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    np.testing.assert_allclose(interval(values[None]), [expected.low, expected.high], rtol=1e-9)


def test_with_equal_images_the_interval_is_student_t_over_seeds():
    """Three seeds, 1, 2 and 6: mean 3, s = sqrt(7), quantile of two degrees of freedom 4.3027."""
    values = np.repeat([[1.0], [2.0], [6.0]], 25, axis=1)
    reach = 4.302652730 * np.sqrt(7 / 3)
    np.testing.assert_allclose(interval(values), [3 - reach, 3 + reach], rtol=1e-8)


def test_what_is_always_the_same_has_no_width():
    assert interval(np.full((3, 7), 0.25)) == [0.25, 0.25]


def of_share(values):
    return interval_of("accuracy", values, np.zeros(values.shape[1], int))


def test_a_share_of_all_images_has_a_width():
    """Wilson's limits of n of n: n / (n + z^2) and 1; of none 0 and z^2 / (n + z^2)."""
    square = 1.959963985**2
    np.testing.assert_allclose(of_share(np.ones((1, 10))), [10 / (10 + square), 1], rtol=1e-8)
    np.testing.assert_allclose(of_share(np.zeros((1, 10))), [0, square / (10 + square)], atol=1e-9)


@pytest.mark.parametrize("right", [3, 50, 97])
def test_the_interval_of_a_share_is_wilsons(right):
    values = (np.arange(1000) < 10 * right).astype(float)
    expected = stats.binomtest(10 * right, 1000).proportion_ci(method="wilson")
    np.testing.assert_allclose(of_share(values[None]), [expected.low, expected.high], atol=2e-4)


def test_a_loss_is_not_below_zero_but_a_difference_may_be():
    values = np.array([[0.0, 0.0, 0.0, 0.1]])
    assert interval_of("nll", values, np.zeros(4, int))[0] == 0.0
    assert interval(values)[0] < 0


def of_gain(values):
    return interval_of_difference("accuracy", values, np.zeros(values.shape[1], int))


def test_where_no_two_answers_differ_the_difference_has_a_width():
    """Of ten images: the two that are added weigh a half each, so that the variance of the mean is (1 / 10) / 11."""
    reach = stats.t.ppf(0.975, 10) * np.sqrt(1 / 110)
    np.testing.assert_allclose(of_gain(np.zeros((1, 10))), [-reach, reach])


@pytest.mark.parametrize("images", [20, 50, 150, 1000])
def test_a_gain_holds_the_truth_even_where_few_images_tell_of_it(images):
    """The student alone is right on 3 of 100 images, the baseline alone on 1."""
    random = np.random.default_rng(images)
    found = [of_gain(random.choice([1.0, -1.0, 0.0], (1, images), p=[0.03, 0.01, 0.96])) for _ in range(1500)]
    assert np.mean([low <= 0.02 <= high for low, high in found]) > 0.94


def experiments(of_seed, of_image, of_both, seeds=3, images=200):
    """Student less baseline of many simulated experiments, whose true mean is 0.5."""
    random = np.random.default_rng(5)
    for _ in range(1500):
        yield (
            0.5
            + random.normal(0, of_seed, (seeds, 1))
            + random.normal(0, of_image, (1, images))
            + random.normal(0, of_both, (seeds, images))
        )


@pytest.mark.parametrize("spreads", [(0.1, 0.1, 0.5), (0.0, 1.0, 1.0), (0.05, 1.0, 0.3), (0.0, 0.0, 1.0)])
def test_intervals_hold_the_truth_in_95_of_100_experiments(spreads):
    """The standard error of a share of 0.95 in 1,500 experiments is 0.0056."""
    held = [low <= 0.5 <= high for low, high in map(interval, experiments(*spreads))]
    assert np.mean(held) > 0.95 - 3 * 0.0056


def test_intervals_are_not_much_wider_than_they_must_be():
    held = [low <= 0.5 <= high for low, high in map(interval, experiments(0.05, 1.0, 0.3))]
    assert np.mean(held) < 0.98


# Classes of unequal size

CONFUSED = np.array([[1, 1, 1, 0, 0, 0, 0, 0, 0, 1], [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]])
"""What a model chose for ten images, and their labels: TP 3, FN 1, FP 1, TN 5."""


def by_choice(chosen):
    """Logits of two classes with which these are chosen."""
    return np.eye(2)[chosen]


def test_contributions_to_f1_by_hand():
    """F1 = 6 / 8; the mean of what is and what is chosen 0.8. TP: 3/4 + (2 - 6/4) / 0.8; FN, FP: 3/4 - 3/4 / 0.8."""
    chosen, labels = CONFUSED
    of_f1 = contributions(by_choice(chosen), labels, by_choice(chosen))["f1"]
    np.testing.assert_allclose(of_f1, [1.375] * 3 + [-0.1875] + [0.75] * 5 + [-0.1875])


def test_rare_classes_weigh_more_in_balanced_accuracy():
    """Of ten images, one of the four weighs 10 / (2 * 4), one of the six 10 / (2 * 6); those that are wrong nothing."""
    chosen, labels = CONFUSED
    of_images = contributions(by_choice(chosen), labels, by_choice(chosen))["balanced_accuracy"]
    np.testing.assert_allclose(of_images, [1.25] * 3 + [0] + [5 / 6] * 5 + [0])


def test_the_interval_of_f1_is_wilsons_of_a_share():
    """TP / (TP + FP + FN), 600 of 1,000 among 5,000 images: F1 = 2 share / (1 + share) at its Wilson limits."""
    labels = np.repeat([1, 1, 0, 0], [600, 250, 150, 4000])
    logits = by_choice(np.repeat([1, 0, 1, 0], [600, 250, 150, 4000]))
    found = interval_of("f1", contributions(logits, labels, logits)["f1"][None], labels)
    limits = stats.binomtest(600, 1000).proportion_ci(method="wilson")
    np.testing.assert_allclose(found, [2 * end / (1 + end) for end in (limits.low, limits.high)], atol=2e-4)


def test_a_perfect_f1_has_the_width_that_its_positives_leave():
    """20 of 20 positives found: Wilson's share reaches down to 20 / (20 + z^2), so F1 to 40 / (40 + z^2)."""
    labels = np.repeat([1, 0], [20, 500])
    for chosen, ends in (
        (labels, [40 / (40 + 1.959963985**2), 1]),
        (0 * labels, [0, 2 * 3.841459 / (20 + 2 * 3.841459)]),
    ):
        of_f1 = contributions(by_choice(chosen), labels, by_choice(chosen))["f1"]
        np.testing.assert_allclose(interval_of("f1", of_f1[None], labels), ends, atol=1e-6)


def test_balanced_accuracy_joins_the_intervals_of_recalls():
    """Of 900 and 100 images 90 % and 80 %: the lower reach is half the root of the summed squares of both reaches."""
    labels = np.repeat([0, 1], [900, 100])
    chosen = np.where(np.arange(1000) < 810, 0, 1)
    chosen[980:] = 0
    of_images = contributions(by_choice(chosen), labels, by_choice(chosen))["balanced_accuracy"]
    found = interval_of("balanced_accuracy", of_images[None], labels)
    limits = [stats.binomtest(k, n).proportion_ci(method="wilson") for k, n in ((810, 900), (80, 100))]
    below = np.hypot(0.9 - limits[0].low, 0.8 - limits[1].low) / 2
    above = np.hypot(0.9 - limits[0].high, 0.8 - limits[1].high) / 2
    np.testing.assert_allclose(found, [0.85 - below, 0.85 + above], atol=2e-3)


def test_a_class_that_is_always_found_still_widens_the_interval():
    """Ten images of a class, all found: its Wilson interval begins at 0.72, so half of 0.28 is open."""
    labels = np.repeat([1, 0], [10, 2000])
    of_images = contributions(by_choice(labels), labels, by_choice(labels))["balanced_accuracy"]
    low, high = interval_of("balanced_accuracy", of_images[None], labels)
    assert (low, high) == pytest.approx((1 - 0.139, 1.0), abs=2e-3)


def test_the_spread_over_seeds_widens_a_balanced_accuracy():
    """Three seeds find 60, 80 and 100 of each class' 100: 0.8 +- t(2) * 0.2 / sqrt(3) at least."""
    labels = np.repeat([0, 1], 100)
    right = np.concatenate([np.arange(100), np.arange(100)]) < np.array([[60], [80], [100]])
    chosen = np.where(right, labels, 1 - labels)
    of_seeds = np.stack([contributions(by_choice(one), labels, by_choice(one))["balanced_accuracy"] for one in chosen])
    low, high = interval_of("balanced_accuracy", of_seeds, labels)
    assert low < 0.8 - 4 * 0.2 / np.sqrt(3)
    assert high == 1.0


SENSITIVITY, SPECIFICITY = 0.9, 0.95


def drawn(random, labels, sensitivity=SENSITIVITY):
    """Contributions of a model that finds so many of the positives, and 95 % of the negatives."""
    right = random.random(len(labels)) < np.where(labels == 1, sensitivity, SPECIFICITY)
    logits = by_choice(np.where(right, labels, 1 - labels))
    return contributions(logits, labels, logits)


def f1_of(sensitivity, positives, negatives):
    found, wrong = positives * sensitivity, negatives * (1 - SPECIFICITY)
    return 2 * found / (positives + found + wrong)


@pytest.mark.parametrize(("positives", "negatives"), [(10, 300), (20, 1000), (12, 12), (200, 200)])
def test_intervals_hold_the_truth_where_classes_are_unequal(positives, negatives):
    labels, random = np.repeat([1, 0], [positives, negatives]), np.random.default_rng(positives)
    truth = {
        "balanced_accuracy": (SENSITIVITY + SPECIFICITY) / 2,
        "f1": f1_of(SENSITIVITY, positives, negatives),
        "sensitivity": SENSITIVITY,
        "specificity": SPECIFICITY,
    }
    models = [drawn(random, labels) for _ in range(500)]
    for metric, true in truth.items():
        ends = [interval_of(metric, model[metric][None], labels) for model in models]
        assert np.mean([low <= true <= high for low, high in ends]) > 0.92, metric
        assert all(0 <= low < high <= 1 for low, high in ends), metric


@pytest.mark.parametrize(("positives", "negatives"), [(10, 300), (50, 950), (200, 200)])
def test_differences_hold_the_truth_where_classes_are_unequal(positives, negatives):
    """The second model finds 5 % fewer of the positives."""
    labels, random = np.repeat([1, 0], [positives, negatives]), np.random.default_rng(positives)
    truth = {
        "balanced_accuracy": 0.025,
        "f1": f1_of(SENSITIVITY, positives, negatives) - f1_of(SENSITIVITY - 0.05, positives, negatives),
        "sensitivity": 0.05,
        "specificity": 0.0,
    }
    pairs = [(drawn(random, labels), drawn(random, labels, SENSITIVITY - 0.05)) for _ in range(500)]
    for metric, true in truth.items():
        ends = [interval_of_difference(metric, (a[metric] - b[metric])[None], labels) for a, b in pairs]
        assert np.mean([low <= true <= high for low, high in ends]) > 0.92, metric


@pytest.mark.parametrize("metric", ["balanced_accuracy", "f1", "sensitivity"])
def test_two_equal_models_differ_within_some_width(metric):
    """With ten positives, one more that only one model finds is 0.1 of the sensitivity, and half as much of the others.

    Half an image on either side has the variance 1 / (10 * 11), of the two others a quarter of that.
    """
    labels = np.repeat([1, 0], [10, 10_000])
    same = drawn(np.random.default_rng(1), labels)[metric]
    low, high = interval_of_difference(metric, (same - same)[None], labels)
    error = np.sqrt(1 / 110) * (1 if metric == "sensitivity" else 1 / 2)
    assert low == -high
    assert 1.9 * error < high < 2.4 * error


def test_the_interval_of_a_recall_is_that_of_a_share():
    values = np.repeat([[1.0, 0.0]], [300, 100], axis=1)
    limits = stats.binomtest(300, 400).proportion_ci(method="wilson")
    np.testing.assert_allclose(share_interval(values), [limits.low, limits.high], atol=3e-4)


@pytest.mark.parametrize(("right", "images"), [(300, 400), (1, 7), (5, 5), (0, 9), (1, 1), (0, 1), (2, 2)])
def test_the_interval_of_counts_is_that_of_the_images(right, images):
    values = (np.arange(images) < right)[None].astype(float)
    np.testing.assert_allclose(share_interval_of_counts(right, images), share_interval(values), rtol=1e-12, atol=1e-12)


def test_counts_of_any_size_have_an_interval():
    """For so many images, the interval is that of the normal distribution: 1.96 * sqrt(0.25 / N) on either side."""
    low, high = share_interval_of_counts(2**52, 2**53)
    np.testing.assert_allclose([0.5 - low, high - 0.5], 1.959964 * 0.5 / 2**26.5, rtol=1e-3)
