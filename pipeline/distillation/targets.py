"""The targets of a student: for each stored view, the one-hot label beside the teacher's answer."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.distillation.teacher_answers import Answers, Probabilities
from pipeline.images.index import Image, SplitName
from pipeline.images.views import Floats16
from pipeline.runtime.digests import fingerprint
from pipeline.soft_labels.identity import rows_of
from pipeline.soft_labels.reading import SoftLabelFile


class HardAndSoftLabels:
    """The views of a `soft_targets_T<T>.h5` with their labels; one view of all images is in memory at a time.

    Args:
        file: the open file of soft labels.
        split: "train", "val" or "test".
        images: N images of the split, all of them in the file.
        one_hot: (N, C) labels; 0 for an image without one.
        answers: the teacher's half of the targets; None: the soft labels, as the file has them.
    """

    def __init__(
        self,
        file: SoftLabelFile,
        split: SplitName,
        images: Sequence[Image],
        one_hot: npt.NDArray[np.float32],
        answers: Answers | None = None,
    ) -> None:
        self._file, self._split, self._one_hot = file, split, one_hot
        self._answers = answers or Probabilities(file)
        rows = self._rows_of_file = rows_of(file, split, [image.id for image in images])
        in_order = np.array_equal(rows, np.arange(file.count(split)))
        self._rows: Any = slice(None) if in_order else rows  # a slice, unlike row numbers, copies no view
        self._views = file.views(split)
        self.augmentation = self._views.augmentation
        self.fingerprint = fingerprint(file=file.sha256, split=split)
        self._read(0)

    def view(self, number: int) -> int:
        """The next view in each pass; after the last view the first again."""
        return number % self._views.count

    def take(self, view: int, rows: npt.NDArray[np.int64]) -> tuple[Floats16, Floats16, npt.NDArray[np.float32]]:
        """The stored affine and color transforms (B, 6), and the targets (B, 2C): one-hot beside the teacher's."""
        if view != self._current:
            self._read(view)
        soft = {name: values[rows] for name, values in self._soft.items()}
        told = self._answers.of(self._split, view, soft, self._rows_of_file[rows])
        return self._affines[rows], self._colors[rows], np.concatenate([self._one_hot[rows], told], axis=1)

    def _read(self, view: int) -> None:
        affines, colors = self._file.transforms(self._split, view)
        self._affines, self._colors = affines[self._rows], colors[self._rows]
        self._soft = {name: values[self._rows] for name, values in self._file.columns(self._split, view).items()}
        self._current = view
