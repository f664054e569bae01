"""The operations that change the pixels of a view: their codes, their strengths, and how strengths are drawn.

docs/format.md gives the formula of each; `pixel_operations` computes it. Strength 0 changes nothing. This module does
not import TensorFlow.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats64 = npt.NDArray[np.float64]
Draw = Callable[[Floats64, float], Any]


def _either_way(uniform: Floats64, largest: float) -> Any:
    return (2.0 * uniform - 1.0) * largest


def _up_to(uniform: Floats64, largest: float) -> Any:
    return uniform * largest


def _whole_up_to(uniform: Floats64, largest: float) -> Any:
    """For a whole `largest`, 0 to `largest` have equal chances."""
    return np.floor(uniform * (largest + 1.0))


def _always(uniform: Floats64, largest: float) -> Any:
    return np.full_like(uniform, largest)


@dataclass(frozen=True)
class Operation:
    """One kind of change.

    Attributes:
        code: what files store for it, from 1 on (0 is a place without an operation); never changes.
        limit: the largest strength that params.yaml may name; the smallest lies above 0.
        at_magnitude_10: its largest strength in RandAugment (Cubuk et al., arXiv:1909.13719) at magnitude 10.
        draw: (N,) strengths from (N,) uniform numbers in [0, 1) and the largest strength.
    """

    code: int
    limit: float
    at_magnitude_10: float
    draw: Draw


OPERATIONS = {
    "blur": Operation(1, 0.1, 0.01, _up_to),
    "hue": Operation(2, 0.5, 0.1, _either_way),
    "saturation": Operation(3, 1.0, 0.9, _either_way),
    "grayscale": Operation(4, 1.0, 1.0, _always),
    "solarize": Operation(5, 1.0, 1.0, _up_to),
    "posterize": Operation(6, 7.0, 4.0, _whole_up_to),
    "autocontrast": Operation(7, 1.0, 1.0, _always),
    "equalize": Operation(8, 1.0, 1.0, _always),
    "sharpness": Operation(9, 1.0, 0.9, _either_way),
}
"""By name; `operations` of `views.augmentation` in params.yaml lists them."""
