"""Command `render-views`: writes the views of images, or their transforms, for another program that labels them."""

import csv
import json
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from pipeline.images.decoded_images import DecodedImages
from pipeline.images.index import SPLITS, Image, Index, SplitName, refuse_changed
from pipeline.images.rendering import render
from pipeline.images.resize import Resize, rendering_of
from pipeline.images.tf_data import PARALLEL_CALLS
from pipeline.images.views import Views
from pipeline.runtime.errors import DamagedError, MismatchError, MissingError, UnusableError, all_named, nearest, quoted
from pipeline.runtime.progress import Progress
from pipeline.runtime.publish import publish

TABLE, ABOUT, TRANSFORMS, PICTURES = "views.csv", "views.json", "transforms.npz", "pictures"
COLUMNS = ("id", "view", "split", "file")

BATCH = 32
"""How many images are rendered in one step."""


@dataclass(frozen=True)
class Rendering:
    """How views are rendered.

    Attributes:
        input_shape: (height, width, channels) in pixels.
        resize: how images are brought to that size.
        views: the views of training images; all others are untouched.
    """

    input_shape: tuple[int, int, int]
    resize: Resize
    views: Views

    def count(self, image: Image) -> int:
        """V, the number of the image's views."""
        return self.views.of_split(image.split).count


def chosen(data: Index, splits: Sequence[SplitName], ids: Path | None) -> list[Image]:
    """The images of some splits, or those that a file names, in the order of their ids.

    Args:
        data: the index.
        splits: the splits.
        ids: a text file in UTF-8 with an id in each line; None takes the whole splits.

    Raises:
        MissingError: there is no such file.
        DamagedError: it is no text.
        UnusableError: it names no image.
        MismatchError: it names images that the index has not.
    """
    if ids is None:
        return [image for image in data.images if image.split in splits]
    named = set(_lines(ids))
    if not named:
        raise UnusableError(f"{ids} names no image. Expected the id of an image in each line, as in data/index.csv.")
    known = {image.id for image in data.images}
    if unknown := sorted(named - known):
        near = nearest(unknown[0], known)
        raise MismatchError(
            f"{ids} names {len(unknown)} image(s) that the index has not: {all_named([*map(repr, unknown)])}. "
            + (f"Did you mean {near!r} by {unknown[0]!r}? " if near else "")
            + "Write ids as data/index.csv has them."
        )
    return [image for image in data.images if image.id in named]


