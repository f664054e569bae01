"""What makes a student good? Losses, views, epochs and top-k files, on one cache of each data set.

The page is docs/quality.md. Each data set has one pass of its teacher; every student of it learns from that cache, so
losses are compared seed by seed with the same initial weights, order of images and views.

- losses: ten losses, and the baseline without a teacher, with five seeds. For each loss, the validation images choose
  the weight of the hard labels among three, by trainings of another seed: the same small budget for each. `linear` is
  the data set of `mnist` with a student that is far weaker than its teacher. From the same trainings: which epoch each
  value of `select_by` chooses, for the students of kl and the baselines.
- views: students that see V = 1 ... 50 views in turn, plain or mixed (MixUp and CutMix), for 50 epochs; three seeds.
- topk: 100 classes (two digits of MNIST side by side), with the k largest logits alone, with a model of the others, and
  with all.
- teachers: three teachers of `colon`, each at the epochs that the values of `select_by` choose, and their students.

Intervals hold 95 % of the time, for other seeds and other test images (`pipeline/evaluation/uncertainty.py`), not for
other teachers or data.

    python -m benchmarks.quality [--cifar10 FILE] [--colon FOLDER] [--only PART ...] [--work FOLDER] [--processes 2]

`mnist` needs nothing, `cifar10` an .npz file (docs/data.md), `colon` a folder in MHIST's layout of which half of the
labels are taken away. A data set that is not given is left out. With `--work`, the same command continues a run that
was killed: every training leaves a file. Several processes share the work; you may also start the command again beside
the first. There is no goal to reach.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.quality_outcomes import Outcomes, Training, claimed
from benchmarks.quality_parts import FULL, PARTS, QUICK, Plan
from benchmarks.quality_projects import MADE, Sources, inside, make
from benchmarks.quality_set_ups import SET_UPS
from benchmarks.quality_tables import measured, tables_of
from benchmarks.quality_trainings import Trainer
from benchmarks.record import Record, arguments

OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("--cifar10", {"type": Path, "metavar": "FILE", "help": "An .npz file of CIFAR-10, or of a part of it."}),
    ("--colon", {"type": Path, "metavar": "FOLDER", "help": "annotations.csv and images/, as MHIST has them."}),
    ("--only", {"nargs": "+", "metavar": "PART", "help": f"Some of {', '.join(PARTS)}."}),
    ("--work", {"type": Path, "metavar": "FOLDER", "help": "Keeps everything here.  [default: a temporary folder]"}),
    (
        "--processes",
        {"type": int, "default": os.cpu_count() or 1, "help": "How many share the work.  [default: cores]"},
    ),
]
WAIT = 1.0
"""Seconds until a process that found nothing to do looks again."""


def parts_of(options: argparse.Namespace) -> dict[str, list[str]]:
    """The parts to run, with the set-ups that each is about.

    Raises:
        SystemExit: there is no such part, or its data are missing.
    """
    given = {"cifar10": options.cifar10, "colon": options.colon}
    for name, path in given.items():
        if path is not None and not path.exists():
            raise SystemExit(f"--{name}: there is nothing at {path}.")
    unknown = set(options.only or ()) - PARTS.keys()
    if unknown:
        raise SystemExit(f"there is no part {sorted(unknown)[0]!r}; expected some of {', '.join(PARTS)}.")
    data_sets = [name for name in ("cifar10", "colon") if given[name] and not options.quick]
    of_views = "cifar10" if "cifar10" in data_sets else "mnist"
    parts = {
        "losses": ["mnist"] if options.quick else ["mnist", "linear", *data_sets],
        "views": [of_views],
        "topk": ["pairs"],
        "teachers": ["colon"] if "colon" in data_sets else [],
    }
    return {part: set_ups for part, set_ups in parts.items() if part in (options.only or PARTS)}


def work_on(work: Path, parts: Mapping[str, Sequence[str]], sources: Sources, quick: bool, threads: int) -> None:
    """Runs trainings that nobody else runs, until all have ended."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    plan = Plan(parts, QUICK if quick else FULL, Outcomes(work))
    trainers: dict[str, Trainer] = {}
    parent = os.getppid()
    while missing := [training for training in plan.trainings() if plan.outcomes.get(training) is None]:
        if os.getppid() != parent:  # it was killed
            return
        if not any(run_if_free(work, training, plan.outcomes, trainers, sources, quick) for training in missing):
            time.sleep(WAIT)


def run_if_free(
    work: Path, training: Training, outcomes: Outcomes, trainers: dict[str, Trainer], sources: Sources, quick: bool
) -> bool:
    """Runs a training; False if another process has it, or is making its project."""
    name = training.set_up
    if not is_made(work, name, sources, quick):
        return False
    path = outcomes.path(training)
    with claimed(path) as free:
        if not free:
            return False
        with inside(work / name):
            if name not in trainers:
                trainers[name] = Trainer()
            outcome = trainers[name].run(training)
        outcome.save(path)
    print(f"{name}: {training.name}  {outcome.seconds:.1f} s", flush=True)
    return True


def is_made(work: Path, name: str, sources: Sources, quick: bool) -> bool:
    """Makes a project, unless another process is making it."""
    if (work / name / MADE).is_file():
        return True
    with claimed(work / f"{root_of(name)}.made") as free:  # a base and those that share its teacher, one after another
        if free:
            make(work, name, sources, quick)
        return free


def root_of(name: str) -> str:
    """The set-up whose data and teacher a set-up has."""
    base = SET_UPS[name].base
    return root_of(base) if base else name


def main() -> None:
    """Runs the trainings in some processes, and writes the record."""
    options = arguments(__doc__, *OPTIONS)
    parts = parts_of(options)
    sources = {"cifar10": options.cifar10, "colon": options.colon}
    with tempfile.TemporaryDirectory() as temporary:
        work = (options.work or Path(temporary)).resolve()
        absolute = {name: path and path.resolve() for name, path in sources.items()}
        threads = max(1, (os.cpu_count() or 1) // options.processes)
        given = (work, parts, absolute, options.quick, threads)
        spawn = multiprocessing.get_context("spawn")
        workers = [spawn.Process(target=work_on, args=given) for _ in range(options.processes)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if any(worker.exitcode for worker in workers):
            raise SystemExit(f"a process failed; the trainings that have ended are in {work}.")
        record = Record("quality", options)
        plan = Plan(parts, QUICK if options.quick else FULL, Outcomes(work))
        for title, header, rows in tables_of(plan):
            record.table(title, header, rows)
        record.keep(**measured(plan))
        record.write()


if __name__ == "__main__":
    main()
