"""params.yaml: what is valid, how each mistake is named, and what a stage may read of it."""

import copy
import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from ruamel.yaml import YAML

from pipeline.cli import arguments
from pipeline.cli.paths import TEACHER
from pipeline.models.teacher_file import GivenTeacher
from pipeline.params.reading import WITHOUT_EFFECT, load_params, read_params, restrict
from pipeline.params.sections import COPY
from pipeline.runtime.errors import DamagedError, MismatchError, MissingError, ParameterError

ROOT = Path(__file__).parents[1]
CNN = {
    "architecture": "cnn",
    "input_shape": [28, 28, 1],
    "weights": None,
    "filters": [8, 16],
    "downsampling": "stride",
    "pooling": "flatten",
    "batch_normalization": False,
    "dropout": 0.0,
}
RESNET = {
    "architecture": "resnet50v2",
    "input_shape": [224, 224, 3],
    "weights": "imagenet",
    "pooling": "avg",
    "batch_normalization": True,
    "dropout": 0.5,
}
MLP = {
    "architecture": "mlp",
    "input_shape": [28, 28, 1],
    "weights": None,
    "pooling": "flatten",
    "batch_normalization": False,
    "hidden_units": [64],
    "dropout": 0.0,
}
SGD = {"epochs": 1, "optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.9, "trainable_from": "all"}
FULL = {
    "epochs": 10,
    "learning_rate": 0.1,
    "trainable_from": "all",
    "schedule": {"factor": 0.1, "after_epochs": [4, 9]},
    "warmup": 4,
    "weight_decay": 0,
    "clip_norm": 1,
    "label_smoothing": 0.1,
    "ema": 0.999,
    "patience": 9,
    "class_weight": {"5": 1, "7": 2.5},
}
"""A phase of ten epochs with everything that a phase can have."""
MOBILENET = RESNET | {"architecture": "mobilenetv2", "alpha": 0.35}
TOP10 = {"kind": "topk", "k": 10}
MODEL = "student.model"
PHASE = "train_teacher.phases.0"
TEMPERATURES = "distill.temperatures"
STORAGE = "precompute.storage"
VIEWS = "views.augmentation"


def yaml(path: Path) -> Any:
    return YAML(typ="safe").load(path)


PARAMS = yaml(ROOT / "params.yaml")
"""The repository's own."""


def without(model: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in model.items() if name != key}


def write(folder: Path, changes: dict[str, Any]) -> Path:
    """Writes the repository's params.yaml with other values at some dotted paths; a bare `...` removes the key."""
    content = copy.deepcopy(PARAMS)
    for path, value in changes.items():
        *above, last = [int(part) if part.isdecimal() else part for part in path.split(".")]
        section = content
        for part in above:
            section = section[part]
        if value is ...:
            del section[last]
        else:
            section[last] = value
    file = folder / "params.yaml"
    YAML(typ="safe").dump(content, file)
    return file


def write_as(folder: Path, path: str, text: str) -> Path:
    """Writes the repository's params.yaml with one value written exactly as `text`."""
    file = write(folder, {path: "PLACEHOLDER"})
    file.write_text(file.read_text().replace("PLACEHOLDER", text))
    return file


def refusal(file: Path) -> str:
    with pytest.raises(ParameterError) as refused:
        read_params(file)
    return str(refused.value)


def plain(value: Any) -> Any:
    """Sections, data classes, paths and tuples as YAML has them; keys of a section that were not given are left out."""
    return TypeAdapter(Any).dump_python(value, mode="json", exclude_unset=True)


def given(values_read: Any, content: Any) -> Any:
    """`plain(values_read)` without the keys that `content` leaves out, which a data class has nevertheless."""

    def keep(values: Any, like: Any) -> Any:
        if isinstance(like, dict) and isinstance(values, dict):
            return {key: keep(values[key], below) for key, below in like.items()}
        if isinstance(like, list) and isinstance(values, list) and len(values) == len(like):
            return [keep(*pair) for pair in zip(values, like, strict=True)]
        return values

    return keep(plain(values_read), content)


@pytest.mark.parametrize(
    "name", ["params.yaml", *(f"presets/{file.name}" for file in sorted(ROOT.glob("presets/*.yaml")))]
)
def test_what_the_repository_holds_is_valid_and_read_as_written(name):
    content = yaml(ROOT / name)
    assert given(read_params(ROOT / name), content) == content


@pytest.mark.parametrize(
    "changes",
    [
        {TEMPERATURES: [0.5, 1, 2.5, 100]},
        {TEMPERATURES: ["8to2", 8, "0.001to1e3"]},
        {"distill.loss": {"kl": {}, "js": {"student_temperature": 1e-3}, "mse": {"hard_label_weight": 0}, "hard": {}}},
        {"distill.loss.two": {"kind": "dkd", "alpha": 0, "beta": 1000.5}},
        {"distill.loss.dist": {"beta": 0, "gamma": 2}},
        {"distill.loss.logit_standardization": {"before": "dkd", "alpha": 0.5, "beta": 2}},
        {"distill.hard_label_weight": 0},
        {"distill.hard_label_weight": 1},
        {MODEL: RESNET},
        {MODEL: MOBILENET},
        {MODEL: MOBILENET | {"input_shape": [96, 64, 1], "weights": None}},
        {MODEL: CNN | {"dropout": 0.999}},
        {
            MODEL: CNN
            | {"factor": [1, 3], "kernel_size": 1, "padding": "valid", "hidden_units": [1], "preprocessing": "none"}
        },
        {MODEL: CNN | {"input_shape": [8, 8, 3], "preprocessing": "caffe", "hidden_units": []}},
        {MODEL: RESNET | {"preprocessing": "unit"}},
        {MODEL: RESNET | {"preprocessing": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 1]}}},
        {MODEL: CNN | {"preprocessing": {"mean": [0], "std": [0.3081]}}},
        {MODEL: MLP},
        {PHASE: SGD | {"momentum": 0.999, "steps_per_epoch": 1, "backbone_in_inference_mode": True}},
        {PHASE: SGD | {"optimizer": "rmsprop"}},
        {PHASE: SGD | {"optimizer": "adam", "momentum": 0.0, "steps_per_epoch": None}},
        {PHASE: FULL},
        {PHASE: FULL | {"schedule": "cosine", "warmup": 9, "class_weight": "balanced"}},
        *({"student.select_by": measure} for measure in ("accuracy", "balanced_accuracy", "auc", "cross_entropy")),
        {"train_teacher.select_by": "auc"},
        {"student.validation_steps": 1},
        {"distill.losses": ["mine"], "distill.loss": {"mine": {"kind": "kl", "student_temperature": 1e3}}},
        {"distill.loss.kl": {"hard_label_weight": 1, "student_temperature": 1}},
        {"distill.loss.kl": {"kind": "kl"}},
        {"distill.loss.mse": {}, STORAGE: {"kind": "topk", "k": 2, "dtype": "float16"}},
        {"split.val_fraction": 0.999},
        {f"{PHASE}.trainable_from": 100},
        {f"{PHASE}.trainable_from": None},
        {f"{PHASE}.trainable_from": "conv5_block1_out"},
        {"train_teacher.augmentation": {}},
        {"student.seeds": [0]},
        {STORAGE: {"kind": "dense", "dtype": "float16"}},
        {STORAGE: {"kind": "topk", "k": 1}},
        {STORAGE: {"kind": "topk", "k": 10, "dtype": "float32"}},
        {"views": {"count": 65535, "seed": 0, "augmentation": {"horizontal_flip": True}}},
        {VIEWS: {"crop_area": [0.01, 1], "crop_aspect_ratio": [0.75, 10]}},
        {VIEWS: {"crop_area": [0.5, 0.5]}},
        {VIEWS: {"brightness": 1, "contrast": 1, "channel_gain": 1}},
        {VIEWS: {"rotation": 0.5, "translation": 1, "shear": 60, "zoom": 0.9, "vertical_flip": True}},
        {VIEWS: {"mixup": {"alpha": 0.01, "share": 0.5}, "cutmix": {"alpha": 100, "share": 0.5}}},
        {VIEWS: {"erasing": {"share": 1, "area": [0.01, 1], "aspect_ratio": [0.1, 10]}}},
        {VIEWS: {"operations": {"count": 8, "magnitude": 10}}},
        {VIEWS: {"operations": {"count": 1, "of": {"blur": 0.1, "posterize": 7, "hue": 0.5}}}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_values_at_the_edge_of_their_range_are_kept(tmp_path, changes):
    file = write(tmp_path, changes)
    content = yaml(file)
    assert given(read_params(file), content) == content


def test_what_may_be_left_out_has_its_default(tmp_path):
    phase = {"epochs": 3, "learning_rate": 0.5, "trainable_from": None}
    left_out = {PHASE: phase, STORAGE: {"kind": "topk", "k": 7}, "train_teacher.augmentation": {}}
    params = read_params(write(tmp_path, left_out))
    assert plain(params.precompute.storage) == {"kind": "topk", "k": 7, "dtype": "float16"}
    assert plain(params.train_teacher.phases) == [
        phase
        | {"steps_per_epoch": None, "optimizer": "adam", "momentum": 0.0, "backbone_in_inference_mode": False}
        | {"schedule": "constant", "warmup": 0, "weight_decay": None, "clip_norm": None, "label_smoothing": 0.0}
        | {"ema": None, "patience": None, "class_weight": None, "features_dtype": "float32"}
    ]
    assert plain(params.train_teacher.augmentation) == {
        "horizontal_flip": False,
        "vertical_flip": False,
        "rotation": 0.0,
        "translation": 0.0,
        "shear": 0.0,
        "zoom": 0.0,
        "crop_area": [1.0, 1.0],
        "crop_aspect_ratio": [1.0, 1.0],
        "fill_mode": "reflect",
        "brightness": 0.0,
        "contrast": 0.0,
        "channel_gain": 0.0,
        **dict.fromkeys(("operations", "erasing", "mixup", "cutmix")),
    }


REFUSED = {
    "cache unknown": ({"images.cache": "ram"}, ["images.cache", "'none', 'memory' or 'disk'", "got 'ram'"]),
    "cache none at all": ({"images.cache": None}, ["images.cache", "'none', 'memory' or 'disk'", "got None"]),
    "cache misspelt": ({"images.cash": "disk"}, ["images.cash: unknown key; did you mean 'cache'?"]),
    "no training at once": ({"student.trainings_at_once": 0}, ["student.trainings_at_once", "'auto'", "got 0"]),
    "many trainings at once": ({"student.trainings_at_once": "all"}, ["student.trainings_at_once", "'auto'", "'all'"]),
    "frozen cache unknown": (
        {"student.cache_frozen": "ram"},
        ["student.cache_frozen", "'auto', 'memory', 'disk' or 'none'", "got 'ram'"],
    ),
    "resize method unknown": (
        {"images.resize.method": "lanczos5"},
        ["images.resize.method", "'nearest', 'bilinear', 'bicubic', 'lanczos3' or 'area'", "got 'lanczos5'"],
    ),
    "resize fit unknown": ({"images.resize.fit": "squash"}, ["images.resize.fit", "'stretch', 'crop' or 'pad'"]),
    "resize without a fit": (
        {"images.resize": {"method": "area", "antialias": False}},
        ["images.resize.fit: missing; this key has no default."],
    ),
    "nearest cannot be antialiased": (
        {"images.resize": {"method": "nearest", "antialias": True, "fit": "crop"}},
        ["images.resize: ", "nearest", "set antialias: false"],
    ),
    "no resize, as in a file of before": (
        {"images": {"cache": "disk"}},
        ["images.resize: missing", "\n      resize: {method: bilinear, antialias: true, fit: stretch}"],
    ),
    "a resize for the teacher": (
        {"train_teacher.resize": {"fit": "crop"}},
        ["train_teacher.resize: unknown key", "images.resize"],
    ),
    "a resize for a given teacher": (
        {"train_teacher": {"model": "given.keras", "resize": {"fit": "crop"}}},
        ["train_teacher.resize: unknown key", "images.resize"],
    ),
    "T beyond float32": ({TEMPERATURES: [4, 1e-46]}, ["distill.temperatures.1", "from 0.001 to 1000", "1e-46"]),
    "T of 0": ({TEMPERATURES: [4, 0]}, ["distill.temperatures.1", "from 0.001", "got 0"]),
    "T below 0": ({TEMPERATURES: [-1]}, ["distill.temperatures.0", "from 0.001", "got -1"]),
    "T a string": (
        {TEMPERATURES: ["4"]},
        ["distill.temperatures.0: expected a number without quotation marks (got '4')"],
    ),
    "T true": (
        {TEMPERATURES: [True]},
        ["distill.temperatures.0: expected a number, as 4, or two, as 8to2", "got True"],
    ),
    "T infinite": ({TEMPERATURES: [float("inf")]}, ["distill.temperatures.0", "from 0.001 to 1000", "got inf"]),
    "T no number": ({TEMPERATURES: [float("nan")]}, ["distill.temperatures.0", "from 0.001 to 1000", "got nan"]),
    "T outside a list": ({TEMPERATURES: 4}, ["distill.temperatures", "list", "[4]", "got 4"]),
    "T as float outside a list": ({TEMPERATURES: 2.5}, ["distill.temperatures", "list", "[2.5]", "got 2.5"]),
    "seed outside a list": ({"student.seeds": 3}, ["student.seeds", "list", "[3]", "got 3"]),
    "T that changes without an end": ({TEMPERATURES: ["8to"]}, ["distill.temperatures.0", "two that differ", "'8to'"]),
    "T that changes to itself": ({TEMPERATURES: ["8to8.0"]}, ["distill.temperatures.0", "two that differ"]),
    "T that changes to 0": ({TEMPERATURES: ["8to0"]}, ["distill.temperatures.0", "from 0.001", "'8to0'"]),
    "T that changes to no number": ({TEMPERATURES: ["8toe"]}, ["distill.temperatures.0", "two that differ"]),
    "T a map": (
        {TEMPERATURES: [{"first": 8, "last": 2}]},
        ["distill.temperatures.0: expected a number, as 4, or two, as 8to2, for a temperature that changes"],
    ),
    "T nothing": ({TEMPERATURES: [4, None]}, ["distill.temperatures.1: expected a number, as 4, or two", "got None"]),
    "temperatures a map": ({TEMPERATURES: {"8": 2}}, ["distill.temperatures:", "list"]),
    "T that changes repeated": (
        {TEMPERATURES: ["8to2", "8.0to2"]},
        ["distill.temperatures: expected values that all differ", "['8to2', '8.0to2']"],
    ),
    "no T": ({TEMPERATURES: []}, ["distill.temperatures", "at least 1"]),
    "T repeated": ({TEMPERATURES: [2, 4, 4]}, ["distill.temperatures: ", "[2, 4, 4]"]),
    "T repeated as float": ({TEMPERATURES: [4, 4.0]}, ["distill.temperatures: ", "[4, 4.0]"]),
    "seeds repeated": ({"student.seeds": [1, 2, 1]}, ["student.seeds: ", "[1, 2, 1]"]),
    "seed below 0": ({"student.seeds": [-1]}, ["student.seeds.0", "greater than or equal to 0", "got -1"]),
    "weight below 0": (
        {"distill.hard_label_weight": -0.1},
        ["distill.hard_label_weight", "than or equal to 0", "-0.1"],
    ),
    "weight above 1": ({"distill.hard_label_weight": 1.1}, ["distill.hard_label_weight", "than or equal to 1", "1.1"]),
    "weight no number": ({"distill.hard_label_weight": float("nan")}, ["distill.hard_label_weight", "nan"]),
    "architecture misspelt": (
        {f"{MODEL}.architecture": "resnet50v3"},
        ["student.model.architecture", "'resnet50v3'", "Did you mean 'resnet50v2'?"],
    ),
    "architecture half known": ({f"{MODEL}.architecture": "mobilenetv"}, ["Did you mean 'mobilenetv2'?"]),
    "architecture unknown": (
        {f"{MODEL}.architecture": "vgg"},
        ["student.model.architecture", "'vgg'", "`softlabel models`", "Did you mean 'vgg19'?"],
    ),
    "architecture missing": ({f"{MODEL}.architecture": ...}, ["student.model.architecture: missing"]),
    "no phases": ({"student.phases": []}, ["student.phases", "at least 1"]),
    "epochs 0": ({f"{PHASE}.epochs": 0}, [f"{PHASE}.epochs", "greater than or equal to 1", "got 0"]),
    "epochs 1.5": ({f"{PHASE}.epochs": 1.5}, [f"{PHASE}.epochs", "integer", "got 1.5"]),
    "learning rate 0": ({f"{PHASE}.learning_rate": 0}, [f"{PHASE}.learning_rate", "greater than 0"]),
    "layer below 0": ({f"{PHASE}.trainable_from": -1}, [f"{PHASE}.trainable_from", "got -1"]),
    "batch size 0": ({"precompute.batch_size": 0}, ["precompute.batch_size", "greater than or equal to 1"]),
    "val_fraction 0": ({"split.val_fraction": 0}, ["split.val_fraction", "greater than 0", "got 0"]),
    "val_fraction 1": ({"split.val_fraction": 1}, ["split.val_fraction", "less than 1", "got 1"]),
    "layout unknown": (
        {"split.layout": "coco"},
        ["split.layout: unknown layout 'coco'; known are mhist, csv, folders, arrays, cifar10, webdataset, parquet"],
    ),
    "key unknown at the top": ({"studnet": {}}, ["\n  studnet: unknown key", "did you mean 'student'?"]),
    "key unknown in a section": (
        {"split.val_fracton": 0.1},
        ["split.val_fracton: unknown key", "did you mean 'val_fraction'?"],
    ),
    "key unknown two sections down": (
        {"train_teacher.augmentation.rotations": 0.1},
        ["train_teacher.augmentation.rotations: unknown key", "did you mean 'rotation'?"],
    ),
    "key unknown in a list item": ({f"{PHASE}.epoch": 3}, [f"{PHASE}.epoch: unknown key", "did you mean 'epochs'?"]),
    "key unknown in a model": (
        {MODEL: CNN | {"dropuot": 0.1}},
        ["student.model", "dropuot: unknown key", "did you mean 'dropout'?"],
    ),
    "key by its old name": ({MODEL: CNN | {"dense": [4]}}, [f"{MODEL}.dense: ", "'hidden_units'"]),
    "key like no other": (
        {"split.xyz": 1},
        [
            "split.xyz: unknown key",
            "known are annotations, class_names, copy, data, duplicates, images, layout, limit, links, unl",
        ],
    ),
    "key that belongs to another section": (
        {"distill.batch_size": 1},
        ["distill.batch_size: unknown key", "known are hard_label_weight, loss, losses, scale_by"],
    ),
    "key missing": ({"distill.hard_label_weight": ...}, ["distill.hard_label_weight: missing"]),
    "key missing in a list item": ({f"{PHASE}.learning_rate": ...}, [f"{PHASE}.learning_rate: missing"]),
    "section missing": ({"evaluate": ...}, ["\n  evaluate: missing"]),
    "section of an older file missing": (
        {"card": ...},
        ["\n  card: missing; add these lines, which change no result:\n      card: {}"],
    ),
    "licence that is a sentence": ({"card.license": "see LICENSE"}, ["card.license", "got 'see LICENSE'"]),
    "domain unknown": ({"card.domain": "medicine"}, ["card.domain", "'general' or 'medical'"]),
    "language in words": ({"card.language": "English"}, ["card.language", "got 'English'"]),
    "empty text of the card": ({"card.limits": ""}, ["card.limits", "got ''"]),
    "blank text of the card": ({"card.authors": " "}, ["card.authors", "got ' '"]),
    "section empty": ({"student": None}, ["\n  student: ", "got None"]),
    "imagenet on grey images": (
        {MODEL: RESNET | {"input_shape": [224, 224, 1]}},
        ["student.model", "pretrained weights need images of 3 channels", "set input_shape: [height, width, 3]"],
    ),
    "channels 2": ({MODEL: CNN | {"input_shape": [8, 8, 2]}}, ["student.model", "input_shape.2", "1 or 3", "got 2"]),
    "height 0": ({MODEL: CNN | {"input_shape": [0, 8, 1]}}, ["student.model", "input_shape.0", "got 0"]),
    "alpha for resnet50v2": ({MODEL: RESNET | {"alpha": 1.0}}, ["student.model", "alpha", "mobilenetv2"]),
    "weights for cnn": ({MODEL: CNN | {"weights": "imagenet"}}, ["student.model", "weights", "got 'imagenet'"]),
    "filters missing for cnn": ({MODEL: without(CNN, "filters")}, ["student.model", "filters: missing"]),
    "no filters": ({MODEL: CNN | {"filters": []}}, ["student.model", "filters", "at least 1"]),
    "dropout 1": ({MODEL: CNN | {"dropout": 1}}, ["student.model", "dropout", "less than 1", "got 1"]),
    "pooling unknown": ({MODEL: CNN | {"pooling": "mean"}}, ["student.model", "pooling", "'flatten'", "got 'mean'"]),
    "factors for other filters": (
        {MODEL: CNN | {"factor": [3, 3, 1]}},
        ["student.model", "factor has 3 numbers", "2 filters"],
    ),
    "factor 0": ({MODEL: CNN | {"factor": 0}}, ["student.model", "factor", "greater than or equal to 1", "got 0"]),
    "factor 0 of one": ({MODEL: CNN | {"factor": [2, 0]}}, ["student.model", "greater than or equal to 1", "got 0"]),
    "kernel size 0": ({MODEL: CNN | {"kernel_size": 0}}, [f"{MODEL}.kernel_size:", "than or equal to 1", "got 0"]),
    "padding unknown": ({MODEL: CNN | {"padding": "full"}}, [f"{MODEL}.padding:", "'same' or 'valid'", "got 'full'"]),
    "hidden layer of none": (
        {MODEL: CNN | {"hidden_units": [0]}},
        [f"{MODEL}.hidden_units.0:", "than or equal to 1", "got 0"],
    ),
    "hidden layers no list": ({MODEL: CNN | {"hidden_units": 64}}, [f"{MODEL}.hidden_units:", "list", "got 64"]),
    "preprocessing unknown": (
        {MODEL: CNN | {"preprocessing": "imagenet"}},
        [f"{MODEL}.preprocessing:", "'own', 'none', 'unit', 'symmetric' or 'caffe'", "got 'imagenet'"],
    ),
    "caffe on grey images": (
        {MODEL: CNN | {"preprocessing": "caffe"}},
        ["student.model", "the preprocessing caffe", "images of 3 channels", "set input_shape: [height, width, 3]"],
    ),
    "mean of pixels to 255": (
        {MODEL: RESNET | {"preprocessing": {"mean": [123.7, 116.8, 103.9], "std": [1, 1, 1]}}},
        [f"{MODEL}.preprocessing:", "pixels from 0 to 1", "by 255"],
    ),
    "std of pixels to 255": (
        {MODEL: RESNET | {"preprocessing": {"mean": [0, 0, 0], "std": [58.4, 57.1, 57.4]}}},
        [f"{MODEL}.preprocessing:", "pixels from 0 to 1"],
    ),
    "std of nothing": (
        {MODEL: CNN | {"preprocessing": {"mean": [0.5], "std": [0]}}},
        [f"{MODEL}.preprocessing:", "pixels from 0 to 1"],
    ),
    "mean without std": (
        {MODEL: CNN | {"preprocessing": {"mean": [0.5]}}},
        [f"{MODEL}.preprocessing.std: missing"],
    ),
    "more means than stds": (
        {MODEL: RESNET | {"preprocessing": {"mean": [0.5, 0.5, 0.5], "std": [0.5]}}},
        [f"{MODEL}.preprocessing:", "mean has 3 ", "std 1"],
    ),
    "a mean of another number of channels": (
        {MODEL: RESNET | {"preprocessing": {"mean": [0.5], "std": [0.5]}}},
        [f"{MODEL}:", "preprocessing has a mean of 1 ", "input_shape has 3"],
    ),
    "mean misspelt": (
        {MODEL: CNN | {"preprocessing": {"meen": [0.5], "std": [0.5]}}},
        [f"{MODEL}.preprocessing.mean: missing", f"{MODEL}.preprocessing.meen: unknown key; did you mean 'mean'?"],
    ),
    "mlp with pooling": ({MODEL: MLP | {"pooling": "avg"}}, [f"{MODEL}.pooling:", "'flatten'", "got 'avg'"]),
    "mlp with weights": ({MODEL: MLP | {"weights": "imagenet"}}, [f"{MODEL}.weights:", "got 'imagenet'"]),
    "mlp with filters": ({MODEL: MLP | {"filters": [8]}}, [f"{MODEL}.filters: unknown key"]),
    "momentum of adam": (
        {f"{PHASE}.momentum": 0.9},
        [f"{PHASE}:", "momentum", "sgd", "rmsprop", "adam "],
    ),
    "momentum of adamw": (
        {PHASE: SGD | {"optimizer": "adamw"}},
        [f"{PHASE}:", "momentum", "sgd", "rmsprop", "adamw "],
    ),
    "momentum 1": ({PHASE: SGD | {"momentum": 1}}, [f"{PHASE}.momentum:", "less than 1", "got 1"]),
    "momentum below 0": ({PHASE: SGD | {"momentum": -0.1}}, [f"{PHASE}.momentum:", "than or equal to 0", "got -0.1"]),
    "optimizer misspelt": (
        {f"{PHASE}.optimizer": "adma"},
        [f"{PHASE}.optimizer:", "'adam', 'adamw', 'rmsprop' or 'sgd'", "got 'adma'"],
    ),
    "schedule misspelt": (
        {PHASE: FULL | {"schedule": "cosinus"}},
        [f"{PHASE}.schedule: expected constant, cosine, or steps down: {{factor: 0.1, after", "(got 'cosinus')"],
    ),
    "steps of 1": (
        {PHASE: FULL | {"schedule": {"factor": 1, "after_epochs": [5]}}},
        [f"{PHASE}.schedule.factor:", "less than 1", "got 1"],
    ),
    "steps without epochs": (
        {PHASE: FULL | {"schedule": {"factor": 0.1}}},
        [f"{PHASE}.schedule.after_epochs: missing"],
    ),
    "steps out of order": (
        {PHASE: FULL | {"schedule": {"factor": 0.1, "after_epochs": [7, 5]}}},
        [f"{PHASE}.schedule:", "[7, 5]", "the smallest first"],
    ),
    "a step after the last epoch": (
        {PHASE: FULL | {"schedule": {"factor": 0.1, "after_epochs": [5, 10]}}},
        [f"{PHASE}:", "after_epochs has 10, and the phase has 10 epochs", "from 1 to 9"],
    ),
    "a step in the warm-up": (
        {PHASE: FULL | {"schedule": {"factor": 0.1, "after_epochs": [3, 5]}}},
        [f"{PHASE}:", "after_epochs has 3, within the warmup of 4 epochs"],
    ),
    "warm-up as long as the phase": (
        {PHASE: FULL | {"schedule": "cosine", "warmup": 10}},
        [f"{PHASE}:", "warmup is 10 epochs, and the phase has 10", "Expected fewer"],
    ),
    "features of a phase without frozen layers": (
        {f"{PHASE}.features_dtype": "float16"},
        [f"{PHASE}:", "features_dtype is float16, and trainable_from is all", "Leave features_dtype out"],
    ),
    "warm-up below 0": ({f"{PHASE}.warmup": -1}, [f"{PHASE}.warmup:", "than or equal to 0", "got -1"]),
    "weight decay below 0": ({f"{PHASE}.weight_decay": -0.1}, [f"{PHASE}.weight_decay:", "or equal to 0", "got -0.1"]),
    "clip norm 0": ({f"{PHASE}.clip_norm": 0}, [f"{PHASE}.clip_norm:", "greater than 0", "got 0"]),
    "label smoothing 1": ({f"{PHASE}.label_smoothing": 1}, [f"{PHASE}.label_smoothing:", "less than 1", "got 1"]),
    "momentum 1 of the average": ({f"{PHASE}.ema": 1}, [f"{PHASE}.ema:", "less than 1", "got 1"]),
    "momentum 0 of the average": ({f"{PHASE}.ema": 0}, [f"{PHASE}.ema:", "greater than 0", "got 0"]),
    "patience as long as the phase": (
        {PHASE: FULL | {"patience": 10}},
        [f"{PHASE}:", "patience is 10 epochs, and the phase has 10", "leave patience out"],
    ),
    "patience 0": ({f"{PHASE}.patience": 0}, [f"{PHASE}.patience:", "than or equal to 1", "got 0"]),
    "class weight misspelt": (
        {f"{PHASE}.class_weight": "balance"},
        [f"{PHASE}.class_weight: expected balanced, or a number above 0 for each class", "(got 'balance')"],
    ),
    "class weight 0": (
        {PHASE: FULL | {"class_weight": {"5": 1, "7": 0}}},
        [f"{PHASE}.class_weight.7:", "greater than 0", "got 0"],
    ),
    "class weight twice": (
        {PHASE: FULL | {"class_weight": {9: 1, "9": 50}}},
        [f"{PHASE}.class_weight: names a class twice, as a number and as a text: 9, '9'"],
    ),
    "select by misspelt": (
        {"student.select_by": "acc"},
        ["student.select_by:", "'accuracy', 'balanced_accuracy', 'auc' or 'cross_entropy'", "got 'acc'"],
    ),
    "select by missing": (
        {"student.select_by": ...},
        ["student.select_by: missing; add these lines, which change no result:\n      select_by: accuracy"],
    ),
    "steps per epoch 0": (
        {f"{PHASE}.steps_per_epoch": 0},
        [f"{PHASE}.steps_per_epoch:", "than or equal to 1", "got 0"],
    ),
    "steps per epoch half": ({f"{PHASE}.steps_per_epoch": 1.5}, [f"{PHASE}.steps_per_epoch:", "integer", "got 1.5"]),
    "inference mode a number": (
        {f"{PHASE}.backbone_in_inference_mode": 1},
        [f"{PHASE}.backbone_in_inference_mode:", "valid boolean", "got 1"],
    ),
    "validation steps 0": (
        {"student.validation_steps": 0},
        ["student.validation_steps:", "greater than or equal to 1", "got 0"],
    ),
    "validation steps 0 of the teacher": (
        {"train_teacher.validation_steps": 0},
        ["train_teacher.validation_steps:", "greater than or equal to 1", "got 0"],
    ),
    "validation steps missing": ({"student.validation_steps": ...}, ["student.validation_steps: missing"]),
    "loss misspelt": (
        {"distill.loss": {"kl": {}, "cross_entopy": {}}},
        ["distill.loss.cross_entopy.kind: unknown kind 'cross_entopy'", "Did you mean 'cross_entropy'?"],
    ),
    "loss a number": ({"distill.loss": 5}, ["distill.loss: expected keys with values below it", "got 5"]),
    "loss without an entry": (
        {"distill.losses": ["kl", "mse"]},
        ["distill: losses names 'mse', but loss has no such entry: write `mse: {}` below loss, or name one of", ": kl"],
    ),
    "loss in capital letters": (
        {"distill.losses": ["KL"]},
        ["losses names 'KL', but loss has no such entry: name one of those that are there: kl. Did you mean 'kl'?"],
    ),
    "loss like one of the kinds": ({"distill.losses": ["kl", "crossentropy"]}, ["Did you mean 'cross_entropy'?"]),
    "loss of the name of another": (
        {"distill.loss.kl": {"kind": "dkd"}},
        ["distill.loss: 'kl' is of the kind dkd", "another name, such as dkd_2, or leave kind out"],
    ),
    "dkd that is 0": (
        {"distill.loss.dkd": {"alpha": 0, "beta": 0}},
        ["distill.loss.dkd: alpha and beta are 0", "expected one of them above 0"],
    ),
    "dist that is 0": (
        {"distill.loss.dist": {"beta": 0, "gamma": 0.0}},
        ["distill.loss.dist: beta and gamma are 0", "expected one of them above 0"],
    ),
    "standardised dkd that is 0": (
        {"distill.loss.logit_standardization": {"before": "dkd", "alpha": 0, "beta": 0}},
        ["distill.loss.logit_standardization: alpha and beta are 0", "expected one of them above 0"],
    ),
    "mse of the largest logits": (
        {STORAGE: TOP10, "distill.losses": ["kl", "mse"], "distill.loss.mse": {}},
        [
            "\n  distill.losses names 'mse', which cannot be computed from the largest logits",
            "{kind: dense, dtype: float16}",
        ],
    ),
    "largest logits, standardised": (
        {STORAGE: TOP10, "distill.losses": ["own"], "distill.loss.own": {"kind": "logit_standardization"}},
        [
            "\n  distill.losses names 'own', which cannot be computed",
            "the standard deviation of all logits is not known",
        ],
    ),
    "T that changes of the largest logits": (
        {STORAGE: TOP10, TEMPERATURES: [4, "8to2"]},
        [
            "\n  distill.temperatures has 8to2, and precompute.storage keeps the largest",
            "temperatures that do not change",
        ],
    ),
    "losses missing": ({"distill.losses": ...}, ["distill.losses: missing"]),
    "no loss": ({"distill.losses": []}, ["distill.losses:", "at least 1"]),
    "one loss without a list": ({"distill.losses": "kl"}, ["distill.losses:", "list", "got 'kl'"]),
    "a T of a loss without any": (
        {"distill.loss.mse": {"student_temperature": 1}},
        ["mse.student_temperature: unknown"],
    ),
    "a weight below 0": ({"distill.loss.dkd": {"beta": -1}}, ["distill.loss.dkd.beta:", "greater than or equal to 0"]),
    "beta before kl": (
        {"distill.loss.logit_standardization": {"beta": 2}},
        ["distill.loss.logit_standardization: alpha and beta are for `before: dkd`"],
    ),
    "loss repeated": ({"distill.losses": ["kl", "kl"]}, ["distill.losses: expected values that all differ"]),
    "loss of no entries": ({"distill.loss": {}}, ["distill.loss:", "at least 1"]),
    "loss no map": ({"distill.loss": ["kl"]}, ["distill.loss: expected keys with values below it"]),
    "an entry without a value": ({"distill.loss.kl": None}, ["distill.loss.kl: expected keys with values below it"]),
    "an entry of another loss' key": ({"distill.loss.kl": {"alpha": 1}}, ["distill.loss.kl.alpha: unknown key"]),
    "an entry's weight": ({"distill.loss.kl": {"hard_label_weight": 2}}, ["loss.kl.hard_label_weight:", "got 2"]),
    "an entry's T": ({"distill.loss.kl": {"student_temperature": 0}}, ["kl.student_temperature:", "1000", "got 0"]),
    "a loss of no name of a file": ({"distill.loss.My/Loss": {"kind": "kl"}}, ["distill.loss: 'My/Loss' is no name"]),
    "the key of before": (
        {"distill.soft_loss": "cross_entropy"},
        ["distill.soft_loss: is now named by distill.losses", "losses: [kl]", "or {cross_entropy: {}}"],
    ),
    "scale a word": (
        {"distill.scale_by_temperature_squared": "yes"},
        ["distill.scale_by_temperature_squared:", "valid boolean", "got 'yes'"],
    ),
    "storage without a kind": ({STORAGE: {"dtype": "float32"}}, [f"{STORAGE}.kind: missing"]),
    "storage of an unknown kind": (
        {STORAGE: {"kind": "zip", "dtype": "float32"}},
        [f"{STORAGE}.kind: unknown kind 'zip'; known are dense, topk"],
    ),
    "storage of another dtype": (
        {STORAGE: {"kind": "dense", "dtype": "float64"}},
        [f"{STORAGE}.dtype:", "'float32' or 'float16'", "got 'float64'"],
    ),
    "k missing": ({STORAGE: {"kind": "topk"}}, [f"{STORAGE}.k: missing"]),
    "k 0": ({STORAGE: {"kind": "topk", "k": 0}}, [f"{STORAGE}.k:", "greater than or equal to 1", "got 0"]),
    "k of a dense file": (
        {STORAGE: {"kind": "dense", "dtype": "float32", "k": 10}},
        [f"{STORAGE}.k: unknown key"],
    ),
    "key unknown in a storage": (
        {STORAGE: {"kind": "topk", "k": 10, "dtpye": "float16"}},
        [f"{STORAGE}.dtpye: unknown key", "did you mean 'dtype'?"],
    ),
    "no views": ({"views.count": 0}, ["views.count", "greater than or equal to 1", "got 0"]),
    "too many views": ({"views.count": 65536}, ["views.count", "less than or equal to 65535", "got 65536"]),
    "equal views": (
        {"views.count": 2, VIEWS: {"fill_mode": "nearest"}},
        ["views:", "set count: 1", "augmentation"],
    ),
    "crop area 0": ({VIEWS: {"crop_area": [0, 1]}}, [f"{VIEWS}.crop_area", "from 0.01 to 1", "got [0, 1]"]),
    "crop area above 1": (
        {VIEWS: {"crop_area": [0.5, 1.1]}},
        [f"{VIEWS}.crop_area", "from 0.01 to 1", "got [0.5, 1.1]"],
    ),
    "crop area turned round": ({VIEWS: {"crop_area": [0.9, 0.5]}}, [f"{VIEWS}.crop_area", "the smaller first"]),
    "crop area of one number": ({VIEWS: {"crop_area": 0.5}}, [f"{VIEWS}.crop_area", "got 0.5"]),
    "crop area of three numbers": ({VIEWS: {"crop_area": [0.1, 0.5, 1]}}, [f"{VIEWS}.crop_area", "at most 2"]),
    "crop as narrow as a line": (
        {VIEWS: {"crop_aspect_ratio": [0.05, 1]}},
        [f"{VIEWS}.crop_aspect_ratio", "from 0.1 to 10"],
    ),
    "brightness above 1": ({VIEWS: {"brightness": 1.5}}, [f"{VIEWS}.brightness", "less than or equal to 1"]),
    "contrast below 0": ({VIEWS: {"contrast": -0.1}}, [f"{VIEWS}.contrast", "greater than or equal to 0"]),
    "gain above 1": ({VIEWS: {"channel_gain": 2}}, [f"{VIEWS}.channel_gain", "less than or equal to 1"]),
    "fill mode unknown": ({VIEWS: {"fill_mode": "wrap"}}, [f"{VIEWS}.fill_mode", "'constant'", "got 'wrap'"]),
    "flip a number": ({VIEWS: {"horizontal_flip": 1}}, [f"{VIEWS}.horizontal_flip", "valid boolean", "got 1"]),
    "key unknown in views": ({VIEWS: {"contrst": 0.5}}, [f"{VIEWS}.contrst: unknown key", "did you mean 'contrast'?"]),
    "more views mixed than there are": (
        {VIEWS: {"mixup": {"alpha": 1, "share": 0.6}, "cutmix": {"alpha": 1, "share": 0.5}}},
        [f"{VIEWS}: ", "mixup.share and cutmix.share are together 1.1", "at most 1"],
    ),
    "mixup without a share": ({VIEWS: {"mixup": {"alpha": 1}}}, [f"{VIEWS}.mixup.share: missing"]),
    "mixup of no views": ({VIEWS: {"mixup": {"alpha": 1, "share": 0}}}, [f"{VIEWS}.mixup.share", "greater than 0"]),
    "mixup a number": ({VIEWS: {"mixup": 0.2}}, [f"{VIEWS}.mixup", "expected keys with values below it", "got 0.2"]),
    "cutmix's key misspelt": (
        {VIEWS: {"cutmix": {"alpah": 1, "share": 0.5}}},
        [f"{VIEWS}.cutmix.alpah: unknown key", "did you mean 'alpha'?"],
    ),
    "more than all views erased": (
        {VIEWS: {"erasing": {"share": 1.5}}},
        [f"{VIEWS}.erasing.share", "less than or equal to 1", "got 1.5"],
    ),
    "a share as a text": ({VIEWS: {"erasing": {"share": "1"}}}, [f"{VIEWS}.erasing.share", "valid number", "got '1'"]),
    "erased area turned round": (
        {VIEWS: {"erasing": {"share": 0.5, "area": [0.5, 0.1]}}},
        [f"{VIEWS}.erasing.area", "the smaller first"],
    ),
    "operation unknown": (
        {VIEWS: {"operations": {"count": 2, "of": {"blurr": 0.1}}}},
        [f"{VIEWS}.operations.of.blurr", "'blur'", "'sharpness'"],
    ),
    "operation outside of its list": (
        {f"{VIEWS}.blur": 0.1, f"{VIEWS}.operations": None},
        [f"{VIEWS}.blur: unknown key; it is one of operations: {{count: 1, of: {{blur: …}}}}."],
    ),
    "operation too strong": (
        {VIEWS: {"operations": {"count": 2, "of": {"blur": 0.2}}}},
        [f"{VIEWS}.operations: ", "the strength of blur", "at most 0.1", "0.2"],
    ),
    "operation without strength": (
        {VIEWS: {"operations": {"count": 2, "of": {"hue": 0}}}},
        [f"{VIEWS}.operations: ", "the strength of hue is above 0"],
    ),
    "no operation to draw from": (
        {VIEWS: {"operations": {"count": 2, "of": {}}}},
        [f"{VIEWS}.operations: ", "names no operation", "leave operations out"],
    ),
    "operations twice": (
        {VIEWS: {"operations": {"count": 2, "magnitude": 9, "of": {"hue": 0.1}}}},
        [f"{VIEWS}.operations: ", "either of, a map of operations to strengths, or magnitude"],
    ),
    "operations of nothing": ({VIEWS: {"operations": {"count": 2}}}, [f"{VIEWS}.operations: ", "or magnitude"]),
    "too many operations": (
        {VIEWS: {"operations": {"count": 9, "magnitude": 9}}},
        [f"{VIEWS}.operations.count", "less than or equal to 8", "got 9"],
    ),
    "rotation of more than half a turn": (
        {"train_teacher.augmentation.rotation": 0.6},
        ["train_teacher.augmentation.rotation", "less than or equal to 0.5", "got 0.6"],
    ),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_each_mistake_is_named(tmp_path, mistake):
    changes, expected = REFUSED[mistake]
    file = write(tmp_path, changes)
    message = refusal(file)
    assert message.startswith(f"{file} is not valid:\n")
    assert [words for words in expected if words not in message] == []


def test_all_mistakes_are_named_at_once(tmp_path):
    message = refusal(write(tmp_path, {"split.val_fraction": 2, "distill.hard_label_weight": 3, "evaluate": ...}))
    locations = [line.split(":")[0].strip() for line in message.splitlines()[1:]]
    assert locations == ["split.val_fraction", "distill.hard_label_weight", "evaluate"]


@pytest.mark.parametrize(
    ("model", "key"), [(RESNET, "filters"), (MOBILENET, "factor"), (CNN, "alpha")], ids=["resnet", "mobilenet", "cnn"]
)
def test_the_refused_key_itself_is_not_suggested(tmp_path, model, key):
    message = refusal(write(tmp_path, {MODEL: model | {key: 1}}))
    assert f"{key}: unknown key" in message
    assert f"did you mean '{key}'" not in message
    assert f"{MODEL}.{key}:" in message


@pytest.mark.parametrize(
    ("changes", "location"),
    [
        ({f"{PHASE}.learning_rate": float("inf")}, f"{PHASE}.learning_rate"),
        ({MODEL: MOBILENET | {"alpha": float("inf")}}, "alpha"),
    ],
    ids=["learning rate", "alpha"],
)
def test_infinite_numbers_are_refused(tmp_path, changes, location):
    assert location in refusal(write(tmp_path, changes))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("split: 1\nsplit: 2\n", ["not valid YAML", "duplicate key", '"split"', "line 2"]),
        ("split: [1\n", ["not valid YAML", "line"]),
        ("split:\n\tlayout: mhist\n", ["not valid YAML", "line 2"]),
        ("a: 1\n---\nb: 1\n", ["not valid YAML", "single document"]),
        ("a: !!python/object/apply:os.getcwd []\n", ["not valid YAML", "python/object"]),
        ("split: caf\xe9\n", ["text in UTF-8"]),
        ("", ["params.yaml", "presets/"]),
        ("- split\n", ["params.yaml", "presets/"]),
        ("# only a comment\n", ["params.yaml", "presets/"]),
        ("split: 2024-13-45\n", ["not valid"]),
    ],
    ids=["duplicate key", "open list", "tab", "two documents", "object", "latin-1", "empty", "list", "comment", "date"],
)
def test_refuses_what_is_no_mapping_in_yaml(tmp_path, text, expected):
    file = tmp_path / "params.yaml"
    file.write_bytes(text.encode("latin-1"))
    message = refusal(file)
    assert [words for words in [str(file), *expected] if words not in message] == []


def test_a_duplicate_key_deep_in_a_section_is_refused(tmp_path):
    file = write_as(tmp_path, "precompute", "\n  batch_size: 1\n  batch_size: 2\n")
    assert "duplicate key" in refusal(file)


def test_refuses_a_missing_file(tmp_path):
    with pytest.raises(MissingError, match="the folder that holds the pipeline") as refused:
        read_params(tmp_path / "params.yaml")
    assert f"no {tmp_path / 'params.yaml'}" in str(refused.value)


@pytest.mark.parametrize(
    ("written", "names"),
    [("[4]", ["4"]), ("[4.0]", ["4.0"]), ("[1e1]", ["10.0"]), ("[0.5, 20]", ["0.5", "20"]), ("[2, 2.5]", ["2", "2.5"])],
)
def test_temperatures_stay_as_they_are_written(tmp_path, written, names):
    """DVC puts a temperature as Python prints it into a file's name: soft_targets_T4.h5, not T4.0."""
    temperatures = read_params(write_as(tmp_path, TEMPERATURES, written)).distill.temperatures
    assert [str(temperature) for temperature in temperatures] == names


@pytest.mark.parametrize(("written", "value"), [("1e-4", 0.0001), ("1E-4", 0.0001), ("2.5e-3", 0.0025), ("1", 1.0)])
def test_numbers_with_exponents_are_numbers(tmp_path, written, value):
    """In YAML 1.1, which PyYAML reads, 1e-4 is a text."""
    rate = read_params(write_as(tmp_path, f"{PHASE}.learning_rate", written)).train_teacher.phases[0].learning_rate
    assert rate == value
    assert isinstance(rate, float)


def test_yes_is_a_text_as_in_yaml_1_2(tmp_path):
    file = write_as(tmp_path, f"{PHASE}.trainable_from", "off")
    assert read_params(file).train_teacher.phases[0].trainable_from == "off"


def test_values_do_not_change():
    params = read_params(ROOT / "params.yaml")
    with pytest.raises(ValueError, match="frozen"):
        params.evaluate.batch_size = 1


# Several teachers, and teachers that are given

TRAINED = PARAMS["train_teacher"]
FILE = {"model": "teachers/one.keras"}
WEIGHTS = {"model": "teachers/two.weights.h5", "weights_of": CNN}
DESCRIBED = FILE | {"preprocessing": "unit", "classes": ["b", None, "a"], "accuracy": 0.92}
FORMS = {
    "one file of which more is stated": DESCRIBED,
    "its classes as a map, its pixels standardised": FILE
    | {"classes": {"a": 2, "b": 0}, "preprocessing": {"mean": [0.5], "std": [0.25]}, "accuracy": 1},
    "weights of more classes": WEIGHTS | {"classes": ["b", None, "a"]},
    "one to train": TRAINED,
    "one file": FILE,
    "one of weights": WEIGHTS,
    "a list": [TRAINED, TRAINED | {"seed": 2}],
    "a list of all kinds": [FILE, TRAINED, WEIGHTS],
    "the mean of probabilities": {"average": "probabilities", "members": [TRAINED, FILE]},
    "the mean of logits": {"average": "logits", "members": [FILE, FILE, WEIGHTS]},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_teacher_is_read_as_written(tmp_path, form):
    file = write(tmp_path, {"train_teacher": FORMS[form]})
    content = yaml(file)
    assert given(read_params(file), content) == content


@pytest.mark.parametrize("form", FORMS)
def test_a_stage_reads_every_form_of_a_teacher(tmp_path, form):
    file = write(tmp_path, {"train_teacher": FORMS[form]})
    section = load_params("train_teacher", file, ROOT / "dvc.yaml").train_teacher
    assert given(section, FORMS[form]) == FORMS[form]
    undeclared(lambda: load_params("precompute", file, ROOT / "dvc.yaml").train_teacher)


def test_the_stage_is_given_teachers_in_the_order_of_the_file(tmp_path):
    teachers, average = teachers_of(tmp_path, FORMS["a list of all kinds"])
    assert average == "logits"
    assert [type(teacher).__name__ for teacher in teachers] == ["GivenTeacher", "TeacherToTrain", "GivenTeacher"]
    assert [teachers[0].file, teachers[0].weights_of] == [Path("teachers/one.keras"), None]
    assert (teachers[1].recipe.seed, teachers[1].recipe.batch_size) == (TRAINED["seed"], TRAINED["batch_size"])
    assert teachers[1].model.filters == TRAINED["model"]["filters"]
    assert teachers[2].file == Path("teachers/two.weights.h5")
    assert teachers[2].weights_of.filters == CNN["filters"]


def test_the_stage_is_given_what_is_stated_of_a_teacher(tmp_path):
    ((described,), _) = teachers_of(tmp_path, DESCRIBED)
    stated = {"preprocessing": "unit", "classes": ["b", None, "a"], "accuracy": 0.92}
    assert described == GivenTeacher("teachers/one.keras", None, **stated)
    ((plain,), _) = teachers_of(tmp_path, FILE)
    assert plain == GivenTeacher("teachers/one.keras")


OF_TEACHERS_MD = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs/teachers.md").read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", OF_TEACHERS_MD)
def test_what_docs_teachers_md_shows_is_read_as_written(tmp_path, text):
    shown = YAML(typ="safe").load(text)
    section = read_params(write(tmp_path, shown)).train_teacher
    assert given(section, shown["train_teacher"]) == shown["train_teacher"]


@pytest.mark.parametrize(
    ("written", "read"),
    [("[0, 10, null, 2]", ["0", "10", None, "2"]), ("{0: 1, 10: 0}", {"0": 1, "10": 0}), ("['01', 1]", ["01", "1"])],
)
def test_classes_that_are_called_by_numbers_need_no_quotes(tmp_path, written, read):
    text = f"{{model: one.keras, classes: {written}}}"
    section = read_params(write_as(tmp_path, "train_teacher", text)).train_teacher
    assert section.classes == read


@pytest.mark.parametrize(
    ("written", "read"),
    [("{0: b, 1: a}", {"b": 0, "a": 1}), ("{0: b, 1: null, 2: '7'}", {"b": 0, "7": 2})],
)
def test_classes_may_be_named_by_the_number_of_their_output(tmp_path, written, read):
    text = f"{{model: one.keras, classes: {written}}}"
    assert read_params(write_as(tmp_path, "train_teacher", text)).train_teacher.classes == read


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("{0: a, 1: a}", "but a is there twice"),
        ("{0: a, b: 1}", "{HP: 0}, or back, {0: HP}"),
        ("{a: b, c: d}", "{HP: 0}, or back, {0: HP}"),
    ],
)
def test_an_ambiguous_or_useless_map_of_classes_is_refused(tmp_path, written, expected):
    message = refusal(write_as(tmp_path, "train_teacher", f"{{model: one.keras, classes: {written}}}"))
    assert "\n  train_teacher.classes: " in message
    assert expected in message


