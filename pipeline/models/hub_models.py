"""Image classifiers and backbones of keras_hub, as Keras models that this program can save and train."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pipeline.models import hub_trial
from pipeline.models.hub import OF_THE_HEAD, errors_of, folder_of, keras_hub, model_name, no_head, place_of
from pipeline.models.keras_archive import refuse_large_outputs, weights_within
from pipeline.models.last_activation import PROBABILITIES, last_activation
from pipeline.models.parts import Affine, Preprocessing
from pipeline.runtime.errors import DamagedError, ParameterError, UnusableError, one_line, shortened
from pipeline.runtime.limits import limits

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
    keras_hub()
    shape = tuple(input_shape)
    hub_trial.try_preset(preset, untried_backbone.__name__, shape, with_weights)
    return untried_backbone(preset, shape, with_weights)


def untried_backbone(preset: str, input_shape: Sequence[int], with_weights: bool) -> Any:
    """As `backbone`, in whatever process."""
    hub = keras_hub()
    with errors_of(preset):
        found = _from_preset(preset, hub.models.Backbone, with_weights=with_weights)
        sized = _of_shape(found, preset, tuple(input_shape), with_weights)
        refuse_large_outputs(sized, Path(preset))
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
    hub, place = keras_hub(), place_of(preset)
    lacking = ParameterError(
        f"keras_hub:{preset} does not say how pixels are preprocessed: it has no image converter. Set "
        "`preprocessing` of the model in params.yaml to what its weights expect, or to unit."
    )
    if (folder := folder_of(preset)) is not None:
        hub_trial.refuse_costly(folder)
    with errors_of(preset, without_converter=lacking):
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
    if folder is not None and (folder / "task.json").is_file() and not (folder / OF_THE_HEAD).is_file():
        raise DamagedError(
            f"the folder {folder} lacks {OF_THE_HEAD}, so that its classifier would get random weights. "
            "Save it again, with `classifier.save_to_preset(FOLDER)`."
        )
    keras_hub()
    hub_trial.try_preset(preset, untried_model.__name__)
    return untried_classifier(preset)


def untried_model(preset: str) -> Any:
    """The model of `untried_classifier`."""
    return untried_classifier(preset).model


def untried_classifier(preset: str) -> Classifier:
    """As `classifier`, in whatever process."""
    hub = keras_hub()
    with errors_of(preset, without_converter=no_head(preset)):
        task = _from_preset(preset, hub.models.ImageClassifier)
        if task.preprocessor is not None and not hasattr(task.preprocessor, "image_converter"):
            raise UnusableError(
                f"keras_hub:{preset} preprocesses images in a way of its own. Save it with a preprocessor that has a "
                "`keras_hub.layers.ImageConverter`."
            )
        converter = getattr(task.preprocessor, "image_converter", None)
        pixels = keras.Input(_shape_for(task, converter, preset), name="pixels")
        nested = _nested(task.backbone)
        model = keras.models.clone_model(
            task, input_tensors=pixels, clone_function=lambda layer: nested if layer is task.backbone else layer
        )
        model.name = model_name(preset)
        refuse_large_outputs(model, Path(preset))
        return Classifier(
            model,
            _switch_off(model),
            None if converter is None else _preprocessing_of(converter),
            [] if converter is None or converter.image_size is None else [_resizing_of(converter)],
        )


def _from_preset(preset: str, of: Any, *, with_weights: bool = True) -> Any:
    """The model of a preset, with no more weights than the files of its folder can hold.

    Args:
        preset: its name, address or folder.
        of: the class of keras_hub that loads it.
        with_weights: whether it gets the preset's weights; if not, new ones from Keras' global seed.
    """
    place = place_of(preset)
    if (folder := folder_of(preset)) is None:
        return of.from_preset(place, load_weights=with_weights)
    most, size = limits().model_parameters, hub_trial.refuse_costly(folder)
    if with_weights and size:  # keras_hub says what is missing where there are no weights
        most = min(most, size)
    with weights_within(most, preset, hub_trial.REMEDY):
        return of.from_preset(place, load_weights=with_weights)


def _of_shape(found: Any, preset: str, input_shape: tuple[int, ...], with_weights: bool) -> Any:
    """The same backbone for images of another shape, with the same weights or with new ones."""
    config = found.get_config()
    key = next((key for key in OWN_SHAPE if key in config), None)
    if key is None:
        raise UnusableError(f"keras_hub:{preset} is no backbone for images. `softlabel models keras_hub` lists some.")
    if tuple(config[key]) == input_shape:
        return found
    try:
        with weights_within(limits().model_parameters, preset):
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
    return Affine(_numbers(converter.scale, 1.0), _numbers(converter.offset, 0.0))


def _numbers(stated: Any, default: float) -> float | list[float]:
    if stated is None:
        return default
    found = np.asarray(stated, np.float64)
    if found.shape not in ((), (1,), (3,)) or not np.isfinite(found).all():
        raise ValueError(f"its image converter has the scale or offset {shortened(repr(stated), 60)}")
    numbers: float | list[float] = found.tolist()
    return numbers


def _resizing_of(converter: Any) -> str:
    fit = "crop" if converter.crop_to_aspect_ratio else "pad" if converter.pad_to_aspect_ratio else "stretch"
    return (
        f"its image converter resizes by {{method: {converter.interpolation}, antialias: "
        f"{str(converter.antialias).lower()}, fit: {fit}}}: compare images.resize"
    )
