"""What annotators' votes show of a two-class model: its quality where they agree, and whether it shares their doubt."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from pipeline.evaluation.metrics import (
    Floats,
    Ints,
    accuracy,
    log_softmax,
    negative_log_likelihood,
    over_seeds,
)
from pipeline.evaluation.names import temperature_key
from pipeline.images.index import Image
from pipeline.images.votes import ANNOTATORS, counted_class
from pipeline.measures.unequal_classes import area_under_roc_curve

LEVELS = {f"{most}-{ANNOTATORS - most}": most for most in range(ANNOTATORS, ANNOTATORS // 2, -1)}
"""The size of the majority at each level of agreement, which is named 7-0, 6-1, 5-2 or 4-3: the majority first."""

ROUNDING = 1e-12
"""Numbers count as equal if they differ by less than this share of the largest."""

Report = dict[str, Any]


@dataclass(frozen=True)
class Votes:
    """The votes on those M of N images that have any.

    Attributes:
        rows: (M,), the numbers of these images among the N.
        positive: (M,), how many annotators chose the positive class, 0 to 7.
        labels: (M,) class indices.
        positive_class: the index of the class that the votes count.
    """

    rows: Ints
    positive: Ints
    labels: Ints
    positive_class: int = 1


def votes_on(images: Sequence[Image], labels: Ints, classes: int) -> Votes | None:
    """The votes on images; None if nobody voted, or if there are not exactly two classes.

    They count the class that `counted_class` names. If an image has more votes than there are annotators, a
    line on stderr says so, and no votes are used.

    Args:
        images: N images.
        labels: (N,) class indices.
        classes: C.
    """
    rows = np.array([row for row, image in enumerate(images) if image.votes], np.int64)
    if classes != 2 or not len(rows):
        return None
    positive = np.array([int(images[row].votes) for row in rows], np.int64)
    if positive.max() > ANNOTATORS:
        print(f"votes are left out: an image has {positive.max()}, expected at most {ANNOTATORS}.", file=sys.stderr)
        return None
    labels = labels[rows]
    return Votes(rows, positive, labels, counted_class(positive, labels))


def vote_report(logits: Floats, votes: Votes, temperatures: Sequence[str]) -> Report:
    """What the votes show of one model.

    Args:
        logits: (N, 2), of all images.
        votes: those on some of the images.
        temperatures: T of each correlation, as it is written in params.yaml; T = 1 is added.

    Returns:
        "levels": `by_agreement`, and "correlation": for each T, ascending ("T1", "T4"), `correlations`.
    """
    voted = logits[votes.rows]
    fractions = votes.positive / ANNOTATORS
    written = {float(t): t for t in ("1", *temperatures)}
    ordered = voted if votes.positive_class == 1 else voted[:, ::-1]
    by_temperature = {temperature_key(written[t]): correlations(ordered, fractions, t) for t in sorted(written)}
    return {
        "levels": by_agreement(voted, votes),
        "correlation": {key: defined for key, defined in by_temperature.items() if defined},
    }


def by_agreement(logits: Floats, votes: Votes) -> dict[str, dict[str, Any]]:
    """Metrics for each level of agreement between annotators that has images.

    Args:
        logits: (M, 2), of the images that have votes.
        votes: those on these images.

    Returns:
        For each level: images (their number), accuracy, nll in nats, and auc if the level has images of both classes.
    """
    majority = np.maximum(votes.positive, ANNOTATORS - votes.positive)
    levels = {}
    for name, size in LEVELS.items():
        chosen = majority == size
        if chosen.any():
            levels[name] = {"images": int(chosen.sum())} | _quality(logits[chosen], votes.labels[chosen])
    return levels


def correlations(logits: Floats, fractions: Floats, temperature: float) -> dict[str, float]:
    """Correlation of the softened probability of the positive class with the fraction of votes for it.

    Args:
        logits: (M, 2), the positive class last.
        fractions: (M,), 0 to 1.
        temperature: T of the probability softmax(v / T).

    Returns:
        pearson (linear) and spearman (of ranks), -1 to 1; one that is not defined, as of equal numbers, is left out.
    """
    probability = np.exp(log_softmax(np.asarray(logits, np.float64) / temperature)[:, 1])
    # The margin ranks as the probability does, without its ties near 0 and 1.
    margin = np.asarray(logits[:, 1], np.float64) - logits[:, 0]
    both = {
        "pearson": _correlation(probability, np.asarray(fractions, np.float64)),
        "spearman": _correlation(rankdata(margin), rankdata(fractions)),
    }
    return {name: value for name, value in both.items() if value is not None}


def report_over_seeds(reports: Sequence[Report]) -> Report:
    """Joins the `vote_report` of each seed: a number becomes a `metrics.Estimate`, a count of images stays as it is."""
    levels = {
        name: over_seeds(one["levels"][name] for one in reports) | {"images": first["images"]}
        for name, first in reports[0]["levels"].items()
    }
    keys = dict.fromkeys(key for one in reports for key in one["correlation"])
    correlation = {key: over_seeds(one["correlation"].get(key, {}) for one in reports) for key in keys}
    return {"levels": levels, "correlation": correlation}


def _quality(logits: Floats, labels: Ints) -> dict[str, float]:
    quality = {"accuracy": accuracy(logits, labels)}
    if len(np.unique(labels)) == 2:
        quality["auc"] = area_under_roc_curve(logits, labels)
    return quality | {"nll": negative_log_likelihood(logits, labels)}


def _correlation(left: npt.NDArray[np.float64], right: npt.NDArray[np.float64]) -> float | None:
    """Pearson's r; None where one side does not vary."""
    if any(np.ptp(side) <= ROUNDING * np.max(np.abs(side)) for side in (left, right)):
        return None
    left, right = left - left.mean(), right - right.mean()
    return float(left @ right / (np.linalg.norm(left) * np.linalg.norm(right)))
