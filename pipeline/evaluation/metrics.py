"""The metrics of a classifier's logits: quality, calibration, and closeness to the teacher."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from pipeline.measures.slabs import in_slabs
from pipeline.measures.unequal_classes import area_under_roc_curve, balanced_accuracy, recalls

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]
MetricName = Literal[
    "accuracy",
    "balanced_accuracy",
    "auc",
    "f1",
    "sensitivity",
    "specificity",
    "nll",
    "brier",
    "ece",
    "teacher_agreement",
    "teacher_kl",
]
"""A metric's name in `metrics.json`."""
Estimate = dict[str, float]
"""A number in `metrics.json`: "mean", and with several seeds the sample standard deviation "std"."""
BINS = 15
"""As in Guo et al., arXiv:1706.04599."""


def log_softmax(logits: Floats) -> npt.NDArray[np.float64]:
    """Natural logarithms of the class probabilities: (N, C) float64."""
    return np.asarray(special.log_softmax(np.asarray(logits, np.float64), axis=1))


def accuracy(logits: Floats, labels: Ints) -> float:
    """Share of images whose largest logit is the labelled class's."""
    return float(np.mean(np.argmax(logits, axis=1) == labels))


def f1_score(logits: Floats, labels: Ints) -> float:
    """2 TP / (2 TP + FP + FN) of the last class: true positives, false ones, and false negatives.

    It is NaN if that class has no images.
    """
    last = logits.shape[1] - 1
    chosen, actual = np.argmax(logits, axis=1) == last, labels == last
    if not actual.any():
        return math.nan
    return float(2 * np.count_nonzero(chosen & actual) / (np.count_nonzero(chosen) + np.count_nonzero(actual)))


def log_losses(logits: Floats, labels: Ints) -> npt.NDArray[np.float64]:
    """-log p(labelled class) of each image, in nats: (N,)."""
    return in_slabs(lambda v, y: -log_softmax(v)[np.arange(len(y)), y], logits, labels)


def negative_log_likelihood(logits: Floats, labels: Ints) -> float:
    """The mean of `log_losses`."""
    return float(np.mean(log_losses(logits, labels)))


def brier_scores(logits: Floats, labels: Ints) -> npt.NDArray[np.float64]:
    """Squared distance of the probabilities from the one-hot label of each image, 0 to 2 (Brier, 1950): (N,)."""

    def of_slab(v: Floats, y: Ints) -> Floats:
        distances = np.exp(log_softmax(v))
        distances[np.arange(len(y)), y] -= 1.0
        return np.asarray(np.sum(distances**2, axis=1))

    return in_slabs(of_slab, logits, labels)


def brier_score(logits: Floats, labels: Ints) -> float:
    """The mean of `brier_scores`."""
    return float(np.mean(brier_scores(logits, labels)))


def expected_calibration_error(logits: Floats, labels: Ints, bins: int = BINS) -> float:
    """Mean gap between confidence and accuracy over equal-width bins (Guo et al., arXiv:1706.04599)."""
    table = reliability(logits, labels, bins)
    gaps = np.abs(table["accuracy"] - table["confidence"])
    return float(np.sum(gaps * table["images"]) / len(labels))


def agreement(logits: Floats, teacher_logits: Floats) -> float:
    """Share of images for which student and teacher choose the same class."""
    return float(np.mean(np.argmax(logits, axis=1) == np.argmax(teacher_logits, axis=1)))


def kl_divergences(logits: Floats, teacher_logits: Floats) -> npt.NDArray[np.float64]:
    """KL(teacher || student) of the probabilities at T = 1 of each image, in nats: (N,)."""

    def of_slab(v: Floats, v_of_teacher: Floats) -> Floats:
        teacher, student = log_softmax(v_of_teacher), log_softmax(v)
        return np.asarray(np.sum(np.exp(teacher) * (teacher - student), axis=1))

    return in_slabs(of_slab, logits, teacher_logits)


def mean_kl_divergence(logits: Floats, teacher_logits: Floats) -> float:
    """The mean of `kl_divergences`."""
    return float(np.mean(kl_divergences(logits, teacher_logits)))


