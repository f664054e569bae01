"""Writes `.keras` files whole and reproducibly, and loads them without running code that they hold."""

import json
import shutil
import time
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from pipeline.models import hub, hub_trial
from pipeline.models.json_members import CONFIG, names_if_any, read_member
from pipeline.models.keras_archive import refuse_costly, refuse_large_outputs, weights_within
from pipeline.models.last_activation import PROBABILITIES, last_activation
from pipeline.models.onnx_layer import REGISTERED_NAME, graphs_in, refuse_without
from pipeline.models.other_formats import OF_KERAS_2, foreign_layers, keras_2_version, other_format
from pipeline.models.records import RECORD, read_record
from pipeline.runtime.errors import (
    DamagedError,
    MismatchError,
    MissingError,
    UnusableError,
    first_few,
    is_of_memory,
    one_line,
)
from pipeline.runtime.publish import replace_whole

LONG_AGO, LAST_YEAR = (1980, 1, 1, 0, 0, 0), 2107  # the first date, and the last year, that a zip archive can hold
FROZEN = "frozen"
"""The key of that record for frozen layers that the model itself does not save."""

NO_LOGITS = (
    "gives probabilities, not logits: they cannot be softened at another temperature without loss. "
    "Remove the softmax or sigmoid at its end (activation=None in its last layer)."
)


def save(model: Any, path: Path, record: Mapping[str, Any] | None = None) -> None:
    """Writes a `.keras` file in one step; the same model gives the same bytes.

    Keras stores the date, memory addresses (`shared_object_id`) and the times of the archive's members. They are
    replaced by fixed values, and the members are sorted.

    Args:
        model: a Keras model.
        path: the file to write.
        record: what is known of the model, JSON-serialisable: `class_names`; for one that was trained here,
            `validation` with `images` (their `fingerprint_of`) and `accuracy`, and, if files decide what it was before
            the training, `files`, their SHA-256; for one that was given, `given` with the
            `sha256` of its file, the `accuracy` that params.yaml states (or None), and what was added to it.

    Raises:
        UnusableError: the machine's clock says a year of which Keras can write no file.
    """
    _refuse_wrong_clock(path)
    if record is not None and (frozen := _frozen(model)):
        record = {**record, FROZEN: frozen}
    with replace_whole(path) as partial:
        raw = partial.with_suffix(".raw.keras")
        try:
            model.save(raw)
            with zipfile.ZipFile(raw) as source, zipfile.ZipFile(partial, "x") as target:
                for name in sorted(source.namelist()):
                    if name.endswith(".json"):
                        target.writestr(zipfile.ZipInfo(name, date_time=LONG_AGO), _reproducible(source.read(name)))
                    else:
                        _copy(source, name, target)
                if record is not None:
                    target.writestr(zipfile.ZipInfo(RECORD, date_time=LONG_AGO), json.dumps(record, sort_keys=True))
        finally:
            raw.unlink(missing_ok=True)
    hub_trial.note_as_written_here(path)


def _refuse_wrong_clock(path: Path) -> None:
    if not LONG_AGO[0] <= (year := time.localtime(time.time()).tm_year) <= LAST_YEAR:
        raise UnusableError(
            f"{path} cannot be written: the clock of this machine says that it is the year {year}, and a `.keras` file "
            f"holds dates from {LONG_AGO[0]} to {LAST_YEAR}. Set the clock, then run again."
        )


def _copy(source: zipfile.ZipFile, name: str, target: zipfile.ZipFile) -> None:
    """Copies a member of an archive in portions: it may be larger than the memory."""
    member = zipfile.ZipInfo(name, date_time=LONG_AGO)
    member.file_size = source.getinfo(name).file_size
    with source.open(name) as content, target.open(member, "w") as copy:
        shutil.copyfileobj(content, copy)


MADE_HERE = "Make it again with `dvc repro`."
"""What to do with a damaged file of this project."""

OF_THE_USER = "Save it again with `model.save('NAME.keras')`, from Keras' own layers only."
"""What to do with a damaged file of the user's own."""


def load(path: Path, remedy: str = MADE_HERE) -> Any:
    """Loads a `.keras` file, uncompiled and in safe mode.

    Args:
        path: the file.
        remedy: what to do if it is damaged: `MADE_HERE` or `OF_THE_USER`.

    Raises:
        MissingError: there is no such file, or it holds an ONNX graph and ONNX Runtime is not installed.
        DamagedError: it is not a whole `.keras` file.
        UnusableError: it declares a model that would take too much memory or time.
    """
    if (what := other_format(path)) is not None:
        raise DamagedError(f"{path} {what}")
    if not path.is_file():
        raise MissingError(f"there is no model at {path}. Make it with `dvc repro`, or put it there.")
    if not names_if_any(path):
        raise DamagedError(
            f"{path} is not a whole `.keras` file (a zip archive with its configuration and weights). {remedy}"
        )
    most = refuse_costly(path, remedy)
    hub_trial.try_file(path, remedy)
    return _loaded(path, most, remedy)


