"""The first word of a command, and its last one where the user or the system ends it."""

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
    "precompute": ("The views that are done are kept", "computes only the others"),
    **dict.fromkeys(
        ("train-teacher", "train-student", "train-baseline"),
        ("The epochs that are done are kept", "goes on with the one after them"),
    ),
    **dict.fromkeys(
        ("sample", "cifar10", "split", "describe-teacher", "soften", "evaluate", "measure-speed", "report"),
        ("What other stages made is kept", "begins this one again"),
    ),
}
"""What there is after an interrupted stage, and what the next run does; a command that is no stage leaves nothing."""


class Announced(click.Command):
    """A command that takes a while to load what it needs, and says before that it has begun."""

    def invoke(self, context: click.Context) -> Any:
        """Runs the command."""
        print(f"{self.name}: starting", file=sys.stderr, flush=True)
        return super().invoke(context)


class Terminated(KeyboardInterrupt):
    """SIGTERM, as `kill` sends it, ends a command as Ctrl-C does: what it was writing is removed."""


@contextmanager
def sigterm_as_interruption() -> Iterator[None]:
    """Raises `Terminated` at SIGTERM within the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def told(command: str | None, error: KeyboardInterrupt) -> int:
    """Says in a line what an interrupted command leaves and how to go on, and returns the exit code."""
    how = "Ended by SIGTERM" if isinstance(error, Terminated) else "Interrupted"
    rest = "Nothing is kept; run the same command again."
    if command in KEPT:
        kept, goes_on = KEPT[command]
        rest = f"{kept}; `dvc repro`, or the same command, {goes_on}."
    on_own_line = "\n" if sys.stderr.isatty() else ""  # the terminal has shown ^C, or there was a bar
    print(f"{on_own_line}{how}. {rest}", file=sys.stderr, flush=True)
    return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)


def open_stderr() -> None:
    """Opens descriptor 2 where it is closed (`2>&-`): a file would get its number, and in it what libraries print."""
    if sys.stderr is None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