def teachers_of(folder, section):
    return arguments.teachers(read_params(write(folder, {"train_teacher": section})).train_teacher)


@pytest.mark.parametrize(
    ("form", "average", "count"),
    [
        ("one to train", "logits", 1),
        ("one file", "logits", 1),
        ("a list", "logits", 2),
        ("the mean of probabilities", "probabilities", 2),
        ("the mean of logits", "logits", 3),
    ],
)
def test_a_list_of_teachers_averages_logits_by_default(tmp_path, form, average, count):
    teachers, averaged = teachers_of(tmp_path, FORMS[form])
    assert (averaged, len(teachers)) == (average, count)


def test_a_member_may_be_another_one_with_a_change(tmp_path):
    """YAML's anchors and merge keys, as DVC reads them too."""
    text = f"[&one {json.dumps(TRAINED)}, {{<<: *one , seed: 7}}, {{<<: *one , batch_size: 3}}]"
    teachers, _ = arguments.teachers(read_params(write_as(tmp_path, "train_teacher", text)).train_teacher)
    seed, size = TRAINED["seed"], TRAINED["batch_size"]
    assert [(teacher.recipe.seed, teacher.recipe.batch_size) for teacher in teachers] == [
        (seed, size),
        (7, size),
        (seed, 3),
    ]
    assert all(teacher.model == teachers[0].model for teacher in teachers)


