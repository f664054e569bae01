"""Many short tasks by several threads: files, decoding and digests, during which Python lets other threads run."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice, takewhile
from threading import Event
from typing import TypeVar

from pipeline.runtime.cores import usable_threads

T = TypeVar("T")
R = TypeVar("R")

TOGETHER = 32
"""How many items a thread takes at a time: to hand over one takes as long as to decode a small picture."""

MOST_THREADS = 16
PARTS_AHEAD = 2
"""How many parts wait for each thread; the others are not made yet, so that memory does not grow with the items."""


def in_threads(function: Callable[[list[T]], Iterable[R]], items: Iterable[T], count: int | None = None) -> Iterator[R]:
    """The results for many items, in their order; threads compute some of them ahead.

    If the function raises an error, or the caller stops, each thread ends its item and begins no further one, and no
    thread is left at work.

    Args:
        function: gets a part, up to `TOGETHER` items, and returns the result of each, best one after another. Several
            threads call it at the same time.
        items: all items.
        count: how many threads; None takes one for each core, up to `MOST_THREADS`.
    """
    rest = iter(items)
    parts = iter(lambda: list(islice(rest, TOGETHER)), [])
    count = min(MOST_THREADS, usable_threads()) if count is None else count
    threads = ThreadPoolExecutor(count)
    begun: deque[Future[list[R]]] = deque()
    stopped = Event()

    def whole(part: list[T]) -> list[R]:
        return list(takewhile(lambda _: not stopped.is_set(), function(part)))

    def begin(number: int) -> None:
        begun.extend(threads.submit(whole, part) for part in islice(parts, number))

    try:
        begin(count * (1 + PARTS_AHEAD))
        while begun:
            results = begun.popleft().result()
            begin(1)
            yield from results
    finally:
        stopped.set()
        threads.shutdown(cancel_futures=True)
