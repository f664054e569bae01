"""The transforms of views: one container from sampling to the file, and from the file to the pixels."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from pipeline.images.augmentation import Augmentation
from pipeline.images.one_hot import OneHot

Ints = npt.NDArray[np.integer[Any]]
Floats32 = npt.NDArray[np.float32]
Arrays = tuple[npt.NDArray[Any], ...]

IDENTITY = np.array([1, 0, 0, 0, 1, 0], np.float16)
SAME_COLOR = np.array([1, 1, 1, 0, 0, 0], np.float16)
NO_BOX = np.zeros(4, np.float16)
NOT_MIXED = -1
OWN_PICTURE = ("affine", "color", "operation", "strength", "erased")
"""The transforms that make a picture of one image; the others mix two pictures."""


@dataclass(frozen=True)
class Transforms:
    """The transforms of many views; `docs/format.md` has their meaning. An index chooses views.

    Attributes:
        affine: (..., 6) float16.
        color: (..., 6) float16.
        operation: (..., K) uint8.
        strength: (..., K) float16.
        erased: (..., 4) float16.
        partner: (...) int32, the row of the image that is mixed in, or `NOT_MIXED`.
        own_share: (...) float16, the dataset `lambda`.
        box: (..., 4) float16.
    """

    affine: Any
    color: Any
    operation: Any
    strength: Any
    erased: Any
    partner: Any
    own_share: Any
    box: Any

    @classmethod
    def of(cls, shape: tuple[int, ...], **stored: npt.NDArray[Any]) -> Self:
        """Transforms of some shape; those that are not `stored` change nothing, and take no memory."""
        operations = stored["operation"].shape[-1] if "operation" in stored else 0
        nothing: dict[str, npt.NDArray[Any]] = {
            "affine": IDENTITY,
            "color": SAME_COLOR,
            "operation": np.zeros(operations, np.uint8),
            "strength": np.zeros(operations, np.float16),
            "erased": NO_BOX,
            "partner": np.array(NOT_MIXED, np.int32),
            "own_share": np.array(1, np.float16),
            "box": NO_BOX,
        }
        unchanged = {name: np.broadcast_to(value, shape + value.shape) for name, value in nothing.items()}
        return cls(**unchanged | stored)

    @classmethod
    def joined(cls, parts: Sequence["Transforms"]) -> Self:
        """The transforms of several parts, one after another along the first axis."""
        if len(parts) == 1:
            return cls(**vars(parts[0]))
        return cls(*(_joined([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    def __len__(self) -> int:
        """The length of the first axis."""
        return len(self.affine)

    def __getitem__(self, index: Any) -> "Transforms":
        """The transforms of the views at an index of NumPy."""
        return Transforms(*(getattr(self, field.name)[index] for field in fields(self)))

    def equal(self, other: "Transforms") -> npt.NDArray[np.bool_]:
        """Whether each view has the same transforms, partner and mixing in `other`: (...) booleans."""
        same = (self.partner == other.partner) & (self.own_share == other.own_share)
        return np.asarray(same & (self.box == other.box).all(-1) & self.equal_pictures(other))

    def equal_pictures(self, other: "Transforms") -> npt.NDArray[np.bool_]:
        """Whether each view shows its own image as `other` does, before it is mixed: (...) booleans."""
        most = max(self.operation.shape[-1], other.operation.shape[-1])
        first, second = self._with_operations(most), other._with_operations(most)
        same = [(getattr(first, name) == getattr(second, name)).all(-1) for name in OWN_PICTURE]
        return np.asarray(np.logical_and.reduce(same))

    def _with_operations(self, count: int) -> "Transforms":
        missing = count - self.operation.shape[-1]
        if not missing:
            return self
        widths = [(0, 0)] * (self.operation.ndim - 1) + [(0, missing)]
        wider = {name: np.pad(getattr(self, name), widths) for name in ("operation", "strength")}
        return Transforms(**vars(self) | wider)


def _joined(arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Arrays one after another; rows of one value that take no memory take none in the result either."""
    first = arrays[0]
    if all(len(rows) and rows.strides[0] == 0 and np.array_equal(rows[0], first[0]) for rows in arrays):
        return np.broadcast_to(first[0], (sum(map(len, arrays)), *first.shape[1:]))
    return np.concatenate(arrays)


FIELD_OF = {field.name if field.name != "own_share" else "lambda": field.name for field in fields(Transforms)}
"""The field of `Transforms` that holds each dataset of a soft-label file."""


def rendered_fields(augmentation: Augmentation) -> list[str]:
    """The transforms that may change the pixels of a view, in the order of `Transforms`."""
    uses = {
        "affine": augmentation.moves,
        "color": augmentation.recolors,
        "operation": augmentation.operations is not None,
        "strength": augmentation.operations is not None,
        "erased": augmentation.erasing is not None,
        "own_share": augmentation.mixes,
        "box": augmentation.cutmix is not None,
    }
    return [name for name, is_used in uses.items() if is_used]


@dataclass(frozen=True)
class Pictures:
    """The pictures from which R views are made: one of each view's image, then one of each partner.

    Attributes:
        rows: (P,) rows of the images.
        transforms: of the P pictures.
        partner: (R,) the place among the pictures of each view's partner; its own place if it is not mixed.
    """

    rows: Ints
    transforms: Transforms
    partner: Ints

    @classmethod
    def of(cls, transforms: Transforms, rows: Ints, views: Ints | None = None) -> Self:
        """The pictures of some views.

        Args:
            transforms: (V, N, ...) of all views of all images; (N, ...) without `views`.
            rows: (R,) row numbers of images.
            views: (R,) numbers of views.
        """
        own = transforms[rows if views is None else (views, rows)]
        mixed, place = np.flatnonzero(own.partner != NOT_MIXED), np.arange(len(rows))
        if not len(mixed):
            return cls(rows, own, place)
        partners = own.partner[mixed].astype(rows.dtype)
        place[mixed] = len(rows) + np.arange(len(mixed))
        of_partners = transforms[partners if views is None else (views[mixed], partners)]
        return cls(np.concatenate([rows, partners]), Transforms.joined([own, of_partners]), place)

    def arrays(self, augmentation: Augmentation) -> Arrays:
        """What `rendering.render_pictures` takes beside the pixels: `partner`, then the transforms as float32."""
        used = (getattr(self.transforms, name) for name in rendered_fields(augmentation))
        return self.partner.astype(np.int64), *(values.astype(np.float32) for values in used)


def mixed_labels(one_hot: OneHot | Floats32, transforms: Transforms, rows: Ints) -> Floats32:
    """The hard labels of some views: l y + (1 - l) y_partner, where l is `own_share`.

    Args:
        one_hot: (N, C) labels of the images.
        transforms: (N, ...) of one view of all images.
        rows: (R,) row numbers of images.

    Returns:
        (R, C) float32.
    """
    own, partner = one_hot[rows], transforms.partner[rows]
    if (partner == NOT_MIXED).all():
        return own
    share: Floats32 = transforms.own_share[rows].astype(np.float32)[:, None]
    return share * own + (1 - share) * one_hot[np.where(partner == NOT_MIXED, rows, partner)]
