"""Workers of a cluster that do what a test orders, and a teacher that needs no TensorFlow.

Ray sends these classes to its workers whole (`by_value`), since they cannot import the tests.
"""

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from pipeline.cluster import processes
from pipeline.cluster.worker import Labelled, Rounding, Worker

ORDERS = Path("orders")
"""Of the project's folder: the first worker that finds a file here obeys it, at its second block or later."""


def by_value(kind: type[Worker], patch: pytest.MonkeyPatch) -> None:
    """Lets every engine of the test start workers of this kind."""
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    patch.setattr(processes, "Worker", kind)


def give(*orders: str) -> None:
    """Gives orders in the current project."""
    ORDERS.mkdir(exist_ok=True)
    for order in orders:
        (ORDERS / order).touch()


def was_obeyed(order: str) -> bool:
    return (ORDERS / f"{order}.obeyed").exists()


class Obedient(Worker):
    """Ends, stops or runs out of memory if it is told to, and waits as long as `orders/hold` is there."""

    blocks = 0

    def logits(self, member, in_full, block):
        self.blocks += 1
        if self.blocks > 1:
            self._obey()
        while Path(self.order.folder, ORDERS, "hold").exists():
            time.sleep(0.02)
        return super().logits(member, in_full, block)

    def _obey(self):
        for order, act in ACTS.items():
            file = Path(self.order.folder, ORDERS, order)
            with suppress(FileNotFoundError):  # there is no such order, or another worker was faster
                file.rename(file.with_suffix(".obeyed"))
                act()


ACTS = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "exit": lambda: os._exit(137),
}


class AtOnce(Worker):
    """Answers at once, without TensorFlow, and counts the blocks in the project's folder `answered`."""

    def ready(self):
        return None

    def rounding(self, member, in_full):
        return Rounding(4, 4, True, "0", "here")

    def logits(self, member, in_full, block):
        file = Path(self.order.folder, "answered", f"{block.rows[0]}_{block.paths[0].replace('/', '_')}")
        file.touch()
        return Labelled(np.zeros((len(block.rows), 2), np.float32), self.rounding(member, in_full))
