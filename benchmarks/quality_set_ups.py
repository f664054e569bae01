"""The data sets, models and losses of `benchmarks.quality`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from pipeline.measures.best_epoch import SelectBy

RULES: tuple[SelectBy, ...] = get_args(SelectBy)
TEACHER_STAGES = ("split", "train-teacher", "precompute")
SHIFTS = {"translation": 0.1, "fill_mode": "constant"}
SHIFTS_AND_FLIPS = {"horizontal_flip": True, "translation": 0.1, "fill_mode": "reflect"}
TILES = {"horizontal_flip": True, "vertical_flip": True, "rotation": 0.2, "brightness": 0.05}
MIXING = {"mixup": {"alpha": 0.8, "share": 0.4}, "cutmix": {"alpha": 1.0, "share": 0.4}}


@dataclass(frozen=True)
class Loss:
    """One way to learn from the teacher.

    Attributes:
        entry: its entry of `distill.loss`.
        temperature: as in `distill.temperatures`.
    """

    entry: Mapping[str, Any]
    temperature: str = "4"


LOSSES = {
    "kl": Loss({"kind": "kl"}),
    "kl, T from 8 to 2": Loss({"kind": "kl"}, "8to2"),
    "kl, student at T = 2": Loss({"kind": "kl", "student_temperature": 2}),
    "js": Loss({"kind": "js"}),
    "mse": Loss({"kind": "mse"}),
    "dkd": Loss({"kind": "dkd"}),
    "dist": Loss({"kind": "dist"}),
    "standardized kl": Loss({"kind": "logit_standardization", "before": "kl"}),
    "standardized dkd": Loss({"kind": "logit_standardization", "before": "dkd"}),
    "hard": Loss({"kind": "hard"}),
}
"""Their own parameters are those of their papers."""

TWO_CLASSES = ("colon",)


def says_something(loss: str, set_up: str) -> bool:
    """Whether a loss says anything of a set-up: standardised logits of two classes are always 1 and -1."""
    return set_up not in TWO_CLASSES or LOSSES[loss].entry["kind"] != "logit_standardization"


WEIGHTS = (0.1, 0.5, 0.9)
"""The settings among which the validation images choose for each loss: the weight of the hard labels."""


def entry(loss: str, weight: float) -> str:
    """The name of a loss with one weight in `distill.loss`."""
    return f"loss{[*LOSSES].index(loss)}_weight{round(100 * weight)}"


ENTRIES = {
    entry(name, weight): {**loss.entry, "hard_label_weight": weight}
    for name, loss in LOSSES.items()
    for weight in WEIGHTS
}


DISTILL = {"distill.loss": ENTRIES, "distill.losses": [entry("kl", 0.5)]}


@dataclass(frozen=True)
class SetUp:
    """A data set with its models, views and cache, in a project of its own.

    Attributes:
        preset: the name in `presets/`.
        changes: values that replace the preset's, by their path in params.yaml.
        stages: the stages that make its cache.
        base: the set-up whose data and teacher it shares, and without stages also the cache.
        data: where the data lie in the project; None if it makes them itself.
    """

    preset: str
    changes: Mapping[str, Any]
    stages: Sequence[str] = TEACHER_STAGES
    base: str | None = None
    data: Path | None = None
    temperatures: Sequence[str] = field(default=("4",), kw_only=True)

    @property
    def shared(self) -> list[str]:
        """What it shares with its base."""
        shared = ["data/split", "data/index.csv"]
        shared += [] if "train-teacher" in self.stages else ["models"]
        return shared if self.stages else [*shared, "data/soft_labels"]


def views(count: int, augmentation: Mapping[str, Any]) -> dict[str, Any]:
    """V views of each training image, and as many epochs of the student."""
    return {"views.count": count, "views.augmentation": dict(augmentation), "student.phases.0.epochs": count}


BOTH = ("4", "8to2")
MNIST = {**views(20, SHIFTS), **DISTILL}
CIFAR10 = {
    **views(20, SHIFTS_AND_FLIPS),
    **DISTILL,
    "train_teacher.augmentation": SHIFTS_AND_FLIPS,
    "split.data": "data/raw/given/cifar10.npz",
}
COLON = {
    **views(20, TILES),
    **DISTILL,
    "split.data": "data/raw/given/colon",
    "split.unlabelled": {"rows": True},
    "split.val_fraction": 0.3,
    "train_teacher.augmentation": TILES,
    "train_teacher.batch_size": 32,
    "train_teacher.model.input_shape": [48, 48, 3],
    "train_teacher.model.preprocessing": "symmetric",
    "train_teacher.model.filters": [16, 32, 64],
    "train_teacher.phases.0.epochs": 40,
    "student.batch_size": 32,
    "student.model.input_shape": [48, 48, 3],
    "student.model.preprocessing": "symmetric",
}
PAIRS = {
    **views(1, {}),
    **DISTILL,
    "split": {"layout": "arrays", "data": "data/raw/given/pairs.npz", "val_fraction": 0.15, "test_fraction": None},
    "train_teacher.augmentation": SHIFTS,
    "train_teacher.phases.0.epochs": 20,
    "train_teacher.model.input_shape": [28, 56, 1],
    "student.model.input_shape": [28, 56, 1],
    "student.phases.0.epochs": 20,
}
LINEAR = {
    "student.model": {
        "architecture": "mlp",
        "input_shape": [28, 28, 1],
        "weights": None,
        "preprocessing": "unit",
        "pooling": "flatten",
        "batch_normalization": False,
        "hidden_units": [],
        "dropout": 0.0,
    }
}
"""A student of ten logits that are linear in the pixels."""


def of_views(base: str, changes: Mapping[str, Any], augmentation: Mapping[str, Any]) -> dict[str, SetUp]:
    """The caches for the number of views: 50 plain ones, 50 that are mixed, and the untouched image."""
    preset = SET_UPS[base].preset
    caches = {
        "views": views(50, augmentation),
        "mixed": views(50, {**augmentation, **MIXING}),
        "untouched": {**views(1, {}), "student.phases.0.epochs": 50},
    }
    return {
        f"{base}_{name}": SetUp(preset, {**changes, **cache}, ("precompute",), base) for name, cache in caches.items()
    }


def stored(k: int) -> SetUp:
    """The pairs of digits, of whose logits only the k largest are kept."""
    return SetUp("mnist", {**PAIRS, "precompute.storage": {"kind": "topk", "k": k}}, ("precompute",), "pairs")


SET_UPS = {
    "mnist": SetUp("mnist", MNIST, ("sample", *TEACHER_STAGES), temperatures=BOTH),
    "linear": SetUp("mnist", {**MNIST, **LINEAR}, (), "mnist", temperatures=BOTH),
    "cifar10": SetUp("cifar10_cnn", CIFAR10, data=Path("data/raw/given/cifar10.npz"), temperatures=BOTH),
    "colon": SetUp("mnist", COLON, data=Path("data/raw/given/colon"), temperatures=BOTH),
    "pairs": SetUp("mnist", PAIRS),
    "pairs_top10": stored(10),
    "pairs_top50": stored(50),
}
SET_UPS |= of_views("mnist", MNIST, SHIFTS) | of_views("cifar10", CIFAR10, SHIFTS_AND_FLIPS)

TEACHERS = (1, 2, 3)
"""The seeds of the teachers of which each rule of `RULES` keeps an epoch."""


def of_rule(rule: SelectBy, teacher: int) -> str:
    """The name of the set-up whose teacher has a seed, and was kept by a rule."""
    return f"colon_{rule}_teacher{teacher}"


SET_UPS |= {
    of_rule(rule, teacher): SetUp(
        "mnist",
        {**COLON, "train_teacher.select_by": rule, "train_teacher.seed": teacher},
        TEACHER_STAGES[1:],
        "colon",
    )
    for rule in RULES
    for teacher in TEACHERS
}

QUICK = {"split.limit": 700, "train_teacher.phases.0.epochs": 3, "student.phases.0.epochs": 3}
"""What replaces the values of each set-up with `--quick`."""
QUICK_VIEWS = 3


def changes(name: str, quick: bool) -> dict[str, Any]:
    """What replaces the values of a set-up's preset."""
    full = dict(SET_UPS[name].changes)
    return {**full, **QUICK, "views.count": min(full["views.count"], QUICK_VIEWS)} if quick else full
