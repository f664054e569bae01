"""Checks the images of a data set and copies them: each file is read once, and several at a time."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import tensorflow as tf

from pipeline.datasets.labelled import Annotation
from pipeline.images.checks import problems_of, refuse_problems
from pipeline.images.index import Image, SplitName
from pipeline.images.places import file_of, is_in_shard, read_bytes, reading_order
from pipeline.runtime.digests import sha256_bytes
from pipeline.runtime.errors import UnusableError
from pipeline.runtime.parallel import in_threads
from pipeline.runtime.progress import Progress
from pipeline.runtime.seen_files import Seen, opened_record, settled_state_of

Pair = tuple[Annotation, SplitName]


def take_images(
    rows: list[Annotation], splits: Sequence[SplitName], folder: Path, final: Path, copy: bool = True
) -> list[Image]:
    """Writes a copy of every image file, and a PNG file of every array of pixels; images in shards stay there.

    Args:
        rows: the images; the list is emptied, so that memory need not hold them and the rows of the index.
        splits: the split of each.
        folder: the new folder to write to.
        final: the name that the folder will have.
        copy: whether image files are copied; else they stay where they are, too.

    Returns:
        The rows of the index, in the order of `rows`.

    Raises:
        UnusableError: image files cannot be used, of which the message names each; or two images have one name.
    """
    order = reading_order(row.image for row in rows)
    files = sum(_is_file(row.image) for row in rows)
    taking = _Taking(folder, final, copy)
    taking.make_folders(zip(rows, splits, strict=True))
    images: list[Any] = [None] * len(rows)
    waiting = [rows[number] for number in order[::-1]]
    rows.clear()
    with Progress("split", len(images), "images") as progress, opened_record() as record:
        taken = in_threads(taking.take, ((waiting.pop(), splits[number]) for number in order))
        for number, (image, seen) in zip(order, progress.counted(taken), strict=True):
            images[number] = image
            if seen is not None:
                record.note([seen])
        problems = {image.id: taking.problems[image.id] for image in images if image.id in taking.problems}
        refuse_problems(problems, files)
    return images


def place_of(row: Annotation, split: SplitName) -> str:
    """Where the copy lies in `data/split`, or the link in the folder of links, with forward slashes."""
    # Not below data/split/train, where a class may have any name, and other programs look for classes.
    folder = f"{split}/{row.class_name}" if row.is_labelled else "unlabelled"
    return f"{folder}/{row.file_name or row.id.rpartition('/')[2]}"


class _Taking:
    """What several threads do with the images of one data set; the arguments are those of `take_images`."""

    def __init__(self, folder: Path, final: Path, copy: bool) -> None:
        self._folder, self._final, self._copies_files = folder, final.as_posix(), copy
        self.problems: dict[str, str] = {}

    def make_folders(self, pairs: Iterable[Pair]) -> None:
        """Makes every folder that gets an image."""
        self._folder.mkdir(parents=True)  # which stays empty if all images stay where they are
        written = (place_of(row, split) for row, split in pairs if not self._stays(row))
        for inner in {place.rpartition("/")[0] for place in written}:
            (self._folder / inner).mkdir(parents=True, exist_ok=True)

    def take(self, part: Sequence[Pair]) -> list[tuple[Image, Seen | None]]:
        """Writes and checks some images; returns the row of the index of each, and of those that stay what was seen."""
        taken: list[tuple[Image, Seen | None]] = []

        def contents() -> Iterator[bytes]:
            for row, split in part:
                if not _is_file(row.image):
                    taken.append((self._image(row, split, _png(row.image)), None))
                    continue
                state = settled_state_of(file_of(row.image)) if self._stays(row) else None
                content = read_bytes(row.image)
                image = self._image(row, split, content)
                taken.append((image, Seen(image.path, state, image.sha256) if self._stays(row) else None))
                yield content

        files = [row.id for row, _ in part if _is_file(row.image)]
        found = zip(files, problems_of(contents()), strict=True)
        self.problems.update({name: problem for name, problem in found if problem})
        return taken

    def _image(self, row: Annotation, split: SplitName, content: bytes) -> Image:
        place = place_of(row, split)
        path = str(row.image) if self._stays(row) else f"{self._final}/{place}"
        if not (self.problems or self._stays(row)):  # with a problem, copies are of no use: the others are only checked
            _write(content, self._folder / place, row.id)
        votes = "" if row.votes is None else str(row.votes)
        return Image(row.id, path, row.class_name, split, votes, sha256_bytes(content))

    def _stays(self, row: Annotation) -> bool:
        """Whether the image is read where it lies."""
        return _is_file(row.image) and (not self._copies_files or is_in_shard(row.image))


def _is_file(image: Any) -> TypeGuard[str]:
    """Whether an image is encoded as in a file, which may lie in a shard, and no array of pixels."""
    return isinstance(image, str)


def _png(pixels: Any) -> bytes:
    """A PNG file of (H, W), (H, W, 1) or (H, W, 3) uint8 pixels."""
    content: bytes = tf.io.encode_png(pixels.reshape(*pixels.shape[:2], -1)).numpy()
    return content


def _write(content: bytes, target: Path, name: str) -> None:
    try:
        with target.open("xb") as file:
            file.write(content)
    except FileExistsError:
        raise taken_twice(name, target) from None


def taken_twice(name: str, target: Path) -> UnusableError:
    """The error where this file system takes the names of two images for one."""
    return UnusableError(
        f"the image {name} would overwrite another one at {target.name}. Rename it, or its class: this disk takes "
        "upper and lower case, or two Unicode forms of a letter, for the same name."
    )
