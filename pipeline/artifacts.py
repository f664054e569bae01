"""How files reach their final names: complete, flushed, in one step, under a lock.

A file or folder that is not complete never exists under its final name: it is written beside it as
`<name>.partial` and renamed when it is whole.
"""

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from pipeline.errors import PipelineError

LOCK_SECONDS = 5.0
"""How long to wait for another process, which may just be ending."""

LOCKS = Path(".work")
"""Where the locks of outputs lie: with the outputs, as each copy of the repository has its own."""


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(**inputs: Any) -> str:
    """SHA-256 over named JSON-serialisable inputs, independent of their order."""
    text = json.dumps(inputs, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def work_folder() -> Path:
    """Where unfinished work lies: `<DVC_ROOT or .>/.work/`.

    DVC runs queued experiments in copies of the repository, which it removes afterwards, and names the repository
    itself in DVC_ROOT. So the work of experiments outlives their copies, and all of them share it.
    """
    return Path(os.environ.get("DVC_ROOT", ".")) / ".work"


def in_a_copy() -> bool:
    """Whether this is an experiment in a copy of the repository, beside which others may be at work."""
    copies = Path(os.environ.get("DVC_ROOT", ".")).resolve() / ".dvc" / "tmp" / "exps"
    return Path.cwd().is_relative_to(copies)


@contextmanager
def publish(final: Path) -> Iterator[Path]:
    """Yields a path that does not exist yet; when the block ends well, it becomes `final` in one step.

    The caller creates a file or a folder there. If the block raises, nothing is left behind and an
    older `final` stays as it was. What an earlier, killed run left behind is removed first.

    Raises:
        PipelineError: another process is publishing the same file.
    """
    with _only_one(final, LOCKS / f"{_flat(final)}.publish.lock"), replace_whole(final) as partial:
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

    Experiments remove no work of other inputs, and wait for one another where they need the same: the second finds
    what the first has finished.

    Raises:
        PipelineError: another process is at work on the same output, and this is no experiment in a copy.
    """
    of_output = work_folder() / _flat(output)
    folder = of_output / fingerprint(code=_code_sha256(), **inputs)[:16]
    here = LOCKS / f"{of_output.name}.lock"
    with _only_one(output, here), _only_one(output, _lock_of(folder), patient=in_a_copy()):
        stale = [] if in_a_copy() else [other for other in of_output.glob("*/") if other != folder]
        for unfinished in (entry for other in _unused(stale) for entry in other.glob("*")):
            if not unfinished.match("finished.*"):
                _remove(unfinished)
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        for other in _unused(stale):
            _remove(other)


def forget_work_of_others(outputs: Sequence[Path], pattern: str) -> None:
    """Removes the workspaces of outputs whose names match a pattern, but for those of `outputs`; in no experiment."""
    kept = {_flat(output) for output in outputs}
    found = work_folder().glob(f"{_flat(Path(pattern))}/*/")
    for folder in _unused(folder for folder in found if not in_a_copy() and folder.parent.name not in kept):
        _remove(folder)


def earlier_finished(output: Path) -> list[Path]:
    """The finished files that workspaces keep of an output, whatever their inputs were."""
    return sorted((work_folder() / _flat(output)).glob("*/finished.*"))


def forget_finished(*outputs: Path) -> None:
    """Removes what workspaces keep of finished outputs (`finished.*`), once a later stage shows that DVC knows them.

    Not in an experiment: it knows nothing of what others have finished there.
    """
    for output in outputs if not in_a_copy() else ():
        for folder in _unused((work_folder() / _flat(output)).glob("*/")):
            for finished in folder.glob("finished.*"):
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
def _only_one(output: Path, lock: Path, seconds: float | None = None, patient: bool = False) -> Iterator[None]:
    """Holds a lock that the system releases when its process dies; one who is patient is not refused, but waits."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(lock)
    try:
        held.acquire(timeout=LOCK_SECONDS if seconds is None else seconds)
    except Timeout:
        if not patient:
            raise PipelineError(
                f"another process is already writing {output}. Wait until it ends, or stop it, then run again."
            ) from None
        print(f"waiting for another process that is making the same {output}", file=sys.stderr, flush=True)
        held.acquire()
    try:
        yield
    finally:
        held.release()


def _unused(folders: Iterable[Path]) -> Iterator[Path]:
    """Those workspaces on which nobody is at work, each kept for the caller until it asks for the next."""
    for folder in folders:
        with suppress(PipelineError), _only_one(folder, _lock_of(folder), seconds=0):
            yield folder


def _lock_of(folder: Path) -> Path:
    """The lock of a workspace lies beside it and stays: whoever waits for it must not wait for a removed file."""
    return folder.with_suffix(".lock")


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
