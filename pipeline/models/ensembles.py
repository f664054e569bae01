"""Several teachers as one Keras model, which averages its members' logits or probabilities; its file names them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from pipeline.models import keras_files
from pipeline.models.keras_archive import refuse_layers
from pipeline.models.records import are_stored, read_record
from pipeline.models.stored_answers import StoredAnswers, stored_answers
from pipeline.models.teacher_file import Average
from pipeline.runtime.digests import sha256_file
from pipeline.runtime.errors import MismatchError

ENSEMBLE = "ensemble"
"""The name of a model that averages others."""


@dataclass(frozen=True)
class Teacher:
    """One teacher that labels images: a whole teacher, or a member of an ensemble.

    Attributes:
        described: how messages name it.
        name: the name of its architecture.
        model: from (B, height, width, channels) pixels, 0 to 255, to (B, C) logits; None for stored answers.
        sha256: the digest of its own `.keras` file.
        record: what its file records of its training, as `read_record` returns it.
        in_full: where `model` computes in mixed precision, the same in float32; else None.
        answers: its stored answers, if it is no model.
    """

    described: str
    name: str
    model: Any
    sha256: str
    record: dict[str, Any] | None
    in_full: Any = None
    answers: StoredAnswers | None = None


class LoadedTeacher(NamedTuple):
    """The content of a teacher's `.keras` file.

    Attributes:
        model: from pixels to logits, as one Keras model; None if it has stored answers.
        members: the teachers that it consists of: one, unless it is an ensemble.
        average: what is averaged of an ensemble's members; None for a single teacher.
    """

    model: Any
    members: list[Teacher]
    average: Average | None

    @property
    def name(self) -> str:
        """The name of its architecture."""
        return self.members[0].name if self.average is None else ENSEMBLE

    @property
    def input_shape(self) -> tuple[int, int, int] | None:
        """(height, width, channels) of the pixels that its models take; None if none of its members is a model."""
        shapes = [member.model.input_shape[1:] for member in self.members if member.model is not None]
        return shapes[0] if shapes else None


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
        UnusableError: they have too many layers together.
    """
    keras.utils.clear_session()
    models, members = [], []
    for file in files:
        record = read_record(file)
        stored = are_stored(record)
        models.append(keras_files.load(file) if stored else keras_files.load_classifier(file, class_names))
        members.append({"name": models[-1].name, "sha256": sha256_file(file), "record": record})
    record = {"class_names": list(class_names), "average": average, "members": members}
    model = combined(models, average)
    refuse_layers(keras.saving.serialize_keras_object(model), path)  # or nobody could load it
    keras_files.save(model, path, record)


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
    """One Keras model of several; `average` as in `save_ensemble`.

    Its members are called `member0`, `member1` and so on. Each becomes a functional model of one tensor, so models of
    other kinds can be members too. All members that take pixels take the same ones. Stored answers (`stored_answers`)
    take the number of a row, so each has an input of its own.

    Raises:
        MismatchError: the members take images of different sizes.
    """
    models = [
        keras.Model(model.inputs[0], model.outputs[0], name=f"member{number}") for number, model in enumerate(models)
    ]
    sizes = [size for model in models if (size := tuple(model.input_shape[1:]))]
    refuse_other_sizes(sizes)
    pixels = [keras.Input(sizes[0], name="pixels")] if sizes else []
    rows, logits = [], []
    for number, model in enumerate(models):
        if not model.input_shape[1:]:
            rows.append(keras.Input((), dtype="int32", name=f"row{number}"))
        logits.append(model(pixels[0] if model.input_shape[1:] else rows[-1]))
    inputs = pixels + rows if len(pixels + rows) > 1 else (pixels + rows)[0]
    if average == "logits":
        return keras.Model(inputs, keras.layers.Average(name="logits")(logits), name=ENSEMBLE)
    log_probabilities = ops.stack([ops.log_softmax(of_member, axis=-1) for of_member in logits])
    return keras.Model(inputs, ops.logsumexp(log_probabilities, axis=0) - math.log(len(models)), name=ENSEMBLE)


def average_of(logits: npt.NDArray[np.float32], average: Average) -> npt.NDArray[np.float32]:
    """The ensemble's logits from its members': (M, R, C) float32 become (R, C) float32, as in `save_ensemble`."""
    exact = logits.astype(np.float64)  # rounded once, at the end
    if average == "logits":
        return np.asarray(exact.mean(axis=0), np.float32)
    # Not SciPy's functions: their last bits differ, and those of stored logits must not change.
    exact -= exact.max(axis=2, keepdims=True)
    exact -= np.log(np.exp(exact).sum(axis=2, keepdims=True))
    return np.asarray(np.logaddexp.reduce(exact, axis=0) - math.log(len(exact)), np.float32)


def load_teacher(path: Path, class_names: Sequence[str]) -> LoadedTeacher:
    """Loads a teacher's `.keras` file.

    Raises:
        MissingError: there is no such file.
        DamagedError: it is not a whole `.keras` file.
        MismatchError: it was trained on other classes.
        UnusableError: it does not classify images, or gives probabilities.
    """
    model = keras_files.load(path)
    record = read_record(path)
    members = [] if record is None else record.get("members", [])
    if any(are_stored(of_member) for of_member in (record, *(member["record"] for member in members))):
        keras_files.refuse_other_classes(path, record, class_names)
        whole = None
    else:
        keras_files.refuse_unfit(model, path, class_names)
        whole = model
    if record is None or "members" not in record:
        return LoadedTeacher(whole, [_teacher(str(path), model.name, model, sha256_file(path), record)], None)
    teachers = []
    for number, member in enumerate(members):
        described = f"member {number} of {path} ({member['name']})"
        inner = model.get_layer(f"member{number}")
        if not are_stored(member["record"]):
            keras_files.refuse_no_classifier(inner, Path(described))
            keras_files.refuse_other_count(inner.output_shape[-1], described, len(class_names))
        teachers.append(_teacher(described, member["name"], inner, member["sha256"], member["record"]))
    return LoadedTeacher(whole, teachers, record["average"])


def _teacher(described: str, name: str, model: Any, sha256: str, record: dict[str, Any] | None) -> Teacher:
    if record is not None and are_stored(record):
        answers = stored_answers(model, record, described)
        return Teacher(
            "the table of logits" if "given" in record else "the votes", name, None, sha256, record, answers=answers
        )
    keras_files.refuse_probabilities(model, described)
    return Teacher(described, name, model, sha256, record)
