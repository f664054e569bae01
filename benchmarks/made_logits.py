"""A logits file of made rows: a thousand classes, random float16 logits, one view of each image."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.distillation.targets import HardAndSoftLabels
from pipeline.images.index import Image, SplitName
from pipeline.images.views import UNTOUCHED
from pipeline.soft_labels import logit_storage
from pipeline.soft_labels.reading import Provenance, Rows, SoftLabelFile
from pipeline.teacher_pass.unfinished_logits import UnfinishedLogits

CLASSES = 1000
BATCH = 128
WRITE_ROWS = 32_768
"""Rows of one write: 66 MB."""

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

Logits = npt.NDArray[np.float16]


def rows_of(count: int) -> dict[SplitName, Rows]:
    """The images of each split: `count` for training, one for each of the others."""
    counts: dict[SplitName, int] = {"train": count, "val": 1, "test": 1}
    return {
        split: Rows(
            [f"{split}_{row:07d}.png" for row in range(number)],
            [row % CLASSES for row in range(number)],
            [f"{row:064x}" for row in range(number)],
        )
        for split, number in counts.items()
    }


def random_logits() -> Logits:
    """The logits of one write: (32768, 1000)."""
    return np.random.default_rng(0).normal(0, 2, (WRITE_ROWS, CLASSES)).astype(np.float16)


def write_logits(folder: Path, count: int, logits: Logits) -> Path:
    """Writes the logits file of `count` training images into a new folder; complete on the disk, but unsealed."""
    folder.mkdir()
    with UnfinishedLogits(folder, PROVENANCE, rows := rows_of(count)) as file:
        for split, of_split in rows.items():
            for numbers in _writes(len(of_split.ids)):
                file.put(split, np.zeros_like(numbers), numbers, {"logits": logits[: len(numbers)]})
    return folder / "unfinished.h5"


def _writes(count: int) -> Iterator[npt.NDArray[np.int64]]:
    for start in range(0, count, WRITE_ROWS):
        yield np.arange(start, min(start + WRITE_ROWS, count))


def join(file: SoftLabelFile) -> HardAndSoftLabels:
    """Joins the soft labels of all training images with hard labels, as a student's training does."""
    images = [Image(image_id, "", "", "train", "", "") for image_id in file.ids("train")]
    one_hot = np.broadcast_to(np.eye(1, CLASSES, dtype=np.float32), (len(images), CLASSES))
    return HardAndSoftLabels(file, "train", images, one_hot)
