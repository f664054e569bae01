"""A network of the user's own, from a `.keras` file, as a model that is trained here."""

from pathlib import Path
from typing import Any

import keras

from pipeline.models import architectures, keras_files
from pipeline.models.last_activation import PROBABILITIES, last_activation, switched_off
from pipeline.models.model_end import refuse_no_logits
from pipeline.models.parts import Preprocessing
from pipeline.runtime.errors import MismatchError, MissingError, UnusableError

RESERVED = ("pixels", "rescaling", "flip", "backbone")
"""Names of layers that stand before a network's last one."""


def input_shape_of(file: Path) -> tuple[int, int, int]:
    """The (height, width, channels) of the images that a network takes; raises the errors of `own_network`."""
    height, width, channels = _classifier(file).input_shape[1:]
    return height, width, channels


def own_network(file: Path, *, classes: int, preprocessing: Preprocessing, with_weights: bool) -> Any:
    """Builds the network of a `.keras` file: its layers before the last Dense layer are the backbone.

    Args:
        file: a `.keras` file of an image classifier.
        classes: C, the number of logits that it must give.
        preprocessing: as `architectures.preprocessing_layers` takes it.
        with_weights: whether the model gets the weights of the file; if not, new ones from Keras' global seed.

    Returns:
        A Keras model from (B, height, width, channels) pixels, 0 to 255, to (B, C) logits, a chain as those of
        `architectures.chain`.

    Raises:
        MissingError: there is no such file.
        DamagedError: it cannot be read.
        UnusableError: it does not classify images, or does not end in a Dense layer that gives logits.
        MismatchError: it has another number of outputs.
    """
    model = _classifier(file)
    if model.output_shape[-1] != classes:
        raise MismatchError(
            f"{file} has {model.output_shape[-1]} output(s), and the data set has {classes} classes. Build it with "
            f"`keras.layers.Dense({classes})` as its last layer, and save it again."
        )
    if last_activation(model) in PROBABILITIES:
        model = switched_off(model, file)
    else:
        refuse_no_logits(model, file)
    if not with_weights:
        model = keras.models.clone_model(model)
    features = pixels = keras.Input(model.input_shape[1:], name="pixels")
    for layer in [*architectures.preprocessing_layers(preprocessing), *_backbone_and_head(model, file)]:
        features = layer(features)
    return keras.Model(pixels, features, name=model.name)


def _classifier(file: Path) -> Any:
    if not file.exists():
        raise MissingError(
            f"there is no network at {file}. Save it there with `network.save({str(file)!r})`, or name another file "
            "or an architecture in params.yaml."
        )
    model = keras_files.load(file, keras_files.OF_THE_USER)
    keras_files.refuse_no_classifier(model, file)
    return keras_files.of_one_tensor(model)


def _backbone_and_head(model: Any, file: Path) -> list[Any]:
    """What comes before the last Dense layer, as a model named "backbone"; that layer; and what passes logits on."""
    last, features = _last(model.outputs[0])
    behind: list[Any] = []
    while isinstance(last, keras.layers.Activation) and last.activation is keras.activations.linear:
        behind.insert(0, last)  # as in mixed precision, or where a softmax was switched off
        last, features = _last(features)
    if not isinstance(last, keras.layers.Dense):
        raise UnusableError(
            f"{file} ends in a layer of the kind {type(last).__name__}. The last layer must be "
            f"`keras.layers.Dense({model.output_shape[-1]})`, with or without softmax, outside of any nested model."
        )
    backbone = keras.Model(model.inputs[0], features, name="backbone")
    if last in backbone.operations:
        raise UnusableError(f"{file} uses its last layer, {last.name!r}, twice. Build it with a last layer of its own.")
    last.trainable = True
    if last.name in RESERVED:
        last.name = "logits"
    return [backbone, last, *behind]


def _last(tensor: Any) -> tuple[Any, Any]:
    """The layer that gives a tensor, and the tensor that it takes."""
    layer, node, _ = tensor._keras_history
    return layer, layer._inbound_nodes[node].input_tensors[0]
