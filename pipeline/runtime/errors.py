"""The errors that a user sees as a message, not as a traceback, and functions that keep their texts short."""

import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path


class PipelineError(Exception):
    """An error that the user can correct: its text says what happened, what was expected and what to do.

    The command line catches this class and prints the text. Code raises its subclasses only.
    """


class MissingError(PipelineError):
    """Something that is needed does not exist: a file, a folder, a package, weights."""


class DamagedError(PipelineError):
    """A file cannot be read: it is cut off, changed, or of another format or version."""


class MismatchError(PipelineError):
    """Two things do not belong together, such as soft labels and other images, or a teacher and other classes."""


class ParameterError(PipelineError):
    """A value in params.yaml or on the command line cannot be used."""


class UnusableError(PipelineError):
    """A data set or a model of the user can be read, but not used as it is."""


class BusyError(PipelineError):
    """Another process is making the same file."""


MOST_COMPARED, LONGEST_COMPARED = 10_000, 200

CUT = " [...] "
MOST_KEPT = 1_000_000
"""Characters of a long message that are written to a file."""

FEW = 5
"""The number of names that a message shows."""


LONGEST_MESSAGE, SHOWN_END = 2000, 400
"""Characters of a message, and of its end, where it says what to do: that much is shown of a longer one."""

UNPRINTABLE = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
"""Characters by which a name could move the cursor, hide or turn around what is printed, or not be printed at all."""


def printable(text: str) -> str:
    """The text with escapes such as \\x1b for `UNPRINTABLE` characters."""
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def as_message(text: str) -> str:
    """The text as it is shown to the user: printable, at most `LONGEST_MESSAGE` characters, all of it in a file."""
    shown = printable(text)
    if len(shown) <= LONGEST_MESSAGE:
        return shown
    place = in_a_file([shown[:MOST_KEPT]], "message")
    start = shown[: LONGEST_MESSAGE - SHOWN_END - len(place) - len(CUT)]
    return f"{start}{CUT}{shown[-SHOWN_END:]}{place}"


def first_few(items: Sequence[str], limit: int = FEW) -> str:
    """The first `limit` items in one text, with the number of items that are left out."""
    shown = ", ".join(items[:limit])
    return shown if len(items) <= limit else f"{shown} and {len(items) - limit} more"


def all_named(names: Sequence[str], file: str = "names") -> str:
    """As `first_few`; if names are left out, all are written to a file (`in_a_file`), which the text names."""
    return first_few(names) + (in_a_file(names, file) if len(names) > FEW else "")


def in_a_file(lines: Sequence[str], name: str) -> str:
    """Writes lines to `.work/<name>.txt`, and returns " (all in <file>)" for the end of a list in a message.

    If the file cannot be written, the text is empty: the message itself must still reach the user.
    """
    # Below DVC_ROOT, because DVC removes the copy of the repository in which it ran an experiment.
    file = Path(os.environ.get("DVC_ROOT", "."), ".work", f"{name}.txt")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        with file.open("x", encoding="utf-8", errors="backslashreplace") as written:  # "x" opens no pipe and no link
            written.writelines(f"{line}\n" for line in lines)
    except OSError:
        return ""
    return f" (all in {file.as_posix()})"


def one_line(error: object, limit: int = 200) -> str:
    """The text of another library's error, as one line of at most `limit` printable characters."""
    text = str(error) or type(error).__name__
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return shortened(line, limit)


def is_of_memory(error: Exception) -> bool:
    """Whether Python, TensorFlow or XLA could not get as much memory as they wanted."""
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return True
    return str(error).startswith("RESOURCE_EXHAUSTED")  # XLA


def shortened(text: str, limit: int) -> str:
    """At most `limit` characters of a text; a text that was cut ends in " ..."."""
    return text if len(text) <= limit else f"{text[: limit - 4].rstrip()} ..."


def quoted(names: Iterable[str], limit: int = FEW) -> str:
    """The first `limit` names in quotes, so that blanks and control characters are visible."""
    return first_few([shortened(repr(name), 60) for name in names], limit)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most similar to `name`, whatever its case; None if no name is similar.

    Long names, and known names behind the first `MOST_COMPARED`, are passed over: to compare them takes minutes.
    """
    compared = (other for other in islice(known, MOST_COMPARED) if len(other) <= LONGEST_COMPARED)
    folded: Mapping[str, str] = {other.casefold(): other for other in compared}
    matches = difflib.get_close_matches(name.casefold()[:LONGEST_COMPARED], folded, n=1)
    return folded[matches[0]] if matches else None
