"""The exceptions that reach the user as a message instead of a traceback, and how their texts are kept short."""

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path


class PipelineError(Exception):
    """What the user can mend: the text says what happened, what was expected and what to do.

    The command line catches this class and prints the text. Code raises one of its subclasses.
    """


class MissingError(PipelineError):
    """Something that is needed is not there: a file, a folder, a package, weights."""


class DamagedError(PipelineError):
    """A file cannot be read as what it should be: it is cut, changed, or of another format or version."""


class MismatchError(PipelineError):
    """Two things that must belong together do not: soft labels of other images, a teacher of other classes."""


class ParameterError(PipelineError):
    """A value in params.yaml, or one given to a command, cannot be used."""


class UnusableError(PipelineError):
    """What the user brought, a data set or a model, can be read, but not used as it is."""


class BusyError(PipelineError):
    """Another process is at work on the same file."""


FEW = 5
"""Names that a message shows."""


def first_few(items: Sequence[str], limit: int = FEW) -> str:
    """Joins the first `limit` items for a message, and says how many were left out."""
    shown = ", ".join(items[:limit])
    return shown if len(items) <= limit else f"{shown} and {len(items) - limit} more"


def all_named(names: Sequence[str], file: str = "names") -> str:
    """As `first_few`; where that leaves names out, all are written to a file (`in_a_file`), and the message says so."""
    return first_few(names) + (in_a_file(names, file) if len(names) > FEW else "")


def in_a_file(lines: Sequence[str], name: str) -> str:
    """Writes lines to `.work/<name>.txt`, and says so in words that follow a list in a message.

    Where nothing can be written, it says nothing: the message itself must get through.
    """
    file = Path(os.environ.get("DVC_ROOT", "."), ".work", f"{name}.txt")  # an experiment's own copy is soon removed
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", errors="backslashreplace")
    except OSError:
        return ""
    return f" (all in {file.as_posix()})"


def one_line(error: object, limit: int = 200) -> str:
    """The text of another library's error for a message: one line of at most `limit` characters."""
    text = str(error) or type(error).__name__
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return shortened(line, limit)


def shortened(text: str, limit: int) -> str:
    """A text of at most `limit` characters; one that was cut ends in " ..."."""
    return text if len(text) <= limit else f"{text[: limit - 4].rstrip()} ..."


def quoted(names: Iterable[str], limit: int = FEW) -> str:
    """The first `limit` names for a message, in which blanks and control characters show."""
    return first_few([shortened(repr(name), 60) for name in names], limit)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that looks most like `name`, whether in upper or lower case; None if none looks like it."""
    folded: Mapping[str, str] = {other.casefold(): other for other in known}
    found = difflib.get_close_matches(name.casefold(), folded, n=1)
    return folded[found[0]] if found else None
