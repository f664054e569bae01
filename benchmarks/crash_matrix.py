"""Kills at seeded moments: of every stage alone, of every stage under `dvc repro`, and of experiments in DVC's queue.

Each stage starts in a project in which all others have run. It is killed one to four times in a row, each time at a
random moment of its usual time, by SIGKILL, SIGTERM or SIGINT: the stage, `dvc`, both, or their process group. Then it
runs to its end, and the project is compared with one in which it ran undisturbed: every output, dvc.lock, `.work` and
all other names in the tree. Then the same begins anew, until so many kills have hit. A kill misses if the run ended
before. After half of the kills of `dvc` the next run begins while the stage, which ends with its dvc, may still live.

Stages that run alone are forks of a process that has loaded TensorFlow, so that their kills hit the work itself. One
in four kills is one under `dvc repro`, where most of the time goes into starting dvc, Python and TensorFlow.

In the queue, two experiments with other images for validation run all stages at the same time, from `split` to the
comparison and the exported files. A worker, an experiment's dvc, or a stage is killed; docs/experiments.md says how
to go on. The two must end with the dvc.lock of experiments that nothing disturbed.

    python -m benchmarks.crash_matrix [--kills 200] [--queue-kills 40] [--only STAGE ...] [--seed 1] [--work FOLDER]

With `--work`, the same command continues a run that was killed. Expect one and a half hours on two cores.
"""

import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from signal import SIGKILL
from typing import Any

import numpy as np

from benchmarks.crash_attempts import SIGNALS, Alone, ByDvc, End, Runs
from benchmarks.crash_project import (
    Stage,
    content,
    copy_before,
    damaged_objects,
    differences,
    make_reference,
    outputs,
    stages_of,
)
from benchmarks.crash_queue import queue_kills
from benchmarks.crash_server import CommandServer
from benchmarks.crash_tables import add_tables
from benchmarks.record import Record, arguments
from pipeline.runtime.cores import usable_threads
from pipeline.runtime.publish import replace_whole

ALONE, BY_DVC = "alone", "dvc repro"
SHARE_BY_DVC = 1 / 4
QUICK_BY_DVC = ("soften@4", "train_student@kl-4-1")
"""Of a quick run, the stages that are killed under `dvc repro`, too; nothing is killed in the queue."""

IN_A_ROW = 4
"""The most kills before a run is left alone."""

OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("--kills", {"type": int, "default": 200, "help": "Kills of each stage, alone and by dvc.  [default: 200]"}),
    ("--queue-kills", {"type": int, "default": 40, "help": "Kills in the queue.  [default: 40]"}),
    ("--only", {"nargs": "+", "metavar": "STAGE", "help": "Some stages, as dvc.lock names them."}),
    ("--seed", {"type": int, "default": 1, "help": "Of the moments.  [default: 1]"}),
    ("--work", {"type": Path, "metavar": "FOLDER", "help": "Keeps everything here.  [default: a temporary folder]"}),
    ("--processes", {"type": int, "default": usable_threads(), "help": "Stages at a time.  [default: cores]"}),
]


@dataclass
class Outcome:
    """What came of the kills of a stage in one way.

    Attributes:
        stage: the stage.
        way: `ALONE` or `BY_DVC`.
        hits: kills that hit a run.
        misses: runs that ended before their kill.
        ends: runs that were left alone after kills.
        seconds: from SIGINT or SIGTERM, sent to a stage that ran alone, to the end of its process.
        seconds_of_sigkill: the same of SIGKILL, for comparison: how long the system takes, which waits for the disk.
        wrong: what was not as it must be: other bytes, names that were left, hangs, tracebacks, exit codes.
    """

    stage: str
    way: str
    hits: int = 0
    misses: int = 0
    ends: int = 0
    seconds: list[float] = field(default_factory=list)
    seconds_of_sigkill: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def batter(stage: Stage, way: str, runs: Runs, reference: Path, project: Path, kills: int, seed: int) -> Outcome:
    """Kills a stage again and again.

    Args:
        stage: the stage.
        way: the name of the way in which it runs.
        runs: runs it.
        reference: a project in which all stages have run.
        project: where it runs; made here.
        kills: how many kills must hit.
        seed: of the moments, victims and signals.
    """
    outcome, random = Outcome(stage.name, way), np.random.default_rng([seed, *stage.name.encode(), len(way)])
    undisturbed = []
    for _ in range(2):
        copy_before(stage, reference, project, with_dvc=way == BY_DVC)
        undisturbed.append((runs.run(), content(project)))
    (first, expected), (usual, again) = undisturbed
    outcome.wrong += [f"without a kill: exit code {end.code}: {end.said[-500:]}" for end in (first, usual) if end.code]
    outcome.wrong += [f"without a kill: {path}" for path in differences(expected, again)]
    if outcome.wrong:
        return outcome
    while outcome.hits < kills and outcome.misses < 10 * kills:
        copy_before(stage, reference, project, with_dvc=way == BY_DVC)
        broken = partial(_broken_outputs, stage, project, expected)
        for _ in range(random.integers(1, IN_A_ROW + 1)):
            if not kill(outcome, runs, random, usual.seconds, broken):
                break
        last = runs.run()
        outcome.ends += 1
        if last.code:
            outcome.wrong.append(f"after kills: exit code {last.code}: {last.said[-500:]}")
        outcome.wrong += [f"after kills: {path}" for path in differences(expected, content(project))]
        outcome.wrong += [f"in DVC's cache: {path}" for path in damaged_objects(project)]
    if outcome.hits < kills:
        outcome.wrong.append(f"only {outcome.hits} of {kills} kills hit")
    return outcome


