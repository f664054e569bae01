"""The presets: their settings, heads and models against the published set-ups, and a short run of each."""

import csv
import hashlib
import json
import re
import shutil
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from click.testing import CliRunner
from conftest import write_data_set
from described_model import described_model
from real_project import ROOT
from ruamel.yaml import YAML

from pipeline.cli.main import main
from pipeline.images.decoded_images import DecodedImages
from pipeline.images.views import Augmentation
from pipeline.inference import cost
from pipeline.models import architectures
from pipeline.models.given_teacher import completed
from pipeline.models.teacher_file import GivenTeacher
from pipeline.params.reading import read_params

PRESETS = sorted(path.stem for path in (ROOT / "presets").glob("*.yaml"))


@cache
def settings(name: str) -> dict[str, Any]:
    """A preset as it is read, with the values of the keys that it leaves out."""
    return read_params(ROOT / f"presets/{name}.yaml").model_dump(mode="json")


def at(content: Any, path: str) -> Any:
    """What lies at a dotted path."""
    for key in path.split("."):
        content = content[key]
    return content


# Settings, as the authors of the five set-ups have them


SCHEDULE = ("epochs", "steps_per_epoch", "optimizer", "learning_rate", "momentum", "trainable_from")


def adam(epochs: int, learning_rate: float, trainable_from: Any, steps_per_epoch: int | None = None) -> tuple[Any, ...]:
    """One phase, in the order of `SCHEDULE`."""
    return epochs, steps_per_epoch, "adam", learning_rate, 0.0, trainable_from


