"""Rows of CSV files as this program writes and reads them: lines that end in a newline alone, below a known header."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.runtime.errors import DamagedError


def csv_row(values: Iterable[object]) -> str:
    """One row with its newline; a value with a comma, a quotation mark or any line break stands in quotes.

    Python's `csv.writer` with the ending "\\n" writes a carriage return without quotes, and readers then see two rows.
    """
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator="\r\n").writerow(values)
    return line.getvalue().removesuffix("\r\n") + "\n"


def read_rows(path: Path, columns: Sequence[str], remedy: str) -> list[list[str]]:
    """The rows below the header of a CSV file, which exists; they may have any number of values.

    Args:
        path: the file.
        columns: what the header must be.
        remedy: how to get the file again, as a sentence.

    Raises:
        DamagedError: it is no CSV file in UTF-8, or has another header.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = list(csv.reader(file)) or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DamagedError(f"{path} cannot be read as a CSV file in UTF-8: {error}. {remedy}") from None
    if header != [*columns]:
        raise DamagedError(f"{path} has the columns {header}, expected {[*columns]}. {remedy}")
    return rows
