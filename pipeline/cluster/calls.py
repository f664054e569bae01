"""What workers are to do, in which order, and how long each call may take."""

from collections import defaultdict, deque
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

FIRST_SECONDS = 900.0
"""The lease of a call as long as none of its kind that is at least as large has been answered."""

LEAST_SECONDS = 60.0
"""The shortest lease later on."""

LEASE, RECENT = 10, 50
"""A lease is `LEASE` times as long as the longest of the `RECENT` last answers took."""


@dataclass(eq=False)
class Call:
    """A method that some worker is to run, and what has become of it.

    Attributes:
        method: the method.
        arguments: its arguments.
        kind: calls of one method and kind take equally long if they are equally large.
        size: how large it is.
        images: the images that it is for, in words.
        is_suspect: whether a worker ended or failed at it.
        lost: at how many workers' ends it seems to be at fault.
        late: how many of its leases ended.
        failed: how many workers could not do it, and said why.
    """

    method: str
    arguments: tuple[Any, ...]
    kind: Hashable = None
    size: int = 1
    images: Sequence[str] = ()
    is_suspect: bool = False
    lost: int = 0
    late: int = 0
    failed: int = 0


class Queue:
    """Calls, each until its first answer.

    Args:
        calls: taken one after another, not before a worker has room.
    """

    def __init__(self, calls: Iterable[Call]) -> None:
        self._fresh, self._again, self._taken = iter(calls), deque[Call](), set[Call]()
        self._upcoming = next(self._fresh, None)

    @property
    def is_open(self) -> bool:
        """Whether answers are missing."""
        return self._upcoming is not None or bool(self._taken)

    def take(self, suspects: bool) -> Call | None:
        """The next call for a worker: of those that were put back, or a fresh one; None if there is none.

        Args:
            suspects: whether it may be one at which a worker ended.
        """
        for call in self._again:
            if suspects or not call.is_suspect:
                self._again.remove(call)
                return call
        fresh = self._upcoming
        if fresh is not None:
            self._upcoming = next(self._fresh, None)
            self._taken.add(fresh)
        return fresh

    def __contains__(self, call: Call) -> bool:
        """Whether a call was taken, and its answer is missing."""
        return call in self._taken

    def put_back(self, call: Call) -> None:
        """Lets another worker have a call, too, if its answer is missing."""
        if call in self and call not in self._again:
            self._again.append(call)

    def is_first_answer(self, call: Call) -> bool:
        """Notes an answer; whether it is the first one of this call."""
        if call not in self:
            return False
        self._taken.remove(call)
        if call in self._again:
            self._again.remove(call)
        return True


class Durations:
    """How long calls took, and may take."""

    def __init__(self) -> None:
        self._took: defaultdict[Hashable, deque[tuple[int, float]]] = defaultdict(lambda: deque(maxlen=RECENT))

    def add(self, call: Call, seconds: float) -> None:
        """Notes that a call was answered after so many seconds."""
        self._took[call.method, call.kind].append((call.size, seconds))

    def lease(self, call: Call) -> float:
        """How many seconds a call may take."""
        took = self._took[call.method, call.kind]
        least = LEAST_SECONDS if any(size >= call.size for size, _ in took) else FIRST_SECONDS
        usual = LEASE * max((seconds for _, seconds in took), default=0.0)
        return float(max(least, usual) * 2**call.late)
