"""From what a runtime answers to logits, and what it may be asked."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.deployed.metadata import REMEDY, Metadata, Output
from pipeline.runtime.errors import DamagedError

SMALLEST = float(np.finfo(np.float32).tiny)
"""The smallest number of full precision in float32, about 1e-38."""


def refuse_other_pixels(pixels: npt.NDArray[Any], metadata: Metadata) -> None:
    """Checks pixels before a runtime sees them.

    Raises:
        ValueError: they are not uint8, not of the file's size, or there is no image.
    """
    expected = metadata.input_shape
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != expected or not len(pixels):
        raise ValueError(f"expected uint8 pixels of shape (images, {expected}), got {pixels.dtype} {pixels.shape}")


def refuse_other_input(shape: Sequence[Any], dtype: str, metadata: Metadata) -> None:
    """Compares the input of a file's graph with what its metadata say.

    Args:
        shape: of one image.
        dtype: the name of its type.
        metadata: of the file.

    Raises:
        DamagedError: they differ.
    """
    if (tuple(shape), dtype) != (metadata.input_shape, "uint8"):
        raise DamagedError(
            f"the file takes {dtype} of shape {tuple(shape)}, and says of itself that it takes uint8 of shape "
            f"{metadata.input_shape}. {REMEDY}"
        )


def as_logits(answers: npt.NDArray[Any], output: Output, least: float) -> npt.NDArray[np.float32]:
    """(N, C) logits up to a constant.

    Args:
        answers: (N, C), what the runtime gave.
        output: what that is.
        least: takes the place of smaller probabilities, whose logarithm would be minus infinity.
    """
    if output == "logits":
        return answers.astype(np.float32)
    return np.log(np.maximum(answers.astype(np.float32), np.float32(least)))
