"""Command `init`: models, sizes and a schedule that suit a data set, as the sections of a first params.yaml."""

import importlib.util
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.datasets.labelled import DataSet
from pipeline.deployed.formats import FILES
from pipeline.images.places import read_bytes
from pipeline.models.applications import applications, weights_folder, weights_in
from pipeline.models.hub import HUB
from pipeline.models.other_formats import TABLES, conversion_of, is_of_a_file, no_network
from pipeline.models.teacher_file import APPLICATION
from pipeline.runtime.errors import ParameterError, UnusableError, all_named, nearest

LOOKED_AT = 64
"""So many images are looked at for their size."""

VOTES = "votes"
"""The name of the annotators as a teacher."""

SMALL_SIDE = 64
"""Images of at most this side get small convolutional networks that are trained from scratch."""

SIZES = (96, 128, 160, 192, 224)
"""Sides in pixels for which MobileNetV2 has weights; other backbones take them, too."""

LARGEST_ON_CPU = 128
FEW_IMAGES = 5_000
SMALL_STEPS = 2_500
"""About so many steps train a small network."""


@dataclass(frozen=True)
class Pictures:
    """What the images of a data set look like.

    Attributes:
        height: the median height in pixels.
        width: the median width.
        channels: 1 if all are grey, else 3.
        smallest: the smallest side of all.
        largest: the largest.
    """

    height: int
    width: int
    channels: int
    smallest: int
    largest: int


