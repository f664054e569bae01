"""Large arrays in files that all runs share, each named by a fingerprint of what made it.

Such a file never becomes stale. Two processes may make it at the same time without a lock: each writes a file of its
own and renames it to the same name, and both have the same bytes. Nothing removes these files; a user may remove their
folder when no training runs.
"""

import os
import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy.typing as npt
import psutil

from pipeline.runtime.publish import reserve

MEMORY_SHARE = 0.25
"""Such an array is kept in memory instead if it takes at most this share of the available memory.

The share is small, because `tf.data` copies a tensor when it rewrites a data set's graph: 2.1 GiB then take 4.2 GiB.
"""


def is_whole(file: Path, size: int) -> bool:
    """Whether an earlier run has made a file of `size` bytes."""
    return file.is_file() and file.stat().st_size == size


def write_kept(final: Path, size: int, arrays: Iterable[npt.NDArray[Any]]) -> None:
    """Writes the bytes of some arrays, one after another, to a file that appears when it is complete.

    Args:
        final: the file.
        size: the number of bytes of all arrays.
        arrays: the arrays; the first one is asked for when the disk has room for all of them.

    Raises:
        OSError: the disk has too little room.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    _remove_partial_files_of_killed_runs(final.parent)
    partial = final.with_suffix(f".{uuid.uuid4().hex}.{os.getpid()}.partial")
    try:
        with partial.open("xb") as file:
            reserve(file, size)  # a full disk is noticed before anything is computed
            for array in arrays:
                file.write(array.tobytes())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(final)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _remove_partial_files_of_killed_runs(folder: Path) -> None:
    for partial in folder.glob("*.*.[0-9]*.partial"):
        writer = int(partial.name.split(".")[-2])
        # This process has not created its file yet, so a partial file with its id is that of a dead process with the
        # same id.
        if writer == os.getpid() or not psutil.pid_exists(writer):
            with suppress(FileNotFoundError):  # another process has just removed it
                partial.unlink()