PUBLISHED = {
    "mhist": {
        "split.layout": "mhist",
        "split.annotations": "annotations.csv",
        "split.images": "images",
        "train_teacher.model.architecture": "resnet50v2",
        "train_teacher.model.input_shape": [224, 224, 3],
        "train_teacher.model.weights": "imagenet",
        "train_teacher.model.preprocessing": "own",
        "train_teacher.model.pooling": "avg",
        "train_teacher.model.batch_normalization": False,
        "train_teacher.model.hidden_units": [],
        "train_teacher.model.dropout": 0.2,
        "train_teacher.batch_size": 32,
        "train_teacher.validation_steps": None,
        "train_teacher.select_by": "auc",
        "train_teacher.phases": [adam(10, 1e-4, None), adam(25, 1e-5, 100)],
        "distill.temperatures": [1, 2, 4, 16, 32, 64],
        "distill.hard_label_weight": 0.5,
        "distill.losses": ["kl"],
        "distill.scale_by_temperature_squared": True,
        "student.model.architecture": "mobilenetv2",
        "student.model.alpha": 1.0,
        "student.model.input_shape": [224, 224, 3],
        "student.model.weights": "imagenet",
        "student.model.preprocessing": "own",
        "student.model.pooling": "avg",
        "student.model.batch_normalization": False,
        "student.model.hidden_units": [],
        "student.model.dropout": 0.2,
        "student.batch_size": 32,
        "student.validation_steps": None,
        "student.select_by": "auc",
        "student.phases": [adam(10, 1e-3, None), adam(25, 1e-4, 100)],
    },
    "cifar10_cnn": {
        "split.layout": "cifar10",
        "split.val_fraction": 0.15,  # of the student; 0.2 of the teacher, as the head says
        "train_teacher.model.architecture": "cnn",
        "train_teacher.model.input_shape": [32, 32, 3],
        "train_teacher.model.preprocessing": "unit",
        "train_teacher.model.filters": [32, 64],
        "train_teacher.model.kernel_size": 2,
        "train_teacher.model.padding": "same",
        "train_teacher.model.downsampling": "max_pooling",
        "train_teacher.model.factor": 2,
        "train_teacher.model.pooling": "flatten",
        "train_teacher.model.batch_normalization": False,
        "train_teacher.model.hidden_units": [256],
        "train_teacher.model.dropout": 0.5,
        "train_teacher.batch_size": 128,
        "train_teacher.phases": [adam(20, 1e-3, "all")],
        "distill.temperatures": [3.25],
        "distill.hard_label_weight": 0.5,
        "distill.losses": ["kl"],
        "distill.scale_by_temperature_squared": True,
        "student.model.architecture": "mlp",
        "student.model.input_shape": [32, 32, 3],
        "student.model.preprocessing": "unit",
        "student.model.batch_normalization": False,
        "student.model.hidden_units": [64],
        "student.model.dropout": 0.0,
        "student.batch_size": 128,
        "student.phases": [adam(50, 1e-3, "all")],
    },
    "intel": {
        "split.layout": "folders",
        "split.val": None,
        "split.val_fraction": 0.2,
        "split.test_fraction": None,
        "train_teacher.model.architecture": "resnet152",
        "train_teacher.model.input_shape": [150, 150, 3],
        "train_teacher.model.weights": "imagenet",
        "train_teacher.model.pooling": "avg",
        "train_teacher.model.batch_normalization": False,
        "train_teacher.model.hidden_units": [],
        "train_teacher.model.dropout": 0.0,
        "train_teacher.batch_size": 32,
        "train_teacher.phases": [adam(20, 1e-3, None)],
        "distill.temperatures": [40],
        "distill.hard_label_weight": 0.05,
        "distill.losses": ["kl"],
        "distill.scale_by_temperature_squared": False,
        "student.model.architecture": "resnet50",
        "student.model.input_shape": [150, 150, 3],
        "student.model.weights": "imagenet",
        "student.model.pooling": "avg",
        "student.model.batch_normalization": False,
        "student.model.hidden_units": [],
        "student.model.dropout": 0.0,
        "student.batch_size": 32,
        "student.phases": [adam(10, 1e-3, "all")],
    },
    "cifar10_resnet": {
        "split.layout": "cifar10",
        "train_teacher.model.architecture": "resnet50",
        "train_teacher.model.input_shape": [128, 128, 3],
        "train_teacher.model.weights": "imagenet",
        "train_teacher.model.preprocessing": "unit",
        "train_teacher.model.pooling": "avg",
        "train_teacher.model.batch_normalization": False,
        "train_teacher.model.hidden_units": [256],
        "train_teacher.model.dropout": 0.0,
        "train_teacher.batch_size": 32,
        "train_teacher.phases": [adam(10, 1e-3, "all")],
        "distill.temperatures": [0.3],
        "distill.hard_label_weight": 0.5,
        "distill.losses": ["kl"],
        "distill.scale_by_temperature_squared": False,
        "student.model.architecture": "cnn",
        "student.model.input_shape": [128, 128, 3],
        "student.model.preprocessing": "unit",
        "student.model.filters": [16, 32, 64],
        "student.model.kernel_size": 3,
        "student.model.padding": "valid",
        "student.model.downsampling": "max_pooling",
        "student.model.factor": [3, 3, 1],
        "student.model.pooling": "flatten",
        "student.model.batch_normalization": False,
        "student.model.hidden_units": [128],
        "student.model.dropout": 0.5,
        "student.batch_size": 32,
        "student.phases": [adam(10, 1e-3, "all")],
    },
    "cassava": {
        "split.layout": "csv",
        "split.annotations": "train.csv",
        "split.images": "train_images",
        "split.image_column": "image_id",
        "split.label_column": "label",
        "split.val_fraction": None,
        "train_teacher.weights_of.architecture": "efficientnetb0",
        "train_teacher.weights_of.input_shape": [228, 228, 3],
        "train_teacher.weights_of.pooling": "max",
        "train_teacher.weights_of.batch_normalization": True,
        "train_teacher.weights_of.hidden_units": [],
        "train_teacher.weights_of.dropout": 0.5,
        "distill.temperatures": [3],
        "distill.hard_label_weight": 0.9,
        "distill.losses": ["cross_entropy"],
        "distill.scale_by_temperature_squared": False,
        "student.model.architecture": "efficientnetb0",
        "student.model.input_shape": [228, 228, 3],
        "student.model.pooling": "max",
        "student.model.batch_normalization": True,
        "student.model.hidden_units": [],
        "student.model.dropout": 0.5,
        "student.batch_size": 8,
        "student.validation_steps": 40,
        "student.phases": [adam(12, 1e-3, None, 300), adam(12, 1e-4, "block5a_expand_conv", 300)],
    },
}
AUGMENTED = {  # in our units; what is not named must be off
    "mhist": {"horizontal_flip": True, "rotation": 0.2},
    "cifar10_cnn": {},
    "intel": {},
    "cifar10_resnet": {},
    "cassava": {  # 40 degrees of 360; reflect is our fill mode where none is named
        "horizontal_flip": True, "rotation": pytest.approx(40 / 360, abs=1e-4), "translation": 0.2, "shear": 0.2,
        "zoom": 0.5,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_settings_are_the_published_ones(name):
    found = {path: at(settings(name), path) for path in PUBLISHED[name]}
    for path in found:
        if path.endswith(".phases"):
            found[path] = [tuple(phase[key] for key in SCHEDULE) for phase in found[path]]
    assert found == PUBLISHED[name]


@pytest.mark.parametrize("name", AUGMENTED)
def test_augmentation_is_the_published_one(name):
    params = read_params(ROOT / f"presets/{name}.yaml")
    sections = [params.views, *([params.train_teacher] if hasattr(params.train_teacher, "augmentation") else [])]
    assert len(sections) == (1 if name == "cassava" else 2)
    for section in sections:
        assert section.augmentation == Augmentation(**AUGMENTED[name])
        assert section.augmentation.fill_mode == "reflect"


def test_a_pass_of_each_epoch_of_mhist_has_a_view_of_its_own():
    """As the original augments anew in every epoch."""
    assert settings("mhist")["views"]["count"] == 10 + 25


def test_cassava_draws_as_many_views_as_its_student_makes_passes():
    """21,397 images, of which 15 % are test images, and of the others any share may be validation images."""
    shown = (12 + 12) * 300 * 8
    passes_without_validation = shown / (21_397 * 0.85)
    assert settings("cassava")["views"]["count"] >= passes_without_validation


def test_the_teacher_that_cassava_offers_is_its_student(tmp_path):
    """The block at the end of the file, with its comment marks taken away, in place of train_teacher."""
    text = (ROOT / "presets/cassava.yaml").read_text()
    before, block = text.split("\n# A teacher that is trained here:\n")
    block = re.sub("^# ", "", block, flags=re.MULTILINE)
    without = re.sub(r"^train_teacher:\n(?: .*\n)+", "", before, flags=re.MULTILINE)
    (tmp_path / "params.yaml").write_text(f"{without}\n{block}")
    params = read_params(tmp_path / "params.yaml")
    assert params.train_teacher.model == params.student.model
    assert params.train_teacher.augmentation == params.views.augmentation
    for key in ("batch_size", "validation_steps", "phases"):
        assert getattr(params.train_teacher, key) == getattr(params.student, key)


# Heads


PARTS = ("Data", "Running time", "Should reach", "Departs from the original")
PART = re.compile(rf"(?:^|(?<=\. ))({'|'.join(PARTS)})\b([^:.]*):", re.MULTILINE)


def head(name: str) -> tuple[str, dict[str, str]]:
    """The first line of the comment at a preset's head, and its parts with what is said there."""
    lines = []
    for line in (ROOT / f"presets/{name}.yaml").read_text().splitlines():
        if not line.startswith("# "):
            break
        lines.append(line.removeprefix("# "))
    _, *pieces = PART.split("\n".join(lines[1:]))
    return lines[0], {
        title: f"{more}{said}".strip()
        for title, more, said in zip(pieces[::3], pieces[1::3], pieces[2::3], strict=True)
    }


@pytest.mark.parametrize("name", PRESETS)
def test_the_head_says_what_a_user_must_know(name):
    first, parts = head(name)
    assert f": `cp presets/{name}.yaml params.yaml && dvc repro`" in first
    expected = PARTS if name != "mnist" else PARTS[:3]
    assert tuple(parts) == expected
    for title, said in parts.items():
        assert not re.fullmatch(r"[A-Z]*", said.split("\n")[0]), f"{title}: {said!r} is a gap to be filled"
        assert len(said) > 15, title
    assert re.search(r"\b(measured|computed)\b", parts["Running time"])


# Models


@cache
def classes_of(name: str) -> int:
    return {"mhist": 2, "mnist": 10, "cifar10_cnn": 10, "cifar10_resnet": 10, "intel": 6, "cassava": 5}[name]


def described(name: str, which: str) -> dict[str, Any]:
    """A model of a preset, without its pretrained weights."""
    section = settings(name)[{"teacher": "train_teacher", "student": "student"}[which]]
    return (section.get("weights_of") or section["model"]) | {"weights": None}


@cache
def build(name: str, which: str) -> Any:
    """One model for all tests that look at its layers."""
    return described_model(**described(name, which)).build(classes=classes_of(name), seed=1)


@pytest.fixture(scope="module", autouse=True)
def _models_are_let_go():
    """Half a gigabyte."""
    yield
    build.cache_clear()
    shaken.cache_clear()


RESNET50 = 23_587_712  # without top, as keras.applications counts it
TOTALS = {  # test_models counts both networks of intel
    # Convolutions 3x3 of 1, 32 and 64 channels; 28 -> 14 -> 7 -> 4 pixels a side.
    ("mnist", "teacher"): 10 * 32 + (9 * 32 + 1) * 64 + (9 * 64 + 1) * 128 + (4 * 4 * 128 + 1) * 10,
    ("mnist", "student"): 10 * 8 + (9 * 8 + 1) * 16 + (7 * 7 * 16 + 1) * 10,
    ("mhist", "teacher"): 23_568_898,
    ("mhist", "student"): 2_260_546,
    # Convolutions 2x2; 32 -> 16 -> 8 pixels a side.
    ("cifar10_cnn", "teacher"): (4 * 3 + 1) * 32 + (4 * 32 + 1) * 64 + (8 * 8 * 64 + 1) * 256 + 257 * 10,
    ("cifar10_cnn", "student"): (32 * 32 * 3 + 1) * 64 + 65 * 10,
    ("cifar10_resnet", "teacher"): RESNET50 + 2049 * 256 + 257 * 10,
    # Convolutions 3x3 at the pixels that they cover whole; 128 -> 126 -> 42 -> 40 -> 13 -> 11 pixels a side.
    ("cifar10_resnet", "student"): 28 * 16 + (9 * 16 + 1) * 32 + (9 * 32 + 1) * 64 + (11 * 11 * 64 + 1) * 128 + 1290,
    # 4,049,571 of EfficientNetB0, 4 of each feature to normalise it.
    ("cassava", "student"): 4_061_096,
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "which"), TOTALS)
def test_models_have_the_weights_of_the_originals(name, which):
    model = build(name, which)
    assert model.count_params() == TOTALS[name, which]
    assert model.input_shape == (None, *described(name, which)["input_shape"])
    assert model.output_shape == (None, classes_of(name))


def test_the_given_teacher_of_cassava_has_its_students_layers():
    assert described("cassava", "teacher") == described("cassava", "student")


@pytest.mark.slow
@pytest.mark.parametrize(("which", "count"), [("teacher", 4_098), ("student", 2_562)])
def test_trainable_weights_of_system_1_are_those_that_it_prints(which, count):
    """Those of the heads, on frozen backbones."""
    section = settings("mhist")[{"teacher": "train_teacher", "student": "student"}[which]]
    frozen = architectures.for_phase(build("mhist", which), section["phases"][0]["trainable_from"])
    assert cost.parameters(frozen)["trainable"] == count


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "which", "first", "before"),
    [
        ("mhist", "teacher", 100, 99),
        ("mhist", "student", 100, 99),
        ("cassava", "student", "block5a_expand_conv", "block4c_add"),
    ],
)
def test_fine_tuning_begins_at_the_layer_that_is_named(name, which, first, before):
    model = build(name, which)
    section = settings(name)["train_teacher" if which == "teacher" else "student"]
    architectures.for_phase(model, section["phases"][1]["trainable_from"])
    backbone = model.get_layer("backbone")
    names = [layer.name for layer in backbone.layers]
    first, before = (names.index(at) if isinstance(at, str) else at for at in (first, before))
    assert before == first - 1
    assert [layer.trainable for layer in backbone.layers] == [False] * first + [True] * (len(names) - first)