def test_an_anchor_may_name_a_model_too(tmp_path):
    text = f"[{{model: a.weights.h5, weights_of: &cnn {json.dumps(CNN)}}}, {{model: b.weights.h5, weights_of: *cnn }}]"
    teachers, _ = arguments.teachers(read_params(write_as(tmp_path, "train_teacher", text)).train_teacher)
    assert teachers[0].weights_of == teachers[1].weights_of
    assert [teacher.file.name for teacher in teachers] == ["a.weights.h5", "b.weights.h5"]


def ensemble_of(*members: Any, **others: Any) -> dict[str, Any]:
    return {"average": "logits", "members": list(members)} | others


REFUSED_TEACHERS = {
    "empty list": ([], ["train_teacher: ", "at least 2 items", "got []"]),
    "list of one": ([TRAINED], ["train_teacher: ", "at least 2 items"]),
    "no members": (ensemble_of(), ["train_teacher.members: ", "at least 2 items", "got []"]),
    "one member": (ensemble_of(FILE), ["train_teacher.members: ", "at least 2 items"]),
    "members of nothing": (ensemble_of(members=None), ["train_teacher.members: ", "valid list", "got None"]),
    "average unknown": (
        ensemble_of(FILE, FILE, average="votes"),
        ["train_teacher.average: ", "'logits' or 'probabilities'", "got 'votes'"],
    ),
    "average missing": ({"members": [FILE, FILE]}, ["train_teacher.average: missing"]),
    "average misspelt": (
        {"avrage": "logits", "members": [FILE, FILE]},
        ["train_teacher.average: missing", "train_teacher.avrage: unknown key; did you mean 'average'?"],
    ),
    "seed of an ensemble": (
        ensemble_of(FILE, FILE, seed=1),
        ["train_teacher.seed: unknown key", "known are average, members"],
    ),
    "key missing in member 1": ([TRAINED, without(TRAINED, "phases")], ["train_teacher.1.phases: missing"]),
    "key missing in member 1 of an ensemble": (
        ensemble_of(TRAINED, without(TRAINED, "phases")),
        ["train_teacher.members.1.phases: missing"],
    ),
    "key unknown in member 1": (
        [FILE, TRAINED | {"batchsize": 3}],
        ["train_teacher.1.batchsize: unknown key; did you mean 'batch_size'?"],
    ),
    "key of a trained teacher beside a file": (
        [TRAINED, FILE | {"seed": 1}],
        [
            "train_teacher.1.seed: unknown key",
            "known are accuracy, classes, input_shape, model, preprocessing, weights_of",
        ],
    ),
    "value wrong in a phase of member 1": (
        [FILE, TRAINED | {"phases": [*TRAINED["phases"], TRAINED["phases"][0] | {"epochs": 0}]}],
        ["train_teacher.1.phases.1.epochs: ", "greater than or equal to 1", "got 0"],
    ),
    "filters of member 0 missing": (
        ensemble_of(TRAINED | {"model": without(CNN, "filters")}, FILE),
        ["train_teacher.members.0.model.filters: missing"],
    ),
    "architecture of member 1 unknown": (
        [FILE, TRAINED | {"model": CNN | {"architecture": "cnm"}}],
        ["train_teacher.1.model.architecture: unknown architecture 'cnm'", "Did you mean 'cnn'?"],
    ),
    "member 1 a number": ([FILE, 3], ["train_teacher.1: ", "got 3"]),
    "member 1 a file's name": ([FILE, "two.keras"], ["train_teacher.1: ", "got 'two.keras'"]),
    "a file's name alone": ("one.keras", ["train_teacher: ", "got 'one.keras'"]),
    "nothing": (None, ["train_teacher: ", "got None"]),
    "an ensemble in an ensemble": ([FILE, [FILE, FILE]], ["train_teacher.1: "]),
    "a file of no name": ({"model": ""}, ["train_teacher.model: ", "at least 1 character"]),
    "a legacy file": ({"model": "teacher.h5"}, ["train_teacher: ", " .keras", " .weights.h5"]),
    "a saved folder": ([FILE, {"model": "teacher"}], ["train_teacher.1: ", " .keras", " .weights.h5"]),
    "a legacy file is told how to convert": (
        {"model": "teacher.h5"},
        ["teacher.h5 ", "(HDF5)", "`import keras"],
    ),
    "a file of PyTorch": ({"model": "teacher.pt"}, ["teacher.pt ", "PyTorch"]),
    "accuracy in percent": (FILE | {"accuracy": 92}, ["train_teacher.accuracy: ", "less than or equal to 1", "got 92"]),
    "preprocessing of its own": (
        FILE | {"preprocessing": "own"},
        ["train_teacher.preprocessing: ", "'none', 'unit', 'symmetric' or 'caffe'", "got 'own'"],
    ),
    "preprocessing beside weights": (
        WEIGHTS | {"preprocessing": "unit"},
        ["train_teacher: ", "weights_of", "preprocessing"],
    ),
    "a map of classes beside weights": (
        WEIGHTS | {"classes": {"a": 0, "b": 1}},
        ["train_teacher: ", "weights_of", "classes", "list"],
    ),
    "a class twice": (FILE | {"classes": ["a", "b", None, None, "a"]}, ["train_teacher: ", "but a is there twice"]),
    "an output twice": (FILE | {"classes": {"a": 0, "b": 1, "c": 1}}, ["train_teacher: ", "but 1 is there twice"]),
    "classes in one text": (FILE | {"classes": "a, b"}, ["train_teacher.classes: ", "valid list", "got 'a, b'"]),
    "one class": (FILE | {"classes": ["a"]}, ["train_teacher.classes: ", "at least 2 items"]),
    "an output below 0": (
        FILE | {"classes": {"a": -1, "b": 0}},
        ["train_teacher.classes.a: ", "greater than or equal to 0", "got -1"],
    ),
    "an output below 0 of a class that has a type's name": (
        FILE | {"classes": {"int": -1, "str": 0}},
        ["train_teacher.classes.int: ", "greater than or equal to 0", "got -1"],
    ),
    "an output below 0 by its number": (
        FILE | {"classes": {-1: "a", 0: "b"}},
        ["train_teacher.classes: ", "greater than or equal to 0", "got -1"],
    ),
    "a class of no name": (FILE | {"classes": {"": 0, "b": 1}}, ["train_teacher.classes.: ", "at least 1 item"]),
    "a class that is yes": (FILE | {"classes": [True, "b"]}, ["train_teacher.classes.0: ", "valid string"]),
    "weights without their model": (
        {"model": "w.weights.h5"},
        ["train_teacher: ", "weights_of", ".weights.h5", "add it"],
    ),
    "a model for a whole file": (
        ensemble_of(FILE, FILE | {"weights_of": CNN}),
        ["train_teacher.members.1: ", "weights_of", ".weights.h5", "leave it out"],
    ),
    "a mistake in the model of weights": (
        [FILE, WEIGHTS | {"weights_of": CNN | {"dropuot": 0.1}}],
        ["train_teacher.1.weights_of.dropuot: unknown key; did you mean 'dropout'?"],
    ),
    "weights beside a model to train": (
        TRAINED | {"weights_of": CNN},
        ["train_teacher.weights_of: unknown key"],
    ),
}


