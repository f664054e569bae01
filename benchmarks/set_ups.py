"""The set-ups of `benchmarks.quality`: a preset for each data set, and the changes of each variant."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class SetUp:
    """One data set, with its models.

    Attributes:
        preset: the name in `presets/`.
        changes: values that replace the preset's, by their path in params.yaml.
        variants: the further changes of each variant, by its name.
        data: where the data lie in the project; None if the project makes them itself.
    """

    preset: str
    changes: Mapping[str, Any]
    variants: Mapping[str, Mapping[str, Any]]
    data: Path | None = None


def views(count: int, augmentation: Mapping[str, Any]) -> dict[str, Any]:
    """V views of each training image for students and baselines, and the same augmentation for the teacher."""
    return {
        "views.count": count,
        "views.augmentation": dict(augmentation),
        "train_teacher.augmentation": dict(augmentation),
    }


SHIFTS = {"translation": 0.1, "fill_mode": "constant"}
"""The augmentation of the preset's MNIST teacher."""

SHIFTS_AND_FLIPS = {"horizontal_flip": True, "translation": 0.1, "fill_mode": "reflect"}
TILES = {"horizontal_flip": True, "rotation": 0.2}
"""The augmentation of the preset for histology."""


def fine_tuned(head_epochs: int, epochs: int) -> list[dict[str, Any]]:
    """The phases of the preset's student, shorter: first the head alone, then also the layers from number 100."""
    above = {"trainable_from": 100, "backbone_in_inference_mode": True}
    return [
        {"epochs": head_epochs, "learning_rate": 0.001, "trainable_from": None},
        {"epochs": epochs, "learning_rate": 0.0001, **above},
    ]


SET_UPS = {
    "mnist": SetUp(
        "mnist",
        {"student.seeds": [1, 2, 3, 4, 5]},
        {"preset": {}, "V = 1": views(1, SHIFTS), "V = 40": views(40, SHIFTS)},
    ),
    "cifar10": SetUp(
        "cifar10_cnn",
        {"student.seeds": [1, 2, 3, 4, 5], "split.data": "data/raw/given/cifar10.npz"},
        {"preset": {}, "V = 1": views(1, SHIFTS_AND_FLIPS), "V = 50": views(50, SHIFTS_AND_FLIPS)},
        Path("data/raw/given/cifar10.npz"),
    ),
    "mhist": SetUp(
        "mhist",
        {
            "student.seeds": [1, 2, 3],
            "distill.temperatures": [4],
            "train_teacher.model.architecture": "mobilenetv2",
            "train_teacher.model.alpha": 1.0,
            "train_teacher.phases": fine_tuned(3, 4),
            "student.model.alpha": 0.35,
            "student.phases": fine_tuned(3, 5),
        },
        {"V = 1": views(1, TILES), "V = 8": views(8, TILES)},
        Path("data/raw/mhist"),
    ),
}
QUICK = {
    "mnist": SetUp(
        "mnist",
        {"student.seeds": [1, 2], "train_teacher.phases.0.epochs": 2, "student.phases.0.epochs": 3},
        {"preset": {}},
    )
}


def write_params(set_up: SetUp, variant: str, params: Path) -> None:
    """Writes the params.yaml of one variant of a set-up."""
    yaml = YAML()
    content = yaml.load(ROOT / "presets" / f"{set_up.preset}.yaml")
    for path, value in {**set_up.changes, **set_up.variants[variant]}.items():
        *outer, last = path.split(".")
        section = content
        for name in outer:
            section = section[int(name) if name.isdigit() else name]
        section[last] = value
    yaml.dump(content, params)
