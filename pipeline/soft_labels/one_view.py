"""One view of all images, row by row in any order: in memory if it is small, else from the file.

Rows of a large view are read where they lie in the file, which is one run of bytes: then the system's page cache keeps
as much of it as there is room for, and the memory of this process stays flat.
"""

import os
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from pipeline.images.index import SplitName
from pipeline.soft_labels.logit_storage import Columns
from pipeline.soft_labels.reading import SoftLabelFile

LARGEST_IN_MEMORY = 2**25
"""Bytes of a column of one view that are kept in memory."""

Ints = npt.NDArray[np.int64]


class OneView:
    """The columns of one view of a soft-label file.

    Args:
        file: the open file.
        split: the split.
        view: the number of the view.
    """

    def __init__(self, file: SoftLabelFile, split: SplitName, view: int) -> None:
        self._columns = {name: _column(file.file[split][name], view) for name in file.row_columns}

    def columns(self, rows: Ints) -> Columns:
        """The columns of R rows, whose numbers may stand in any order: (R, ...) each."""
        return {name: column[rows] for name, column in self._columns.items()}


def _column(dataset: h5py.Dataset, view: int) -> Any:
    """One view of a dataset (V, N, ...), to be indexed by row numbers."""
    is_small = dataset.nbytes // len(dataset) <= LARGEST_IN_MEMORY
    if is_small or dataset.id.get_offset() is None or not hasattr(os, "preadv"):
        return dataset[view]
    return RowsInFile(dataset, view)


class RowsInFile:
    """The rows of one view, read from the file when they are asked for.

    Args:
        dataset: (V, N, ...), in one run of bytes, of a file that stays open.
        view: the number of the view.
    """

    def __init__(self, dataset: h5py.Dataset, view: int) -> None:
        _, count, *shape = dataset.shape
        self._shape, self._dtype = shape, dataset.dtype
        self._row_bytes = dataset.nbytes // (len(dataset) * count)
        self._start = dataset.id.get_offset() + view * count * self._row_bytes
        self._dataset, self._descriptor = dataset, dataset.file.id.get_vfd_handle()
        if hasattr(os, "posix_fadvise"):  # the system reads the view in one run; rows in any order would take longer
            os.posix_fadvise(self._descriptor, self._start, count * self._row_bytes, os.POSIX_FADV_WILLNEED)

    def __getitem__(self, rows: Ints) -> npt.NDArray[Any]:
        """R rows: (R, ...).

        Raises:
            OSError: the file ends before.
        """
        found = np.empty((len(rows), self._row_bytes), np.uint8)
        for place, row in zip(found, rows.tolist(), strict=True):
            if os.preadv(self._descriptor, [place], self._start + row * self._row_bytes) < self._row_bytes:
                raise OSError(f"{self._dataset.file.filename} ends before row {row} of {self._dataset.name}")
        return np.asarray(found.view(self._dtype).reshape(len(rows), *self._shape))
