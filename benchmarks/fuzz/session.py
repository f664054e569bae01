"""Many inputs of one target, in a process that may crash, hang, or take too much memory: then another one goes on."""

import faulthandler
import gc
import hashlib
import multiprocessing
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkProcess
from multiprocessing.sharedctypes import SynchronizedArray
from pathlib import Path

import psutil

from benchmarks.fuzz.outcomes import outcome
from benchmarks.fuzz.target import Target

LONGEST, CLOCK = 10.0, 60.0
"""Seconds that an input may take, of the processor and by the clock. Then it hangs."""

RESERVED = 4
"""How many times a target's memory a process may reserve, before the system refuses it more."""

UNSEEN = 16 * 1024
"""KiB that an input may take without being measured: to set the largest memory back takes a large process 10 ms."""

STATM, CLEAR = Path("/proc/self/statm"), Path("/proc/self/clear_refs")

BEGUN, ACCEPTED, REFUSED, FAILED, KIBIBYTES, MILLISECONDS = range(6)
"""What is counted, in memory that outlives the process: inputs by outcome, and the largest memory and time of one."""

Give = Callable[[bytes], None]
Way = Callable[[Target, list[bytes], Give, int, int], None]
"""Makes inputs from seeds and gives them away, from the number of the first one on, up to so many."""


@dataclass(frozen=True)
class Limits:
    """Of a session.

    Attributes:
        inputs: how many are made.
        first: the number of the first one.
        seconds: by the clock, for all.
        longest: the seconds of the processor that one input may take.
    """

    inputs: int
    first: int = 0
    seconds: float = float("inf")
    longest: float = LONGEST


