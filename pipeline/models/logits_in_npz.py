"""Reads a table of logits from a NumPy file, `.npz`."""

from pathlib import Path
from typing import Any

import numpy.typing as npt

from pipeline.models.logit_formats import PREFIXES, Unchecked, misspelt_names, one_kind, refuse_names
from pipeline.runtime.errors import DamagedError, UnusableError, one_line
from pipeline.runtime.npz_files import read_npz

EXPECTED_ARRAYS = (
    "Expected the arrays ids (R texts) and logits or probabilities (R rows, a column for each class), and, if you "
    "like, views (R whole numbers), class_names (a text for each class) and rendering (a text)."
)


def read_arrays(path: Path) -> Unchecked:
    """Reads the table; other arrays are passed over.

    Raises:
        DamagedError: the file cannot be read.
        UnusableError: an array is missing, misspelt, or of another type or shape.
    """
    example = "ids=..., views=..., logits=..., class_names=..."
    arrays = read_npz(path, example=example, plain="ids as texts and logits as floating-point numbers")
    held = [kind for kind in PREFIXES.values() if kind in arrays]
    known = ("ids", "views", "class_names", "rendering", *([] if held else PREFIXES.values()))
    misspelt = misspelt_names(arrays, known)
    refuse_names(path, "array", sorted(arrays), misspelt, EXPECTED_ARRAYS, ids="ids", has_values=bool(held))
    kind = one_kind(path, held)
    values, ids, views, names = arrays[kind], arrays["ids"], arrays.get("views"), arrays.get("class_names")
    if values.ndim != 2 or values.dtype.kind != "f":
        raise _other(path, kind, values, "floating-point numbers of shape (R, C)")
    if ids.dtype.kind not in "US" or ids.shape != values.shape[:1]:
        raise _other(path, "ids", ids, f"texts of shape ({len(values)},), one for each row of {kind}")
    if views is not None and (views.dtype.kind not in "iu" or views.shape != ids.shape):
        raise _other(path, "views", views, f"whole numbers of shape {ids.shape}")
    if names is not None and (names.dtype.kind not in "USiu" or names.shape != values.shape[1:]):
        raise _other(path, "class_names", names, f"texts of shape ({values.shape[1]},), one for each column of {kind}")
    rendering = arrays.get("rendering")
    if rendering is not None and (rendering.dtype.kind not in "US" or rendering.size != 1):
        raise _other(path, "rendering", rendering, "one text")
    return Unchecked(
        _texts(path, "ids", ids),
        views,
        values,
        kind,
        None if names is None else _texts(path, "class_names", names),
        None if rendering is None else _texts(path, "rendering", rendering.reshape(-1))[0],
    )


def _other(path: Path, name: str, array: npt.NDArray[Any], expected: str) -> UnusableError:
    return UnusableError(
        f"{path}: {name} is of type {array.dtype} and shape {array.shape}; expected {expected}. Store it so."
    )


def _texts(path: Path, name: str, array: npt.NDArray[Any]) -> list[str]:
    try:
        return [value.decode() if isinstance(value, bytes) else str(value) for value in array.tolist()]
    except (ValueError, SystemError) as error:  # bytes of another encoding; numbers that are no code points
        raise DamagedError(
            f"{path}: {name} holds bytes that are no text in UTF-8: {one_line(error)}. Store it as texts."
        ) from None
