"""Projects that benchmarks make: a copy of the pipeline with its own data and params.yaml, in a folder of its own."""

import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML
from scipy import stats

from pipeline.evaluation.temperatures import students_of

ROOT = Path(__file__).parents[1]

Seeds = Mapping[str, Mapping[str, float]]
"""The metrics of each seed, as in `results/metrics.json`."""


def make_project(project: Path, source: Path | None = None, data: Path | None = None) -> None:
    """Copies the pipeline, and the data set of `source` to `data`; the results of an earlier run stay there."""
    code = [*ROOT.glob("pipeline/**/*.*"), ROOT / "dvc.yaml", *ROOT.glob("data/*/dvc.yaml"), ROOT / ".dvcignore"]
    for file in code:
        copy = project / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    (project / ".dvc").mkdir(exist_ok=True)
    (project / ".dvc/config").write_text("[core]\n    analytics = false\n    no_scm = true\n", encoding="utf-8")
    if data and source:
        copied = project / data
        copied.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copied, copy_function=shutil.copyfile, dirs_exist_ok=True)
        else:
            shutil.copyfile(source, copied)


def write_params(preset: str, changes: Mapping[str, Any], params: Path) -> None:
    """Writes the params.yaml of a preset, with other values at some paths, such as "student.phases.0.epochs"."""
    yaml = YAML()
    content = yaml.load(ROOT / "presets" / f"{preset}.yaml")
    for path, value in changes.items():
        *outer, last = path.split(".")
        section = content
        for name in outer:
            section = section[int(name) if name.isdigit() else name]
        section[last] = value
    yaml.dump(content, params)


def environment_of(project: Path) -> dict[str, str]:
    """The environment of a process that works in a project, with its copy of the pipeline."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "GIT_"))}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    environment["PYTHONPATH"] = str(project)
    return environment


def reproduce(project: Path, described: str) -> None:
    """Runs `dvc repro evaluate` on the project's own copy of the pipeline, and prints the name of each stage.

    Raises:
        SystemExit: it failed; the message shows the end of its output.
    """
    start, printed = time.monotonic(), []
    with subprocess.Popen(
        ["dvc", "repro", "evaluate"],
        cwd=project,
        env=environment_of(project),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    ) as dvc:
        for line in dvc.stdout or ():
            printed.append(line)
            if line.startswith("Running stage"):
                print(f"{described}  {time.monotonic() - start:5.0f} s  {line.split(chr(39))[1]}", flush=True)
    if dvc.returncode:
        raise SystemExit(f"`dvc repro` failed in {project}:\n{''.join(printed[-40:])}")
    print(f"{described}  {time.monotonic() - start:5.0f} s  finished", flush=True)


@dataclass(frozen=True)
class Quality:
    """The metrics of one run.

    Attributes:
        teacher: the metrics of the teacher.
        distilled: those of the students.
        baseline: those of the models that were trained without a teacher.
    """

    teacher: Mapping[str, float]
    distilled: Seeds
    baseline: Seeds


def quality_of(document: Mapping[str, Any]) -> Quality:
    """Reads a `metrics.json` with one group of students."""
    models = document["models"]
    (student,) = students_of(models).values()
    teacher = {metric: value["mean"] for metric, value in models["teacher"]["quality"].items()}
    return Quality(teacher, student["seeds"], models["baseline"]["seeds"])


def differences(first: Seeds, second: Seeds, metric: str) -> list[float]:
    """First minus second, seed by seed, in the order of the seeds.

    Raises:
        ValueError: their seeds differ.
    """
    if first.keys() != second.keys():
        raise ValueError(f"seeds {sorted(first)} cannot be paired with {sorted(second)}")
    return [first[seed][metric] - second[seed][metric] for seed in sorted(first, key=int)]


def interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """The mean of n values and its confidence interval, by Student's t with n - 1 degrees of freedom.

    Raises:
        ValueError: there are fewer than two values.
    """
    if len(values) < 2:
        raise ValueError(f"an interval needs at least two values, not {len(values)}")
    mean = float(np.mean(values))
    reach = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    return mean, mean - float(reach), mean + float(reach)
