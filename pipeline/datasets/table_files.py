"""Reads tables from text files. Finds the separator and the header if they are not stated, and keeps line numbers."""

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pipeline.datasets.labelled import refuse_leaving
from pipeline.runtime.csv_rows import Records, refuse_large
from pipeline.runtime.errors import DamagedError, MissingError, UnusableError, all_named, nearest, one_line, quoted
from pipeline.runtime.limits import limits, raised_by

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "blanks"}
NO_SEPARATOR = "\x1f"
"""A character that no name holds, so that a line with commas or blanks is one field."""

LOOKED_AT = 100
"""How many records are looked at to find the separator of a table without a header."""

TableKey = Literal["annotations", "validation_ids", "test_ids"]
"""A key of the section `split` that names a table."""

LIKE_DATA = re.compile(r"-?[0-9]+(\.[0-9]+)?|.+\.(png|jpe?g|bmp|gif|tiff?|webp)", re.IGNORECASE)


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        path: its file.
        columns: names of the columns; "1", "2", ... if the file has no header.
        rows: N rows, each with a field for each column.
        lines: the line of the file on which each row begins, counted from 1.
        has_header: whether the file names the columns.
    """

    path: Path
    columns: list[str]
    rows: list[list[str]]
    lines: list[int]
    has_header: bool

    def column(self, name: str) -> list[str]:
        """The N fields of a column."""
        position = self.columns.index(name)
        return [row[position] for row in self.rows]

    def part(self, rows: Sequence[int]) -> "Table":
        """The table with some of its rows."""
        return replace(self, rows=[self.rows[row] for row in rows], lines=[self.lines[row] for row in rows])

    def lines_of(self, rows: Sequence[int]) -> str:
        """The lines of the first rows, for a message."""
        return ("lines " if len(rows) > 1 else "line ") + all_named([str(self.lines[row]) for row in rows])

    def places(self, rows: Sequence[int], names: Sequence[str]) -> str:
        """The names of the first rows with their lines, for a message."""
        return all_named([f"{quoted([names[row]])} (line {self.lines[row]})" for row in rows])


def read_table(
    data: Path,
    table_name: Path,
    columns: Sequence[str],
    *,
    key: TableKey,
    remedy: str,
    separator: str | None = None,
    header: bool | None = None,
) -> Table:
    """Reads a table in UTF-8, or in UTF-16 as Excel writes it.

    Args:
        data: the folder of the data set.
        table_name: the table, relative to `data`.
        columns: the columns that it must have.
        key: the key of the section `split` that names the table.
        remedy: what to do if a column is missing; the message continues with the names of the columns.
        separator: the character between fields, " " for any number of blanks; None finds it.
        header: whether the first line names the columns. If not, their names are "1", "2", ... None means that it
            does, unless `columns` are numbers that the first line does not hold.

    Raises:
        MissingError: there is no such file.
        DamagedError: it cannot be read as a table.
        UnusableError: it has no rows, or a column is missing or there twice.
    """
    path = data / table_name
    _refuse_unreadable(data, path, key)
    has_header = header
    if has_header is None:
        has_header = not all(map(str.isdecimal, columns)) or _fitting(path, columns, has_header=True) is not None
    sign = separator or _fitting(path, columns, has_header) or _most_alike(path, columns)
    records = _all_records(path, sign)
    if not records:
        raise UnusableError(f"{path} is empty. Expected a line with the names of its columns, and one for each image.")
    names = (
        [name.strip() for name in records[0][1]]
        if has_header
        else [str(number + 1) for number in range(max(len(row) for _, row in records))]
    )
    if repeated := sorted({name for name in columns if names.count(name) > 1}):
        raise UnusableError(f"{path} has the column {quoted(repeated)} more than once. Give each column another name.")
    missing = [name for name in columns if name not in names]
    if missing:
        near = nearest(missing[0], names)
        hint = (f"Did you mean {near!r} by {missing[0]!r}? " if near else "") + f"{remedy}: {quoted(columns, 12)}."
        raise UnusableError(
            f"{path} lacks the column{'s' if len(missing) > 1 else ''} {quoted(missing)}; it has {quoted(names, 12)}. "
            f"{_cause(path, records[0][1], columns, separator, has_header, key) or hint}"
        )
    rows = records[1:] if has_header else records
    if not rows:
        raise UnusableError(f"{path} has its header but no rows. Add a row for each image.")
    _refuse_long_rows(path, rows, len(names), sign)
    filled = [(row + [""] * len(names))[: len(names)] for _, row in rows]
    return Table(path, names, filled, [line for line, _ in rows], has_header)


def read_list(data: Path, name: Path, column: str, *, key: TableKey, is_name: Callable[[str], bool]) -> Table | None:
    """Reads a file with a name in each line and no header as a table of one column.

    Args:
        data: the folder of the data set.
        name: the file, relative to `data`.
        column: the name of the column; a first line of this text is a header.
        key: the key of the section `split` that names the file.
        is_name: tells whether a line is a name.

    Returns:
        The table, or None if the first line is no name.

    Raises:
        MissingError: there is no such file.
        DamagedError: it is no text.
    """
    path = data / name
    _refuse_unreadable(data, path, key)
    first = [fields[0].strip() for fields in _first(path, NO_SEPARATOR)]
    if not first or first[0] == column or not is_name(first[0]):
        return None
    records = _all_records(path, NO_SEPARATOR)
    return Table(path, [column], [[fields[0].strip()] for _, fields in records], [line for line, _ in records], False)


def _refuse_unreadable(data: Path, path: Path, key: TableKey) -> None:
    if not path.is_file():
        raise MissingError(
            f"there is no {key} file at {path}. Put it there, or correct split.data and split.{key} in params.yaml."
        )
    refuse_leaving(data, path, key)
    refuse_large(path)
    if _first_bytes(path) == b"PK\x03\x04":  # how zip files begin, and so .xlsx and .ods
        raise DamagedError(f"{path} is a workbook or another zip archive, not a CSV file. Save it as CSV in UTF-8.")


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)


def _all_records(path: Path, separator: str) -> list[tuple[int, list[str]]]:
    """All that `_records` gives; their number, times that of the longest one's fields, is within the limit."""
    records, longest, most = [], 0, limits().table_cells
    for record in _records(path, separator):
        records.append(record)
        longest = max(longest, len(record[1]))
        if len(records) * longest > most:
            raise DamagedError(f"{path} has more than {most:,} fields. {raised_by('table_cells')}")
    return records


