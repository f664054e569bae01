"""The soft-label file: how fast it is written, read, softened and joined, compared with NumPy's own file.

    python -m benchmarks.soft_label_file [--quick] [--folder FOLDER]

A million rows of a thousand float16 logits, two gigabytes, made of random numbers. Each pair below runs in turns:

- write: `create_logits`, its datasets filled in slabs, the file flushed to the disk; compared with `numpy.save` of the
  same array, flushed. The SHA-256 of `seal`, which NumPy's file does not have, is timed apart.
- read: one view in slabs of 4,096 rows, as `soften` reads it, and all at once, as `HardAndSoftLabels` does; compared
  with copies of the same rows out of `numpy.memmap`. Both are read from the page cache, and after the file was
  dropped from it as far as a user can (`posix_fadvise`).

Then, alone: the SHA-256 of the whole file when it is opened; SHA-256 and Fletcher-32 of memory; `soften`; one epoch
of `HardAndSoftLabels.take` in shuffled batches of 128; the peak memory of writing, softening and joining N and 4 N
rows, each in a process of its own; and the bytes of a view.

Goal: throughput at least 0.8 of NumPy's; peak memory the same for N and 4 N.

Takes about four minutes and 10 GB of disk; `--quick`, 40,000 rows, half a minute and 0.4 GB.
"""

import hashlib
import os
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from benchmarks.made_logits import BATCH, CLASSES, WRITE_ROWS, Logits, join, random_logits, write_logits
from benchmarks.paired import interleaved, ratios, seconds_of, spread
from benchmarks.process import quiet
from benchmarks.record import Record, arguments
from benchmarks.soft_label_memory import measure_memory
from pipeline.images.views import UNTOUCHED
from pipeline.soft_labels import logit_storage
from pipeline.soft_labels.hdf5 import damage, seal
from pipeline.soft_labels.layout import LOGITS_FORMAT, TARGETS_FORMAT, bytes_of_split
from pipeline.soft_labels.reading import open_logits, open_soft_targets, slabs
from pipeline.soft_labels.writing import soften_file

ROWS = {False: 1_000_000, True: 40_000}
ROUNDS = {False: 3, True: 5}
MEMORY_ROWS = {False: 100_000, True: 20_000}
TEMPERATURE = 4.0


def write_numpy(path: Path, values: Logits) -> None:
    """`numpy.save`, flushed to the disk."""
    with path.open("xb") as file:
        np.save(file, values)
        file.flush()
        os.fsync(file.fileno())


def read_ours(path: Path, whole: bool) -> None:
    """One view of the training images, all at once or in slabs; the digest is not compared."""
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


