"""How files reach their final names: complete, flushed, in one step, under a lock.

A file or folder that is not complete never exists under its final name: it is written beside it as
`<name>.partial` and renamed when it is whole.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from pipeline.errors import PipelineError

LOCK_SECONDS = 5.0
"""How long to wait for another process, which may just be ending."""


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(**inputs: Any) -> str:
    """SHA-256 over named JSON-serialisable inputs, independent of their order."""
    text = json.dumps(inputs, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def work_folder() -> Path:
    """Where unfinished work lies: `<DVC_ROOT or .>/.work/`."""
    return Path(os.environ.get("DVC_ROOT", ".")) / ".work"


@contextmanager
def publish(final: Path) -> Iterator[Path]:
    """Yields a path that does not exist yet; when the block ends well, it becomes `final` in one step.

    The caller creates a file or a folder there. If the block raises, nothing is left behind and an
    older `final` stays as it was. What an earlier, killed run left behind is removed first.

    Raises:
        PipelineError: another process is publishing the same file.
    """
    with _only_one(final, work_folder() / f"{_flat(final)}.publish.lock"), replace_whole(final) as partial:
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
def workspace(output: Path, **inputs: Any) -> Iterator[Path]:
    """A folder for the work on `output`, keyed by its JSON-serialisable inputs and by this program's code.

    It lies in `<DVC_ROOT or .>/.work/` and survives a killed run. Work that other inputs or another version of
    the code left for the same output is removed, but for its finished files, which go when the block ends well. What
    the block leaves there stays until then: name the finished files `finished.*` and `publish_copy` them, so that a
    kill between the stage's end and DVC's note of it costs nothing; `forget_finished` removes them.

    Raises:
        PipelineError: another process is at work on the same output.
    """
    of_output = work_folder() / _flat(output)
    folder = of_output / fingerprint(code=_code_sha256(), **inputs)[:16]
    with _only_one(output, of_output.with_name(f"{of_output.name}.lock")):
        stale = [other for other in of_output.glob("*") if other != folder]
        for unfinished in (entry for other in stale for entry in other.glob("*")):
            if not unfinished.match("finished.*"):
                _remove(unfinished)
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        for other in stale:
            _remove(other)


def forget_work_of_others(outputs: Sequence[Path], pattern: str) -> None:
    """Removes the workspaces of outputs whose names match a pattern, but for those of `outputs`."""
    kept = {_flat(output) for output in outputs}
    for folder in work_folder().glob(_flat(Path(pattern))):
        if folder.is_dir() and folder.name not in kept:
            _remove(folder)


def earlier_finished(output: Path) -> list[Path]:
    """The finished files that workspaces keep of an output, whatever their inputs were."""
    return sorted((work_folder() / _flat(output)).glob("*/finished.*"))


def forget_finished(*outputs: Path) -> None:
    """Removes what workspaces keep of finished outputs (`finished.*`), once a later stage shows that DVC knows them."""
    for output in outputs:
        of_output = work_folder() / _flat(output)
        with suppress(PipelineError), _only_one(output, of_output.with_name(f"{of_output.name}.lock"), seconds=0):
            for finished in of_output.glob("*/finished.*"):
                finished.unlink()


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
def _only_one(output: Path, lock: Path, seconds: float | None = None) -> Iterator[None]:
    """Holds a lock that the system releases when its process dies."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(lock, timeout=LOCK_SECONDS if seconds is None else seconds)
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


def _code_sha256() -> str:
    """SHA-256 of this package's source, so that unfinished work never outlives the code that began it."""
    digest = hashlib.sha256()
    for module in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(module.read_bytes() + b"\0")
    return digest.hexdigest()


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