def _records(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """(line on which it begins, fields) of each record that is not empty."""
    # Python's csv, not pandas: it gives the line on which a record begins, past blank lines and quoted line ends.
    blanks = separator == " "
    encoding = "utf-16" if _first_bytes(path).startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    line = 1
    try:
        with path.open(newline="", encoding=encoding) as file:
            reader = Records(file, delimiter=separator, skipinitialspace=not blanks, strict=True)
            for record in reader:
                fields = [field for field in record if field] if blanks else record
                if any(fields):
                    yield line, fields
                line = reader.line
    except UnicodeError as error:
        raise DamagedError(
            f"{path} cannot be read as a CSV file in UTF-8: {one_line(error)}. Save it as CSV in UTF-8."
        ) from None
    except csv.Error as error:
        raise DamagedError(
            f"{path} cannot be read as a CSV file: the record that begins on line {line} is damaged "
            f"({one_line(error)}). Look there for a quotation mark that is not closed."
        ) from None


def _first(path: Path, separator: str, count: int = 1) -> list[list[str]]:
    """The first records, or none if they cannot be read with this separator."""
    try:
        return [fields for _, (_, fields) in zip(range(count), _records(path, separator), strict=False)]
    except DamagedError:
        return []


def _fitting(path: Path, columns: Sequence[str], has_header: bool) -> str | None:
    """The separator that gives all columns, or None. Blanks are tried last, because names can hold blanks."""
    return next((sign for sign in SEPARATORS if _fits(path, sign, columns, has_header)), None)


def _fits(path: Path, separator: str, columns: Sequence[str], has_header: bool) -> bool:
    if has_header:
        return set(columns) <= {name.strip() for row in _first(path, separator) for name in row}
    lengths = {len(row) for row in _first(path, separator, LOOKED_AT)}
    return len(lengths) == 1 and all(name.isdecimal() and int(name) <= min(lengths) for name in columns)


def _most_alike(path: Path, columns: Sequence[str]) -> str:
    """The separator that gives most of the columns; of several, the one that gives most fields."""

    def rank(sign: str) -> tuple[int, int]:
        row = next(iter(_first(path, sign)), [])
        return len(set(columns) & {name.strip() for name in row}), 0 if sign == " " else len(row)

    return max(SEPARATORS, key=rank)


def _cause(
    path: Path, first: Sequence[str], columns: Sequence[str], separator: str | None, has_header: bool, key: TableKey
) -> str | None:
    """Why a table lacks columns and what to do, if its separator or header is the cause; else None."""
    if key != "annotations":  # split.separator and split.header hold for all tables, so this one has to fit them
        looks_like_data = has_header and any(map(LIKE_DATA.fullmatch, first))
        return (
            f"Its first line looks like an image, not like a header: write a header with {quoted(columns)} above it, "
            "or nothing but one name of an image in each line."
            if looks_like_data
            else None
        )
    fitting = _fitting(path, columns, has_header)
    if separator is not None and fitting is not None:
        return (
            f"Its columns are separated by {SEPARATORS[fitting]}, but split.separator is {separator!r}: "
            "set split.separator: null."
        )
    if not has_header and _fitting(path, columns, has_header=True):
        return "Its first line is a header that names them: set split.header: null."
    if not has_header:
        return (
            f"A table without a header has columns 1, 2, ...; its first line is {quoted(first)}. "
            "Name the columns by their numbers."
        )
    if not set(columns) & set(first) and any(map(LIKE_DATA.fullmatch, first)):
        return (
            "Its first line looks like an image, not like a header: set split.header: false, and name the columns by "
            "their numbers, from 1 on (layout csv)."
        )
    return None


def _refuse_long_rows(path: Path, rows: Sequence[tuple[int, list[str]]], count: int, separator: str) -> None:
    long = [(line, row) for line, row in rows if any(row[count:])]
    if long:
        line, row = long[0]
        raise DamagedError(
            f"{path} cannot be read as a CSV file separated by {SEPARATORS.get(separator, repr(separator))}: "
            f"{len(long)} row(s) have more fields than its {count} columns, line {line} has {len(row)}. "
            "Put a field that holds the separator in quotation marks."
        )