def compare_throughput(folder: Path, rows: int, rounds: int, record: Record) -> Path:
    """Writing and reading in turns with NumPy; returns our file, sealed."""
    logits = random_logits()
    values = np.concatenate([logits] * -(-rows // WRITE_ROWS))[:rows]
    ours, numpys = folder / "ours/unfinished.h5", folder / "numpy.npy"
    throughput = {
        "write to the disk, without the digest": interleaved(
            {"ours": lambda: write_logits(ours.parent, rows, logits), "numpy": lambda: write_numpy(numpys, values)},
            rounds,
            before={
                "ours": lambda: shutil.rmtree(ours.parent, ignore_errors=True),
                "numpy": lambda: numpys.unlink(True),
            },
        )
    }
    for where, before in (("from the page cache", Path.exists), ("dropped from it before", forget)):
        for how, whole in (("in slabs", False), ("at once", True)):
            throughput[f"read {how}, {where}, without the digest"] = interleaved(
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
        for what, seconds in throughput.items()
    ]
    record.keep(rows=rows, throughput=throughput)
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
    buffer = random_logits()
    hashing = min(seconds_of(lambda: hashlib.sha256(buffer.data).digest()) for _ in range(3))
    plain = min(seconds_of(partial(_into_memory, buffer, "plain", number)) for number in range(3))
    checked = min(seconds_of(partial(_into_memory, buffer, "checked", number)) for number in range(3))
    rows = [
        ["SHA-256 of bytes in memory, one core", f"{buffer.nbytes / hashing / 1e6:,.0f}"],
        ["seal: SHA-256 of the whole file when it is finished", f"{size / sealing / 1e6:,.0f}"],
        ["open: SHA-256 of the whole file before it is read", f"{size / opening / 1e6:,.0f}"],
        ["HDF5 chunks into memory", f"{buffer.nbytes / plain / 1e6:,.0f}"],
        ["HDF5 chunks into memory with Fletcher-32", f"{buffer.nbytes / checked / 1e6:,.0f}"],
    ]
    record.keep(seconds_of_seal=sealing, seconds_of_open=opening, bytes_of_file=size)
    record.table("Digests, MB/s", ["what", "MB/s"], rows)


def _into_memory(values: Logits, kind: str, number: int) -> None:
    # HDF5 names also files in memory, and opens no name twice.
    with h5py.File(f"{kind}_{number}", "w", driver="core", backing_store=False) as file:
        file.create_dataset("x", data=values, chunks=(4096, CLASSES), fletcher32=kind == "checked")


def measure_use(path: Path, rows: int, record: Record) -> None:
    """`soften`, then one epoch's join."""
    targets = path.with_name("soft_targets_T4.h5")
    with quiet():
        softening = seconds_of(lambda: soften_file(path, targets, TEMPERATURE))
        block = path.stat().st_size
        with open_logits(path) as file:
            columns = file.columns("train", 0, slice(0, min(rows, 4 * 4096)))
            softmax = partial(file.storage.soften, columns, TEMPERATURE, CLASSES)
            computing = min(seconds_of(softmax) for _ in range(3)) * rows / len(columns["logits"])
        path.unlink()
        with open_soft_targets(targets) as file:
            start = time.perf_counter()
            labels = join(file)
            reading = time.perf_counter() - start
            order = np.random.default_rng(0).permutation(rows)
            batches = [order[at : at + BATCH] for at in range(0, rows, BATCH)]
            joining = seconds_of(lambda: [labels.targets(0, batch) for batch in batches][:0])
    size = targets.stat().st_size
    table = [
        ["soften: the whole stage", f"{rows / softening:,.0f}", f"{(block + size) / softening / 1e6:,.0f}"],
        ["soften: softmax in float64 alone", f"{rows / computing:,.0f}", ""],
        ["HardAndSoftLabels: reading one view", f"{rows / reading:,.0f}", f"{rows * CLASSES * 4 / reading / 1e6:,.0f}"],
        ["HardAndSoftLabels.targets, shuffled, batches of 128", f"{rows / joining:,.0f}",
         f"{rows * CLASSES * 8 / joining / 1e6:,.0f}"],
    ]  # fmt: skip
    record.keep(seconds_of_soften=softening, seconds_of_join=joining, seconds_of_reading_a_view=reading)
    record.table("Use of the file", ["what", "rows/s", "MB/s read and written"], table)
    targets.unlink()


def tell_sizes(record: Record) -> None:
    """Bytes of a view of a thousand classes, beside those of other projects."""
    rows, id_bytes = 1000, 13
    table = [["TinyViT, top 100", "404", "", ""], ["ml-dr, top 10", "about 73", "", ""]]
    kinds: list[logit_storage.Storage] = [logit_storage.Dense("float32"), logit_storage.Dense("float16")]
    kinds += [logit_storage.TopK(k, "float16") for k in (10, 13, 96, 100)]
    for kind in kinds:
        logits, targets = (
            bytes_of_split(name, UNTOUCHED, rows, CLASSES, id_bytes, kind) / rows
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
    options = arguments(__doc__, more)
    rows = ROWS[options.quick]
    needed, base = rows * CLASSES * 10, options.folder or Path(tempfile.gettempdir())
    free = shutil.disk_usage(base).free
    if free < needed:
        raise SystemExit(f"{base} has {free / 1e9:.1f} GB free, and {needed / 1e9:.1f} are needed; see --folder.")
    record = Record("soft_label_file", options)
    with tempfile.TemporaryDirectory(dir=base) as name:
        folder = Path(name)
        path = compare_throughput(folder, rows, ROUNDS[options.quick], record)
        measure_digests(path, record)
        measure_use(path, rows, record)
        measure_memory(folder, MEMORY_ROWS[options.quick], record)
    tell_sizes(record)
    record.write()


if __name__ == "__main__":
    main()
