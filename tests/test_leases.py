"""Which worker gets which work, by a clock that moves only when nobody has an answer."""

import re
from collections import Counter

import pytest

from pipeline.cluster import calls as durations
from pipeline.cluster import leases
from pipeline.cluster.calls import Call
from pipeline.cluster.held_workers import AT_ONCE, LostError
from pipeline.cluster.leases import Leases
from pipeline.cluster.worker import Failed
from pipeline.runtime.errors import DamagedError, UnusableError

HANGS, DIES, NO_MEMORY = "hangs", "dies", "no memory"


class Made:
    """Workers that answer after so many seconds, each at one call after another.

    Args:
        seconds: of a worker's number and of how many calls it had before: how long a call takes, or what happens.
        room: how many workers have a machine; those that started first.
        is_over: whether no other machine can come.
    """

    def __init__(self, seconds, room=1000, is_over=False):
        self.seconds, self.now, self.started, self.ended = seconds, 0.0, 0, []
        self.room, self.is_over = room, is_over
        self.receipts, self.free_at, self.had = {}, Counter(), Counter()

    def clock(self):
        return self.now

    def start(self):
        self.started += 1
        return self.started - 1

    def ask(self, worker, method, *arguments):
        receipt = len(self.receipts)
        is_work = method not in ("placed", "ready")
        takes = self.takes(worker, method, arguments) if is_work else 0.0 if worker < self.room else HANGS
        self.had[worker] += is_work
        begins = max(self.now, self.free_at[worker])
        ends = begins + takes if isinstance(takes, float) else begins if takes != HANGS else float("inf")
        self.free_at[worker] = ends if is_work else 0.0
        self.receipts[receipt] = (ends, takes, (worker, *arguments))
        return receipt

    def takes(self, worker, method, arguments):
        return self.seconds(worker, self.had[worker])

    def are_over(self):
        return self.is_over

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
        return Failed(UnusableError("no memory"), "memory") if takes == NO_MEMORY else answer

    def end(self, worker):
        self.ended.append(worker)


class Poisoned(Made):
    """Something happens at block 5, whichever worker has it."""

    def __init__(self, what, seconds):
        super().__init__(seconds)
        self.what = what

    def takes(self, worker, method, arguments):
        return self.what if arguments == (5,) else super().takes(worker, method, arguments)


def calls(count, size=1):
    return [Call("logits", (number,), size=size, images=[f"{number}.png"]) for number in range(count)]


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
    assert durations.LEAST_SECONDS < made.now < 2 * durations.LEAST_SECONDS
    assert made.ended == []


def test_a_hung_worker_is_replaced_after_twice_the_lease():
    made = Made(lambda worker, had: HANGS if (worker, had) == (0, 2) else 1.0)
    found = labelled_by(made, 10, workers=1)  # nobody else is there
    assert blocks_of(found) == list(range(10))
    assert (made.started, made.ended) == (2, [0])
    assert 2 * durations.LEAST_SECONDS <= made.now < 3 * durations.LEAST_SECONDS


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
    assert len(made.receipts) == 20 + 2 * 2  # nothing was asked twice


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
        assert len(taken) - len(handed_out) <= AT_ONCE * workers
    assert len(handed_out) == 100


def test_a_block_at_which_every_worker_ends_is_given_up():
    made = Poisoned(DIES, lambda worker, had: 1.0)
    with pytest.raises(
        UnusableError, match=re.escape("4 workers ended at the same block of views, the last one") + ".*5.png"
    ):
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


def test_a_machine_on_which_every_worker_ends_is_left_out(capsys):
    """The worker 1 and all that take its place: they end at once, and their blocks go to the other three."""
    bad = {1}

    class OneBad(Made):
        def start(self):
            if self.ended and self.ended[-1] in bad:
                bad.add(self.started)
            return super().start()

    made = OneBad(lambda worker, had: DIES if worker in bad else 30.0)
    assert blocks_of(labelled_by(made, 100, workers=4)) == list(range(100))
    assert made.ended == [1, 4, 5]


def test_workers_wait_for_a_machine_without_end(capsys):
    """A hundred workers, room for two, three hours of work."""
    made = Made(lambda worker, had: 30.0, room=2)
    owner = Leases(made, 100, made.clock)
    assert len([*owner.answers(calls(720))]) == 720
    assert (owner.placed, made.started, made.ended) == (2, 100, [])
    assert capsys.readouterr().err == ""


def test_who_waits_for_a_machine_is_told(capsys):
    """All machines go after three blocks; an hour later there is one again."""
    made = Made(lambda worker, had: 1.0 if had < 3 else DIES, room=1)
    ask = made.ask

    def an_hour_later(worker, method, *arguments):
        receipt = ask(worker, method, *arguments)
        if (worker, method) == (1, "placed"):
            made.receipts[receipt] = (made.now + 3600.0, 0.0, None)
            made.room, made.seconds = 2, lambda worker, had: 1.0
        return receipt

    made.ask = an_hour_later
    assert blocks_of(labelled_by(made, 10, workers=1)) == list(range(10))
    assert made.now > 3600
    lost, waiting = capsys.readouterr().err.splitlines()
    assert lost == "a worker is lost (it was killed); its work waits for another one"
    assert waiting == "no worker runs: waiting for a machine that has room for one"


