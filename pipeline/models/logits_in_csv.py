"""Reads a table of logits from a CSV file in UTF-8, with or without a byte-order mark, its fields between commas."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.models.logit_formats import EXPECTED_COLUMNS, LIST, Unchecked, columns_of, one_text
from pipeline.runtime.csv_rows import Records, refuse_large
from pipeline.runtime.errors import DamagedError, UnusableError, all_named, one_line, quoted


def read_csv_file(path: Path) -> Unchecked:
    """Reads the table; ids stay the texts that they are, and other columns are passed over.

    Raises:
        DamagedError: it is no CSV file in UTF-8, or its lines have different numbers of fields.
        UnusableError: a column is missing, misspelt or there twice, or a field is no number.
    """
    records = _records(path)
    _, header = next(records, (0, []))
    if not header:
        raise UnusableError(f"{path} is empty. {EXPECTED_COLUMNS}")
    columns = columns_of(path, header)
    places = {name: place for place, name in enumerate(header)}
    at_classes = [places[name] for name in columns.of_classes]
    at_id, at_view, at_rendering = places["id"], places.get("view"), places.get("rendering")
    ids, views, renderings, rows, bad = [], [], [], [], []
    for line, fields in records:
        ids.append(fields[at_id])
        if at_rendering is not None:
            renderings.append(fields[at_rendering])
        try:
            rows.append(_numbers([fields[place] for place in at_classes]))
            views.append(0 if at_view is None else _view(fields[at_view]))
        except ValueError as error:
            bad.append(f"{error} (line {line})")
    if bad:
        raise UnusableError(f"{path} has {len(bad)} row(s) with a wrong field: {all_named(bad, LIST)}. Correct them.")
    return Unchecked(
        ids,
        None if at_view is None else np.array(views, np.int64),
        np.array(rows, np.float64).reshape(len(rows), len(at_classes)),
        columns.kind,
        columns.class_names,
        one_text(path, renderings),
    )


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The line on which each record begins, and its fields; every record has as many as the first."""
    refuse_large(path)
    line, width = 1, 0
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = Records(file, strict=True)
            for fields in reader:
                width = width or len(fields)
                if fields and len(fields) != width:
                    raise DamagedError(
                        f"{path} has {len(fields)} fields in line {line}, and {width} in its first line. "
                        "Expected commas between fields, and quotation marks around a field with a comma in it."
                    )
                if fields:
                    yield line, fields
                line = reader.line
    except (UnicodeDecodeError, csv.Error) as error:
        raise DamagedError(
            f"{path} cannot be read as a CSV file in UTF-8, in or after line {line}: {one_line(error)}. Write it again."
        ) from None


def _numbers(texts: list[str]) -> npt.NDArray[np.float64]:
    """Numbers as programs write them; Python would also take 1_000 for one."""
    try:
        if "_" not in "".join(texts):
            return np.fromiter(map(float, texts), np.float64, len(texts))
    except ValueError:
        pass
    raise ValueError(f"{quoted([text for text in texts if not _is_number(text)])} is no number")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def _view(text: str) -> int:
    if not re.fullmatch(r"\s*[+-]?[0-9]{1,18}\s*", text):
        raise ValueError(f"the view {quoted([text])} is no whole number")
    return int(text)
