"""The pictures behind the rows of a soft-label file: an untouched image, and its views as the teacher saw them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from pipeline.images.augmentation import Augmentation
from pipeline.images.decoded_images import DecodedImages
from pipeline.images.image_files import read_original
from pipeline.images.index import Image, Index, SplitName, refuse_changed
from pipeline.images.rendering import render, render_pictures
from pipeline.images.resize import DEFAULT_RESIZE, Resize
from pipeline.images.transforms import Pictures
from pipeline.report.style import Pixels
from pipeline.runtime.errors import MismatchError
from pipeline.soft_labels.reading import SoftLabelFile

SMALLEST_SIDE = 160
"""Pixels; smaller images are enlarged, since people could not see what they show."""


@dataclass(frozen=True)
class Partner:
    """What is mixed into a view.

    Attributes:
        row: the row of the partner in the file.
        image_id: its id.
        share: its share of the hard label, 0 to 1.
        pixels: its own picture in the view of the same number, (height, width, channels), values 0 to 255.
    """

    row: int
    image_id: str
    share: float
    pixels: Pixels


@dataclass(frozen=True)
class SeenView:
    """A view as the teacher saw it: pixels (height, width, channels), values 0 to 255, and what is mixed into it."""

    pixels: Pixels
    partner: Partner | None


def untouched_and_views(
    file: SoftLabelFile, index: Index, split: SplitName, row: int, count: int
) -> tuple[Pixels, list[SeenView]]:
    """One image and its first views, in the teacher's input size, or its own if that is not known, or a multiple.

    Args:
        file: a soft-label file of either format.
        index: the data set, which knows the path of the image.
        split: the split of the image.
        row: the row of the image in the file.
        count: V, the number of views.

    Returns:
        The image (height, width, channels), values 0 to 255, and its views.

    Raises:
        MismatchError: the image, or one that is mixed into it, is not the one from which the file was made.
    """

    @cache
    def image_of(number: int) -> Image:
        return _image(index, file, split, slice(number, number + 1))

    preprocessing, augmentation, repeats = file.provenance.preprocessing, file.views(split).augmentation, 1
    if preprocessing is None:  # the teacher is no model of this program: the image is shown in its own size
        (height, width, channels), resize = read_original(image_of(row).path).shape, DEFAULT_RESIZE
    else:
        (height, width, channels), resize = preprocessing["input_shape"], Resize.of_file(preprocessing)
    scale = max(1, -(-SMALLEST_SIDE // min(height, width)))
    if augmentation.operations is not None:  # some look at the neighbours in the teacher's own size
        scale, repeats = 1, scale
    shown = (height * scale, width * scale, channels)
    views = []
    for view in range(count):
        pictures = Pictures.of(file.transforms(split, view), np.array([row]))
        paths = [image_of(int(number)).path for number in pictures.rows]
        pixels = DecodedImages(paths, shown, resize, keep=False).rows(np.arange(len(paths))).numpy()
        seen, partner = (_as_pixels(values, repeats) for values in _rendered(pixels, pictures, augmentation))
        views.append(SeenView(seen, _partner(pictures, image_of, partner)))
    untouched = DecodedImages([image_of(row).path], shown, resize, keep=False).rows([0])[0]
    return _as_pixels(untouched, repeats), views


def _rendered(pixels: Any, pictures: Pictures, augmentation: Augmentation) -> tuple[Any, Any]:
    """One view, and the last of its pictures alone: that of its partner, if it is mixed."""
    place, *arrays = pictures.arrays(augmentation)
    alone = render(pixels[-1:], pictures.transforms[-1:], augmentation)
    return render_pictures(pixels, place, augmentation, *arrays)[0], alone[0]


def _partner(pictures: Pictures, image_of: Callable[[int], Image], pixels: Pixels) -> Partner | None:
    if len(pictures.rows) == 1:
        return None
    row = int(pictures.rows[1])
    return Partner(row, image_of(row).id, 1.0 - float(pictures.transforms.own_share[0]), pixels)


def _as_pixels(values: Any, repeats: int) -> Pixels:
    rounded = np.clip(np.round(np.asarray(values)), 0, 255).astype(np.uint8)
    return rounded.repeat(repeats, axis=0).repeat(repeats, axis=1)


def _image(index: Index, file: SoftLabelFile, split: SplitName, row: slice) -> Image:
    """The image of one row; refused if the content of its file is not what the teacher saw."""
    (image_id,), (content,) = file.ids(split, row), file.image_sha256(split, row)
    image = index.find(image_id)
    if image is None or image.sha256 != content:
        raise MismatchError(
            f"the index knows no image {image_id!r} with the content that {file.path} was made from. "
            f"Bring it up to date with `dvc repro {file.stage}`."
        )
    refuse_changed([image])
    return image
