"""Images without a label: rows that lack one, and folders of images that nobody has labelled.

The teacher labels them, and the student alone is trained on them. They are in no other split than the training images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.datasets.folders import IMAGE_EXTENSIONS, files_below
from pipeline.datasets.labelled import Annotation, ids_of, refuse_leaving
from pipeline.runtime.errors import MissingError, UnusableError, all_named
from pipeline.runtime.plain_names import is_plain_name

IF_MEANT = (
    "If they are meant to have none, set split.unlabelled: {rows: true}, and the teacher labels them (docs/guide.md)."
)
"""The end of a message about rows without a label."""


@dataclass(frozen=True)
class Unlabelled:
    """Which images without a label are used.

    Attributes:
        rows: what happens to rows of a table, or images of an array, that lack a label: True uses these images, False
            leaves them out, None refuses them.
        folder: a folder of images without a label, relative to the data set; None is none.
        array: the array of images without a label in an .npz file; None is none.
    """

    rows: bool | None = None
    folder: Path | None = None
    array: str | None = None


USUAL_NAMES = {"unlabelled", "unlabeled"}
"""Usual names, in lower case, of the folder of images without a label."""

NONE_EXPECTED = Unlabelled()
"""Every image has a label."""


def refuse_outside_training(rows: Sequence[Annotation], source: Path) -> None:
    """Refuses images without a label that the data name validation or test images.

    Raises:
        UnusableError: there are some.
    """
    named = [f"{row.id} ({row.partition})" for row in rows if not row.is_labelled and row.partition != "train"]
    if named:
        raise UnusableError(
            f"{source} names {len(named)} validation or test image(s) that have no label: {all_named(named)}. An image "
            "without a label can only be a training image: write their labels, or remove them from these splits."
        )


def used(rows: Sequence[Annotation], unlabelled: Unlabelled) -> tuple[list[Annotation], list[str]]:
    """The rows that are used, and a line that says how many are left out since they lack a label, if any are."""
    kept = [row for row in rows if row.is_labelled or unlabelled.rows]
    left_out = len(rows) - len(kept)
    hint = f"{left_out:,} image(s) without a label are left out, because split.unlabelled.rows is false."
    return kept, [hint] if left_out else []


def read_folder(data: Path, folder: Path | None, rows: Sequence[Annotation]) -> tuple[list[Annotation], list[str]]:
    """Lists the images of a folder of images without a label, at any depth, apart from those that have a row.

    The id of an image is its path, relative to the data set.

    Args:
        data: the folder of the data set.
        folder: the folder, relative to `data`; None is none.
        rows: the images that the data name elsewhere.

    Returns:
        The images, and the names of the folder's other files, relative to the data set.

    Raises:
        MissingError: there is no such folder, or no such image in it.
        UnusableError: a name cannot be used, is that of another image, or belongs to a link that leaves the data set.
    """
    if folder is None:
        return [], []
    place, key = data / folder, "unlabelled.folder"
    if not place.is_dir():
        raise MissingError(f"there is no folder {place}. Put the images there, or correct split.{key}.")
    refuse_leaving(data, place, key)
    known = {row.image for row in rows}
    files = [file for file in files_below(place) if (place / file).as_posix() not in known]
    images = [file for file in files if Path(file).suffix.lower() in IMAGE_EXTENSIONS]
    if not images:
        raise MissingError(
            f"{place} holds no image that the data do not name elsewhere. Expected files such as 1.png or 2.jpg, at "
            f"any depth. Put them there, or correct split.{key}."
        )
    for file in images:
        if (place / file).is_symlink():
            refuse_leaving(data, place / file, key)
    ids = ids_of([(folder / file).as_posix() for file in images])
    taken = {row.id for row in rows}
    bad = [image_id for image_id in ids if image_id in taken or not all(map(is_plain_name, image_id.split("/")))]
    if bad:
        raise UnusableError(
            f"{len(bad)} image(s) of {place} have a name that cannot be used, or that another image of the data has: "
            f"{all_named([*map(repr, bad)])}. Rename them, or split.{key}."
        )
    found = [
        Annotation(image_id, "", "train", None, (place / file).as_posix(), file_name=image_id.replace("/", "__"))
        for image_id, file in zip(ids, images, strict=True)
    ]
    return found, [(folder / file).as_posix() for file in sorted(set(files) - set(images))]