@pytest.mark.parametrize("mistake", REFUSED_TEACHERS)
def test_each_mistake_in_a_teacher_is_named_as_in_the_file(tmp_path, mistake):
    section, expected = REFUSED_TEACHERS[mistake]
    message = refusal(write(tmp_path, {"train_teacher": section}))
    assert [words for words in expected if words not in message] == [], message
    assert "$" not in message
    assert not [line for line in message.splitlines()[1:] if not line.startswith("  train_teacher")]


@pytest.mark.parametrize("file", [TEACHER.as_posix(), f"data/../{TEACHER}"])
@pytest.mark.parametrize("members", [False, True], ids=["alone", "member"])
def test_a_given_teacher_lies_where_no_stage_writes(tmp_path, monkeypatch, file, members):
    """DVC removes the outputs of a stage before it runs; the user's only copy would be gone."""
    monkeypatch.chdir(tmp_path)
    teacher = {"model": file}
    message = refusal(write(tmp_path, {"train_teacher": [teacher, {"model": "b.keras"}] if members else teacher}))
    assert COPY == TEACHER
    assert f"another place than {TEACHER}" in message
    assert file in message


def test_mistakes_in_several_members_are_named_at_once(tmp_path):
    section = [without(TRAINED, "phases"), {"model": "a.pt"}, TRAINED | {"batch_size": 0}]
    message = refusal(write(tmp_path, {"train_teacher": section}))
    locations = [line.split(":")[0].strip() for line in message.splitlines()[1:]]
    assert locations == ["train_teacher.0.phases", "train_teacher.1", "train_teacher.2.batch_size"]


