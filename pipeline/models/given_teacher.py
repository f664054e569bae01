"""A teacher that somebody brings along, made whole: from pixels (0 to 255) to logits in the data set's class order."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
from keras import ops

from pipeline.models import architectures, keras_files
from pipeline.models.given_weights import load_weights
from pipeline.models.last_activation import LINEAR, PROBABILITIES, last_activation, switched_off
from pipeline.models.model_end import refuse_no_logits
from pipeline.models.other_formats import keras_2, other_format
from pipeline.models.parts import Standardization
from pipeline.models.teacher_file import GivenTeacher
from pipeline.runtime.digests import sha256_file
from pipeline.runtime.errors import (
    DamagedError,
    MismatchError,
    MissingError,
    ParameterError,
    UnusableError,
    nearest,
    quoted,
)


@dataclass(frozen=True)
class Completed:
    """A given teacher as this program runs it.

    Attributes:
        model: from (B, height, width, channels) pixels, 0 to 255, to (B, C) logits.
        record: what its file should say of it, for `keras_files.save`; None if the given file says all of it.
        said: what was done, one item each.
    """

    model: Any
    record: dict[str, Any] | None
    said: list[str]


def there(file: Path) -> Path:
    """The file, if there is one.

    Raises:
        MissingError: there is none.
        DamagedError: it is a folder of another format.
    """
    if not file.is_file():
        if (what := other_format(file)) is not None:
            raise DamagedError(f"{file} {what}")
        raise MissingError(
            f"there is no teacher at {file}. Put it there, or name another file in train_teacher.model, or describe "
            "a model there to train one."
        )
    return file


def completed(teacher: GivenTeacher, class_names: Sequence[str]) -> Completed:
    """Loads a given teacher and adds what is stated of it.

    Args:
        teacher: the teacher.
        class_names: the C classes of the data set, in the order of the class axis.

    Raises:
        PipelineError: the file is missing, is no classifier of images, or does not fit what is stated of it.
    """
    keras.utils.clear_session()
    there(teacher.file)
    said: list[str] = []
    activation: str | None = LINEAR
    before: dict[str, Any] | None = None
    if teacher.weights_of is not None:
        count = len(class_names) if teacher.classes is None else len(teacher.classes)
        model = teacher.weights_of.untrained(count)
        load_weights(model, teacher.file)
    else:
        loaded = keras_files.load(teacher.file)
        keras_files.refuse_no_classifier(loaded, teacher.file)
        if (model := keras_files.of_one_tensor(loaded)) is not loaded:
            said.append("what it takes and gives is taken out of its map or list")
        if version := keras_2(teacher.file):
            said.append(f"Keras {version} wrote it, and Keras {keras.__version__} reads it: compare its accuracy")
        activation, before = last_activation(model), keras_files.read_record(teacher.file)
        if activation in PROBABILITIES:
            model = switched_off(model, teacher.file)
            said.append(f"the {activation} at its end is switched off in the copy")
            keras_files.refuse_probabilities(model, f"{teacher.file} without its last {activation}")
    one_logit = _is_one_logit(model, teacher.file, activation, class_names)
    if teacher.weights_of is None and before is None and activation not in PROBABILITIES:
        refuse_no_logits(model, teacher.file)
    order = _order(teacher, class_names, 2 if one_logit else model.output_shape[-1], before)
    layers = _preprocessing(teacher, model.input_shape[-1])
    if one_logit:
        said.append(f"its one logit z becomes (0, z), so that a large z means {class_names[order.index(1)]!r}")
    elif order != sorted(order):
        said.append("its outputs are put in the data set's order of classes")
    if (left_out := (2 if one_logit else model.output_shape[-1]) - len(order)) > 0:
        said.append(f"{left_out} output(s) of classes that the data set does not have are left out")
    if layers:
        said.append(f"the preprocessing {teacher.preprocessing} is put in front of it")
    whole = _whole(model, layers, one_logit, order)
    stated = teacher.preprocessing, teacher.classes, teacher.accuracy
    if not said and stated == ("none", None, None):
        return Completed(whole, None, [])
    return Completed(whole, _record(teacher, class_names, activation, before), said)


def _is_one_logit(model: Any, file: Path, activation: str | None, class_names: Sequence[str]) -> bool:
    if model.output_shape[-1] != 1 or len(class_names) != 2:
        return False
    if activation not in (LINEAR, "sigmoid"):
        raise UnusableError(
            f"{file} has one output for two classes, and its end is {activation or 'of a kind that is not known'}: it "
            "cannot be told whether that is a logit. Save it so that its last layer is a Dense layer with "
            "activation=None, or with sigmoid."
        )
    return True


def _order(
    teacher: GivenTeacher, class_names: Sequence[str], outputs: int, before: Mapping[str, Any] | None
) -> list[int]:
    """The number of the output of each class of the data set."""
    named = before["class_names"] if teacher.classes is None and before is not None else teacher.classes
    if named is None:
        keras_files.refuse_other_count(outputs, teacher.file, len(class_names))
        return list(range(outputs))
    numbers = dict(named) if isinstance(named, Mapping) else {name: number for number, name in enumerate(named)}
    if isinstance(named, Mapping):
        if (largest := max(numbers.values())) >= outputs:
            raise ParameterError(
                f"train_teacher.classes names output {largest} of {teacher.file}, which has the outputs 0 to "
                f"{outputs - 1}. Count from 0."
            )
    elif len(named) != outputs:
        raise ParameterError(
            f"train_teacher.classes names {len(named)} outputs, but {teacher.file} gives {outputs}. Name all of them "
            "in their order (null for one without a class), or map classes to numbers of outputs, from 0."
        )
    missing = [name for name in class_names if name not in numbers]
    if missing and teacher.classes is None:
        other = keras_files.other_classes(teacher.file, [str(name) for name in named], class_names)
        raise MismatchError(f"{other} If it knows them by other names, state train_teacher.classes.")
    if missing:
        known = [name for name in numbers if name is not None]
        near = nearest(missing[0], known)
        hint = f" Is {near!r} there {missing[0]!r} here?" if near else ""
        raise ParameterError(
            f"train_teacher.classes lacks {len(missing)} of the data set's classes: {quoted(missing)}; it has "
            f"{quoted(known)}.{hint} Write every class as data/index.csv does."
        )
    return [numbers[name] for name in class_names]


def _preprocessing(teacher: GivenTeacher, channels: int) -> list[Any]:
    given = teacher.preprocessing
    needed = len(given.mean) if isinstance(given, Standardization) else 3 if given == "caffe" else channels
    if needed != channels:
        raise ParameterError(
            f"train_teacher.preprocessing is for images of {needed} channel(s), but {teacher.file} takes {channels}. "
            "State the one that it was trained with."
        )
    return architectures.preprocessing_layers(given)


def _whole(model: Any, layers: Sequence[Any], one_logit: bool, order: Sequence[int]) -> Any:
    """One model with preprocessing in front and the outputs that are wanted behind; the same one if that is nothing."""
    outputs = 2 if one_logit else model.output_shape[-1]
    if not layers and not one_logit and list(order) == list(range(outputs)):
        return model
    name = model.name
    model = keras.Model(model.inputs[0], model.outputs[0], name="given")  # one of lists of tensors would warn
    features = pixels = keras.Input(model.input_shape[1:], name="pixels")
    for layer in layers:
        features = layer(features)
    logits = model(features)
    if one_logit:
        logits = ops.concatenate([ops.zeros_like(logits), logits], axis=-1)
    if list(order) != list(range(outputs)):
        logits = ops.take(logits, list(order), axis=-1)
    return keras.Model(pixels, logits, name=name)


def _record(
    teacher: GivenTeacher, class_names: Sequence[str], activation: str | None, before: Mapping[str, Any] | None
) -> dict[str, Any]:
    given = teacher.preprocessing
    stated = {
        "sha256": sha256_file(teacher.file),
        "accuracy": teacher.accuracy,
        "preprocessing": asdict(given) if isinstance(given, Standardization) else given,
        "classes": before["class_names"] if teacher.classes is None and before is not None else teacher.classes,
        "last_activation": activation,
    }
    kept = {} if before is None or "validation" not in before else {"validation": before["validation"]}
    return {"class_names": list(class_names), "given": stated, **kept}
