"""What a classifier's logits are worth where classes are of different sizes; also for the test images."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from pipeline.measures.slabs import slabs

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]
CLASSES_AT_ONCE = 16
"""Classes of which float64 scores are in memory at a time."""


def recalls(logits: Floats, labels: Ints) -> npt.NDArray[np.float64]:
    """Of the images of each class, the share whose largest logit is that class's: (C,); NaN for one without images."""
    right, classes = np.argmax(logits, axis=1) == labels, logits.shape[1]
    counts = np.bincount(labels, minlength=classes)
    found = np.bincount(labels, right, classes)
    return np.asarray(np.divide(found, counts, out=np.full(classes, math.nan), where=counts > 0))


def balanced_accuracy(logits: Floats, labels: Ints) -> float:
    """The mean of the `recalls` of the classes that have images (Brodersen et al., 2010)."""
    return float(np.nanmean(recalls(logits, labels)))


def area_under_roc_curve(logits: Floats, labels: Ints) -> float:
    """The AUC of the last of two classes; with more classes, the mean of the AUC of each class against the rest.

    A class without images, or with all of them, is left out; NaN if there is no other one.
    """
    areas = [
        roc_auc_score(labels == number, scores)
        for number, scores in one_against_rest(logits)
        if 0 < np.count_nonzero(labels == number) < len(labels)
    ]
    return float(np.mean(areas)) if areas else math.nan


def one_against_rest(logits: Floats) -> Iterator[tuple[int, npt.NDArray[np.float64]]]:
    """The scores of the last of two classes; with more classes, of each against the rest.

    Args:
        logits: (N, C).

    Yields:
        The number of a class, and log(p / (1 - p)) of each image, (N,): it ranks as p does, without the ties of p near
        0 and 1.
    """
    largest = np.max(logits, axis=1, keepdims=True)
    top, total, rest_of_top = _sums_of_powers(logits)
    for start in range(0, logits.shape[1], CLASSES_AT_ONCE):
        shifted = np.asarray(logits[:, start : start + CLASSES_AT_ONCE], np.float64) - largest
        rest = total[:, None] - np.exp(shifted)
        (rows,) = np.nonzero((start <= top) & (top < start + CLASSES_AT_ONCE))
        rest[rows, top[rows] - start] = rest_of_top[rows]
        scores = shifted - np.log(np.maximum(rest, np.finfo(np.float64).tiny))
        for number, of_class in enumerate(scores.T, start):
            if number or logits.shape[1] != 2:
                yield number, of_class


def _sums_of_powers(logits: Floats) -> tuple[Ints, Floats, Floats]:
    """Of N rows of exp(v - largest v): the largest power's class, the sum of all, and the sum of all but the largest.

    That of the others is no difference, which would lose its digits.
    """
    top, total, others = np.empty(len(logits), np.int64), np.empty(len(logits)), np.empty(len(logits))
    for part in slabs(*logits.shape):
        powers = np.exp(np.asarray(logits[part], np.float64) - np.max(logits[part], axis=1, keepdims=True))
        total[part], top[part] = powers.sum(axis=1), np.argmax(powers, axis=1)
        powers[np.arange(len(powers)), top[part]] = 0.0
        others[part] = powers.sum(axis=1)
    return top, total, others
