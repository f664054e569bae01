"""Annotators' votes in the index: seven people each chose one of two classes for an image (MHIST, arXiv:2101.12355)."""

from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.integer[Any]]

ANNOTATORS = 7


def counted_class(votes: Ints, labels: Ints) -> int:
    """The class, 0 or 1, that votes count: the one whose images have more of them; 1 if both have as many.

    Args:
        votes: (N,), how many of the annotators chose that class for each image, 0 to 7.
        labels: (N,) class indices, 0 or 1.
    """
    of_each = [votes[labels == number].mean() if (labels == number).any() else None for number in range(2)]
    first, last = (ANNOTATORS / 2 if mean is None else mean for mean in of_each)
    return int(last >= first)


def logits_of_votes(votes: Ints, counted: int, smoothing: float) -> npt.NDArray[np.float32]:
    """The logits log p of smoothed shares of votes, p = (n + s) / (N + 2 s) (additive smoothing; Lidstone, 1920).

    Args:
        votes: (B,), how many of the N annotators chose the class `counted` for each image.
        counted: 0 or 1.
        smoothing: s > 0.

    Returns:
        (B, 2).
    """
    for_counted = votes.astype(np.float64)
    counts = np.stack([ANNOTATORS - for_counted, for_counted], axis=1)
    logits = np.log(counts + smoothing) - np.log(ANNOTATORS + 2 * smoothing)
    return np.asarray(logits if counted == 1 else logits[:, ::-1], np.float32)
