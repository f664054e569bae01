"""Blocks of views, each of which a worker can label without the index."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pipeline.images.augmentation import Augmentation
from pipeline.images.transforms import NOT_MIXED, Transforms

Ints = npt.NDArray[np.intp]

MOST_BATCHES = 16
"""A block has at most this many batches: a lost worker loses few of them, and an answer is worth its way."""

MOST_BYTES = 16 * 2**20
"""The logits of a block take at most this much memory, or those of one batch if that is more."""

SHARES = 4
"""A block has at most the 4th part of what is left for each worker, so that all workers end at about the same time
(Polychronopoulos and Kuck, 1987)."""


@dataclass(frozen=True)
class Block:
    """R views of N images.

    Attributes:
        paths: the places of the N images: those of the views, and those that are mixed in.
        views: (R,) numbers of the views in `transforms`.
        rows: (R,) numbers of their images among the N, ascending.
        transforms: (V, N, ...), of those views that the block needs.
        augmentation: as in `rendering.render_pictures`.
    """

    paths: tuple[str, ...]
    views: Ints
    rows: Ints
    transforms: Transforms
    augmentation: Augmentation


def cuts(count: int, batch: int, classes: int, workers: Callable[[], int]) -> Iterator[slice]:
    """Where blocks begin and end among R views; each but the last one consists of whole batches.

    Args:
        count: R.
        batch: views in a batch.
        classes: C.
        workers: how many workers there are at the moment.
    """
    most = max(1, min(MOST_BATCHES, MOST_BYTES // (batch * classes * 4)))
    start = 0
    while start < count:
        batches = min(most, max(1, (count - start) // (batch * workers() * SHARES)))
        yield slice(start, min(start + batches * batch, count))
        start += batches * batch


def block_of(paths: list[str], transforms: Transforms, augmentation: Augmentation, views: Ints, rows: Ints) -> Block:
    """The block of R views, whose numbers and ascending rows are (R,) each.

    Args:
        paths: the places of all images of the split.
        transforms: those of all views of the split, (V, N, ...).
        augmentation: that of the views.
        views: (R,) numbers.
        rows: (R,) rows.
    """
    partners = transforms.partner[views, rows]
    images = np.unique(np.concatenate([rows, partners[partners != NOT_MIXED]]))
    numbers = np.unique(views)
    chosen = transforms[np.ix_(numbers, images)]
    place = np.searchsorted(images, chosen.partner).clip(max=len(images) - 1)
    # A view that the block does not show may mix in an image that the block does not have.
    partner = np.where(images[place] == chosen.partner, place, NOT_MIXED).astype(np.int32)
    return Block(
        tuple(paths[image] for image in images),
        np.searchsorted(numbers, views),
        np.searchsorted(images, rows),
        replace(chosen, partner=partner),
        augmentation,
    )
