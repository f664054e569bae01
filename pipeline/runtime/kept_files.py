"""Large arrays in files that all runs share, each named by a fingerprint of what made it.

Such a file never becomes stale. Two processes may make it at the same time without a lock: each writes a file of its
own and renames it to the same name, and both have the same bytes. Nothing removes these files; a user may remove their
folder when no training runs.

Behind the bytes of the array stands their SHA-256, so that a damaged file is found before it is used.
"""

import hashlib
import os
import sys
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


DIGEST = hashlib.sha256().digest_size
BLOCK = 2**24
"""Bytes that are read at a time."""


def is_there(file: Path, size: int) -> bool:
    """Whether an earlier run has made the file of an array of `size` bytes; it may be damaged."""
    return file.is_file() and file.stat().st_size == size + DIGEST


def is_sound(file: Path, size: int) -> bool:
    """Whether a file that is there holds the bytes that were written; reads all of them. If not, a message says so."""
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        for start in range(0, size, BLOCK):
            digest.update(opened.read(min(BLOCK, size - start)))
        if opened.read() == digest.digest():
            return True
    print(f"{file} is damaged, and is made again", file=sys.stderr)
    return False


def write_kept(final: Path, size: int, arrays: Iterable[npt.NDArray[Any]]) -> None:
    """Writes the bytes of some arrays, one after another, and their digest, to a file that appears when it is complete.

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
            reserve(file, size + DIGEST)  # a full disk is noticed before anything is computed
            digest = hashlib.sha256()
            for array in arrays:
                block = array.tobytes()
                digest.update(block)
                file.write(block)
            file.write(digest.digest())
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
