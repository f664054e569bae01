"""What a command prints when it begins, and when the user or the system ends it."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.machinery import ExtensionFileLoader
from types import FrameType
from typing import Any

import click

from pipeline.cli.arguments import limits_of_params

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
        limits_of_params()
        return super().invoke(context)


class Terminated(KeyboardInterrupt):
    """SIGTERM, which `kill` sends. It ends a command as Ctrl-C does: unfinished files are removed."""


class HungUp(KeyboardInterrupt):
    """SIGHUP, which a terminal sends that is closed. It ends a command as Ctrl-C does."""


ENDINGS: dict[int, type[KeyboardInterrupt]] = {
    signal.SIGINT: KeyboardInterrupt,
    signal.SIGTERM: Terminated,
    signal.SIGHUP: HungUp,
}
"""The signals that end a command, and what they raise."""

GRACE_SECONDS = 1.5
"""How long a command may take to end by itself after a signal."""

AGAIN_SECONDS = 0.02
"""How long a signal waits that comes at a moment when nothing may be raised."""


@contextmanager
def interruptible(command: Callable[[], str | None]) -> Iterator[None]:
    """Ends the process with one line and code 130 at SIGINT, 143 at SIGTERM, 129 at SIGHUP; the first one counts.

    The block gets a `KeyboardInterrupt`, so that it removes unfinished files. But a library may compute for minutes
    before Python hears of a signal, and Python's end may wait for threads. So a thread of its own ends the process
    `GRACE_SECONDS` after the signal, as abruptly as `kill -9`, which loses nothing of what is kept.

    Args:
        command: says which command runs, or None.

    Raises:
        SystemExit: the block was interrupted.
    """
    told_once = threading.Lock()

    def code_of(error: KeyboardInterrupt) -> int:
        return report_interruption(command(), error) if told_once.acquire(blocking=False) else exit_code(error)

    try:
        with _signals_heard(code_of) as numbers:
            try:
                yield
            except Exception:
                if numbers:  # a library has made another error of it, as pydantic does
                    raise ENDINGS[numbers[0]] from None
                raise
    except KeyboardInterrupt as error:  # also of a signal that comes when the block has just ended
        raise SystemExit(code_of(error)) from None


@contextmanager
def _signals_heard(code_of: Callable[[KeyboardInterrupt], int]) -> Iterator[list[int]]:
    """Raises an error at the first signal within the block, and yields the list to which its number is added."""
    numbers: list[int] = []
    put_off = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # Python sets signal handlers in no other thread
        yield numbers
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        if _loads_an_extension(frame):
            put_off.set()
            return
        numbers.append(number)
        for ending in ENDINGS:
            signal.signal(ending, signal.SIG_IGN)  # another one would interrupt what this one cleans up
        sys.unraisablehook = lambda _: None  # in a callback of the garbage collector, this would be shown and forgotten
        raise ENDINGS[number]

    heard, told = socket.socketpair()
    told.setblocking(False)
    threading.Thread(target=_end_after_a_signal, args=[heard, put_off, code_of], daemon=True).start()
    handled = [number for number in ENDINGS if signal.getsignal(number) is not signal.SIG_IGN]  # as under `nohup`
    before = {number: signal.signal(number, interrupt) for number in handled}
    descriptor_before = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    try:
        yield numbers
    finally:
        signal.set_wakeup_fd(descriptor_before)
        for number, handler in before.items():
            if signal.getsignal(number) is interrupt:  # or the process is about to end
                signal.signal(number, handler)
        told.close()


def _loads_an_extension(frame: FrameType | None) -> bool:
    """Whether a module in C is being imported: some that are written in C++ crash if an error comes up meanwhile."""
    while frame is not None:
        is_of_import = frame.f_code.co_filename.startswith("<frozen importlib")
        if is_of_import and isinstance(frame.f_locals.get("self"), ExtensionFileLoader):
            return True
        frame = frame.f_back
    return False


def _end_after_a_signal(
    heard: socket.socket, put_off: threading.Event, code_of: Callable[[KeyboardInterrupt], int]
) -> None:
    """Reads the numbers of signals, which the system writes whatever Python does, until the other end is closed.

    A signal that was put off is sent again until it is taken.
    """
    with heard:
        for number in iter(lambda: int.from_bytes(heard.recv(1)), 0):
            if number in ENDINGS:
                end = time.monotonic() + GRACE_SECONDS
                while time.monotonic() < end:
                    time.sleep(min(AGAIN_SECONDS, GRACE_SECONDS))
                    if put_off.is_set():
                        put_off.clear()
                        os.kill(os.getpid(), number)
                os._exit(code_of(ENDINGS[number]()))


def report_interruption(command: str | None, error: KeyboardInterrupt) -> int:
    """Prints what is kept of an interrupted command and how to go on, and returns the exit code."""
    number = _number_of(error)
    how = "Interrupted" if number == signal.SIGINT else f"Ended by {number.name}"
    rest = "Nothing is kept; run the same command again."
    if command in KEPT:
        kept, goes_on = KEPT[command]
        rest = f"{kept}; `dvc repro`, or the same command, {goes_on}."
    on_own_line = "\n" if sys.stderr.isatty() else ""  # the terminal's last line holds ^C or a progress bar
    with suppress(OSError):  # the terminal may be gone
        print(f"{on_own_line}{how}. {rest}", file=sys.stderr, flush=True)
    return exit_code(error)


def exit_code(error: KeyboardInterrupt) -> int:
    """The exit code of a command that a signal ended, as shells have it."""
    return 128 + _number_of(error)


def _number_of(error: KeyboardInterrupt) -> signal.Signals:
    return next(signal.Signals(number) for number, raised in ENDINGS.items() if type(error) is raised)


def open_closed_streams() -> None:
    """Opens descriptors 0, 1 and 2 if they are closed (`2>&-`); what is printed there is lost.

    Otherwise the next file that is opened would get this number, and what libraries print would be written into it.
    """
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
            setattr(sys, name, open(descriptor, mode, closefd=False))  # noqa: SIM115
