"""`python -m pipeline.timing.process PATH BATCH_SIZE THREADS`: runs a model, and times its calls when it is told to.

It says with one line of JSON that it is ready. It answers each line that it reads, {"images": …}, with the seconds of
each call of a round. It ends when there are no more lines.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from pipeline.timing.subjects import Opened, Subject

ROUND_SECONDS = 0.08
FEWEST_CALLS = 4


def serve(path: Path, batch_size: int, threads: int, answers: TextIO) -> None:
    """Opens a model, says what it took, and answers lines until there are no more.

    Args:
        path: what to run.
        batch_size: images in a batch.
        threads: how many threads may compute.
        answers: where to answer.

    Raises:
        PipelineError: it cannot be opened.
    """
    model = Subject(path).opened(threads)
    for images in (1, batch_size):
        model.run(_pixels(model, images))
    print(json.dumps({"digest": model.digest, "peak_memory_mb": peak_bytes() / 1e6}), file=answers)
    for line in sys.stdin:
        print(json.dumps(_round(model, json.loads(line)["images"])), file=answers)


def _round(model: Opened, images: int) -> list[float]:
    """The seconds of each call in `ROUND_SECONDS`, after one that is not counted."""
    pixels, seconds = _pixels(model, images), list[float]()
    model.run(pixels)
    end = time.perf_counter() + ROUND_SECONDS
    while len(seconds) < FEWEST_CALLS or time.perf_counter() < end:
        start = time.perf_counter()
        model.run(pixels)
        seconds.append(time.perf_counter() - start)
    return seconds


def _pixels(model: Opened, images: int) -> Any:
    """(images, height, width, channels) uint8 pixels, the same at every call."""
    return np.random.default_rng(0).integers(0, 256, (images, *model.input_shape), dtype=np.uint8)


def peak_bytes() -> int:
    """The most memory that this process held.

    Linux counts in `ru_maxrss` also what the process that started this one held, so `VmHWM` is read where it is.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    kept = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints goes to stderr
    serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), kept)
