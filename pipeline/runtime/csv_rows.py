"""Rows of CSV files as this program writes and reads them: lines that end in a newline alone, below a known header."""

import csv
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from pipeline.runtime.errors import DamagedError, one_line, quoted
from pipeline.runtime.limits import limits, raised_by

USUAL_FIELD = 64
"""Characters: so long may each field of a record with the most columns be."""


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


class Records:
    """The records of an open CSV file, one at a time; none takes more memory than the limits allow.

    A mark of quotation that is never closed makes one record of all lines behind it, and a line may have no end.

    Args:
        file: opened with `newline=""`.
        dialect: as `csv.reader` takes it.
    """

    def __init__(self, file: TextIO, **dialect: Any) -> None:
        within = limits()
        csv.field_size_limit(within.field_characters)
        self._file, self._columns, self._most = file, within.table_columns, within.field_characters
        self._longest = within.field_characters + USUAL_FIELD * within.table_columns
        self._left = self._longest
        self._reader = csv.reader(self._lines(), **dialect)

    def _lines(self) -> Iterator[str]:
        while line := self._file.readline(self._longest + 1):
            self._left -= len(line)
            if self._left < 0:
                raise self._too_long("a record", self._longest)
            yield line

    def _fields(self) -> Iterator[list[str]]:
        """The fields of each record; a field that is too long is told with the key that allows it."""
        try:
            yield from self._reader
        except csv.Error as error:
            if "field limit" not in str(error):
                raise
            raise self._too_long("a field", self._most) from None

    @staticmethod
    def _too_long(what: str, most: int) -> csv.Error:
        advice = raised_by("field_characters").removesuffix(".")
        return csv.Error(f"{what} has more than {most:,} characters; {advice[0].lower()}{advice[1:]}")

    def __iter__(self) -> Iterator[list[str]]:
        """The fields of each record.

        Raises:
            csv.Error: a record is damaged, or has more characters than a sound one of as many columns.
            DamagedError: a record is beyond a limit.
            UnicodeDecodeError: the file has another encoding.
        """
        for record in self._fields():
            self._left = self._longest
            if len(record) > self._columns:
                raise DamagedError(
                    f"{self._file.name} has a record of {len(record):,} fields. {raised_by('table_columns')}"
                )
            yield record

    @property
    def line(self) -> int:
        """The number of the line behind the last record, counted from 1."""
        return self._reader.line_num + 1


def refuse_large(path: Path) -> None:
    """Checks the size of a table.

    Raises:
        DamagedError: it is beyond the limit.
    """
    most = limits().table_bytes
    if path.stat().st_size > most:
        raise DamagedError(f"{path} has more than {most:,} bytes. {raised_by('table_bytes')}")


def read_rows(path: Path, columns: Sequence[str], remedy: str) -> Iterator[list[str]]:
    """The rows below the header of a CSV file, which exists, one at a time; they may have any number of values.

    Args:
        path: the file.
        columns: what the header must be.
        remedy: how to get the file again, as a sentence.

    Raises:
        DamagedError: it is no CSV file in UTF-8, has another header, or is beyond a limit.
    """
    refuse_large(path)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = iter(Records(file, strict=True))
            header = next(rows, [])
            if header != [*columns]:
                has = quoted(header, 12) or "(none)"
                raise DamagedError(f"{path} has the columns {has}, expected {[*columns]}. {remedy}")
            yield from rows
    except (UnicodeDecodeError, csv.Error) as error:
        raise DamagedError(f"{path} cannot be read as a CSV file in UTF-8: {one_line(error)}. {remedy}") from None


def read_columns(path: Path, columns: Collection[str], remedy: str) -> dict[str, list[str]]:
    """Some columns of a CSV file, which exists, by their names; it may have others.

    Args:
        path: the file.
        columns: their names; those that the file lacks are left out.
        remedy: how to get the file again, as a sentence.

    Raises:
        DamagedError: it is no CSV file in UTF-8, has a row of another length than its header, or is beyond a limit.
    """
    refuse_large(path)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = iter(Records(file, strict=True))
            header = next(rows, [])
            places = {name: header.index(name) for name in columns if name in header}
            found: dict[str, list[str]] = {name: [] for name in places}
            for row in rows:
                if len(row) != len(header):
                    raise csv.Error(f"a row has {len(row):,} fields, and the header {len(header):,}")
                for name, place in places.items():
                    found[name].append(row[place])
            return found
    except (UnicodeDecodeError, csv.Error) as error:
        raise DamagedError(f"{path} cannot be read as a CSV file in UTF-8: {one_line(error)}. {remedy}") from None
