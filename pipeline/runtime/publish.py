"""How files get their final names: complete, flushed to the disk, in one step, under a lock.

An incomplete file or folder never has its final name: it is written beside that as `<name>.partial`, and renamed when
it is complete.
"""

import ctypes
import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import IO

from pipeline.runtime.errors import BusyError, MismatchError
from pipeline.runtime.parallel import in_threads

LOCK_SECONDS = 5.0
"""How long to wait for the lock of another process, which may be about to end."""

FLUSHED_ONE_BY_ONE = 100
"""How many files and folders are flushed by themselves at most. The whole file system, with all that other programs are
writing there, is flushed for more, where the system can."""

FLUSHED_TOGETHER = 16
"""How many files are flushed at the same time; thousands of small files then take about a tenth of the time."""

AT_FDCWD, RENAME_EXCHANGE = -100, 2
"""Linux's numbers for a path that begins in the current folder, and for the exchange of two names."""

LOCKS = Path(".work")
"""The folder of the outputs' locks. Each copy of the repository has its own, as it has its own outputs."""


@contextmanager
def publish(final: Path) -> Iterator[Path]:
    """Yields a path at which the caller makes a file or a folder; after the block it becomes `final` in one step.

    If the block raises an error, the new file is removed and an older `final` stays as it was. The partial file of an
    earlier, killed run is removed first. An older folder is removed when the new one has its name.

    Raises:
        BusyError: another process is publishing the same file.
        MismatchError: as `replace_whole`.
    """
    with locked(final, LOCKS / f"{flat_name(final)}.publish.lock"), replace_whole(final) as partial:
        yield partial


@contextmanager
def replace_whole(final: Path) -> Iterator[Path]:
    """As `publish`, but without a lock: for a file that no other process writes.

    Raises:
        MismatchError: the block made a file and `final` is a folder, or the other way round.
    """
    partial = final.with_name(final.name + ".partial")
    final.parent.mkdir(parents=True, exist_ok=True)
    _clear(partial, final)
    try:
        with _named_if_full(final):
            yield partial
            _rename(partial, final)
    except BaseException:
        _clear(partial, final)
        raise


@contextmanager
def replace_given(final: Path) -> Iterator[Path]:
    """As `replace_whole`, for a name that a user gives: nothing beside it is touched, and a link to a file stays one.

    Several processes may write one file; the last one counts.

    Raises:
        MismatchError: as `replace_whole`.
    """
    real = Path(os.path.realpath(final))
    real.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", suffix=".partial", dir=real.parent) as folder, _named_if_full(final):
        yield Path(folder, real.name)
        _rename(Path(folder, real.name), real)


@contextmanager
def _named_if_full(final: Path) -> Iterator[None]:
    """Lets the error of a full disk name the file that was being written."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) and error.filename is None:
            error.filename = os.fspath(final)
        raise


def _rename(partial: Path, final: Path) -> None:
    # Before the rename: after a crash of the machine, `final` could otherwise be an empty file.
    _flush(partial)
    _refuse_another_kind(partial, final)
    if not final.is_dir():
        os.replace(partial, final)
    elif not _exchange(partial, final):  # `os.replace` replaces no folder that holds files
        os.replace(final, _aside(partial, final))
        os.replace(partial, final)
    _flush_file(final.parent)  # the folder, which holds the new name
    _clear(partial, final)  # the older folder


def _exchange(partial: Path, final: Path) -> bool:
    """Exchanges the names of two folders in one step; False where the system or the disk cannot."""
    call = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    if call is None:
        return False
    return bool(call(AT_FDCWD, os.fsencode(partial), AT_FDCWD, os.fsencode(final), RENAME_EXCHANGE) == 0)


def _aside(partial: Path, final: Path) -> Path:
    """Where an older folder lies until the new one has its name, if the two names cannot be exchanged."""
    return partial.with_name(f"{final.name}.old.partial")


def _clear(partial: Path, final: Path) -> None:
    """Removes what a replacement left, and gives an older folder its name back if no new one has it yet."""
    aside = _aside(partial, final)
    if os.path.lexists(aside) and not os.path.lexists(final):
        os.replace(aside, final)
    remove(aside)
    remove(partial)


def publish_copy(finished: Path, final: Path) -> None:
    """Publishes a copy of a finished file; unlike a link, it stays intact if the other file is damaged."""
    with publish(final) as partial:
        shutil.copyfile(finished, partial)


def refuse_full_disk(final: Path, size: int) -> None:
    """Checks that the disk of `final` has room for `size` bytes.

    Raises:
        OSError: the disk has too little room.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryFile(dir=final.parent) as probe:
            reserve(probe, size)
    except OSError as error:
        error.filename = os.fspath(final)  # and not that of the probe
        raise


