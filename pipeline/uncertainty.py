"""How sure a metric is: its interval over other seeds and other test images.

Every metric is the mean of what each image contributes to it, so that of S seeds and N images the variance of the mean
is estimated as s²(seeds) / S + s²(images) / N, from the means of each seed and of each image. What seed and image do
together is counted in both, so the interval is rather too wide than too narrow (Owen, "The pigeonhole bootstrap",
2007). Degrees of freedom are those of Welch and Satterthwaite. Of one seed nothing is known of others: the interval is
over images alone.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy import stats

from pipeline.metrics import BINS, Floats, Ints, bin_of, log_softmax, one_against_rest

CONFIDENCE = 0.95
BOUNDS = {
    "accuracy": (0.0, 1.0),
    "auc": (0.0, 1.0),
    "nll": (0.0, math.inf),
    "brier": (0.0, 2.0),
    "ece": (0.0, 1.0),
    "teacher_agreement": (0.0, 1.0),
    "teacher_kl": (0.0, math.inf),
}
"""The lowest and highest value of each metric of `metrics.summarise`."""

SHARES = ("accuracy", "teacher_agreement")
"""Metrics that count images."""

Contributions = dict[str, npt.NDArray[np.float64]]


def contributions(logits: Floats, labels: Ints, teacher_logits: Floats) -> Contributions:
    """What each image adds to each metric of `metrics.summarise`.

    The AUC is no mean over images; its linear part is (DeLong et al., 1988: the share of images of the other kind that
    one image is ranked rightly against). The ECE's bins keep the signs of their gaps.

    Args:
        logits: (N, C) of one model.
        labels: (N,) class indices.
        teacher_logits: (N, C) of its teacher.

    Returns:
        For each metric (N,) numbers, whose mean is the metric.
    """
    log_probabilities, teacher = log_softmax(logits), log_softmax(teacher_logits)
    chosen = np.argmax(logits, axis=1)
    one_hot = np.eye(logits.shape[1])[labels]
    right = (chosen == labels).astype(np.float64)
    return {
        "accuracy": right,
        "auc": _of_auc(logits, labels),
        "nll": -log_probabilities[np.arange(len(labels)), labels],
        "brier": np.sum((np.exp(log_probabilities) - one_hot) ** 2, axis=1),
        "ece": _of_calibration(np.exp(log_probabilities.max(axis=1)), right),
        "teacher_agreement": (chosen == np.argmax(teacher_logits, axis=1)).astype(np.float64),
        "teacher_kl": np.sum(np.exp(teacher) * (teacher - log_probabilities), axis=1),
    }


def interval_of(metric: str, values: npt.NDArray[np.float64]) -> list[float]:
    """The interval of a metric's mean over seeds, within what the metric can be.

    Args:
        metric: its name.
        values: the contributions of N images in the models of S seeds, (S, N).

    Returns:
        Its lower and its upper end.
    """
    lowest, highest = BOUNDS[metric]
    low, high = _wilson(values) if metric in SHARES else interval(values)
    return [max(low, lowest), min(high, highest)]


def interval(values: npt.NDArray[np.float64]) -> list[float]:
    """The interval of a mean, or of a mean difference, over seeds and images: (S, N) become the lower and upper end."""
    mean = float(values.mean())
    variance, quantile = _variance_and_quantile(values)
    reach = quantile * math.sqrt(variance)
    return [mean - reach, mean + reach]


def _wilson(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The interval of a share (Wilson, 1927), of as many images as the variance tells; 0 and 1 have a width too."""
    share = float(values.mean())
    variance, quantile = _variance_and_quantile(values)
    images = share * (1 - share) / variance if variance > 0 else values.shape[1]
    square = quantile**2 / images
    middle = (share + square / 2) / (1 + square)
    reach = math.sqrt(square * share * (1 - share) + square**2 / 4) / (1 + square)
    return middle - reach, middle + reach


def _variance_and_quantile(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The variance of the mean over both axes of (S, N), and Student's quantile for it."""
    means = [values.mean(axis=1 - axis) for axis in (0, 1)]
    parts = [(float(np.var(mean, ddof=1)) / len(mean), len(mean) - 1) for mean in means if len(mean) > 1]
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return 0.0, float(stats.norm.ppf((1 + CONFIDENCE) / 2))
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    return variance, float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom))


def _of_auc(logits: Floats, labels: Ints) -> npt.NDArray[np.float64]:
    scores = one_against_rest(logits)
    classes = [1] if scores.shape[1] == 2 else range(scores.shape[1])
    return np.asarray(np.mean([_placements(scores[:, number], labels == number) for number in classes], axis=0))


def _placements(scores: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Of each image the share of the other kind that it is ranked rightly against; weighted, their mean is the AUC."""
    ranks = stats.rankdata(scores)
    found = np.empty(len(scores))
    for kind, sign in ((positive, 1), (~positive, -1)):
        above = (ranks[kind] - stats.rankdata(scores[kind])) / np.count_nonzero(~kind)
        rightly = above if sign > 0 else 1 - above
        area = rightly.mean()
        found[kind] = area + (rightly - area) / kind.mean()
    return found


def _of_calibration(confidence: npt.NDArray[np.float64], right: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    gap, number = right - confidence, bin_of(confidence, BINS)
    of_bins = np.bincount(number, gap, minlength=BINS)
    return np.asarray(np.sign(of_bins)[number] * gap)
