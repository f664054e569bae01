"""The folders of unfinished work, from which a killed run continues."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline.runtime.digests import fingerprint, sha256_file
from pipeline.runtime.errors import BusyError
from pipeline.runtime.publish import LOCKS, flat_name, locked, remove, replace_whole

CODE = Path(__file__).parents[1]
"""The folder of the packages."""

NOTE = "finished.note"
"""The file of a note in a workspace."""


def source() -> dict[str, str]:
    """SHA-256 of the source of each module, by its path below `CODE`."""
    return {module.relative_to(CODE).as_posix(): sha256_file(module) for module in sorted(CODE.glob("*/*.py"))}


AT_START = source()
"""The source when this process began. This is what runs, whatever an edit has made of the files since."""


def work_folder() -> Path:
    """The folder of all unfinished work: `<DVC_ROOT or .>/.work/`.

    DVC runs a queued experiment in a copy of the repository, which it removes afterwards; DVC_ROOT names the repository
    itself. So the work of an experiment outlives its copy, and all experiments share it.
    """
    return Path(os.environ.get("DVC_ROOT", ".")) / ".work"


def in_a_copy() -> bool:
    """Whether this process is an experiment in a copy of the repository; others may run at the same time."""
    copies = Path(os.environ.get("DVC_ROOT", ".")).resolve() / ".dvc" / "tmp" / "exps"
    return Path.cwd().is_relative_to(copies)


@contextmanager
def workspace(output: Path, *, code: Sequence[str], **inputs: Any) -> Iterator[Path]:
    """A folder for the work on `output`, named by the inputs of the work and by the code that does it.

    The folder lies in `work_folder()` and survives a kill. The block names its finished files `finished.*` and copies
    them to their places with `publish_copy`. They stay in the folder, because DVC removes outputs before it runs a
    stage: a kill before DVC has noted the new output would lose them. `forget_finished` removes them.

    Work on the same output with other inputs or other code is removed when the block begins, except for its finished
    files, which are removed when the block has ended without an error.

    Experiments do not remove work of other inputs. If two experiments need the same work, the second one waits and
    finds the finished files of the first.

    Args:
        output: the file that is made.
        code: the code that decides the result: a stage's own module, such as "stages/precompute.py", and the packages
            that it imports, such as "training". An edit of other code keeps the work.
        inputs: JSON-serialisable values that decide the result together with the code.

    Raises:
        BusyError: another process is working on the same output. An experiment is refused only if that process runs in
            the same copy of the repository.
    """
    name = fingerprint(code=code_sha256(code), **inputs)[:16]
    with _held(output, work_folder() / flat_name(output) / name) as folder:
        yield folder


@contextmanager
def noted(output: Path, note: str) -> Iterator[Path | None]:
    """The folder of finished work on `output` beside which `leave_note` left this note, or None.

    The block holds it as that of `workspace` does.

    Raises:
        BusyError: as `workspace`.
    """
    folder = next((folder for folder, left in notes_on(output).items() if left == note), None)
    if folder is None:
        yield None
        return
    with _held(output, folder):
        yield folder


def notes_on(output: Path) -> dict[Path, str]:
    """The notes that lie beside finished work on `output`, by their folders."""
    notes = {}
    for file in earlier_finished(output):
        if file.name == NOTE:
            with suppress(FileNotFoundError):  # another process has just removed it
                notes[file.parent] = file.read_text(encoding="utf-8")
    return notes


def leave_note(folder: Path, note: str) -> None:
    """Notes in a workspace whose work is finished for whom it was done: only who knows the note finds it by `noted`."""
    with replace_whole(folder / NOTE) as partial:
        partial.write_text(note, encoding="utf-8")


@contextmanager
def _held(output: Path, folder: Path) -> Iterator[Path]:
    """Makes and locks the folder of some work on `output`, and removes other work as `workspace` says."""
    of_output = folder.parent
    # The first lock belongs to the output of this copy of the repository, the second to the work that copies share.
    with (
        locked(output, LOCKS / f"{of_output.name}.lock"),
        locked(output, _lock_of(folder), patient=in_a_copy()),
    ):
        stale = [] if in_a_copy() else [other for other in of_output.glob("*/") if other != folder]
        # Finished files stay until the new work is done: some of their rows may still be right.
        for unfinished in (entry for other in _unused(stale) for entry in other.glob("*")):
            if not unfinished.match("finished.*"):
                remove(unfinished)
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        for other in _unused(stale):
            remove(other)


def forget_work_of_others(outputs: Sequence[Path], pattern: str) -> None:
    """Removes the work on all outputs whose names match a pattern, except `outputs`; an experiment removes nothing."""
    if in_a_copy():
        return
    kept = {flat_name(output) for output in outputs}
    folders = work_folder().glob(f"{flat_name(Path(pattern))}/*/")
    for folder in _unused(folder for folder in folders if folder.parent.name not in kept):
        remove(folder)


def earlier_finished(output: Path) -> list[Path]:
    """The finished files of an output in all its workspaces, whatever their inputs were."""
    return sorted((work_folder() / flat_name(output)).glob("*/finished.*"))


def forget_finished(*outputs: Path) -> None:
    """Removes the finished files (`finished.*`) of some outputs from their workspaces.

    A stage calls it for its inputs: DVC runs a stage only after it has noted the stage's inputs. An experiment removes
    nothing, because other experiments may still need these files.
    """
    if in_a_copy():
        return
    for output in outputs:
        for folder in _unused((work_folder() / flat_name(output)).glob("*/")):
            for finished in folder.glob("finished.*"):
                finished.unlink()


def _unused(folders: Iterable[Path]) -> Iterator[Path]:
    """The workspaces that no process uses; each is locked until the caller takes the next one."""
    for folder in folders:
        with suppress(BusyError), locked(folder, _lock_of(folder), seconds=0):
            yield folder


def _lock_of(folder: Path) -> Path:
    # Beside the folder, and never removed: a process that waits must not wait for a file that is gone.
    return folder.with_suffix(".lock")


def code_sha256(code: Sequence[str]) -> str:
    """SHA-256 of the source of packages and modules: other code must not continue unfinished work."""
    chosen: dict[str, str] = {}
    for name in code:
        modules = {path: sha256 for path, sha256 in AT_START.items() if path == name or path.split("/")[0] == name}
        if not modules:
            raise ValueError(f"there is no package or module {name}")
        chosen |= modules
    return fingerprint(source=chosen)
