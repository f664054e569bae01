"""Computes, not measures: hours, bytes and cost of the teacher's pass over ImageNet with up to 512 GPUs.

    python -m benchmarks.how_far [--images-a-second R] [--price P] [--views V] [--kilobytes K]

Of n GPUs the pass labels n R e(n) rows a second, unless the one writer, which takes w rows a second, is slower:

    hours = images V / min(n R e(n), w) / 3600        cost = hours n P        read = min(n R e(n), w) K / V

Before the pass, `split` takes images s / 3600 hours on one machine.

- R, images a second of one GPU: ConvNeXt-L, 224 pixels, mixed precision, on an RTX 4090, as published with timm
  (huggingface/pytorch-image-models, results/benchmark-infer-amp-nhwc-pt240-cu124-rtx4090.csv). Put in your teacher's.
- P, the price of an hour of one GPU: one unit of money. Put in yours.
- V, views of an image, which is read once for all of them; K, kilobytes of an image: those of ImageNet's archive.
- e(n), the efficiency of n workers: from the record of `benchmarks.workers`; beyond the most that were measured, that
  of those.
- w: from the record of `benchmarks.large_run`, for 1,000 classes; with C classes the writer takes w 1000 / C, since a
  row arrives with C logits.
- s, seconds of `split` for an image: from the record of `benchmarks.split_photographs`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.record import RESULTS, Record, arguments

GPUS = (1, 8, 64, 512)
RATE, PRICE, VIEWS, KILOBYTES = 1210.69, 1.0, 10, 115.4
K_LARGEST = 10
WRITERS = {"float16": "dense, float16", "the 10 largest": "top-k, k 10, float16"}
"""How logits are stored, and what `benchmarks.large_run` calls that."""

SPLITS = {"copies": "split", "images where they are": "in place"}
"""What `split` does, and what `benchmarks.split_photographs` calls that."""


@dataclass(frozen=True)
class DataSet:
    """Labelled images.

    Attributes:
        name: what it is called.
        images: how many there are.
        classes: C.
    """

    name: str
    images: int
    classes: int


IMAGENET_1K = DataSet("ImageNet-1k", 1_281_167, 1000)
IMAGENET_21K = DataSet("ImageNet-21k", 14_197_122, 21_841)


@dataclass(frozen=True)
class Inputs:
    """What the formula takes.

    Attributes:
        rate: images a second of one GPU.
        price: of an hour of one GPU.
        views: of an image.
        kilobytes: of an image.
        efficiency: by the number of workers.
        writer: rows a second of 1,000 classes, by kind of storage.
        split: seconds of `split` for an image, by what it does.
        cores: of the machine on which `split` was measured.
    """

    rate: float
    price: float
    views: int
    kilobytes: float
    efficiency: Mapping[int, float]
    writer: Mapping[str, float]
    split: Mapping[str, float]
    cores: int

    def labelled(self, gpus: int) -> float:
        """Rows a second that so many GPUs label."""
        measured = max(count for count in self.efficiency if count <= gpus)
        return gpus * self.rate * self.efficiency[measured]

    def written(self, data: DataSet, storage: str) -> float:
        """Rows a second that the writer takes."""
        return self.writer[storage] * 1000 / data.classes


@dataclass(frozen=True)
class Pass:
    """One pass of the teacher.

    Attributes:
        hours: how long it takes.
        cost: of the GPUs.
        megabytes_a_second: of images that are read.
        limit: what is the slowest: "teacher" or "writer".
    """

    hours: float
    cost: float
    megabytes_a_second: float
    limit: str


def teacher_pass(data: DataSet, storage: str, gpus: int, given: Inputs) -> Pass:
    """Applies the formula."""
    labelled, written = given.labelled(gpus), given.written(data, storage)
    rows = min(labelled, written)
    hours = data.images * given.views / rows / 3600
    limit = "teacher" if labelled <= written else "writer"
    return Pass(hours, hours * gpus * given.price, rows * given.kilobytes / given.views / 1000, limit)


def gigabytes(data: DataSet, storage: str, views: int) -> float:
    """The logits' part of the file: 2 bytes a logit, or 4 bytes for each of k, and two numbers of 4 bytes."""
    of_row = 2 * data.classes if storage == "float16" else 4 * K_LARGEST + 8
    return data.images * views * of_row / 1e9