DEFAULTS = {
    **{f"train_teacher.{key}": value for key, value in (("seed", 1), ("batch_size", 32), ("validation_steps", None))},
    "train_teacher.augmentation": {},
    "precompute.engine": "local",
    "precompute.ray": {"address": None, "workers": None, "cpus_per_worker": 1, "gpus_per_worker": 0.0},
    "evaluate.batch_size": 128,
    **{
        f"{MODEL}.{key}": value
        for key, value in (CNN | {"pooling": "avg", "dropout": 0.0, "downsampling": "max_pooling"}).items()
        if key not in ("architecture", "input_shape", "filters")
    },
}
"""The values of keys that may be left out."""


def test_a_key_that_is_left_out_has_its_default(tmp_path):
    """Only there may it be left out: DVC wants the keys that dvc.yaml names for a stage."""
    assert len(DEFAULTS) == 12
    shortest = read_params(write(tmp_path, {MODEL: dict(CNN)} | dict.fromkeys(DEFAULTS, ...)))
    assert shortest == read_params(write(tmp_path, {MODEL: dict(CNN)} | DEFAULTS))
    named = {path for stage in yaml(ROOT / "dvc.yaml")["stages"].values() for path in stage.get("params", [])}
    assert not named & DEFAULTS.keys()


@pytest.mark.parametrize("described", [CNN, MLP, RESNET], ids=["cnn", "mlp", "resnet50v2"])
def test_a_model_needs_a_name_and_a_size(tmp_path, described):
    fewest = {key: described[key] for key in ("architecture", "input_shape", "filters") if key in described}
    model = read_params(write(tmp_path, {MODEL: fewest})).student.model
    assert (model.weights, model.batch_normalization, model.hidden_units, model.dropout) == (None, False, [], 0.0)
    assert model.pooling == ("flatten" if described is MLP else "avg")