def test_a_ray_of_our_own_that_ended_is_told():
    made = Made(lambda worker, had: 1.0 if had < 3 else DIES, room=1, is_over=True)
    with pytest.raises(UnusableError, match="the Ray that was started here has ended"):
        labelled_by(made, 10, workers=1)
    assert made.now < 2 * leases.WAITING_SECONDS


@pytest.mark.parametrize("workers", [1, 4])
def test_a_block_that_nobody_answers_is_given_up(workers):
    made = Poisoned(HANGS, lambda worker, had: 1.0)
    with pytest.raises(UnusableError, match=re.escape("nobody answered a block of views in 5 leases") + ".*5.png"):
        labelled_by(made, 50, workers)
    assert made.now < 24 * 3600


def test_a_quick_question_says_nothing_of_how_long_blocks_take():
    """Blocks of 400 s after a call of another method that took 5; and large blocks after small ones."""
    made = Made(lambda worker, had: 5.0 if had == 0 else 400.0)
    owner = Leases(made, 1, made.clock)
    assert len([*owner.answers([Call("rounding", (), size=0)])]) == 1
    assert len([*owner.answers(calls(5))]) == 5
    made.seconds = lambda worker, had: 800.0
    assert len([*owner.answers(calls(5, size=16))]) == 5
    assert (made.started, len(made.receipts)) == (1, 2 + 1 + 5 + 5)  # nothing was asked twice


def test_a_lease_is_ten_times_the_slowest_answer():
    took = durations.Durations()
    for seconds in (1.0, 50.0, 2.0):
        took.add(Call("logits", ()), seconds)
    assert took.lease(Call("logits", ())) == 500.0
    assert took.lease(Call("logits", (), late=2)) == 2000.0
    assert took.lease(Call("logits", (), size=2)) == took.lease(Call("logits", (), "another member")) == 900.0


def test_a_late_worker_gets_no_more_work():
    """The second one hangs at its only block, and has room for another one."""
    made = Made(lambda worker, had: HANGS if worker == 1 else 1.0)
    owner = Leases(made, 2, made.clock)
    assert {answer[0] for _, answer in owner.answers(calls(2))} == {0}
    assert {answer[0] for _, answer in owner.answers(calls(20))} == {0}
    assert made.had[1] == 1


def test_an_answered_block_is_not_at_fault_when_a_worker_ends():
    """Its block was lost three times before, and is answered while it hangs."""
    made = Made(lambda worker, had: HANGS if worker == 1 and had else 1.0)
    owner, work = Leases(made, 2, made.clock), calls(200)
    [*owner.answers(calls(2))]
    for call in work:
        call.lost = leases.MOST_TRIES - 1
    die = made.wait

    def dies_later(receipts, seconds):
        for receipt, (ends, takes, answer) in made.receipts.items():
            if takes == HANGS and made.now > 90:
                made.receipts[receipt] = (min(ends, made.now), DIES, answer)
        return die(receipts, seconds)

    made.wait = dies_later
    assert len([*owner.answers(work)]) == 200
    assert made.ended == [1]


def test_a_block_of_a_lost_worker_goes_to_one_of_use():
    """The first worker has labelled something; all others end at what they get."""
    made = Made(lambda worker, had: DIES if worker else 30.0)
    owner = Leases(made, 2, made.clock)
    [*owner.answers(calls(1))]
    assert len([*owner.answers(calls(20))]) == 20
    by_others = [answer[1] for _, _, answer in made.receipts.values() if len(answer) > 1 and answer[0]]
    assert len(by_others) == len(set(by_others)) >= leases.MOST_STARTS


class Failing(Made):
    """Workers whose answer to block 3 is an error of another library, as often as is said."""

    def __init__(self, times):
        super().__init__(lambda worker, had: 1.0)
        self.times = times

    def answer(self, receipt):
        answer = super().answer(receipt)
        if answer[1:] == (3,) and self.times:
            self.times -= 1
            return Failed(UnusableError("failed: InternalError"), "other")
        return answer


def test_what_one_worker_fails_to_do_another_one_does():
    made = Failing(times=1)
    assert blocks_of(labelled_by(made, 9, workers=2)) == list(range(9))
    assert len(made.ended) == 1


def test_what_two_workers_fail_to_do_is_given_up():
    made = Failing(times=2)
    with pytest.raises(UnusableError, match="failed: InternalError"):
        labelled_by(made, 9, workers=3)
    assert len(made.ended) == 1


def test_the_reason_of_a_failure_is_looked_for_at_once():
    def examine(failed):
        raise DamagedError(f"the image, so: {failed.error}")

    made = Failing(times=1)
    with pytest.raises(DamagedError, match="the image, so: failed"):
        [*Leases(made, 2, made.clock).answers(calls(9), examine)]


def test_what_nobody_waits_for_is_not_done_again():
    """Answers are left in the middle; their blocks, which hang, do not come back in the next ones."""
    made = Made(lambda worker, had: HANGS if (worker, had) in ((1, 0), (1, 1)) else 1.0)
    owner = Leases(made, 2, made.clock)
    next(owner.answers(calls(10)))
    first = len(made.receipts)
    assert len([*owner.answers([Call("logits", (number,)) for number in range(100, 900)])]) == 800
    asked = [answer[1] for _, _, answer in [*made.receipts.values()][first:] if answer and len(answer) > 1]
    assert min(asked) >= 100
