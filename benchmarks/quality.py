"""Does distillation help? Teacher, student and baseline on whole data sets, with several seeds, by real `dvc repro`.

Each set-up is a project of its own: one of the presets, with the changes in `set_ups.py`. Its variants run one after
another in the same project, so that DVC takes the stages that they share (the split, and mostly the teacher) from its
cache:

- preset: as the preset is (mnist, cifar10);
- V = 1: students and baselines see one augmented view of each training image, always the same, with one label;
- V = epochs: they see another view in each epoch, each with the teacher's label of exactly that view. "A patient and
  consistent teacher" (Beyer et al., arXiv:2106.05237) finds that this is what makes distillation work. In V = 1
  and V = epochs the teacher is trained with the same augmentation.

The tables show the means over seeds and, PAIRED seed by seed (the same initial weights, order and views), the mean
difference with its 95 % interval: Student's t over the n seeds, n - 1 degrees of freedom. The interval covers other
seeds of these models with this teacher and these images, not other teachers or other images.

    python -m benchmarks.quality [--cifar10 FILE] [--mhist FOLDER] [--only NAME ...] [--work FOLDER]

`mnist` needs nothing, `cifar10` an .npz file (docs/data.md), `mhist` a folder in MHIST's layout and ImageNet's weights
of MobileNetV2 1.0 and 0.35 (Keras downloads them, or finds them in KERAS_HOME). A set-up without data is left out.
With `--work`, the same command continues a run that was killed.

There is no goal to reach. On two CPU cores: mnist about 12 minutes, cifar10 on 6,000 images
about 20, mhist on 1,000 tiles about 12; `--quick` (mnist, two seeds, a few epochs, without DVC) half a minute.
"""

import argparse
import contextlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML
from scipy import stats

from benchmarks.record import Record, arguments
from benchmarks.set_ups import QUICK, SET_UPS, SetUp, write_params
from pipeline.evaluation.temperatures import students_of

ROOT = Path(__file__).parents[1]
METRICS = {"accuracy": "accuracy", "auc": "AUC", "nll": "NLL", "ece": "ECE"}
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("--cifar10", {"type": Path, "metavar": "FILE", "help": "An .npz file of CIFAR-10, or of a part of it."}),
    ("--mhist", {"type": Path, "metavar": "FOLDER", "help": "annotations.csv and images/, as MHIST has them."}),
    ("--only", {"nargs": "+", "metavar": "NAME", "help": "Some of mnist, cifar10, mhist."}),
    ("--work", {"type": Path, "metavar": "FOLDER", "help": "Keeps the projects here.  [default: a temporary folder]"}),
]

Seeds = Mapping[str, Mapping[str, float]]
"""The metrics of each seed, as in `results/metrics.json`."""


def make_project(set_up: SetUp, source: Path | None, project: Path) -> None:
    """Copies the pipeline and the data set of `source` into a folder; the results of an earlier run stay there."""
    code = [*ROOT.glob("pipeline/**/*.*"), ROOT / "dvc.yaml", *ROOT.glob("data/*/dvc.yaml"), ROOT / ".dvcignore"]
    for file in code:
        copy = project / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    (project / ".dvc").mkdir(exist_ok=True)
    (project / ".dvc/config").write_text("[core]\n    analytics = false\n    no_scm = true\n", encoding="utf-8")
    if set_up.data and source:
        data = project / set_up.data
        data.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, data, copy_function=shutil.copyfile, dirs_exist_ok=True)
        else:
            shutil.copyfile(source, data)


