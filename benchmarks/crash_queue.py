"""Two experiments in DVC's queue, at the same time, whose processes are killed."""

import json
import re
import shutil
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import psutil
from ruamel.yaml import YAML

from benchmarks.crash_attempts import SIGNALS, lives
from benchmarks.crash_project import asked, attempted, damaged_objects
from pipeline.runtime.publish import remove, replace_whole

EXPERIMENTS = {"first": "split.val_fraction=0.2", "second": "split.val_fraction=0.3"}
QUEUE = ("dvc", "exp", "run", "--queue", "--allow-missing", "--copy-paths", "data/raw/small")
LEFT_OUT = ("measure_speed", "measure_exports", "report", "model_card")
"""Stages that hold seconds, or show them: an experiment's dvc.lock is never the same with them."""

VICTIMS = {"worker": "queue-worker", "dvc": "exec-run", "stage": "pipeline"}
"""Who is killed, and a word of its command line."""

REF = re.compile(r"^(refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/(\w+))$", re.MULTILINE)
DAMAGED_LOCK = re.compile(r"Unable to read RWLock-file '([^']+)'")
"""What dvc says if it was killed while it wrote a lock (docs/reliability.md)."""

LOOK_EVERY = 0.5
TRIES = 20
HANGS = 1200.0
"""Seconds without a kill in which two experiments must end."""


@dataclass
class Queued:
    """What came of the kills in the queue.

    Attributes:
        hits: kills by victim.
        misses: moments at which nothing was left to kill.
        ends: experiments that ended after kills.
        again: how often an experiment had to be queued again.
        mended: how often a lock that `dvc` had damaged was removed.
        wrong: what was not as it must be.
        commit: of this benchmark and of the program.
    """

    hits: dict[str, int] = field(default_factory=lambda: dict.fromkeys(VICTIMS, 0))
    misses: int = 0
    ends: int = 0
    again: int = 0
    mended: int = 0
    wrong: list[str] = field(default_factory=list)
    commit: str = ""


def queue_kills(work: Path, kills: int, seed: int, commit: str) -> Queued:
    """Kills processes of two experiments until so many kills have hit; of an earlier run, if it has finished them."""
    kept = work / f"queue_{kills}_{seed}.json"
    if not kills:
        return Queued()
    if not kept.is_file():
        before, project = work / "queue" / "before", work / "queue" / "project"
        _make(work / "reference", before)
        try:
            queued = _kills_in(before, project, kills, seed)
        finally:
            _end_all(project)
        queued.commit = commit
        with replace_whole(kept) as partial:
            partial.write_text(json.dumps(asdict(queued)), encoding="utf-8")
    return Queued(**json.loads(kept.read_text(encoding="utf-8")))


def _kills_in(before: Path, project: Path, kills: int, seed: int) -> Queued:
    """Kills processes of two experiments in copies of a project until so many kills have hit."""
    queued, random, start = Queued(), np.random.default_rng([seed, 0]), time.monotonic()
    _begin(before, project)
    _go_on(project, Queued())
    _until_all_are_there(project, Queued())
    usual, expected = time.monotonic() - start, _locks(project)
    print(f"queue: two experiments without a kill, {usual:.0f} s", flush=True)
    while sum(queued.hits.values()) < kills:
        _begin(before, project)
        _batter(project, queued, random, usual)
        queued.wrong += [
            f"{name}: another dvc.lock" for name, lock in _locks(project).items() if lock != expected[name]
        ]
        queued.wrong += [f"in DVC's cache: {path}" for path in damaged_objects(project)]
        print(f"queue: {sum(queued.hits.values())} kills, {time.monotonic() - start:.0f} s", flush=True)
    return queued


def _make(reference: Path, project: Path) -> None:
    """Copies the project, without the stages that hold seconds, and commits it."""
    shutil.rmtree(project, ignore_errors=True)
    shutil.copytree(reference, project, symlinks=True)
    yaml = YAML()
    pipeline = yaml.load(project / "dvc.yaml")
    for stage in LEFT_OUT:
        pipeline["stages"][stage]["frozen"] = True
    yaml.dump(pipeline, project / "dvc.yaml")
    (project / ".done").unlink()
    for words in (
        ("config", "user.name", "Nobody"),
        ("config", "user.email", "nobody@example.org"),
        ("config", "commit.gpgSign", "false"),
        ("add", "--all"),
        ("commit", "--quiet", "--message=small"),
    ):
        asked("git", *words, cwd=project)


def _begin(before: Path, project: Path) -> None:
    """Makes the project anew, when nothing works in the old one any more."""
    _end_all(project)
    remove(project)
    shutil.copytree(before, project, symlinks=True)


