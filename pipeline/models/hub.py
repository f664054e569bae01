"""Image classifiers and backbones of keras_hub: its presets, or folders that `save_to_preset` writes.

keras_hub is an extra of this package. It is imported only where a preset is built or listed.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras

from pipeline.models.last_activation import PROBABILITIES, last_activation
from pipeline.models.parts import Affine, Preprocessing
from pipeline.runtime.digests import fingerprint, sha256_file
from pipeline.runtime.errors import (
    DamagedError,
    MissingError,
    ParameterError,
    PipelineError,
    UnusableError,
    nearest,
    one_line,
)

INSTALL = "pip install 'softlabel[hub]'"
OWN_SHAPE = ("image_shape", "input_shape")
"""The names under which backbones of keras_hub keep the shape of their images."""


@dataclass(frozen=True)
class Classifier:
    """An image classifier of keras_hub with its own head.

    Attributes:
        model: from (B, height, width, channels) preprocessed pixels to (B, C) logits; made of Keras' own layers if
            keras_hub made it of these.
        activation: what was switched off at its end, as `last_activation` names it; "linear" if there was nothing.
        preprocessing: what its image converter does to pixels, 0 to 255; None if it has no converter.
        notes: what its user should know, one item each.
    """

    model: Any
    activation: str | None
    preprocessing: Preprocessing | Affine | None
    notes: list[str]


@dataclass(frozen=True)
class Preset:
    """A preset that keras_hub knows by name.

    Attributes:
        name: its name.
        parameters: the number of the backbone's weights.
        is_here: whether its weights are on this machine.
    """

    name: str
    parameters: int
    is_here: bool


def is_installed() -> bool:
    """Whether keras_hub is installed; it is not imported."""
    return find_spec("keras_hub") is not None


def version() -> str:
    """The version of keras_hub, which decides what the name of a preset means."""
    return str(_keras_hub().__version__)


def folder_of(preset: str) -> Path | None:
    """The folder of a preset; None if it is a name or an address. A folder goes before a preset of the same name."""
    return Path(preset) if "://" not in preset and Path(preset).is_dir() else None


def files_of(preset: str) -> list[Path]:
    """The files in a preset's folder, sorted by name; none for a name or an address."""
    folder = folder_of(preset)
    return [] if folder is None else sorted(file for file in folder.rglob("*") if file.is_file())


def digest_of(preset: str) -> str | None:
    """SHA-256 over the names and bytes of the files in a preset's folder; None for a name or an address."""
    if (folder := folder_of(preset)) is None:
        return None
    return fingerprint(**{file.relative_to(folder).as_posix(): sha256_file(file) for file in files_of(preset)})


def model_name(preset: str) -> str:
    """A name for a Keras model, without the path: the last part of the preset that is not a version."""
    parts = [part for part in re.split(r"[/\\]+", preset) if not re.fullmatch(r"[\d.]*", part)]
    return re.sub(r"[^\w.-]", "_", parts[-1]) if parts else "keras_hub"


def presets() -> list[Preset]:
    """The presets of image classifiers that the installed keras_hub knows by name, in the order of the alphabet."""
    cache = Path(os.environ.get("KAGGLEHUB_CACHE") or Path.home() / ".cache" / "kagglehub")
    return [
        Preset(name, about["metadata"]["params"], _is_in(cache, about["kaggle_handle"]))
        for name, about in sorted(_keras_hub().models.ImageClassifier.presets.items())
    ]


def _is_in(cache: Path, handle: str) -> bool:
    folder = cache / "models" / handle.removeprefix("kaggle://")
    return (folder / "config.json").is_file() and any(folder.glob("model*.weights.h5"))


