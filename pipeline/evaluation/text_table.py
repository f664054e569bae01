"""Tables of text, and how their columns are aligned."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """A value of a table, as text.

    Attributes:
        value: with a blank for its sign if other values of its column have a sign.
        interval: the ends of its interval, "0.950 to 0.975"; empty if it has none.
    """

    value: str
    interval: str = ""

    def __str__(self) -> str:
        """The value, with its interval in brackets behind it."""
        return f"{self.value} ({self.interval})" if self.interval else self.value


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        name: what the row is about.
        cells: its values.
        is_part: whether it belongs to the row above it.
    """

    name: str
    cells: list[Cell]
    is_part: bool = False


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: what the table shows.
        header: the titles of the columns, the first one that of the rows' names.
        rows: in their order.
        notes: sentences that explain the words of the table.
        numbers: whether all values are plain numbers, which are aligned at their last digit.
    """

    title: str
    header: list[str]
    rows: list[Row]
    notes: list[str]
    numbers: bool = False

    def texts(self) -> list[list[str]]:
        """The rows as text; the name of one that belongs to the row above is indented."""
        return [["  " * row.is_part + row.name, *map(str, row.cells)] for row in self.rows]


def aligned(rows: Sequence[Sequence[str]], justify: Callable[[str, int], str]) -> list[str]:
    """Rows as lines of text, with a rule below the first; the first column is aligned left, the others by `justify`."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [justify(cell, width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return [lines[0], "-" * len(lines[0]), *lines[1:]]


def as_text(table: Table) -> str:
    """A table as lines of text, with its notes below and without its title."""
    rows = aligned([table.header, *table.texts()], str.rjust if table.numbers else str.ljust)
    return "\n".join([*rows, "", *table.notes])


def as_markdown(table: Table) -> str:
    """A table as Markdown for GitHub, GitLab and Hugging Face, with its title above and its notes below."""
    rule = ["---", *["---:" if table.numbers else "---"] * (len(table.header) - 1)]
    head, *rows = ([escaped(cell) for cell in row] for row in [table.header, *table.texts()])
    lines = ["| " + " | ".join(row) + " |" for row in [head, rule, *rows]]
    return "\n".join([f"**{escaped(table.title)}**", "", *lines, "", *map(escaped, table.notes)])


def escaped(text: str) -> str:
    """A text in one line of Markdown that is shown as it is: no character of it is markup."""
    return re.sub(r"([\\`*_\[\]<>|~&$])", r"\\\1", " ".join(text.split()))