def undeclared(read: Any) -> str:
    with pytest.raises(MismatchError) as refused:
        read()
    message = str(refused.value)
    assert "dvc.yaml" in message
    assert "the stage's params" in message
    return message


def test_restrict_leaves_what_is_declared():
    params = read_params(ROOT / "params.yaml")
    some = restrict(params, ["split", "student.model", "student.seeds", "distill.temperatures"])
    assert some.split == params.split
    assert some.student.model == params.student.model
    assert some.student.seeds == params.student.seeds
    assert some.distill.temperatures == params.distill.temperatures
    assert "'phases' of Student" in undeclared(lambda: some.student.phases)
    assert "'hard_label_weight' of Distill" in undeclared(lambda: some.distill.hard_label_weight)
    assert "'train_teacher' of Params" in undeclared(lambda: some.train_teacher)
    assert "'evaluate' of Params" in undeclared(lambda: some.evaluate)


def test_restrict_takes_away_fields_that_have_defaults(tmp_path):
    given = restrict(read_params(write(tmp_path, {"train_teacher": FILE})), ["precompute.batch_size"])
    assert "'precision' of Precompute" in undeclared(lambda: given.precompute.precision)


@pytest.mark.parametrize("path", ["train_teacher.augmentation.zoom", "views.count", "images.resize.fit"])
def test_what_is_read_as_a_whole_is_declared_as_a_whole(path):
    """A stage that declared one value of it could read the others, and DVC would not run it again for them."""
    with pytest.raises(MismatchError, match=rf"dvc\.yaml .*{path.rpartition('.')[2]}"):
        restrict(read_params(ROOT / "params.yaml"), [path])


