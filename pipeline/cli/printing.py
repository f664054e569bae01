"""What commands print: names from files of others cannot move the cursor, or hide what stands beside them."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from pipeline.runtime.errors import printable


class Printable:
    """A stream that prints other characters than printable ones as escapes; a carriage return ends no line of a bar.

    Args:
        stream: where it prints.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Prints a text."""
        self.stream.write("\r".join(map(printable, text.split("\r"))))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        """All else is as the stream has it."""
        return getattr(self.stream, name)


@contextmanager
def printing_names_safely() -> Iterator[None]:
    """Lets all that is printed within the block be printable."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Printable(sys.stdout), Printable(sys.stderr)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def error_of_the_rest() -> OSError | None:
    """Prints what is not printed yet; if that fails, returns the error, and Python's end does not try it again."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return error
    return None
