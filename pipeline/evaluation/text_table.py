"""Tables of text, and how their columns are aligned."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: what it shows.
        header: the heads of its columns.
        rows: its cells; the first of each names the row.
        notes: sentences that explain its words.
        numbers: whether all cells but the first are plain numbers, of which the last digits line up.
    """

    title: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str]
    numbers: bool = False


def aligned(rows: Sequence[Sequence[str]], justify: Callable[[str, int], str]) -> list[str]:
    """Rows as lines of text: the first column to the left, a rule below the first row."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [justify(cell, width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return [lines[0], "-" * len(lines[0]), *lines[1:]]
