"""Stage `split`: labelled images are copied into class folders and listed in the index."""

import hashlib
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pipeline import annotations as layouts
from pipeline.annotations import Annotation
from pipeline.artifacts import publish, sha256_file
from pipeline.errors import PipelineError, first_few
from pipeline.images import refuse_undecodable
from pipeline.index import SPLITS, Image, Index, write_index
from pipeline.progress import Progress

LAYOUTS = {"mhist": layouts.read_mhist}


def run(*, layout: str, annotations: Path, images: Path, val_fraction: float, split_folder: Path, index: Path) -> None:
    """Checks every image, then writes `data/split/<split>/<class>/<image>` and `data/index.csv`.

    Args:
        layout: one of `LAYOUTS`, how annotations and images are laid out.
        annotations: the table that names the images.
        images: the folder that holds the images.
        val_fraction: share of the training partition that becomes validation images, 0 to 1.
        split_folder: where the copies go.
        index: the CSV file to write.

    Raises:
        PipelineError: the annotations or images cannot be used; nothing was written.
    """
    rows = LAYOUTS[layout](annotations, images)
    splits = [assign_split(row, val_fraction) for row in rows]
    _refuse_empty(rows, splits)
    refuse_undecodable([row.file for row in rows])
    with publish(split_folder) as folder:
        copied = _copy(rows, splits, folder, split_folder)
    with publish(index) as partial:
        write_index(partial, copied)
    _print_counts(copied)
    ignored = layouts.unnamed_images(rows, images)
    if ignored:
        print(f"{len(ignored)} file(s) in {images} are named by no row and were left out: {first_few(ignored)}")


def assign_split(row: Annotation, val_fraction: float) -> str:
    """The split of one image, which depends on its own id, class and partition alone.

    A training image becomes a validation image when the SHA-256 of its class and id, as a number from 0
    to 1, lies below `val_fraction`: each class gives about that share, and adding images moves no other.
    """
    if row.partition == "test":
        return "test"
    digest = hashlib.sha256(f"{row.label}\0{row.id}".encode()).digest()
    return "val" if int.from_bytes(digest[:8], "big") < val_fraction * 2**64 else "train"


def _refuse_empty(rows: Sequence[Annotation], splits: Sequence[str]) -> None:
    """Every class must be trained and tested; validation may lack some of many small classes, not all."""
    found = set(zip(splits, (row.label for row in rows), strict=True))
    classes = sorted({row.label for row in rows})
    empty = [f"{split}/{label}" for split in SPLITS for label in classes if (split, label) not in found]
    vital = [name for name in empty if not name.startswith("val/")]
    if vital:
        raise PipelineError(
            f"{len(vital)} split(s) would have no image of a class: {first_few(vital)}. "
            "Every class needs training and test images: add images, or change split.val_fraction."
        )
    if "val" not in splits:
        raise PipelineError("no image would be a validation image. Raise split.val_fraction, or add training images.")
    if empty:
        print(
            f"{len(empty)} class(es) have no validation image: {first_few(empty)}. Raise split.val_fraction for more."
        )


def _copy(rows: Sequence[Annotation], splits: Sequence[str], folder: Path, final: Path) -> Index:
    images = []
    with Progress("split", len(rows), "images") as progress:
        for row, split in zip(rows, splits, strict=True):
            target = folder / split / row.label / row.id
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(row.file, target)
            path = (final / split / row.label / row.id).as_posix()
            votes = "" if row.votes is None else str(row.votes)
            images.append(Image(row.id, path, row.label, split, votes, sha256_file(target)))
            progress.advance(1)
    return Index(images)


def _print_counts(index: Index) -> None:
    counts = Counter((image.split, image.label) for image in index.images)
    width = max(6, *(len(name) for name in index.class_names))
    print(f"{'class':<{width}}" + "".join(f"{split:>8}" for split in SPLITS))
    for name in index.class_names:
        print(f"{name:<{width}}" + "".join(f"{counts[split, name]:>8}" for split in SPLITS))
    print(f"{'all':<{width}}" + "".join(f"{len(index.split(split)):>8}" for split in SPLITS))