def kill(outcome: Outcome, runs: Runs, random: np.random.Generator, usual: float, broken: Any) -> bool:
    """Kills one run at a random moment, notes what came of it, and returns whether the kill hit."""
    at, is_awaited = random.uniform(0, usual), bool(random.integers(2))
    victim, number = str(random.choice(runs.victims)), SIGNALS[random.integers(len(SIGNALS))]
    end = runs.run(at, victim, number, is_awaited or victim == "stage")
    if end.after_signal is None:
        outcome.misses += 1
    else:
        outcome.hits += 1
    told = f"{number.name} of {victim} after {at:.2f} s"
    outcome.wrong += [f"{told}: {what}" for what in [*wrong_ends(end, outcome.way, number), *broken()]]
    if outcome.way == ALONE and end.after_signal is not None:
        (outcome.seconds_of_sigkill if number == SIGKILL else outcome.seconds).append(end.after_signal)
    return end.after_signal is not None


def wrong_ends(end: End, way: str, number: int) -> Iterator[str]:
    """What is not as it must be of a run that got a signal."""
    if end.hung:
        yield "hung"
    if "Traceback" in end.said and (way == ALONE or end.after_signal is None):
        yield f"a traceback: {end.said[-500:]}"
    ended = {0} if end.after_signal is None else {0, -number} | ({128 + number} if number != SIGKILL else set())
    if way == ALONE and end.code not in ended:
        yield f"exit code {end.code}"


def _broken_outputs(stage: Stage, project: Path, expected: dict[str, str]) -> list[str]:
    """Files under final names that are neither absent nor whole."""
    there = outputs(stage, content(project))
    return [f"{path} is not whole" for path, held in there.items() if held != expected.get(path, held)]


@dataclass(frozen=True)
class Part:
    """The kills of a stage in one way."""

    stage: Stage
    way: str
    kills: int


def one_part(work: Path, part: Part, seed: int, servers: "SimpleQueue[CommandServer]") -> Outcome:
    """What comes of a part; of an earlier run of this benchmark, if it has finished it."""
    stage, way, kills = part.stage, part.way, part.kills
    kept = work / f"{stage.file_name}_{way.replace(' ', '_')}_{kills}_{seed}.json"
    if not kept.is_file():
        start, project, log = time.monotonic(), work / kept.stem / "project", work / kept.stem / "log"
        project.parent.mkdir(exist_ok=True)
        server = servers.get()
        runs: Runs = Alone(stage, server, project, log) if way == ALONE else ByDvc(stage, project, log)
        try:
            outcome = batter(stage, way, runs, work / "reference", project, kills, seed)
        finally:
            servers.put(server)
        with replace_whole(kept) as partial_file:
            partial_file.write_text(json.dumps(asdict(outcome)), encoding="utf-8")
        print(f"{stage.name} {way}: {outcome.hits} kills, {time.monotonic() - start:.0f} s", flush=True)
    return Outcome(**json.loads(kept.read_text(encoding="utf-8")))


def parts_of(stages: Sequence[Stage], kills: int, by_dvc: Sequence[str]) -> list[Part]:
    """The kills of all stages, of some also by dvc."""
    part_by_dvc = max(1, round(kills * SHARE_BY_DVC))
    alone = [Part(stage, ALONE, kills - part_by_dvc) for stage in stages]
    return alone + [Part(stage, BY_DVC, part_by_dvc) for stage in stages if stage.name in by_dvc]


def run_all(work: Path, parts: Sequence[Part], seed: int, processes: int) -> list[Outcome]:
    """The kills of all parts, some at a time."""
    servers: SimpleQueue[CommandServer] = SimpleQueue()
    with ExitStack() as held, ThreadPoolExecutor(processes) as pool:
        for _ in range(processes):
            servers.put(held.enter_context(CommandServer(work / "reference")))
        return list(pool.map(lambda part: one_part(work, part, seed, servers), parts))


def refuse_other_code(work: Path, commit: str) -> None:
    """Notes the commit in a new folder.

    Raises:
        SystemExit: the folder holds results of another commit.
    """
    note = work / "commit"
    work.mkdir(parents=True, exist_ok=True)
    if note.is_file() and (found := note.read_text(encoding="utf-8")) != commit:
        raise SystemExit(f"{work} holds results of commit {found}, and this is {commit}: take another folder")
    note.write_text(commit, encoding="utf-8")


def main() -> None:
    """Runs the benchmark."""
    options = arguments(__doc__, *OPTIONS)
    record = Record("crash_matrix", options)
    kills, in_queue = (3, 0) if options.quick else (options.kills, options.queue_kills)
    start = time.monotonic()
    with ExitStack() as held:
        work = options.work or Path(held.enter_context(tempfile.TemporaryDirectory()))
        refuse_other_code(work, record.document["commit"])
        make_reference(work / "reference")
        print(f"the project is made, {time.monotonic() - start:.0f} s", flush=True)
        stages = [stage for stage in stages_of(work / "reference") if stage.name in (options.only or [stage.name])]
        by_dvc = QUICK_BY_DVC if options.quick else [stage.name for stage in stages]
        outcomes = run_all(work, parts_of(stages, kills, by_dvc), options.seed, options.processes)
        queued = queue_kills(work, in_queue, options.seed)
    add_tables(record, outcomes, queued)
    record.keep(outcomes=[asdict(outcome) for outcome in outcomes], queue=asdict(queued))
    record.write()
    if queued.wrong or any(outcome.wrong for outcome in outcomes):
        raise SystemExit(1)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        os._exit(130)  # without waiting for the threads
