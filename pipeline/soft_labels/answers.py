"""A teacher's answers to labelled images: what `chance` and `softness` judge."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.images.index import NO_LABEL, SplitName
from pipeline.soft_labels.reading import SoftLabelFile, slabs

Ints = npt.NDArray[np.integer[Any]]
Floats = npt.NDArray[np.floating[Any]]

MOST_ROWS = 4096
"""Rows of logits that are looked at, so that memory stays flat with any number of images."""


@dataclass(frozen=True)
class Answers:
    """A teacher's answers to the first view of each labelled image of one split, where that is not mixed.

    Outside of training, the first view is the untouched image.

    Attributes:
        labels: (N,) class indices.
        predictions: (N,) indices of the largest logits.
        logits: (R, C), the logits of the R images in `sample_of(N)`; a constant may have been added to each row.
    """

    labels: Ints
    predictions: Ints
    logits: Floats

    @property
    def accuracy(self) -> float:
        """Share of images whose largest logit is the labelled class's."""
        return float(np.mean(self.labels == self.predictions))


def sample_of(count: int) -> slice:
    """The rows of at most `MOST_ROWS` of `count` images, evenly spaced."""
    return slice(0, count, max(1, -(-count // MOST_ROWS)))


def answers_in(file: SoftLabelFile, split: SplitName) -> Answers:
    """The answers in a soft-label file; from soft labels p, the logits are computed as T log p, up to a constant."""
    labels = file.unmixed_labels(split, 0)
    labelled = np.flatnonzero(labels != NO_LABEL)
    sample = labelled[sample_of(len(labelled))]
    predictions, logits = [], []
    for rows in slabs(len(labels)):
        values = _values(file, split, rows)
        predictions.append(values.argmax(axis=1))
        logits.append(values[sample[(rows.start <= sample) & (sample < rows.stop)] - rows.start])
    return Answers(labels[labelled], np.concatenate(predictions)[labelled], np.concatenate(logits))


def _values(file: SoftLabelFile, split: SplitName, rows: slice) -> Floats:
    if file.temperature is None:
        return file.storage.logits(file.columns(split, 0, rows), file.classes)
    smallest = np.finfo(np.float32).smallest_subnormal  # a smaller probability was rounded to 0
    probabilities = np.maximum(file.soft_labels(split, 0, rows), smallest)
    return np.asarray(file.temperature * np.log(probabilities, dtype=np.float64))