def reserve(file: IO[bytes], size: int) -> None:
    """Allocates `size` bytes on the disk for an open file, on systems that can.

    Raises:
        OSError: the disk has too little room.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}, and {size / 2**20:.1f} MiB are needed") from None


@contextmanager
def locked(output: Path, lock: Path, seconds: float | None = None, patient: bool = False) -> Iterator[None]:
    """Holds a lock, which the system releases if this process dies.

    Args:
        output: the file that the lock protects, for messages.
        lock: the lock's file.
        seconds: how long to wait for another process; None takes `LOCK_SECONDS`.
        patient: whether to wait without a limit, instead of an error.

    Raises:
        BusyError: another process holds the lock.
    """
    from filelock import FileLock, Timeout  # not installed where only `predict` is needed, which locks nothing

    lock.parent.mkdir(parents=True, exist_ok=True)
    file_lock = FileLock(lock)
    try:
        file_lock.acquire(timeout=LOCK_SECONDS if seconds is None else seconds)
    except Timeout:
        if not patient:
            raise BusyError(
                f"another process is already writing {output}. Wait until it ends, or stop it, then run again."
            ) from None
        print(f"waiting for another process that is making the same {output}", file=sys.stderr, flush=True)
        file_lock.acquire()
    try:
        yield
    finally:
        file_lock.release()


def flat_name(path: Path) -> str:
    """A path as one name, with a hyphen for each slash."""
    return path.as_posix().replace("/", "-")


def remove(path: Path) -> None:
    """Removes a file, or a folder with its content, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def overlap(one: Path, other: Path) -> bool:
    """Whether two paths are one place or one lies in the other, whatever links and spellings lead there."""
    return _holds(one, other) or _holds(other, one)


def _holds(outer: Path, inner: Path) -> bool:
    # `realpath` takes loops of links and missing files; on some disks, only `samefile` knows that Data is data.
    real, real_outer = Path(os.path.realpath(inner)), Path(os.path.realpath(outer))
    if real.is_relative_to(real_outer):
        return True
    return outer.exists() and any(place.samefile(outer) for place in (real, *real.parents) if place.exists())


def _refuse_another_kind(partial: Path, final: Path) -> None:
    """A folder that a file shall replace, or a file that a folder shall replace, is none of this program's."""
    if final.exists() and final.is_dir() != partial.is_dir():
        old, new = ("folder", "file") if final.is_dir() else ("file", "folder")
        raise MismatchError(
            f"{final} is a {old}, and a {new} of this name was to be written; the {old} was left as it is. "
            "Move it to another place, or write to another name, then run again."
        )


def _flush(path: Path) -> None:
    """Flushes a file, or a folder with its content."""
    if not path.is_dir():
        _flush_file(path)
        return
    entries = (entry for entry in path.rglob("*") if not entry.is_symlink())
    few = list(islice(entries, FLUSHED_ONE_BY_ONE + 1))
    if len(few) > FLUSHED_ONE_BY_ONE and _flush_file_system(path):
        return
    for _ in in_threads(lambda part: map(_flush_file, part), chain([path], few, entries), FLUSHED_TOGETHER):
        pass  # an error of a thread is raised here


def _flush_file_system(folder: Path) -> bool:
    """Flushes the whole file system of a folder in one call; False where the system has no call that waits for it."""
    flush = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None) if sys.platform == "linux" else None
    if flush is None:
        return False
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        failed = flush(descriptor) != 0
    finally:
        os.close(descriptor)
    if failed:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), os.fspath(folder))
    return True


def _flush_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