@pytest.mark.slow
def test_flops_of_system_1s_teacher():
    """As TensorFlow's profiler counts the original's, which has no rescaling layer; test_models has the student's."""
    counted = cost.forward_flops(build("mhist", "teacher"))
    assert counted == pytest.approx(223_623_992_512 / 32, rel=2e-3)
    assert float(f"{counted / 1e9:.3g}") == 6.99


layers = keras.layers
ORIGINALS = {
    ("cifar10_cnn", "teacher"): lambda: keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(32, 2, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 2, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(256, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(10),
        ]
    ),
    ("cifar10_cnn", "student"): lambda: keras.Sequential(
        [keras.Input((32, 32, 3)), layers.Flatten(), layers.Dense(64, activation="relu"), layers.Dense(10)]
    ),
    ("cifar10_resnet", "teacher"): lambda: keras.Sequential(
        [
            keras.applications.ResNet50(include_top=False, weights=None, input_shape=(128, 128, 3)),
            layers.GlobalAveragePooling2D(),
            layers.Dense(256, activation="relu"),
            layers.Dense(10),
        ]
    ),
    ("cifar10_resnet", "student"): lambda: keras.Sequential(
        [
            keras.Input((128, 128, 3)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(3),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(3),
            layers.Conv2D(64, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(10),
        ]
    ),
    ("cassava", "student"): lambda: keras.Sequential(
        [
            keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(228, 228, 3)),
            layers.GlobalMaxPooling2D(),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Dense(5),
        ]
    ),
}
SEEN_BY_THE_ORIGINAL = {  # from pixels of 0 to 255
    "cifar10_cnn": lambda pixels: pixels / 255,
    "cifar10_resnet": lambda pixels: pixels / 255,
    "cassava": lambda pixels: pixels,
}


@cache
def shaken(name: str, which: str) -> Any:
    """The model, with every bias and all that normalises moved off the 0 and 1 with which they start.

    The kernels grow, or an untrained deep model would hardly see the pixels.
    """
    model, random = build(name, which), np.random.default_rng(4)
    for weight in model.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(weight.numpy() * random.uniform(0.7, 1.3, weight.shape))
        elif weight.name in ("beta", "moving_mean", "bias"):
            weight.assign(weight.numpy() + random.normal(0, 0.05, weight.shape))
        elif "kernel" in weight.name:
            weight.assign(weight.numpy() * 1.5)
    return model


@pytest.mark.slow
@pytest.mark.parametrize(("name", "which"), ORIGINALS)
def test_models_are_the_originals(name, which):
    """With the same weights, plain Keras layers say the same of the same pixels."""
    model = shaken(name, which)
    original = ORIGINALS[name, which]()
    original.set_weights(model.get_weights())
    pixels = np.random.default_rng(0).uniform(0, 255, (3, *model.input_shape[1:])).astype(np.float32)
    said = original(SEEN_BY_THE_ORIGINAL[name](pixels), training=False).numpy()
    assert np.ptp(said, axis=0).max() > 1e-3 * np.abs(said).max(), "every image is the same to it"
    # Two ways to divide by 255 differ in the last bit, 6e-8, which 50 layers carry on.
    np.testing.assert_allclose(model(pixels, training=False), said, rtol=0, atol=2e-5 * np.abs(said).max())


@pytest.mark.slow
def test_weights_of_cassavas_network_make_its_teacher(tmp_path):
    """The short run below has a smaller one; these are the layers of the file that the preset asks for."""
    model = shaken("cassava", "student")
    model.save_weights(tmp_path / "cassava_teacher.weights.h5")
    described_teacher = described_model(**described("cassava", "teacher"))
    given = GivenTeacher(str(tmp_path / "cassava_teacher.weights.h5"), described_teacher)
    teacher = completed(given, [str(number) for number in range(5)]).model
    for found, expected in zip(teacher.weights, model.weights, strict=True):
        assert found.path == expected.path
        np.testing.assert_array_equal(found.numpy(), expected.numpy())


# A short run of each, from raw data in its layout to the comparison


def picture(random: np.random.Generator, kind: int, side: int) -> np.ndarray:
    """Noise that is brighter for a later class."""
    return np.clip(random.normal(40 + 18 * kind, 30, (side, side, 3)), 0, 255).astype(np.uint8)


def write_cifar10(data: Path) -> None:
    random = np.random.default_rng(3)
    arrays = {}
    for split, count in (("train", 120), ("test", 40)):
        labels = np.arange(count) % 10
        arrays[f"x_{split}"] = np.stack([picture(random, kind, 32) for kind in labels])
        arrays[f"y_{split}"] = labels[:, None].astype(np.uint8)
    data.parent.mkdir(parents=True)
    np.savez(data, **arrays)


def write_jpeg(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tf.io.encode_jpeg(pixels).numpy())


def write_intel(data: Path) -> None:
    random = np.random.default_rng(3)
    for kind, label in enumerate(["buildings", "forest", "glacier", "mountain", "sea", "street"]):
        for split, count in (("train", 12), ("test", 4)):
            for number in range(count):
                write_jpeg(data / f"seg_{split}/seg_{split}/{label}/{number}.jpg", picture(random, kind, 32))


def write_cassava(data: Path) -> None:
    random = np.random.default_rng(3)
    names = [f"{number}.jpg" for number in range(75)]
    for number, name in enumerate(names):
        write_jpeg(data / "train_images" / name, picture(random, number % 5, 32))
    rows = [(name, number % 5) for number, name in enumerate(names)]
    for file, table in (("train.csv", [("image_id", "label"), *rows]), ("validation.csv", [["image_id"]])):
        with (data / file).open("w", newline="") as opened:
            csv.writer(opened).writerows([*table, *([name] for name in names[:15] if file == "validation.csv")])
    diseases = dict(enumerate(["CBB", "CBSD", "CGM", "CMD", "Healthy"]))
    (data / "label_num_to_disease_map.json").write_text(json.dumps(diseases))


RAW = {
    "mhist": lambda data: write_data_set(data, per_class=25, side=32),
    "cifar10_cnn": write_cifar10,
    "cifar10_resnet": write_cifar10,
    "intel": write_intel,
    "cassava": write_cassava,
}


SIDE = 36
"""Of images: large enough for the three convolutions of cifar10_resnet's student."""


def shrink_model(model: dict[str, Any]) -> None:
    """A small one in place of one whose training takes minutes at any size; `ORIGINALS` compares the large ones."""
    model |= {"weights": None, "input_shape": [min(size, SIDE) for size in model["input_shape"]]}
    if model["architecture"] not in ("cnn", "mlp"):
        model.pop("alpha", None)
        model |= {"architecture": "cnn", "filters": [8], "downsampling": "stride"}


def shrink_training(section: dict[str, Any]) -> None:
    section["validation_steps"] = section["validation_steps"] and 1
    for phase in section["phases"]:
        phase["epochs"] = 2 if len(section["phases"]) == 1 else 1  # two in all, of which one is the best
        phase["trainable_from"] = phase["trainable_from"] and "all"
        if phase.get("steps_per_epoch"):
            phase["steps_per_epoch"] = 3
    shrink_model(section["model"])


def shrunk(name: str) -> dict[str, Any]:
    """The preset with small models of random weights, small images, and few epochs, views, seeds and temperatures."""
    content = YAML(typ="safe").load(ROOT / f"presets/{name}.yaml")
    teacher, student = content["train_teacher"], content["student"]
    if "weights_of" in teacher:
        shrink_model(teacher["weights_of"])
    else:
        shrink_training(teacher)
    shrink_training(student)
    student["seeds"] = student["seeds"][:1]
    content["export"]["max_accuracy_drop"] = 1.0
    content["views"]["count"] = min(content["views"]["count"], 2)
    if name == "mhist":
        content["distill"]["temperatures"] = [4]  # the one at which the original distils
    return content


def softlabel(*words: Any) -> str:
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == 0, f"softlabel {words}: {done.output}"
    return done.stdout


LAST = {"export": 2, "measure_speed": 1, "measure_exports": 1, "report": 4, "model_card": 1}
"""How many files these stages write."""
REPORTED = ("mhist", "cifar10_resnet", "cassava")
"""Votes; ten classes and a temperature below 1; a teacher that did not train here. The others' have nothing that is new
to these stages."""


class Project:
    """A small project that ran through."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder, self.params = name, folder, shrunk(name)
        (self.loss,) = self.params["distill"]["losses"]
        self.temperatures, self.seeds = self.params["distill"]["temperatures"], self.params["student"]["seeds"]
        shutil.copy(ROOT / "dvc.yaml", folder)
        YAML(typ="safe").dump(self.params, folder / "params.yaml")
        RAW[name](folder / self.params["split"]["data"])
        if "weights_of" in self.params["train_teacher"]:
            model = described_model(**self.params["train_teacher"]["weights_of"]).build(
                classes=classes_of(name), seed=9
            )
            model.save_weights(folder / self.params["train_teacher"]["model"])

    def run(self) -> None:
        softlabel("split")
        softlabel("train-teacher")
        softlabel("describe-teacher")
        softlabel("precompute")
        for temperature in self.temperatures:
            softlabel("soften", "--temperature", temperature)
        for temperature, seed in product(self.temperatures, self.seeds):
            softlabel("train-student", "--loss", self.loss, "--temperature", temperature, "--seed", seed)
        for seed in self.seeds:
            softlabel("train-baseline", "--seed", seed)
        softlabel("evaluate")
        if self.name in REPORTED:
            softlabel("export", "--student", "best")
            softlabel("measure-speed")
            softlabel("measure-exports")
            softlabel("report")
            softlabel("model-card")

    def outputs(self) -> set[str]:
        """What dvc.yaml says that the stages write which ran."""
        found, stages = set(), YAML(typ="safe").load(self.folder / "dvc.yaml")["stages"]
        for stage in [stages[name] for name in stages if self.name in REPORTED or name not in LAST]:
            for entry in [path for kind in ("outs", "metrics", "plots") for path in stage.get(kind, [])]:
                written = entry if isinstance(entry, str) else next(iter(entry))
                for temperature, seed in product(self.temperatures, self.seeds):
                    text = written.replace("${item.loss}", self.loss).replace("${item.temperature}", str(temperature))
                    found.add(text.replace("${item.seed}", str(seed)).replace("${item.student}", "best"))
        return found

    @property
    def selected(self) -> str:
        """The column of the history that chooses the best epoch: MHIST's own measure is the AUC."""
        return "val_auc" if self.name == "mhist" else "val_accuracy"

    def validated_on(self) -> list[str]:
        """The ids of the validation images that count: the first by SHA-256 of the id, if not all."""
        index = pd.read_csv("data/index.csv", dtype=str)
        ids = sorted(index["id"][index["split"] == "val"], key=lambda name: hashlib.sha256(name.encode()).hexdigest())
        steps = self.params["student"]["validation_steps"]
        return ids if steps is None else ids[: steps * self.params["student"]["batch_size"]]


@pytest.fixture(scope="module", params=RAW)
def ran(request, tmp_path_factory):
    """All but mnist, whose settings are those of params.yaml, with which test_end_to_end runs."""
    project = Project(request.param, tmp_path_factory.mktemp(request.param))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.folder)
        for name in ("DVC_ROOT", "DVC_STAGE"):
            patch.delenv(name, raising=False)
        patch.setattr("pipeline.inference.forward_speed.ROUND_SECONDS", 0.0)  # any speed will do
        patch.setattr("pipeline.stages.measure_exports.times_of", lambda *_: {})
        project.run()
    return project


