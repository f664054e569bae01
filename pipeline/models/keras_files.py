"""`.keras` files that are complete, the same bytes for the same model, and safe to load."""

import json
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from pipeline.models.last_activation import PROBABILITIES, last_activation
from pipeline.models.other_formats import OF_KERAS_2, foreign_layers, keras_2, other_format
from pipeline.runtime.errors import DamagedError, MismatchError, MissingError, UnusableError, first_few, one_line
from pipeline.runtime.publish import replace_whole

LONG_AGO = (1980, 1, 1, 0, 0, 0)
RECORD = "softlabel.json"
"""A member of the archive that Keras leaves alone."""

NO_LOGITS = (
    "gives probabilities, not logits: they cannot be softened at another temperature without loss. "
    "Take away the softmax or sigmoid at its end (activation=None in its last layer)."
)


def save(model: Any, path: Path, record: Mapping[str, Any] | None = None) -> None:
    """Writes a `.keras` file, in one step, and byte for byte the same for the same model.

    Keras stores the date, addresses in memory as `shared_object_id`, and zip times. They are replaced by
    fixed values; the archive's members are sorted.

    Args:
        model: a Keras model.
        path: the file to write.
        record: what is known of the model, JSON-serialisable: `class_names`; of one that was trained here,
            `validation` with `images` (their `fingerprint_of`) and `accuracy`; of one that was given, `given` with the
            `sha256` of its file, the `accuracy` that is stated of it (or None), and what was added to it.
    """
    with replace_whole(path) as partial:
        raw = partial.with_suffix(".raw.keras")
        try:
            model.save(raw)
            with zipfile.ZipFile(raw) as source, zipfile.ZipFile(partial, "x") as target:
                for name in sorted(source.namelist()):
                    content = source.read(name)
                    if name.endswith(".json"):
                        content = _without_accidents(content)
                    target.writestr(zipfile.ZipInfo(name, date_time=LONG_AGO), content)
                if record is not None:
                    target.writestr(zipfile.ZipInfo(RECORD, date_time=LONG_AGO), json.dumps(record, sort_keys=True))
        finally:
            raw.unlink(missing_ok=True)


def load(path: Path) -> Any:
    """Loads a `.keras` file, uncompiled and in safe mode.

    Raises:
        MissingError: there is no such file.
        DamagedError: it is not a whole `.keras` file.
    """
    if (what := other_format(path)) is not None:
        raise DamagedError(f"{path} {what}")
    if not path.is_file():
        raise MissingError(f"there is no model at {path}. Make it with `dvc repro`, or put it there.")
    if not zipfile.is_zipfile(path):
        raise DamagedError(
            f"{path} is no whole `.keras` file (a zip archive with its configuration and weights). "
            "Make it again with `dvc repro`, or, if it is not of this project, with `model.save('NAME.keras')`."
        )
    try:
        with warnings.catch_warnings():  # the optimizer of an inner model that is compiled is of no use here
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
            return keras.saving.load_model(path, compile=False, safe_mode=True)
    except LOADING as error:
        raise DamagedError(f"{path} {_why_not(path, error)}") from None


LOADING = (ValueError, TypeError, LookupError, AttributeError, ImportError, RuntimeError, OSError, zipfile.BadZipFile)
"""What Keras raises when it cannot load a file."""


def _why_not(path: Path, error: Exception) -> str:
    """Why a file cannot be loaded, and what to do; goes on after its name."""
    if "arbitrary code execution" in str(error) or "safe_mode" in str(error):
        return (
            "wants to run code of its own when it is loaded, as a Lambda layer does. Nobody can see from "
            "a file what that code will do, so it is refused. Save the model without such layers, with those of "
            "Keras in their place."
        )
    if version := keras_2(path):
        return f"was written by Keras {version}, and Keras {keras.__version__} cannot read it. {OF_KERAS_2}"
    if foreign := foreign_layers(path):
        return (
            f"has layers that are not Keras' own, whose code is not in the file: {first_few(foreign)}. Build the model "
            "from Keras' own layers only, copy the weights with `layer.set_weights`, and save that."
        )
    return (
        f"cannot be loaded as a Keras model: {one_line(error).rstrip('.')}. Make it again with `dvc repro`, "
        "or, if it is not of this project, from Keras' own layers only."
    )


