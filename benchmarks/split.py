"""The stage `split`, compared with a plain copy of the files and one parallel decode of each.

    python -m benchmarks.split [--quick] [--folder FOLDER]

Pictures of 28x28 pixels as PNG files, in class folders (`benchmarks.split_photographs`: JPEG files). In turns:

- split: the whole stage, from the data set to index and copies, which are on the disk when it ends.
- in place: the same with `split.copy: false`.
- copy: `shutil.copytree`, and a flush of the disk.
- decode: each file is read, and decoded by Pillow, by as many threads as there are cores.
- check again: what a later stage does before it reads images that no program has changed.

Goal: split takes at most 1.5 times copy + decode, and as much for each image however many there are. Then the peak
memory of the stage, in a process of its own for each number of images.

Takes about ten minutes and 1 GB of disk; `--quick` half a minute.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from argparse import SUPPRESS
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.made_data import write_images
from benchmarks.paired import interleaved, ratios, spread
from benchmarks.process import peak_mib, quiet
from benchmarks.record import Record, arguments
from pipeline.images.image_files import read_original
from pipeline.images.index import read_index, refuse_changed
from pipeline.runtime.parallel import in_threads
from pipeline.runtime.seen_files import SETTLED_SECONDS
from pipeline.stages import split

CLASSES = 10
COUNTS = {False: [5_000, 20_000, 80_000], True: [1_000, 4_000]}
ROUNDS = 3
RAW, COPY = Path("raw"), Path("copy")
SPLIT, INDEX = Path("data/split"), Path("data/index.csv")
STAGE, IN_PLACE, PLAIN, DECODE, AGAIN = "split", "in place", "copy", "decode", "check again"


def write_pictures(count: int) -> None:
    """PNG files of 28x28 grey pixels in the folders of ten classes."""
    for number in range(CLASSES):
        write_images(RAW / f"class {number}", count // CLASSES, (28, 28, 1))


def run_split(copy: bool = True) -> None:
    """The stage, on what lies in `RAW`."""
    nothing = {"val": None, "test": None, "class_names": None}
    settings = {"data": RAW, "train": Path(), "val_fraction": 0.1, "test_fraction": 0.1, **nothing}
    with quiet():
        split.run(layout="folders", settings=settings, split_folder=SPLIT, index=INDEX, copy=copy)


def copy_plainly() -> None:
    """Copies the files, and waits until they are on the disk."""
    shutil.copytree(RAW, COPY)
    os.sync()


def decode_all() -> None:
    """Decodes each file once."""
    for _ in in_threads(lambda files: [len(read_original(file)) for file in files], RAW.rglob("*.*g")):
        pass


def check_again() -> None:
    """Compares the images with the index, as every stage does that reads them."""
    refuse_changed(read_index(INDEX).images)


def start_anew() -> None:
    """Removes what the variants write, apart from the time that they take."""
    for folder in (SPLIT, COPY):
        shutil.rmtree(folder, ignore_errors=True)
    os.sync()


def start_from_an_index() -> None:
    """What `check again` needs: an index of images in place that were read once."""
    start_anew()
    run_split(copy=False)


VARIANTS: dict[str, Callable[[], None]] = {
    STAGE: run_split,
    IN_PLACE: partial(run_split, copy=False),
    PLAIN: copy_plainly,
    DECODE: decode_all,
    AGAIN: check_again,
}


def measured(write: Callable[[int], None], count: int, rounds: int) -> dict[str, Any]:
    """Seconds of each variant in each round, and the peak memory of the stage in MiB."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        os.chdir(folder)
        write(count)
        time.sleep(2 * SETTLED_SECONDS)  # else the files are too new for their digests to be noted
        before = dict.fromkeys(VARIANTS, start_anew) | {AGAIN: start_from_an_index}
        seconds = interleaved(VARIANTS, rounds, before=before)
        peak = subprocess.run(
            [sys.executable, "-m", "benchmarks.split", "--alone"], check=True, stdout=subprocess.PIPE, text=True
        )
        os.chdir("..")
    return {"count": count, "seconds": seconds, "peak_mib": json.loads(peak.stdout.splitlines()[-1])}


def row_of(found: dict[str, Any]) -> list[str]:
    """A row of the table of times."""
    seconds, count = found["seconds"], found["count"]
    parts = [copy + decode for copy, decode in zip(seconds[PLAIN], seconds[DECODE], strict=True)]
    each = f"{1000 * float(np.median(seconds[STAGE])) / count:.3f}"
    times = [f"{float(np.median(seconds[name])):.2f}" for name in VARIANTS]
    return [found["of"], f"{count:,}", *times, each, spread(ratios(seconds[STAGE], parts)), f"{found['peak_mib']:,.0f}"]


def compare(name: str, description: str | None, of: str, write: Callable[[int], None], counts: dict[bool, Any]) -> None:
    """Times all sizes; a process of its own, with `--alone`, runs the stage once and prints its peak memory.

    Args:
        name: the name of the benchmark's module.
        description: what it measures.
        of: what kind of images `write` writes, for the table.
        write: writes so many images below `RAW`.
        counts: how many images, in the whole benchmark (False) and in the quick one (True).
    """
    folder: tuple[str, dict[str, Any]] = ("--folder", {"type": Path, "help": "Where the files are made."})
    options = arguments(description, folder, ("--alone", {"action": "store_true", "help": SUPPRESS}))
    if options.alone:
        run_split()
        print(json.dumps(peak_mib()))
        return
    record = Record(name, options)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path.cwd()), *sys.path])
    home = Path.cwd()
    os.chdir(options.folder or Path(tempfile.gettempdir()))
    found = [{"of": of, **measured(write, count, ROUNDS)} for count in counts[options.quick]]
    os.chdir(home)
    record.keep(sizes=found)
    header = ["images", "number", *VARIANTS, "split, ms an image", "split / (copy + decode)", "peak MiB of split"]
    record.table("Seconds of split, and of its parts done plainly", header, [row_of(size) for size in found])
    record.write()


def main() -> None:
    """Small pictures, as many as in a small data set and in a large one."""
    compare("split", __doc__, "PNG, 28 px", write_pictures, COUNTS)


if __name__ == "__main__":
    main()
