"""Several teachers as one Keras model, which averages its members' logits or probabilities; its file names them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from pipeline.models import keras_files
from pipeline.models.teacher_file import Average
from pipeline.runtime.digests import sha256_file
from pipeline.runtime.errors import MismatchError


@dataclass(frozen=True)
class Teacher:
    """One model that labels images: a whole teacher, or a member of an ensemble.

    Attributes:
        described: how messages name it.
        name: the name of its architecture.
        model: from (B, height, width, channels) pixels, 0 to 255, to (B, C) logits.
        sha256: the digest of its own `.keras` file.
        record: what its file records of its training, as `keras_files.read_record` returns it.
        in_full: where `model` computes in mixed precision, the same in float32; else None.
    """

    described: str
    name: str
    model: Any
    sha256: str
    record: dict[str, Any] | None
    in_full: Any = None


def save_ensemble(files: Sequence[Path], average: Average, class_names: Sequence[str], path: Path) -> None:
    """Writes an ensemble's `.keras` file.

    Args:
        files: the `.keras` files of M members.
        average: "logits" for their mean; "probabilities" for the logarithm of the mean of the members' probabilities
            at temperature 1.
        class_names: the C classes, in the order of the class axis.
        path: the file to write.

    Raises:
        MismatchError: the members take images of different sizes.
    """
    keras.utils.clear_session()
    models = [keras_files.load_classifier(file, class_names) for file in files]
    refuse_other_sizes([model.input_shape[1:] for model in models])
    members = [
        {"name": model.name, "sha256": sha256_file(file), "record": keras_files.read_record(file)}
        for model, file in zip(models, files, strict=True)
    ]
    record = {"class_names": list(class_names), "average": average, "members": members}
    keras_files.save(combined(models, average), path, record)


def refuse_other_sizes(shapes: Sequence[tuple[int, ...]]) -> None:
    """Compares the input shapes of the members.

    Raises:
        MismatchError: they are not all the same.
    """
    if len(set(shapes)) > 1:
        raise MismatchError(
            f"the teachers of an ensemble must take images of one size, but these take {list(shapes)}. "
            "Give all of them the same input_shape."
        )


def combined(models: Sequence[Any], average: Average) -> Any:
    """One Keras model of several that take the same input; `average` as in `save_ensemble`.

    Its members are called `member0`, `member1` and so on. Each becomes a functional model of one tensor, so models of
    other kinds can be members too.
    """
    models = [
        keras.Model(model.inputs[0], model.outputs[0], name=f"member{number}") for number, model in enumerate(models)
    ]
    pixels = keras.Input(models[0].input_shape[1:], name="pixels")
    logits = [model(pixels) for model in models]
    if average == "logits":
        return keras.Model(pixels, keras.layers.Average(name="logits")(logits), name="ensemble")
    log_probabilities = ops.stack([ops.log_softmax(of_member, axis=-1) for of_member in logits])
    return keras.Model(pixels, ops.logsumexp(log_probabilities, axis=0) - math.log(len(models)), name="ensemble")


def average_of(logits: npt.NDArray[np.float32], average: Average) -> npt.NDArray[np.float32]:
    """The ensemble's logits from its members': (M, R, C) float32 become (R, C) float32, as in `save_ensemble`."""
    exact = logits.astype(np.float64)  # rounded once, at the end
    if average == "logits":
        return np.asarray(exact.mean(axis=0), np.float32)
    # Not SciPy's functions: their last bits differ, and those of stored logits must not change.
    exact -= exact.max(axis=2, keepdims=True)
    exact -= np.log(np.exp(exact).sum(axis=2, keepdims=True))
    return np.asarray(np.logaddexp.reduce(exact, axis=0) - math.log(len(exact)), np.float32)


def load_teacher(path: Path, class_names: Sequence[str]) -> tuple[Any, list[Teacher], Average | None]:
    """Loads a teacher's `.keras` file.

    Returns:
        The model; the teachers that it consists of (one, unless it is an ensemble); and an ensemble's average, or None.

    Raises:
        MissingError: there is no such file.
        DamagedError: it is not a whole `.keras` file.
        MismatchError: it was trained on other classes.
        UnusableError: it does not classify images, or gives probabilities.
    """
    model = keras_files.load_classifier(path, class_names)
    record = keras_files.read_record(path)
    if record is None or "members" not in record:
        keras_files.refuse_probabilities(model, path)
        return model, [Teacher(str(path), model.name, model, sha256_file(path), record)], None
    teachers = []
    for number, member in enumerate(record["members"]):
        described = f"member {number} of {path} ({member['name']})"
        inner = model.get_layer(f"member{number}")
        keras_files.refuse_probabilities(inner, described)
        teachers.append(Teacher(described, member["name"], inner, member["sha256"], member["record"]))
    return model, teachers, record["average"]
