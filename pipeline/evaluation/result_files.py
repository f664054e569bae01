"""Files of results: how tables are written; and a missing or damaged file is refused, with what makes it again."""

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from pipeline.runtime.csv_rows import csv_rows
from pipeline.runtime.errors import DamagedError, MissingError

ROWS_AT_ONCE = 1024
"""Rows that are text at a time."""
NUMBER = "%.6g"
"""How a number with a fraction is written."""


@contextmanager
def reading(path: Path, what: str, remedy: str, if_missing: str = "") -> Iterator[None]:
    """Turns every error that occurs while a file is read into a message for the user.

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
    except (OSError, LookupError, TypeError, AttributeError, ValueError) as error:
        raise DamagedError(f"{path} is damaged, its {what} cannot be read: {error!r}. {remedy}") from None


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
