"""Files of results: how tables are written and read; a missing or damaged file is refused, with what makes it again.

Results come with a clone or over a shared remote. So each reader says which values of which kind it needs, and what is
read holds them.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.runtime.csv_rows import csv_rows, read_columns
from pipeline.runtime.errors import DamagedError, MissingError, one_line
from pipeline.runtime.text_files import parsed_json, read_text

ROWS_AT_ONCE = 1024
"""Rows that are text at a time."""
NUMBER = "%.6g"
"""How a number with a fraction is written."""

LARGEST = 1e100
"""The size of numbers up to which sums and squares stay finite, and figures can be drawn."""

Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
NotNegative = Annotated[float, Field(ge=0, le=LARGEST)]
Share = Annotated[float, Field(ge=0, le=1)]
LARGEST_COUNT = 2**53
"""Up to here, a float holds every whole number."""

Count = Annotated[int, Field(ge=0, le=LARGEST_COUNT)]
Some = Annotated[int, Field(ge=1, le=LARGEST_COUNT)]
"""A count of what is there: of test images, or bytes of a file."""
Ends = Annotated[list[Number], Field(min_length=2, max_length=2)]
"""The lower and the upper end of an interval."""

Kind = Literal["text", "whole", "number", "share"]
"""What a column holds: texts; whole numbers from 0; numbers, nan in an empty field; or numbers from 0 to 1."""


@contextmanager
def reading(path: Path, what: str, remedy: str, if_missing: str = "") -> Iterator[None]:
    """Turns what is wrong with a file into a message for the user.

    Args:
        path: the file that the block reads.
        what: the content of the file, in the plural: "metrics".
        remedy: how to make the file again, as a sentence.
        if_missing: the same where there is no such file, if that differs.

    Raises:
        MissingError: there is no such file.
        DamagedError: it cannot be read, or does not hold what the block looks for.
    """
    if not path.is_file():
        raise MissingError(f"there are no {what} at {path}. {if_missing or remedy}")
    try:
        yield
    except (OSError, ValueError) as error:
        raise DamagedError(f"{path} is damaged, its {what} cannot be read: {_reason(error)}. {remedy}") from None


def _reason(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return one_line(error)
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))
    return one_line(f"{place}: {first['msg']}" if place else first["msg"].removeprefix("Value error, "))


class Form(BaseModel):
    """The form of a JSON document: the keys that are needed, and the kinds of their values. Others may be there."""

    model_config = ConfigDict(strict=True)


def checked_json(path: Path, form: type[Form], remedy: str) -> Any:
    """The content of a JSON document, for a block of `reading`.

    Args:
        path: the file.
        form: what it must be.
        remedy: as in `reading`.

    Raises:
        DamagedError: the file is too large, or no text.
        ValueError: it is no JSON document, or one of another form.
    """
    text = read_text(path, remedy)
    document = parsed_json(text)
    form.model_validate_json(text)
    return document


def checked_table(path: Path, kinds: Mapping[str, Kind], optional: Mapping[str, Kind], remedy: str) -> pd.DataFrame:
    """Columns of a CSV file, for a block of `reading`.

    Args:
        path: the file.
        kinds: the columns that are needed, and what each holds.
        optional: the same of columns that may be missing. Others are passed over.
        remedy: as in `reading`.

    Raises:
        DamagedError: the file is too large, or no CSV file.
        ValueError: a column is missing, or holds something else.
    """
    found = read_columns(path, [*kinds, *optional], remedy)
    if missing := [name for name in kinds if name not in found]:
        raise ValueError(f"the column {missing[0]} is missing")
    return pd.DataFrame({name: _values(name, texts, {**kinds, **optional}[name]) for name, texts in found.items()})


def _values(name: str, texts: Sequence[str], kind: Kind) -> "Sequence[str] | npt.NDArray[Any]":
    if kind == "text":
        return texts
    try:
        numbers = np.array([text or "nan" for text in texts], np.float64)
    except ValueError as error:
        raise ValueError(f"the column {name} holds other things than numbers: {error}") from None
    if kind == "number" and not (np.abs(numbers[np.isfinite(numbers)]) <= LARGEST).all():
        raise ValueError(f"the column {name} holds a number beyond {LARGEST:g}")
    if kind == "share" and not ((numbers >= 0) & (numbers <= 1)).all():
        raise ValueError(f"the column {name} holds something else than numbers from 0 to 1")
    if kind == "whole":
        if not ((numbers == np.round(numbers)) & (numbers >= 0) & (numbers < 2**53)).all():
            raise ValueError(f"the column {name} holds something else than whole numbers from 0")
        return numbers.astype(np.int64)
    return numbers


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Writes a CSV file, without the table's index; numbers have six digits."""
    with path.open("w", encoding="utf-8", newline="") as file:
        for start in range(0, max(1, len(table)), ROWS_AT_ONCE):
            file.writelines(lines_of(table.iloc[start : start + ROWS_AT_ONCE], header=start == 0))


def lines_of(rows: pd.DataFrame, *, header: bool = False) -> Iterator[str]:
    """The lines of some rows of a table in a CSV file, each with its newline; a header may come first."""
    # pandas, too, leaves a carriage return without quotes, unless its lines end in one.
    text = rows.to_csv(index=False, header=header, lineterminator="\r\n", float_format=NUMBER)
    return csv_rows(csv.reader(io.StringIO(text, newline="")))