@pytest.fixture
def project(ran, monkeypatch):
    """The project of each preset, as the current folder."""
    monkeypatch.chdir(ran.folder)
    return ran


def test_a_run_writes_everything_that_dvc_yaml_names(project):
    outputs = project.outputs()
    always = 18 if project.name in REPORTED else 18 - sum(LAST.values())
    assert len(outputs) == always + len(project.temperatures) * (1 + 2 * len(project.seeds)) + 2 * len(project.seeds)
    assert [name for name in sorted(outputs) if not Path(name).exists()] == []
    pictures = {name for name in outputs if name.endswith(".png")}
    assert len(pictures) == (3 if project.name in REPORTED else 0)
    for name in pictures:
        content = Path(name).read_bytes()
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        assert np.ptp(tf.io.decode_png(content).numpy()) > 0


def test_a_run_compares_teacher_baseline_and_all_students(project):
    report = json.loads(Path("results/metrics.json").read_text())
    index = pd.read_csv("data/index.csv")
    assert report["test_images"] == (index["split"] == "test").sum()
    assert index["class_name"].nunique() == classes_of(project.name)
    students = {f"student_{project.loss}_T{temperature}" for temperature in project.temperatures}
    assert set(report["models"]) == {"teacher", "baseline", *students}
    for name in students | {"baseline"}:
        assert set(report["models"][name]["seeds"]) == {str(seed) for seed in project.seeds}
        assert "accuracy" in report["models"][name]["quality"]
    for name in students:
        assert "accuracy" in report["models"][name]["gain"]
    assert ("votes" in report["models"]["teacher"]) == (project.params["split"]["layout"] == "mhist")


