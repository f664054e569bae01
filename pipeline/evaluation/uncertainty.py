"""How uncertain a metric is: its 95 % interval over other seeds and other test images.

A metric is the mean of what each image contributes to it. With S seeds and N images, the variance of that mean is
estimated as s²(seeds) / S + s²(images) / N, from the means of each seed and of each image. Both terms contain the
interaction of seed and image, so the sum is too large rather than too small (Owen, "The pigeonhole bootstrap", 2007).
Degrees of freedom are those of Welch and Satterthwaite. One seed does not show how seeds differ; then the interval
covers other images alone.

Some metrics need more than that:
- A share has Wilson's interval, which has a width at 0 and 1 as well.
- For the difference of two shares, half an image of each kind is added (after Agresti and Min, 2005). Otherwise the
  interval would have no width if the answers of both models were the same.
- The variance of the AUC is computed for each class by itself, so a class with few images makes it large.
- Balanced accuracy is a mean of shares, whose intervals are put together (Zou and Donner, 2008).
- F1 is a function of a share, TP / (TP + FP + FN), and so is its interval (Lam et al., arXiv:2309.14621).
- The expected calibration error has no interval. It is biased upwards by more than an interval would show.
"""

import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from scipy import special, stats

from pipeline.evaluation.contributions import Values
from pipeline.evaluation.metrics import Ints, MetricName

CONFIDENCE = 0.95
SHARES: tuple[MetricName, ...] = ("accuracy", "teacher_agreement", "sensitivity", "specificity")
"""Metrics that are a share of the images, or of those of one class."""

FROM_0_TO_1: tuple[MetricName, ...] = (*SHARES, "balanced_accuracy", "f1", "auc")
"""Metrics between 0 and 1, whose differences lie between -1 and 1."""

Parts = list[tuple[float, float]]
"""Independent parts of a variance: each with its degrees of freedom."""


def interval_of(metric: MetricName, values: Values, labels: Ints) -> list[float] | None:
    """The interval of a metric's mean over seeds.

    Args:
        metric: its name.
        values: the contributions of N images in the models of S seeds, (S, N).
        labels: (N,) class indices.

    Returns:
        Its lower and its upper end; None for an AUC of 1, where no image shows how much it varies.
    """
    if metric in SHARES:
        return share_interval(values)
    if metric == "balanced_accuracy":
        return _of_classes(values, labels)
    if metric == "f1":
        return _of_f1(values, labels)
    if metric == "auc":
        return _of_area(values, labels)
    low, high = _student(float(values.mean()), _over_seeds(values) + _over_images(values))
    return [max(low, 0.0), high]


def interval_of_difference(metric: MetricName, values: Values, labels: Ints) -> list[float] | None:
    """The interval of a metric's mean difference between two models.

    Args:
        metric: its name.
        values: the contributions of N images in the models of S seeds, those of the second model subtracted, (S, N).
        labels: (N,) class indices.

    Returns:
        Its lower and its upper end; None for an AUC to which every image of a class contributes the same.
    """
    over_images: Mapping[MetricName, Callable[[], Parts]] = {
        **dict.fromkeys(SHARES, lambda: _over_few_images(values)),
        "balanced_accuracy": lambda: _over_few_of_classes(values, labels),
        "f1": lambda: _over_few_images(values, 1 / (2 * np.mean(labels == 1))),
        "auc": lambda: _over_classes(values, labels),
    }
    parts = _over_seeds(values) + over_images.get(metric, lambda: _over_images(values))()
    if metric == "auc" and _together(parts)[0] == 0:
        return None
    low, high = _student(float(values.mean()), parts)
    return [max(low, -1.0), min(high, 1.0)] if metric in FROM_0_TO_1 else [low, high]


def _student(mean: float, parts: Parts) -> list[float]:
    """The interval by Student's t: its lower and its upper end."""
    variance, quantile = _together(parts)
    reach = quantile * math.sqrt(variance)
    return [mean - reach, mean + reach]


def share_interval(values: Values) -> list[float]:
    """The interval of a share.

    Args:
        values: whether each of N images counts (1 or 0) in the models of S seeds, (S, N).
    """
    variance, quantile = _together(_over_seeds(values) + _over_images(values))
    return _wilson(float(values.mean()), variance, values.shape[1], quantile)


def share_interval_of_counts(right: int, images: int) -> list[float]:
    """As `share_interval`, for one model that is right on some of N images."""
    share = right / images
    variance, quantile = _together([(share * (1 - share) / (images - 1), images - 1)] if images > 1 else [])
    return _wilson(share, variance, images, quantile)


