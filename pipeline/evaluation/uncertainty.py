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
- The expected calibration error has no interval. It is biased upwards by more than an interval would show.
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from pipeline.evaluation.metrics import (
    Floats,
    Ints,
    MetricName,
    brier_scores,
    kl_divergences,
    log_losses,
)
from pipeline.training.validation_measures import one_against_rest

CONFIDENCE = 0.95
SHARES: tuple[MetricName, ...] = ("accuracy", "teacher_agreement")
"""Metrics that are a share of the images."""

FEWEST_OF_A_CLASS = 10
"""If a class has fewer images than this, the AUC has no interval."""

Values = npt.NDArray[np.float64]
Contributions = dict[MetricName, Values]
Parts = list[tuple[float, float]]
"""Independent parts of a variance: each with its degrees of freedom."""


def contributions(logits: Floats, labels: Ints, teacher_logits: Floats) -> Contributions:
    """What each image contributes to each of `metrics.METRICS` that has an interval.

    The AUC is no mean over images, but its linear part is. An image contributes the share of the images of the other
    kind against which it is ranked correctly (DeLong et al., 1988).

    Args:
        logits: (N, C), one model's.
        labels: (N,) class indices.
        teacher_logits: (N, C), its teacher's.

    Returns:
        For each metric (N,) numbers, whose mean is the metric.
    """
    chosen = np.argmax(logits, axis=1)
    of_images: Contributions = {
        "accuracy": (chosen == labels).astype(np.float64),
        "nll": log_losses(logits, labels),
        "brier": brier_scores(logits, labels),
        "teacher_agreement": (chosen == np.argmax(teacher_logits, axis=1)).astype(np.float64),
        "teacher_kl": kl_divergences(logits, teacher_logits),
    }
    rarest = np.bincount(labels, minlength=logits.shape[1]).min()
    return of_images | ({"auc": _of_auc(logits, labels)} if rarest >= FEWEST_OF_A_CLASS else {})


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
        return _wilson(values)
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
    over_images: Callable[[], Parts] = {
        "accuracy": lambda: _over_few_images(values),
        "teacher_agreement": lambda: _over_few_images(values),
        "auc": lambda: _over_classes(values, labels),
    }.get(metric, lambda: _over_images(values))
    parts = _over_seeds(values) + over_images()
    if metric == "auc" and _together(parts)[0] == 0:
        return None
    return _student(float(values.mean()), parts)


def _student(mean: float, parts: Parts) -> list[float]:
    """The interval by Student's t: its lower and its upper end."""
    variance, quantile = _together(parts)
    reach = quantile * math.sqrt(variance)
    return [mean - reach, mean + reach]


def _wilson(values: Values) -> list[float]:
    """The interval of a share (Wilson, 1927), for the number of images that would give this variance."""
    share = float(values.mean())
    variance, quantile = _together(_over_seeds(values) + _over_images(values))
    # A share of 0 or 1 has no variance; then Wilson's interval is that of the images themselves.
    images = share * (1 - share) / variance if variance > 0 else values.shape[1]
    square = quantile**2 / images
    middle = (share + square / 2) / (1 + square)
    reach = math.sqrt(square * share * (1 - share) + square**2 / 4) / (1 + square)
    return [max(middle - reach, 0.0), min(middle + reach, 1.0)]


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


def _over_few_images(values: Values) -> Parts:
    """As `_over_images`, with half an image added that only the first model gets right, and half one for the second."""
    means = values.mean(axis=0)
    mean, count = means.mean(), len(means) + 1
    squares = np.sum((means - mean) ** 2) + ((1 - mean) ** 2 + (1 + mean) ** 2) / 2
    return [(float(squares) / (count - 1) / count, count - 1)]


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


def _of_auc(logits: Floats, labels: Ints) -> Values:
    scores = one_against_rest(logits)
    classes = [1] if scores.shape[1] == 2 else range(scores.shape[1])
    return np.asarray(np.mean([_placements(scores[:, number], labels == number) for number in classes], axis=0))


def _placements(scores: Values, positive: npt.NDArray[np.bool_]) -> Values:
    """The share of the other kind against which an image is ranked correctly, weighted so that the mean is the AUC."""
    ranks = stats.rankdata(scores)
    placements = np.empty(len(scores))
    for kind, sign in ((positive, 1), (~positive, -1)):
        above = (ranks[kind] - stats.rankdata(scores[kind])) / np.count_nonzero(~kind)
        correct = above if sign > 0 else 1 - above
        area = correct.mean()
        placements[kind] = area + (correct - area) / kind.mean()
    return placements
