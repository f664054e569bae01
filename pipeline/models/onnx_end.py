"""What an ONNX graph ends in: a softmax or sigmoid, which is switched off in a copy, logits, or something else.

The rules are those of `last_activation` and `model_end`, for ONNX' operators.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.models.last_activation import LINEAR
from pipeline.models.model_end import REMEDY
from pipeline.runtime.errors import UnusableError

ACTIVATIONS = {"Softmax": "softmax", "Sigmoid": "sigmoid", "LogSoftmax": "log_softmax"}
"""Operators, and what Keras calls them."""

PASSING = ("Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Cast", "CastLike", "Dropout")
"""Operators that change no value of their first input."""

HEADS = (
    *("Gemm", "MatMul", "Conv", "ConvTranspose", "Einsum"),
    *("MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv"),
    *("FusedMatMul", "QGemm", "MatMulNBits", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"),
)
"""Operators that multiply features by weights: they give logits if no activation follows."""

BEHIND_LOGITS = (
    *("LogSoftmax", "Transpose", "Gather", "Slice", "Split", "Expand", "QuantizeLinear", "DequantizeLinear"),
    *("BatchNormalization", "LayerNormalization", "ReduceMean", "ReduceSum", "ReduceMax", "ReduceLogSumExp"),
    *("AveragePool", "GlobalAveragePool", "MaxPool", "GlobalMaxPool"),
)
"""Operators that turn the logits in their first input into logits: they shift, pick or average them."""

JOINING = ("Add", "Sub", "Sum", "Mean", "Max", "Concat")
"""Operators that do so with all their inputs; Sub and Max only where `_keeps_logits` says so."""

OF_EACH_IMAGE = ("ReduceMax", "ReduceMean", "ReduceSum", "ReduceLogSumExp")
"""Operators that give one number for each image if they go over its classes."""

SCALING = ("Mul", "Div")
"""These turn logits into logits if the factor is a positive constant, such as one over a temperature."""


def last_activation(graph: Any) -> str:
    """The last activation of an ONNX graph with one output.

    Returns:
        "linear" if the last operator multiplies by weights (and adds a bias); "softmax", "sigmoid" or "log_softmax";
        else the name of the last operator that changes values.
    """
    last = _last(graph)
    if last is None:
        return LINEAR
    if last.op_type == "Add":
        features = [name for name in last.input if name not in _constants(graph)]
        producer = _makers(graph).get(features[0]) if len(features) == 1 else None
        return LINEAR if producer is not None and producer.op_type in HEADS else "Add"
    return LINEAR if last.op_type in HEADS else ACTIVATIONS.get(last.op_type, str(last.op_type))


def switch_off_last_activation(graph: Any) -> None:
    """Puts the identity in the place of the last operator that changes values, which there is."""
    last = _last(graph)
    last.op_type, last.domain = "Identity", ""
    del last.attribute[:]


def refuse_no_logits(graph: Any, file: Path) -> None:
    """Checks everything behind the last operators with weights.

    Raises:
        UnusableError: the graph's outputs are not logits, or nobody can tell whether they are.
    """
    makers, constants = _makers(graph), _constants(graph)
    waiting, visited = [(graph.output[0].name, "")], set()
    while waiting:
        name, behind = waiting.pop()
        node = makers.get(name)
        if node is None or name in visited or node.op_type in HEADS:
            continue
        visited.add(name)
        kind = node.op_type
        if kind in SCALING and _is_by_positive(node, constants):
            sources = [source for source in node.input if source not in constants]
        elif kind in JOINING and _keeps_logits(node, makers, constants):
            sources = list(node.input)
        elif kind in (*PASSING, *BEHIND_LOGITS):
            sources = list(node.input[:1])
        elif kind == "Constant":
            continue
        else:
            raise UnusableError(f"{file} ends in {kind}{behind}: its outputs cannot be taken for logits. {REMEDY}")
        behind = behind if kind in PASSING else behind or f", with {kind} behind it"
        waiting += [(source, behind) for source in sources]


def _makers(graph: Any) -> dict[str, Any]:
    """The node that makes each tensor."""
    return {name: node for node in graph.node for name in node.output if name}


def _constants(graph: Any) -> dict[str, Any]:
    """The constants of a graph, by name: tensors as `onnx.TensorProto`, other numbers as they are."""
    from onnx.helper import get_attribute_value

    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = get_attribute_value(node.attribute[0])
    return constants


def _last(graph: Any) -> Any:
    """The last node that changes values; None if the output is an input."""
    makers = _makers(graph)
    node, steps = makers.get(graph.output[0].name), 0
    while node is not None and node.op_type in PASSING and node.input and steps < len(graph.node):
        node, steps = makers.get(node.input[0]), steps + 1
    return node


def _keeps_logits(node: Any, makers: Mapping[str, Any], constants: Mapping[str, Any]) -> bool:
    """Whether one of `JOINING` neither turns the order of logits round nor cuts them off.

    A Sub takes a constant, or one number for each image, from logits: what is taken from something, also from other
    logits, may change its order. A Max with a constant cuts off all that is smaller.
    """
    if node.op_type == "Max":
        return not any(name in constants for name in node.input)
    if node.op_type != "Sub":
        return True
    minuend, subtrahend = node.input
    taken = makers.get(subtrahend)
    return minuend not in constants and (
        subtrahend in constants
        or (taken is not None and taken.op_type in OF_EACH_IMAGE and _is_over_classes(taken, constants))
    )


def _is_over_classes(node: Any, constants: Mapping[str, Any]) -> bool:
    """Whether an operator of `OF_EACH_IMAGE` reduces the last axis alone, and keeps it."""
    from onnx import TensorProto, numpy_helper
    from onnx.helper import get_attribute_value

    stated = {attribute.name: get_attribute_value(attribute) for attribute in node.attribute}
    axes = stated.get("axes", constants.get(node.input[1]) if len(node.input) > 1 else None)
    if isinstance(axes, TensorProto):
        axes = None if axes.data_location == axes.EXTERNAL else numpy_helper.to_array(axes)
    is_kept = stated.get("keepdims", 1) == 1
    return axes is not None and is_kept and np.asarray(axes).reshape(-1).tolist() in ([-1], [1])


def _is_by_positive(node: Any, constants: Mapping[str, Any]) -> bool:
    """Whether a Mul or Div multiplies by a positive constant. Logits in the place of a divisor change their order."""
    from onnx import TensorProto, numpy_helper

    factors = [name for name in node.input if name in constants]
    if len(factors) != 1 or (node.op_type == "Div" and node.input[1] not in constants):
        return False
    factor = constants[factors[0]]
    if isinstance(factor, TensorProto):
        factor = None if factor.data_location == factor.EXTERNAL else numpy_helper.to_array(factor)
    return isinstance(factor, float | int | np.ndarray) and bool((np.asarray(factor) > 0).all())
