"""Completes a given teacher: from pixels (0 to 255) to logits in the order of the data set's classes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import keras
from keras import ops

from pipeline.models import architectures, hub, hub_models, keras_files, onnx_teacher
from pipeline.models.applications import applications
from pipeline.models.backbones import imagenet_classifier
from pipeline.models.given_weights import load_weights
from pipeline.models.last_activation import LINEAR, PROBABILITIES, last_activation, switched_off
from pipeline.models.model_end import refuse_no_logits
from pipeline.models.onnx_files import sha256_with_external_data
from pipeline.models.other_formats import keras_2_version, other_format
from pipeline.models.parts import Affine, Preprocessing, Standardization
from pipeline.models.records import read_record
from pipeline.models.teacher_file import Classes, GivenLogits, GivenTeacher
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
        record: the record of its copy, as `keras_files.save` takes it; None if the given file needs none.
        notes: what was done to it and what its user should know, one item each.
    """

    model: Any
    record: dict[str, Any] | None
    notes: list[str]


def refuse_missing(file: Path) -> None:
    """Checks that a teacher's file exists.

    Raises:
        MissingError: it does not.
        DamagedError: it is a folder of another format.
    """
    if file.is_file():
        return
    if (what := other_format(file)) is not None:
        raise DamagedError(f"{file} {what}")
    raise MissingError(
        f"there is no teacher at {file}. Put it there, or name another file in train_teacher.model, or describe "
        "a model there to train one."
    )


def digest_of(teacher: GivenTeacher) -> str | None:
    """The SHA-256 of a teacher's file or folder, external data included; None for one that is known by name.

    Raises:
        As `completed`.
    """
    if not teacher.is_file:
        return None if teacher.preset is None else hub.digest_of(teacher.preset)
    refuse_missing(teacher.file)
    return sha256_with_external_data(teacher.file) if teacher.is_onnx else sha256_file(teacher.file)


def completed(teacher: GivenTeacher, class_names: Sequence[str]) -> Completed:
    """Loads a given teacher and adds what params.yaml states of it.

    Args:
        teacher: the teacher.
        class_names: the C classes of the data set, in the order of the class axis.

    Raises:
        MissingError: there is no such file, or a package or a file of external data that it needs is missing.
        DamagedError: it cannot be read.
        UnusableError: it does not classify images, or does not give logits.
        MismatchError: it is of other classes, or weights are of another model.
        ParameterError: what is stated does not fit the model.
    """
    keras.utils.clear_session()
    notes: list[str] = []
    activation: str | None = LINEAR
    earlier: dict[str, Any] | None = None
    preprocessing: Preprocessing | Affine = teacher.preprocessing
    if teacher.is_file:
        refuse_missing(teacher.file)
    elif teacher.application is not None:
        preprocessing = applications()[teacher.application].preprocessing()
    if teacher.application is not None:
        _refuse_outputs_without_meaning(teacher, class_names)
        model = imagenet_classifier(teacher.application)
    elif teacher.preset is not None:
        known = hub_models.classifier(teacher.preset)
        model, activation, notes = known.model, known.activation, known.notes
        preprocessing = _known_or_stated(known.preprocessing, teacher)
    elif teacher.is_onnx:
        model, activation, notes = onnx_teacher.load(teacher)
    elif teacher.weights_of is not None:
        model = teacher.weights_of.untrained(len(teacher.classes or class_names))
        load_weights(model, teacher.file)
    else:
        model, activation, notes = _loaded(teacher.file)
        earlier = read_record(teacher.file)
    one_logit = _is_one_logit(model, teacher.model, activation, class_names)
    # Others were checked already: a file of ours when it was written, a model without its activation by `switched_off`,
    # one in ONNX when it was loaded.
    is_checked = teacher.is_onnx or earlier is not None or (teacher.is_file and activation in PROBABILITIES)
    if teacher.weights_of is None and not is_checked:
        refuse_no_logits(model, teacher.model)
    outputs = 2 if one_logit else model.output_shape[-1]
    classes = earlier["class_names"] if teacher.classes is None and earlier is not None else teacher.classes
    order = order_of_classes(teacher, classes, class_names, outputs)
    layers = _preprocessing_layers(preprocessing, teacher.model, model.input_shape[-1])
    if one_logit:
        notes.append(f"its one logit z becomes (0, z), so that a large z means {class_names[order.index(1)]!r}")
    elif order != sorted(order):
        notes.append("its outputs are put in the data set's order of classes")
    if outputs > len(order):
        notes.append(f"{outputs - len(order)} output(s) of classes that the data set does not have are left out")
    if layers:
        notes.append(f"the preprocessing {preprocessing} is put in front of it")
    whole = _whole(model, layers, one_logit, order)
    is_unchanged = not notes and (teacher.preprocessing, teacher.classes, teacher.accuracy) == ("none", None, None)
    if is_unchanged and teacher.is_file:
        return Completed(whole, None, [])
    return Completed(whole, _record(teacher, preprocessing, classes, class_names, activation, earlier), notes)


def _known_or_stated(known: Preprocessing | Affine | None, teacher: GivenTeacher) -> Preprocessing | Affine:
    """The preprocessing of a preset of keras_hub; what params.yaml states, if the preset does not say it."""
    if known is None:
        return teacher.preprocessing
    if teacher.preprocessing != "none":
        raise ParameterError(f"{teacher.model} has a preprocessing of its own: leave train_teacher.preprocessing out.")
    return known


