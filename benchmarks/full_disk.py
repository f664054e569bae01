"""Fills the disk at every step of every stage and tool, and looks at what is said, what is left, and how it goes on.

A reproduced project lies on a small file system in memory, with TMPDIR. For each command its outputs are removed, or,
in every second try, have other bytes, as if they were older; the disk is filled but for a seeded number of blocks, and
the command is run; then there is room, and it is run again. An older output must be there until the new one is. Linux
alone; needs root or user namespaces.

python -m benchmarks.full_disk            # an hour; makes a project first
python -m benchmarks.full_disk --project FOLDER --only soften@4 pack --tries 2 --output /tmp/full_disk.json
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.full_disk_steps import Step, steps_of
from benchmarks.projects import environment_of, make_project, write_params
from benchmarks.record import Record, arguments
from benchmarks.small_disk import BLOCK, Disk

SMALL = {
    "train_teacher.phases": [{"epochs": 2, "learning_rate": 0.001, "trainable_from": "all"}],
    "student.phases": [{"epochs": 2, "learning_rate": 0.002, "trainable_from": "all"}],
    "student.seeds": [1],
    "student.trainings_at_once": 1,
    "split.limit": 400,
}
"""Of the project that is made: what differs from the default job."""


@dataclass(frozen=True)
class Outcome:
    """What came of a command on a disk with little room.

    Attributes:
        blocks: the room, in blocks of 4 KiB.
        failed: whether it ended with an error.
        faults: what should not be, in words.
    """

    blocks: int
    failed: bool
    faults: list[str]


def tried(disk: Disk, step: Step, whole: Mapping[str, str], blocks: int, has_older: bool) -> Outcome:
    """Runs a command on a disk with room for some blocks, then on one with room.

    Args:
        disk: the disk.
        step: the command.
        whole: the SHA-256 of each file after a run with room.
        blocks: the room.
        has_older: whether outputs of an older run are there.
    """
    disk.restore(step, has_older)
    before = disk.files()
    disk.leave(blocks)
    first = disk.run(step)
    disk.make_room()
    after = disk.files()
    faults = _faults_of_message(step, first) if first.returncode else []
    if first.returncode:
        faults += [
            f"left or changed {name}" for name in after if after[name] not in (before.get(name), whole.get(name))
        ]
    faults += [f"lost {name}" for name in before if name not in after and not _is_removed_by_dvc(step, name)]
    second = disk.run(step)
    if second.returncode:
        faults.append(f"the next run ended with {second.returncode}: {second.stderr[-300:]}")
    elif step.same:
        now = disk.files()
        faults += [f"differs after the next run: {name}" for name in whole if now.get(name) != whole[name]]
    return Outcome(blocks, first.returncode != 0, faults)


def _is_removed_by_dvc(step: Step, name: str) -> bool:
    """Whether this is an output that `dvc repro` removes before it runs a stage."""
    return _is_of_dvc(step) and name.removeprefix("project/") in step.outputs


def _is_of_dvc(step: Step) -> bool:
    return step.words[2] == "dvc"


def _faults_of_message(step: Step, done: subprocess.CompletedProcess[str]) -> list[str]:
    errors = [line for line in done.stderr.splitlines() if line.startswith(("Error: ", "ERROR: "))]
    faults = []
    of_dvc = _is_of_dvc(step)  # it has messages and codes of its own
    if done.returncode != 1 and not of_dvc:
        faults.append(f"ended with {done.returncode}")
    if not of_dvc and (len(errors) != 1 or "No space left" not in errors[0] or len(errors[0]) > 2000):
        faults.append(f"said {done.stderr[-600:]!r}")
    if "Traceback" in done.stderr:
        faults.append(f"a traceback: {done.stderr[-300:]!r}")
    return faults


def with_room(disk: Disk, step: Step) -> tuple[int, dict[str, str]]:
    """How many blocks a command adds where there is room, and the SHA-256 of each file afterwards."""
    disk.restore(step)
    before = disk.used()
    done = disk.run(step)
    if done.returncode:
        raise SystemExit(f"{step.name} ends with {done.returncode} where there is room:\n{done.stderr[-2000:]}")
    return disk.used() - before, disk.files()


def measured(options: argparse.Namespace, project: Path, place: Path) -> int:
    """Tries every command, prints and keeps what came out; returns the number of faults."""
    record = Record("full_disk", options)
    disk, rows, faults = Disk(place, project), [], []
    for step in steps_of(project):
        if options.only and step.name not in options.only:
            continue
        needed, whole = with_room(disk, step)
        random_of_step = random.Random(f"{options.seed} {step.name}")  # noqa: S311
        rooms = [random_of_step.randint(0, needed + 2) for _ in range(options.tries)]
        outcomes = [tried(disk, step, whole, room, number % 2 == 1) for number, room in enumerate(rooms)]
        print(f"{step.name}: {sum(outcome.failed for outcome in outcomes)} of {len(outcomes)} failed", flush=True)
        of_step = [f"{step.name}, {outcome.blocks} blocks: {fault}" for outcome in outcomes for fault in outcome.faults]
        print("\n".join(of_step), end="\n" if of_step else "", flush=True)
        faults += of_step
        counts = Counter(outcome.failed for outcome in outcomes)
        wrong = sum(bool(outcome.faults) for outcome in outcomes)
        rows.append([step.name, str(needed * BLOCK // 1024), str(len(outcomes)), str(counts[True]), str(wrong)])
    record.table(
        "Disks with room for a part of what a command writes",
        ["command", "writes KiB", "tried", "disk full", "something wrong"],
        rows,
    )
    record.keep(faults=faults)
    record.write()
    return len(faults)


def main() -> None:
    """Starts itself again where it may mount a file system, and measures there."""
    options = arguments(
        __doc__,
        ("--project", {"type": Path, "help": "A reproduced project.  [default: a small one is made]"}),
        ("--only", {"nargs": "+", "metavar": "NAME", "help": "Of the table."}),
        ("--tries", {"type": int, "default": 20, "help": "Disks for each command."}),
        ("--seed", {"type": int, "default": 1}),
    )
    if os.environ.get("FULL_DISK") != "mounting":
        os.environ["FULL_DISK"] = "mounting"
        os.execvp("unshare", ["unshare", "-rm", sys.executable, "-m", "benchmarks.full_disk", *sys.argv[1:]])  # noqa: S606
    with tempfile.TemporaryDirectory() as work:
        project, place = options.project, Path(work, "disk")
        place.mkdir()
        if project is None:
            project = Path(work, "project")
            make_project(project)
            write_params("mnist", SMALL, project / "params.yaml")
            subprocess.run([sys.executable, "-m", "dvc", "repro"], cwd=project, env=environment_of(project), check=True)
        subprocess.run([sys.executable, "-m", "compileall", "-q", "pipeline"], cwd=project, check=True)
        try:
            faults = measured(options, project, place)
        finally:
            subprocess.run(["umount", "--lazy", place], check=False, stderr=subprocess.DEVNULL)
    if faults:
        raise SystemExit(1)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