def load_untried(path: Path, remedy: str) -> Any:
    """As `load`, but layers of keras_hub need not have been built in another process before."""
    return _loaded(path, refuse_costly(path, remedy), remedy)


def _loaded(path: Path, most: int, remedy: str) -> Any:
    """The model of a file that has been looked at, with at most so many weights."""
    try:
        # An inner model may be compiled; its optimizer is not needed.
        with weights_within(most, path), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
            if REGISTERED_NAME in json.dumps(architecture(path)):
                refuse_without("onnxruntime")
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
        refuse_large_outputs(model, path)
    except (MissingError, UnusableError):
        raise
    except Exception as error:  # Keras and TensorFlow raise many classes for what they cannot build
        if is_of_memory(error):
            raise
        raise DamagedError(f"{path} {_why_not(path, error, remedy)}") from None
    if faults := [graph.fault for graph in graphs_in(model) if graph.session is None]:
        raise DamagedError(
            f"{path} holds an ONNX graph, but {faults[0]}. Install the version of ONNX Runtime with which the file was "
            f"made. {remedy}"
        )
    _apply_record(read_record(path) or {}, model, path)
    return model


def _apply_record(record: Mapping[str, Any], model: Any, path: Path) -> None:
    """Freezes the layers that a record names, and checks that the model has the members that it names.

    Raises:
        DamagedError: the model lacks some of them.
    """
    inner_models = dict(_of_keras_hub(model))
    try:
        for place, names in record.get(FROZEN, {}).items():
            for name in names:
                inner_models[place].get_layer(name).trainable = False
        for number, _ in enumerate(record.get("members", [])):
            if not isinstance(model.get_layer(f"member{number}"), keras.Model):
                raise ValueError(f"member{number} is no model")
    except (KeyError, ValueError) as error:
        raise DamagedError(
            f"{path}: what this program noted in it ({RECORD}) is of another model: {one_line(error)}. {MADE_HERE}"
        ) from None


def _frozen(model: Any) -> dict[str, list[str]]:
    """The frozen layers in models of keras_hub, which do not save this themselves, by the place of the model."""
    frozen = {
        place: [layer.name for layer in inner.layers if not layer.trainable] for place, inner in _of_keras_hub(model)
    }
    return {place: names for place, names in frozen.items() if names}