def reproduce(project: Path, described: str) -> None:
    """Runs `dvc repro evaluate` on the project's own copy of the pipeline, and prints the name of each stage.

    Raises:
        SystemExit: it failed; the message shows the end of its output.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "GIT_"))}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    environment["PYTHONPATH"] = str(project)
    start, printed = time.monotonic(), []
    with subprocess.Popen(
        ["dvc", "repro", "evaluate"],
        cwd=project,
        env=environment,
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


def run_here(project: Path) -> None:
    """Runs the stages of one loss and temperature in this process.

    Starting TensorFlow for each of them would take longer than the stages themselves.
    """
    from pipeline.cli.main import main as softlabel

    params = YAML(typ="safe").load(project / "params.yaml")
    loss, temperature = (str(params["distill"][name][0]) for name in ("losses", "temperatures"))
    seeds = params["student"]["seeds"]
    of_seeds = [
        command
        for seed in map(str, seeds)
        for command in (
            ["train-student", "--loss", loss, "--temperature", temperature, "--seed", seed],
            ["train-baseline", "--seed", seed],
        )
    ]
    before = [["sample"], ["split"], ["train-teacher"], ["describe-teacher"], ["precompute"]]
    with contextlib.chdir(project):
        for command in (*before, ["soften", "--temperature", temperature], *of_seeds, ["evaluate"]):
            print(" ".join(command), flush=True)
            softlabel.main(command, standalone_mode=False)


@dataclass(frozen=True)
class Quality:
    """The metrics of one variant.

    Attributes:
        teacher: the metrics of the teacher.
        distilled: those of the students.
        baseline: those of the models that were trained without a teacher.
    """

    teacher: Mapping[str, float]
    distilled: Seeds
    baseline: Seeds


def quality_of(document: Mapping[str, Any]) -> Quality:
    """Reads a `metrics.json` with students of one loss and temperature."""
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


def tables(name: str, variants: Mapping[str, Quality]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, header and rows of a set-up's tables."""
    seeds = len(next(iter(variants.values())).distilled)
    header = ["", "", *METRICS.values()]
    levels = [
        [variant, model, *cells]
        for variant, quality in variants.items()
        for model, cells in (
            ("teacher", [f"{quality.teacher[metric]:.4f}" for metric in METRICS]),
            ("distilled", [_mean_and_deviation(quality.distilled, metric) for metric in METRICS]),
            ("baseline", [_mean_and_deviation(quality.baseline, metric) for metric in METRICS]),
        )
    ]
    pairs = [
        (variant, "distilled less baseline", quality.distilled, quality.baseline)
        for variant, quality in variants.items()
    ]
    *others, (last, fresh) = variants.items()
    if others and others[-1][0] == "V = 1":
        fixed = others[-1][1]
        pairs += [
            (f"{last} less V = 1", "distilled", fresh.distilled, fixed.distilled),
            (f"{last} less V = 1", "baseline", fresh.baseline, fixed.baseline),
        ]
    gains = [[variant, what, *(_interval_of(a, b, metric) for metric in METRICS)] for variant, what, a, b in pairs]
    return [
        (f"{name}: mean over {seeds} seeds ± standard deviation (one teacher)", header, levels),
        (f"{name}: paired difference, mean over {seeds} seeds and its 95 % interval", header, gains),
    ]


def _mean_and_deviation(seeds: Seeds, metric: str) -> str:
    values = [metrics[metric] for metrics in seeds.values()]
    return f"{np.mean(values):.4f} ±{np.std(values, ddof=1):.4f}"


def _interval_of(first: Seeds, second: Seeds, metric: str) -> str:
    mean, low, high = interval(differences(first, second, metric))
    return f"{mean:+.4f} ({low:+.4f} to {high:+.4f})"


def measured(variants: Mapping[str, Quality]) -> dict[str, Any]:
    """The raw numbers of a set-up for its record: every metric of every seed."""
    return {name: vars(quality) for name, quality in variants.items()}


def run_set_up(name: str, set_up: SetUp, source: Path | None, work: Path, quick: bool) -> dict[str, Quality]:
    """Runs all variants of a set-up, and returns their metrics by name."""
    project, variants = work / name, {}
    make_project(set_up, source, project)
    for variant in set_up.variants:
        write_params(set_up, variant, project / "params.yaml")
        run_here(project) if quick else reproduce(project, f"{name}, {variant}")
        variants[variant] = quality_of(json.loads((project / "results/metrics.json").read_text(encoding="utf-8")))
    return variants


def chosen(options: argparse.Namespace) -> dict[str, Path | None]:
    """The set-ups to run, and where the data of each lie.

    Raises:
        SystemExit: there is no such set-up, or its data are missing.
    """
    data = {"mnist": None, "cifar10": options.cifar10, "mhist": options.mhist}
    names = options.only or [name for name in SET_UPS if name == "mnist" or (data[name] and not options.quick)]
    for name in names:
        if name not in (QUICK if options.quick else SET_UPS):
            raise SystemExit(
                f"there is no set-up {name!r} to run; expected some of {list(SET_UPS)}, with --quick mnist."
            )
        if name != "mnist" and not (data[name] and data[name].exists()):
            raise SystemExit(f"{name} needs data, and there is nothing at {data[name]}. Give their path with --{name}.")
    return {name: data[name] for name in names}


def main() -> None:
    """Runs the set-ups and writes the record after each."""
    options = arguments(__doc__, *OPTIONS)
    record = Record("quality", options)
    with tempfile.TemporaryDirectory() as temporary:
        work = (options.work or Path(temporary)).resolve()
        for name, data in chosen(options).items():
            variants = run_set_up(name, (QUICK if options.quick else SET_UPS)[name], data, work, options.quick)
            for title, header, rows in tables(name, variants):
                record.table(title, header, rows)
            record.keep(**{name: measured(variants)})
            record.write()


if __name__ == "__main__":
    main()
