"""All students and baselines of the default, trained by `dvc repro` one after another and at the same time.

    python -m benchmarks.student_matrix [--quick] [--before FOLDER]

The default project is made in a temporary folder, with a teacher of one epoch, and brought up to date as far as the
soft labels. Then its trainings are timed, from the first to the end of the last, as `dvc repro` runs them: with DVC's
own work between stages, and each process started anew. `student.trainings_at_once` is 1 and auto in turns. Before
each turn, DVC forgets the models. They must have the same bytes every time. `--before` names another version of this
repository, whose package takes its turn, too.

Goal: auto at most 0.5 of the version before there was the key. Five minutes; --quick two.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from benchmarks.paired import ratios, spread
from benchmarks.projects import ROOT, make_project, write_params
from benchmarks.record import Record, arguments

TRAININGS = ("train_student", "train_baseline")
MADE_BEFORE = ("data/sample/dvc.yaml", "split", "train_teacher", "describe_teacher", "precompute", "soften")
WHOLE = "whole_params.yaml"
"""The project's params.yaml with all sections."""

ONE, AUTO, BEFORE = "one after another", "auto", "before"


def environment(project: Path) -> dict[str, str]:
    """That of `dvc` in a project with its own copy of the package."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "GIT_"))}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept["PATH"]])
    return kept | {"PATH": path, "PYTHONPATH": str(project)}


def prepare(project: Path, epochs: int) -> None:
    """Makes the project, up to its soft labels."""
    make_project(project)
    write_params(
        "mnist", {"train_teacher.phases.0.epochs": 1, "student.phases.0.epochs": epochs}, project / "params.yaml"
    )
    subprocess.run(["dvc", "repro", "soften", "describe_teacher"], cwd=project, env=environment(project), check=True)


def forget(project: Path) -> None:
    """Removes the models, and what DVC knows of them."""
    yaml = YAML()
    lock = yaml.load(project / "dvc.lock")
    lock["stages"] = {name: noted for name, noted in lock["stages"].items() if not name.startswith(TRAININGS)}
    yaml.dump(lock, project / "dvc.lock")
    for name in ("models/students", "models/baselines", ".work", ".dvc/cache/runs"):
        shutil.rmtree(project / name, ignore_errors=True)


def seconds_of_trainings(project: Path) -> float:
    """Runs `dvc repro`, from the first training until it comes to what follows the last.

    Raises:
        SystemExit: it failed before.
    """
    start, printed = 0.0, []
    command: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(["dvc", "repro"], cwd=project, env=environment(project), text=True, **command) as dvc:
        for line in dvc.stdout or ():
            printed.append(line)
            if line.startswith("Running stage 'train_") and not start:
                start = time.perf_counter()
            if line.startswith(("Running stage 'evaluate", "Running stage 'measure_speed")):
                seconds = time.perf_counter() - start
                dvc.terminate()
                return seconds
    raise SystemExit(f"`dvc repro` failed in {project}:\n{''.join(printed[-40:])}")


def use(project: Path, package: Path, at_once: int | None) -> None:
    """Gives a project a package with its stages, the keys of params.yaml that it knows, and a number of trainings.

    Args:
        project: the project.
        package: a version of this repository.
        at_once: `student.trainings_at_once`; None leaves the key out.
    """
    shutil.rmtree(project / "pipeline")
    shutil.copytree(package / "pipeline", project / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(package / "dvc.yaml", project / "dvc.yaml")
    yaml = YAML()
    known = yaml.load(package / "presets/mnist.yaml")
    if not (project / WHOLE).exists():
        shutil.copyfile(project / "params.yaml", project / WHOLE)
    params = kept(yaml.load(project / WHOLE), known)
    params["student"].pop("trainings_at_once", None)
    if at_once is not None:
        params["student"]["trainings_at_once"] = at_once
    yaml.dump(params, project / "params.yaml")
    shutil.rmtree(project / ".dvc/cache/runs", ignore_errors=True)
    # The stages before the trainings are as they were, whatever the package.
    subprocess.run(["dvc", "commit", "--force", *MADE_BEFORE], cwd=project, env=environment(project), check=True)


def kept(params: Any, known: Any) -> Any:
    """The keys of `params` that `known` has, too."""
    if not isinstance(params, dict) or not isinstance(known, dict):
        return params
    return {name: kept(value, known[name]) for name, value in params.items() if name in known}


def digest(project: Path) -> str:
    """Of all models."""
    files = sorted(project.glob("models/*/*.keras"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def main() -> None:
    """Measures the default's matrix."""
    before = ("--before", {"type": Path, "metavar": "FOLDER", "help": "Another version of this repository."})
    options = arguments(__doc__, before)
    record = Record("student_matrix", options)
    variants: dict[str, Callable[[Path], None]] = {
        ONE: partial(use, package=ROOT, at_once=1),
        AUTO: partial(use, package=ROOT, at_once=None),
    }
    if options.before is not None:
        variants[BEFORE] = partial(use, package=options.before, at_once=None)
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    digests = set()
    with tempfile.TemporaryDirectory() as name:
        project = Path(name)
        prepare(project, 10 if options.quick else 40)
        for _ in range(1 if options.quick else 2):
            for variant, ready in variants.items():
                forget(project)
                ready(project)
                seconds[variant].append(seconds_of_trainings(project))
                digests.add(digest(project))
                print(f"{variant}: {seconds[variant][-1]:.0f} s", flush=True)
    if len(digests) > 1:
        raise SystemExit("The models have different bytes.")
    first = BEFORE if options.before is not None else ONE
    rows = [[variant, spread(taken), spread(ratios(taken, seconds[first]))] for variant, taken in seconds.items()]
    record.table("Three students and three baselines of the default", ["trained", "seconds", f"of {first}"], rows)
    record.keep(seconds=seconds)
    record.write()


if __name__ == "__main__":
    main()
