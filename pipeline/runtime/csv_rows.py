"""Rows of CSV files as this program writes and reads them: lines that end in a newline alone, below a known header."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pipeline.runtime.errors import DamagedError


class _Lines:
    """What `csv.writer` writes to; the writer returns what this returns."""

    @staticmethod
    def write(line: str) -> str:
        return line.removesuffix("\r\n") + "\n"


def csv_rows(rows: Iterable[Iterable[object]]) -> Iterator[str]:
    """Each row with its newline; a value with a comma, a quotation mark or any line break stands in quotes.

    Python's `csv.writer` with the ending "\\n" writes a carriage return without quotes, and readers then see two rows.
    """
    return map(csv.writer(_Lines, lineterminator="\r\n").writerow, rows)


def csv_row(values: Iterable[object]) -> str:
    """One row, as `csv_rows` gives it."""
    return next(csv_rows([values]))


def read_rows(path: Path, columns: Sequence[str], remedy: str) -> Iterator[list[str]]:
    """The rows below the header of a CSV file, which exists, one at a time; they may have any number of values.

    Args:
        path: the file.
        columns: what the header must be.
        remedy: how to get the file again, as a sentence.

    Raises:
        DamagedError: it is no CSV file in UTF-8, or has another header.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.reader(file)
            header = next(rows, [])
            if header != [*columns]:
                raise DamagedError(f"{path} has the columns {header}, expected {[*columns]}. {remedy}")
            yield from rows
    except (UnicodeDecodeError, csv.Error) as error:
        raise DamagedError(f"{path} cannot be read as a CSV file in UTF-8: {error}. {remedy}") from None
