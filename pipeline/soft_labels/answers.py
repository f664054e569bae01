"""What a teacher says of labelled images: what is looked at before it is trusted."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.images.index import SplitName
from pipeline.soft_labels.reading import SoftLabelFile, slabs

Ints = npt.NDArray[np.integer[Any]]
Floats = npt.NDArray[np.floating[Any]]

MOST_ROWS = 4096
"""Of logits that are looked at, so that memory stays flat however many images and classes there are."""


@dataclass(frozen=True)
class Answers:
    """What a teacher says of the untouched images of one split, or of their first view.

    Attributes:
        labels: (N,) class indices.
        predictions: (N,) indices of the largest logits.
        logits: (R, C) of the images `sample_of(N)`, each row up to a constant.
    """

    labels: Ints
    predictions: Ints
    logits: Floats

    @property
    def accuracy(self) -> float:
        """Share of images whose largest logit is the labelled class's."""
        return float(np.mean(self.labels == self.predictions))


def sample_of(count: int) -> slice:
    """At most `MOST_ROWS` of `count` images, evenly spaced."""
    return slice(0, count, max(1, -(-count // MOST_ROWS)))


def answers_in(file: SoftLabelFile, split: SplitName) -> Answers:
    """What the teacher says in a soft-label file; soft labels give logits back but for a constant, T log p."""
    count = file.count(split)
    predictions = np.concatenate([_values(file, split, rows).argmax(axis=1) for rows in slabs(count)])
    return Answers(file.labels(split), predictions, _values(file, split, sample_of(count)))


def _values(file: SoftLabelFile, split: SplitName, rows: slice) -> Floats:
    columns = file.columns(split, 0, rows)
    if file.temperature is None:
        return file.storage.logits(columns, file.classes)
    smallest = np.finfo(np.float32).smallest_subnormal  # what is smaller became 0
    probabilities = np.maximum(file.storage.probabilities(columns, file.classes), smallest)
    return np.asarray(file.temperature * np.log(probabilities, dtype=np.float64))
