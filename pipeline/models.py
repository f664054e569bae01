"""The models: preprocessing, backbone and head in one Keras model from pixels (0 to 255) to logits.

Every model is a chain: input, preprocessing, backbone (a nested model), pooling, optional batch
normalisation, optional dropout, dense logits. No TensorFlow is imported here.
"""

import os
import socket
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from pipeline.errors import PipelineError


@dataclass(frozen=True)
class Backbone:
    """How to build one architecture's feature extractor.

    Attributes:
        build: takes `input_shape`, `weights` and the architecture's own options; returns a Keras model.
        preprocessing: which of `PREPROCESSING` its weights expect.
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


def _cnn(*, input_shape: Sequence[int], weights: None, filters: Sequence[int], downsampling: str) -> Any:
    """3x3 convolutions with ReLU, each halving the image by its stride or by 2x2 max pooling."""
    features = inputs = keras.Input(tuple(input_shape), name="pixels")
    for number, count in enumerate(filters, 1):
        stride = 2 if downsampling == "stride" else 1
        convolution = keras.layers.Conv2D(
            count, 3, strides=stride, padding="same", activation="relu", name=f"conv{number}"
        )
        features = convolution(features)
        if downsampling == "max_pooling":
            features = keras.layers.MaxPooling2D(2, padding="same", name=f"max_pooling{number}")(features)
    return keras.Model(inputs, features, name="cnn")


_TF = "weights_tf_dim_ordering_tf_kernels"
ARCHITECTURES = {
    "cnn": Backbone(_cnn, "unit"),
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

PREPROCESSING = {
    "none": "pixels 0 to 255 (the backbone rescales them itself)",
    "unit": "pixels / 255",
    "symmetric": "pixels / 127.5 - 1",
    "caffe": "channels in the order BGR, less the ImageNet means 103.939, 116.779, 123.68",
}

POOLING = {
    "avg": keras.layers.GlobalAveragePooling2D,
    "max": keras.layers.GlobalMaxPooling2D,
    "flatten": keras.layers.Flatten,
}


def build(
    *,
    architecture: str,
    input_shape: Sequence[int],
    classes: int,
    seed: int,
    weights: str | None,
    pooling: str,
    batch_normalization: bool,
    dropout: float,
    **options: Any,
) -> Any:
    """Builds an untrained model, or one with a pretrained backbone.

    Args:
        architecture: one of `ARCHITECTURES`.
        input_shape: (height, width, channels).
        classes: C, the number of logits.
        seed: of the initial weights. Keras' global state is cleared, so that the same arguments give the
            same names and weights in any process.
        weights: None (random), "imagenet", or a file of backbone weights.
        pooling: one of `POOLING`.
        batch_normalization: whether the pooled features are normalised.
        dropout: fraction of the pooled features dropped in training, 0 to 1.
        **options: the architecture's own: `alpha` for mobilenetv2; `filters` and `downsampling` for cnn.

    Returns:
        A Keras model from (B, height, width, channels) pixels to (B, C) logits.

    Raises:
        PipelineError: the weights are not to be had.
    """
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    entry = ARCHITECTURES[architecture]
    with _weights_errors(architecture, entry, weights, input_shape, options):
        backbone = entry.build(input_shape=input_shape, weights=weights, **options)
    backbone.name = "backbone"
    head = [POOLING[pooling](name="pooling")]
    if batch_normalization:
        head.append(keras.layers.BatchNormalization(name="head_normalization"))
    if dropout:
        head.append(keras.layers.Dropout(dropout, name="dropout"))
    head.append(keras.layers.Dense(classes, name="logits", dtype="float32"))
    return _chain([*_preprocessing(entry.preprocessing), backbone, *head], input_shape, architecture)


def for_phase(model: Any, trainable_from: str | int | None) -> Any:
    """Rewires the same layers for one phase of training.

    Args:
        model: a model of `build`.
        trainable_from: None trains the head only, with the backbone in inference mode (no dropout, no
            batch statistics); "all" trains every layer; a layer's number or name in the backbone trains
            that layer and all above it.

    Returns:
        An uncompiled model that shares its layers with `model`.

    Raises:
        PipelineError: the backbone has no such layer.
    """
    backbone = model.get_layer("backbone")
    backbone.trainable = True
    first = _first_trainable(backbone, trainable_from)
    for number, layer in enumerate(backbone.layers):
        layer.trainable = number >= first
    operations = model.operations[1:]
    if trainable_from is None:
        operations = [_InferenceMode(operation) if operation is backbone else operation for operation in operations]
    return _chain(operations, model.input_shape[1:], model.name)


def _chain(operations: Sequence[Any], input_shape: Sequence[int], name: str) -> Any:
    features = inputs = keras.Input(tuple(input_shape), name="pixels")
    for operation in operations:
        features = operation(features)
    return keras.Model(inputs, features, name=name)


class _InferenceMode(keras.layers.Layer):
    """Calls a model in inference mode, also where its caller trains.

    `model(inputs, training=False)` in a functional graph does not: the outer model's mode overrides it
    (Keras 3.15), so that a frozen backbone would still drop paths.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(name=f"{model.name}_in_inference_mode")
        self.model = model

    def call(self, inputs: Any) -> Any:
        return self.model(inputs, training=False)


def _preprocessing(kind: str) -> list[Any]:
    if kind == "none":
        return []
    if kind == "caffe":
        offset = [-103.939, -116.779, -123.68]
        return [_reverse_channels(), keras.layers.Rescaling(1.0, offset, name="rescaling")]
    scale, offset_ = {"unit": (1 / 255, 0.0), "symmetric": (1 / 127.5, -1.0)}[kind]
    return [keras.layers.Rescaling(scale, offset_, name="rescaling")]


def _reverse_channels() -> Any:
    pixels = keras.Input((None, None, 3), name="rgb")
    return keras.Model(pixels, keras.ops.flip(pixels, axis=-1)).operations[-1]


def _first_trainable(backbone: Any, trainable_from: str | int | None) -> int:
    count = len(backbone.layers)
    if trainable_from is None:
        return count
    if trainable_from == "all":
        return 0
    names = [layer.name for layer in backbone.layers]
    if isinstance(trainable_from, int) and 0 <= trainable_from < count:
        return trainable_from
    if trainable_from in names:
        return names.index(str(trainable_from))
    raise PipelineError(
        f"trainable_from is {trainable_from!r}, but the backbone has no such layer. Expected null (head only), "
        f"'all', a number from 0 to {count - 1}, or a layer's name, such as {names[count // 2]!r}."
    )


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
        raise PipelineError(
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
            raise PipelineError(
                f"the ImageNet weights of {architecture} are neither in Keras' folder nor can they be downloaded. "
                f"Put the file at {where} (the environment variable KERAS_HOME moves the folder), "
                "or set weights to a file or to null in params.yaml."
            ) from None
        if not isinstance(error, ValueError | OSError | LookupError | UserWarning):
            raise
        if weights is None:
            raise PipelineError(
                f"{architecture} cannot be built for input_shape {list(input_shape)}: {error}"
            ) from None
        raise PipelineError(f"the weights {weights} do not fit {architecture}: {error}") from None
    finally:
        socket.setdefaulttimeout(timeout)


def _imagenet_path(entry: Backbone, input_shape: Sequence[int], options: dict[str, Any]) -> Path:
    height, width = input_shape[:2]
    size = height if height == width and height in (96, 128, 160, 192, 224) else 224
    home = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    return home / "models" / str(entry.imagenet_file).format(size=size, **options)
