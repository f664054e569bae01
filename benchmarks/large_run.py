"""A run of a million images and a thousand classes, and how fast the one writer of the pass is.

    python -m benchmarks.large_run [--quick] [--folder FOLDER]

There are no image files and no network: the teacher's logits are drawn by key (`made_answers`), at once. Everything
else is what a user runs: the index, the stage `precompute` with its writer, the command `verify`, the stage `soften`,
and what `train_student` reads beside the images, in batches of 128 in the order of a training. Each step is a process
of its own. It fails if a step takes more memory than `BOUND_MIB`, if `verify` finds anything, or if the logits of a run
that is killed in the middle (SIGKILL, by itself) and started again are not those of an undisturbed one, byte by byte.

- Runs: 1,000,000 training images in 2 views, 10,000 validation and test images each, 1,000 classes; once dense in
  float16, once the 10 largest logits.
- The writer: the stage alone with 200,000 training images, for each kind of storage.

Goal: peak memory of each step at most `BOUND_MIB`.

Takes about ten minutes on two cores and 30 GB of disk; `--quick`, a hundredth of the images, a minute and a half.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from signal import SIGKILL
from typing import Any

from benchmarks.large_steps import LOGITS, STEPS, Size, arguments_of
from benchmarks.record import Record, arguments
from pipeline.soft_labels.logit_storage import Dense, Storage, TopK

BOUND_MIB = 2048.0
"""The most memory that a step may take, Python and TensorFlow included."""

DENSE, TOP_10 = Dense("float16"), TopK(10, "float16")
RUN = {
    False: Size(1_000_000, 10_000, 1000, views=2, storage={}, reads=2),
    True: Size(10_000, 1_000, 1000, views=2, storage={}, reads=2),
}
WRITER = {False: replace(RUN[False], train=200_000), True: RUN[True]}
KINDS: dict[str, Storage] = {"dense, float16": DENSE, "top-k, k 10, float16": TOP_10}
WRITTEN: dict[str, Storage] = {"dense, float32": Dense("float32"), **KINDS}


def step(size: Size, name: str, folder: Path) -> dict[str, Any]:
    """Does one step of `large_steps` in a folder, as a process of its own; empty if the process was killed.

    Raises:
        SystemExit: it failed, or took more memory than `BOUND_MIB`.
    """
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.large_steps", *arguments_of(size, name)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode == -SIGKILL and name == "precompute, killed":
        return {}
    if done.returncode:
        raise SystemExit(f"the step {name!r} failed with exit code {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout)
    if found["peak_mib"] > BOUND_MIB:
        raise SystemExit(f"the step {name!r} took {found['peak_mib']:,.0f} MiB of memory, at most {BOUND_MIB:,.0f}")
    print(f"{name}: {found['seconds']:.1f} s, {found['peak_mib']:,.0f} MiB", file=sys.stderr, flush=True)
    return found


def whole_run(size: Size, folder: Path) -> dict[str, dict[str, Any]]:
    """All steps but the killed one, by name, with what each found.

    Raises:
        SystemExit: a step failed, or the logits are other ones after a kill.
    """
    found = {}
    for name in STEPS:
        found[name] = step(size, name, folder)
        if name == "precompute":  # the other run begins anew
            shutil.rmtree(folder / ".work")
            (folder / LOGITS).unlink()
    del found["precompute, killed"]
    if found["precompute"]["sha256"] != found["precompute, resumed"]["sha256"]:
        raise SystemExit("the logits of the run that was killed are not those of an undisturbed run")
    return found


@contextmanager
def _new_folder(base: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=base) as name:
        yield Path(name)


def measure_runs(quick: bool, base: Path, record: Record) -> None:
    """The runs, a table for each kind of storage."""
    for title, storage in KINDS.items():
        size = replace(RUN[quick], storage=storage.as_json())
        with _new_folder(base) as folder:
            found = whole_run(size, folder)
        rows = []
        for name, of_step in found.items():
            count = {"index": size.train + 2 * size.others, "student's reader": of_step.get("rows")}.get(
                name, size.rows
            )
            seconds = of_step.get("seconds_of_batches", of_step["seconds"])
            size_of_file = f"{of_step['bytes'] / 1e9:.2f}" if "bytes" in of_step else ""
            rows.append(
                [name, f"{seconds:.1f}", f"{count / seconds:,.0f}", size_of_file, f"{of_step['peak_mib']:,.0f}"]
            )
        record.keep(**{f"run {title}": found})
        heading = (
            f"A run of {size.train:,} images in {size.views} views, {size.classes:,} classes: {title}; "
            f"no step above {BOUND_MIB:,.0f} MiB"
        )
        record.table(heading, ["step", "s", "rows/s", "GB of the file", "peak MiB"], rows)


def measure_writer(quick: bool, base: Path, record: Record) -> None:
    """The pass with a teacher that answers at once."""
    rows, measured = [], {}
    for title, storage in WRITTEN.items():
        size = replace(WRITER[quick], storage=storage.as_json())
        with _new_folder(base) as folder:
            step(size, "index", folder)
            found = measured[title] = step(size, "precompute", folder)
        speed = size.rows / (found["seconds_of_pass"] - found["seconds_of_answers"])
        of_row = found["bytes"] / size.rows
        rows.append([title, f"{speed:,.0f}", f"{speed * of_row / 1e6:,.0f}", f"{of_row:,.0f}"])
    record.keep(writer=measured)
    size = WRITER[quick]
    heading = f"The writer: {size.rows:,} rows of {size.classes:,} classes, without the time of drawing the answers"
    record.table(heading, ["storage", "rows/s", "MB/s", "bytes a row"], rows)


def main() -> None:
    """Measures and writes the record."""
    more = ("--folder", {"type": Path, "help": "Where the files go.  [default: the system's temporary folder]"})
    options = arguments(__doc__, more)
    size, base = RUN[options.quick], options.folder or Path(tempfile.gettempdir())
    needed, free = size.rows * size.classes * 12, shutil.disk_usage(base).free
    if free < needed:
        raise SystemExit(f"{base} has {free / 1e9:.1f} GB free, and {needed / 1e9:.1f} are needed; see --folder.")
    record = Record("large_run", options)
    measure_writer(options.quick, base, record)
    measure_runs(options.quick, base, record)
    record.write()


if __name__ == "__main__":
    main()
