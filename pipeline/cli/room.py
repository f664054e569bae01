"""How many trainings fit on this machine beside each other, judged by the first epochs of one of them."""

import math
import time
from contextlib import suppress
from dataclasses import dataclass

import psutil

from pipeline.runtime.cores import control_groups, usable_cores

MEMORY_SHARE = 0.8
"""The share of the available memory that trainings beside this one may take together, each as much as this one."""

LEAST_SHARE = 0.25
"""A training is worth starting beside others if they leave it at least this share of the cores that it would use."""

LEAST_SECONDS = 0.3
"""Epochs are measured for at least so long: the system counts the time of processors in hundredths of a second."""


@dataclass(frozen=True)
class Span:
    """A span of time.

    Attributes:
        seconds: its length.
        own: seconds of processor time that this process took.
        idle: seconds of all cores together in which nobody used them, or only a process that this one started.
    """

    seconds: float
    own: float
    idle: float

    def __sub__(self, other: "Span") -> "Span":
        """From the end of a span to the end of a longer one with the same beginning."""
        return Span(self.seconds - other.seconds, self.own - other.own, self.idle - other.idle)

    def and_times(self, count: float, other: "Span") -> "Span":
        """This span, and another one so many times after it."""
        return Span(self.seconds + count * other.seconds, self.own + count * other.own, self.idle + count * other.idle)


def now() -> Span:
    """The time from some moment in the past until now."""
    process, started = psutil.Process(), 0.0
    spent = process.cpu_times()
    for child in process.children():
        with suppress(psutil.Error):  # it has ended
            started += child.cpu_times().user + child.cpu_times().system
    return Span(time.monotonic(), spent.user + spent.system, psutil.cpu_times().idle + started)


def that_fit(whole: Span, memory: int, available: int, cores: float) -> int:
    """How many trainings of one kind are done fastest beside each other, from 1.

    Others are started for the cores that one of them leaves idle (`LEAST_SHARE`), as far as there is memory.

    Args:
        whole: a training alone, from its start to its end.
        memory: the bytes that it takes.
        available: the bytes of memory that are available beside it.
        cores: the cores that this process may use.
    """
    of_own = max(whole.own, 0.01) / whole.seconds  # the system counts in hundredths of a second
    idle = min(whole.idle / whole.seconds, cores - of_own)
    others = min(math.floor(idle / of_own + 1 - LEAST_SHARE), int(MEMORY_SHARE * available / memory))
    return 1 + max(0, others)


class FirstEpochs:
    """Measures a training until it is known how many fit beside it.

    It begins when it is made; everything that a training does before its first epoch counts.
    """

    def __init__(self) -> None:
        self._start = now()
        self._epochs: list[Span] = []

    def after_epoch(self, to_come: int) -> int | None:
        """How many trainings fit, as soon as that can be said: after two epochs, as the first one also traces.

        Args:
            to_come: how many epochs are still to come.
        """
        self._epochs.append(now() - self._start)
        spent, first = self._epochs[-1], self._epochs[0]
        steady = spent - first
        if to_come and (len(self._epochs) == 1 or steady.seconds < LEAST_SECONDS):
            return None
        whole = spent.and_times(to_come / max(len(self._epochs) - 1, 1), steady)
        return that_fit(whole, psutil.Process().memory_info().rss, available_memory(), usable_cores())


def available_memory() -> int:
    """The bytes of memory that processes can still take, as the system and its container allow."""
    available: int = psutil.virtual_memory().available
    for group in control_groups():
        with suppress(OSError, ValueError):
            limit, used = (int((group / f"memory.{name}").read_text()) for name in ("max", "current"))
            available = min(available, limit - used)
    return available
