"""Images in files of their own, in tar files and in Parquet files: reading them, `split`, and what DVC does with them.

    python -m benchmarks.shards [--quick]

The images are random bytes, as compressed images are for a disk; 20,000 of 10 KiB. They are read by `places.read_bytes`
in the order of the index and shuffled, by one thread and from the system's cache, so that the reader's own cost is
seen: a disk adds its own. Of row groups of Parquet files, a tenth of all is kept in
memory, as of a larger data set. For `split` they are PNG files of 32 px, of which it reads and decodes each.

Goal: a read from a tar file costs no more than one from a file.

Takes about five minutes; --quick 20 seconds (2,000 images).
"""

import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from benchmarks.process import quiet
from benchmarks.record import Record, arguments
from pipeline.datasets.layouts import LAYOUTS as READERS
from pipeline.datasets.layouts import Layout
from pipeline.images import parquet_rows
from pipeline.images.places import place_in_parquet, place_in_tar, read_bytes
from pipeline.stages import split

SHARDS = 4
BYTES = 10 * 1024
SIDE = 32
CLASSES = 10
LAYOUTS: dict[str, tuple[Layout, dict[str, Any]]] = {
    "files": ("folders", {"train": Path(), "val": None, "test": None}),
    "tar": ("webdataset", {"train": ["*.tar"], "val": None, "test": None, "label_column": "cls"}),
    "Parquet, groups of 100": ("parquet", {"train": ["*.parquet"], "val": None, "test": None, "label_column": "label"}),
}


def write(way: str, folder: Path, images: Sequence[bytes]) -> list[str]:
    """Writes images in one way, and returns their places."""
    folder.mkdir(parents=True)
    if way == "files":
        files = [folder / str(number % CLASSES) / f"{number:06}.png" for number in range(len(images))]
        for file, content in zip(files, images, strict=True):
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(content)
        return [str(file) for file in files]
    size = -(-len(images) // SHARDS)
    places = []
    for shard in range(SHARDS):
        part = images[shard * size : (shard + 1) * size]
        if way == "tar":
            places += _tar(folder / f"{shard}.tar", part)
        else:
            places += _parquet(folder / f"{shard}.parquet", part, int(way.rpartition(" ")[2]))
    return places


def _tar(file: Path, images: Sequence[bytes]) -> list[str]:
    with tarfile.open(file, "w") as tar:
        for number, content in enumerate(images):
            for name, value in ((f"{number:06}.png", content), (f"{number:06}.cls", b"%d" % (number % CLASSES))):
                member = tarfile.TarInfo(name)
                member.size = len(value)
                tar.addfile(member, io.BytesIO(value))
    with tarfile.open(file) as tar:
        return [place_in_tar(file, member.offset_data, member.size) for member in tar if member.name.endswith("png")]


def _parquet(file: Path, images: Sequence[bytes], group: int) -> list[str]:
    import pyarrow as pa
    from pyarrow import parquet

    cells = [{"bytes": content, "path": None} for content in images]
    labels = [number % CLASSES for number in range(len(images))]
    parquet.write_table(pa.table({"image": cells, "label": labels}), file, row_group_size=group)
    return [place_in_parquet(file, row) for row in range(len(images))]


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def read_all(places: Sequence[str]) -> None:
    """Reads images, and forgets each."""
    for place in places:
        read_bytes(place)


def reading(folder: Path, count: int) -> list[list[str]]:
    """A row for each way: microseconds an image, in order and shuffled."""
    noise = np.random.default_rng(0)
    contents = [noise.bytes(BYTES) for _ in range(count)]
    rows = []
    for way in ("files", "tar", "Parquet, groups of 100", "Parquet, groups of 1000"):
        places = write(way, folder / way, contents)
        shuffled = [places[number] for number in noise.permutation(count)]
        some = shuffled[: max(100, count // 20)] if way.startswith("Parquet") else shuffled
        parquet_rows.KEPT_BYTES = count * BYTES // 10
        read_all(places)  # so that all come from the system's cache
        in_order = seconds(partial(read_all, places)) / count
        at_random = seconds(partial(read_all, some)) / len(some)
        rows.append([way, f"{in_order * 1e6:.0f}", f"{at_random * 1e6:.0f}"])
    return rows


def split_here(layout: Layout, settings: dict[str, Any]) -> None:
    """Stage `split` in the current folder."""
    split.run(layout=layout, settings=settings, split_folder=Path("data/split"), index=Path("data/index.csv"))


def splitting(folder: Path, count: int) -> list[list[str]]:
    """A row for each way: seconds of the layout's reader, of the whole of `split`, and of `dvc add`."""
    noise = np.random.default_rng(0)
    images = []
    for _ in range(count):
        file = io.BytesIO()
        PIL.Image.fromarray(noise.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(file, "PNG")
        images.append(file.getvalue())
    rows = []
    for way, (layout, keys) in LAYOUTS.items():
        project = folder / f"split {way}"
        write(way, project / "raw", images)
        settings = {"data": Path("raw"), **keys, "val_fraction": 0.1, "test_fraction": 0.1}
        os.chdir(project)
        read = seconds(partial(READERS[layout], **settings))
        with quiet():
            whole = seconds(partial(split_here, layout, settings))
        for command in (["init", "--quiet", "--no-scm"], ["config", "core.analytics", "false"]):
            subprocess.run([sys.executable, "-m", "dvc", *command], check=True)
        added = seconds(lambda: subprocess.run([sys.executable, "-m", "dvc", "add", "--quiet", "raw"], check=True))
        files = sum(1 for path in Path("raw").rglob("*") if path.is_file())
        rows.append([way, f"{files:,}", f"{read:.1f}", f"{whole:.1f}", f"{added:.1f}"])
    return rows


def main() -> None:
    """Measures in a folder that is removed."""
    options = arguments(__doc__)
    record = Record("shards", options)
    count = 2_000 if options.quick else 20_000
    with tempfile.TemporaryDirectory() as folder:
        record.table(
            f"Reading one of {count:,} images of {BYTES // 1024} KiB, from the system's cache",
            ["images in", "in order, us", "shuffled, us"],
            reading(Path(folder), count),
        )
        record.table(
            f"{count:,} PNG images of {SIDE} px",
            ["images in", "files", "labels, s", "split, s", "dvc add, s"],
            splitting(Path(folder), count),
        )
    record.write()


if __name__ == "__main__":
    main()
