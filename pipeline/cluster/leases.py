"""Which worker does what, and what happens if it takes too long, or ends.

Work is leased. If an answer does not come within the lease, another worker gets the same work; the first answer counts,
and a later one is dropped. A worker whose answer is still missing after twice the lease is ended, and a new one takes
its place. Work that was leased in vain is leased for twice as long, so that a machine that became slow makes progress.
"""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pipeline.cluster.worker import Failed
from pipeline.runtime.errors import UnusableError

AT_ONCE = 2
"""How many calls a worker has at a time: one that computes, and one whose images are decoded meanwhile."""

FIRST_SECONDS = 900.0
"""The lease as long as no call has been answered; and that of a worker's start, which loads TensorFlow."""

LEAST_SECONDS = 60.0
"""The shortest lease later on."""

LEASE, RECENT = 10, 50
"""A lease is `LEASE` times as long as the longest of the `RECENT` last answers took."""

MOST_TRIES = 4
"""Work with which so many workers ended is given up."""

SILENT = "it does not answer"
"""Why a worker is ended that may be slow. It says nothing against its work, which is leased for longer next time."""

MOST_STARTS = 3
"""A worker that ended so often without an answer is not started again."""


REMEDY = (
    "If memory ran out, lower precompute.batch_size, or give a worker more of a machine: a larger "
    "precompute.ray.cpus_per_worker means fewer workers on each."
)


class LostError(Exception):
    """A worker ended, or its answer is lost; the text says why. Never shown as it is."""


class Processes(Protocol):
    """The workers' processes."""

    def start(self) -> Any:
        """Starts a worker."""

    def ask(self, worker: Any, method: str, *arguments: Any) -> Any:
        """Calls a method of a worker, and returns a receipt at once."""

    def wait(self, receipts: Sequence[Any], seconds: float) -> list[Any]:
        """The receipts that have answers; waits until one has, but no longer than so many seconds."""

    def answer(self, receipt: Any) -> Any:
        """The answer; raises `LostError`."""

    def end(self, worker: Any) -> None:
        """Ends a worker, even one that has stopped."""


@dataclass(eq=False)
class Call:
    """A method that some worker is to run, its arguments, and what has become of it."""

    method: str
    arguments: tuple[Any, ...]
    lost: int = 0
    late: int = 0
    is_answered: bool = False


@dataclass
class _Lease:
    call: Call
    began: float
    seconds: float
    is_late: bool = False


@dataclass(eq=False)
class _Worker:
    process: Any
    in_vain: int = 0
    """How often it ended since it last did anything."""
    is_ready: bool = False
    leases: dict[Any, _Lease] = field(default_factory=dict)

    @property
    def has_room(self) -> bool:
        """Whether it can take another call."""
        on_time = not any(lease.is_late for lease in self.leases.values())
        return self.is_ready and on_time and len(self.leases) < AT_ONCE


