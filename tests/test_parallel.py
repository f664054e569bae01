"""Many short tasks by several threads: their order, how far they run ahead, and how they end."""

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from pipeline.runtime import parallel
from pipeline.runtime.parallel import PARTS_AHEAD, TOGETHER, in_threads


@pytest.mark.parametrize("items", [0, 1, TOGETHER, 1000])
@pytest.mark.parametrize("threads", [1, 3, None])
def test_results_come_in_the_order_of_the_items(items, threads):
    assert list(in_threads(lambda part: [number * number for number in part], range(items), threads)) == [
        n * n for n in range(items)
    ]


def test_several_threads_work_at_the_same_time():
    """Each of three parts waits until all three have begun, which one thread alone would never see."""
    meeting = threading.Barrier(3)
    assert len(list(in_threads(lambda part: [meeting.wait(60)], range(3 * TOGETHER), 3))) == 3


def test_items_are_taken_only_a_little_ahead():
    """An endless source: to take all of it first would never end, nor fit into memory."""
    taken = []
    results = in_threads(lambda part: part, (taken.append(number) or number for number in count()), 2)
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    assert len(taken) <= TOGETHER * (2 * (1 + PARTS_AHEAD) + 1)
    results.close()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_after_an_error_no_thread_is_at_work(error):
    before, done = threading.active_count(), []

    def work(part):
        if 100 in part:
            raise error("the hundredth")
        done.extend(part)
        return part

    with pytest.raises(error, match="the hundredth"):
        list(in_threads(work, range(100_000), 2))
    assert threading.active_count() == before
    assert set(range(3 * TOGETHER)) <= set(done)
    assert len(done) < 100_000


@pytest.mark.parametrize("threads", [1, 3])
def test_a_caller_that_stops_ends_each_thread_at_its_item(monkeypatch, threads):
    """As Ctrl-C does: threads that have begun long parts take no further item of them."""
    begun, stopped = [], threading.Event()

    class Executor(ThreadPoolExecutor):
        def shutdown(self, **options):
            stopped.set()
            super().shutdown(**options)

    monkeypatch.setattr(parallel, "ThreadPoolExecutor", Executor)
    all_at_work = threading.Barrier(threads + 1)

    def work(part):
        if 0 in part:
            yield from part
            return
        for number in part:
            begun.append(number)
            if number % TOGETHER == 5:
                all_at_work.wait()
                stopped.wait()
            yield number

    results = in_threads(work, range(100_000), threads)
    assert next(results) == 0
    all_at_work.wait()
    count_then = len(begun)
    results.close()
    assert count_then == len(begun) == 6 * threads


def test_a_caller_that_stops_leaves_no_thread():
    before = threading.active_count()
    for number in in_threads(lambda part: part, range(100_000), 2):
        if number == 20:
            break
    assert threading.active_count() == before