def _refuse_outputs_without_meaning(teacher: GivenTeacher, class_names: Sequence[str]) -> None:
    """Refuses a classifier of ImageNet's 1,000 classes before its weights are fetched."""
    if teacher.classes is None and len(class_names) != 1000:
        raise MismatchError(
            f"{teacher.model} gives 1000 logits, but the data set has {len(class_names)} classes. Say which outputs "
            f"are yours, counted from 0, in train_teacher.classes: {{{class_names[0]}: 281, …}}."
        )


def _loaded(file: Path) -> tuple[Any, str | None, list[str]]:
    """A `.keras` file's model without a softmax or sigmoid at its end, the activation that it had, and notes."""
    notes = []
    loaded = keras_files.load(file, keras_files.OF_THE_USER)
    keras_files.refuse_no_classifier(loaded, file)
    if (model := keras_files.of_one_tensor(loaded)) is not loaded:
        notes.append("its input and output are taken out of a map or list")
    if version := keras_2_version(file):
        notes.append(f"Keras {version} wrote it, and Keras {keras.__version__} reads it: compare its accuracy")
    activation = last_activation(model)
    if activation in PROBABILITIES:
        model = switched_off(model, file)
        notes.append(f"the {activation} at its end is switched off in the copy")
        keras_files.refuse_probabilities(model, f"{file} without its last {activation}")
    return model, activation, notes


def _is_one_logit(model: Any, file: str, activation: str | None, class_names: Sequence[str]) -> bool:
    if model.output_shape[-1] != 1 or len(class_names) != 2:
        return False
    if activation not in (LINEAR, "sigmoid"):
        raise UnusableError(
            f"{file} has one output for two classes, and its end is {activation or 'of a kind that is not known'}: "
            "nobody can tell whether that output is a logit. Save it so that its last layer is a Dense layer with "
            "activation=None, or with sigmoid."
        )
    return True


def order_of_classes(
    teacher: GivenTeacher | GivenLogits, classes: Classes | None, class_names: Sequence[str], outputs: int
) -> list[int]:
    """The number of the output of each class of the data set.

    Args:
        teacher: the teacher; what it states of its classes goes before `classes`.
        classes: the classes that its file records; None if it records none.
        class_names: C names.
        outputs: how many outputs the teacher has.

    Raises:
        MismatchError: it has another number of outputs, or other classes.
        ParameterError: what is stated of its classes does not fit.
    """
    classes = classes if teacher.classes is None else teacher.classes
    name = teacher.logits if isinstance(teacher, GivenLogits) else teacher.model
    if classes is None:
        keras_files.refuse_other_count(outputs, name, len(class_names))
        return list(range(outputs))
    numbers = dict(classes) if isinstance(classes, Mapping) else {name: number for number, name in enumerate(classes)}
    if isinstance(classes, Mapping):
        if (largest := max(numbers.values())) >= outputs:
            raise ParameterError(
                f"train_teacher.classes names output {largest} of {name}, which has the outputs 0 to "
                f"{outputs - 1}. Count from 0."
            )
    elif len(classes) != outputs:
        raise ParameterError(
            f"train_teacher.classes names {len(classes)} outputs, but {name} gives {outputs}. Name all of "
            "them in their order (null for one without a class), or map classes to numbers of outputs, from 0."
        )
    missing = [name for name in class_names if name not in numbers]
    if missing and teacher.classes is None:
        other = keras_files.other_classes(name, [str(known) for known in classes], class_names)
        raise MismatchError(f"{other} If it has other names for them, set train_teacher.classes.")
    if missing:
        known = [name for name in numbers if name is not None]
        near = nearest(missing[0], known)
        hint = f" Is {near!r} there {missing[0]!r} here?" if near else ""
        raise ParameterError(
            f"train_teacher.classes lacks {len(missing)} of the data set's classes: {quoted(missing)}; it has "
            f"{quoted(known)}.{hint} Write every class as data/index.csv does."
        )
    return [numbers[name] for name in class_names]


def _preprocessing_layers(preprocessing: Preprocessing | Affine, file: str, channels: int) -> list[Any]:
    expected = channels
    if isinstance(preprocessing, Standardization):
        expected = len(preprocessing.mean)
    elif preprocessing == "caffe":
        expected = 3
    if expected != channels:
        raise ParameterError(
            f"train_teacher.preprocessing is for images of {expected} channel(s), but {file} takes {channels}. "
            "Give the preprocessing with which it was trained."
        )
    return architectures.preprocessing_layers(preprocessing)


def _whole(model: Any, layers: Sequence[Any], one_logit: bool, order: Sequence[int]) -> Any:
    """The model with preprocessing in front and its outputs in the data set's order; itself if nothing changes."""
    outputs = 2 if one_logit else model.output_shape[-1]
    if not layers and not one_logit and list(order) == list(range(outputs)):
        return model
    name = model.name
    model = keras.Model(model.inputs[0], model.outputs[0], name="given")  # a model of lists of tensors would warn
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
    teacher: GivenTeacher,
    preprocessing: Preprocessing | Affine,
    classes: Classes | None,
    class_names: Sequence[str],
    activation: str | None,
    earlier: Mapping[str, Any] | None,
) -> dict[str, Any]:
    stated = {
        "sha256": digest_of(teacher),
        "accuracy": teacher.accuracy,
        "preprocessing": asdict(preprocessing) if is_dataclass(preprocessing) else preprocessing,
        "classes": classes,
        "last_activation": activation,
    }
    kept = {} if earlier is None or "validation" not in earlier else {"validation": earlier["validation"]}
    return {"class_names": list(class_names), "given": stated, **kept}
