"""Where unfinished work lies, so that a killed run goes on where it stopped."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline.runtime.digests import fingerprint
from pipeline.runtime.errors import BusyError
from pipeline.runtime.publish import LOCKS, flat_name, only_one, remove

CODE = Path(__file__).parents[1]
"""Where the packages lie."""


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
def workspace(output: Path, *, packages: Sequence[str], **inputs: Any) -> Iterator[Path]:
    """A folder for the work on `output`, keyed by its JSON-serialisable inputs and by the code that makes it.

    It lies in `<DVC_ROOT or .>/.work/` and survives a killed run. Work that other inputs or another version of
    the code left for the same output is removed, but for its finished files, which go when the block ends well. What
    the block leaves there stays until then: name the finished files `finished.*` and `publish_copy` them, so that a
    kill between the stage's end and DVC's note of it costs nothing; `forget_finished` removes them.

    Experiments remove no work of other inputs, and wait for one another where they need the same: the second finds
    what the first has finished.

    Args:
        output: the file that is made.
        packages: those whose code decides what the work becomes, "training", "models" ...; an edit of any other
            loses no work.
        inputs: whatever else decides it.

    Raises:
        BusyError: another process is at work on the same output, and this is no experiment in a copy.
    """
    of_output = work_folder() / flat_name(output)
    folder = of_output / fingerprint(code=_code_sha256(packages), **inputs)[:16]
    here = LOCKS / f"{of_output.name}.lock"
    with only_one(output, here), only_one(output, _lock_of(folder), patient=in_a_copy()):
        stale = [] if in_a_copy() else [other for other in of_output.glob("*/") if other != folder]
        for unfinished in (entry for other in _unused(stale) for entry in other.glob("*")):
            if not unfinished.match("finished.*"):
                remove(unfinished)
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        for other in _unused(stale):
            remove(other)


def forget_work_of_others(outputs: Sequence[Path], pattern: str) -> None:
    """Removes the workspaces of outputs whose names match a pattern, but for those of `outputs`; in no experiment."""
    kept = {flat_name(output) for output in outputs}
    found = work_folder().glob(f"{flat_name(Path(pattern))}/*/")
    for folder in _unused(folder for folder in found if not in_a_copy() and folder.parent.name not in kept):
        remove(folder)


def earlier_finished(output: Path) -> list[Path]:
    """The finished files that workspaces keep of an output, whatever their inputs were."""
    return sorted((work_folder() / flat_name(output)).glob("*/finished.*"))


def forget_finished(*outputs: Path) -> None:
    """Removes what workspaces keep of finished outputs (`finished.*`), once a later stage shows that DVC knows them.

    Not in an experiment: it knows nothing of what others have finished there.
    """
    for output in outputs if not in_a_copy() else ():
        for folder in _unused((work_folder() / flat_name(output)).glob("*/")):
            for finished in folder.glob("finished.*"):
                finished.unlink()


def _unused(folders: Iterable[Path]) -> Iterator[Path]:
    """Those workspaces on which nobody is at work, each kept for the caller until it asks for the next."""
    for folder in folders:
        with suppress(BusyError), only_one(folder, _lock_of(folder), seconds=0):
            yield folder


def _lock_of(folder: Path) -> Path:
    """The lock of a workspace lies beside it and stays: whoever waits for it must not wait for a removed file."""
    return folder.with_suffix(".lock")


def _code_sha256(packages: Sequence[str]) -> str:
    """SHA-256 of packages' source, so that unfinished work never outlives the code that began it."""
    digest = hashlib.sha256()
    for package in sorted(packages):
        modules = sorted((CODE / package).glob("*.py"))
        if not modules:
            raise ValueError(f"there is no package {package}")
        for module in modules:
            digest.update(f"{package}/{module.name}\0".encode() + module.read_bytes() + b"\0")
    return digest.hexdigest()
