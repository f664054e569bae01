"""Layouts `arrays` and `cifar10`: images and labels in one .npz file.

The arrays have the names that Keras uses (x_train, y_train, ...) or those of MedMNIST
(https://medmnist.com: train_images, train_labels, ...).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.datasets.class_names import ClassNames, name_classes
from pipeline.datasets.labelled import Annotation, DataSet, shares_to_draw
from pipeline.datasets.unlabelled import IF_MEANT, NONE_EXPECTED, Unlabelled, refuse_outside_training, used
from pipeline.images.index import NO_LABEL, SplitName
from pipeline.runtime.errors import MissingError, ParameterError, UnusableError, quoted
from pipeline.runtime.npz_files import read_npz

NAMES: dict[str, dict[SplitName, tuple[str, str]]] = {
    "Keras": {"train": ("x_train", "y_train"), "val": ("x_val", "y_val"), "test": ("x_test", "y_test")},
    "MedMNIST": {
        "train": ("train_images", "train_labels"),
        "val": ("val_images", "val_labels"),
        "test": ("test_images", "test_labels"),
    },
}
"""The names of the arrays of (images, labels) of each split, by naming scheme."""

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

Arrays = Mapping[str, npt.NDArray[Any]]


def read_arrays(
    *,
    data: Path,
    val_fraction: float | None,
    test_fraction: float | None,
    class_names: ClassNames = None,
    unlabelled: Unlabelled = NONE_EXPECTED,
) -> DataSet:
    """Reads and checks an .npz file.

    An image's id consists of the split of its array and its number there, such as `train_00012.png`.

    Args:
        data: the file.
        val_fraction: share of the training images to draw for validation, or None if the file holds these.
        test_fraction: share of all training images to draw for testing, or None if the file holds these.
        class_names: the names of labels 0, 1, ..., a map from label to name, or the name of an array of names in the
            file; None names a class by its number.
        unlabelled: which images without a label are used: those whose label is -1, and those of another array.

    Returns:
        The data set, its rows sorted by id.

    Raises:
        MissingError: there is no such file.
        DamagedError: it is no .npz file, or cannot be read.
        UnusableError: an array is missing, or has another type, shape or range of values.
        ParameterError: a fraction, `class_names` or the array of `unlabelled` does not fit the file.
        MismatchError: a label has no name.
    """
    arrays = _load(data)
    pairs = _pairs(arrays, data)
    _refuse_wrong_fraction("val", val_fraction, pairs, data)
    _refuse_wrong_fraction("test", test_fraction, pairs, data)
    for images, labels in pairs.values():
        _refuse_images(arrays[images], data, images)
        _refuse_labels(arrays[labels], data, labels, len(arrays[images]), images)
    every: list[int] = [number for _, labels in pairs.values() for number in arrays[labels].reshape(-1).tolist()]
    is_class = isinstance(class_names, list | dict) and str(NO_LABEL) in class_names
    numbers = [number for number in every if is_class or number != NO_LABEL]
    is_unexpected = len(numbers) < len(every) and unlabelled.rows is None
    if is_unexpected or (class_names is None and min(numbers, default=0) < 0):
        raise UnusableError(
            f"{data} has the label {min(every)}; expected numbers from 0. "
            f"Correct the labels, or leave these images out.{f' {IF_MEANT}' if is_unexpected else ''}"
        )
    array_of_names = str(class_names) if isinstance(class_names, Path) else None
    names = class_names if array_of_names is None else _names_in(arrays, array_of_names, data)
    classes, order = name_classes(
        [str(number) for number in numbers], names, data=data, source=data, place="the arrays of labels"
    )
    every_image = [
        (f"{split}_{position:05}.png", split, image)
        for split, (images, _) in pairs.items()
        for position, image in enumerate(arrays[images])
    ]
    class_of = dict(zip(numbers, classes, strict=True))
    rows = [
        Annotation(image_id, class_of.get(number, ""), split, None, image)
        for (image_id, split, image), number in zip(every_image, every, strict=True)
    ]
    refuse_outside_training(rows, data)
    kept, hints = used(rows, unlabelled)
    kept += _without_labels(arrays, unlabelled.array, pairs, data)
    taken = {name for pair in pairs.values() for name in pair} | {array_of_names, unlabelled.array}
    return DataSet(
        source=data,
        rows=sorted(kept, key=lambda row: row.id),
        drawn=shares_to_draw(val_fraction, test_fraction),
        left_out=sorted(set(arrays) - taken),
        because=f"these arrays of {data} are neither images nor labels",
        class_names=order,
        hints=hints,
    )


def read_cifar10(
    *, data: Path, val_fraction: float, class_names: ClassNames = None, unlabelled: Unlabelled = NONE_EXPECTED
) -> DataSet:
    """Reads CIFAR-10, or a part of it, as `read_arrays` does; `class_names` None means the names of its ten classes."""
    names = CIFAR10 if class_names is None else class_names
    return read_arrays(
        data=data, val_fraction=val_fraction, test_fraction=None, class_names=names, unlabelled=unlabelled
    )


def _without_labels(
    arrays: Arrays, name: str | None, pairs: Mapping[SplitName, tuple[str, str]], path: Path
) -> list[Annotation]:
    """The images of the array of images without a label, such as `unlabelled_00012.png`; none without such an array."""
    if name is None:
        return []
    others = sorted(set(arrays) - {array for pair in pairs.values() for array in pair})
    if name not in others:
        raise ParameterError(
            f"split.unlabelled.array is {name!r}, and {path} has no such array beside those with labels; it has "
            f"{quoted(others, 12) or 'no other one'}. Name an array of images, or set split.unlabelled.array: null."
        )
    _refuse_images(arrays[name], path, name)
    return [
        Annotation(f"unlabelled_{position:05}.png", "", "train", None, image)
        for position, image in enumerate(arrays[name])
    ]


def _names_in(arrays: Arrays, name: str, path: Path) -> list[str]:
    names = arrays.get(name)
    if names is None or names.dtype.kind != "U" or names.ndim != 1 or len(set(names.tolist())) < names.size:
        has = (
            f"no such array; it has {quoted(sorted(arrays), 12)}"
            if names is None
            else f"this array of type {names.dtype} and shape {names.shape}"
        )
        raise ParameterError(
            f"split.class_names is {name!r}, and {path} has {has}. "
            "Expected a list or map in params.yaml, or the name of an array of different texts, one for each class."
        )
    return [str(text) for text in names]


def _load(path: Path) -> dict[str, npt.NDArray[Any]]:
    if not path.is_file():
        raise MissingError(f"there is no file {path}. Put it there, or set split.data in params.yaml.")
    return read_npz(
        path,
        example="x_train=..., y_train=...",
        plain="images as uint8 and labels as integers, with images of one size",
    )


def _pairs(arrays: Arrays, path: Path) -> dict[SplitName, tuple[str, str]]:
    """The names of the arrays of images and labels, for each split that the file holds."""
    held = {
        scheme: {split: pair for split, pair in pairs.items() if set(pair) & set(arrays)}
        for scheme, pairs in NAMES.items()
    }
    used = [scheme for scheme in held if held[scheme]]
    if len(used) > 1:
        raise UnusableError(
            f"{path} mixes the names of {' and '.join(used)}: {quoted(sorted(arrays), 12)}. "
            f"Expected one of {_schemes()}: rename the arrays."
        )
    if not used or "train" not in held[used[0]]:
        raise UnusableError(
            f"{path} holds no training images; it has {quoted(sorted(arrays), 12)}. "
            f"Expected {_schemes()}: rename the arrays."
        )
    pairs = held[used[0]]
    alone = [name for pair in pairs.values() for name in pair if name not in arrays]
    if alone:
        raise UnusableError(
            f"{path} lacks {quoted(alone)}; it has {quoted(sorted(arrays), 12)}. "
            "Images and labels come in pairs: add what is missing."
        )
    return pairs


def _schemes() -> str:
    return ", or ".join(
        ", ".join(name for pair in pairs.values() for name in pair) + f" ({scheme})" for scheme, pairs in NAMES.items()
    )


def _refuse_wrong_fraction(split: SplitName, share: float | None, pairs: Mapping[SplitName, Any], path: Path) -> None:
    if split in pairs and share is not None:
        raise ParameterError(
            f"{path} holds {split} images ({pairs[split][0]}), but split.{split}_fraction is {share:g}. "
            f"Set split.{split}_fraction: null (layout arrays), or remove that array and its labels."
        )
    if split not in pairs and share is None:
        raise ParameterError(
            f"{path} holds no {split} images, and split.{split}_fraction is null or missing, so none are drawn. "
            f"Set split.{split}_fraction to a number between 0 and 1 (layout arrays), or add the arrays."
        )


def _refuse_images(images: npt.NDArray[Any], path: Path, name: str) -> None:
    if images.dtype != np.uint8:
        raise UnusableError(
            f"{path}: {name} is of type {images.dtype}; expected uint8. Store the pixels as 0 to 255 in uint8."
        )
    if images.ndim not in {3, 4} or (images.ndim == 4 and images.shape[3] not in {1, 3}) or 0 in images.shape:
        raise UnusableError(
            f"{path}: {name} is of shape {images.shape}; expected (N, height, width), (N, height, width, 1) for "
            "grey or (N, height, width, 3) for RGB, and no side of 0. Store the images in such a shape."
        )


def _refuse_labels(labels: npt.NDArray[Any], path: Path, name: str, count: int, images: str) -> None:
    if labels.ndim == 2 and labels.shape[1] != 1:
        raise UnusableError(
            f"{path}: {name} is of shape {labels.shape}, several labels for each image; expected (N,) or (N, 1). "
            "Store the number of one class for each image."
        )
    if labels.dtype.kind not in "iu" or labels.ndim not in {1, 2}:
        raise UnusableError(
            f"{path}: {name} is of type {labels.dtype} and shape {labels.shape}; expected integers of shape (N,) or "
            "(N, 1). Store the number of its class for each image."
        )
    if len(labels) != count:
        raise UnusableError(
            f"{path}: {images} has {count} images and {name} has {len(labels)} labels; expected equal numbers. "
            "Store both again from the same list."
        )