@dataclass(frozen=True)
class Metric:
    """A number that `metrics.json` has of every model.

    Attributes:
        title: its name for people.
        value: the function that computes it from one model's logits (N, C), N labels, and the teacher's logits (N, C);
            NaN where it is not defined.
        larger_is_better: whether a perfect model has 1; otherwise it has 0.
        remark: what the note below the table adds to the title.
        of_classes: whether it stands in the table of classes, behind the first one.
        of_two_classes: whether it is of data sets with two classes only. The last class is the positive one.
    """

    title: str
    value: Callable[[Floats, Ints, Floats], float]
    larger_is_better: bool
    remark: str = ""
    of_classes: bool = False
    of_two_classes: bool = False


METRICS: dict[MetricName, Metric] = {
    "accuracy": Metric("accuracy", lambda logits, labels, _: accuracy(logits, labels), True),
    "balanced_accuracy": Metric(
        "balanced accuracy", lambda logits, labels, _: balanced_accuracy(logits, labels), True, of_classes=True
    ),
    "auc": Metric("AUC", lambda logits, labels, _: area_under_roc_curve(logits, labels), True),
    "f1": Metric("F1", lambda logits, labels, _: f1_score(logits, labels), True, of_classes=True, of_two_classes=True),
    "sensitivity": Metric(
        "sensitivity",
        lambda logits, labels, _: float(recalls(logits, labels)[1]),
        True,
        of_classes=True,
        of_two_classes=True,
    ),
    "specificity": Metric(
        "specificity",
        lambda logits, labels, _: float(recalls(logits, labels)[0]),
        True,
        of_classes=True,
        of_two_classes=True,
    ),
    "nll": Metric("NLL", lambda logits, labels, _: negative_log_likelihood(logits, labels), False),
    "brier": Metric("Brier", lambda logits, labels, _: brier_score(logits, labels), False),
    "ece": Metric("ECE", lambda logits, labels, _: expected_calibration_error(logits, labels), False),
    "teacher_agreement": Metric("agreement", lambda logits, _, teacher: agreement(logits, teacher), True),
    "teacher_kl": Metric(
        "KL", lambda logits, _, teacher: mean_kl_divergence(logits, teacher), False, " (teacher || model, nats)"
    ),
}
"""All metrics, in the order of the tables' columns. The tables, the report and the cautions read them here.
What a metric needs for an interval is in `contributions.contributions`."""


def summarise(logits: Floats, labels: Ints, teacher_logits: Floats) -> dict[str, float]:
    """Every one of `METRICS` that is defined, for one model's logits (N, C) on N labelled images."""
    values = {
        key: metric.value(logits, labels, teacher_logits)
        for key, metric in METRICS.items()
        if logits.shape[1] == 2 or not metric.of_two_classes
    }
    return {key: value for key, value in values.items() if not math.isnan(value)}


def over_seeds(of_seeds: Iterable[Mapping[str, float]]) -> dict[str, Estimate]:
    """The mean of each metric over the seeds that have it, with the standard deviation if there are several.

    Args:
        of_seeds: the metrics of each seed; those of a teacher, which has no seeds, are a single one.
    """
    values: dict[str, list[float]] = {}
    for metrics in of_seeds:
        for name, value in metrics.items():
            values.setdefault(name, []).append(value)
    return {name: _estimate(of_metric) for name, of_metric in values.items()}


def _estimate(values: list[float]) -> Estimate:
    mean = {"mean": float(np.mean(values))}
    return mean | {"std": float(np.std(values, ddof=1))} if len(values) > 1 else mean


def reliability(logits: Floats, labels: Ints, bins: int = BINS) -> pd.DataFrame:
    """Confidence against accuracy, a row for each bin that holds images.

    Bin k of K holds confidences in (k/K, (k+1)/K].

    Returns:
        Columns bin, confidence, accuracy, images.
    """
    confidence = np.exp(in_slabs(lambda v: log_softmax(v).max(axis=1), logits))
    number = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    correct = np.argmax(logits, axis=1) == labels
    rows = pd.DataFrame({"bin": number, "confidence": confidence, "accuracy": correct, "images": 1})
    return rows.groupby("bin").agg({"confidence": "mean", "accuracy": "mean", "images": "sum"}).reset_index()
