"""How files reach their final names: complete, flushed, in one step, under a lock.

A file or folder that is not complete never exists under its final name: it is written beside it as
`<name>.partial` and renamed when it is whole.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from pipeline.runtime.errors import BusyError

LOCK_SECONDS = 5.0
"""How long to wait for another process, which may just be ending."""

LOCKS = Path(".work")
"""Where the locks of outputs lie: with the outputs, as each copy of the repository has its own."""


@contextmanager
def publish(final: Path) -> Iterator[Path]:
    """Yields a path that does not exist yet; when the block ends well, it becomes `final` in one step.

    The caller creates a file or a folder there. If the block raises, nothing is left behind and an
    older `final` stays as it was. What an earlier, killed run left behind is removed first.

    Raises:
        BusyError: another process is publishing the same file.
    """
    with only_one(final, LOCKS / f"{flat_name(final)}.publish.lock"), replace_whole(final) as partial:
        yield partial


@contextmanager
def replace_whole(final: Path) -> Iterator[Path]:
    """As `publish`, for a file that no other process can be writing."""
    partial = final.with_name(final.name + ".partial")
    final.parent.mkdir(parents=True, exist_ok=True)
    remove(partial)
    try:
        yield partial
        _flush(partial)
        if final.is_dir():
            remove(final)
        os.replace(partial, final)
    except BaseException:
        remove(partial)
        raise
    _flush_folder(final.parent)


def publish_copy(finished: Path, final: Path) -> None:
    """Publishes a finished file and keeps it where it is; a copy, so that damage to one is not damage to both."""
    with publish(final) as partial:
        shutil.copyfile(finished, partial)


def refuse_full_disk(final: Path, size: int) -> None:
    """Looks whether a file fits before it is begun.

    Raises:
        OSError: there is no room for `size` bytes where `final` will lie.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=final.parent) as probe:
        reserve(probe, size)


def reserve(file: IO[bytes], size: int) -> None:
    """Takes `size` bytes on the disk for an open file, where the system can.

    Raises:
        OSError: there is no room.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}, and {size / 2**20:.1f} MiB are needed") from None


@contextmanager
def only_one(output: Path, lock: Path, seconds: float | None = None, patient: bool = False) -> Iterator[None]:
    """Holds a lock that the system releases when its process dies; one who is patient is not refused, but waits."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(lock)
    try:
        held.acquire(timeout=LOCK_SECONDS if seconds is None else seconds)
    except Timeout:
        if not patient:
            raise BusyError(
                f"another process is already writing {output}. Wait until it ends, or stop it, then run again."
            ) from None
        print(f"waiting for another process that is making the same {output}", file=sys.stderr, flush=True)
        held.acquire()
    try:
        yield
    finally:
        held.release()


def flat_name(path: Path) -> str:
    """A path as a name without folders."""
    return path.as_posix().replace("/", "-")


def remove(path: Path) -> None:
    """Removes a file or a folder with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    if path.is_dir():
        for entry in path.rglob("*"):
            if entry.is_file():
                _flush(entry)
        return
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
