"""Preprocessing, backbone and head in one Keras model from pixels (0 to 255) to logits.

Every model is a chain: input, preprocessing, backbone (a nested model), pooling, optional batch
normalisation, any hidden dense layers, optional dropout, dense logits. TensorFlow is not imported here, so
the models can be built on any of Keras' backends.
"""

from collections.abc import Sequence
from typing import Any

import keras

from pipeline.models.parts import Affine, PoolingOfTokens, Preprocessing, Standardization
from pipeline.runtime.errors import ParameterError

POOLING = {
    "avg": keras.layers.GlobalAveragePooling2D,
    "max": keras.layers.GlobalMaxPooling2D,
    "flatten": keras.layers.Flatten,
}
POOLING_OF_TOKENS = {
    "avg": keras.layers.GlobalAveragePooling1D,
    "max": keras.layers.GlobalMaxPooling1D,
    "flatten": keras.layers.Flatten,
}


def chain(
    backbone: Any,
    *,
    preprocessing: Preprocessing | Affine,
    pooling: PoolingOfTokens,
    batch_normalization: bool,
    hidden_units: Sequence[int],
    dropout: float,
    classes: int,
    name: str,
) -> Any:
    """Puts preprocessing in front of a backbone, and a head behind it.

    Args:
        backbone: a Keras model named "backbone", from (B, height, width, channels) to features: (B, rows, columns, F),
            or (B, tokens, F) of a transformer.
        preprocessing: as `preprocessing_layers` takes it.
        pooling: how the backbone's features are pooled.
        batch_normalization: whether the pooled features are normalised.
        hidden_units: sizes of hidden dense layers with ReLU between pooling and dropout.
        dropout: fraction of the features dropped before the logits in training, 0 to 1.
        classes: C, the number of logits.
        name: the name of the model.

    Returns:
        A Keras model from (B, height, width, channels) pixels, 0 to 255, to (B, C) logits.

    Raises:
        ParameterError: `pooling` takes a token, and the backbone has none.
    """
    head = _pooling_layers(pooling, backbone.output_shape)
    if batch_normalization:
        head.append(keras.layers.BatchNormalization(name="head_normalization"))
    head += [keras.layers.Dense(units, "relu", name=f"dense{number}") for number, units in enumerate(hidden_units, 1)]
    if dropout:
        head.append(keras.layers.Dropout(dropout, name="dropout"))
    # Logits stay float32 under any precision policy: they are what the soft-label files store.
    head.append(keras.layers.Dense(classes, name="logits", dtype="float32"))
    return _applied([*preprocessing_layers(preprocessing), backbone, *head], backbone.input_shape[1:], name)


def _pooling_layers(pooling: PoolingOfTokens, features: Sequence[int]) -> list[Any]:
    of_tokens = len(features) == 3
    if pooling != "token":
        return [(POOLING_OF_TOKENS if of_tokens else POOLING)[pooling](name="pooling")]
    if not of_tokens:
        raise ParameterError(
            "pooling is token, but the backbone gives no tokens, as only transformers do. Expected avg, max or flatten."
        )
    return [keras.layers.Cropping1D((0, features[1] - 1), name="class_token"), keras.layers.Flatten(name="pooling")]


def for_phase(model: Any, trainable_from: str | int | None, inference_mode: bool = False) -> Any:
    """Connects the same layers to a new model for one phase of training.

    Args:
        model: a model of `chain`.
        trainable_from: None trains the head only, with the backbone in inference mode (no dropout, no
            batch statistics); "all" trains every layer; a layer's number or name in the backbone trains
            that layer and all above it.
        inference_mode: whether the backbone stays in inference mode also where its layers are trained, so that its
            batch normalisation keeps the statistics of its pretraining.

    Returns:
        An uncompiled model that shares its layers with `model`.

    Raises:
        ParameterError: the backbone has no such layer.
    """
    set_trainable(model, trainable_from)
    backbone = model.get_layer("backbone")
    operations = model.operations[1:]  # without the input
    if is_in_inference_mode(trainable_from, inference_mode):
        operations = [InferenceMode(operation) if operation is backbone else operation for operation in operations]
    return _applied(operations, model.input_shape[1:], model.name)


def set_trainable(model: Any, trainable_from: str | int | None) -> None:
    """Freezes the backbone's layers below the first one that a phase trains, and no other; as `for_phase` does."""
    backbone = model.get_layer("backbone")
    backbone.trainable = True  # an earlier phase may have frozen it
    first = _first_trainable(backbone, trainable_from)
    for number, layer in enumerate(backbone.layers):
        layer.trainable = number >= first


def is_in_inference_mode(trainable_from: str | int | None, inference_mode: bool) -> bool:
    """Whether the backbone of a phase is in inference mode also in training; the arguments are those of `for_phase`."""
    return trainable_from is None or inference_mode


def _applied(operations: Sequence[Any], input_shape: Sequence[int], name: str) -> Any:
    features = inputs = keras.Input(tuple(input_shape), name="pixels")
    for operation in operations:
        features = operation(features)
    return keras.Model(inputs, features, name=name)


class InferenceMode(keras.layers.Layer):
    """Calls a model in inference mode, also where its caller trains.

    `model(inputs, training=False)` in a functional graph does not: the outer model's mode overrides it
    (Keras 3.15), so that a frozen backbone would still drop paths.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(name=f"{model.name}_in_inference_mode")
        self.model = model

    def call(self, inputs: Any) -> Any:
        """Whatever the mode of the caller."""
        return self.model(inputs, training=False)


def preprocessing_layers(kind: Preprocessing | Affine) -> list[Any]:
    """The layers that turn pixels, 0 to 255, into the numbers that a model expects.

    Args:
        kind: a name; the mean and the standard deviation of each channel, for (pixels / 255 - mean) / std; or scale
            and offset.
    """
    if isinstance(kind, Affine):
        return [keras.layers.Rescaling(kind.scale, kind.offset, name="rescaling")]
    if isinstance(kind, Standardization):
        scale = [1 / (255 * std) for std in kind.std]
        offset = [-mean / std for mean, std in zip(kind.mean, kind.std, strict=True)]
        return [keras.layers.Rescaling(scale, offset, name="rescaling")]
    if kind == "none":
        return []
    if kind == "caffe":
        return [_reverse_channels(), keras.layers.Rescaling(1.0, [-103.939, -116.779, -123.68], name="rescaling")]
    rescaling = {"unit": (1 / 255, 0.0), "symmetric": (1 / 127.5, -1.0)}[kind]
    return [keras.layers.Rescaling(*rescaling, name="rescaling")]


def _reverse_channels() -> Any:
    # Keras wraps a function such as `flip` into an operation, which can be called like a layer, only within a model.
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
