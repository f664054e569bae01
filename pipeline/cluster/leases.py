"""Which worker does what, and what happens if it takes too long, or ends.

Work is leased. If an answer does not come within the lease, another worker gets the same work; the first answer counts,
and a later one is dropped. A worker whose answer is still missing after twice the lease is ended, and a new one takes
its place. Work that was leased in vain is leased for twice as long, so that a machine that became slow makes progress.

A worker may wait for a machine without end: its first lease begins when its process runs. Work at which a worker ended
goes to one that has labelled something before, while there is one: so a machine on which every worker ends takes no
work twice, and is soon left out.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from math import inf
from typing import Any

from pipeline.cluster.calls import Call, Durations, Queue
from pipeline.cluster.held_workers import AT_ONCE, Held, Lease, LostError, Processes
from pipeline.cluster.worker import Failed
from pipeline.runtime.errors import PipelineError, UnusableError, all_named

START_SECONDS = 900.0
"""The lease of a worker's start, which loads TensorFlow and the teacher."""

WAITING_SECONDS = 180.0
"""If no worker has had a machine for so long, the user is told."""

MOST_TRIES, MOST_LATE, MOST_FAILURES = 4, 5, 2
"""A call is given up when so many workers ended at it; so many leases of it ended; so many workers failed at it."""

MOST_STARTS = 3
"""Where so many workers in a row ended without having labelled anything, no other is started."""

SILENT = "it does not answer"
"""Why a worker is ended that may be slow. It says nothing against its work, which is leased for longer next time."""

REMEDY = (
    "If memory ran out, lower precompute.batch_size, or give a worker more of a machine: a larger "
    "precompute.ray.cpus_per_worker means fewer workers on each."
)


def _tell_all(failed: Failed) -> None:
    """Knows no other reason of a failure."""


