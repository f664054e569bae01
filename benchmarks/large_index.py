"""What stages and tools do with an index of two million images before they read the first one.

    python -m benchmarks.large_index [--quick] [--folder FOLDER]

There are no pictures (`index_steps`): some steps end where they would read the first one, and others get grey pixels
and drawn logits. A training is all but its epochs; of these, it makes the first batch without pixels. Each step is a
process of its own, and its peak memory has Python and TensorFlow in it. The soft labels are one view of each image, the
10 largest of 1,000 logits. `pack` verifies two files before it copies them, and `verify` is that of its folder.
`measure-speed` and `measure-exports` read no index.

Goal: an index is read and written in seconds, and no step takes more than `large_run.BOUND_MIB`.

Takes about ten minutes on two cores; `--quick`, a hundredth of the images, two minutes.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from argparse import SUPPRESS
from pathlib import Path
from typing import Any

from benchmarks.index_steps import STEPS, WITHOUT_MODELS, make, no_images
from benchmarks.large_run import BOUND_MIB, TOP_10
from benchmarks.large_steps import Size
from benchmarks.process import peak_mib, quiet
from benchmarks.record import Record, arguments
from pipeline.cli.tensorflow_start import start_tensorflow

SIZE = {
    False: Size(1_960_000, 20_000, 1000, views=1, storage=TOP_10.as_json()),
    True: Size(18_000, 1_000, 1000, views=1, storage=TOP_10.as_json()),
}


def main() -> None:
    """Measures and writes the record; a process of its own gets `--step` and does one step in the current folder."""
    folder = ("--folder", {"type": Path, "help": "Where the files go.  [default: the system's temporary folder]"})
    of_one_process: tuple[str, dict[str, Any]] = ("--step", {"help": SUPPRESS})
    options = arguments(__doc__, folder, of_one_process)
    size = SIZE[options.quick]
    if options.step:
        print(json.dumps(do(size, options.step)))
        return
    record, rows, measured = Record("large_index", options), [], {}
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        in_a_process("make", options.quick, Path(name))
        for step in STEPS:
            found = measured[step] = in_a_process(step, options.quick, Path(name))
            rows.append([step, f"{found['seconds']:.1f}", f"{found['peak_mib']:,.0f}"])
            print(*rows[-1], sep=", ", file=sys.stderr, flush=True)
    record.keep(images=size.images, steps=measured)
    record.table(
        f"An index of {size.images:,} images; no step above {BOUND_MIB:,.0f} MiB", ["step", "s", "peak MiB"], rows
    )
    record.write()


def do(size: Size, step: str) -> dict[str, float]:
    """One step: its seconds without the start of TensorFlow, and the peak memory of this process."""
    has_models = step not in WITHOUT_MODELS
    if has_models:
        start_tensorflow()
    start = time.perf_counter()
    with quiet(), no_images(has_models):
        {"make": make, **STEPS}[step](size)
    return {"seconds": time.perf_counter() - start, "peak_mib": peak_mib()}


def in_a_process(step: str, quick: bool, folder: Path) -> dict[str, float]:
    """One step in a process of its own.

    Raises:
        SystemExit: it took more memory than `BOUND_MIB`.
    """
    command = [sys.executable, "-m", "benchmarks.large_index", "--step", step, *(["--quick"] if quick else [])]
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    if found["peak_mib"] > BOUND_MIB:
        raise SystemExit(f"the step {step!r} took {found['peak_mib']:,.0f} MiB of memory, at most {BOUND_MIB:,.0f}")
    return found


if __name__ == "__main__":
    main()
