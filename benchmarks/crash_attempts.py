"""Runs of a stage that are killed: alone, and by `dvc repro`."""

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import psutil

from benchmarks.crash_mending import CANNOT_READ_LOCK, LEFT_IN_TREE, LOST, kind_of, lost_entries, mend, remove_left
from benchmarks.crash_project import Stage
from benchmarks.crash_server import CommandServer
from benchmarks.projects import environment_of

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
HANGS, UNDISTURBED_HANGS = 120.0, 1800.0
"""Seconds after a signal, and without one, when a run is taken to hang."""

LOOK_EVERY = 0.005

STAGE_BEGAN, STAGE_FAILED = re.compile("Running stage '"), re.compile(r"exited with (-?\d+)")
"""What dvc says when it runs a stage, and if a stage ends with another code than 0."""

DVC_FAILED = 255
"""The exit code of dvc where it, or a stage, failed."""

TRIES = 3
"""How often dvc is run at most while it fails by itself."""

STOPPED = threading.Event()
"""Whether this program was told to end; each run then ends what it started, and raises `StoppedError`."""


class StoppedError(Exception):
    """A run was ended, since this program ends."""


@dataclass(frozen=True)
class End:
    """How a run ended.

    Attributes:
        code: its exit code, or the negative number of the signal that ended it.
        seconds: how long it ran.
        said: what it printed.
        after_signal: seconds from the signal to the end of all its processes; None without a signal.
        hung: whether it had to be killed.
        forgiven: what dvc said where it failed by itself and was run again, which stages `NOTES` had lost, and which
            unfinished files it left.
    """

    code: int
    seconds: float
    said: str
    after_signal: float | None = None
    hung: bool = False
    forgiven: tuple[str, ...] = ()


class Runs(Protocol):
    """A way to run a stage in a project."""

    @property
    def victims(self) -> Sequence[str]:
        """Who can be killed."""
        ...

    def run(self, at: float | None = None, victim: str = "", number: int = 0, is_awaited: bool = True) -> End:
        """Runs the stage, and sends a signal so many seconds after its start if it still runs.

        Args:
            at: the moment; None: it is left alone.
            victim: who gets the signal.
            number: the signal.
            is_awaited: whether to wait for what lives on behind a process of dvc that ended.
        """
        ...


class Alone:
    """A stage without dvc.

    Args:
        stage: the stage.
        server: what starts it.
        project: the project.
        log: where it prints to.
    """

    victims = ("stage", "group")

    def __init__(self, stage: Stage, server: CommandServer, project: Path, log: Path) -> None:
        self._stage, self._server, self._project, self._log = stage, server, project, log

    def run(self, at: float | None = None, victim: str = "", number: int = 0, is_awaited: bool = True) -> End:
        """As `Runs.run`."""
        process = psutil.Process(self._server.start(self._stage.words, self._project, self._log))
        sent = None
        try:
            if at is not None and _lives_until(process, time.monotonic() + at):
                sent = time.monotonic()
                _send(number, [process.pid], group=process.pid if victim == "group" else None)
            hung = not ends_by(process, time.monotonic() + (UNDISTURBED_HANGS if sent is None else HANGS))
        except StoppedError:
            process.kill()  # it may not lead its group yet
            _kill_group(process.pid)
            raise
        if hung:
            process.kill()
        code, seconds = self._server.wait()
        after = None if sent is None else time.monotonic() - sent
        _kill_group(process.pid)
        return End(code, seconds, self._log.read_text(errors="replace"), after, hung)


