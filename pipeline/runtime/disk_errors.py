"""What an error of the system means for the user: which disk, what is missing, what to do."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

GONE = (errno.ESTALE, errno.ENOTCONN, errno.ECONNABORTED, errno.EHOSTDOWN, errno.ENODEV, errno.ENXIO)
REMEDIES = {
    errno.ENOSPC: "Make room there, then run again",
    errno.EDQUOT: "Your share of that disk (quota) is used up: make room in it, or ask for more, then run again",
    errno.EROFS: "That disk can only be read: mount it for writing, or work on another one",
    errno.EACCES: "Give yourself the permission, or work in a folder of your own",
    errno.EPERM: "Give yourself the permission, or work in a folder of your own",
    errno.EIO: "The disk, or the way to it, is damaged: look at it (dmesg) before you run again",
    errno.ENOLCK: "That disk knows no locks: work on another one, or mount it with locks",
    errno.ENOSYS: "That disk knows no locks: work on another one, or mount it with locks",
    errno.EMFILE: "Allow this process more open files (ulimit -n), then run again",
    errno.ENAMETOOLONG: "Use shorter names, then run again",
    errno.ENOMEM: "Free memory, then run again",
    **dict.fromkeys(GONE, "That disk is gone: mount it again, then run again"),
}
"""By the system's number of an error."""


@contextmanager
def named(file: Path) -> Iterator[None]:
    """Lets an error of the system name the file that the block reads: one that comes after it was opened names none."""
    try:
        yield
    except OSError as error:
        if error.errno and error.filename is None:
            error.filename = os.fspath(file)
        raise


def in_words(error: OSError) -> str:
    """What the system refused, on which disk, and what to do, in one line.

    Args:
        error: the error; its file need not exist.
    """
    remedy = REMEDIES.get(error.errno or 0, "Check the disk and the permissions")
    return f"the system refused: {error}{_disk_of(error)}. {remedy}."


def _disk_of(error: OSError) -> str:
    """Of an error for want of room at a file: the disk, and how much is free."""
    file = error.filename2 or error.filename
    if error.errno not in (errno.ENOSPC, errno.EDQUOT) or file is None:
        return ""
    try:
        disk = mount_of(Path(os.fsdecode(file)))
        return f"; the disk at {disk} has {shutil.disk_usage(disk).free / 2**20:.1f} MiB free"
    except OSError:
        return ""


def mount_of(path: Path) -> Path:
    """Where the disk is mounted that holds a path, or would hold it.

    Raises:
        OSError: no folder above it can be looked at.
    """
    folder = Path(os.path.realpath(path))
    while not folder.exists():
        folder = folder.parent
    while folder != folder.parent and folder.stat().st_dev == folder.parent.stat().st_dev:
        folder = folder.parent
    return folder
