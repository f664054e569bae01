"""What a command prints when it begins, and when the user or the system ends it."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click

KEPT = {
    "sweep": ("The trainings that are done are kept, and the epochs of others", "goes on with those"),
    "precompute": ("The views that are done are kept", "computes only the others"),
    **dict.fromkeys(
        ("train-teacher", "train-student", "train-baseline"),
        ("The epochs that are done are kept", "goes on with the one after them"),
    ),
    **dict.fromkeys(
        (
            *("sample", "cifar10", "split", "describe-teacher", "soften", "evaluate"),
            *("export", "measure-speed", "measure-exports", "report", "model-card"),
        ),
        ("The results of other stages are kept", "begins this stage again"),
    ),
}
"""Of a command, what is kept of it after an interruption, and what its next run does. Others keep nothing."""


class Announced(click.Command):
    """A command that says that it has begun before it loads what it needs, which takes a while."""

    def invoke(self, context: click.Context) -> Any:
        """Runs the command."""
        # On stderr, since other programs read stdout.
        print(f"{self.name}: starting", file=sys.stderr, flush=True)
        return super().invoke(context)


class Terminated(KeyboardInterrupt):
    """SIGTERM, which `kill` sends. It ends a command as Ctrl-C does: unfinished files are removed."""


@contextmanager
def sigterm_as_interruption() -> Iterator[None]:
    """Raises `Terminated` at SIGTERM within the block."""
    if threading.current_thread() is not threading.main_thread():  # Python sets signal handlers in no other thread
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def report_interruption(command: str | None, error: KeyboardInterrupt) -> int:
    """Prints what is kept of an interrupted command and how to go on, and returns the exit code."""
    how = "Ended by SIGTERM" if isinstance(error, Terminated) else "Interrupted"
    rest = "Nothing is kept; run the same command again."
    if command in KEPT:
        kept, goes_on = KEPT[command]
        rest = f"{kept}; `dvc repro`, or the same command, {goes_on}."
    on_own_line = "\n" if sys.stderr.isatty() else ""  # the terminal's last line holds ^C or a progress bar
    print(f"{on_own_line}{how}. {rest}", file=sys.stderr, flush=True)
    return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)


def open_stderr() -> None:
    """Opens descriptor 2 if it is closed (`2>&-`).

    Otherwise the next file that is opened would get this number, and what libraries print would be written into it.
    """
    if sys.stderr is None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
