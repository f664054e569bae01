"""Which worker gets which work, by a clock that moves only when nobody has an answer."""

import re
from collections import Counter

import pytest

from pipeline.cluster import leases
from pipeline.cluster.leases import Call, Leases, LostError
from pipeline.cluster.worker import Failed
from pipeline.runtime.errors import DamagedError, UnusableError

HANGS, DIES, NO_MEMORY = "hangs", "dies", "no memory"


class Made:
    """Workers that answer after so many seconds, each at one call after another.

    Args:
        seconds: of a worker's number and of how many calls it had before: how long a call takes, or what happens.
    """

    def __init__(self, seconds):
        self.seconds, self.now, self.started, self.ended = seconds, 0.0, 0, []
        self.receipts, self.free_at, self.had = {}, Counter(), Counter()

    def clock(self):
        return self.now

    def start(self):
        self.started += 1
        return self.started - 1

    def ask(self, worker, method, *arguments):
        receipt = len(self.receipts)
        takes = 0.0 if method == "ready" else self.seconds(worker, self.had[worker])
        self.had[worker] += method != "ready"
        begins = max(self.now, self.free_at[worker])
        ends = begins + takes if isinstance(takes, float) else begins if takes != HANGS else float("inf")
        self.free_at[worker] = ends
        self.receipts[receipt] = (ends, takes, (worker, *arguments))
        return receipt

    def wait(self, receipts, seconds):
        """As Ray: at least one, or none after the time."""
        first = min((self.receipts[receipt][0] for receipt in receipts), default=float("inf"))
        if first > self.now:
            self.now = min(first, self.now + seconds)
        return [receipt for receipt in receipts if self.receipts[receipt][0] <= self.now]

    def answer(self, receipt):
        _, takes, answer = self.receipts[receipt]
        if takes == DIES:
            raise LostError("it was killed")
        return Failed(UnusableError("no memory"), is_memory=True) if takes == NO_MEMORY else answer

    def end(self, worker):
        self.ended.append(worker)


def calls(count):
    return [Call("logits", (number,)) for number in range(count)]


def labelled_by(made, count, workers):
    """Which worker labelled each block, in the order of the answers."""
    answers = Leases(made, workers, made.clock).answers(calls(count))
    return [(call.arguments[0], answer[0]) for call, answer in answers]


def blocks_of(found):
    return sorted(block for block, _ in found)


def test_two_equal_workers_share_the_blocks_evenly():
    made = Made(lambda worker, had: 1.0)
    found = labelled_by(made, 20, workers=2)
    assert blocks_of(found) == list(range(20))
    assert Counter(worker for _, worker in found) == {0: 10, 1: 10}
    assert made.now == 10.0


def test_a_worker_that_is_three_times_as_fast_gets_more():
    made = Made(lambda worker, had: (1.0, 3.0)[worker])
    found = labelled_by(made, 40, workers=2)
    assert blocks_of(found) == list(range(40))
    assert abs(Counter(worker for _, worker in found)[0] - 30) <= 2


@pytest.mark.parametrize("ending", [DIES, NO_MEMORY])
def test_the_blocks_of_a_worker_that_ended_go_to_others(ending, capsys):
    made = Made(lambda worker, had: ending if (worker, had) == (1, 3) else 1.0)
    found = labelled_by(made, 12, workers=2)
    assert blocks_of(found) == list(range(12))
    assert (made.started, made.ended) == (3, [1])  # a third worker took its place
    assert capsys.readouterr().err.count("a worker is lost") == 1


def test_a_block_of_a_hung_worker_is_done_again_after_its_lease():
    """Ten blocks of a second; the second worker hangs at its third one: 60 s of lease, and 120 until it is replaced."""
    made = Made(lambda worker, had: HANGS if (worker, had) == (1, 2) else 1.0)
    found = labelled_by(made, 10, workers=2)
    assert blocks_of(found) == list(range(10))
    assert leases.LEAST_SECONDS < made.now < 2 * leases.LEAST_SECONDS
    assert made.ended == []


