"""Slabs of rows, so that the float64 copies of many images' logits take little memory."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

NUMBERS_AT_ONCE = 2**18
"""The numbers of a slab; they stay in a processor's cache."""


def slabs(count: int, columns: int) -> Iterator[slice]:
    """Slices of `count` rows of so many columns, at least one of them; a slab holds `NUMBERS_AT_ONCE` or one row."""
    step = max(1, NUMBERS_AT_ONCE // columns)
    for start in range(0, max(1, count), step):
        yield slice(start, min(start + step, count))


def in_slabs(function: Callable[..., npt.NDArray[Any]], logits: npt.NDArray[Any], *others: Any) -> npt.NDArray[Any]:
    """What a function gives for each of N images, (N, ...), from slabs of logits (N, C) and of others (N, ...)."""
    parts = slabs(*logits.shape)
    return np.concatenate([function(logits[rows], *(each[rows] for each in others)) for rows in parts])
