"""Feature extractors: Keras models named "backbone", with or without pretrained weights."""

import re
import socket
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras

from pipeline.models.applications import applications, weights_folder
from pipeline.models.parts import Downsampling, Padding
from pipeline.runtime.errors import MismatchError, MissingError, ParameterError


def cnn(
    input_shape: Sequence[int],
    *,
    filters: Sequence[int],
    downsampling: Downsampling,
    kernel_size: int,
    padding: Padding,
    factor: int | Sequence[int],
) -> Any:
    """Convolutions with ReLU. Each divides the image's sides by its factor, by its stride or by max pooling.

    Args:
        input_shape: (height, width, channels).
        filters: the number of filters of each convolution.
        downsampling: how each convolution shrinks the image.
        kernel_size: side of the convolutions in pixels.
        padding: of convolutions and pooling.
        factor: one number for all convolutions, or one each.

    Raises:
        ParameterError: the images are too small for these convolutions.
    """
    with _weights_errors("cnn", None, input_shape):
        factors = [factor] * len(filters) if isinstance(factor, int) else factor
        features = inputs = keras.Input(tuple(input_shape), name="pixels")
        for number, (count, shrink) in enumerate(zip(filters, factors, strict=True), 1):
            stride = shrink if downsampling == "stride" else 1
            convolution = keras.layers.Conv2D(
                count, kernel_size, strides=stride, padding=padding, activation="relu", name=f"conv{number}"
            )
            features = convolution(features)
            if downsampling == "max_pooling" and shrink > 1:
                features = keras.layers.MaxPooling2D(shrink, padding=padding, name=f"max_pooling{number}")(features)
        return keras.Model(inputs, features, name="backbone")


def mlp(input_shape: Sequence[int]) -> Any:
    """The pixels, (height, width, channels), in one row. It has no weights: all of them are in the head."""
    inputs = keras.Input(tuple(input_shape), name="pixels")
    return keras.Model(inputs, keras.layers.Flatten(name="row")(inputs), name="backbone")


def pretrained(architecture: str, input_shape: Sequence[int], weights: str | None, alpha: float | None = None) -> Any:
    """The backbone of one of `applications`.

    Args:
        architecture: its name.
        input_shape: (height, width, channels).
        weights: None (random), "imagenet", or a file of backbone weights.
        alpha: the width of a MobileNet; None for 1.0, and for all others.

    Raises:
        MissingError: there is no such file, or the weights cannot be downloaded.
        MismatchError: the weights are those of another model.
        ParameterError: the input shape does not fit.
    """
    options = {} if alpha is None else {"alpha": alpha}
    constructor = applications()[architecture].constructor
    with _weights_errors(architecture, weights, input_shape):
        backbone = constructor(include_top=False, input_shape=tuple(input_shape), weights=weights, **options)
    backbone.name = "backbone"
    return backbone


def imagenet_classifier(architecture: str) -> Any:
    """One of `applications` with its ImageNet weights and its own head, without its softmax.

    Returns:
        A Keras model from (B, height, width, 3) pixels, preprocessed as its module does it, to (B, 1000) logits.

    Raises:
        MissingError: the weights cannot be downloaded.
    """
    constructor = applications()[architecture].constructor
    with keras.StatelessScope():  # variables have a shape here, and no memory
        side = constructor(weights=None).input_shape[1] or 224  # MobileNetV3 takes any size; its weights are of 224
    keras.utils.clear_session(free_memory=False)
    input_shape = (side, side, 3)
    with _weights_errors(architecture, "imagenet", input_shape, "name another teacher in train_teacher.model"):
        return constructor(weights="imagenet", input_shape=input_shape, classifier_activation=None)


@contextmanager
def _weights_errors(
    architecture: str,
    weights: str | None,
    input_shape: Sequence[int],
    otherwise: str = "set weights to a file or to null in params.yaml",
) -> Iterator[None]:
    """Turns Keras' exceptions into errors that name the cause and, for missing weights, where their file belongs.

    Args:
        architecture: the name of the model.
        weights: its weights, as `pretrained` takes them.
        input_shape: (height, width, channels).
        otherwise: what to do where the ImageNet weights cannot be had, as the end of a sentence.
    """
    if weights not in (None, "imagenet") and not Path(str(weights)).is_file():
        raise MissingError(
            f"there is no weights file at {weights}. Put it there, or set weights to imagenet or null in params.yaml."
        )
    timeout = socket.getdefaulttimeout()  # Keras' download sets none, and would wait for ever
    socket.setdefaulttimeout(10)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Skipping", UserWarning)  # layers that would keep random weights
            yield
    except Exception as error:  # Keras raises a plain Exception where a download fails
        if address := re.match(r"URL fetch failure on (\S+): ", str(error)):
            raise MissingError(
                f"the ImageNet weights of {architecture} are neither in Keras' folder nor can they be downloaded. "
                f"Put the file at {weights_folder() / Path(address[1]).name} (the environment variable KERAS_HOME "
                f"moves the folder), or {otherwise}."
            ) from None
        if isinstance(error, OSError) and weights == "imagenet":
            raise MissingError(
                f"the ImageNet weights of {architecture} cannot be kept in {weights_folder()}: {error}. Set the "
                "environment variable KERAS_HOME to a folder that you may write."
            ) from None
        if not isinstance(error, ValueError | OSError | LookupError | UserWarning):
            raise  # a defect of the program, for which weights and input_shape must not be blamed
        if weights is None:
            raise ParameterError(
                f"{architecture} cannot be built for input_shape {list(input_shape)}: {error}"
            ) from None
        raise MismatchError(f"the weights {weights} do not fit {architecture}: {error}") from None
    finally:
        socket.setdefaulttimeout(timeout)