def test_a_hung_worker_is_replaced_after_twice_the_lease():
    made = Made(lambda worker, had: HANGS if (worker, had) == (0, 2) else 1.0)
    found = labelled_by(made, 10, workers=1)  # nobody else is there
    assert blocks_of(found) == list(range(10))
    assert (made.started, made.ended) == (2, [0])
    assert 2 * leases.LEAST_SECONDS <= made.now < 3 * leases.LEAST_SECONDS


def test_an_answer_that_comes_second_is_dropped():
    """Its block takes 100 s, so that another worker does it again meanwhile; it is not replaced, and goes on."""
    made = Made(lambda worker, had: 100.0 if (worker, had) == (1, 2) else 1.0)
    found = labelled_by(made, 200, workers=2)
    assert blocks_of(found) == list(range(200))
    assert made.ended == []
    assert {worker for block, worker in found[-20:]} == {0, 1}


def test_workers_that_all_become_slow_end_nevertheless():
    """From 1 s a block to 500: leases that were too short become longer."""
    made = Made(lambda worker, had: 1.0 if worker < 2 and had < 3 else 500.0)
    assert blocks_of(labelled_by(made, 12, workers=2)) == list(range(12))


def test_a_long_write_makes_no_worker_late():
    """An hour passes between two answers, while all others have come."""
    made = Made(lambda worker, had: 1.0)
    found = []
    for call, _ in Leases(made, 2, made.clock).answers(calls(20)):
        found.append(call.arguments[0])
        made.now += 3600.0 if len(found) == 7 else 0.0
    assert sorted(found) == list(range(20))
    assert (made.started, made.ended) == (2, [])
    assert len(made.receipts) == 20 + 2  # nothing was asked twice


@pytest.mark.parametrize("workers", [1, 3])
def test_no_more_blocks_are_taken_than_workers_can_hold(workers):
    """Workers that answer at once: what is taken ahead of the writer is two blocks of each, and the next one."""
    taken, handed_out = [], []

    def taken_one_by_one():
        for call in calls(100):
            taken.append(call)
            yield call

    made = Made(lambda worker, had: 0.0)
    for call, _ in Leases(made, workers, made.clock).answers(taken_one_by_one()):
        handed_out.append(call)
        assert len(taken) - len(handed_out) <= leases.AT_ONCE * workers
    assert len(handed_out) == 100


def test_a_block_at_which_every_worker_ends_is_given_up():
    class Poisoned(Made):
        def ask(self, worker, method, *arguments):
            receipt = super().ask(worker, method, *arguments)
            if arguments == (5,):
                self.receipts[receipt] = (self.now, DIES, None)
            return receipt

    made = Poisoned(lambda worker, had: 1.0)
    with pytest.raises(UnusableError, match=re.escape("4 workers ended at the same block of views, the last one")):
        labelled_by(made, 50, workers=3)


def test_workers_that_cannot_start_are_told():
    class Broken(Made):
        def ask(self, worker, method, *arguments):
            receipt = super().ask(worker, method, *arguments)
            self.receipts[receipt] = (self.now, DIES, None)
            return receipt

    made = Broken(lambda worker, had: 1.0)
    with pytest.raises(UnusableError, match="no worker can be started: the last one ended because it was killed"):
        labelled_by(made, 5, workers=2)
    assert made.started == 2 * leases.MOST_STARTS


def test_what_a_worker_cannot_do_is_an_answer():
    class Refusing(Made):
        def answer(self, receipt):
            worker, *arguments = super().answer(receipt)
            return Failed(DamagedError("bad")) if arguments == [3] else (worker, *arguments)

    made = Refusing(lambda worker, had: 1.0)
    answers = dict(Leases(made, 1, made.clock).answers(calls(5)))
    assert [call.arguments[0] for call, answer in answers.items() if isinstance(answer, Failed)] == [3]
