"""Intervals against closed forms, DeLong's variance, Wilson's published limits, and simulated experiments."""

import numpy as np
import pytest
from scipy import stats

from pipeline.metrics import summarise
from pipeline.uncertainty import BOUNDS, contributions, interval, interval_of

RANDOM = np.random.default_rng(11)


def scores(images, classes, ties=False):
    labels = RANDOM.integers(0, classes, images)
    logits = RANDOM.normal(0, 1, (images, classes)) + 1.5 * np.eye(classes)[labels]
    return (np.round(logits) if ties else logits), labels, RANDOM.normal(0, 2, (images, classes))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_contributions_are_those_of_the_metrics(classes, ties):
    logits, labels, teacher = scores(500, classes, ties)
    parts, metrics = contributions(logits, labels, teacher), summarise(logits, labels, teacher)
    assert parts.keys() == metrics.keys() == BOUNDS.keys()
    for name, values in parts.items():
        assert values.shape == (500,)
        assert values.mean() == pytest.approx(metrics[name], rel=1e-9, abs=1e-12), name


def test_contributions_to_the_auc_by_hand():
    """Of two positives, 0.9 is above all three negatives and 0.6 above two: A = 5/6; c = A + (share - A) / weight."""
    logits = np.log([[0.1, 0.9], [0.4, 0.6], [0.5, 0.5], [0.3, 0.7], [0.9, 0.1]])
    labels = np.array([1, 1, 0, 0, 0])
    of_auc = contributions(logits, labels, logits)["auc"]
    np.testing.assert_allclose(of_auc, [5 / 4, 5 / 12, 10 / 9, 5 / 18, 10 / 9])


def delong_variance(positive, negative):
    """DeLong, DeLong and Clarke-Pearson (1988), equation 4, written out."""
    wins = (positive[:, None] > negative).astype(float) + 0.5 * (positive[:, None] == negative)
    of_positives, of_negatives = wins.mean(axis=1), wins.mean(axis=0)
    return np.var(of_positives, ddof=1) / len(positive) + np.var(of_negatives, ddof=1) / len(negative)


def test_the_interval_of_an_auc_is_delongs():
    logits, labels, _ = scores(3000, 2)
    margin = logits[:, 1] - logits[:, 0]
    low, high = interval_of("auc", contributions(logits, labels, logits)["auc"][None])
    reach = 1.96 * np.sqrt(delong_variance(margin[labels == 1], margin[labels == 0]))
    assert (high - low) / 2 == pytest.approx(reach, rel=2e-3)


def test_the_interval_of_one_seed_is_students_over_images():
    values = RANDOM.normal(2, 3, 40)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    np.testing.assert_allclose(interval(values[None]), [expected.low, expected.high], rtol=1e-9)


def test_where_all_images_are_alike_the_interval_is_students_over_seeds():
    """Three seeds, 1, 2 and 6: mean 3, s = sqrt(7), quantile of two degrees of freedom 4.3027."""
    values = np.repeat([[1.0], [2.0], [6.0]], 25, axis=1)
    reach = 4.302652730 * np.sqrt(7 / 3)
    np.testing.assert_allclose(interval(values), [3 - reach, 3 + reach], rtol=1e-8)


def test_what_is_always_the_same_has_no_width():
    assert interval(np.full((3, 7), 0.25)) == [0.25, 0.25]


def test_a_share_of_all_images_has_a_width():
    """Wilson's limits of n of n: n / (n + z^2) and 1; of none 0 and z^2 / (n + z^2)."""
    square = 1.959963985**2
    np.testing.assert_allclose(interval_of("accuracy", np.ones((1, 10))), [10 / (10 + square), 1], rtol=1e-8)
    np.testing.assert_allclose(interval_of("accuracy", np.zeros((1, 10))), [0, square / (10 + square)], atol=1e-9)


@pytest.mark.parametrize("right", [3, 50, 97])
def test_the_interval_of_a_share_is_wilsons(right):
    values = (np.arange(1000) < 10 * right).astype(float)
    expected = stats.binomtest(10 * right, 1000).proportion_ci(method="wilson")
    np.testing.assert_allclose(interval_of("accuracy", values[None]), [expected.low, expected.high], atol=2e-4)


def test_an_interval_stays_within_what_its_metric_can_be():
    near_one = np.array([[1.0, 1.0, 1.0, 1.3, 0.6]])
    assert interval_of("auc", near_one)[1] == 1.0
    assert interval_of("nll", np.array([[0.0, 0.0, 0.0, 0.1]]))[0] == 0.0
    assert interval(np.array([[0.0, 0.0, 0.0, 0.1]]))[0] < 0  # a difference has no bounds


def experiments(of_seed, of_image, of_both, seeds=3, images=200):
    """Student less baseline of many simulated experiments, whose true mean is 0.5."""
    for _ in range(1500):
        yield (
            0.5
            + RANDOM.normal(0, of_seed, (seeds, 1))
            + RANDOM.normal(0, of_image, (1, images))
            + RANDOM.normal(0, of_both, (seeds, images))
        )


@pytest.mark.parametrize("spreads", [(0.1, 0.1, 0.5), (0.0, 1.0, 1.0), (0.05, 1.0, 0.3), (0.0, 0.0, 1.0)])
def test_intervals_hold_the_truth_in_95_of_100_experiments_or_more(spreads):
    """The standard error of a share of 0.95 in 1,500 experiments is 0.0056."""
    held = [low <= 0.5 <= high for low, high in map(interval, experiments(*spreads))]
    assert np.mean(held) > 0.95 - 3 * 0.0056


def test_intervals_are_not_much_wider_than_they_must_be():
    held = [low <= 0.5 <= high for low, high in map(interval, experiments(0.05, 1.0, 0.3))]
    assert np.mean(held) < 0.98