def test_restrict_leaves_no_way_round_and_the_original_whole():
    params = read_params(ROOT / "params.yaml")
    before = plain(params)
    some = restrict(params, ["student.seeds"])
    assert undeclared(lambda: dict(some)["student"].model)
    assert sorted(dict(some)) == ["cifar10", "images", "limits", "precompute", "sample", "student"]
    assert list(dict(dict(some)["images"])) == ["cache"]
    assert list(dict(dict(some)["precompute"])) == ["engine", "ray"]
    assert list(dict(dict(some)["student"])) == ["seeds", "cache_frozen", "trainings_at_once"]
    assert plain(params) == before
    assert plain(restrict(params, ["student"]).student) == before["student"]


def test_undeclared_parameters_that_change_results_are_hidden():
    none = restrict(read_params(ROOT / "params.yaml"), [])
    assert none.images.cache == "memory"
    assert none.student.cache_frozen == "auto"
    assert none.student.trainings_at_once == "auto"
    assert (none.precompute.engine, none.precompute.ray.address) == ("local", None)
    for name in PARAMS.keys() - {"images", "precompute", "sample", "student"}:
        assert f"'{name}' of Params" in undeclared(lambda name=name: getattr(none, name))
    assert "'resize' of Images" in undeclared(lambda: none.images.resize)
    assert "'storage' of Precompute" in undeclared(lambda: none.precompute.storage)
    assert "'phases' of Student" in undeclared(lambda: none.student.phases)