def inputs(results: Path, *, rate: float, price: float, views: int, kilobytes: float) -> Inputs:
    """Takes from the records what was measured.

    Raises:
        FileNotFoundError: a record is not there.
    """
    workers, large_run, split = (
        json.loads((results / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("workers", "large_run", "split_photographs")
    )
    efficiency = {int(count): float(value) for count, value in workers["measured"]["efficiency"].items()}
    (table,) = (table for table in large_run["tables"] if table["title"].startswith("The writer"))
    found = {row[0]: float(row[table["header"].index("rows/s")].replace(",", "")) for row in table["rows"]}
    writer = {storage: found[name] for storage, name in WRITERS.items()}
    (photographs,) = split["measured"]["sizes"]
    seconds = {done: median(photographs["seconds"][name]) / photographs["count"] for done, name in SPLITS.items()}
    return Inputs(rate, price, views, kilobytes, efficiency, writer, seconds, split["machine"]["cores"])


def tables(given: Inputs) -> list[dict[str, Any]]:
    """A table for each data set, one of what the writer allows, and one of what comes before the pass."""
    header = ["logits", "GPUs", "hours", "GPU hours' price", "GB of logits", "MB/s of images", "limited by"]
    found = [
        {
            "title": f"Computed: {data.name}, {data.images:,} images in {given.views} views, {data.classes:,} classes",
            "header": header,
            "rows": [_row(data, storage, gpus, given) for storage in WRITERS for gpus in GPUS],
        }
        for data in (IMAGENET_1K, IMAGENET_21K)
    ]
    limits = [
        [data.name, storage, f"{rows:,.0f}", f"{rows / given.labelled(max(GPUS)) * max(GPUS):,.1f}"]
        for data in (IMAGENET_1K, IMAGENET_21K)
        for storage in WRITERS
        for rows in [given.written(data, storage)]
    ]
    header = ["data set", "logits", "rows/s of the writer", "GPUs that it keeps busy"]
    of_writer = {"title": "Computed: what one writer allows", "header": header, "rows": limits}
    return [*found, of_writer, _before(given)]


def _before(given: Inputs) -> dict[str, Any]:
    rows = [
        [data.name, done, f"{data.images * seconds / 3600:,.2f}"]
        for data in (IMAGENET_1K, IMAGENET_21K)
        for done, seconds in given.split.items()
    ]
    title = f"Computed: `split` before the pass, on one machine with {given.cores} cores"
    return {"title": title, "header": ["data set", "split makes", "hours"], "rows": rows}


def _row(data: DataSet, storage: str, gpus: int, given: Inputs) -> list[str]:
    computed = teacher_pass(data, storage, gpus, given)
    return [
        storage,
        str(gpus),
        f"{computed.hours:,.2f}",
        f"{computed.cost:,.0f}",
        f"{gigabytes(data, storage, given.views):,.1f}",
        f"{computed.megabytes_a_second:,.0f}",
        computed.limit,
    ]


def main() -> None:
    """Computes and writes the record."""
    options = arguments(
        __doc__,
        ("--images-a-second", {"type": float, "help": f"Of one GPU.  [default: {RATE}]"}),
        ("--price", {"type": float, "help": f"Of an hour of one GPU.  [default: {PRICE}]"}),
        ("--views", {"type": int, "help": f"Of an image.  [default: {VIEWS}]"}),
        ("--kilobytes", {"type": float, "help": f"Of an image.  [default: {KILOBYTES}]"}),
    )
    given = inputs(
        RESULTS,
        rate=options.images_a_second or RATE,
        price=options.price or PRICE,
        views=options.views or VIEWS,
        kilobytes=options.kilobytes or KILOBYTES,
    )
    record = Record("how_far", options)
    for table in tables(given):
        record.table(table["title"], table["header"], table["rows"])
    record.write()


if __name__ == "__main__":
    main()
