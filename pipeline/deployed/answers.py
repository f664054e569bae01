"""From what a runtime answers to logits, and what it may be asked."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.deployed.metadata import REMEDY, Metadata, Output
from pipeline.runtime.errors import DamagedError

End = tuple[tuple[Any, ...], str]
"""An input or output of a graph: its shape, with the number of images, and the name of its type."""

ANSWERS = ("float32", "uint8", "int8")
"""The types of what a file gives."""

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


def refuse_other_ends(taken: Sequence[End], given: Sequence[End], metadata: Metadata) -> None:
    """Compares the inputs and outputs of a file's graph with what its metadata say.

    Args:
        taken: the shape and type of each input.
        given: of each output.
        metadata: of the file.

    Raises:
        DamagedError: they differ.
    """
    if len(taken) != 1 or len(given) != 1:
        raise DamagedError(
            f"the file has {len(taken)} inputs and {len(given)} outputs; expected the images and their logits. {REMEDY}"
        )
    (shape, dtype), (answers, kind) = taken[0], given[0]
    if (shape[1:], dtype) != (metadata.input_shape, "uint8"):
        raise DamagedError(
            f"the file takes {dtype} of shape {shape[1:]}, and says of itself that it takes uint8 of shape "
            f"{metadata.input_shape}. {REMEDY}"
        )
    if len(answers) != 2 or kind not in ANSWERS:
        raise DamagedError(
            f"the file gives {kind} of shape {answers}; expected (images, classes) of {' or '.join(ANSWERS)}. {REMEDY}"
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