def test_a_run_leaves_sound_soft_labels(project):
    files = [f"soft_targets_T{temperature}" for temperature in project.temperatures]
    for name in ("teacher_logits", *files):
        said = json.loads(softlabel("verify", f"data/soft_labels/{name}.h5", "--json"))
        assert [check for check in said["checks"] if not check["ok"]] == []
    with h5py.File("data/soft_labels/teacher_logits.h5") as file:
        assert file["train/logits"].shape[0] == project.params["views"]["count"]
        assert file["train/logits"].dtype == np.float32


MEASURES = ["accuracy", "cross_entropy", "loss"]


def columns(measures: list[str]) -> set[str]:
    return {"epoch", "phase", "learning_rate", *measures, *(f"val_{measure}" for measure in measures)}


def test_the_curves_have_a_row_for_each_epoch_of_each_phase(project):
    phases = project.params["student"]["phases"]
    rows = [(number, phase["learning_rate"]) for number, phase in enumerate(phases, 1) for _ in range(phase["epochs"])]
    names = {f"baseline_seed{seed}": MEASURES for seed in project.seeds}
    for temperature, seed in product(project.temperatures, project.seeds):
        names[f"student_{project.loss}_T{temperature}_seed{seed}"] = [*MEASURES, "soft_loss"]
    for name, measures in names.items():
        table = pd.read_csv(f"results/history/{name}.csv")
        assert set(table) == columns(measures) | {project.selected}
        assert table["epoch"].tolist() == [*range(1, len(rows) + 1)]
        assert [*zip(table["phase"], table["learning_rate"], strict=True)] == rows
    teacher = pd.read_csv("results/history/teacher.csv")
    if project.name == "cassava":
        assert (list(teacher), len(teacher)) == (["epoch", "phase", "learning_rate"], 0)
    else:
        assert set(teacher) == columns(MEASURES) | {project.selected}
        assert len(teacher) == sum(phase["epochs"] for phase in project.params["train_teacher"]["phases"])