class Leases:
    """Gives calls to workers, and hands out each answer once.

    Args:
        processes: starts, asks and ends workers.
        count: the number of workers.
        clock: the time in seconds.
    """

    def __init__(self, processes: Processes, count: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._processes, self._clock = processes, clock
        self._durations = Durations()
        self._had_a_machine, self._is_told = clock(), False
        self._workers = [self._started(0) for _ in range(count)]

    @property
    def placed(self) -> int:
        """How many workers have a machine."""
        return sum(worker.is_placed for worker in self._workers)

    @property
    def ready(self) -> int:
        """How many workers have started."""
        return sum(worker.is_ready for worker in self._workers)

    def answers(
        self, calls: Iterable[Call], examine: Callable[[Failed], None] = _tell_all
    ) -> Iterator[tuple[Call, Any]]:
        """Each call with its answer, as the answers come; a `Failed` that others would give, too, is an answer.

        No more than `AT_ONCE` calls of each worker are taken from `calls` before their answers are handed out. So the
        workers rest if whoever takes the answers is slow.

        Args:
            calls: what is to be done; those of size 0 label nothing.
            examine: sees a failure that others may not have; it raises if it knows a reason for the user.

        Raises:
            PipelineError: a worker says why it cannot start, or two why they cannot do the same.
            UnusableError: workers end again and again, or never answer; or no machine is left.
        """
        queue = Queue(calls)
        while queue.is_open:
            self._hand_out(queue)
            for call, answer in self._arrived(queue, examine):
                if queue.is_first_answer(call):
                    yield call, answer
            self._look_at_the_clock(queue)
            self._look_for_machines()

    def _hand_out(self, queue: Queue) -> None:
        for worker in self._workers * AT_ONCE:  # a first call for each of them, then the second ones
            is_trusted = worker.has_labelled or not self._any_has_labelled()
            if worker.has_room and (call := queue.take(suspects=is_trusted and not worker.has_a_suspect)) is not None:
                self._lease(worker, call, self._durations.lease(call))

    def _any_has_labelled(self) -> bool:
        return any(worker.has_labelled for worker in self._workers)

    def _lease(self, worker: Held, call: Call, seconds: float) -> None:
        receipt = self._processes.ask(worker.process, call.method, *call.arguments)
        worker.leases[receipt] = Lease(call, self._clock(), seconds)

    def _started(self, in_vain: int) -> Held:
        worker = Held(self._processes.start(), in_vain)
        self._lease(worker, Call("placed", (), size=0), inf)
        return worker

    def _arrived(self, queue: Queue, examine: Callable[[Failed], None]) -> Iterator[tuple[Call, Any]]:
        """The answers that have come, after a wait for one."""
        of_receipt = {receipt: worker for worker in self._workers for receipt in worker.leases}
        for receipt in self._processes.wait(list(of_receipt), self._until_the_next_deadline()):
            worker = of_receipt[receipt]
            if receipt not in worker.leases:  # the worker ended, and took this call with it
                continue
            call, began = worker.leases[receipt].call, worker.leases[receipt].began
            try:
                answer = self._processes.answer(receipt)
            except LostError as error:
                self._replace(worker, str(error), queue)
                continue
            if isinstance(answer, Failed) and answer.kind != "told":
                self._look_at_a_failure(call, answer, examine)
                self._replace(worker, str(answer.error), queue)
                continue
            del worker.leases[receipt]
            if call.method in ("placed", "ready"):
                self._go_on_to_start(worker, call, answer)
                continue
            worker.has_labelled |= call.size > 0
            self._durations.add(call, self._clock() - began)
            yield call, answer

    def _go_on_to_start(self, worker: Held, call: Call, answer: Failed | None) -> None:
        if isinstance(answer, Failed):
            raise answer.error
        worker.is_placed, worker.is_ready = True, call.method == "ready"
        if not worker.is_ready:
            self._lease(worker, Call("ready", (), size=0), START_SECONDS)

    def _look_at_a_failure(self, call: Call, failed: Failed, examine: Callable[[Failed], None]) -> None:
        examine(failed)
        if failed.kind == "memory":
            return
        call.failed += 1
        if call.failed >= MOST_FAILURES or (call.method == "ready" and not self._any_has_labelled()):
            raise failed.error

    def _until_the_next_deadline(self) -> float:
        now = self._clock()
        leases = [lease for worker in self._workers for lease in worker.leases.values()]
        ends = [lease.began + lease.seconds * (1 + lease.is_late) for lease in leases]
        return max(0.0, min([now + WAITING_SECONDS, *ends]) - now)

    def _look_at_the_clock(self, queue: Queue) -> None:
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
                self._replace(worker, SILENT, queue)
            elif not lease.is_late:
                lease.is_late = True
                self._note_late(lease.call, queue)

    def _note_late(self, call: Call, queue: Queue) -> None:
        call.late += 1
        if call in queue and call.late >= MOST_LATE:
            raise _given_up(call, f"nobody answered a block of views in {MOST_LATE} leases, each twice as long.")
        queue.put_back(call)

    def _replace(self, worker: Held, reason: str, queue: Queue) -> None:
        """Ends a worker, gives its work to others and starts another one."""
        self._processes.end(worker.process)
        self._workers.remove(worker)
        is_fault_of_the_call = worker.has_labelled or not self._any_has_labelled()
        for lease in worker.leases.values():
            if reason != SILENT:
                lease.call.is_suspect = True
                lease.call.lost += is_fault_of_the_call
            if lease.call in queue and lease.call.lost >= MOST_TRIES:
                ended = (
                    f"{MOST_TRIES} workers ended at the same block of views, the last one because {reason}. {REMEDY}"
                )
                raise _given_up(lease.call, ended)
            if not lease.is_late:
                queue.put_back(lease.call)
        worker.leases = {}
        is_in_vain = reason != SILENT or not worker.is_ready or self._any_has_labelled()
        in_vain = is_in_vain + (0 if worker.has_labelled else worker.in_vain)
        if in_vain < MOST_STARTS:
            self._workers.append(self._started(in_vain))
        elif not self._workers:
            raise UnusableError(f"no worker can be started: the last one ended because {reason}. {REMEDY}")
        then = "its work goes to others" if self.placed else "its work waits for another one"
        print(f"a worker is lost ({reason}); {then}", file=sys.stderr, flush=True)

    def _look_for_machines(self) -> None:
        """Tells the user if no worker has a machine."""
        now = self._clock()
        if self.placed:
            self._had_a_machine, self._is_told = now, False
        elif not self._is_told and now - self._had_a_machine >= WAITING_SECONDS:
            if self._processes.are_over():
                raise UnusableError("the Ray that was started here has ended. What is done is kept: run it again.")
            self._is_told = True
            print("no worker runs: waiting for a machine that has room for one", file=sys.stderr, flush=True)


def _given_up(call: Call, why: str) -> PipelineError:
    return UnusableError(f"{why} The block shows {len(call.images)} image(s): {all_named(call.images)}.")