def load_classifier(path: Path, class_names: Sequence[str]) -> Any:
    """As `load`, for a model that must tell C classes apart.

    Raises:
        PipelineError: as `load`, or the model gives another number of logits, takes no images of a fixed size, or
            was trained on other classes.
    """
    model = load(path)
    refuse_other_shapes(model, path, len(class_names))
    record = read_record(path)
    if record is not None and record["class_names"] != list(class_names):
        raise MismatchError(other_classes(path, record["class_names"], class_names))
    return model


def other_classes(path: Path, recorded: Sequence[str], class_names: Sequence[str]) -> str:
    """What to say of a model of other classes, or of the same in another order."""
    its, data = (first_few([repr(name) for name in names]) for names in (recorded, class_names))
    order = " in this order" if sorted(recorded) == sorted(class_names) else ""
    return (
        f"{path} was trained on the classes {its}{order}, but the data set has {data}. Train it on this data set with "
        "`dvc repro`, or give another file in train_teacher.model."
    )


def refuse_other_shapes(model: Any, path: Path, classes: int) -> None:
    """Looks at what a model takes and gives.

    Raises:
        UnusableError: it does not take images of a fixed size, or does not give one row of outputs for each.
        MismatchError: it gives another number of logits than `classes`.
    """
    refuse_no_classifier(model, path)
    refuse_other_count(model.output_shape[-1], path, classes)


def refuse_other_count(outputs: int, path: Path, classes: int) -> None:
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
    """Looks at what a model takes and gives.

    Raises:
        UnusableError: it does not take images of a fixed size, or does not give one row of outputs for each.
    """
    taken: Any = getattr(model, "input_shape", None)
    given: Any = getattr(model, "output_shape", None)
    if not (_is_of_one_tensor(taken) and _is_of_one_tensor(given) and len(given) == 2):
        raise UnusableError(
            f"{path} is no classifier of images: it takes {taken} and gives {given}; expected one batch of images, "
            "(batch, height, width, channels), and one of logits, (batch, classes)."
        )
    input_shape = taken[1:]
    if len(input_shape) != 3 or None in input_shape or input_shape[2] not in (1, 3):
        raise UnusableError(
            f"{path} takes inputs of shape {input_shape}; expected images of a fixed size, (height, width, 1 or 3). "
            f"{_other_input(input_shape)}"
        )


def _other_input(input_shape: tuple[int | None, ...]) -> str:
    """What to do with a model that takes something else than images of a fixed size with 1 or 3 channels."""
    if len(input_shape) != 3:
        return (
            "If it takes the pixels in another shape, begin a new model with `keras.Input((height, width, channels))` "
            "and `keras.layers.Reshape`, put this one behind them, and save both as one."
        )
    if None in input_shape:
        return "Build the same model with an input of a fixed size, and copy the weights with `model.set_weights`."
    return (
        "Images are read in grey (1) or RGB (3), so what the others hold is not there. If they can be computed of "
        "those (such as an alpha that is always 255), begin a new model with 3 channels and Keras' layers that add "
        "them, put this one behind, and save both as one. Else take a teacher of RGB or grey images."
    )


def of_one_tensor(model: Any) -> Any:
    """The same layers from one tensor to one, if the only tensor that a model takes or gives is inside a map or lists.

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


def read_record(path: Path) -> dict[str, Any] | None:
    """What `save` recorded in a `.keras` file; None in a file that it did not write."""
    with zipfile.ZipFile(path) as archive:
        if RECORD not in archive.namelist():
            return None
        record: dict[str, Any] = json.loads(archive.read(RECORD))
    return record


def architecture(path: Path) -> dict[str, Any]:
    """The layers of a `.keras` file's model, as Keras serializes them."""
    with zipfile.ZipFile(path) as archive:
        layers: dict[str, Any] = json.loads(archive.read("config.json"))
    return layers


def refuse_probabilities(model: Any, path: Path | str) -> None:
    """Looks at the last activation of a model.

    Raises:
        UnusableError: it is softmax or sigmoid.
    """
    if last_activation(model) in PROBABILITIES:
        raise UnusableError(f"{path} {NO_LOGITS} `train_teacher.model: FILE` does so in a copy.")


def _without_accidents(content: bytes) -> bytes:
    """Renumbers shared objects in order of appearance and fixes the date."""
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
