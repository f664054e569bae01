"""A table of logits that another program made: its rows by image id and view, checked."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.models.logit_formats import EXPECTED_COLUMNS, LIST, Kind, Unchecked
from pipeline.models.logits_in_csv import read_csv_file
from pipeline.models.logits_in_npz import EXPECTED_ARRAYS, read_arrays
from pipeline.models.logits_in_parquet import read_parquet
from pipeline.runtime.errors import MissingError, UnusableError, all_named, quoted

FORMATS: dict[str, tuple[Callable[[Path], Unchecked], str]] = {
    ".npz": (read_arrays, EXPECTED_ARRAYS),
    ".csv": (read_csv_file, EXPECTED_COLUMNS),
    ".parquet": (read_parquet, EXPECTED_COLUMNS),
}
"""The reader of each format and what it expects, by the ending of a file's name."""

LARGEST_VIEW = 65534
"""The number of the last view where there are as many as params.yaml allows."""

SUM_TOLERANCE = 0.01
"""How far the sum of a row of probabilities may be from 1: the effect of rounding to 16 bits or to a few digits."""

SMALLEST_PROBABILITY = float(np.finfo(np.float32).tiny)
"""What is smaller, such as 0, counts as this: 1.2e-38, a logit of -87.3. The logit of 0 would be infinite."""

BLOCK = 4096
"""How many rows are computed in one step, so that a large table is not there twice in float64."""

Floats32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LogitTable:
    """Logits of R views, each view of each image at most once.

    Attributes:
        ids: the image of each row, in the order of the file.
        views: (R,) int64, the number of the view, from 0.
        logits: (R, C) float32, all finite.
        class_names: the class of each column, all different; None: the file does not say it.
        kind: what the file holds; probabilities p became logits log p.
        rendering: how the views were rendered, as `images.resize.rendering_of` says it; None: the file says nothing.
    """

    ids: list[str]
    views: Ints
    logits: Floats32
    class_names: list[str] | None
    kind: Kind
    rendering: str | None


def read_logit_table(path: Path) -> LogitTable:
    """Reads and checks a table of logits or probabilities.

    Args:
        path: a file that ends in .npz, .csv or .parquet.

    Returns:
        Its rows. Of probabilities p, the logits are log p, computed in float64 and rounded once: their softmax is p.

    Raises:
        MissingError: there is no such file, or no package that reads it.
        DamagedError: the file cannot be read.
        UnusableError: something is missing, of another type or shape, or can be no logit or probability.
    """
    ending = path.suffix.lower()
    if ending not in FORMATS:
        raise UnusableError(
            f"{path} does not end in {', '.join(FORMATS)}, the formats of tables of logits. Convert or rename it."
        )
    if not path.is_file():
        raise MissingError(f"there is no file {path}. Put it there, or name another.")
    read, expected = FORMATS[ending]
    table = read(path)
    rows, classes = table.values.shape
    if rows == 0 or classes < 2:
        raise UnusableError(f"{path} has {rows} row(s) of {classes} class(es); expected at least 1 of 2. {expected}")
    _refuse_no_texts(path, "ids", table.ids)
    _refuse_no_texts(path, "class names", table.class_names or [])
    _refuse_no_texts(path, "texts of a rendering", [table.rendering] if table.rendering else [])
    if repeated := _repeated(table.class_names or []):
        raise UnusableError(f"{path} names the class {quoted(repeated)} more than once. Give each class another name.")
    views = _views(path, table)
    logits = _logits(path, table, views) if table.kind == "logits" else _log_probabilities(path, table, views)
    return LogitTable(table.ids, views, logits, table.class_names, table.kind, table.rendering or None)


def _refuse_no_texts(path: Path, what: str, texts: Sequence[str]) -> None:
    bad = [f"{text!a} (number {row + 1})" for row, text in enumerate(texts) if not text or _has_surrogates(text)]
    if bad:
        raise UnusableError(
            f"{path} has {len(bad)} {what} that are empty or no text in UTF-8: {all_named(bad, LIST)}. Correct them."
        )


def _has_surrogates(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def _repeated(values: Sequence[Any]) -> list[Any]:
    return [value for value, count in Counter(values).items() if count > 1]


def _views(path: Path, table: Unchecked) -> Ints:
    """The view of each row; refused if a number cannot be one, or two rows are of the same view of an image."""
    views = np.zeros(len(table.ids), np.int64) if table.views is None else table.views
    wrong = (views < 0) | (views > LARGEST_VIEW)
    _refuse(path, table, views, wrong, f"numbers of views that are not 0 to {LARGEST_VIEW}", "Number views from 0.")
    repeated = _repeated(list(zip(table.ids, views.tolist(), strict=True)))
    if repeated:
        remedy = "Keep one row for each image and view."
        if table.views is None:
            remedy = "It does not say which view a row is of, so each counts as view 0: add the numbers of the views."
        raise UnusableError(f"{path} has {len(repeated)} view(s) more than once: {_named(repeated)}. {remedy}")
    return views.astype(np.int64)


def _logits(path: Path, table: Unchecked, views: Ints) -> Floats32:
    with np.errstate(over="ignore"):
        logits: Floats32 = table.values.astype(np.float32)
    bad = np.logical_not(np.isfinite(logits).all(axis=1))
    _refuse(path, table, views, bad, "row(s) with a logit that is missing, not finite or beyond float32", "Mend them.")
    return logits


def _log_probabilities(path: Path, table: Unchecked, views: Ints) -> Floats32:
    logits, bad = np.empty(table.values.shape, np.float32), np.empty(len(table.ids), bool)
    for start in range(0, len(logits), BLOCK):
        rows = slice(start, start + BLOCK)
        part = np.nan_to_num(table.values[rows].astype(np.float64), nan=-1, posinf=-1, neginf=-1)
        bad[rows] = (part < 0).any(axis=1) | (abs(part.sum(axis=1) - 1) > SUM_TOLERANCE)
        logits[rows] = np.log(np.maximum(part, SMALLEST_PROBABILITY))
    what = f"row(s) of probabilities that are missing, below 0, or do not sum to 1 (within {SUM_TOLERANCE:g})"
    _refuse(path, table, views, bad, what, "If they are logits, name them so; divide percentages by 100.")
    return logits


def _refuse(
    path: Path, table: Unchecked, views: npt.NDArray[Any], bad: npt.NDArray[np.bool_], what: str, remedy: str
) -> None:
    """Refuses a table if rows are bad."""
    if bad.any():
        named = _named([(table.ids[row], int(views[row])) for row in np.flatnonzero(bad)])
        raise UnusableError(f"{path} has {np.count_nonzero(bad)} {what}: {named}. {remedy}")


def _named(rows: Sequence[tuple[str, int]]) -> str:
    return all_named([f"{image_id!r} (view {view})" for image_id, view in rows], LIST)
