"""An unfinished `teacher_logits.h5`: neither the order of writing nor interruptions change the bytes of the result."""

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
import numpy.typing as npt

from pipeline.images.index import SplitName
from pipeline.images.transforms import Transforms
from pipeline.images.views import Views
from pipeline.runtime.publish import replace_whole, reserve
from pipeline.runtime.tried_files import note_as_ours
from pipeline.soft_labels import logit_storage
from pipeline.soft_labels.hdf5 import full_disk_as_os_error, seal, sealed_sha256
from pipeline.soft_labels.reading import Provenance, Rows, read_structure, stored_transforms
from pipeline.soft_labels.writing import create_logits

Ints = npt.NDArray[np.intp]


class UnfinishedLogits:
    """The unfinished file, and marks beside it that say which rows are done; a context manager.

    A row is marked as done after it has reached the disk. The file has its full length from the start, so a disk that
    is too small is noticed before the teacher runs.

    Args:
        folder: the folder of the file and the marks.
        provenance: what the file is made from.
        rows: the images of each split.
    """

    def __init__(self, folder: Path, provenance: Provenance, rows: Mapping[SplitName, Rows]) -> None:
        self._path = folder / "unfinished.h5"
        self._storage = logit_storage.of(provenance.storage)
        self._classes = len(provenance.class_names)
        marks = {split: folder / f"done_{split}" for split in rows}
        if not _can_be_opened(self._path):
            self._path.unlink(missing_ok=True)
            for path in marks.values():
                path.unlink(missing_ok=True)
            with replace_whole(self._path) as partial:
                create_logits(partial, provenance, rows)
                with partial.open("r+b") as file:
                    reserve(file, partial.stat().st_size)  # HDF5 leaves holes: a full disk would show only later
        views = Views.from_json(provenance.views)
        self._done = {}
        for split, path in marks.items():
            shape = (views.of_split(split).count, len(rows[split].ids))
            if not path.is_file():
                with replace_whole(path) as partial:
                    partial.write_bytes(bytes(shape[0] * shape[1]))
            # The system keeps what is written to a memory map, even if this process is killed.
            self._done[split] = np.memmap(path, np.uint8, "r+", shape=shape)

    def __enter__(self) -> Self:
        """Opens the file for writing."""
        self._file = h5py.File(self._path, "r+")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the file; rows that are done stay done."""
        with full_disk_as_os_error(self._path):
            self._file.close()

    def missing(self, split: SplitName) -> npt.NDArray[np.bool_]:
        """Which rows have no logits yet: (V, N)."""
        return np.asarray(self._done[split] == 0)

    def transforms(self, split: SplitName) -> Transforms:
        """The stored transforms of all views, (V, N, ...)."""
        return stored_transforms(self._file[split], ...)

    def encode(self, logits: npt.NDArray[np.float32]) -> logit_storage.Columns:
        """The columns that store logits (R, C)."""
        return self._storage.encode(logits)

    def put(self, split: SplitName, views: Ints, rows: Ints, columns: logit_storage.Columns) -> None:
        """Stores the columns of R rows, whose views and row numbers are (R,) each, then marks the rows as done."""
        with full_disk_as_os_error(self._path):
            for part in _runs(views, rows):
                target = views[part][0], slice(rows[part][0], rows[part][-1] + 1)
                for name, values in columns.items():
                    self._file[split][name][target] = values[part]
            self._file.flush()
        _to_disk(self._path)  # before the marks: a power cut must not leave marked rows without logits
        self._done[split][views, rows] = 1

    def columns(self, split: SplitName, views: Ints, rows: Ints) -> logit_storage.Columns:
        """The stored columns of R rows, (R, ...) each."""
        names = self._storage.columns(self._classes)
        return {
            name: np.stack([self._file[split][name][view, row] for view, row in zip(views, rows, strict=True)])
            for name in names
        }

    def forget(self) -> None:
        """Marks every row as missing."""
        for done in self._done.values():
            done[:] = 0

    def predictions(self, split: SplitName) -> Ints:
        """The class of the largest logit, for the first view of each image: (N,)."""
        return self._storage.predictions(self._first_view(split))

    def outputs(self, split: SplitName) -> tuple[npt.NDArray[np.float64], ...]:
        """The smallest, the largest and the sum of the outputs, for the first view of each image: (N,) each."""
        return self._storage.extent(self._first_view(split), self._classes)

    def logits(self, split: SplitName, rows: slice) -> npt.NDArray[np.float32]:
        """The stored logits of the first view of some images: (R, C)."""
        return self._storage.logits(self._first_view(split, rows), self._classes)

    def _first_view(self, split: SplitName, rows: slice = slice(None)) -> logit_storage.Columns:
        return {name: self._file[split][name][0, rows] for name in self._storage.columns(self._classes)}

    def finish(self, finished: Path) -> None:
        """Seals the closed, complete file and renames it to `finished`."""
        if any(self.missing(split).any() for split in self._done):
            raise AssertionError("rows are missing")
        seal(self._path)
        _to_disk(self._path)
        os.replace(self._path, finished)
        note_as_ours(read_structure, sealed_sha256(finished))


def _can_be_opened(path: Path) -> bool:
    """Whether HDF5 can open the file; if not, the work begins anew."""
    if not path.is_file():
        return False
    try:
        h5py.File(path, "r").close()
    except OSError as error:
        print(f"{path} is damaged, so all is computed again: {error}", file=sys.stderr)
        return False
    return True


def _runs(views: Ints, rows: Ints) -> Iterator[Any]:
    """Splits R rows into stretches of one view and consecutive row numbers, which h5py writes at once.

    Yields:
        An index of the (R,) arrays for each stretch: a slice if possible, which copies nothing.
    """
    order = np.lexsort((rows, views))
    ends = (np.diff(views[order]) != 0) | (np.diff(rows[order]) != 1)
    for part in np.split(order, np.flatnonzero(ends) + 1):
        in_place = (np.diff(part) == 1).all()
        yield slice(part[0], part[-1] + 1) if in_place else part


def _to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
