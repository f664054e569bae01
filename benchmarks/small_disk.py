"""A small file system in memory with a copy of a project, which is filled but for some blocks."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from benchmarks.full_disk_steps import Step
from benchmarks.projects import environment_of
from pipeline.runtime.digests import sha256_file
from pipeline.runtime.publish import remove

BLOCK = 4096
MIB = 2**20
ROOM = 64 * MIB
"""What the disk holds beside the project."""

HANGS = 1800
"""Seconds after which a command is taken to hang."""


class Disk:
    """A small file system in memory, with a copy of a project.

    Args:
        place: an empty folder, on which it is mounted; only this process and those that it starts see it.
        source: the project.
    """

    def __init__(self, place: Path, source: Path) -> None:
        size = sum(file.lstat().st_size // BLOCK + 2 for file in source.rglob("*")) * BLOCK + ROOM
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", place], check=True)
        self._source, self._ballast = source, place / "ballast"
        self.project, self.temporary = place / "project", place / "tmp"
        self._environment = environment_of(self.project) | {
            "TMPDIR": str(self.temporary),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def restore(self, step: Step, has_older: bool = False) -> None:
        """Puts the project back as it was before a command, or as an older run of it left it, on a disk with room."""
        self.make_room()
        for folder in (self.project, self.temporary):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self._source, self.project, symlinks=True)
        self.temporary.mkdir()
        for place in (self.project / output for output in step.outputs if output != "params.yaml"):
            if has_older:
                _make_older(place)
            else:
                remove(place)

    def used(self) -> int:
        """Blocks in use."""
        told = os.statvfs(self.project)
        return told.f_blocks - told.f_bfree

    def leave(self, blocks: int) -> None:
        """Fills the disk but for so many blocks."""
        with self._ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, os.statvfs(self.project).f_bfree - blocks) * BLOCK)

    def make_room(self) -> None:
        """Removes what fills the disk."""
        self._ballast.unlink(missing_ok=True)

    def run(self, step: Step) -> subprocess.CompletedProcess[str]:
        """Runs a command in the project."""
        return subprocess.run(
            step.words,
            cwd=self.project,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=HANGS,
            check=False,
        )

    def files(self) -> dict[str, str]:
        """SHA-256 of each file of the project and of TMPDIR, but for what a run may leave to go on with."""
        found = [file for folder in (self.project, self.temporary) for file in folder.rglob("*") if file.is_file()]
        names = {file.relative_to(self.project.parent).as_posix(): file for file in found}
        return {name: sha256_file(file) for name, file in names.items() if not _is_of_the_run(name)}


def _make_older(place: Path) -> None:
    """Gives a file, or all files in a folder, other bytes."""
    for file in (place, *place.rglob("*")):
        if file.is_file():
            with file.open("ab") as opened:
                opened.write(b"older")


def _is_of_the_run(name: str) -> bool:
    """Whether a file is compiled code, unfinished work, or DVC's own."""
    whole = name.startswith("project/.work/") and not name.endswith(".partial")
    of_dvc = name.startswith("project/.dvc/") or name == "project/dvc.lock" or re.search(r"/\.[\w-]{22}\.tmp$", name)
    return whole or bool(of_dvc) or "/__pycache__/" in name
