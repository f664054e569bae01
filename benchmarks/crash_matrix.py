"""Kills at seeded moments: of every stage alone, of every stage under `dvc repro`, and of experiments in DVC's queue.

Each stage starts in a project in which all others have run; in half of the cases its older outputs are there, made
from another split. It is killed one to four times in a row, each time at a random moment of its usual time, by SIGKILL,
SIGTERM or SIGINT: the stage, `dvc`, both, or their process group. After each kill, every output must be the older or
the new one, whole, or absent where there was no older one, or `dvc` has removed it. Then the stage runs to its end, and
the project is compared with one in which it ran undisturbed: every output, dvc.lock, `.work` and all other names in the
tree. Then the same begins anew, until so many kills have hit. A kill misses if the run ended before. After half of the
kills of `dvc` the next run begins while the stage, which ends with its dvc, may still live.

Stages that run alone are forks of a process that has loaded TensorFlow, so that their kills hit the work itself. One
in four kills is one under `dvc repro`, where most of the time goes into starting dvc, Python and TensorFlow.

In the queue, two experiments with other images for validation run all stages at the same time, from `split` to the
comparison and the exported files. A worker, an experiment's dvc, or a stage is killed; docs/experiments.md says how
to go on. The two must end with the dvc.lock of experiments that nothing disturbed.

    python -m benchmarks.crash_matrix [--kills 200] [--queue-kills 40] [--only STAGE ...] [--seed 1] [--work FOLDER]

With `--work`, the same command continues a run that was stopped (Ctrl-C ends all that it started). What another commit
has finished there is kept; the tables name the commit of each row. Expect one and a half hours on two cores.
"""

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from signal import SIGINT, SIGKILL, SIGTERM, default_int_handler, signal
from typing import Any

import numpy as np