def _batter(project: Path, queued: Queued, random: np.random.Generator, usual: float) -> None:
    """Queues both experiments, kills one to four times, goes on after each kill, and waits for the end."""
    _go_on(project, Queued())
    for _ in range(random.integers(1, 5)):
        time.sleep(random.uniform(0, usual / 2))
        living = {victim: found for victim, word in VICTIMS.items() if (found := of_project(project, word))}
        if not living:
            queued.misses += 1
            continue
        victim, number = str(random.choice([*living])), SIGNALS[random.integers(len(SIGNALS))]
        processes = living[victim]
        with suppress(psutil.NoSuchProcess):
            processes[int(random.integers(len(processes)))].send_signal(number)
            queued.hits[victim] += 1
        time.sleep(random.uniform(0, 5))
        _go_on(project, queued)
    _until_all_are_there(project, queued)
    queued.ends += len(EXPERIMENTS)


def _go_on(project: Path, queued: Queued) -> None:
    """Queues what is neither there nor in the queue, as docs/experiments.md says, and starts workers."""
    lost = [name for name, state in states(project, queued).items() if state == "Running" and not _runs(project, name)]
    if lost:
        attempted("dvc", "queue", "kill", *lost, cwd=project)
    attempted("dvc", "queue", "remove", "--failed", cwd=project)
    known = {**states(project, queued), **_refs(project)}
    for name, change in EXPERIMENTS.items():
        if name not in known:
            insist(queued, *QUEUE, "--name", name, "-S", change, cwd=project)
            queued.again += 1
    insist(queued, "dvc", "queue", "start", "--jobs", "2", cwd=project)


def insist(queued: Queued, *command: str, cwd: Path) -> str:
    """What a command of dvc prints that may fail while a worker holds a lock, or writes what the command reads.

    A damaged lock of dvc's is removed.

    Raises:
        SystemExit: it fails again and again.
    """
    for _ in range(TRIES):
        code, said = attempted(*command, cwd=cwd)
        if code == 0:
            return said
        if damaged := DAMAGED_LOCK.search(said):
            (cwd / damaged[1]).unlink(missing_ok=True)
            queued.mended += 1
        time.sleep(1)
    return asked(*command, cwd=cwd)


def _until_all_are_there(project: Path, queued: Queued) -> None:
    deadline, idle = time.monotonic() + HANGS, 0
    while _refs(project).keys() != EXPERIMENTS.keys():
        if time.monotonic() > deadline:
            raise SystemExit(f"the queue hangs in {project}:\n{attempted('dvc', 'queue', 'status', cwd=project)[1]}")
        time.sleep(LOOK_EVERY)
        idle = 0 if of_project(project, "exec-run") else idle + 1
        if idle > 10 / LOOK_EVERY:
            _go_on(project, queued)
            idle = 0


def states(project: Path, queued: Queued) -> dict[str, str]:
    """The experiments in the queue, and the state of each."""
    rows = [line.split() for line in insist(queued, "dvc", "queue", "status", cwd=project).splitlines()]
    return {row[1]: row[-1] for row in rows if len(row) > 2 and row[1] in EXPERIMENTS and row[-1] != "Success"}


def _runs(project: Path, name: str) -> bool:
    """Whether a process of an experiment lives."""
    marks = []
    for process in of_project(project, "exec-run"):
        with suppress(psutil.Error, OSError, ValueError):
            marks.append(json.loads(Path(process.cmdline()[-1]).read_text(encoding="utf-8"))["name"])
    return name in marks


def _refs(project: Path) -> dict[str, str]:
    """The experiments that are there, and their references in git."""
    listed = asked("git", "for-each-ref", "--format=%(refname)", "refs/exps", cwd=project)
    return {name: ref for ref, name in REF.findall(listed) if name in EXPERIMENTS}


def _locks(project: Path) -> dict[str, str]:
    return {name: asked("git", "show", f"{ref}:dvc.lock", cwd=project) for name, ref in _refs(project).items()}


def of_project(project: Path, word: str | None = None) -> list[psutil.Process]:
    """The processes in a project, and below it; those alone that have such a word in their command line."""

    def fits(process: psutil.Process) -> bool:
        try:
            named = word is None or word in process.cmdline()
            return named and lives(process) and Path(process.cwd()).is_relative_to(project)
        except (psutil.Error, OSError):
            return False

    return [process for process in psutil.process_iter() if fits(process)]


def _end_all(project: Path) -> None:
    """Ends the workers, who watches them, and all that they started, and waits for it."""
    while processes := of_project(project):
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(LOOK_EVERY)
