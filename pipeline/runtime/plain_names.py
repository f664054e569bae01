"""Names from the data that may stand in a path, on a terminal, on a page and in a spreadsheet as they are."""

import re

LONGEST = 255
"""The most bytes of a name, of which most file systems allow no more."""

UNSAFE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029"  # control characters and line ends, of terminals and of Unicode
    r"\u202a-\u202e\u2066-\u2069"  # those that turn the direction of what follows, so that it reads as another text
    r"\ud800-\udfff"  # bytes that are no UTF-8
    r"/\\]"  # separators of folders
)

FORMULA = re.compile(r"(?:^|;)\s*(?:[=\uff1d].|[-+@\uff0b\uff0d\uff20].*(?:[|!]|'#|\w\(|\(.*\"))", re.DOTALL)
"""What spreadsheets take for a formula that does something: = before anything, or another sign before a call of a
function or a program, or before a cell of another file. Names such as -1.png, "+" and "@2x (1).png" are none.

A field also begins behind a semicolon, which is the separator where a comma stands in numbers.
"""


def is_plain_name(name: str) -> bool:
    """Whether a name can be that of a single file or folder on every system, and does nothing where it is shown.

    It has no control character, no separator, nothing that is not UTF-8, and is no formula of a spreadsheet: names
    stand as they are in the CSV files that are written, since programs read them back.
    """
    return (
        UNSAFE.search(name) is None
        and name not in {"", ".", ".."}
        and len(name.encode()) <= LONGEST
        and FORMULA.search(name) is None
    )