def test_lines_to_add_are_the_ones_that_a_file_of_before_needs(tmp_path):
    """The message for a file without `images` is added to it as it stands."""
    write(tmp_path, {"images": ...})
    with pytest.raises(ParameterError) as refused:
        read_params(tmp_path / "params.yaml")
    location, *lines = str(refused.value).splitlines()[1:]
    assert location.startswith("  images: missing")
    with (tmp_path / "params.yaml").open("a") as file:
        file.write(textwrap.dedent("\n".join(lines)))
    resize = read_params(tmp_path / "params.yaml").images.resize
    assert plain(resize) == {"method": "bilinear", "antialias": True, "fit": "stretch"}


def test_a_name_that_no_section_has_is_an_ordinary_error():
    params = read_params(ROOT / "params.yaml")
    with pytest.raises(AttributeError, match="temperature"):
        _ = params.distill.temperature
    assert not hasattr(params, "views_of_nothing")


def leaves(content: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every value of params.yaml that is no section, by its path."""
    if not isinstance(content, dict):
        return {path: content}
    return {key: value for name, below in content.items() for key, value in leaves(below, (*path, name)).items()}


STAGES = yaml(ROOT / "dvc.yaml")["stages"]


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_reads_what_it_declares_and_nothing_else(tmp_path, stage):
    """A student reads the entry of its own loss alone."""
    own, other = {"hard_label_weight": 0.5}, {"kind": "kl", "hard_label_weight": 0.1}
    file = write(tmp_path, {"distill.loss.kl": own, "distill.loss.other": other})
    declared = [tuple(path.replace("${item.loss}", "kl").split(".")) for path in STAGES[stage].get("params", [])]
    values = leaves(yaml(file))
    for path in declared:
        assert [leaf for leaf in values if leaf[: len(path)] == path], f"{stage} declares {path}, which is nowhere"
    params = load_params(stage, file, ROOT / "dvc.yaml", {"loss": "kl"})
    for leaf, value in values.items():

        def read(leaf=leaf):
            section = params
            for name in leaf:
                section = section[name] if isinstance(section, dict) else getattr(section, name)
            return section

        if ".".join(leaf).startswith(WITHOUT_EFFECT) or any(leaf[: len(path)] == path for path in declared):
            assert given(read(), value) == value
        else:
            undeclared(read)


def test_refuses_a_stage_that_dvc_yaml_does_not_have(tmp_path):
    (tmp_path / "dvc.yaml").write_text("stages: {split: {cmd: x}}\n")
    with pytest.raises(MissingError, match=r"dvc\.yaml .*'train_teachr'"):
        load_params("train_teachr", ROOT / "params.yaml", tmp_path / "dvc.yaml")


@pytest.mark.parametrize("text", ["stages: {", "- split\n", ""])
def test_refuses_a_dvc_yaml_that_holds_no_stages(tmp_path, text):
    (tmp_path / "dvc.yaml").write_text(text)
    with pytest.raises(DamagedError, match=r"dvc\.yaml"):
        load_params("split", ROOT / "params.yaml", tmp_path / "dvc.yaml")


def test_a_stage_checks_what_it_does_not_read(tmp_path):
    file = write(tmp_path, {"evaluate.batch_size": 0})
    with pytest.raises(ParameterError, match=r"evaluate\.batch_size"):
        load_params("split", file, ROOT / "dvc.yaml")


def test_files_are_those_of_the_current_folder(tmp_path, monkeypatch):
    write(tmp_path, {"split.val_fraction": 0.25})
    (tmp_path / "dvc.yaml").write_text("stages: {split: {cmd: x, params: [split.val_fraction]}}\n")
    monkeypatch.chdir(tmp_path)
    section = load_params("split").split
    assert section.val_fraction == 0.25
    undeclared(lambda: section.images)


@pytest.mark.slow
def test_reading_imports_neither_tensorflow_nor_keras():
    """`softlabel soften` and `softlabel table` read params.yaml and need neither."""
    script = "import sys, pipeline.params.reading; print(*{'tensorflow', 'keras', 'jax'} & {*sys.modules})"
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


def test_each_teacher_has_a_selection_of_its_own(tmp_path):
    """As `evaluate` takes it: of the members of an ensemble in their order; a given one counts, but needs none."""
    trained = yaml(ROOT / "params.yaml")["train_teacher"]
    members = [trained | {"select_by": "auc"}, {"model": "teacher.keras"}, trained]
    for teacher, expected in ((trained | {"select_by": "auc"}, ["auc"]), (members, ["auc", "accuracy", "accuracy"])):
        section = read_params(write(tmp_path, {"train_teacher": teacher})).train_teacher
        assert arguments.teachers_select_by(section) == expected


def test_a_recipe_has_the_selection_of_its_section(tmp_path):
    section = read_params(write(tmp_path, {"student.select_by": "cross_entropy"})).student
    assert arguments.recipe(section, 1).select_by == "cross_entropy"


@pytest.mark.parametrize("name", ["kl", "own", "none"])
def test_an_own_weight_of_hard_labels_replaces_that_of_all(tmp_path, name):
    """Also a weight of 0, which is no missing one."""
    entries = {
        "kl": {},
        "own": {"kind": "dkd", "hard_label_weight": 0.75},
        "none": {"kind": "js", "hard_label_weight": 0},
    }
    section = read_params(write(tmp_path, {"distill.hard_label_weight": 0.25, "distill.loss": entries})).distill
    assert arguments.loss(section, name, "4").hard_label_weight == {"kl": 0.25, "own": 0.75, "none": 0}[name]


def test_what_is_said_of_classes_must_fit_the_data_set(tmp_path):
    """For every phase of every teacher that is trained here, and of the student."""
    two, weights = ["5", "7"], {"class_weight": {"5": 1, "7": 2}}
    teacher = PARAMS["train_teacher"]
    phase, student_phase = teacher["phases"][0], PARAMS["student"]["phases"][0]
    weighted = teacher | {"phases": [phase, phase | weights]}
    for changes in (
        {"train_teacher": [{"model": "teacher.keras"}, teacher, weighted]},
        {"student.phases": [student_phase, student_phase | weights]},
    ):
        params = read_params(write(tmp_path, changes))
        arguments.refuse_other_classes(params, two)
        with pytest.raises(ParameterError, match="class_weight names '7', which the data set does not have"):
            arguments.refuse_other_classes(params, ["5", "6"])
    balanced = read_params(write(tmp_path, {"student.phases": [student_phase | {"class_weight": "balanced"}]}))
    arguments.refuse_other_classes(balanced, ["5", "6"])


def test_a_loss_that_says_nothing_of_two_classes_is_refused(tmp_path):
    entries = {"kl": {}, "own": {"kind": "logit_standardization"}}
    named = read_params(write(tmp_path, {"distill.losses": ["kl", "own"], "distill.loss": entries}))
    arguments.refuse_other_classes(named, ["a", "b", "c"])
    with pytest.raises(ParameterError, match=r"'logit_standardization' .*nothing of 2 classes.* Expected 3 classes"):
        arguments.refuse_other_classes(named, ["a", "b"])
    arguments.refuse_other_classes(read_params(write(tmp_path, {"distill.loss": entries})), ["a", "b"])


def test_links_stand_in_place_of_copies(tmp_path):
    assert read_params(write(tmp_path, {"split.copy": False, "split.links": True})).split.links
    message = refusal(write(tmp_path, {"split.copy": True, "split.links": True}))
    assert "split.links: expected false, because split.copy is true" in message


@pytest.mark.parametrize("declared", ["student", {"student": None}, None], ids=["a text", "a map", "no stage"])
def test_a_stage_that_lists_no_params_is_told(tmp_path, declared):
    stage = {"cmd": "softlabel soften"} if declared is None else {"params": declared}
    (tmp_path / "dvc.yaml").write_text(json.dumps({"stages": {"soften": [] if declared is None else stage}}))
    with pytest.raises(DamagedError, match=r"dvc\.yaml has no list of params in the stage 'soften'\. Restore it"):
        load_params("soften", ROOT / "params.yaml", tmp_path / "dvc.yaml")
