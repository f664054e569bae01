"""The targets of a student: for each stored view, the one-hot label beside the teacher's answer."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from pipeline.distillation.teacher_answers import Answers, Probabilities
from pipeline.images.index import Image, SplitName
from pipeline.images.one_hot import OneHot
from pipeline.images.transforms import NOT_MIXED, Transforms, mixed_labels
from pipeline.runtime.digests import fingerprint
from pipeline.soft_labels.identity import rows_of
from pipeline.soft_labels.one_view import OneView
from pipeline.soft_labels.reading import SoftLabelFile


class HardAndSoftLabels:
    """The views of a `soft_targets_T<T>.h5` with their labels; at most one view is in memory (`soft_labels.one_view`).

    Args:
        file: the open file of soft labels.
        split: "train", "val" or "test".
        images: N images of the split, all of them in the file; if views are mixed, the partners are among them.
        one_hot: (N, C) labels; 0 for an image without one.
        answers: the teacher's half of the targets; None: the soft labels, as the file has them.
    """

    def __init__(
        self,
        file: SoftLabelFile,
        split: SplitName,
        images: Sequence[Image],
        one_hot: OneHot | npt.NDArray[np.float32],
        answers: Answers | None = None,
    ) -> None:
        self._file, self._split, self._one_hot = file, split, one_hot
        self._answers = answers or Probabilities(file)
        rows = self._rows_of_file = rows_of(file, split, [image.id for image in images])
        self._place = np.full(file.count(split), NOT_MIXED, np.int32)
        self._place[rows] = np.arange(len(rows))
        self._is_in_order = np.array_equal(rows, np.arange(len(self._place)))
        self._views = file.views(split)
        self.augmentation = self._views.augmentation
        self.fingerprint = fingerprint(file=file.sha256, split=split)
        self._current = -1
        self._read(0)

    def view(self, number: int) -> int:
        """The next view in each pass; after the last view the first again."""
        return number % self._views.count

    def transforms(self, view: int) -> Transforms:
        """The stored transforms of one view, (N, ...)."""
        self._read(view)
        return self._transforms

    def targets(self, view: int, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """The targets (B, 2C): hard labels, mixed as the views are, beside the teacher's half."""
        self._read(view)
        rows_of_file = self._rows_of_file[rows]
        told = self._answers.of(self._split, view, self._soft.columns(rows_of_file), rows_of_file)
        return np.concatenate([mixed_labels(self._one_hot, self._transforms, rows), told], axis=1)

    def _read(self, view: int) -> None:
        if view == self._current:
            return
        transforms = self._file.transforms(self._split, view)
        if not self._is_in_order:
            transforms = transforms[self._rows_of_file]
            is_mixed = transforms.partner != NOT_MIXED
            partner = np.where(is_mixed, self._place[transforms.partner], NOT_MIXED)
            if (partner[is_mixed] == NOT_MIXED).any():
                raise AssertionError("a partner is not among the images")
            transforms = replace(transforms, partner=partner)
        self._transforms = transforms
        self._soft = OneView(self._file, self._split, view)
        self._current = view
