"""What gives the logits of a view: a model that sees the picture, or a teacher's stored answers."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pipeline.images.augmentation import Augmentation
from pipeline.images.decoded_images import DecodedImages
from pipeline.images.index import Index, SplitName
from pipeline.images.resize import Resize
from pipeline.images.transforms import Transforms
from pipeline.inference.forward import Forward, Ints
from pipeline.models.ensembles import Teacher
from pipeline.models.stored_answers import StoredAnswers
from pipeline.runtime.kept_files import MEMORY_SHARE
from pipeline.soft_labels.reading import Rows

STORED_AT_ONCE = 1024
"""Rows of stored answers that are read at a time."""


@dataclass(frozen=True)
class SplitOfViews:
    """The images of one split, and the transforms of their views as the file stores them: (V, N, ...)."""

    name: SplitName
    rows: Rows
    augmentation: Augmentation
    transforms: Transforms


class Labeller(Protocol):
    """Gives the logits of views."""

    @property
    def at_once(self) -> int:
        """How many views are labelled at a time."""

    @property
    def unused_places(self) -> int:
        """How many places of a batch stay empty."""

    @property
    def is_steady(self) -> bool:
        """Whether a view has the same logits, bit for bit, beside any other views."""

    def logits(self, split: SplitOfViews, views: Ints, rows: Ints) -> Iterator[npt.NDArray[np.float32]]:
        """The logits of R views, whose numbers and ascending rows are (R,) each, in batches of (B, C)."""


class ModelLabeller:
    """A model that sees each view.

    Args:
        forward: its forward pass.
        data: the index.
        resize: how images are resized.
    """

    def __init__(self, forward: Forward, data: Index, resize: Resize) -> None:
        self._forward, self._data, self._resize = forward, data, resize
        self._images: dict[tuple[SplitName, bool], DecodedImages] = {}

    @property
    def at_once(self) -> int:
        """As `Labeller.at_once`: the places of a batch that round alike."""
        return len(self._forward.places)

    @property
    def unused_places(self) -> int:
        """As `Labeller.unused_places`: the places that round differently."""
        return self._forward.batch_size - self.at_once

    @property
    def is_steady(self) -> bool:
        """As `Forward.is_steady`."""
        return self._forward.is_steady

    def logits(self, split: SplitOfViews, views: Ints, rows: Ints) -> Iterator[npt.NDArray[np.float32]]:
        """As `Forward.of_views`."""
        # An image is decoded once for all its views; but the partners of mixed views are needed again and again.
        keep = split.augmentation.mixes and len(rows) >= len(split.rows.ids)
        if (split.name, keep) not in self._images:
            self._images[split.name, keep] = self._decoded(split.name, keep)
        images = self._images[split.name, keep]
        return self._forward.of_views(images, views, rows, split.transforms, split.augmentation)

    def _decoded(self, split: SplitName, keep: bool) -> DecodedImages:
        paths = [image.path for image in self._data.split(split)]
        images = DecodedImages(paths, self._forward.input_shape, self._resize, keep=keep)
        if keep and not images.in_memory:
            print(
                f"the pixels of {len(images)} images, {images.size / 1e9:.1f} GB, do not fit in {MEMORY_SHARE:.0%} of "
                "the available memory, so each mixed view decodes the image that is mixed in.",
                file=sys.stderr,
            )
        return images


class StoredLabeller:
    """Stored answers; nothing is computed."""

    at_once, unused_places, is_steady = STORED_AT_ONCE, 0, True

    def __init__(self, answers: StoredAnswers) -> None:
        self._answers = answers

    def logits(self, split: SplitOfViews, views: Ints, rows: Ints) -> Iterator[npt.NDArray[np.float32]]:
        """As `Labeller.logits`."""
        for start in range(0, len(rows), STORED_AT_ONCE):
            part = slice(start, start + STORED_AT_ONCE)
            yield self._answers.of([split.rows.ids[row] for row in rows[part]], views[part])


def labeller_of(teacher: Teacher, batch_size: int, data: Index, resize: Resize) -> Labeller:
    """What gives a teacher's logits; `batch_size` images are in one forward pass, resized by `resize`."""
    if teacher.answers is not None:
        return StoredLabeller(teacher.answers)
    return ModelLabeller(Forward(teacher.model, batch_size), data, resize)
