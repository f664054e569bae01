"""What each image contributes to a metric: numbers whose mean is the metric. `uncertainty` makes intervals of them."""

import numpy as np
import numpy.typing as npt
from scipy import stats

from pipeline.evaluation.metrics import (
    Floats,
    Ints,
    MetricName,
    brier_scores,
    f1_score,
    kl_divergences,
    log_losses,
)
from pipeline.measures.unequal_classes import one_against_rest

FEWEST_OF_A_CLASS = 10
"""If a class has fewer images than this, the AUC has no interval."""

Values = npt.NDArray[np.float64]
Contributions = dict[MetricName, Values]


def contributions(logits: Floats, labels: Ints, teacher_logits: Floats) -> Contributions:
    """What each image contributes to each of `metrics.METRICS` that has an interval.

    The AUC and F1 are no means over images, but their linear parts are. To the AUC an image contributes the share of
    the images of the other kind against which it is ranked correctly (DeLong et al., 1988).

    Args:
        logits: (N, C), one model's.
        labels: (N,) class indices.
        teacher_logits: (N, C), its teacher's.

    Returns:
        For each metric (N,) numbers, whose mean is the metric; for sensitivity and specificity, those of the images of
        their class alone.
    """
    chosen, classes = np.argmax(logits, axis=1), logits.shape[1]
    right = (chosen == labels).astype(np.float64)
    counts = np.bincount(labels, minlength=classes)
    of_images: Contributions = {
        "accuracy": right,
        "balanced_accuracy": right * len(labels) / (np.count_nonzero(counts) * counts[labels]),
        "nll": log_losses(logits, labels),
        "brier": brier_scores(logits, labels),
        "teacher_agreement": (chosen == np.argmax(teacher_logits, axis=1)).astype(np.float64),
        "teacher_kl": kl_divergences(logits, teacher_logits),
    }
    if counts.min() >= FEWEST_OF_A_CLASS:
        of_images["auc"] = _of_auc(logits, labels)
    if classes == 2 and counts[0]:
        of_images["specificity"] = right[labels == 0]
    if classes == 2 and counts[1]:
        of_images |= {"sensitivity": right[labels == 1], "f1": _of_f1(logits, labels)}
    return of_images


def _of_f1(logits: Floats, labels: Ints) -> Values:
    """The linear part of F1, a ratio of the means of 2 TP and of the positives that are and that are chosen."""
    chosen, actual = (np.asarray(each == 1, np.float64) for each in (np.argmax(logits, axis=1), labels))
    score = f1_score(logits, labels)
    return score + (2 * chosen * actual - score * (chosen + actual)) / np.mean(chosen + actual)


def _of_auc(logits: Floats, labels: Ints) -> Values:
    placements = (_placements(scores, labels == number) for number, scores in one_against_rest(logits))
    return np.asarray(sum(placements) / (1 if logits.shape[1] == 2 else logits.shape[1]))


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