class ByDvc:
    """A stage by `dvc repro`.

    Args:
        stage: the stage.
        project: the project.
        log: where it prints to.
        noted: what dvc.lock has of each stage when all have run.
    """

    victims = ("dvc", "stage", "both", "group")

    def __init__(self, stage: Stage, project: Path, log: Path, noted: Mapping[str, Any] | None = None) -> None:
        self._stage, self._project, self._log, self._noted = stage, project, log, noted or {}

    def run(self, at: float | None = None, victim: str = "", number: int = 0, is_awaited: bool = True) -> End:
        """As `Runs.run`; before the stage runs, dvc is the victim.

        What dvc has damaged is mended as users mend it, and what it left in the tree is removed in the end.
        """
        forgiven: list[str] = []
        end = self._run(at, victim, number, is_awaited, [self._stage.name])
        while len(forgiven) < TRIES - 1 and failed_itself(end):
            mend(self._project, kind_of(end.said), is_again=kind_of(end.said) in map(kind_of, forgiven))
            forgiven.append(end.said)
            end = self._run(at, victim, number, is_awaited, [self._stage.name])
        if at is None and end.code == 0 and (lost := lost_entries(self._project, self._noted, self._stage.name)):
            forgiven.append(f"{LOST}{', '.join(lost)}")
            end = self._run(None, "", 0, is_awaited=True, names=[])
        if at is None:
            forgiven += [f"{LEFT_IN_TREE}{path}" for path in remove_left(self._project)]
        return replace(end, forgiven=tuple(forgiven))

    def _run(self, at: float | None, victim: str, number: int, is_awaited: bool, names: Sequence[str]) -> End:
        start, sent = time.monotonic(), None
        with started(["dvc", "repro", *names], self._project, self._log) as dvc:
            process = psutil.Process(dvc.pid)
            if at is not None and _lives_until(process, start + at):
                sent = time.monotonic()
                _send(number, self._numbers(process, victim), group=dvc.pid if victim == "group" else None)
            hung = not ends_by(process, time.monotonic() + (UNDISTURBED_HANGS if sent is None else HANGS))
            if hung:
                _kill_group(dvc.pid)
            code = dvc.wait()
            seconds = time.monotonic() - start
            while is_awaited and _members(dvc.pid):
                _pause()
        after = None if sent is None else time.monotonic() - sent
        return End(code, seconds, self._log.read_text(errors="replace"), after, hung)

    def _numbers(self, dvc: psutil.Process, victim: str) -> list[int]:
        stages = [process.pid for process in _below(dvc) if "pipeline" in _words(process)]
        return {"dvc": [dvc.pid], "stage": stages or [dvc.pid], "both": [dvc.pid, *stages]}.get(victim, [])


def failed_itself(end: End) -> bool:
    """Whether dvc ended with an error before it ran a stage, or over its lock, and not of a signal."""
    if end.hung or end.code == 0:
        return False
    ran_none = not STAGE_BEGAN.search(end.said)
    if end.after_signal is not None:  # it may come when dvc has failed, and has not ended yet, or takes a lock
        return ran_none and end.code == DVC_FAILED
    return ran_none or (CANNOT_READ_LOCK in end.said and not STAGE_FAILED.search(end.said))


@contextmanager
def started(command: Sequence[str], folder: Path, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A command in a project and in a group of its own; it ends with the block."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment_of(folder),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    except BaseException:
        _kill_group(process.pid)
        raise
    finally:
        process.wait()


def _pause(seconds: float = LOOK_EVERY) -> None:
    if STOPPED.wait(seconds):
        raise StoppedError


def _lives_until(process: psutil.Process, moment: float) -> bool:
    """Whether a process still runs at a moment, for which this waits."""
    while time.monotonic() < moment:
        if not lives(process):
            return False
        _pause(max(0.0, min(LOOK_EVERY, moment - time.monotonic())))
    return lives(process)


def ends_by(process: psutil.Process, deadline: float) -> bool:
    """Whether a process ends before a moment, for which this waits.

    Raises:
        StoppedError: this program ends.
    """
    while lives(process):
        if time.monotonic() > deadline:
            return False
        _pause()
    return True


def lives(process: psutil.Process) -> bool:
    """Whether a process runs; one that waits for its parent alone does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _below(process: psutil.Process) -> Iterator[psutil.Process]:
    with suppress(psutil.Error):
        yield from process.children(recursive=True)


def _words(process: psutil.Process) -> Iterator[str]:
    with suppress(psutil.Error):
        yield from process.cmdline()


def _send(number: int, processes: Sequence[int], group: int | None) -> None:
    with suppress(ProcessLookupError):
        if group is not None:
            os.killpg(group, number)
            return
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)


def _members(group: int) -> list[psutil.Process]:
    """The processes of a group that live."""

    def is_member(process: psutil.Process) -> bool:
        try:
            return os.getpgid(process.pid) == group and lives(process)
        except OSError:
            return False

    return [process for process in psutil.process_iter() if is_member(process)]


def _kill_group(group: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
