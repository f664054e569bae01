"""What a classifier's logits are worth where classes are of different sizes; also for the test images."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]


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
    scores = one_against_rest(logits)
    classes = [1] if scores.shape[1] == 2 else range(scores.shape[1])
    areas = [
        roc_auc_score(labels == number, scores[:, number])
        for number in classes
        if 0 < np.count_nonzero(labels == number) < len(labels)
    ]
    return float(np.mean(areas)) if areas else math.nan


def one_against_rest(logits: Floats) -> npt.NDArray[np.float64]:
    """log(p / (1 - p)) of each class of logits (N, C): it ranks as p does, without the ties of p near 0 and 1."""
    shifted = np.asarray(logits, np.float64) - np.max(logits, axis=1, keepdims=True)
    powers = np.exp(shifted)
    rest = powers.sum(axis=1, keepdims=True) - powers
    # The largest class's rest is summed without it: a difference would lose its digits.
    rows, top = np.arange(len(powers)), np.argmax(powers, axis=1)
    powers[rows, top] = 0.0
    rest[rows, top] = powers.sum(axis=1)
    return np.asarray(shifted - np.log(np.maximum(rest, np.finfo(np.float64).tiny)))
