"""The soft-label file: how fast it is written, read, softened and joined, against NumPy's own file.

A million rows of a thousand float16 logits, two gigabytes, made of random numbers. Each pair below runs in turns:

- write: `create_logits`, its datasets filled in slabs, the file flushed to the disk; against `numpy.save` of the same
  array, flushed. What our file has beyond it is timed apart: the SHA-256 of `seal`.
- read: one view in slabs of 4,096 rows and as one, as `soften` and `HardAndSoftLabels` read; against copies of the
  same rows out of `numpy.memmap`. Before each the file is dropped from the page cache as far as a user can
  (`posix_fadvise`), or was read just before, so that both find it in the cache.

Then, alone: opening (SHA-256 of the whole file), and SHA-256 and Fletcher-32 of memory; the rows a second of one
epoch of `HardAndSoftLabels.take` in shuffled batches of 128; `soften`; the peak memory of writing, softening and
joining N and 4 N rows, each in a process of its own; and the bytes of a view.

Goal: throughput at least 0.8 of NumPy's; peak memory the same for N and 4 N.

Takes about four minutes and 10 GB of disk; `--quick`, 40,000 rows, half a minute and 0.4 GB.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.paired import interleaved, ratios, spread
from benchmarks.process import peak_mib, quiet
from benchmarks.record import Record, arguments
from pipeline.distillation.targets import HardAndSoftLabels
from pipeline.images.index import Image
from pipeline.images.views import UNTOUCHED
from pipeline.soft_labels import logit_storage
from pipeline.soft_labels.hdf5 import damage, seal
from pipeline.soft_labels.reading import (
    LOGITS_FORMAT,
    TARGETS_FORMAT,
    Provenance,
    Rows,
    bytes_of_split,
    open_logits,
    open_soft_targets,
    slabs,
)
from pipeline.soft_labels.writing import soften_file
from pipeline.teacher_pass.unfinished_logits import UnfinishedLogits

ROWS = {False: 1_000_000, True: 40_000}
ROUNDS = {False: 3, True: 5}
MEMORY_ROWS = {False: 100_000, True: 20_000}
CLASSES = 1000
BATCH = 128
WRITE_ROWS = 32_768
"""Rows of one write: 66 MB."""

TEMPERATURE = 4.0


def rows_of(rows: int) -> dict[str, Rows]:
    """The images of each split: `rows` for training, one for each of the others."""
    counts = {"train": rows, "val": 1, "test": 1}
    return {
        name: Rows(
            [f"{name}_{row:07d}.png" for row in range(number)],
            [row % CLASSES for row in range(number)],
            [f"{row:064x}" for row in range(number)],
        )
        for name, number in counts.items()
    }


PROVENANCE = Provenance(
    class_names=tuple(f"class{number:03d}" for number in range(CLASSES)),
    teacher="synthetic",
    teacher_sha256="00" * 32,
    dataset="00" * 32,
    preprocessing={"input_shape": [224, 224, 3]},
    batch_size=BATCH,
    views=UNTOUCHED.as_json(),
    storage=logit_storage.Dense("float16").as_json(),
)


def some_logits() -> np.ndarray:
    """A slab of logits: (32768, 1000) float16."""
    return np.random.default_rng(0).normal(0, 2, (WRITE_ROWS, CLASSES)).astype(np.float16)


def parts_of(rows: int) -> Iterator[slice]:
    """Steps through the rows, a write at a time."""
    for start in range(0, rows, WRITE_ROWS):
        yield slice(start, min(start + WRITE_ROWS, rows))


def write_ours(folder: Path, images: dict[str, Rows], slab: np.ndarray) -> Path:
    """The logits file, complete on the disk but unsealed."""
    folder.mkdir()
    with UnfinishedLogits(folder, PROVENANCE, images) as file:
        for split, of_split in images.items():
            for part in parts_of(len(of_split.ids)):
                rows = np.arange(part.start, part.stop)
                file.put(split, np.zeros_like(rows), rows, {"logits": slab[: len(rows)]})
    return folder / "unfinished.h5"


def write_numpy(path: Path, values: np.ndarray) -> None:
    """`numpy.save`, and to the disk."""
    with path.open("xb") as file:
        np.save(file, values)
        file.flush()
        os.fsync(file.fileno())


def read_ours(path: Path, whole: bool) -> None:
    """One view of the training images, as a whole or in slabs; the digest was compared before."""
    with h5py.File(path) as file:
        for part in [slice(None)] if whole else slabs(len(file["train/id"])):
            _ = file["train/logits"][0, part]


def read_numpy(path: Path, whole: bool) -> None:
    """The same rows from a memory-mapped array, copied."""
    mapped = np.load(path, mmap_mode="r")
    for part in [slice(None)] if whole else slabs(len(mapped)):
        _ = np.array(mapped[part])


def forget(path: Path) -> None:
    """Asks the system to drop a file from its page cache."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def seconds_of(work: Callable[[], Any]) -> float:
    """How long it takes once."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare_throughput(folder: Path, rows: int, rounds: int, record: Record) -> Path:
    """Writing and reading in turns with NumPy; returns our file, sealed."""
    images, slab = rows_of(rows), some_logits()
    values = np.concatenate([slab] * -(-rows // WRITE_ROWS))[:rows]
    ours, numpys = folder / "ours/unfinished.h5", folder / "numpy.npy"
    found = {
        "write to the disk, without the digest": interleaved(
            {"ours": lambda: write_ours(ours.parent, images, slab), "numpy": lambda: write_numpy(numpys, values)},
            rounds,
            before={
                "ours": lambda: shutil.rmtree(ours.parent, ignore_errors=True),
                "numpy": lambda: numpys.unlink(True),
            },
        )
    }
    for where, before in (("from the page cache", Path.exists), ("dropped from it before", forget)):
        for how, whole in (("in slabs", False), ("at once", True)):
            found[f"read {how}, {where}, without the digest"] = interleaved(
                {"ours": partial(read_ours, ours, whole), "numpy": partial(read_numpy, numpys, whole)},
                rounds,
                before={"ours": partial(before, ours), "numpy": partial(before, numpys)},
            )
    size = rows * CLASSES * 2
    table = [
        [
            what,
            spread([size / value / 1e6 for value in seconds["ours"]]),
            spread([size / value / 1e6 for value in seconds["numpy"]]),
            spread(ratios(seconds["numpy"], seconds["ours"])),
        ]
        for what, seconds in found.items()
    ]
    record.keep(rows=rows, throughput=found)
    numpys.unlink()
    title = f"{rows:,} x {CLASSES:,} float16, MB/s of logits; goal: ours / NumPy at least 0.8"
    record.table(title, ["what", "ours", "NumPy", "ours / NumPy"], table)
    return ours


def measure_digests(path: Path, record: Record) -> None:
    """What the digest of the whole file costs, and what HDF5's own checksum would."""
    size = path.stat().st_size
    sealing = seconds_of(lambda: seal(path))
    with quiet():
        opening = seconds_of(lambda: damage(path))
    buffer = some_logits()
    hashing = min(seconds_of(lambda: hashlib.sha256(buffer).digest()) for _ in range(3))
    plain = min(seconds_of(lambda: _in_memory(buffer, False)) for _ in range(3))
    checked = min(seconds_of(lambda: _in_memory(buffer, True)) for _ in range(3))
    rows = [
        ["SHA-256 of bytes in memory, one core", f"{buffer.nbytes / hashing / 1e6:,.0f}"],
        ["seal: SHA-256 of the whole file when it is finished", f"{size / sealing / 1e6:,.0f}"],
        ["open: SHA-256 of the whole file before it is read", f"{size / opening / 1e6:,.0f}"],
        ["HDF5 chunks into memory", f"{buffer.nbytes / plain / 1e6:,.0f}"],
        ["HDF5 chunks into memory with Fletcher-32", f"{buffer.nbytes / checked / 1e6:,.0f}"],
    ]
    record.keep(seconds_of_seal=sealing, seconds_of_open=opening, bytes_of_file=size)
    record.table("Digests, MB/s", ["what", "MB/s"], rows)


