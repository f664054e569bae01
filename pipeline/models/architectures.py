"""The models: preprocessing, backbone and head in one Keras model from pixels (0 to 255) to logits.

Every model is a chain: input, preprocessing, backbone (a nested model), pooling, optional batch
normalisation, any hidden dense layers, optional dropout, dense logits. No TensorFlow is imported here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from pipeline.models.backbones import ARCHITECTURES, build_backbone
from pipeline.runtime.errors import ParameterError

Preprocessing = str | Mapping[str, Sequence[float]]

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
    preprocessing: Preprocessing = "own",
    dense: Sequence[int] = (),
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
        dropout: fraction of the features dropped before the logits in training, 0 to 1.
        preprocessing: as `preprocessing_layers` takes it, or "own" for what the backbone's weights expect.
        dense: sizes of hidden dense layers with ReLU between pooling and dropout.
        **options: the architecture's own, as in `build_backbone`.

    Returns:
        A Keras model from (B, height, width, channels) pixels to (B, C) logits.

    Raises:
        PipelineError: the weights are not to be had.
    """
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    backbone = build_backbone(architecture, input_shape, weights, **options)
    head = [POOLING[pooling](name="pooling")]
    if batch_normalization:
        head.append(keras.layers.BatchNormalization(name="head_normalization"))
    head += [keras.layers.Dense(units, "relu", name=f"dense{number}") for number, units in enumerate(dense, 1)]
    if dropout:
        head.append(keras.layers.Dropout(dropout, name="dropout"))
    head.append(keras.layers.Dense(classes, name="logits", dtype="float32"))
    kind = ARCHITECTURES[architecture].preprocessing if preprocessing == "own" else preprocessing
    return _chain([*preprocessing_layers(kind), backbone, *head], input_shape, architecture)


def for_phase(model: Any, trainable_from: str | int | None, inference_mode: bool = False) -> Any:
    """Rewires the same layers for one phase of training.

    Args:
        model: a model of `build`.
        trainable_from: None trains the head only, with the backbone in inference mode (no dropout, no
            batch statistics); "all" trains every layer; a layer's number or name in the backbone trains
            that layer and all above it.
        inference_mode: whether the backbone stays in inference mode also where its layers are trained, so that its
            batch normalisation keeps the statistics of its pretraining.

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
    if trainable_from is None or inference_mode:
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


def preprocessing_layers(kind: Preprocessing) -> list[Any]:
    """The layers from pixels, 0 to 255, to what a model expects.

    Args:
        kind: one of `PREPROCESSING`; or the `mean` and the `std` of each channel, in units of pixels from 0 to 1, for
            (pixels / 255 - mean) / std, as torchvision's `Normalize` after `ToTensor`.
    """
    if isinstance(kind, Mapping):
        scale = [1 / (255 * std) for std in kind["std"]]
        offset = [-mean / std for mean, std in zip(kind["mean"], kind["std"], strict=True)]
        return [keras.layers.Rescaling(scale, offset, name="rescaling")]
    if kind == "none":
        return []
    if kind == "caffe":
        return [_reverse_channels(), keras.layers.Rescaling(1.0, [-103.939, -116.779, -123.68], name="rescaling")]
    rescaling = {"unit": (1 / 255, 0.0), "symmetric": (1 / 127.5, -1.0)}[kind]
    return [keras.layers.Rescaling(*rescaling, name="rescaling")]


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
    raise ParameterError(
        f"trainable_from is {trainable_from!r}, but the backbone has no such layer. Expected null (head only), "
        f"'all', a number from 0 to {count - 1}, or a layer's name, such as {names[count // 2]!r}."
    )


def untrained(model: dict[str, Any], classes: int) -> Any:
    """A model without its pretrained weights, which change nothing about its cost."""
    return build(**{**model, "weights": None}, classes=classes, seed=0)
