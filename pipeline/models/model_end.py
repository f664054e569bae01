"""Refuses a model that does not give logits: it ends in an activation, or in layers that are not known here."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from pipeline.models.last_activation import PASSING, Node, activation_of, noise_for
from pipeline.runtime.errors import UnusableError

LOGITS = ("linear", "log_softmax")
"""The activations that give logits."""

HEADS = (
    *("Dense", "EinsumDense", "Conv1D", "Conv2D", "Conv3D", "SeparableConv1D", "SeparableConv2D", "DepthwiseConv2D"),
    *("Matmul", "Dot", "Tensordot", "Einsum"),
)
"""Layers and operations that multiply features by weights: they give logits if no activation follows."""

BEHIND_LOGITS = (
    *("Squeeze", "ExpandDims", "Transpose", "Permute", "Concatenate", "Stack", "Take", "GetItem", "ZerosLike"),
    *("Add", "Subtract", "Average", "Mean", "Sum", "Max", "Maximum", "LogSoftmax", "Logsumexp", "Dropout"),
    *("BatchNormalization", "LayerNormalization", "Normalization"),
    *("AveragePooling2D", "GlobalAveragePooling1D", "GlobalAveragePooling2D"),
    *("MaxPooling2D", "GlobalMaxPooling1D", "GlobalMaxPooling2D"),
)
"""Layers and operations that turn logits into logits: they shift, pick, join or average them; Subtract and Maximum only
where `_keeps_logits` says so."""

SCALING = ("Rescaling", "Multiply", "TrueDivide", "Divide")
"""These turn logits into logits if the factor is a positive constant, such as one over a temperature."""

ROUNDING = 1e-3
"""Probabilities that were rounded to 16 bits may sum to 1 plus or minus this much."""

REMEDY = (
    "Logits are the numbers before any activation. Save the model without one at its end (in Keras: activation=None in "
    "its last layer), and with nothing behind it."
)


def refuse_no_logits(model: Any, file: Path | str) -> None:
    """Checks everything behind the last layer with weights, and the outputs for noise.

    Args:
        model: a Keras model that does not end in a softmax or sigmoid that can be switched off.
        file: how messages name it.

    Raises:
        UnusableError: its outputs are not logits, or nobody can tell whether they are.
    """
    end, _ = _no_logits(keras.saving.serialize_keras_object(model), "")
    if end is not None:
        raise UnusableError(f"{file} ends in {end}: its outputs cannot be taken for logits. {REMEDY}")
    refuse_other_outputs(model, file)


def refuse_other_outputs(model: Any, file: Path | str) -> None:
    """Checks the outputs for noise alone.

    Raises:
        UnusableError: they are probabilities, or negative numbers are cut off.
    """
    of_tensors = keras.Model(model.inputs[0], model.outputs[0])  # a model of lists of tensors would warn
    outputs = ops.convert_to_numpy(ops.cast(of_tensors(noise_for(model), training=False), "float32"))
    if outputs.shape[-1] == 1 or not outputs.min() >= 0:
        return
    if np.allclose(outputs.sum(axis=-1), 1, rtol=0, atol=ROUNDING):
        raise UnusableError(
            f"{file} gives probabilities: for each of {len(outputs)} images of noise, its outputs sum to 1. {REMEDY}"
        )
    if outputs.max() > 0 and (outputs == 0).any():
        raise UnusableError(
            f"{file} cuts off negative numbers: for {len(outputs)} images of noise, none of its outputs is negative, "
            f"and some are exactly 0. {REMEDY}"
        )


def _no_logits(model: Node, behind: str) -> tuple[str | None, str | None]:
    """Follows a serialized model from its outputs back to its last layers with weights.

    Args:
        model: the model.
        behind: what follows it, as the end of a message: ", with Rescaling behind it"; "" if nothing does.

    Returns:
        The first layer that does not give logits, in words, or None; and, if a path from an output to an input passes
        no layer with weights, what follows that input, as `behind` says it, else None.
    """
    # A layer of another package may leave its name out of its configuration.
    by_name = {layer.get("name") or layer["config"]["name"]: layer for layer in model["config"].get("layers", [])}
    names, outputs, behind_input = [*by_name], model["config"].get("output_layers"), None
    is_sequential = outputs is None
    waiting = [(name, behind) for name in (names[-1:] if is_sequential else _names(outputs))]
    visited = set()
    while waiting:
        name, behind = waiting.pop()
        if name in visited:
            continue
        visited.add(name)
        node = by_name[name]
        end, behind_next = _no_logits(node, behind) if "layers" in node["config"] else _of_one(node, behind)
        if end is not None:
            return end, None
        if behind_next is not None:  # no weights yet
            sources = names[: names.index(name)][-1:] if is_sequential else [*_sources(node)]
            behind_input = behind_input if sources else behind_next
            waiting += [(source, behind_next) for source in sources]
    return None, behind_input


def _of_one(node: Node, behind: str) -> tuple[str | None, str | None]:
    """As `_no_logits`, for one layer or operation."""
    activation, name = activation_of(node), node["class_name"]
    if activation is None and isinstance(node["config"].get("activation"), dict):
        activation = str(node["config"]["activation"]["config"])
    if activation is not None and activation not in LOGITS:
        return f"{activation}{behind}", None
    if name in HEADS:
        return None, None
    if name in (*PASSING, "InputLayer", "Activation"):
        return None, behind
    if (name in BEHIND_LOGITS and _keeps_logits(node)) or (name in SCALING and _is_positive(node)):
        return None, behind or f", with {name} behind it"
    return f"{name}{behind}", None


def _is_positive(node: Node) -> bool:
    """Whether a layer or operation multiplies by a positive constant."""
    if node["class_name"] == "Rescaling":
        return _are_positive(node["config"]["scale"])
    calls = _calls(node)
    arguments = [argument for call in calls for argument in call]
    constants = [argument for argument in arguments if not _is_tensor(argument)]
    # A constant divided by logits turns their order round; logits divided by a constant keep it.
    keeps_order = node["class_name"] == "Multiply" or (bool(arguments) and _is_tensor(arguments[0]))
    return keeps_order and len(constants) == len(calls) and all(map(_are_positive, constants))


def _keeps_logits(node: Node) -> bool:
    """Whether one of `BEHIND_LOGITS` neither turns the order of logits round nor cuts them off.

    A Subtract takes a constant, or one number for each image, from logits: what is taken from something, also from
    other logits, may change its order. A Maximum with a constant cuts off all that is smaller.
    """
    if node["class_name"] == "Maximum":
        return all(_is_tensor(argument) for call in _calls(node) for argument in call)
    return node["class_name"] != "Subtract" or all(_is_a_shift(*call) for call in _calls(node))


def _is_a_shift(minuend: Any, subtrahend: Any) -> bool:
    if not _is_tensor(minuend):
        return False
    return not _is_tensor(subtrahend) or (_is_of_each_image(subtrahend) and not _is_of_each_image(minuend))


def _is_of_each_image(tensor: Node) -> bool:
    """Whether a tensor holds one number for each image, or one for all."""
    shape = tensor["config"]["shape"]
    return all(size == 1 for size in shape[1 if len(shape) > 1 else 0 :])


def _calls(node: Node) -> list[list[Any]]:
    """The arguments of each call of a layer or operation; those in a list, as of layers that join, one by one."""
    calls = [[*call["args"], *call["kwargs"].values()] for call in node["inbound_nodes"] if "args" in call]
    return [call[0] if len(call) == 1 and isinstance(call[0], list) else call for call in calls]


def _is_tensor(argument: Any) -> bool:
    return isinstance(argument, dict) and argument.get("class_name") == "__keras_tensor__"


def _are_positive(numbers: Any) -> bool:
    if isinstance(numbers, dict):  # an array
        numbers = numbers.get("config", {}).get("value")
    try:
        return bool((np.asarray(numbers, np.float64) > 0).all())
    except (TypeError, ValueError):
        return False


def _sources(node: Any) -> Iterator[str]:
    """The names of the layers whose tensors a serialized layer takes."""
    if isinstance(node, dict) and "keras_history" in (node.get("config") or {}):
        yield node["config"]["keras_history"][0]
        return
    inside = node.get("inbound_nodes", node) if isinstance(node, dict) else node
    inside = [*inside.values()] if isinstance(inside, dict) else inside
    for value in inside if isinstance(inside, list | tuple) else []:
        yield from _sources(value)


def _names(tensors: Any) -> list[str]:
    """The names of the layers in Keras' description of tensors: [name, node, tensor], maybe in lists or maps."""
    if isinstance(tensors, dict):
        return [name for tensor in tensors.values() for name in _names(tensor)]
    if tensors and isinstance(tensors[0], str):
        return [tensors[0]]
    return [name for tensor in tensors for name in _names(tensor)]
