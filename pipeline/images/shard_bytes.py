"""Bytes in the middle of a file, by descriptors that stay open: for images in tar files.

`os.pread` has no position that threads or forked processes could share, so each may read at any time.
"""

import os
from functools import lru_cache
from pathlib import Path

from pipeline.runtime.errors import DamagedError

OPEN_FILES = 128
"""How many shards stay open; systems allow a process 256 or more."""

FileState = tuple[int, int, int, int]
"""The device, the inode, the time of the last change and the size of a file: another file has another one."""


def state_of(file: Path) -> FileState:
    """The state of a file.

    Raises:
        FileNotFoundError: there is no such file.
    """
    told = os.stat(file)
    return told.st_dev, told.st_ino, told.st_mtime_ns, told.st_size


def read_range(file: Path, offset: int, length: int) -> bytes:
    """Reads `length` bytes from byte `offset` on.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedError: the file ends before.
    """
    state = state_of(file)
    opened = _opened(file, state)
    parts, start, end = [], offset, offset + length
    while start < end and (part := os.pread(opened.descriptor, end - start, start)):  # one call reads at most 2 GiB
        parts.append(part)
        start += len(part)
    if start < end:
        raise DamagedError(
            f"{file} has {state[-1]:,} bytes, and an image of the index ends at byte {end:,} of it: the file is cut "
            "off, or another one than the index was made from. Put the right file there, or run `dvc repro split`."
        )
    return b"".join(parts)


class _OpenFile:
    """A file that is closed when nobody uses it any longer, also by another thread."""

    def __init__(self, file: Path) -> None:
        self.descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


@lru_cache(maxsize=OPEN_FILES)
def _opened(file: Path, state: FileState) -> _OpenFile:  # by its state: a file that took this one's name is opened anew
    return _OpenFile(file)
