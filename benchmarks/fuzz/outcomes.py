"""What the program made of one input: a success, a refusal of ours, or a failure."""

import re
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click

from benchmarks.fuzz.target import Target
from pipeline.runtime.errors import PipelineError, as_message

LONGEST_MESSAGE = 2000
"""Characters."""

CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What a terminal would obey: no message holds them, but for line feeds and tabs."""


@dataclass(frozen=True)
class Outcome:
    """What the program made of one input.

    Attributes:
        kind: accepted; refused with a message of ours; or failed.
        text: the message of a refusal, or how it failed.
        where: what failures with one cause have in common: the error and the line of ours that met it last.
    """

    kind: Literal["accepted", "refused", "failed"]
    text: str = ""
    where: str = ""


def outcome(target: Target, content: bytes, folder: Path) -> Outcome:
    """Gives one input to the program.

    Args:
        target: the kind of file.
        content: what the file holds.
        folder: where the file is written.
    """
    path = folder / target.file
    path.unlink(missing_ok=True)  # to write over a file makes some file systems wait for the disk
    path.write_bytes(content)
    try:
        target.run(path)
    except (PipelineError, click.ClickException) as error:
        message = error.message if isinstance(error, click.ClickException) else str(error)
        return _refusal(as_message(message), error)  # as the command line shows it
    except (Exception, SystemExit) as error:
        return Outcome("failed", "".join(traceback.format_exception(error)), f"{type(error).__name__} {_place(error)}")
    return Outcome("accepted")


def _refusal(message: str, error: Exception) -> Outcome:
    if len(message) > LONGEST_MESSAGE:
        return Outcome("failed", f"a message of {len(message)} characters: {message}", f"long message {_place(error)}")
    if CONTROLS.search(message):
        return Outcome("failed", f"control characters in {message!r}", f"control characters {_place(error)}")
    return Outcome("refused", message)


def _place(error: BaseException) -> str:
    """The last line of ours in an error's traceback."""
    lines = traceback.extract_tb(error.__traceback__)
    ours = [line for line in lines if f"{Path('pipeline')}/" in line.filename] or list(lines)
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "nowhere"
