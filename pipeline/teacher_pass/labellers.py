"""What gives the logits of a view: a model that sees the picture, or a teacher's stored answers."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from pipeline.images.augmentation import Augmentation
from pipeline.images.changed_while_read import named_if_changed
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

Answer = tuple[slice, npt.NDArray[np.float32]]
"""Which of R views were labelled, and their logits: (B, C)."""


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

    def logits(self, split: SplitOfViews, views: Ints, rows: Ints) -> Iterator[Answer]:
        """The logits of R views, whose numbers and ascending rows are (R,) each: each view once, in any order."""


class Labellers(NamedTuple):
    """What gives the logits of one teacher.

    Attributes:
        usual: gives those that are kept.
        in_full: where these are computed in mixed precision, gives them in the teacher's own precision; else None.
    """

    usual: Labeller
    in_full: Labeller | None


def in_order(answers: Iterable[Answer]) -> npt.NDArray[np.float32]:
    """The logits of R views, (R, C), from their parts in any order."""
    return np.concatenate([logits for _, logits in sorted(answers, key=lambda answer: answer[0].start)])


def numbered(batches: Iterable[npt.NDArray[np.float32]]) -> Iterator[Answer]:
    """The batches of R views, which come in order, with the views that they belong to."""
    start = 0
    for logits in batches:
        yield slice(start, start + len(logits)), logits
        start += len(logits)


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

    def logits(self, split: SplitOfViews, views: Ints, rows: Ints) -> Iterator[Answer]:
        """As `Labeller.logits`, in order.

        Raises:
            MismatchError: image files are missing or have changed since the pass began.
        """
        # An image is decoded once for all its views; but the partners of mixed views are needed again and again.
        keep = split.augmentation.mixes and len(rows) >= len(split.rows.ids)
        if (split.name, keep) not in self._images:
            self._images[split.name, keep] = self._decoded(split.name, keep)
        images = self._images[split.name, keep]
        with named_if_changed(self._data.split(split.name)):
            yield from numbered(self._forward.of_views(images, views, rows, split.transforms, split.augmentation))

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

    def logits(self, split: SplitOfViews, views: Ints, rows: Ints) -> Iterator[Answer]:
        """As `Labeller.logits`, in order."""
        for start in range(0, len(rows), STORED_AT_ONCE):
            part = slice(start, min(start + STORED_AT_ONCE, len(rows)))
            yield part, self._answers.of([split.rows.ids[row] for row in rows[part]], views[part])


def labellers_here(teacher: Teacher, batch_size: int, data: Index, resize: Resize) -> Labellers:
    """What gives a teacher's logits in this process; `batch_size` images are in one forward pass, resized by `resize`.

    Stored answers are always read in this process.
    """
    if teacher.answers is not None:
        return Labellers(StoredLabeller(teacher.answers), None)
    usual = ModelLabeller(Forward(teacher.model, batch_size), data, resize)
    if teacher.in_full is None:
        return Labellers(usual, None)
    return Labellers(usual, ModelLabeller(Forward(teacher.in_full, batch_size), data, resize))