def _of_keras_hub(model: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """The models of keras_hub inside a model, and their places, such as "member0/backbone"."""
    for layer in getattr(model, "layers", []):
        if type(layer).__module__.startswith("keras_hub."):
            yield f"{above}{layer.name}", layer
        elif isinstance(layer, keras.Model) and layer is not model:
            yield from _of_keras_hub(layer, f"{above}{layer.name}/")


def _why_not(path: Path, error: Exception, remedy: str) -> str:
    """Why a file cannot be loaded, and what to do: the rest of a sentence that begins with its name."""
    if "arbitrary code execution" in str(error) or "safe_mode" in str(error):
        return (
            "wants to run code of its own when it is loaded, as a Lambda layer does. Nobody can see from the file what "
            "that code will do, so it is refused. Replace such layers by Keras' own, and save the model again."
        )
    if version := keras_2_version(path):
        return f"was written by Keras {version}, and Keras {keras.__version__} cannot read it. {OF_KERAS_2}"
    foreign = foreign_layers(path)
    if foreign and all(name.startswith("keras_hub.") for name in foreign) and not hub.is_installed():
        return f"has layers of keras_hub, and that package is not installed: {hub.INSTALL}"
    if foreign:
        return (
            f"has layers that are not Keras' own, and the file lacks their code: {first_few(foreign)}. Build the "
            "model from Keras' own layers only, copy the weights with `layer.set_weights`, and save that model. For a "
            "teacher, `model.export('NAME.onnx', format='onnx')` where that code is will do."
        )
    return f"cannot be loaded as a Keras model: {one_line(error).rstrip('.')}. {remedy}"


def load_classifier(path: Path, class_names: Sequence[str]) -> Any:
    """As `load`, for a model that must classify images into C classes.

    Raises:
        MissingError: there is no such file.
        DamagedError: it is not a whole `.keras` file.
        UnusableError: the model does not take images of a fixed size, or does not give one row of logits for each.
        MismatchError: it gives another number of logits, or was trained on other classes.
    """
    model = load(path)
    refuse_unfit(model, path, class_names)
    return model


def refuse_unfit(model: Any, path: Path, class_names: Sequence[str]) -> None:
    """The checks of `load_classifier`, for a model that is loaded; the errors are the same."""
    refuse_no_classifier(model, path)
    refuse_other_count(model.output_shape[-1], path, len(class_names))
    refuse_other_classes(path, read_record(path), class_names)


def refuse_other_classes(path: Path, record: Mapping[str, Any] | None, class_names: Sequence[str]) -> None:
    """Compares the classes in the record of a file with those of the data set.

    Raises:
        MismatchError: they differ.
    """
    if record is not None and record["class_names"] != list(class_names):
        raise MismatchError(other_classes(path, record["class_names"], class_names))


def other_classes(path: Path | str, recorded: Sequence[str], class_names: Sequence[str]) -> str:
    """The message about a model that was trained on other classes, or on the same ones in another order."""
    of_model, of_data = (first_few([repr(name) for name in names]) for names in (recorded, class_names))
    order = " in this order" if sorted(recorded) == sorted(class_names) else ""
    return (
        f"{path} was trained on the classes {of_model}{order}, but the data set has {of_data}. "
        "Train it on this data set with `dvc repro`, or give another file in train_teacher.model."
    )


def refuse_other_count(outputs: int, path: Path | str, classes: int) -> None:
    """Compares the number of a model's outputs with that of the data set's classes.

    Raises:
        MismatchError: they differ.
    """
    if outputs != classes:
        more = "name its outputs in train_teacher.classes, train" if outputs > classes else "train"
        raise MismatchError(
            f"{path} gives {outputs} logits, but the data set has {classes} classes. "
            f"{more.capitalize()} it on this data set with `dvc repro`, or give another file."
        )


def refuse_no_classifier(model: Any, path: Path) -> None:
    """Checks the shapes of a model's input and output.

    Raises:
        UnusableError: it does not take images of a fixed size, or does not give one row of outputs for each.
    """
    batch: Any = getattr(model, "input_shape", None)  # a model that was never built has none
    logits: Any = getattr(model, "output_shape", None)
    if not (_is_of_one_tensor(batch) and _is_of_one_tensor(logits) and len(logits) == 2):
        raise UnusableError(
            f"{path} does not classify images: it takes {batch} and gives {logits}; expected one batch of images, "
            "(batch, height, width, channels), and one of logits, (batch, classes)."
        )
    input_shape = batch[1:]
    if len(input_shape) != 3 or None in input_shape or input_shape[2] not in (1, 3):
        raise UnusableError(
            f"{path} takes inputs of shape {input_shape}; expected images of a fixed size, (height, width, 1 or 3). "
            f"{_other_input(input_shape)}"
        )


def _other_input(input_shape: tuple[int | None, ...]) -> str:
    """The remedy for a model that does not take images of a fixed size with 1 or 3 channels."""
    if len(input_shape) != 3:
        return (
            "If it takes the pixels in another shape, begin a new model with `keras.Input((height, width, channels))` "
            "and `keras.layers.Reshape`, append this model, and save both as one."
        )
    if None in input_shape:
        return "Build the same model with an input of a fixed size, and copy the weights with `model.set_weights`."
    return (
        "Images are read as grey (1 channel) or RGB (3). If the other channels can be computed from these (such as an "
        "alpha that is always 255), begin a new model with 3 channels and with Keras' layers that add the others, "
        "append this model, and save both as one. Otherwise use a teacher of RGB or grey images."
    )


def of_one_tensor(model: Any) -> Any:
    """The same layers as a model from one tensor to one tensor.

    Keras also lets a model's only input or output lie inside a map or lists.

    Args:
        model: a model that `refuse_no_classifier` takes.
    """
    ends = getattr(model, "input", None), getattr(model, "output", None)
    if all(end is None or keras.utils.is_keras_tensor(_out_of_a_list(end)) for end in ends):
        return model
    return keras.Model(model.inputs[0], model.outputs[0], name=model.name)


def _out_of_a_list(tensors: Any) -> Any:
    return tensors[0] if isinstance(tensors, list | tuple) and len(tensors) == 1 else tensors


def _is_of_one_tensor(shape: Any) -> bool:
    return isinstance(shape, tuple) and all(size is None or isinstance(size, int) for size in shape)


def architecture(path: Path) -> dict[str, Any]:
    """The layers of a `.keras` file, as Keras serializes them."""
    with zipfile.ZipFile(path) as archive:
        layers: dict[str, Any] = read_member(archive, CONFIG)
    return layers


def refuse_probabilities(model: Any, path: Path | str) -> None:
    """Checks a model's last activation.

    Raises:
        UnusableError: it is softmax or sigmoid.
    """
    if last_activation(model) in PROBABILITIES:
        raise UnusableError(f"{path} {NO_LOGITS} `train_teacher.model: FILE` does that in a copy.")


def _reproducible(content: bytes) -> bytes:
    """Numbers shared objects in their order of appearance, and replaces the date."""
    numbers: dict[int, int] = {}

    def clean(node: Any) -> Any:
        if isinstance(node, list):
            return [clean(item) for item in node]
        if not isinstance(node, dict):
            return node
        cleaned = {key: clean(value) for key, value in node.items()}
        if "shared_object_id" in cleaned:
            cleaned["shared_object_id"] = numbers.setdefault(cleaned["shared_object_id"], len(numbers))
        if "date_saved" in cleaned:
            cleaned["date_saved"] = "1980-01-01@00:00:00"
        return cleaned

    return json.dumps(clean(json.loads(content))).encode()