class Leases:
    """Gives calls to workers, and hands out each answer once.

    Args:
        processes: starts, asks and ends workers.
        count: the number of workers.
        clock: the time in seconds.
    """

    def __init__(self, processes: Processes, count: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._processes, self._clock = processes, clock
        self._took: deque[float] = deque(maxlen=RECENT)
        self._workers = [self._started(0) for _ in range(count)]

    @property
    def count(self) -> int:
        """The number of workers."""
        return len(self._workers)

    @property
    def ready(self) -> int:
        """How many workers have started."""
        return sum(worker.is_ready for worker in self._workers)

    def answers(self, calls: Iterable[Call]) -> Iterator[tuple[Call, Any]]:
        """Each call with its answer, as the answers come; `Failed` is an answer, too, unless memory ran out.

        No more than `AT_ONCE` calls of each worker are taken from `calls` before their answers are handed out. So the
        workers rest if whoever takes the answers is slow.

        Raises:
            PipelineError: a worker says why it cannot start.
            UnusableError: workers end again and again.
        """
        waiting, again, unanswered = iter(calls), deque[Call](), set[Call]()
        upcoming = next(waiting, None)
        while upcoming is not None or unanswered:
            for worker in self._workers * AT_ONCE:  # a first call for each of them, then the second ones
                if not worker.has_room:
                    continue
                if (call := _first_unanswered(again)) is None:
                    call, upcoming = upcoming, next(waiting, None)
                if call is not None:
                    unanswered.add(call)
                    self._lease(worker, call)
            for call, answer in self._arrived(again):
                if call in unanswered:
                    unanswered.remove(call)
                    call.is_answered = True
                    yield call, answer
            self._look_at_the_clock(again)

    def _lease(self, worker: _Worker, call: Call) -> None:
        receipt = self._processes.ask(worker.process, call.method, *call.arguments)
        usual = max(LEAST_SECONDS, LEASE * max(self._took)) if self._took else FIRST_SECONDS
        worker.leases[receipt] = _Lease(call, self._clock(), usual * 2**call.late)

    def _started(self, in_vain: int) -> _Worker:
        worker = _Worker(self._processes.start(), in_vain)
        receipt = self._processes.ask(worker.process, "ready")
        worker.leases[receipt] = _Lease(Call("ready", ()), self._clock(), FIRST_SECONDS)
        return worker

    def _arrived(self, again: deque[Call]) -> Iterator[tuple[Call, Any]]:
        """The answers that have come, after a wait for one."""
        of_receipt = {receipt: worker for worker in self._workers for receipt in worker.leases}
        for receipt in self._processes.wait(list(of_receipt), self._until_the_next_deadline()):
            worker = of_receipt[receipt]
            if receipt not in worker.leases:  # the worker ended, and took this call with it
                continue
            try:
                answer = self._processes.answer(receipt)
            except LostError as error:
                self._replace(worker, str(error), again)
                continue
            if isinstance(answer, Failed) and answer.is_memory:
                self._replace(worker, str(answer.error), again)
                continue
            lease, worker.in_vain = worker.leases.pop(receipt), 0
            if lease.call.method == "ready":
                if isinstance(answer, Failed):
                    raise answer.error
                worker.is_ready = True
                continue
            self._took.append(self._clock() - lease.began)
            yield lease.call, answer

    def _until_the_next_deadline(self) -> float:
        now = self._clock()
        leases = [lease for worker in self._workers for lease in worker.leases.values()]
        return max(0.0, min(lease.began + lease.seconds * (1 + lease.is_late) - now for lease in leases))

    def _look_at_the_clock(self, again: deque[Call]) -> None:
        """Gives work whose lease has ended to others, and replaces workers whose answers are long overdue."""
        now = self._clock()
        overdue = {
            receipt: worker
            for worker in self._workers
            for receipt, lease in worker.leases.items()
            if now - lease.began >= lease.seconds
        }
        # While the last answers were handed out, which may have taken long, others may have come.
        for receipt in overdue.keys() - set(self._processes.wait(list(overdue), 0)):
            worker = overdue[receipt]
            if (lease := worker.leases.get(receipt)) is None:  # the worker has just been replaced
                continue
            if now - lease.began >= 2 * lease.seconds:
                self._replace(worker, SILENT, again)
            elif not lease.is_late:
                lease.is_late = True
                if lease.call.method != "ready":
                    lease.call.late += 1
                    again.append(lease.call)

    def _replace(self, worker: _Worker, reason: str, again: deque[Call]) -> None:
        """Ends a worker, gives its work to others and starts another one."""
        self._processes.end(worker.process)
        self._workers.remove(worker)
        lost = [lease for lease in worker.leases.values() if lease.call.method != "ready"]
        worker.leases = {}
        for lease in lost:
            lease.call.lost += reason != SILENT
            if lease.call.lost >= MOST_TRIES and not lease.call.is_answered:
                raise UnusableError(
                    f"{MOST_TRIES} workers ended at the same block of views, the last one because {reason}. {REMEDY}"
                )
            if not lease.is_late:
                again.append(lease.call)
        print(f"a worker is lost ({reason}); its work goes to others", file=sys.stderr, flush=True)
        if worker.in_vain + 1 < MOST_STARTS:
            self._workers.append(self._started(worker.in_vain + 1))
        elif not self._workers:
            raise UnusableError(f"no worker can be started: the last one ended because {reason}. {REMEDY}")


def _first_unanswered(again: deque[Call]) -> Call | None:
    while again:
        if not (call := again.popleft()).is_answered:
            return call
    return None
