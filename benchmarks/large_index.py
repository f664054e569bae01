"""What stages and tools do with an index of two million images before they read the first one.

    python -m benchmarks.large_index [--quick] [--folder FOLDER]

There are no image files (`made_answers`), so stages stop where they would read the first one, and do not compare files
with the index. Each step is a process of its own, and its peak memory has Python and TensorFlow in it. The soft labels
are one view of each image, the 10 largest of 1,000 logits.

Goal: an index is read and written in seconds, and no step takes more than `large_run.BOUND_MIB`.

Takes about five minutes on two cores; `--quick`, a hundredth of the images, one minute.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from argparse import SUPPRESS
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks import large_steps
from benchmarks.large_run import BOUND_MIB, TOP_10
from benchmarks.large_steps import AUGMENTATION, INDEX, LOGITS, TARGETS, TEACHER, TEMPERATURE, Size
from benchmarks.process import peak_mib, quiet
from benchmarks.record import Record, arguments
from pipeline.cli.tensorflow_start import start_tensorflow
from pipeline.images.index import read_index, write_index
from pipeline.images.views import Views
from pipeline.models.descriptions import Cnn

SIZE = {
    False: Size(1_900_000, 50_000, 1000, views=1, storage=TOP_10.as_json()),
    True: Size(19_000, 500, 1000, views=1, storage=TOP_10.as_json()),
}
VIEWS = Views(1, 1, AUGMENTATION)
MODEL = Cnn(
    input_shape=(32, 32, 3),
    weights=None,
    filters=[8],
    downsampling="max_pooling",
    pooling="avg",
    batch_normalization=False,
    dropout=0.0,
)


class NoImageError(Exception):
    """Here an image file would be read."""


def read(size: Size) -> None:
    """The index, and its fingerprint."""
    read_index(INDEX).fingerprint()


def write(size: Size) -> None:
    """The index, read and written again."""
    write_index(INDEX.with_name("again.csv"), read_index(INDEX))


def label(size: Size) -> None:
    """Stage `precompute`, with the network of a teacher."""
    from pipeline.models import keras_files
    from pipeline.stages import precompute

    teacher = TEACHER.with_name("network.keras")
    keras_files.save(MODEL.build(classes=size.classes, seed=1), teacher)
    with patch("pipeline.inference.forward.Forward.of_views", side_effect=NoImageError):
        precompute.run(
            index=INDEX,
            teacher=teacher,
            views=VIEWS,
            stored_as=TOP_10,
            batch_size=128,
            previous=[],
            output=LOGITS.with_name("of_network.h5"),
        )


def train_student(size: Size) -> None:
    """Stage `train_student`."""
    from pipeline.distillation.loss import DistillationLoss
    from pipeline.stages import train_student as stage

    with patch("pipeline.training.fit.train", first_batch):
        stage.run(
            index=INDEX,
            soft_targets=TARGETS,
            logits=LOGITS,
            views=VIEWS,
            loss=DistillationLoss(TEMPERATURE, 0.5),
            **_training(),
        )


def train_baseline(size: Size) -> None:
    """Stage `train_baseline`; `train_teacher` does the same."""
    from pipeline.stages import train_baseline as stage

    with patch("pipeline.training.fit.train", first_batch):
        stage.run(index=INDEX, views=VIEWS, **_training())


def first_batch(model: Any, train_on: Any, validate_on: Any, loss: Any, recipe: Any, *_: Any) -> None:
    """In the place of `fit.train`: all of the first batch of a training but its pixels."""
    from pipeline.images.transforms import Pictures
    from pipeline.training.input_pipeline import shown_by

    view, rows = shown_by(train_on, recipe.batch_size, recipe.seed)(0)
    train_on.supervision.targets(view, rows)
    Pictures.of(train_on.supervision.transforms(view), rows).arrays(train_on.supervision.augmentation)
    raise NoImageError


def _training() -> dict[str, Any]:
    from pipeline.training.recipe import Phase, Recipe

    return {
        "model": MODEL,
        "recipe": Recipe(batch_size=128, seed=1, phases=[Phase(1, 0.01, None, class_weight="balanced")]),
        "output": Path("models/student.keras"),
        "history": Path("models/student.csv"),
        "cache": "none",
    }


STEPS: dict[str, Callable[[Size], Any]] = {
    "make the index": large_steps.write_the_index,
    "read and fingerprint": read,
    "read and write": write,
    "precompute, to the first image": label,
    "precompute, a teacher that answers at once": large_steps.label,
    "soften": large_steps.soften,
    "verify the soft labels": lambda size: large_steps.verify(size, TARGETS),
    "train_student, to the first image": train_student,
    "train_baseline, to the first image": train_baseline,
}
WITHOUT_TENSORFLOW = ("make the index", "read and fingerprint", "read and write", "soften", "verify the soft labels")


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
        for step in STEPS:
            found = measured[step] = in_a_process(step, options.quick, Path(name))
            rows.append([step, f"{found['seconds']:.1f}", f"{found['peak_mib']:,.0f}"])
            print(*rows[-1], sep=", ", file=sys.stderr, flush=True)
    images = size.train + 2 * size.others
    record.keep(images=images, steps=measured)
    record.table(f"An index of {images:,} images; no step above {BOUND_MIB:,.0f} MiB", ["step", "s", "peak MiB"], rows)
    record.write()


def do(size: Size, step: str) -> dict[str, float]:
    """One step: its seconds without the start of TensorFlow, and the peak memory of this process."""
    if step not in WITHOUT_TENSORFLOW:
        start_tensorflow()
    start = time.perf_counter()
    with quiet(), patch("pipeline.images.index.refuse_changed", lambda *_: None), suppress(NoImageError):
        STEPS[step](size)
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
