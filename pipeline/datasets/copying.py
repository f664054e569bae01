"""Checks the images of a data set and copies them: each file is read once, and several at a time."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from pipeline.datasets.labelled import Annotation
from pipeline.images.checks import problems_of, refuse_problems
from pipeline.images.index import Image, SplitName
from pipeline.images.places import read_bytes
from pipeline.runtime.digests import sha256_bytes
from pipeline.runtime.errors import UnusableError
from pipeline.runtime.parallel import in_threads
from pipeline.runtime.progress import Progress


def copy_images(rows: Sequence[Annotation], splits: Sequence[SplitName], folder: Path, final: Path) -> list[Image]:
    """Writes a copy of every image file, and a PNG file of every array of pixels; images in shards stay there.

    Args:
        rows: the images.
        splits: the split of each.
        folder: the new folder to write to.
        final: the name that the folder will have.

    Returns:
        The rows of the index, in the order of `rows`.

    Raises:
        UnusableError: image files cannot be used, of which the message names each; or two images have one name.
    """
    places = [_place_of(row, split) for row, split in zip(rows, splits, strict=True)]
    folder.mkdir(parents=True)  # which stays empty if all images lie in shards
    for inner in {place.rpartition("/")[0] for row, place in zip(rows, places, strict=True) if not _stays(row)}:
        (folder / inner).mkdir(parents=True, exist_ok=True)
    problems: dict[str, str] = {}

    def copy(part: Sequence[tuple[Annotation, str]]) -> list[str]:
        digests = []

        def contents() -> Iterator[bytes]:
            for row, place in part:
                content = read_bytes(row.image) if isinstance(row.image, Path | str) else _png(row.image)
                digests.append(sha256_bytes(content))
                if not (problems or _stays(row)):  # with a problem copies are of no use: the others are only checked
                    _write(content, folder / place, row.id)
                if _is_file(row):
                    yield content

        files = [row.id for row, _ in part if _is_file(row)]
        found = zip(files, problems_of(contents()), strict=True)
        problems.update({name: problem for name, problem in found if problem})
        return digests

    with Progress("split", len(rows), "images") as progress:
        digests = list(progress.counted(in_threads(copy, zip(rows, places, strict=True))))
        in_order = {row.id: problems[row.id] for row in rows if row.id in problems}
        refuse_problems(in_order, sum(map(_is_file, rows)))
    above = final.as_posix()
    return [
        Image(row.id, str(row.image) if _stays(row) else f"{above}/{place}", row.class_name, split, _votes(row), sha256)
        for row, split, place, sha256 in zip(rows, splits, places, digests, strict=True)
    ]


def _is_file(row: Annotation) -> bool:
    """Whether the image is encoded as in a file, which may lie in a shard, and no array of pixels."""
    return isinstance(row.image, Path | str)


def _stays(row: Annotation) -> bool:
    """Whether the image lies in a shard, from which it is read in place."""
    return isinstance(row.image, str)


def _place_of(row: Annotation, split: SplitName) -> str:
    """Where the copy lies in `data/split`, with forward slashes."""
    # Not below data/split/train, where a class may have any name, and other programs look for classes.
    folder = f"{split}/{row.class_name}" if row.is_labelled else "unlabelled"
    return f"{folder}/{row.file_name or row.id.rpartition('/')[2]}"


def _votes(row: Annotation) -> str:
    return "" if row.votes is None else str(row.votes)


def _png(pixels: Any) -> bytes:
    """A PNG file of (H, W), (H, W, 1) or (H, W, 3) uint8 pixels."""
    content: bytes = tf.io.encode_png(pixels.reshape(*pixels.shape[:2], -1)).numpy()
    return content


def _write(content: bytes, target: Path, name: str) -> None:
    try:
        with target.open("xb") as file:
            file.write(content)
    except FileExistsError:  # this file system takes two names for one
        raise UnusableError(
            f"the image {name} would overwrite another one at {target.name}. Rename it, or its class: this disk takes "
            "upper and lower case, or two Unicode forms of a letter, for the same name."
        ) from None