def _lines(path: Path) -> Iterator[str]:
    if not path.is_file():
        raise MissingError(f"there is no file {path}. Write the id of an image in each of its lines.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DamagedError(f"{path} is no text in UTF-8: {error}. Write it again in UTF-8.") from None
    return (unicodedata.normalize("NFC", line) for line in text.split("\n") if line)


def refuse_taken(folder: Path, replace: bool) -> None:
    """Refuses a folder with content, unless the content is this command's own and shall be replaced.

    Raises:
        MismatchError: `folder` is a file, or would be replaced although it holds files of others, or without a wish.
    """
    if folder.exists() and not folder.is_dir():
        raise MismatchError(f"{folder} is a file; expected a new folder. Name another.")
    held = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    if others := [name for name in held if name not in (TABLE, ABOUT, TRANSFORMS, PICTURES)]:
        raise MismatchError(
            f"{folder} holds files of others: {quoted(others)}. Name another folder, or move them away."
        )
    if held and not replace:
        raise MismatchError(f"{folder} holds views already. Replace them with --force, or name another folder.")


def write_pictures(folder: Path, data: Index, images: Sequence[Image], rendering: Rendering) -> int:
    """Writes every view of some images as a PNG file, and the table `views.csv` of these files.

    PNG holds whole numbers: the values of a rendered view, 0 to 255, are rounded to the nearest. An untouched image is
    what models see, exactly.

    Args:
        folder: the folder to write; it is replaced.
        data: the index.
        images: the images, some of the index.
        rendering: how their views are rendered.

    Returns:
        The number of views.

    Raises:
        MismatchError: an image file is missing or changed.
    """
    refuse_changed(images)
    total = sum(map(rendering.count, images))
    with _published(folder, data, images, rendering, total) as (partial, progress):
        for view in range(max(map(rendering.count, images))):
            (partial / PICTURES / f"view_{view}").mkdir(parents=True)
        with ThreadPoolExecutor(PARALLEL_CALLS) as threads:
            for files, pixels in _rendered(images, rendering):
                [*threads.map(_save, (partial / file for file in files), pixels)]  # the list waits, and raises errors
                progress.advance(len(files))
        _write_table(partial, images, rendering, pictures=True)
    return total


def _rendered(images: Sequence[Image], rendering: Rendering) -> Iterator[tuple[list[str], npt.NDArray[np.uint8]]]:
    """One view of a batch of images at a time: the names of B files and (B, height, width, channels) pixels."""
    for split in SPLITS:
        part = [(number, image) for number, image in enumerate(images) if image.split == split]
        if not part:
            continue
        views = rendering.views.of_split(split)
        paths = [image.path for _, image in part]
        decoded = DecodedImages(paths, rendering.input_shape, rendering.resize, keep=False).decoded()
        for start, pixels in zip(range(0, len(part), BATCH), decoded.batch(BATCH), strict=True):
            rows = part[start : start + BATCH]
            for view in range(views.count):
                transforms = views.sample([image.id for _, image in rows], view)
                values: Any = render(pixels, transforms, views.augmentation)
                names = [_file(number, view, len(images)) for number, _ in rows]
                yield names, np.clip(np.round(values.numpy()), 0, 255).astype(np.uint8)


def _file(number: int, view: int, count: int) -> str:
    """The path of a picture in the folder; an id may hold what no file name may."""
    return f"{PICTURES}/view_{view}/{number:0{len(str(count - 1))}}.png"


def _save(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    PIL.Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(path)


def write_transforms(folder: Path, data: Index, images: Sequence[Image], rendering: Rendering) -> int:
    """Writes the transforms of every view of some images, and the table `views.csv` of the untouched files.

    `transforms.npz` has `affine` and `color`, (R, 6) float16 each (docs/format.md), a row for each of the table, whose
    names it repeats in `ids` and `views`. Arguments, result and errors as those of `write_pictures`.
    """
    refuse_changed(images)
    total = sum(map(rendering.count, images))
    with _published(folder, data, images, rendering, total) as (partial, progress):
        affines, colors = np.empty((total, 6), np.float16), np.empty((total, 6), np.float16)
        for row, (image, view) in enumerate(_views(images, rendering)):
            transforms = rendering.views.of_split(image.split).sample([image.id], view)
            affines[row], colors[row] = transforms.affine[0], transforms.color[0]
            progress.advance(1)
        ids, numbers = zip(*((image.id, view) for image, view in _views(images, rendering)), strict=True)
        np.savez(partial / TRANSFORMS, ids=np.array(ids), views=np.array(numbers), affine=affines, color=colors)
        _write_table(partial, images, rendering, pictures=False)
    return total


@contextmanager
def _published(
    folder: Path, data: Index, images: Sequence[Image], rendering: Rendering, total: int
) -> Iterator[tuple[Path, Progress]]:
    """The folder to fill, with `views.json` in it."""
    about = {
        "class_names": data.class_names,
        "rendering": rendering_of(rendering.input_shape, rendering.resize, rendering.views, data),
    }
    with publish(folder) as partial, Progress("render-views", total, "views") as progress:
        partial.mkdir()
        (partial / ABOUT).write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        yield partial, progress


def _views(images: Iterable[Image], rendering: Rendering) -> Iterator[tuple[Image, int]]:
    return ((image, view) for image in images for view in range(rendering.count(image)))


def _write_table(folder: Path, images: Sequence[Image], rendering: Rendering, *, pictures: bool) -> None:
    numbers = {image.id: number for number, image in enumerate(images)}
    with (folder / TABLE).open("x", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for image, view in _views(images, rendering):
            path = _file(numbers[image.id], view, len(images)) if pictures else image.path
            writer.writerow((image.id, view, image.split, path))
