"""What `dvc` leaves where it was ended, and how it is mended, as docs/reliability.md tells users to."""

import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.crash_project import locked_stages, paths_of

LOCK, NOTES, KEPT_NOTES = Path(".dvc/tmp/rwlock"), Path("dvc.lock"), Path(".work/dvc.lock")
"""Two files that dvc writes in place, and the copy that stages keep of the second."""

RUNS = Path(".dvc/cache/runs")
"""What dvc keeps of runs, a folder for each."""

CANNOT_READ_LOCK = "Unable to read RWLock-file"
NOTES_CUT_OFF, RUN_UNFINISHED, OTHER = "dvc.lock is cut off", "a run in its cache is unfinished", "something else"
KINDS = {
    CANNOT_READ_LOCK: CANNOT_READ_LOCK,
    NOTES_CUT_OFF: r"dvc\.lock' (is invalid|validation failed)",
    RUN_UNFINISHED: r"join\(\) argument must be str|: 'outs'$|is cached - skipping run[\s\S]*does not exist",
    "a lock is not taken": "Unable to acquire lock|Unlock called on an unlocked lock",
}
"""How dvc fails by itself after it was ended, and what it says then (docs/reliability.md)."""

LEFT = re.compile(r"\.[\w-]{22}\.tmp")
"""The names of files that dvc fills before it renames them."""

LOST, LEFT_IN_TREE = "dvc.lock lacked ", "dvc left "
"""How texts begin that tell of what was mended after a run that had ended well."""


def kind_of(said: str) -> str:
    """How dvc failed by itself: a name of `KINDS`, or `OTHER`."""
    return next((kind for kind, says in KINDS.items() if re.search(says, said, re.MULTILINE)), OTHER)


def mend(project: Path, kind: str, is_again: bool) -> None:
    """Mends what a kind of failure is known for; if it comes again, all that dvc may not be able to read."""
    kept = project / KEPT_NOTES
    if kind == CANNOT_READ_LOCK:
        (project / LOCK).unlink(missing_ok=True)
    if kind == RUN_UNFINISHED or is_again:
        for unfinished in (project / RUNS).glob("*/*/.*.tmp"):
            unfinished.unlink()
        for run in (project / RUNS).glob("*/*"):
            with suppress(OSError):
                run.rmdir()  # fails if it is not empty
    if (kind == NOTES_CUT_OFF or is_again) and kept.is_file():
        shutil.copyfile(kept, project / NOTES)


def remove_left(project: Path) -> list[str]:
    """Removes the files that dvc left unfinished in the tree, and returns their names."""
    left = [path for path in paths_of(project) if LEFT.fullmatch(Path(path).name)]
    for path in left:
        (project / path).unlink()
    return left


def lost_entries(project: Path, noted: Mapping[str, Any], stage: str) -> list[str]:
    """The stages other than one of which dvc.lock has lost something, and all that it lacks."""
    found = locked_stages(project) if noted else {}
    return sorted(
        name for name, entry in noted.items() if name not in found or (name != stage and found[name] != entry)
    )
