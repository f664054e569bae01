"""Command `render-views`: writes the views of images, or their transforms, for another program that labels them."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from pipeline.images.decoded_images import DecodedImages
from pipeline.images.index import Image, Index, refuse_changed
from pipeline.images.rendered_views import rendered_views
from pipeline.images.resize import rendering_of
from pipeline.images.tf_data import PARALLEL_CALLS, prefetched
from pipeline.images.unchanged import Unchanged
from pipeline.runtime.csv_rows import csv_row, csv_rows
from pipeline.runtime.errors import MismatchError, quoted
from pipeline.runtime.progress import Progress
from pipeline.runtime.publish import publish
from pipeline.tools.chosen_views import ChosenViews, Rendering, as_arrays, chosen_views

TABLE, ABOUT, TRANSFORMS, PICTURES = "views.csv", "views.json", "transforms.npz", "pictures"
COLUMNS = ("id", "view", "split", "file")


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
    parts = chosen_views(data, images, rendering)
    unchanged = Unchanged([image for part in parts for image in part.sources])
    total = sum(map(rendering.count, images))
    names = [
        _file(number, view, len(images)) for number, image in enumerate(images) for view in _views(image, rendering)
    ]
    with _published(folder, data, rendering, total) as (partial, progress):
        for view in range(max(map(rendering.count, images))):
            (partial / PICTURES / f"view_{view}").mkdir(parents=True)
        with ThreadPoolExecutor(PARALLEL_CALLS) as threads:
            for part in parts:
                files = (partial / names[place] for place in part.places)
                for pixels in prefetched(_rendered(part, rendering)):
                    rounded = np.clip(np.round(pixels.numpy()), 0, 255).astype(np.uint8)
                    [*threads.map(_save, islice(files, len(rounded)), rounded)]  # the list waits, and raises errors
                    progress.advance(len(rounded))
        unchanged.refuse_changed()
        _write_table(partial, images, rendering, names)
    return total


def _rendered(part: ChosenViews, rendering: Rendering) -> Any:
    """A `tf.data.Dataset` of the views of a part, some at a time."""
    paths = [image.path for image in part.images]
    # An image is decoded once for all its views, but the partners of mixed views lie anywhere.
    keep = part.augmentation.mixes and len(part.rows) > len(paths)
    images = DecodedImages(paths, rendering.input_shape, rendering.resize, keep=keep)
    return rendered_views(images, part.numbers, part.rows, part.transforms, part.augmentation)


def _file(number: int, view: int, count: int) -> str:
    """The path of a picture in the folder; an id may hold what no file name may."""
    return f"{PICTURES}/view_{view}/{number:0{len(str(count - 1))}}.png"


def _save(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    PIL.Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(path)


def write_transforms(folder: Path, data: Index, images: Sequence[Image], rendering: Rendering) -> int:
    """Writes the transforms of every view of some images, and the table `views.csv` of the untouched files.

    `transforms.npz` has the arrays of `chosen_views.as_arrays`. Arguments, result and errors as those of
    `write_pictures`.
    """
    parts = chosen_views(data, images, rendering)
    refuse_changed([image for part in parts for image in part.sources])
    total = sum(map(rendering.count, images))
    with _published(folder, data, rendering, total) as (partial, progress):
        np.savez(partial / TRANSFORMS, allow_pickle=False, **as_arrays(parts, rendering.views.augmentation))
        paths = [image.path for image in images for _ in _views(image, rendering)]
        _write_table(partial, images, rendering, paths)
        progress.advance(total)
    return total


@contextmanager
def _published(folder: Path, data: Index, rendering: Rendering, total: int) -> Iterator[tuple[Path, Progress]]:
    """The folder to fill, with `views.json` in it."""
    about = {
        "class_names": data.class_names,
        "rendering": rendering_of(rendering.input_shape, rendering.resize, rendering.views, data),
    }
    with publish(folder) as partial, Progress("render-views", total, "views") as progress:
        partial.mkdir()
        (partial / ABOUT).write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        yield partial, progress


def _views(image: Image, rendering: Rendering) -> range:
    return range(rendering.count(image))


def _write_table(folder: Path, images: Sequence[Image], rendering: Rendering, files: Sequence[str]) -> None:
    rows = ((image.id, view, image.split) for image in images for view in _views(image, rendering))
    with (folder / TABLE).open("x", newline="", encoding="utf-8") as table:
        table.write(csv_row(COLUMNS))
        table.writelines(csv_rows((*row, file) for row, file in zip(rows, files, strict=True)))