def backbone(preset: str, input_shape: Sequence[int], *, with_weights: bool) -> Any:
    """The backbone of a preset, as a Keras model named "backbone".

    Args:
        preset: its name, address or folder.
        input_shape: (height, width, channels).
        with_weights: whether it gets the preset's weights; if not, new ones from Keras' global seed.

    Returns:
        A model from (B, height, width, channels) to features, (B, rows, columns, F) or (B, tokens, F).

    Raises:
        MissingError: keras_hub or the preset is missing.
        DamagedError: the preset's folder cannot be read.
        UnusableError: it is no backbone for images.
        ParameterError: the input shape does not fit.
    """
    hub, place = _keras_hub(), _place_of(preset)
    with _errors_of(preset):
        found = hub.models.Backbone.from_preset(place, load_weights=with_weights)
    sized = _of_shape(found, preset, tuple(input_shape), with_weights)
    features: Any = sized.output
    if isinstance(features, Mapping) and hasattr(sized, "stage_names"):  # HGNetV2 gives the features of each stage
        pixels = keras.Input(tuple(input_shape), name="pixels")
        return keras.Model(pixels, sized(pixels)[sized.stage_names[-1]], name="backbone")
    if not keras.utils.is_keras_tensor(features) or len(features.shape) not in (3, 4):
        raise UnusableError(f"keras_hub:{preset} gives other features than those of one image. Name another preset.")
    return _nested(sized)


def preprocessing(preset: str) -> Preprocessing | Affine:
    """What the image converter of a preset does to pixels, 0 to 255, but for their size.

    Raises:
        MissingError: keras_hub or the preset is missing.
        DamagedError: the preset's folder cannot be read.
        ParameterError: it has no image converter.
    """
    hub, place = _keras_hub(), _place_of(preset)
    lacking = ParameterError(
        f"keras_hub:{preset} does not say how pixels are preprocessed: it has no image converter. Set "
        "`preprocessing` of the model in params.yaml to what its weights expect, or to unit."
    )
    with _errors_of(preset, without_converter=lacking):
        converter = hub.layers.ImageConverter.from_preset(place)
    if converter is None:
        raise lacking
    return _preprocessing_of(converter)


def classifier(preset: str) -> Classifier:
    """The image classifier of a preset, with its own head and weights.

    Raises:
        MissingError: keras_hub or the preset is missing.
        DamagedError: the preset's folder cannot be read, or lacks the weights of the head.
        UnusableError: it has no head, or does not say for which images it was made.
    """
    folder = folder_of(preset)
    if folder is not None and (folder / "task.json").is_file() and not (folder / "task.weights.h5").is_file():
        raise DamagedError(
            f"the folder {folder} lacks task.weights.h5, so that its classifier would get random weights. "
            "Save it again, with `classifier.save_to_preset(FOLDER)`."
        )
    hub, place = _keras_hub(), _place_of(preset)
    with _errors_of(preset, without_converter=_no_head(preset)):
        task = hub.models.ImageClassifier.from_preset(place)
    converter = None
    if task.preprocessor is not None:
        converter = getattr(task.preprocessor, "image_converter", None)
        if not hasattr(converter, "scale"):
            raise UnusableError(
                f"keras_hub:{preset} preprocesses images in a way of its own. Save it with a preprocessor that has a "
                "`keras_hub.layers.ImageConverter`."
            )
    pixels = keras.Input(_shape_for(task, converter, preset), name="pixels")
    nested = _nested(task.backbone)
    model = keras.models.clone_model(
        task, input_tensors=pixels, clone_function=lambda layer: nested if layer is task.backbone else layer
    )
    model.name = model_name(preset)
    return Classifier(
        model,
        _switch_off(model),
        None if converter is None else _preprocessing_of(converter),
        [] if converter is None or converter.image_size is None else [_resizing_of(converter)],
    )


def _no_head(preset: str) -> UnusableError:
    return UnusableError(
        f"keras_hub:{preset} is a backbone without a classifier. To train one on it, describe the model: "
        f"train_teacher.model: {{architecture: 'keras_hub:{preset}', weights: own, …}}."
    )


def _keras_hub() -> Any:
    """The package keras_hub."""
    if not is_installed():
        raise MissingError(f"models of keras_hub need that package, which is not installed: {INSTALL}")
    import keras_hub

    return keras_hub


def _place_of(preset: str) -> str:
    """A preset as keras_hub takes it: a folder by its whole path, which is no preset's name.

    Raises:
        MissingError: there is neither a preset nor a folder of that name.
    """
    if (folder := folder_of(preset)) is not None:
        return os.path.abspath(folder)
    if "://" not in preset and preset not in _keras_hub().models.Backbone.presets:
        near = nearest(preset, _keras_hub().models.ImageClassifier.presets)
        raise MissingError(
            f"keras_hub has no preset {preset!r}, and there is no folder of that name. `softlabel models keras_hub` "
            "lists the presets; a folder is one that `save_to_preset` wrote."
            + (f" Did you mean {near!r}?" if near else "")
        )
    return preset