from benchmarks.crash_attempts import SIGNALS, STOPPED, Alone, ByDvc, Runs
from benchmarks.crash_ends import ALONE, BY_DVC, short, wrong_ends
from benchmarks.crash_project import (
    Stage,
    content,
    copy_before,
    damaged_objects,
    differences,
    locked_stages,
    make_older,
    make_reference,
    mixed_outputs,
    stages_of,
)
from benchmarks.crash_queue import queue_kills
from benchmarks.crash_server import CommandServer
from benchmarks.crash_tables import add_tables
from benchmarks.record import Record, arguments
from pipeline.runtime.cores import usable_threads
from pipeline.runtime.publish import replace_whole

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
        forgiven: what `dvc` was forgiven, as `End.forgiven` says.
        seconds: from SIGINT or SIGTERM, sent to a stage that ran alone, to the end of its process.
        seconds_of_sigkill: the same of SIGKILL, for comparison: how long the system takes, which waits for the disk.
        wrong: what was not as it must be: other bytes, names that were left, hangs, tracebacks, exit codes.
        commit: of this benchmark and of the program.
    """

    stage: str
    way: str
    hits: int = 0
    misses: int = 0
    ends: int = 0
    seconds: list[float] = field(default_factory=list)
    seconds_of_sigkill: list[float] = field(default_factory=list)
    forgiven: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    commit: str = ""


def batter(stage: Stage, way: str, runs: Runs, work: Path, project: Path, kills: int, seed: int) -> Outcome:
    """Kills a stage again and again.

    Args:
        stage: the stage.
        way: the name of the way in which it runs.
        runs: runs it.
        work: has `reference`, a project in which all stages have run, and `older`, with its older outputs.
        project: where it runs; made here.
        kills: how many kills must hit.
        seed: of the moments, victims and signals.
    """
    outcome, random = Outcome(stage.name, way), np.random.default_rng([seed, *stage.name.encode(), len(way)])
    begin = partial(copy_before, stage, work / "reference", project, way == BY_DVC)
    undisturbed = []
    for older in (None, work / "older"):
        begin(older)
        before = content(project)
        undisturbed.append((before, runs.run(), content(project)))
    (_, first, expected), (with_older, usual, again) = undisturbed
    outcome.wrong += [f"without a kill: exit code {end.code}: {short(end.said)}" for end in (first, usual) if end.code]
    outcome.wrong += [f"without a kill: {short(said)}" for end in (first, usual) for said in end.forgiven]
    outcome.wrong += [f"without a kill: {path}" for path in differences(expected, again)]
    if outcome.wrong:
        return outcome
    while outcome.hits < kills and outcome.misses < 10 * kills:
        has_older = bool(random.integers(2))
        begin(work / "older" if has_older else None)
        whole = [expected, *([with_older] if has_older else []), *([{}] if way == BY_DVC or not has_older else [])]
        mixed = partial(_mixed, stage, project, whole)
        for _ in range(random.integers(1, IN_A_ROW + 1)):
            if not kill(outcome, runs, random, usual.seconds, mixed):
                break
        last = runs.run()
        outcome.ends += 1
        outcome.forgiven += map(short, last.forgiven)
        if last.code:
            outcome.wrong.append(f"after kills: exit code {last.code}: {short(last.said)}")
        outcome.wrong += [f"after kills: {path}" for path in differences(expected, content(project))]
        outcome.wrong += [f"in DVC's cache: {path}" for path in damaged_objects(project)]
    if outcome.hits < kills:
        outcome.wrong.append(f"only {outcome.hits} of {kills} kills hit")
    return outcome


def _mixed(stage: Stage, project: Path, whole: Sequence[dict[str, str]]) -> list[str]:
    return [f"{out} is neither old nor new" for out in mixed_outputs(stage, content(project), *whole)]


def kill(
    outcome: Outcome, runs: Runs, random: np.random.Generator, usual: float, mixed: Callable[[], list[str]]
) -> bool:
    """Kills one run at a random moment, notes what came of it, and returns whether the kill hit."""
    at, is_awaited = random.uniform(0, usual), bool(random.integers(2))
    victim, number = str(random.choice(runs.victims)), SIGNALS[random.integers(len(SIGNALS))]
    is_awaited = is_awaited or victim == "stage"
    end = runs.run(at, victim, number, is_awaited)
    outcome.forgiven += map(short, end.forgiven)
    if end.after_signal is None:
        outcome.misses += 1
    else:
        outcome.hits += 1
    told = f"{number.name} of {victim} after {at:.2f} s"
    wrong = [*wrong_ends(end, outcome.way, victim, number), *(mixed() if is_awaited else [])]
    outcome.wrong += [f"{told}: {what}" for what in wrong]
    if outcome.way == ALONE and end.after_signal is not None:
        (outcome.seconds_of_sigkill if number == SIGKILL else outcome.seconds).append(end.after_signal)
    return end.after_signal is not None


@dataclass(frozen=True)
class Part:
    """The kills of a stage in one way."""

    stage: Stage
    way: str
    kills: int


def one_part(work: Path, part: Part, seed: int, servers: "SimpleQueue[CommandServer]", commit: str) -> Outcome:
    """What comes of a part; of an earlier run of this benchmark, also of another commit, if it has finished it."""
    stage, way, kills = part.stage, part.way, part.kills
    kept = work / f"{stage.file_name}_{way.replace(' ', '_')}_{kills}_{seed}.json"
    if not kept.is_file():
        start, project, log = time.monotonic(), work / kept.stem / "project", work / kept.stem / "log"
        project.parent.mkdir(exist_ok=True)
        server = servers.get()
        runs: Runs
        if way == ALONE:
            runs = Alone(stage, server, project, log)
        else:
            runs = ByDvc(stage, project, log, locked_stages(work / "reference"))
        try:
            outcome = batter(stage, way, runs, work, project, kills, seed)
        finally:
            servers.put(server)
        outcome.commit = commit
        with replace_whole(kept) as partial_file:
            partial_file.write_text(json.dumps(asdict(outcome)), encoding="utf-8")
        print(f"{stage.name} {way}: {outcome.hits} kills, {time.monotonic() - start:.0f} s", flush=True)
    return Outcome(**json.loads(kept.read_text(encoding="utf-8")))


def parts_of(stages: Sequence[Stage], kills: int, by_dvc: Sequence[str]) -> list[Part]:
    """The kills of all stages, of some also by dvc."""
    part_by_dvc = max(1, round(kills * SHARE_BY_DVC))
    alone = [Part(stage, ALONE, kills - part_by_dvc) for stage in stages]
    return alone + [Part(stage, BY_DVC, part_by_dvc) for stage in stages if stage.name in by_dvc]


def run_all(work: Path, parts: Sequence[Part], seed: int, processes: int, commit: str) -> list[Outcome]:
    """The kills of all parts, some at a time."""
    free: SimpleQueue[CommandServer] = SimpleQueue()
    STOPPED.clear()
    with ExitStack() as held, ThreadPoolExecutor(processes) as pool:
        servers = [held.enter_context(CommandServer(work / "reference")) for _ in range(processes)]
        for server in servers:
            free.put(server)
        try:
            return list(pool.map(lambda part: one_part(work, part, seed, free, commit), parts))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            STOPPED.set()
            for server in servers:
                server.kill()
            raise


def main() -> None:
    """Runs the benchmark."""
    options = arguments(__doc__, *OPTIONS)
    for number in (SIGINT, SIGTERM):
        signal(number, default_int_handler)  # also for all that this starts, even if a shell ignores Ctrl-C
    record = Record("crash_matrix", options)
    commit = record.document["commit"]
    kills, in_queue = (3, 0) if options.quick else (options.kills, options.queue_kills)
    start = time.monotonic()
    with ExitStack() as held:
        work = (options.work or Path(held.enter_context(tempfile.TemporaryDirectory()))).resolve()
        work.mkdir(parents=True, exist_ok=True)
        make_reference(work / "reference")
        make_older(work / "reference", work / "older")
        print(f"the projects are made, {time.monotonic() - start:.0f} s", flush=True)
        stages = [stage for stage in stages_of(work / "reference") if stage.name in (options.only or [stage.name])]
        by_dvc = QUICK_BY_DVC if options.quick else [stage.name for stage in stages]
        outcomes = run_all(work, parts_of(stages, kills, by_dvc), options.seed, options.processes, commit)
        queued = queue_kills(work, in_queue, options.seed, commit)
    add_tables(record, outcomes, queued)
    record.keep(outcomes=[asdict(outcome) for outcome in outcomes], queue=asdict(queued))
    record.write()
    if queued.wrong or any(outcome.wrong for outcome in outcomes):
        raise SystemExit(1)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
