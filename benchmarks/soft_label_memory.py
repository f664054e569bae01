"""The peak memory of writing, softening and joining a soft-label file; a part of `benchmarks.soft_label_file`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks.made_logits import BATCH, join, random_logits, write_logits
from benchmarks.process import peak_mib, quiet
from benchmarks.record import Record
from pipeline.soft_labels.hdf5 import seal
from pipeline.soft_labels.reading import open_soft_targets
from pipeline.soft_labels.writing import soften_file

TASKS = ("start", "write", "soften", "join")
NOTE = "join keeps one view of float32 soft labels, 4,000 bytes a row; the others, the ids and digests of all images"


def measure_memory(folder: Path, rows: int, record: Record) -> None:
    """Peak memory for N and 4 N rows."""
    # In this order: each task uses the file that the one before has written.
    peaks = {(task, count): peak_of(task, count, folder) for count in (rows, 4 * rows) for task in TASKS}
    table, measured = [], {}
    for task in TASKS:
        small, large = peaks[task, rows], peaks[task, 4 * rows]
        table.append([task, f"{small:,.0f}", f"{large:,.0f}", f"{(large - small) * 2**20 / (3 * rows):,.0f}"])
        measured[task] = [small, large]
    record.keep(peak_mib=measured)
    title = f"Peak memory in MiB for {rows:,} and {4 * rows:,} rows ({NOTE})"
    record.table(title, ["task", "N", "4 N", "bytes a row more"], table)


def peak_of(task: str, rows: int, folder: Path) -> float:
    """The peak memory in MiB of a process that does one task with so many rows, in `folder`."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.soft_label_memory", task, str(rows)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout.split()[-1])


def main() -> None:
    """Does one task in the current folder, as a process of its own, and prints the peak memory in MiB."""
    task, rows = sys.argv[1], int(sys.argv[2])
    folder, logits, targets = Path("alone"), Path("logits.h5"), Path("targets.h5")
    with quiet():
        if task == "write":
            shutil.rmtree(folder, ignore_errors=True)
            file = write_logits(folder, rows, random_logits())
            seal(file)
            file.rename(logits)
        elif task == "soften":
            soften_file(logits, targets, temperature=4.0)
        elif task == "join":
            with open_soft_targets(targets) as opened:
                join(opened).targets(0, np.arange(BATCH))
    print(peak_mib())


if __name__ == "__main__":
    main()
