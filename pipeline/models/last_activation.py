"""Finds the last activation of a Keras model, and makes a copy of the model without it.

Both use the model as Keras serializes it: so Sequential, Functional and nested models are one case, and the model
itself never changes.
"""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from pipeline.runtime.errors import UnusableError

PROBABILITIES = ("softmax", "sigmoid")
"""The activations that turn logits into probabilities."""

LINEAR = "linear"
PASSING = ("Flatten", "Reshape", "Identity", "Cast")
"""Layers and operations of Keras that change no value."""

ROUNDING = 1e-2
"""A probability that is computed in 16 bits may differ by this much."""

IN_KERAS = "in Keras: activation=None in its last layer"

Node = dict[str, Any]


def last_activation(model: Any) -> str | None:
    """The last activation of a Keras model.

    Returns:
        "linear" if the last layer has none; "softmax", "sigmoid" or another name; None if the model ends in another
        way, so that the activation is not known.
    """
    last = _last(keras.saving.serialize_keras_object(model))
    return None if last is None else activation_of(last)


def switched_off(model: Any, file: Path) -> Any:
    """A copy of a model without its last activation: it gives logits.

    Args:
        model: a Keras model whose `last_activation` is softmax or sigmoid.
        file: the `.keras` file that it was loaded from.

    Raises:
        UnusableError: its outputs are not the probabilities of classes of which exactly one is right.
    """
    activation = last_activation(model)
    refuse_no_classes(str(activation), model.output_shape[-1], file)
    bare = _without_last_activation(model)
    bare.load_weights(file)
    refuse_another_function(model, bare, str(activation), file)
    return bare


def refuse_no_classes(activation: str, outputs: int, file: Path) -> None:
    """Checks that a softmax or sigmoid gives the probabilities of classes of which exactly one is right.

    Raises:
        UnusableError: it does not.
    """
    if activation == "sigmoid" and outputs > 1:
        raise UnusableError(
            f"{file} ends in a sigmoid of {outputs} outputs, each a yes or no of its own (multi-label): these are not "
            "the probabilities of classes of which exactly one is right. Train it with softmax; or, to use its outputs "
            f"as logits all the same, save it without the sigmoid ({IN_KERAS})."
        )
    if activation == "softmax" and outputs == 1:
        raise UnusableError(
            f"{file} ends in a softmax of one output, which is always 1. Train it with a sigmoid, or with one output "
            "for each class."
        )


def refuse_another_function(model: Any, bare: Any, activation: str, file: Path) -> None:
    """Compares, on noise, a model with its copy without the last activation.

    Raises:
        UnusableError: the activation of the copy's logits is not what the model gives.
    """
    noise = noise_for(model)
    expected, logits = (ops.cast(one(noise, training=False), "float32") for one in (model, bare))
    again = (ops.softmax if activation == "softmax" else ops.sigmoid)(logits)
    distance = np.abs(ops.convert_to_numpy(again) - ops.convert_to_numpy(expected))
    if (distance > ROUNDING).any():
        raise UnusableError(
            f"the {activation} at the end of {file} cannot be switched off: applied to the copy's logits, it gives "
            f"other probabilities than the file, by up to {np.nanmax(distance):.2g}. Save the model without it "
            f"({IN_KERAS})."
        )


def noise_for(model: Any) -> npt.NDArray[np.float32]:
    """Seven images of noise: four of pixels from 0 to 1, three of pixels from 0 to 255.

    Which of the two the model expects is not known.
    """
    noise = np.random.default_rng(0).uniform(0, 1, (7, *model.input_shape[1:])).astype(np.float32)
    noise[4:] *= 255
    return noise


def _without_last_activation(model: Any) -> Any:
    """A new model of the same layers, with initial weights."""
    layers = copy.deepcopy(keras.saving.serialize_keras_object(model))
    layers["compile_config"] = None
    last = _last(layers)
    if last is None:
        raise ValueError(f"the last activation of {model.name} is not known")
    if last["class_name"].lower() in PROBABILITIES:
        _become_linear(last)
    else:
        last["config"]["activation"] = LINEAR
    return keras.saving.deserialize_keras_object(layers, safe_mode=True)


def _become_linear(last: Node) -> None:
    """Puts a linear activation in the place of a softmax layer, or of an operation such as `keras.ops.softmax`."""
    dtype = last["config"].get("dtype")
    for node in last.get("inbound_nodes", []):
        node["kwargs"] = {}
        dtype = dtype or node["args"][0]["config"]["dtype"]
    config = {"name": last["config"]["name"], "activation": LINEAR, "dtype": dtype}
    last.update(module="keras.layers", class_name="Activation", registered_name=None, config=config)
    last.pop("build_config", None)


def activation_of(last: Node) -> str | None:
    """The activation of one serialized layer or operation; None if it has none of Keras'."""
    if last["class_name"].lower() in PROBABILITIES:
        return str(last["class_name"].lower())
    if "activation" not in last["config"]:
        return None
    activation = last["config"]["activation"]
    if isinstance(activation, dict):  # a layer as an activation
        return str(activation["class_name"]).lower() if activation.get("module") == "keras.layers" else None
    return LINEAR if activation is None else str(activation)


def _last(model: Node) -> Node | None:
    """The last layer or operation that changes values, also inside nested models; None if it is used twice."""
    for node in _from_the_end(model):
        if len(node.get("inbound_nodes", [])) > 1:
            return None
        if "layers" in node["config"]:
            return _last(node)
        if node["class_name"] not in PASSING and not (
            node["class_name"] == "Activation" and node["config"]["activation"] == LINEAR
        ):
            return node
    return None


def _from_the_end(model: Node) -> Iterator[Node]:
    """The layers of a serialized model from its output towards its input, as far as each takes one tensor only."""
    layers, outputs = model["config"].get("layers", []), model["config"].get("output_layers")
    if outputs is None:  # a Sequential model
        yield from reversed(layers)
        return
    by_name = {layer["name"]: layer for layer in layers}
    name = _first_history(outputs)
    while name is not None:
        node = by_name[name]
        yield node
        name = _first_history([tensor["config"]["keras_history"] for tensor in _only_tensor(node)])


def _only_tensor(node: Node) -> list[Node]:
    """The tensor that a layer takes; empty if it takes none or several."""
    args = [argument for inbound in node.get("inbound_nodes", []) for argument in inbound["args"]]
    return args if len(args) == 1 and isinstance(args[0], dict) and "keras_history" in args[0]["config"] else []


def _first_history(tensors: Any) -> str | None:
    """The name of the first layer in Keras' description of tensors: [name, node, tensor], maybe in lists."""
    while isinstance(tensors, list) and tensors:
        tensors = tensors[0]
    return tensors if isinstance(tensors, str) else None
