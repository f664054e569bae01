"""Workers, and the calls that each of them has."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pipeline.cluster.calls import Call

AT_ONCE = 2
"""How many calls a worker has at a time: one that computes, and one whose images are decoded meanwhile."""


class LostError(Exception):
    """A worker ended, or its answer is lost; the text says why. Never shown as it is."""


class Processes(Protocol):
    """The workers' processes."""

    def start(self) -> Any:
        """Starts a worker, which may wait for a machine."""

    def ask(self, worker: Any, method: str, *arguments: Any) -> Any:
        """Calls a method of a worker, and returns a receipt at once."""

    def wait(self, receipts: Sequence[Any], seconds: float) -> list[Any]:
        """The receipts that have answers; waits until one has, but no longer than so many seconds."""

    def answer(self, receipt: Any) -> Any:
        """The answer; raises `LostError`."""

    def end(self, worker: Any) -> None:
        """Ends a worker, even one that has stopped."""

    def are_over(self) -> bool:
        """Whether no worker will have a machine any more."""


@dataclass
class Lease:
    """A call that a worker has, since when, and for how many seconds."""

    call: Call
    began: float
    seconds: float
    is_late: bool = False


@dataclass(eq=False)
class Held:
    """A worker as its owner sees it.

    Attributes:
        process: what `Processes` started.
        in_vain: how many workers before it, in a row, ended in its place without having labelled anything.
        is_placed: whether it has a machine.
        is_ready: whether it has loaded the teacher.
        has_labelled: whether it has been of use.
        leases: its calls, by receipt.
    """

    process: Any
    in_vain: int = 0
    is_placed: bool = False
    is_ready: bool = False
    has_labelled: bool = False
    leases: dict[Any, Lease] = field(default_factory=dict)

    @property
    def has_room(self) -> bool:
        """Whether it can take another call."""
        on_time = not any(lease.is_late for lease in self.leases.values())
        return self.is_ready and on_time and len(self.leases) < AT_ONCE

    @property
    def has_a_suspect(self) -> bool:
        """Whether it has a call at which another worker ended: two would hide which of them is at fault."""
        return any(lease.call.is_suspect for lease in self.leases.values())
