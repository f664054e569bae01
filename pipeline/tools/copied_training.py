"""A training in a copy of the project, on whatever machine: the stage is run there by DVC, and pushed to the remote.

A worker of Ray gets this module by value, from a machine whose files it may not see. So the module imports nothing of
ours; what runs in the copy is the code of the copy.
"""

import fcntl
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

LAST_LINES = 12
"""How many lines of a training that failed are told."""


@dataclass(frozen=True)
class Project:
    """A project, as it was when the sweep began.

    Attributes:
        folder: where it lies. A machine that sees this folder keeps unfinished epochs in its `.work/`.
        archive: what a copy consists of: a tar file.
        shown: files and folders, relative to the project, that a copy finds where the project has them.
        scratch: the folder in which a machine makes copies; None: one in the folder of temporary files.
    """

    folder: Path
    archive: bytes
    shown: Sequence[Path] = ()
    scratch: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """How a training went.

    Attributes:
        stage: its name.
        succeeded: whether its files are in the remote.
        machine: where it ran.
        last_lines: the end of what it printed.
    """

    stage: str
    succeeded: bool
    machine: str
    last_lines: str


def train(project: Project, stage: str, *, tell: bool = False) -> Outcome:
    """Runs the stage of a training in a copy of a project, and pushes its files.

    The copy has DVC's cache in common with the other copies on this machine. It is removed if the training succeeds;
    if not, the next attempt on this machine goes on in it.

    Args:
        project: the project.
        stage: the name of the stage, such as "train_student@kl-4-1".
        tell: whether what it prints goes to stderr.
    """
    copies = _folder_of_copies(project)
    with _held(copies / f"{stage}.lock") as lock:
        copy = copies / stage
        _unpack(project, copy)
        code, lines = _run([sys.executable, "-m", "pipeline.cli.copied", stage], copy, lock, tell)
        if code == 0:
            shutil.rmtree(copy, ignore_errors=True)
    return Outcome(stage, code == 0, os.uname().nodename, "".join(lines))


def _folder_of_copies(project: Project) -> Path:
    """The folder of this project's copies. Among the temporary files, no other user can have made it."""
    scratch = project.scratch
    if scratch is None:
        scratch = Path(tempfile.gettempdir()) / f"softlabel-{os.getuid()}"
        scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        if scratch.lstat().st_uid != os.getuid():
            raise PermissionError(f"{scratch} belongs to another user; give a folder with --scratch")
    key = hashlib.sha256(os.fsencode(project.folder)).hexdigest()[:8]
    copies = scratch / f"{project.folder.name}-{key}"
    copies.mkdir(parents=True, exist_ok=True)
    return copies


@contextmanager
def _held(lock: Path) -> Iterator[int]:
    """Waits until no other process on this machine is in the copy, such as what is left of a killed worker.

    Yields:
        The open lock: a process that gets it holds it, too.
    """
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _unpack(project: Project, copy: Path) -> None:
    """Makes the copy. Of an earlier attempt, only unfinished work stays."""
    copy.mkdir(exist_ok=True)
    for entry in copy.iterdir():
        if entry.is_symlink() or not entry.is_dir():
            entry.unlink()
        elif entry.name != ".work":
            shutil.rmtree(entry)
    with tarfile.open(fileobj=io.BytesIO(project.archive)) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11 has it from 3.11.4 on
        archive.extractall(copy)  # noqa: S202  # `packed` made it
    work = project.folder / ".work"
    if work.is_dir() and os.access(work, os.W_OK) and not (copy / ".work").exists():
        (copy / ".work").symlink_to(work)
    for path in project.shown:
        if (project.folder / path).exists() and not (copy / path).exists():
            (copy / path).parent.mkdir(parents=True, exist_ok=True)
            (copy / path).symlink_to(project.folder / path)


def _run(command: Sequence[str], copy: Path, lock: int, tell: bool) -> tuple[int, Sequence[str]]:
    """Runs a command in a copy: its exit code and last lines. It ends with the process that waits for it here."""
    python = str(Path(sys.executable).parent)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "GIT_"))},
        "PATH": os.pathsep.join(filter(None, [python, os.environ.get("PATH")])),
        "DVC_SITE_CACHE_DIR": str(copy / ".dvc" / "site"),
    }
    lines = deque[str](maxlen=LAST_LINES)
    with subprocess.Popen(
        command,
        cwd=copy,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=[lock],
        text=True,
        errors="replace",
    ) as process:
        try:
            for line in process.stdout or ():
                lines.append(line)
                if tell:
                    print(line, end="", file=sys.stderr, flush=True)
        except BaseException:
            process.terminate()
            raise
    return process.returncode, lines
