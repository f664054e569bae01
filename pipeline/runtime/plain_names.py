"""Names from the data that may stand in a path, on a terminal, on a page and in a spreadsheet as they are."""

import re

from pipeline.runtime.errors import UNPRINTABLE

LONGEST = 255
"""The most bytes of a name, of which most file systems allow no more."""

SEPARATORS = frozenset("\t\n/\\")
"""Of columns, lines and folders."""

EQUALS = re.compile(r"(?:^|;)\s*[=\uff1d][^/]")
"""The start of a formula; behind a semicolon too, which separates fields where a comma stands in numbers.

It is none before a slash, as in the path =/a.png: no formula begins with a division.
"""

SIGN = re.compile(r"(?:^|;)\s*[-+@\uff0b\uff0d\uff20](?!/)")
"""The start of a formula, or of a name such as -1.png or @home."""

ELSEWHERE = re.compile(r"'[#!]|[\]|][^\]|]*!")
"""A cell of another file, or what a program says."""

CALL = re.compile(r"[^\W\d][\d.]*\s*\(")
ARGUMENT = re.compile(r"[\"(&:$]|\b[a-z]{1,3}\d", re.IGNORECASE)
"""A text, another call, or a cell: a call that is given none of these does nothing, as in +ve (mild)."""
CALLED = re.compile(r"\)\s*(?:$|[-+*/^&=<>;,%])")
"""The end of a call. Before anything else, as in -left (a2).png, there is no formula."""


def is_formula(text: str) -> bool:
    """Whether a spreadsheet takes a field of a CSV file for a formula that may do something."""
    sign = SIGN.search(text)
    return EQUALS.search(text) is not None or (sign is not None and _reaches_out(text[sign.end() :]))


def _reaches_out(formula: str) -> bool:
    call = CALL.search(formula)
    given = call and ARGUMENT.search(formula, call.end())
    return ELSEWHERE.search(formula) is not None or bool(given and CALLED.search(formula, given.end()))


def is_plain_name(name: str) -> bool:
    """Whether a name can be that of a single file or folder on every system, and does nothing where it is shown.

    It has no character that is not printable, no separator, nothing that is not UTF-8, and is no formula of a
    spreadsheet: names stand as they are in the CSV files that are written, since programs read them back.
    """
    return (
        UNPRINTABLE.search(name) is None
        and SEPARATORS.isdisjoint(name)
        and name not in {"", ".", ".."}
        and len(name.encode()) <= LONGEST
        and not is_formula(name)
    )
