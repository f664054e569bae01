"""Times several models in turns, since the speed of a machine drifts. Imports no runtime."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np

from pipeline.runtime import errors
from pipeline.runtime.errors import MismatchError, UnusableError, one_line
from pipeline.runtime.extras import how_to_install
from pipeline.timing.subjects import Subject

ROUNDS = 4
NOT_INSTALLED = re.compile(r"^ModuleNotFoundError: No module named '(\w+)", re.MULTILINE)
STOP_SECONDS = 10.0
"""How long a process may take to end when it is told to."""


def times_of(
    groups: Sequence[Mapping[str, Subject]], beside: Mapping[str, Subject], batch_size: int, threads: int
) -> dict[str, dict[str, Any]]:
    """Runs each model in processes of its own, and times those of a group in turns.

    There is one process for each model of one group, and one for each model of `beside`, at a time.

    Args:
        groups: what to time, by name.
        beside: what is timed with each group.
        batch_size: images in a batch.
        threads: how many threads are all.

    Returns:
        For each name "one_thread" and "all_threads", with the "median_ms" and "p95_ms" of a call with one image;
        "batch_images_per_second", with all threads; "peak_memory_mb", of a process that opened the model for one thread
        and ran it on one image and on a batch; and the "digest" of a file.

    Raises:
        UnusableError: a model cannot be run.
        MismatchError: a file has another digest than expected.
    """
    told: dict[str, Mapping[str, Any]] = {}
    seconds: dict[tuple[str, int, int], list[float]] = {}
    for number in sorted({1, threads}):
        images = (1, batch_size) if number == threads else (1,)
        with ExitStack() as stack:
            anchors = _started(stack, beside, batch_size, number)
            for group in groups:
                with ExitStack() as of_group:
                    processes = {**_started(of_group, group, batch_size, number), **anchors}
                    for name, process in processes.items():
                        told.setdefault(name, process.told)
                    for name, count, taken in _in_turns(processes, images):
                        seconds.setdefault((name, number, count), []).extend(taken)
    return {
        name: {
            "one_thread": _milliseconds(seconds[name, 1, 1]),
            "all_threads": _milliseconds(seconds[name, threads, 1]),
            "batch_images_per_second": batch_size / float(np.median(seconds[name, threads, batch_size])),
            **{key: value for key, value in of_first_process.items() if value is not None},
        }
        for name, of_first_process in told.items()
    }


def _started(stack: ExitStack, subjects: Mapping[str, Subject], batch_size: int, threads: int) -> dict[str, "_Process"]:
    return {name: stack.enter_context(_process(name, of, batch_size, threads)) for name, of in subjects.items()}


def _in_turns(processes: Mapping[str, "_Process"], images: Sequence[int]) -> Iterator[tuple[str, int, list[float]]]:
    """The name, the images of a call and the seconds of each call, of all rounds."""
    for _ in range(ROUNDS):
        for name, process in processes.items():
            for count in images:
                yield name, count, process.round(count)


def _milliseconds(seconds: list[float]) -> dict[str, float]:
    return {"median_ms": 1000 * float(np.median(seconds)), "p95_ms": 1000 * float(np.percentile(seconds, 95))}


class _Process:
    def __init__(self, name: str, subject: Subject, started: "subprocess.Popen[str]", said: IO[str]) -> None:
        self._name, self._subject, self._started, self._said = name, subject, started, said

    @cached_property
    def told(self) -> Mapping[str, Any]:
        """What the process says when it has opened its model."""
        told: Mapping[str, Any] = self._answer()
        if self._subject.digest not in (None, told["digest"]):
            raise MismatchError(
                f"{self._subject.path} is not the file whose quality was measured: its digest is {told['digest']}, and "
                f"the numbers name {self._subject.digest}. Bring the file back with `dvc checkout export`, or make all "
                "anew with `dvc repro --single-item --force export`."
            )
        return told

    def round(self, images: int) -> list[float]:
        """The seconds of each call of a round."""
        with suppress(OSError):  # it has ended
            print(json.dumps({"images": images}), file=self._started.stdin, flush=True)
        seconds: list[float] = self._answer()
        return seconds

    def _answer(self) -> Any:
        line = self._started.stdout.readline()  # type: ignore[union-attr]
        if not line:
            raise UnusableError(f"{self._name} cannot be timed: {self._why()}")
        return json.loads(line)

    def _why(self) -> str:
        """The message with which the process ended; else its last words."""
        self._said.seek(0)
        said = self._said.read()
        if ours := re.findall(rf"^{errors.__name__}\.\w+: (.*)", said, re.MULTILINE | re.DOTALL):
            return one_line(ours[-1], limit=1000)
        if missing := NOT_INSTALLED.search(said):
            return (
                f"the package {missing[1]} is not installed. All that the stages need is installed by "
                f"{how_to_install('pipeline')}."
            )
        last = [*filter(str.strip, said.splitlines())][-1:]
        return (
            f"the process that ran it ended with code {self._started.wait()}"
            f"{f' ({one_line(last[0])})' if last else ''}. Run `dvc repro measure_exports` again; if memory is short, "
            "close other programs."
        )


@contextmanager
def _process(name: str, subject: Subject, batch_size: int, threads: int) -> Iterator[_Process]:
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
            yield _Process(name, subject, started, said)
        except BaseException:
            started.terminate()
            raise
        finally:
            _stop(started)


def _environment() -> dict[str, str]:
    """The variables of this process, and where its code lies, whatever the current folder is."""
    root = os.fspath(Path(__file__).parents[2])
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}


def _stop(started: "subprocess.Popen[str]") -> None:
    """Ends a process: without more input it ends by itself, and TensorFlow then removes its temporary files."""
    with suppress(OSError):
        started.stdin.close()  # type: ignore[union-attr]
    for end in (started.terminate, started.kill):
        try:
            started.wait(STOP_SECONDS)
            break
        except subprocess.TimeoutExpired:
            end()
    started.wait()
    started.stdout.close()  # type: ignore[union-attr]
