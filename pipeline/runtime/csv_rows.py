"""Rows of CSV files as this program writes them: lines that end in a newline alone."""

import csv
import io
from collections.abc import Iterable


def csv_row(values: Iterable[object]) -> str:
    """One row with its newline; a value with a comma, a quotation mark or any line break stands in quotes.

    Python's `csv.writer` with the ending "\\n" writes a carriage return without quotes, and readers then see two rows.
    """
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator="\r\n").writerow(values)
    return line.getvalue().removesuffix("\r\n") + "\n"
