"""Tables of text, and how their columns are aligned."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: what the table shows.
        header: the titles of the columns.
        rows: the cells; the first cell of each row is its name.
        notes: sentences that explain the words of the table.
        numbers: whether all other cells are plain numbers, which are aligned at their last digit.
    """

    title: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str]
    numbers: bool = False


def aligned(rows: Sequence[Sequence[str]], justify: Callable[[str, int], str]) -> list[str]:
    """Rows as lines of text, with a rule below the first; the first column is aligned left, the others by `justify`."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [justify(cell, width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return [lines[0], "-" * len(lines[0]), *lines[1:]]
