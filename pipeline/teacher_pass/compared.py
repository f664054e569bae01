"""A labeller whose images are compared with the index again when it has seen them."""

from collections.abc import Iterator

import numpy as np

from pipeline.images.index import SPLITS, Index
from pipeline.images.transforms import NOT_MIXED
from pipeline.images.unchanged import Unchanged
from pipeline.inference.forward import Ints
from pipeline.teacher_pass.labellers import Answer, Labeller, Labellers, SplitOfViews


class UnchangedSplits:
    """The image files of all splits, which are compared with the index now, and again by `Compared`.

    Args:
        data: the index.

    Raises:
        MismatchError: files are missing or have other content.
    """

    def __init__(self, data: Index) -> None:
        self._files = Unchanged(data.images)
        self._rows = {
            split: np.flatnonzero(np.fromiter((image.split == split for image in data.images), bool, len(data.images)))
            for split in SPLITS
        }

    def refuse_changed(self, split: SplitOfViews, views: Ints, rows: Ints) -> None:
        """Compares the images of some views of a split, (R,) each, and those that are mixed in, again.

        Raises:
            MismatchError: as `Unchanged.refuse_changed`.
        """
        partners = split.transforms.partner[views, rows]
        images = np.unique(np.concatenate([rows, partners[partners != NOT_MIXED]]))
        self._files.refuse_changed(self._rows[split.name][images])

    def compared(self, labellers: Labellers) -> Labellers:
        """The same labellers, which compare what they have seen."""
        usual, in_full = labellers
        return Labellers(Compared(usual, self), None if in_full is None else Compared(in_full, self))


class Compared:
    """A labeller that gives an answer when the images behind it have been compared with the index again.

    Args:
        labeller: reads the images.
        files: their files.
    """

    def __init__(self, labeller: Labeller, files: UnchangedSplits) -> None:
        self._labeller, self._files = labeller, files

    @property
    def at_once(self) -> int:
        """As `Labeller.at_once`."""
        return self._labeller.at_once

    @property
    def unused_places(self) -> int:
        """As `Labeller.unused_places`."""
        return self._labeller.unused_places

    @property
    def is_steady(self) -> bool:
        """As `Labeller.is_steady`."""
        return self._labeller.is_steady

    def logits(self, split: SplitOfViews, views: Ints, rows: Ints) -> Iterator[Answer]:
        """As `Labeller.logits`.

        Raises:
            MismatchError: image files are missing, or have changed since the pass began.
        """
        for part, logits in self._labeller.logits(split, views, rows):
            self._files.refuse_changed(split, views[part], rows[part])
            yield part, logits