def _in_memory(values: np.ndarray, checked: bool) -> None:
    with h5py.File(f"in_memory_{next(_NUMBERS)}", "w", driver="core", backing_store=False) as file:
        file.create_dataset("x", data=values, chunks=(4096, CLASSES), fletcher32=checked)


_NUMBERS = count()


def measure_use(path: Path, rows: int, record: Record) -> None:
    """`soften`, then one epoch's join."""
    targets = path.with_name("soft_targets_T4.h5")
    with quiet():
        softening = seconds_of(lambda: soften_file(path, targets, TEMPERATURE))
        block = path.stat().st_size
        with open_logits(path) as file:
            kind, some = file.storage, file.columns("train", 0, slice(0, min(rows, 4 * 4096)))
            softmax = partial(kind.soften, some, TEMPERATURE, CLASSES)
            computing = min(seconds_of(softmax) for _ in range(3)) * rows / len(some["logits"])
        path.unlink()
        with open_soft_targets(targets) as file:
            names = rows_of(rows)["train"]
            images = [Image(image_id, "", "", "train", "", "") for image_id in names.ids]
            one_hot = np.broadcast_to(np.eye(1, CLASSES, dtype=np.float32), (rows, CLASSES))
            start = time.perf_counter()
            labels = HardAndSoftLabels(file, "train", images, one_hot)
            reading = time.perf_counter() - start
            order = np.random.default_rng(0).permutation(rows)
            joining = seconds_of(lambda: [labels.take(0, order[at : at + BATCH]) for at in range(0, rows, BATCH)][:0])
    size = targets.stat().st_size
    table = [
        ["soften: the whole stage", f"{rows / softening:,.0f}", f"{(block + size) / softening / 1e6:,.0f}"],
        ["soften: softmax in float64 alone", f"{rows / computing:,.0f}", ""],
        ["HardAndSoftLabels: reading one view", f"{rows / reading:,.0f}", f"{rows * CLASSES * 4 / reading / 1e6:,.0f}"],
        ["HardAndSoftLabels.take, shuffled, batches of 128", f"{rows / joining:,.0f}",
         f"{rows * CLASSES * 8 / joining / 1e6:,.0f}"],
    ]  # fmt: skip
    record.keep(seconds_of_soften=softening, seconds_of_join=joining, seconds_of_reading_a_view=reading)
    record.table("Use of the file", ["what", "rows/s", "MB/s read and written"], table)
    targets.unlink()