class Session:
    """Runs inputs of one target.

    Args:
        name: of the target.
        target: the target.
        failures: the folder for inputs that failed, each with a text: what happened, and how to repeat it. Of failures
            with one cause, the first is kept.
        work: the folder in which the inputs are written and read.
    """

    def __init__(self, name: str, target: Target, failures: Path, work: Path) -> None:
        self._name, self._target, self._failures, self._work = name, target, failures.absolute(), work.absolute()
        self._current, self._said, self._seeds = (self._work / part for part in ("current", "stderr", "seeds"))
        self.counts: SynchronizedArray[int] = multiprocessing.get_context("fork").Array("q", 6)

    def run(self, way: Way, limits: Limits) -> None:
        """Runs as many inputs as wanted, unless the time is over before.

        Raises:
            RuntimeError: a seed is not accepted, or the process ends before its first input.
        """
        self._make_seeds()
        until = time.monotonic() + limits.seconds
        while (begun := self.counts[BEGUN]) < limits.inputs and time.monotonic() < until:
            process = _started(self._inputs, way, limits.first + begun, limits.inputs - begun, until)
            how = self._end(process, limits.longest)
            if how and self.counts[BEGUN] == begun:
                raise RuntimeError(f"{self._name}: {how} before an input was run: {self._last_said()}")
            if how:
                self.counts[FAILED] += 1
                self._keep(
                    f"{how}\n{self._last_said()}", f"{how} {hashlib.sha256(self._current.read_bytes()).hexdigest()}"
                )
            elif self.counts[BEGUN] == begun:
                return

    def _end(self, process: ForkProcess, longest: float) -> str:
        """Waits until the process ends, or ends it where it hangs; tells how, if it is not as it should."""
        begun, wall, busy = -1, 0.0, 0.0
        while process.is_alive():
            process.join(0.1)
            spent = _processor_seconds(process)
            if self.counts[BEGUN] != begun:
                begun, wall, busy = self.counts[BEGUN], time.monotonic(), spent
            elif begun and (spent - busy > longest or time.monotonic() - wall > CLOCK):
                process.kill()
                process.join()
                return f"no end after {spent - busy:.0f} s of the processor"
        return "" if process.exitcode == 0 else f"the process ended with {process.exitcode}"

    def _make_seeds(self) -> None:
        """Makes the seeds in a process of its own: what that loads, such as Keras, the readers may not need."""
        self._seeds.mkdir(exist_ok=True)
        process = _started(self._write_seeds)
        process.join()
        if process.exitcode != 0:
            raise RuntimeError(f"the seeds of {self._name} cannot be made: {self._last_said()}")

    def _write_seeds(self) -> None:
        self._redirect()
        for number, seed in enumerate(self._target.seeds()):
            (self._seeds / f"{number:03}").write_bytes(seed)

    def _redirect(self) -> int:
        """Sends what is printed to a file, whose descriptor is returned."""
        said = os.open(self._said, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(said, stream)
        sys.stdout = sys.stderr = os.fdopen(said, "w", buffering=1, errors="backslashreplace")
        return said

    def _inputs(self, way: Way, first: int, count: int, until: float) -> None:
        """The process that runs inputs."""
        parent = os.getppid()
        said = self._redirect()
        faulthandler.enable()
        os.chdir(self._work)
        warnings.simplefilter("ignore")
        seeds = [path.read_bytes() for path in sorted(self._seeds.iterdir())]
        for seed in seeds:
            if (found := outcome(self._target, seed, self._work)).kind != "accepted":
                raise RuntimeError(f"a seed of {self._name} is {found.kind}: {found.text}")
        reserved = psutil.Process().memory_info().vms + RESERVED * self._target.memory
        resource.setrlimit(resource.RLIMIT_AS, (reserved, resource.RLIM_INFINITY))

        def give(content: bytes) -> None:
            if time.monotonic() > until or os.getppid() != parent:
                os._exit(0)
            if os.fstat(said).st_size > 2**20:
                os.ftruncate(said, 0)
            self._one(content)

        gc.freeze()  # what is loaded by now is no garbage, and to look through all of it takes 0.3 s
        way(self._target, seeds, give, first, count)

    def _one(self, content: bytes) -> None:
        self._current.unlink(missing_ok=True)
        self._current.write_bytes(content)
        self.counts[BEGUN] += 1
        begun, now, before = time.process_time(), *_memory()
        found = outcome(self._target, content, self._work)
        spent, largest = time.process_time() - begun, _largest_memory()
        taken = largest - now if largest > before else 0
        self.counts[KIBIBYTES] = max(self.counts[KIBIBYTES], taken)
        self.counts[MILLISECONDS] = max(self.counts[MILLISECONDS], round(1000 * spent))
        if found.kind != "failed" and 1024 * taken > self._target.memory:
            self._fail(f"it took {taken // 1024} MiB of memory", "memory")
        elif found.kind == "failed":
            self._fail(found.text, found.where)
        else:
            self.counts[ACCEPTED if found.kind == "accepted" else REFUSED] += 1

    def _fail(self, text: str, where: str) -> None:
        self.counts[FAILED] += 1
        self._keep(text, where)

    def _keep(self, text: str, where: str) -> None:
        kept = self._failures / f"{self._name}-{hashlib.sha256(where.encode()).hexdigest()[:8]}"
        if not kept.exists():
            self._failures.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(self._current.read_bytes())
            repeat = f"python -m benchmarks.fuzz {self._name} --repeat {kept}"
            kept.with_name(f"{kept.name}.txt").write_text(f"{repeat}\n{text[:20000]}\n", errors="backslashreplace")

    def _last_said(self) -> str:
        return self._said.read_text(errors="backslashreplace")[-4000:] if self._said.exists() else ""


def _started(function: Callable[..., None], *arguments: object) -> ForkProcess:
    process = multiprocessing.get_context("fork").Process(target=function, args=arguments, daemon=True)
    process.start()
    return process


def _processor_seconds(process: ForkProcess) -> float:
    try:
        times = psutil.Process(process.pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def _memory() -> tuple[int, int]:
    """KiB of this process now, and at most since that was set back (on Linux; elsewhere, it never grows)."""
    if not CLEAR.exists():
        return 0, sys.maxsize
    now, largest = int(STATM.read_bytes().split()[1]) * resource.getpagesize() // 1024, _largest_memory()
    if largest > now + UNSEEN:
        CLEAR.write_text("5", encoding="ascii")
        largest = _largest_memory()
    return now, largest


def _largest_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