def test_the_loss_of_a_student_is_the_weighed_sum_of_its_parts(project):
    weight = PUBLISHED[project.name]["distill.hard_label_weight"]
    for temperature, seed in product(project.temperatures, project.seeds):
        table = pd.read_csv(f"results/history/student_{project.loss}_T{temperature}_seed{seed}.csv")
        for kind in ("", "val_"):
            expected = weight * table[f"{kind}cross_entropy"] + (1 - weight) * table[f"{kind}soft_loss"]
            np.testing.assert_allclose(table[f"{kind}loss"], expected, rtol=2e-5)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    exact = logits.astype(np.float64)
    exact = exact - exact.max(axis=1, keepdims=True)
    return exact - np.log(np.exp(exact).sum(axis=1, keepdims=True))


def test_the_validation_loss_is_the_published_formula(project):
    """Recomputed from the student's file, the soft labels of the file and the image files."""
    temperature, seed = project.temperatures[-1], project.seeds[-1]
    published = PUBLISHED[project.name]
    index = pd.read_csv("data/index.csv", dtype=str).set_index("id")
    with h5py.File(f"data/soft_labels/soft_targets_T{temperature}.h5") as file:
        ids = [name.decode() for name in file["val/id"][:]]
        rows = [ids.index(name) for name in project.validated_on()]
        soft, hard = file["val/soft"][0][rows].astype(np.float64), file["val/hard"][:][rows]
    model = keras.saving.load_model(f"models/students/{project.loss}_T{temperature}_seed{seed}.keras")
    pixels = DecodedImages([Path(index.path[ids[row]]) for row in rows], model.input_shape[1:], keep=True)
    logits = model.predict(pixels.rows(np.arange(len(rows))).numpy().astype(np.float32), verbose=0)
    entropy = -np.sum(soft * np.log(np.maximum(soft, 1e-300)), axis=1)
    soft_loss = -np.sum(soft * log_softmax(logits / temperature), axis=1)
    if project.loss == "kl":
        soft_loss -= entropy
    if published["distill.scale_by_temperature_squared"]:
        soft_loss *= temperature**2
    weight = published["distill.hard_label_weight"]
    expected = np.mean(weight * -np.sum(hard * log_softmax(logits), axis=1) + (1 - weight) * soft_loss)
    table = pd.read_csv(f"results/history/student_{project.loss}_T{temperature}_seed{seed}.csv")
    best = table.sort_values([project.selected, "val_cross_entropy"], ascending=[False, True]).iloc[0]
    assert best["val_loss"] == pytest.approx(expected, rel=1e-4)
    assert best["val_accuracy"] == pytest.approx(np.mean(logits.argmax(1) == hard.argmax(1)))
