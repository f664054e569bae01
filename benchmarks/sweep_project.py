"""The projects of `benchmarks.sweep`: system 1's pair and recipe, on a chosen number of images."""

import csv
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from benchmarks.made_data import write_images
from benchmarks.projects import make_project, write_params
from pipeline.images.index import SplitName
from pipeline.models import keras_files
from pipeline.params.reading import read_params
from pipeline.params.sections import Params, TrainedTeacher

DATA = Path("data/raw/tiles")
WEIGHTS = "backbone.weights.h5"
CLASSES = ("HP", "SSA")
TEMPERATURES = (1, 2, 4, 16, 32, 64)
SEEDS = (1, 2, 3)
VALIDATION = 0.15 / 0.85
"""Validation images for each training image, as `val_fraction` of presets/mhist.yaml draws them."""

STAGES = ("split", "precompute", "soften", "train_student", "train_baseline")
"""What `dvc repro` runs: the teacher is there, and what follows the trainings costs the same for all."""

QUICK = {
    "train_teacher.model.architecture": "mobilenetv2",
    "train_teacher.model.input_shape": [64, 64, 3],
    "student.model.input_shape": [64, 64, 3],
    "student.model.alpha": 0.35,
    "student.phases.0.epochs": 1,
    "student.phases.1.epochs": 2,
    "views.count": 3,
}


@dataclass(frozen=True)
class Sweep:
    """One sweep: who is trained, on how many images.

    Attributes:
        images: the number of training images.
        temperatures: of the students.
        seeds: of students and baselines.
        changes: values of presets/mhist.yaml that are others here, by their path.
    """

    images: int
    temperatures: Sequence[int] = TEMPERATURES
    seeds: Sequence[int] = SEEDS
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def counts(self) -> dict[SplitName, int]:
        """How many images each split has; the test images take part in nothing but the teacher's pass."""
        return {"train": self.images, "val": max(2, round(VALIDATION * self.images)), "test": 2}

    @property
    def students(self) -> int:
        """How many students a sweep trains."""
        return len(self.temperatures) * len(self.seeds)

    @property
    def trainings(self) -> int:
        """How many models a sweep trains: students and baselines."""
        return self.students + len(self.seeds)

    def params(self, weights: str) -> dict[str, Any]:
        """What differs from presets/mhist.yaml, by path; `weights` is the file of the student's backbone."""
        splits = {"train": "train", "val": "val", "test": "test", "val_fraction": None, "test_fraction": None}
        return {
            **self.changes,
            "split": {"layout": "folders", "data": DATA.as_posix(), **splits},
            "train_teacher.model.weights": None,
            "distill.temperatures": [*self.temperatures],
            "student.seeds": [*self.seeds],
            "student.model.weights": weights,
        }


def make_sweep(project: Path, sweep: Sweep, tiles: Path | None, weights: Path | None) -> Params:
    """Makes the project of a sweep: code, params.yaml, images, the weights of the student's backbone, and a teacher.

    The teacher has random weights: what its pass costs does not depend on them.

    Args:
        project: a folder.
        sweep: what to train.
        tiles: a folder with annotations.csv and images/ as MHIST has them. None: images are made.
        weights: the weights of the student's backbone, without its head. None: random ones, the same for all seeds.

    Returns:
        Its params.yaml.

    Raises:
        SystemExit: `tiles` has too few images.
    """
    make_project(project)
    _keep_stages(project / "dvc.yaml")
    file = weights.name if weights else WEIGHTS
    write_params("mhist", sweep.params(file), project / "params.yaml")
    params = read_params(project / "params.yaml")
    if not (project / DATA).is_dir():
        # Moved to its place when it is whole, so that a kill leaves no half of the images there.
        with tempfile.TemporaryDirectory(dir=project) as name:
            folder, needed = Path(name), sum(sweep.counts.values())
            if tiles is None:
                files = _alternately(write_images(folder / "made", needed, params.student.model.input_shape))
            else:
                files = _labelled(tiles)
            place_images(folder / "placed", sweep.counts, files)
            (project / DATA).parent.mkdir(parents=True, exist_ok=True)
            (folder / "placed").replace(project / DATA)
    if weights:
        shutil.copyfile(weights, project / file)
    _write_models(project, params)
    return params


def use_seeds(project: Path, seeds: Sequence[int]) -> None:
    """Gives `student.seeds` of a project's params.yaml other values."""
    yaml, file = YAML(), project / "params.yaml"
    params = yaml.load(file)
    params["student"]["seeds"] = [*seeds]
    yaml.dump(params, file)


def _keep_stages(pipeline: Path) -> None:
    """Leaves only `STAGES` in a dvc.yaml."""
    yaml = YAML()
    stages = yaml.load(pipeline)["stages"]
    yaml.dump({"stages": {name: stages[name] for name in STAGES}}, pipeline)


def place_images(folder: Path, counts: Mapping[SplitName, int], files: Mapping[str, Sequence[Path]]) -> None:
    """Copies images into a folder for each split, which has one for each class; the classes take turns.

    Args:
        folder: a new folder.
        counts: the images of each split.
        files: images of each class.

    Raises:
        SystemExit: a class has too few images.
    """
    rest = {name: list(of_class) for name, of_class in files.items()}
    for split, count in counts.items():
        for number in range(count):
            name = list(rest)[number % len(rest)]
            if not rest[name]:
                raise SystemExit(f"{sum(counts.values())} images are needed, and the class {name} has too few of them.")
            file = rest[name].pop(0)
            copy = folder / split / name / file.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)


def _alternately(files: Sequence[Path]) -> dict[str, list[Path]]:
    return {name: [*files[number :: len(CLASSES)]] for number, name in enumerate(CLASSES)}


def _labelled(tiles: Path) -> dict[str, list[Path]]:
    files: dict[str, list[Path]] = {}
    with (tiles / "annotations.csv").open(newline="", encoding="utf-8") as table:
        for name, label, *_ in [*csv.reader(table)][1:]:
            files.setdefault(label, []).append(tiles / "images" / name)
    return dict(sorted(files.items()))


def _write_models(project: Path, params: Params) -> None:
    """Writes the weights of the student's backbone and the teacher, unless they are there."""
    described, student = params.train_teacher, params.student.model
    if not isinstance(described, TrainedTeacher):
        raise ValueError("presets/mhist.yaml describes one teacher that is trained")
    if not (project / WEIGHTS).is_file() and student.weights == WEIGHTS:
        built = replace(student, weights=None).build(classes=len(CLASSES), seed=1)
        partial = project / f"partial.{WEIGHTS}"
        built.get_layer("backbone").save_weights(partial)
        partial.replace(project / WEIGHTS)
    teacher = project / "models/teacher.keras"
    if not teacher.is_file():
        teacher.parent.mkdir(parents=True, exist_ok=True)
        # The stages refuse a teacher that is no better than chance, unless its file states that it is bad.
        untrained = {"class_names": [*CLASSES], "given": {"accuracy": 0.0}}
        built = described.model.untrained(len(CLASSES))
        built.get_layer("logits").bias.assign([-1.0, 1.0])  # or the logits could be taken for probabilities
        keras_files.save(built, teacher, untrained)
