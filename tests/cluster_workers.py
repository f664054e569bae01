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
    ORDERS.mkdir()
    for order in orders:
        (ORDERS / order).touch()


def was_obeyed(order: str) -> bool:
    return (ORDERS / f"{order}.obeyed").exists()


class Obedient(Worker):
    """Ends, stops and waits as it is told to; notes that it has begun, and that it waits."""

    blocks = 0

    def logits(self, member, in_full, block):
        orders = Path(self.order.folder, ORDERS)
        self.blocks += 1
        (orders / f"began.{os.getpid()}").touch()
        if self.blocks > 1:
            self._obey(orders)
        while (orders / "hold").exists() or (self.blocks > 2 and (orders / "hold_later").exists()):
            (orders / f"held.{os.getpid()}").touch()
            time.sleep(0.02)
        return super().logits(member, in_full, block)

    def _obey(self, orders):
        for order, act in ACTS.items():
            with suppress(FileNotFoundError):  # there is no such order, or another worker was faster
                (orders / order).rename(orders / f"{order}.obeyed")
                act()


ACTS = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "exit": lambda: os._exit(137),
}


class AtOnce(Worker):
    """Answers at once, without TensorFlow; a file in the project's folder `answered` counts the views of each block."""

    blocks = 0

    def ready(self):
        return None

    def rounding(self, member, in_full):
        return Rounding(4, 4, True, "0", "here")

    def logits(self, member, in_full, block):
        self.blocks += 1
        Path(self.order.folder, "answered", f"{len(block.rows)}_{os.getpid()}_{self.blocks}").touch()
        return Labelled(np.zeros((len(block.rows), 2), np.float32), self.rounding(member, in_full))