@contextmanager
def _errors_of(preset: str, without_converter: PipelineError | None = None) -> Iterator[None]:
    """Turns what keras_hub raises while it loads a preset into errors that say what to do.

    Args:
        preset: the preset.
        without_converter: the error where it has neither a classifier nor an image converter.
    """
    try:
        yield
    except Exception as error:  # each place from which it downloads has errors of its own
        text = str(error)
        if without_converter and isinstance(error, FileNotFoundError) and "image_converter.json" in text:
            raise without_converter from None
        if isinstance(error, TypeError) and "num_classes" in text:
            raise _no_head(preset) from None
        if (folder := folder_of(preset)) is not None:
            raise DamagedError(
                f"the preset of keras_hub in the folder {folder} cannot be loaded: {one_line(text).rstrip('.')}. "
                "Save it again, with `save_to_preset(FOLDER)`."
            ) from None
        raise MissingError(
            f"the preset {preset} of keras_hub cannot be loaded: {one_line(text).rstrip('.')}. Presets are downloaded "
            "when they are first used. Without a network, name a folder that `save_to_preset` wrote: keras_hub:FOLDER. "
            "`softlabel models keras_hub` lists the presets, and which of them are on this machine."
        ) from None


def _of_shape(found: Any, preset: str, input_shape: tuple[int, ...], with_weights: bool) -> Any:
    """The same backbone for images of another shape, with the same weights or with new ones."""
    config = found.get_config()
    key = next((key for key in OWN_SHAPE if key in config), None)
    if key is None:
        raise UnusableError(f"keras_hub:{preset} is no backbone for images. `softlabel models keras_hub` lists some.")
    if tuple(config[key]) == input_shape:
        return found
    try:
        sized = type(found).from_config(config | {key: input_shape})
        if with_weights:
            sized.set_weights(found.get_weights())
    except (ValueError, TypeError, ArithmeticError, LookupError) as error:
        own = "" if None in config[key] else f" Its weights are for {list(config[key])}: set input_shape to that."
        raise ParameterError(
            f"keras_hub:{preset} cannot be built for input_shape {list(input_shape)}: {one_line(error).rstrip('.')}."
            + own
        ) from None
    return sized


def _nested(backbone: Any) -> Any:
    """A backbone as a part of another model; without keras_hub's class if all its layers are Keras' own.

    Other layers of keras_hub cannot be saved one by one: what they write is not always what they take (keras_hub 0.32).
    """
    layers = backbone._flatten_layers(include_self=False)
    if all(type(layer).__module__.startswith("keras.") for layer in layers):
        return keras.Model(backbone.input, backbone.output, name="backbone")
    backbone.name = "backbone"
    return backbone


def _shape_for(task: Any, converter: Any, preset: str) -> tuple[int, ...]:
    """(height, width, channels) of the images for which a classifier was made."""
    *size, channels = task.backbone.input_shape[1:]
    if None in size and converter is not None and converter.image_size is not None:
        size = [*converter.image_size]
    if None in size:
        raise UnusableError(
            f"keras_hub:{preset} does not say for images of which size it was made. Save it with an image converter "
            "that has an `image_size`, or with a backbone that has an `image_shape`."
        )
    return (*size, channels)


def _switch_off(model: Any) -> str | None:
    """Switches a softmax at the end of a model off, or a sigmoid on one output; returns the activation that it had."""
    activation = last_activation(model)
    if activation in PROBABILITIES and (activation == "softmax" or model.output_shape[-1] == 1):
        last = model
        while isinstance(last, keras.Model):
            last = last.layers[-1]
        last.activation = keras.activations.linear
    return activation


def _preprocessing_of(converter: Any) -> Preprocessing | Affine:
    if converter.scale is None and converter.offset is None:
        return "none"
    scale, offset = (
        default if numbers is None else numbers if isinstance(numbers, float | int) else [float(one) for one in numbers]
        for numbers, default in ((converter.scale, 1.0), (converter.offset, 0.0))
    )
    return Affine(scale, offset)


def _resizing_of(converter: Any) -> str:
    fit = "crop" if converter.crop_to_aspect_ratio else "pad" if converter.pad_to_aspect_ratio else "stretch"
    return (
        f"its image converter resizes by {{method: {converter.interpolation}, antialias: "
        f"{str(converter.antialias).lower()}, fit: {fit}}}: compare images.resize"
    )
