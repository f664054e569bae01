"""The steps of `benchmarks.large_run`, each a process of its own in the folder of the run.

    python -m benchmarks.large_steps SIZE STEP

prints one line of JSON: the seconds and the peak memory in MiB of the step, and what it found.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.made_answers import MadeAnswers, made_index
from benchmarks.process import peak_mib, quiet
from pipeline.cli.tensorflow_start import start_tensorflow
from pipeline.images.augmentation import Augmentation
from pipeline.images.index import read_index, write_index
from pipeline.images.views import Views
from pipeline.runtime.errors import MissingError
from pipeline.soft_labels import logit_storage
from pipeline.soft_labels.hdf5 import sealed_sha256

INDEX, TEACHER = Path("data/index.csv"), Path("models/teacher.keras")
LOGITS, TARGETS = Path("data/soft_labels/teacher_logits.h5"), Path("data/soft_labels/soft_targets_T4.h5")
TEMPERATURE, BATCH = 4.0, 128
AUGMENTATION = Augmentation(horizontal_flip=True, rotation=0.1)


@dataclass(frozen=True)
class Size:
    """One run.

    Attributes:
        train: training images.
        others: validation images, and as many test images.
        classes: C.
        views: V, of each training image.
        storage: `as_json` of how the logits are stored.
        reads: how many views of all training images the student's reader reads.
    """

    train: int
    others: int
    classes: int
    views: int
    storage: dict[str, Any]
    reads: int = 1

    @property
    def images(self) -> int:
        """All images."""
        return self.train + 2 * self.others

    @property
    def rows(self) -> int:
        """Views of all images."""
        return self.train * self.views + 2 * self.others


def write_the_index(size: Size) -> dict[str, Any]:
    """Writes the index, and a file in the place of the teacher's."""
    INDEX.parent.mkdir(parents=True)
    TEACHER.parent.mkdir()
    TEACHER.write_bytes(b"made by benchmarks.made_answers")
    write_index(INDEX, made_index(size.train, size.others, size.classes))
    return {}


def label(size: Size, dies_after: int | None = None) -> dict[str, Any]:
    """Stage `precompute` with a teacher that answers at once; there are no image files to compare with the index."""
    start_tensorflow()
    from pipeline.images import unchanged
    from pipeline.models.ensembles import LoadedTeacher, Teacher
    from pipeline.stages import precompute
    from pipeline.teacher_pass.labelling import TeacherPass

    seconds: list[float] = []

    def timed(work: TeacherPass, earlier: Any, run: Any = TeacherPass.run) -> None:
        start = time.perf_counter()
        run(work, earlier)
        seconds.append(time.perf_counter() - start)

    answers: Any = MadeAnswers(size.classes, size.views, dies_after)
    teacher = Teacher("the made teacher", "made", None, "00" * 32, None, answers=answers)
    with (
        patch.object(precompute, "load_in_precision", lambda *_: LoadedTeacher(None, [teacher], None)),
        patch.object(unchanged, "refuse_changed", lambda *_: None),
        patch.object(TeacherPass, "run", timed),
    ):
        precompute.run(
            index=INDEX,
            teacher=TEACHER,
            views=Views(size.views, 1, AUGMENTATION),
            stored_as=logit_storage.of(size.storage),
            batch_size=BATCH,
            previous=[],
            output=LOGITS,
            largest_temperature=TEMPERATURE,
        )
    return {
        "sha256": sealed_sha256(LOGITS),
        "bytes": LOGITS.stat().st_size,
        "seconds_of_pass": sum(seconds),
        "seconds_of_answers": answers.seconds,
    }


def label_and_die(size: Size) -> dict[str, Any]:
    """As `label`, but the process kills itself when half of the answers are given."""
    return label(size, dies_after=size.rows // 2)


def verify(size: Size, path: Path) -> dict[str, Any]:
    """Command `verify`; the file must be sound."""
    from pipeline.tools.verify import as_text
    from pipeline.tools.verify import verify as checked

    checks = checked(path, INDEX, TEACHER, LOGITS, MissingError("there is no params.yaml"), TEMPERATURE)
    if any(check.ok is False for check in checks):
        raise SystemExit(as_text(path, checks))
    return {"bytes": path.stat().st_size}


def soften(size: Size) -> dict[str, Any]:
    """Stage `soften`."""
    from pipeline.stages import soften as stage

    stage.run(logits=LOGITS, soft_targets=TARGETS, temperature=TEMPERATURE)
    return {"sha256": sealed_sha256(TARGETS), "bytes": TARGETS.stat().st_size}


def read(size: Size) -> dict[str, Any]:
    """What `train_student` reads beside the images: the targets of each batch, in the order of a training.

    The sum of the soft half of each row is 1, and its label's share of the hard half is 1.
    """
    start_tensorflow()
    from pipeline.distillation.targets import HardAndSoftLabels
    from pipeline.soft_labels.identity import Expected, refuse_other
    from pipeline.soft_labels.reading import open_soft_targets
    from pipeline.training.input_pipeline import Examples, shown_by

    data = read_index(INDEX)
    images = data.split("train")
    with open_soft_targets(TARGETS) as file:
        refuse_other(
            file, data, Expected(("train", "val"), Views(size.views, 1, AUGMENTATION), temperature=TEMPERATURE)
        )
        supervision = HardAndSoftLabels(file, "train", images, data.one_hot(images))
        pixels: Any = images  # only their number counts
        shown = shown_by(Examples([], pixels, supervision), BATCH, seed=1)
        start, steps = time.perf_counter(), -(-len(images) // BATCH)
        for step in range(steps * size.reads):
            targets = supervision.targets(*shown(step))
            if not np.allclose(targets.sum(axis=1), 2, atol=1e-4):
                raise SystemExit(f"the halves of the targets of batch {step} do not sum to 1")
        return {"seconds_of_batches": time.perf_counter() - start, "rows": len(images) * size.reads}


STEPS: dict[str, Callable[[Size], dict[str, Any]]] = {
    "index": write_the_index,
    "precompute": label,
    "precompute, killed": label_and_die,
    "precompute, resumed": label,
    "verify the logits": lambda size: verify(size, LOGITS),
    "soften": soften,
    "verify the soft labels": lambda size: verify(size, TARGETS),
    "student's reader": read,
}


def arguments_of(size: Size, step: str) -> list[str]:
    """What `main` takes on its command line."""
    return [json.dumps(asdict(size)), step]


def main() -> None:
    """Does one step in the current folder."""
    size, step = Size(**json.loads(sys.argv[1])), sys.argv[2]
    start = time.perf_counter()
    with quiet():
        found = STEPS[step](size)
    print(json.dumps({"seconds": time.perf_counter() - start, "peak_mib": peak_mib(), **found}))


if __name__ == "__main__":
    main()
