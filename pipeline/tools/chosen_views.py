"""The views that `render-views` writes: of which images, and what is drawn for them."""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.images.augmentation import Augmentation
from pipeline.images.index import SPLITS, Image, Index, SplitName
from pipeline.images.resize import Resize
from pipeline.images.transforms import FIELD_OF, NOT_MIXED, OWN_PICTURE, Transforms
from pipeline.images.views import Views
from pipeline.runtime.errors import MismatchError, MissingError, UnusableError, all_named, nearest
from pipeline.runtime.text_files import read_text
from pipeline.soft_labels.layout import transform_columns

Ints = npt.NDArray[np.intp]


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
    text = read_text(path, "Write it again in UTF-8.", "table_bytes")
    return (unicodedata.normalize("NFC", line) for line in text.split("\n") if line)


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


@dataclass(frozen=True)
class ChosenViews:
    """All views of the chosen images of one split.

    Attributes:
        images: N images: the chosen ones, and those that may be mixed into them.
        augmentation: of the views.
        transforms: (V, N, ...) of V views of each.
        places: (R,) the rows of `views.csv`, from 0.
        rows: (R,) row numbers among the N images, ascending.
        numbers: (R,) numbers of the views.
    """

    images: Sequence[Image]
    augmentation: Augmentation
    transforms: Transforms
    places: Ints
    rows: Ints
    numbers: Ints

    @property
    def sources(self) -> list[Image]:
        """The images that the views show."""
        return [self.images[row] for row in np.union1d(self.rows, self.only_mixed_in()[1])]

    def only_mixed_in(self) -> tuple[Ints, Ints]:
        """The pictures that are mixed into the R views and are none of their own: numbers of views, and rows."""
        count, partner = len(self.images), self.transforms.partner[self.numbers, self.rows]
        is_mixed = partner != NOT_MIXED
        mixed_in = self.numbers[is_mixed] * count + partner[is_mixed]
        return np.divmod(np.setdiff1d(mixed_in, self.numbers * count + self.rows), count)


def chosen_views(data: Index, images: Sequence[Image], rendering: Rendering) -> list[ChosenViews]:
    """All views of some images of the index, by split; `views.csv` has them image by image."""
    counts = np.array([rendering.count(image) for image in images])
    first, parts = np.cumsum(counts) - counts, []
    for split in SPLITS:
        of_split = [image for image in images if image.split == split]
        if not of_split:
            continue
        views, begin = rendering.views.of_split(split), first[[image.split == split for image in images]]
        pool = data.split(split) if views.augmentation.mixes else of_split
        ids, labelled = [image.id for image in pool], np.array([image.is_labelled for image in pool])
        row_of = {image_id: row for row, image_id in enumerate(ids)}
        rows, numbers = np.array([row_of[image.id] for image in of_split]), np.arange(views.count)
        drawn = [views.sample(ids, number, labelled)[None] for number in range(views.count)]
        parts.append(
            ChosenViews(
                images=pool,
                augmentation=views.augmentation,
                transforms=Transforms.joined(drawn),
                places=(begin[:, None] + numbers).ravel(),
                rows=np.repeat(rows, views.count),
                numbers=np.tile(numbers, len(rows)),
            )
        )
    return parts


def as_arrays(parts: Sequence[ChosenViews], augmentation: Augmentation) -> dict[str, npt.NDArray[Any]]:
    """What `transforms.npz` holds: a row for each of the views, and behind them one for each `only_mixed_in`.

    Args:
        parts: the views.
        augmentation: of the training images; transforms that it never uses are left out.

    Returns:
        `ids`, `views`, and transforms by the names of docs/format.md: `affine`, `color`, and others that may occur. A
        `partner` is a row of these arrays; with partners, `files` has the untouched file of each row.
    """
    count = sum(len(part.places) for part in parts)
    shown, placed = dict[int, tuple[Image, int]](), []
    for part in parts:
        numbers, rows = part.only_mixed_in()
        places = np.arange(count, count := count + len(rows))
        placed.append(_placed(part, places, numbers, rows))
        for place, row, number in zip(placed[-1][0], [*part.rows, *rows], [*part.numbers, *numbers], strict=True):
            shown[place] = part.images[row], number
    arrays = _unchanged(count, augmentation)
    for places, transforms in placed:
        for name, values in arrays.items():
            of_part = getattr(transforms, FIELD_OF[name])
            if of_part.shape[1:] == values.shape[1:]:  # untouched images have no places for operations
                values[places] = of_part
    images, views = zip(*(shown[place] for place in range(count)), strict=True)
    named = {"ids": np.array([image.id for image in images]), "views": np.array(views)}
    if augmentation.mixes:
        named["files"] = np.array([image.path for image in images])
    return named | arrays


def _placed(part: ChosenViews, places: Ints, numbers: Ints, rows: Ints) -> tuple[Ints, Transforms]:
    """The places and transforms of a part's views, and of the pictures that are only mixed in."""
    place_of = np.full(part.transforms.partner.shape, NOT_MIXED, np.int32)
    place_of[part.numbers, part.rows], place_of[numbers, rows] = part.places, places
    own, others = part.transforms[part.numbers, part.rows], part.transforms[numbers, rows]
    partner = np.where(own.partner == NOT_MIXED, NOT_MIXED, place_of[part.numbers, own.partner])
    alone = Transforms.of(rows.shape, **{name: getattr(others, name) for name in OWN_PICTURE})
    return np.concatenate([part.places, places]), Transforms.joined([replace(own, partner=partner), alone])


def _unchanged(count: int, augmentation: Augmentation) -> dict[str, npt.NDArray[Any]]:
    """Arrays of transforms that change nothing, by their names."""
    operations = 0 if augmentation.operations is None else augmentation.operations.count
    places = np.zeros((count, operations), np.uint8)
    nothing = Transforms.of((count,), operation=places, strength=places.astype(np.float16))
    names = dict.fromkeys(["affine", "color", *transform_columns(augmentation)])
    return {name: getattr(nothing, FIELD_OF[name]).copy() for name in names}