def peak_of(task: str, rows: int, folder: Path) -> float:
    """MiB at the peak of a process of its own that does one task with so many rows."""
    command = [sys.executable, "-c", f"from benchmarks import soft_label_file as it; it.alone({task!r}, {rows})"]
    done = subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
                          check=True, capture_output=True, text=True)  # fmt: skip
    return float(done.stdout.split()[-1])


def alone(task: str, rows: int) -> None:
    """What `peak_of` runs, in its folder: writes, softens or joins, and prints the peak memory in MiB."""
    folder, logits, targets = Path("alone"), Path("logits.h5"), Path("targets.h5")
    with quiet():
        if task == "start":
            pass
        elif task == "write":
            shutil.rmtree(folder, ignore_errors=True)
            file = write_ours(folder, rows_of(rows), some_logits())
            seal(file)
            file.rename(logits)
        elif task == "soften":
            soften_file(logits, targets, TEMPERATURE)
        else:
            with open_soft_targets(targets) as opened:
                images = [Image(image_id, "", "", "train", "", "") for image_id in opened.ids("train")]
                one_hot = np.broadcast_to(np.eye(1, CLASSES, dtype=np.float32), (rows, CLASSES))
                HardAndSoftLabels(opened, "train", images, one_hot).take(0, np.arange(BATCH))
    peak = peak_mib()
    print(peak)


def measure_memory(folder: Path, rows: int, record: Record) -> None:
    """Peak memory for N and 4 N rows."""
    table, measured = [], {}
    peaks = {(task, number): peak_of(task, number, folder)
             for number in (rows, 4 * rows) for task in ("start", "write", "soften", "join")}  # fmt: skip
    for task in ("start", "write", "soften", "join"):
        small, large = peaks[task, rows], peaks[task, 4 * rows]
        table.append([task, f"{small:,.0f}", f"{large:,.0f}", f"{(large - small) * 2**20 / (3 * rows):,.0f}"])
        measured[task] = [small, large]
    record.keep(peak_mib=measured)
    note = (
        "join keeps one view of float32 soft labels, 4,000 bytes a row; the others, the ids and digests of all images"
    )
    title = f"Peak memory in MiB for {rows:,} and {4 * rows:,} rows ({note})"
    record.table(title, ["task", "N", "4 N", "bytes a row more"], table)


def tell_sizes(record: Record) -> None:
    """Bytes of a view of a thousand classes, beside what others store."""
    rows, id_bytes = 1000, 13
    table = [["TinyViT, top 100", "404", "", ""], ["ml-dr, top 10", "about 73", "", ""]]
    kinds: list[logit_storage.Storage] = [logit_storage.Dense("float32"), logit_storage.Dense("float16")]
    kinds += [logit_storage.TopK(k, "float16") for k in (10, 13, 96, 100)]
    for kind in kinds:
        logits, targets = (
            (bytes_of_split(name, UNTOUCHED, rows, CLASSES, id_bytes, kind)) / rows
            for name in (LOGITS_FORMAT, TARGETS_FORMAT)
        )
        of_row = sum(
            int(np.prod(shape, dtype=int)) * np.dtype(dtype).itemsize for shape, dtype in kind.columns(CLASSES).values()
        )
        name = ", ".join(f"{key} {value}" for key, value in kind.as_json().items())
        table.append([name, f"{of_row:,}", f"{of_row + 12:,}", f"{logits:,.0f} and {targets:,.0f}"])
    header = ["storage", "logits", "with the view's affine", "a row of the two files, V = 1"]
    record.table("Bytes a view, 1,000 classes", header, table)


def main() -> None:
    """Measures and writes the record."""
    more = ("--folder", {"type": Path, "help": "Where the files go.  [default: the system's temporary folder]"})
    given = arguments(__doc__, more)
    rows = ROWS[given.quick]
    needed, base = rows * CLASSES * 10, given.folder or Path(tempfile.gettempdir())
    free = shutil.disk_usage(base).free
    if free < needed:
        raise SystemExit(f"{base} has {free / 1e9:.1f} GB free, and {needed / 1e9:.1f} are needed; see --folder.")
    record = Record("soft_label_file", given)
    with tempfile.TemporaryDirectory(dir=base) as name:
        folder = Path(name)
        path = compare_throughput(folder, rows, ROUNDS[given.quick], record)
        measure_digests(path, record)
        measure_use(path, rows, record)
        measure_memory(folder, MEMORY_ROWS[given.quick], record)
    tell_sizes(record)
    record.write()


if __name__ == "__main__":
    main()
