"""Backbones: the feature extractors of the architectures, with or without pretrained weights."""

import os
import socket
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from pipeline.runtime.errors import MismatchError, MissingError, ParameterError


@dataclass(frozen=True)
class Backbone:
    """How to build one architecture's feature extractor.

    Attributes:
        build: takes `input_shape`, `weights` and the architecture's own options; returns a Keras model.
        preprocessing: which of `models.PREPROCESSING` its weights expect.
        imagenet_file: name under which Keras looks for its ImageNet weights, with the options' names in
            braces; None where there are none.
    """

    build: Callable[..., Any]
    preprocessing: str
    imagenet_file: str | None = None


def _application(constructor: Callable[..., Any]) -> Callable[..., Any]:
    def build(*, input_shape: Sequence[int], weights: str | None, **options: Any) -> Any:
        return constructor(include_top=False, input_shape=tuple(input_shape), weights=weights, **options)

    return build


def _cnn(
    *,
    input_shape: Sequence[int],
    weights: None,
    filters: Sequence[int],
    downsampling: str,
    kernel_size: int = 3,
    padding: str = "same",
    factor: int | Sequence[int] = 2,
) -> Any:
    """Convolutions with ReLU, each dividing the image's sides by its factor, with its stride or by max pooling."""
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
    return keras.Model(inputs, features, name="cnn")


def _mlp(*, input_shape: Sequence[int], weights: None) -> Any:
    """The pixels in one row: all layers with weights are those of the head."""
    inputs = keras.Input(tuple(input_shape), name="pixels")
    return keras.Model(inputs, keras.layers.Flatten(name="row")(inputs), name="mlp")


_TF = "weights_tf_dim_ordering_tf_kernels"
ARCHITECTURES = {
    "cnn": Backbone(_cnn, "unit"),
    "mlp": Backbone(_mlp, "unit"),
    "resnet50v2": Backbone(_application(keras.applications.ResNet50V2), "symmetric", f"resnet50v2_{_TF}_notop.h5"),
    "resnet50": Backbone(_application(keras.applications.ResNet50), "caffe", f"resnet50_{_TF}_notop.h5"),
    "resnet152": Backbone(_application(keras.applications.ResNet152), "caffe", f"resnet152_{_TF}_notop.h5"),
    "mobilenetv2": Backbone(
        _application(keras.applications.MobileNetV2),
        "symmetric",
        f"mobilenet_v2_{_TF}_{{alpha}}_{{size}}_no_top.h5",
    ),
    "efficientnetb0": Backbone(_application(keras.applications.EfficientNetB0), "none", "efficientnetb0_notop.h5"),
}


def build_backbone(architecture: str, input_shape: Sequence[int], weights: str | None, **options: Any) -> Any:
    """Builds one of `ARCHITECTURES`.

    Args:
        architecture: its name.
        input_shape: (height, width, channels).
        weights: None (random), "imagenet", or a file of backbone weights.
        **options: the architecture's own: `alpha` for mobilenetv2; `filters`, `downsampling`, `kernel_size`, `padding`
            and `factor` for cnn.

    Returns:
        A Keras model named "backbone".

    Raises:
        MissingError: the weights are not to be had.
        MismatchError: they are those of another model.
        ParameterError: the input shape does not fit.
    """
    entry = ARCHITECTURES[architecture]
    with _weights_errors(architecture, entry, weights, input_shape, options):
        backbone = entry.build(input_shape=input_shape, weights=weights, **options)
    backbone.name = "backbone"
    return backbone


@contextmanager
def _weights_errors(
    architecture: str,
    entry: Backbone,
    weights: str | None,
    input_shape: Sequence[int],
    options: dict[str, Any],
) -> Iterator[None]:
    """Turns failures to load weights into errors that say where a file is expected."""
    if weights not in (None, "imagenet") and not Path(str(weights)).is_file():
        raise MissingError(
            f"there is no weights file at {weights}. Put it there, or set weights to imagenet or null in params.yaml."
        )
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(10)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Skipping", UserWarning)  # layers that would keep random weights
            yield
    except Exception as error:  # Keras raises a plain Exception where a download fails
        if "URL fetch failure" in str(error):
            where = _imagenet_path(entry, input_shape, options)
            raise MissingError(
                f"the ImageNet weights of {architecture} are neither in Keras' folder nor can they be downloaded. "
                f"Put the file at {where} (the environment variable KERAS_HOME moves the folder), "
                "or set weights to a file or to null in params.yaml."
            ) from None
        if not isinstance(error, ValueError | OSError | LookupError | UserWarning):
            raise
        if weights is None:
            raise ParameterError(
                f"{architecture} cannot be built for input_shape {list(input_shape)}: {error}"
            ) from None
        raise MismatchError(f"the weights {weights} do not fit {architecture}: {error}") from None
    finally:
        socket.setdefaulttimeout(timeout)


def _imagenet_path(entry: Backbone, input_shape: Sequence[int], options: dict[str, Any]) -> Path:
    height, width = input_shape[:2]
    size = height if height == width and height in (96, 128, 160, 192, 224) else 224
    home = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    return home / "models" / str(entry.imagenet_file).format(size=size, **options)
