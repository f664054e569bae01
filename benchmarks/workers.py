"""How the teacher's pass grows with the workers of a cluster, for a teacher of fixed latency.

    python -m benchmarks.workers [--quick]

Each worker is an actor of a Ray that runs on this machine. Its teacher is a sleep: `LATENCY` seconds for a batch of
`BATCH` views, whatever else the machine does; then it answers with numbers. So a worker stands for a GPU of its own.
What is measured is what the pass adds: cutting blocks, leasing them, the way of blocks and answers through Ray, the
checks, the writer and its disk. Reading and decoding images is not part of it: the workers do that, and here the cores
of one machine would limit it.

The time is that of `TeacherPass.run` with all validation and test images done. It does not hold the start of Ray and of
the workers; it holds the tail, in which some workers have no block left.

    efficiency(n) = rows/s of n workers / (n x rows/s of one worker)

Goal: 0.9 at 8 workers. Takes seven minutes; `--quick`, one.
"""

import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.process import quiet
from benchmarks.record import Record, arguments
from pipeline.cluster.calls import Call
from pipeline.cluster.connection import connected
from pipeline.cluster.labeller import ClusterLabeller
from pipeline.cluster.leases import Leases
from pipeline.cluster.processes import RayProcesses
from pipeline.cluster.settings import Cluster
from pipeline.cluster.worker import Labelled, Order, Rounding, Worker
from pipeline.images.index import Image, Index, SplitName
from pipeline.images.resize import DEFAULT_RESIZE
from pipeline.images.views import UNTOUCHED
from pipeline.models.ensembles import Teacher
from pipeline.soft_labels.logit_storage import Dense
from pipeline.soft_labels.reading import Provenance
from pipeline.soft_labels.writing import rows_of_index
from pipeline.teacher_pass.labellers import Labellers
from pipeline.teacher_pass.labelling import TeacherPass
from pipeline.teacher_pass.unfinished_logits import UnfinishedLogits

LATENCY, BATCH, CLASSES = 0.1, 128, 1000
"""1,280 views a second and worker: about what a ResNet-50 does on a data-centre GPU."""

WORKERS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Size:
    """How long one worker computes in a run, in seconds, and how many runs there are."""

    seconds: float
    runs: int


FULL, QUICK = Size(20.0, 3), Size(3.0, 1)


class FixedLatency(Worker):
    """A worker that needs no TensorFlow and decodes nothing; one batch at a time."""

    def __init__(self, order: Order) -> None:
        super().__init__(order)
        self._teacher = threading.Lock()

    def ready(self) -> None:
        """Nothing is to be loaded."""

    def rounding(self, member: str, in_full: bool) -> Rounding:
        """All places of a batch round alike."""
        return Rounding(BATCH, BATCH, True, "", "here")

    def logits(self, member: str, in_full: bool, block: Any) -> Labelled:
        """The right ones, after the latency of each batch."""
        views = len(block.rows)
        for _ in range(-(-views // BATCH)):
            with self._teacher:
                time.sleep(LATENCY)
        labels = [int(Path(block.paths[row]).stem) % CLASSES for row in block.rows]
        return Labelled(right_logits(labels), self.rounding(member, in_full))


def right_logits(labels: Sequence[int]) -> npt.NDArray[np.float32]:
    """Logits of R images, (R, C): 2 for the image's class and -1 for all others."""
    logits = np.full((len(labels), CLASSES), -1, np.float32)
    logits[np.arange(len(labels)), labels] = 2
    return logits


def main() -> None:
    """Measures, prints the table and writes the record."""
    options = arguments(__doc__)
    size, record = QUICK if options.quick else FULL, Record("workers", options)
    speeds = {count: median(rows_per_second(count, size.seconds) for _ in range(size.runs)) for count in WORKERS}
    efficiency = {count: speed / (count * speeds[1]) for count, speed in speeds.items()}
    record.table(
        f"A teacher that takes {LATENCY} s for {BATCH} views: {BATCH / LATENCY:,.0f} rows/s a worker at most",
        ["workers", "rows/s", "efficiency"],
        [[str(count), f"{speed:,.0f}", f"{efficiency[count]:.3f}"] for count, speed in speeds.items()],
    )
    record.keep(rows_per_second=speeds, efficiency=efficiency, latency=LATENCY, batch=BATCH, classes=CLASSES)
    record.write()


def rows_per_second(workers: int, seconds: float) -> float:
    """The speed of a pass in which each worker computes for about so many seconds."""
    data = index_of(int(seconds / LATENCY) * BATCH * workers)
    cluster = Cluster(workers=workers)
    with tempfile.TemporaryDirectory() as folder, connected(cluster) as count:
        from ray import cloudpickle

        by_value: Any = cloudpickle.register_pickle_by_value  # the workers cannot import the benchmarks
        by_value(sys.modules[__name__])
        order = Order(folder, "", "", (), BATCH, "float32", DEFAULT_RESIZE, 1, 0.0)
        leases = Leases(RayProcesses(order, cluster, FixedLatency), count)
        while leases.ready < count:
            list(leases.answers([Call("rounding", ("", False), size=0)]))
        return len(data.split("train")) / seconds_of_a_pass(leases, data, Path(folder))


def seconds_of_a_pass(leases: Leases, data: Index, folder: Path) -> float:
    """The time of `TeacherPass.run`, to which the training images are left."""
    provenance = Provenance(
        class_names=tuple(data.class_names),
        teacher="fixed",
        teacher_sha256="0" * 64,
        dataset=data.fingerprint(),
        preprocessing={},
        batch_size=BATCH,
        views=UNTOUCHED.as_json(),
        storage=Dense("float32").as_json(),
    )
    teacher = Teacher("a teacher of fixed latency", "fixed", None, "0" * 64, None)
    labellers = Labellers(ClusterLabeller(leases, data, "", False), None)
    with UnfinishedLogits(folder, provenance, rows_of_index(data)) as unfinished:
        for split in ("val", "test"):
            images = data.split(split)
            rows = np.arange(len(images))
            right = right_logits(data.labels(images))
            unfinished.put(split, np.zeros_like(rows), rows, unfinished.encode(right))
        teacher_pass = TeacherPass(data, teacher, labellers, BATCH, unfinished, UNTOUCHED)
        began = time.perf_counter()
        with quiet():
            teacher_pass.run(None)
        return time.perf_counter() - began


def index_of(training_images: int) -> Index:
    """So many training images that are no files, and a hundred of each other split."""
    counts: dict[SplitName, int] = {"val": 100, "test": 100, "train": training_images}
    splits = [split for split, count in counts.items() for _ in range(count)]
    return Index(
        [
            Image(f"{number:07d}", f"{number:07d}.png", f"class {number % CLASSES:04d}", split, "", "0" * 64)
            for number, split in enumerate(splits)
        ],
        [f"class {number:04d}" for number in range(CLASSES)],
    )


if __name__ == "__main__":
    main()
