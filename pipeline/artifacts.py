"""How files reach their final names: complete, flushed, in one step, under a lock.

A file or folder that is not complete never exists under its final name: it is written beside it as
`<name>.partial` and renamed when it is whole.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipeline.errors import PipelineError


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(**inputs: Any) -> str:
    """SHA-256 over named JSON-serialisable inputs, independent of their order."""
    text = json.dumps(inputs, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def publish(final: Path) -> Iterator[Path]:
    """Yields a path that does not exist yet; when the block ends well, it becomes `final` in one step.

    The caller creates a file or a folder there. If the block raises, nothing is left behind and an
    older `final` stays as it was. What an earlier, killed run left behind is removed first.

    Raises:
        PipelineError: another process is publishing the same file.
    """
    with _only_one(final, _work_folder() / f"{_flat(final)}.publish.lock"), replace_whole(final) as partial:
        yield partial


@contextmanager
def replace_whole(final: Path) -> Iterator[Path]:
    """As `publish`, for a file that no other process can be writing."""
    partial = final.with_name(final.name + ".partial")
    final.parent.mkdir(parents=True, exist_ok=True)
    _remove(partial)
    try:
        yield partial
        _flush(partial)
        if final.is_dir():
            _remove(final)
        os.replace(partial, final)
    except BaseException:
        _remove(partial)
        raise
    _flush_folder(final.parent)


@contextmanager
def workspace(output: Path, inputs: str) -> Iterator[Path]:
    """A folder for unfinished work on `output`, keyed by the fingerprint of its inputs.

    It lies in `<DVC_ROOT or .>/.work/`, survives a killed run, and goes when the block ends well. Work
    that other inputs left for the same output is removed.

    Raises:
        PipelineError: another process is at work on the same output.
    """
    of_output = _work_folder() / _flat(output)
    folder = of_output / inputs[:16]
    with _only_one(output, of_output.with_name(f"{of_output.name}.lock")):
        for stale in of_output.glob("*"):
            if stale != folder:
                _remove(stale)
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        _remove(of_output)


@contextmanager
def _only_one(output: Path, lock: Path) -> Iterator[None]:
    """Holds a lock that the system releases when its process dies."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(lock, timeout=0)
    try:
        held.acquire()
    except Timeout:
        raise PipelineError(
            f"another process is already writing {output}. Wait until it ends, or stop it, then run again."
        ) from None
    try:
        yield
    finally:
        held.release()


def _work_folder() -> Path:
    return Path(os.environ.get("DVC_ROOT", ".")) / ".work"


def _flat(path: Path) -> str:
    return path.as_posix().replace("/", "-")


def _remove(path: Path) -> None:
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
