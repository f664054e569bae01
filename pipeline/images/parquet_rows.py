"""The images in rows of Parquet files, by pyarrow.

A row cannot be read alone: its row group's column is read, and kept for the rows beside it. So reading in the order of
the rows reads every byte once, and reading in any order reads a row group for almost every image.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.images.shard_bytes import FileState, state_of
from pipeline.runtime.errors import DamagedError
from pipeline.runtime.parquet_files import opened, read_bytes

KEPT_BYTES = 256 * 2**20
"""How many bytes of row groups are kept; one row group, however large, and those that are being read come on top."""

OPEN_METADATA = 256
"""Of how many files the description of the row groups is kept."""

Group = tuple[Path, FileState, str, int]
"""A column in a row group of a file."""


def read_row(file: Path, column: str, row: int) -> bytes:
    """The bytes of the image in a row, counted from 0: of a column of bytes, or of structs with a field `bytes`.

    Raises:
        FileNotFoundError: there is no such file.
        MissingError: pyarrow is not installed.
        DamagedError: the file cannot be read, or has no bytes there.
    """
    state = state_of(file)
    ends = _metadata(file, state)[1]
    group = int(np.searchsorted(ends, row, side="right"))
    if group == len(ends):
        raise DamagedError(f"{file} has {ends[-1] if len(ends) else 0:,} rows, and no row {row}. {_REMEDY}")
    values = _GROUPS.get((file, state, column, group), lambda: _read_group(file, state, column, group))
    content = values[row - int(ends[group - 1] if group else 0)].as_py()
    if content is None:
        raise DamagedError(f"{file} has no bytes in the column {column!r} of row {row}. {_REMEDY}")
    return bytes(content)


def bytes_of(column: Any) -> Any:
    """The bytes of a column of bytes, or of structs with a field `bytes`: a pyarrow array; None for another column."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0:
        column = pc.struct_field(column, "bytes")
    is_bytes = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
    return column if any(kind(column.type) for kind in is_bytes) else None


_REMEDY = "Put the file there that the index was made from, or run `dvc repro split`."


@lru_cache(maxsize=OPEN_METADATA)
def _metadata(file: Path, state: FileState) -> tuple[Any, Any]:
    """The description of a file, and the number of rows up to the end of each row group."""
    with opened(file) as parquet:
        told = parquet.metadata
    return told, np.cumsum([told.row_group(group).num_rows for group in range(told.num_row_groups)], dtype=np.int64)


def _read_group(file: Path, state: FileState, column: str, group: int) -> Any:
    # Opened for each row group, because one reader must not be used by several threads at a time.
    with opened(file, metadata=_metadata(file, state)[0]) as parquet:
        found = read_bytes(file, parquet, group, column) if column in parquet.schema_arrow.names else None
    values = None if found is None else bytes_of(found)
    if values is None:
        raise DamagedError(f"{file} has no column {column!r} of bytes. {_REMEDY}")
    return values


class _RecentGroups:
    """The row groups that were read last; a row group that several threads need at a time is read once."""

    def __init__(self) -> None:
        self.forget_all()

    def forget_all(self) -> None:
        """Starts afresh, also where another process holds the lock."""
        self._lock, self._groups = threading.Lock(), OrderedDict[Group, Future[Any]]()

    def get(self, key: Group, read: Callable[[], Any]) -> Any:
        with self._lock:
            known = self._groups.get(key)
            found = self._groups.setdefault(key, Future())
            self._groups.move_to_end(key)
        if known is not None:
            return found.result()
        try:
            found.set_result(read())
        except BaseException as error:
            with self._lock:
                del self._groups[key]
            found.set_exception(error)
            raise
        self._forget()
        return found.result()

    def _forget(self) -> None:
        with self._lock:
            sizes = {key: group.result().nbytes for key, group in self._groups.items() if group.done()}
            total = sum(sizes.values())
            for key in list(sizes)[:-1]:
                if total <= KEPT_BYTES:
                    break
                total -= sizes[key]
                del self._groups[key]


_GROUPS = _RecentGroups()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_GROUPS.forget_all)  # another thread may hold the lock while the process forks