def look_at(data_set: DataSet) -> Pictures:
    """Reads the sizes of some images, evenly spaced.

    Raises:
        UnusableError: some of them are images that `split` would refuse.
    """
    from pipeline.images.checks import refuse_undecodable  # loads TensorFlow

    rows = data_set.rows
    chosen = [rows[number * len(rows) // min(len(rows), LOOKED_AT)] for number in range(min(len(rows), LOOKED_AT))]
    refuse_undecodable({row.id: row.image for row in chosen if isinstance(row.image, str)})
    shapes = [_shape(row.image) for row in chosen]
    heights, widths = [shape[0] for shape in shapes], [shape[1] for shape in shapes]
    return Pictures(
        height=int(np.median(heights)),
        width=int(np.median(widths)),
        channels=1 if all(shape[2] == 1 for shape in shapes) else 3,
        smallest=min(*heights, *widths),
        largest=max(*heights, *widths),
    )


def _shape(image: Any) -> tuple[int, int, int]:
    if not isinstance(image, str):
        return image.shape[0], image.shape[1], image.shape[2] if image.ndim == 3 else 1
    with Image.open(io.BytesIO(read_bytes(image))) as opened:
        return opened.height, opened.width, 1 if opened.mode in ("1", "L") else 3


def refuse_no_votes(data_set: DataSet, teacher: str | None) -> None:
    """Refuses the annotators as a teacher of images without votes.

    Raises:
        ParameterError: an image has none.
    """
    without = [row.id for row in data_set.rows if row.votes is None]
    if teacher == VOTES and without:
        raise ParameterError(
            f"--teacher votes needs votes for every image, as the layout mhist has them; {len(without)} of "
            f"{len(data_set.rows)} have none: {all_named(without, 'without-votes')}. Name another teacher."
        )


def sections(
    pictures: Pictures,
    train_images: int,
    *,
    teacher: str | None,
    student: str | None,
    on_gpu: bool,
    unlabelled: int = 0,
) -> dict[str, Any]:
    """The sections of params.yaml beside `split`.

    Args:
        pictures: what the images look like.
        train_images: the number of training images.
        teacher: an architecture, a `.keras` or `.onnx` file, a table of logits, or `VOTES`; None: what suits.
        student: an architecture or a `.keras` file for the student; None: what suits.
        on_gpu: whether there is a GPU.
        unlabelled: how many of the training images have no label, so that no teacher is trained on them.

    Raises:
        ParameterError: there is no such architecture.
    """
    labelled = train_images - unlabelled
    is_small = max(pictures.height, pictures.width) <= SMALL_SIDE
    augmentation = {"translation": 0.1} if is_small else {"horizontal_flip": True, "rotation": 0.05, "zoom": 0.1}
    batch = max(2, min(32, labelled // 4))
    views = {"count": 10 if train_images < FEW_IMAGES else 2, "seed": 1, "augmentation": augmentation}
    if teacher is not None and _is_table(teacher):  # other views must be rendered and labelled first
        views = {"count": 1, "seed": 1, "augmentation": {}}
    return {
        "images": {"resize": {"method": "bilinear", "antialias": True, "fit": "stretch"}},
        "train_teacher": _teacher(teacher, pictures, is_small, on_gpu, labelled, batch, augmentation),
        "views": views,
        "precompute": {
            "batch_size": 128,
            "precision": "float32",
            "storage": {"kind": "dense", "dtype": "float32"},
        },
        "distill": {
            "temperatures": [4],
            "losses": ["kl"],
            "hard_label_weight": 0.5,
            "scale_by_temperature_squared": True,
            "loss": {"kl": {}, "dist": {}},
        },
        "student": {
            "model": _model(student or _usual(is_small, "mobilenetv2"), pictures, on_gpu, is_student=True),
            "seeds": [1, 2, 3] if is_small or on_gpu else [1],
            "batch_size": batch,
            "validation_steps": None,
            "select_by": "cross_entropy",
            "phases": _phases(student or _usual(is_small, "mobilenetv2"), train_images, batch),
        },
        "evaluate": {},
        "export": {"students": ["best"], "formats": [name for name in FILES if name != "onnx" or _converts_to_onnx()]},
        "card": {},
    }


def _converts_to_onnx() -> bool:
    """Whether the extra `onnx` is installed; without it the stage `export` would fail after all trainings."""
    return importlib.util.find_spec("tf2onnx") is not None


def _is_table(teacher: str) -> bool:
    return Path(teacher).suffix.lower() in TABLES


def _usual(is_small: bool, backbone: str) -> str:
    return "cnn" if is_small else backbone


def _teacher(
    teacher: str | None,
    pictures: Pictures,
    is_small: bool,
    on_gpu: bool,
    train_images: int,
    batch: int,
    augmentation: dict[str, Any],
) -> dict[str, Any]:
    if teacher is not None and teacher.startswith(APPLICATION):
        raise ParameterError(
            f"nobody can tell which of the 1,000 outputs of {teacher} are your classes. Write params.yaml without "
            "--teacher, then write train_teacher as docs/teachers.md shows; or name an architecture, which gets a head "
            "of its own."
        )
    if teacher is not None and (teacher.endswith(".keras") or Path(teacher).suffix.lower() == ".onnx"):
        return {"model": teacher}
    if teacher is not None and _is_table(teacher):
        from pipeline.models.given_logits import refuse_missing_table  # loads Keras

        refuse_missing_table(Path(teacher))
        return {"logits": teacher}
    if teacher == VOTES:
        return {"votes": {"smoothing": 1.0}}
    name = teacher or _usual(is_small, "resnet50v2" if on_gpu else "mobilenetv2")
    return {
        "model": _model(name, pictures, on_gpu, is_student=False),
        "seed": 1,
        "batch_size": batch,
        "validation_steps": None,
        "select_by": "cross_entropy",
        "augmentation": augmentation,
        "phases": _phases(name, train_images, batch),
    }


def _model(name: str, pictures: Pictures, on_gpu: bool, *, is_student: bool) -> dict[str, Any]:
    if name.endswith(".keras"):
        return {"architecture": name, "weights": None}
    if name == "cnn":
        side = min(pictures.height, pictures.width)
        if side < 8:
            raise UnusableError(
                f"the images have a side of {side} pixels; expected at least 8, since a cnn shrinks them. Name an mlp, "
                "which takes any size: --teacher mlp --student mlp; or make the images larger."
            )
        model: dict[str, Any] = {
            "architecture": "cnn",
            "input_shape": [min(pictures.height, SMALL_SIDE), min(pictures.width, SMALL_SIDE), pictures.channels],
            "filters": [8, 16] if is_student else [32, 64, 128],
            "downsampling": "stride" if is_student else "max_pooling",
            "pooling": "flatten" if side <= SMALL_SIDE // 2 else "avg",
        }
        return model | ({} if is_student else {"dropout": 0.5})
    if name == "mlp":
        return {"architecture": "mlp", "input_shape": [pictures.height, pictures.width, pictures.channels]}
    if not name.startswith(HUB) and name not in applications():
        if name == VOTES:  # of a student; a teacher can be that
            raise ParameterError("votes are a teacher's answers: name an architecture or a .keras file as the student.")
        if is_of_a_file(name) or Path(name).exists():
            raise ParameterError(f"{name} {no_network(name) if is_student else conversion_of(name)}.")
        near = nearest(name, [*applications(), "cnn", "mlp"])
        raise ParameterError(
            f"there is no architecture {name!r}; `softlabel models` lists them."
            + (f" Did you mean {near!r}?" if near else "")
        )
    largest = SIZES[-1] if on_gpu else LARGEST_ON_CPU
    side = max(size for size in SIZES if size <= max(SIZES[0], min(largest, pictures.height, pictures.width)))
    narrow = {"alpha": 0.35} if is_student and name == "mobilenetv2" else {}
    weights = "own" if name.startswith(HUB) else "imagenet"
    return {"architecture": name, "input_shape": [side, side, 3], "weights": weights, "dropout": 0.2, **narrow}


def _phases(name: str, train_images: int, batch: int) -> list[dict[str, Any]]:
    if name in ("cnn", "mlp") or name.endswith(".keras"):
        epochs = min(60, max(10, math.ceil(SMALL_STEPS * batch / train_images)))
        return [{"epochs": epochs, "learning_rate": 0.001, "trainable_from": "all"}]
    return [
        {"epochs": 10, "learning_rate": 0.001, "trainable_from": None},
        {
            "epochs": 10,
            "learning_rate": 0.00001,
            "trainable_from": "all",
            "backbone_in_inference_mode": True,
        },
    ]


def about_weights(content: dict[str, Any]) -> list[str]:
    """Says of each backbone whose ImageNet weights are not in Keras' folder that they will be downloaded."""
    models = [content[section].get("model") for section in ("train_teacher", "student")]
    described = [model for model in models if isinstance(model, dict) and model.get("weights") == "imagenet"]
    names, present = [model["architecture"] for model in described], weights_in(weights_folder())
    return [
        f"the ImageNet weights of {name} are not in {weights_folder()}: Keras downloads them"
        for name in dict.fromkeys(names)
        if "backbone" not in present.get(name, ())
    ]


def findings(data_set: DataSet, section: dict[str, Any], pictures: Pictures, notes: Sequence[str]) -> list[str]:
    """What was found, one line each."""
    sizes = (
        f"{pictures.height} x {pictures.width} pixels"
        if pictures.smallest == pictures.largest
        else f"about {pictures.height} x {pictures.width} pixels (sides of {pictures.smallest} to {pictures.largest})"
    )
    return [
        f"{section['data']}: {len(data_set.rows):,} images of {len(data_set.class_names)} classes, "
        f"layout {section['layout']}",
        f"{'grey' if pictures.channels == 1 else 'color'} images of {sizes}",
        *notes,
    ]
