"""Times several models in turns, since the speed of a machine drifts. Imports no runtime."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from pipeline.runtime import errors
from pipeline.runtime.errors import UnusableError, one_line
from pipeline.timing.subjects import Subject

ROUNDS = 4
STOP_SECONDS = 10.0
"""How long a process may take to end when it is told to."""


def times_of(subjects: Mapping[str, Subject], batch_size: int, threads: int) -> dict[str, dict[str, Any]]:
    """Runs each model in processes of its own, and times them in turns.

    Args:
        subjects: what to time, by name.
        batch_size: images in a batch.
        threads: how many threads are all.

    Returns:
        For each name "one_thread" and "all_threads", with the "median_ms" and "p95_ms" of a call with one image;
        "batch_images_per_second", with all threads; "peak_memory_mb", of a process that opened the model for one thread
        and ran it on one image and on a batch; and the "digest" of a file.

    Raises:
        UnusableError: a model cannot be run.
    """
    with ExitStack() as stack:
        started = {
            name: {
                number: stack.enter_context(_process(subject, batch_size, number))
                for number in (sorted({1, threads}) if subject.needs_tensorflow else [1])
            }
            for name, subject in subjects.items()
        }
        ready = {name: [process.ready(name) for process in processes.values()] for name, processes in started.items()}
        seconds = _in_turns(started, [(1, 1), (threads, 1), (threads, batch_size)])
    return {
        name: {
            "one_thread": _milliseconds(seconds[name, 1, 1]),
            "all_threads": _milliseconds(seconds[name, threads, 1]),
            "batch_images_per_second": batch_size / float(np.median(seconds[name, threads, batch_size])),
            **{key: value for key, value in with_one_thread.items() if value is not None},
        }
        for name, (with_one_thread, *_) in ready.items()
    }


def _in_turns(
    started: Mapping[str, Mapping[int, "_Process"]], measured: Sequence[tuple[int, int]]
) -> dict[tuple[str, int, int], list[float]]:
    """The seconds of all calls, by name, threads and images.

    Args:
        started: the processes of each model, by the threads with which they were started.
        measured: pairs of threads and images; equal ones are measured once.
    """
    seconds: dict[tuple[str, int, int], list[float]] = {}
    for _ in range(ROUNDS):
        for name, processes in started.items():
            for threads, images in dict.fromkeys(measured):
                process = processes.get(threads, processes[1])
                seconds.setdefault((name, threads, images), []).extend(process.round(name, threads, images))
    return seconds


def _milliseconds(seconds: list[float]) -> dict[str, float]:
    return {"median_ms": 1000 * float(np.median(seconds)), "p95_ms": 1000 * float(np.percentile(seconds, 95))}


class _Process:
    def __init__(self, started: "subprocess.Popen[str]", said: IO[str]) -> None:
        self._started, self._said = started, said

    def ready(self, name: str) -> dict[str, Any]:
        """What the process says when it has opened its model."""
        told: dict[str, Any] = self._answer(name)
        return told

    def round(self, name: str, threads: int, images: int) -> list[float]:
        """The seconds of each call of a round."""
        with suppress(OSError):  # it has ended
            print(json.dumps({"threads": threads, "images": images}), file=self._started.stdin, flush=True)
        seconds: list[float] = self._answer(name)
        return seconds

    def _answer(self, name: str) -> Any:
        line = self._started.stdout.readline()  # type: ignore[union-attr]
        if not line:
            raise UnusableError(f"{name} cannot be timed: {self._why()}")
        return json.loads(line)

    def _why(self) -> str:
        """The message with which the process ended; else its last words."""
        self._said.seek(0)
        said = self._said.read()
        if ours := re.findall(rf"^{errors.__name__}\.\w+: (.*)", said, re.MULTILINE | re.DOTALL):
            return one_line(ours[-1], limit=1000)
        last = [*filter(str.strip, said.splitlines())][-1:]
        return (
            f"the process that ran it ended with code {self._started.wait()}"
            f"{f' ({one_line(last[0])})' if last else ''}. Run `dvc repro measure_exports` again; if memory is short, "
            "close other programs."
        )


@contextmanager
def _process(subject: Subject, batch_size: int, threads: int) -> Iterator[_Process]:
    """A process that runs a model; after the block it has ended."""
    command = [sys.executable, "-m", "pipeline.timing.process", os.fspath(subject.path), str(batch_size), str(threads)]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        # In a session of its own: Ctrl-C goes to the stage, which ends it.
        started = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            env=_environment(),
            start_new_session=True,
        )
        try:
            yield _Process(started, said)
        finally:
            _stop(started)


def _environment() -> dict[str, str]:
    """The variables of this process, and where its code lies, whatever the current folder is."""
    root = os.fspath(Path(__file__).parents[2])
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}


def _stop(started: "subprocess.Popen[str]") -> None:
    started.terminate()
    try:
        started.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        started.kill()
    for pipe in (started.stdin, started.stdout):
        with suppress(OSError):
            pipe.close()  # type: ignore[union-attr]
