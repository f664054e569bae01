"""One forward pass on several devices: each has a copy of the weights, and gets its turn of the batches."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import cycle
from typing import Any, TypeVar

import tensorflow as tf

from pipeline.runtime.devices import traced_for

In = TypeVar("In")
Out = TypeVar("Out")

AHEAD = 2
"""Batches under way for each device: one that it computes, and one that waits, so that it need not wait."""


class OnDevice:
    """A forward pass on one device, with a copy of the weights as they are now.

    Args:
        function: a `tf.function` with an input signature, not traced yet, from pixels to logits.
        device: the device's name.
        number: its place among `accelerators`.
    """

    def __init__(self, function: Any, device: str, number: int) -> None:
        self.device = device
        with traced_for(number):
            self._pass = function.get_concrete_function()
        variables = {id(variable.handle): variable for variable in self._pass.variables}
        with tf.device(device):
            # Kept: the pass holds the handles of the variables, not the variables.
            self._copies = [
                tf.Variable(variables[id(captured)].read_value()) if id(captured) in variables else captured
                for captured in self._pass.captured_inputs
            ]
        handles = [copy.handle if isinstance(copy, tf.Variable) else copy for copy in self._copies]
        self._pass.set_external_captures(handles)

    def __call__(self, pixels: Any) -> Any:
        """The logits of a batch."""
        with tf.device(self.device):
            return self._pass(tf.convert_to_tensor(pixels))


def in_turn(workers: Sequence[Callable[[In], Out]], items: Iterable[In]) -> Iterator[Out]:
    """What several workers make of some items, in the order of the items.

    The workers take turns and work at the same time, each in a thread of its own. At most `AHEAD` items are under way
    for each. A single worker works in the caller's thread, when an item is asked for.

    Args:
        workers: functions of one item that give the same.
        items: the items.
    """
    if len(workers) == 1:
        yield from map(workers[0], items)
        return
    under_way: deque[Future[Out]] = deque()
    with ExitStack() as opened:
        turns = cycle([(opened.enter_context(ThreadPoolExecutor(1)), worker) for worker in workers])
        opened.callback(lambda: [waiting.cancel() for waiting in under_way])
        for item in items:
            threads, worker = next(turns)
            under_way.append(threads.submit(worker, item))
            if len(under_way) == AHEAD * len(workers):
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