def _wilson(share: float, variance: float, images: float, quantile: float) -> list[float]:
    """Wilson's interval (1927) for the number of images that would give this variance; if it is 0, for `images`."""
    number = share * (1 - share) / variance if variance > 0 else images
    square = quantile**2 / number
    middle = (share + square / 2) / (1 + square)
    reach = math.sqrt(square * share * (1 - share) + square**2 / 4) / (1 + square)
    return [max(min(middle - reach, share), 0.0), min(max(middle + reach, share), 1.0)]  # the share itself: rounding


def _of_classes(values: Values, labels: Ints) -> list[float]:
    """The interval of a mean of shares, one of each class.

    On each side it reaches as far as the root of the sum of squares of what the shares' own intervals reach.
    The spread over seeds, which the classes have in common, is added once.
    """
    mean, of_seeds = float(values.mean()), _over_seeds(values)
    _, quantile = _together(of_seeds + _over_classes(values, labels))
    below = above = quantile**2 * sum(part for part, _ in of_seeds)
    for right, classes in _by_class(values, labels):
        share, variance = float(right.mean()), sum(part for part, _ in _over_images(right))
        low, high = _wilson(share, variance, right.shape[1], quantile)
        below, above = below + ((share - low) / classes) ** 2, above + ((high - share) / classes) ** 2
    return [max(mean - math.sqrt(below), 0.0), min(mean + math.sqrt(above), 1.0)]


def _by_class(values: Values, labels: Ints) -> Iterator[tuple[Values, int]]:
    """Undoes the weights of the contributions to the balanced accuracy.

    Yields:
        For each of C classes whether its images were right (1 or 0), (S, images of the class), and C.
    """
    present, counts = np.unique(labels, return_counts=True)
    for number, count in zip(present, counts, strict=True):
        yield values[:, labels == number] * len(present) * count / len(labels), len(present)


def _of_f1(values: Values, labels: Ints) -> list[float]:
    """The interval of F1. With TP / (TP + FP + FN), a share, it is 2 share / (1 + share)."""
    score = float(values.mean())
    variance, quantile = _together(_over_seeds(values) + _over_images(values))
    slope = 2 / (2 - score) ** 2
    ends = _wilson(score / (2 - score), variance * slope**2, int(np.count_nonzero(labels == 1)), quantile)
    return [2 * end / (1 + end) for end in ends]


def _of_area(values: Values, labels: Ints) -> list[float] | None:
    """The interval of an AUC A. It is computed for log(A / (1 - A)), so that it stays below 1 (Pepe, 2003)."""
    area = float(values.mean())
    parts = _over_seeds(values) + _over_classes(values, labels)
    if area >= 1 or _together(parts)[0] == 0:
        return None
    slope = area * (1 - area)
    ends = _student(float(special.logit(area)), [(part / slope**2, degrees) for part, degrees in parts])
    return [float(special.expit(end)) for end in ends]


def _over_seeds(values: Values) -> Parts:
    return _of_means(values.mean(axis=1))


def _over_images(values: Values) -> Parts:
    return _of_means(values.mean(axis=0))


def _over_classes(values: Values, labels: Ints) -> Parts:
    """The variance of the mean over images, in one part for each class."""
    means = values.mean(axis=0)
    of_classes = [(np.mean(labels == number), _of_means(means[labels == number])) for number in np.unique(labels)]
    return [(float(share) ** 2 * part, degrees) for share, parts in of_classes for part, degrees in parts]


def _over_few_images(values: Values, weight: float = 1.0) -> Parts:
    """As `_over_images`, with half an image added that only the first model gets right, and half one for the second.

    Args:
        values: differences between two models, (S, N).
        weight: how far the contributions of two models differ to such an image.
    """
    means = values.mean(axis=0)
    mean, count = means.mean(), len(means) + 1
    squares = np.sum((means - mean) ** 2) + ((weight - mean) ** 2 + (weight + mean) ** 2) / 2
    return [(float(squares) / (count - 1) / count, count - 1)]


def _over_few_of_classes(values: Values, labels: Ints) -> Parts:
    """As `_over_few_images`, in one part for each class."""
    of_classes = [(_over_few_images(right), classes) for right, classes in _by_class(values, labels)]
    return [(part / classes**2, degrees) for parts, classes in of_classes for part, degrees in parts]


def _of_means(means: Values) -> Parts:
    """The variance of the mean of independent numbers; empty for a single number, which does not show how they vary."""
    return [(float(np.var(means, ddof=1)) / len(means), len(means) - 1)] if len(means) > 1 else []


def _together(parts: Parts) -> tuple[float, float]:
    """The sum of the variances, and Student's quantile for it."""
    variance = sum(part for part, _ in parts)
    if variance == 0:  # no degrees of freedom can be computed, so the normal distribution's quantile is taken
        return 0.0, float(stats.norm.ppf((1 + CONFIDENCE) / 2))
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    return variance, float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom))
