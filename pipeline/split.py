"""Stage `split`: labelled images are copied into class folders and listed in the index."""

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from pipeline.annotations import Annotation, DataSet
from pipeline.arrays import read_arrays, read_cifar10
from pipeline.artifacts import publish, sha256_file
from pipeline.class_folders import read_folders
from pipeline.errors import PipelineError, first_few
from pipeline.images import refuse_undecodable
from pipeline.index import SPLITS, Image, Index, write_index
from pipeline.progress import Progress
from pipeline.sample_grid import draw_samples
from pipeline.tables import read_csv, read_mhist

LAYOUTS: dict[str, Callable[..., DataSet]] = {
    "mhist": read_mhist,
    "csv": read_csv,
    "folders": read_folders,
    "arrays": read_arrays,
    "cifar10": read_cifar10,
}


def run(*, layout: str, settings: Mapping[str, Any], split_folder: Path, index: Path, picture: Path) -> None:
    """Checks every image, then writes `data/split/<split>/<class>/<image>` and `data/index.csv`.

    Args:
        layout: one of `LAYOUTS`, how images and labels are laid out.
        settings: the arguments of that layout's reader.
        split_folder: where the images go.
        index: the CSV file to write.
        picture: the PNG file of some images with their labels to write.

    Raises:
        PipelineError: the labels or images cannot be used; nothing was written.
    """
    data_set = LAYOUTS[layout](**settings)
    rows = data_set.rows
    splits = [assign_split(row, data_set.drawn) for row in rows]
    _refuse_empty(rows, splits, data_set.drawn)
    refuse_undecodable({row.id: row.image for row in rows if isinstance(row.image, Path)})
    with publish(split_folder) as folder:
        copied = Index(_copy(rows, splits, folder, split_folder), data_set.class_names)
    with publish(index) as partial:
        write_index(partial, copied)
    draw_samples(copied, picture)
    _print_counts(copied)
    print(_origins(data_set.drawn))
    if data_set.left_out:
        names = first_few([repr(name) for name in data_set.left_out])
        print(f"{len(data_set.left_out)} left out, because {data_set.because}: {names}")


def assign_split(row: Annotation, drawn: Mapping[str, float]) -> str:
    """The split of one image, which depends on what it is drawn by and its partition alone.

    What the data name a validation or test image stays one. Of the others, the SHA-256 of `drawn_by` decides, so that
    neither adding images nor correcting a label moves any: its bytes 8 to 15, as a
    number from 0 to 1, make a test image where they lie below the share of "test"; of the rest, its bytes 0
    to 7 make a validation image where they lie below the share of "val".

    Args:
        row: the image.
        drawn: the share, 0 to 1, of each split that the data do not name.
    """
    if row.partition != "train":
        return row.partition
    digest = hashlib.sha256((row.id if row.drawn_by is None else row.drawn_by).encode()).digest()
    for split, number in (("test", digest[8:16]), ("val", digest[:8])):
        if int.from_bytes(number, "big") < drawn.get(split, 0.0) * 2**64:
            return split
    return "train"


def _refuse_empty(rows: Sequence[Annotation], splits: Sequence[str], drawn: Mapping[str, float]) -> None:
    """Every class must be trained and tested; validation may lack some of many small classes, not all."""
    found = set(zip(splits, (row.label for row in rows), strict=True))
    classes = sorted({row.label for row in rows})
    empty = [f"{split}/{label}" for split in SPLITS for label in classes if (split, label) not in found]
    vital = [name for name in empty if not name.startswith("val/")]
    change = "".join(f", or change split.{split}_fraction" for split in drawn)
    if vital:
        raise PipelineError(
            f"{len(vital)} split(s) would have no image of a class: {first_few(vital)}. "
            f"Every class needs training and test images: add images{change}."
        )
    remedy = "Raise split.val_fraction, or add training images" if "val" in drawn else "Add some to the data"
    if "val" not in splits:
        raise PipelineError(f"no image would be a validation image. {remedy}.")
    if empty:
        print(f"{len(empty)} class(es) have no validation image: {first_few(empty)}. {remedy}.")


def _copy(rows: Sequence[Annotation], splits: Sequence[str], folder: Path, final: Path) -> list[Image]:
    images = []
    with Progress("split", len(rows), "images") as progress:
        for row, split in zip(rows, splits, strict=True):
            place = Path(split, row.label, row.id.rpartition("/")[2])
            _write(row.image, folder / place, row.id)
            votes = "" if row.votes is None else str(row.votes)
            sha256 = sha256_file(folder / place)
            images.append(Image(row.id, (final / place).as_posix(), row.label, split, votes, sha256))
            progress.advance(1)
    return images


def _write(image: Any, target: Path, name: str) -> None:
    """Copies an image file, or writes pixels as a PNG file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():  # two names that this file system takes for one
        raise PipelineError(
            f"the image {name} would overwrite another one at {target.name}. "
            "Rename it, or its class: this disk does not tell upper from lower case or between forms of a letter."
        )
    if isinstance(image, Path):
        shutil.copyfile(image, target)
    else:
        target.write_bytes(tf.io.encode_png(image.reshape(*image.shape[:2], -1)).numpy())


def _origins(drawn: Mapping[str, float]) -> str:
    """One line that tells where validation and test images come from."""
    of = {"val": "the training images", "test": "the images that are not named"}
    told = {
        split: f"{drawn[split]:g} of {of[split]}, by a hash of the name" if split in drawn else "as the data say"
        for split in of
    }
    return f"Validation images: {told['val']}. Test images: {told['test']}."


def _print_counts(index: Index) -> None:
    counts = Counter((image.split, image.label) for image in index.images)
    width = max(6, *(len(name) for name in index.class_names))
    print(f"{'class':<{width}}" + "".join(f"{split:>8}" for split in SPLITS))
    for name in index.class_names:
        print(f"{name:<{width}}" + "".join(f"{counts[split, name]:>8}" for split in SPLITS))
    print(f"{'all':<{width}}" + "".join(f"{len(index.split(split)):>8}" for split in SPLITS))
