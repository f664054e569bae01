"""Writes ONNX files by tf2onnx."""

import importlib.util
import logging
from typing import Any

import numpy as np

from pipeline.deployed.metadata import KEY, Metadata
from pipeline.deployed.seal import sealed
from pipeline.exports.graph import PIXELS, Graph
from pipeline.runtime.errors import MissingError, UnusableError, first_few, one_line
from pipeline.runtime.extras import how_to_install

OPSET = 17
PACKAGES = ("tf2onnx", "onnx", "onnxruntime")


def refuse_without_packages() -> None:
    """Checks that the packages of the extra `onnx` are installed.

    Raises:
        MissingError: one of them is not.
    """
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise MissingError(
            f"export.formats names onnx, which needs the package {' and '.join(missing)}; it is not installed: "
            f"{how_to_install('onnx')}. Or leave onnx out of export.formats."
        )


def float32(graph: Graph, metadata: Metadata) -> bytes:
    """The bytes of an ONNX file, which computes as the student does.

    Raises:
        UnusableError: ONNX lacks an operation of the student.
    """
    model = _converted(graph)
    _rename(model.graph, graph.output)
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, metadata.as_json()
    return sealed(model.SerializeToString(deterministic=True))


def _converted(graph: Graph) -> Any:
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)  # it logs as errors what is an exception here
    import onnx
    import tf2onnx

    frozen = graph.frozen()
    try:
        model, _ = tf2onnx.convert.from_graph_def(
            frozen.graph.as_graph_def(),
            input_names=[frozen.inputs[0].name],
            output_names=[frozen.outputs[0].name],
            opset=OPSET,
            custom_op_handlers={"Erfc": (_erfc, [])},
        )
        unknown = {node.op_type for node in model.graph.node if not onnx.defs.has(node.op_type)}
        if not unknown:
            onnx.checker.check_model(model)
    except Exception as error:  # tf2onnx raises many classes
        raise _not_convertible(one_line(error)) from None
    if unknown:
        raise _not_convertible(f"there is no such version of {first_few(sorted(unknown))}")
    if any(attribute.HasField("g") for node in model.graph.node for attribute in node.attribute):
        raise _not_convertible("it has branches or loops")
    return model


def _not_convertible(why: str) -> UnusableError:
    return UnusableError(
        f"the student cannot be converted to onnx: {why}. Leave onnx out of export.formats, or build the student from "
        "other layers."
    )


def _erfc(graph: Any, node: Any, name: str, _: Any) -> None:
    """erfc(x) = 1 - erf(x), of which exact GELU is made; tf2onnx does not have it (1.17)."""
    shape, of_type = graph.get_shape(node.output[0]), graph.get_dtype(node.output[0])
    erf = graph.make_node("Erf", node.input)
    one = graph.make_const(f"{name}_one", np.array(1, np.float32))
    graph.remove_node(name)
    graph.make_node("Sub", [one.output[0], erf.output[0]], outputs=node.output, shapes=[shape], dtypes=[of_type])


def _rename(graph: Any, output: str) -> None:
    """Brings the nodes into one order and gives all values names that depend on the graph alone.

    tf2onnx goes through sets, so its order, its names and its choice among equal constants differ from run to run.
    Nodes are sorted from the output backwards; equal constants become one.
    """
    nodes = _in_order(graph)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    names = {graph.input[0].name: PIXELS, graph.output[0].name: output, "": ""}
    kept: dict[bytes, Any] = {}
    for number, node in enumerate(nodes):
        for name in node.input:
            if name in constants and name not in names:
                names[name] = _one_of_equals(constants[name], kept)
        for place, name in enumerate(node.output):
            names.setdefault(name, f"{node.op_type}_{number}_{place}")
        node.name, node.doc_string = f"{node.op_type}_{number}", ""
        node.input[:] = [names[name] for name in node.input]
        node.output[:] = [names[name] for name in node.output]
    graph.input[0].name, graph.output[0].name = PIXELS, output
    for value in (graph.input[0], graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = "images"
    for field, values in (("node", nodes), ("initializer", kept.values()), ("value_info", [])):
        graph.ClearField(field)
        getattr(graph, field).extend(values)


def _in_order(graph: Any) -> list[Any]:
    """The nodes that the output needs, each behind those that it needs."""
    made_by = {name: node for node in graph.node for name in node.output}
    order: list[Any] = []
    placed: set[str] = set()
    waiting = [(graph.output[0].name, False)]
    while waiting:
        name, are_inputs_placed = waiting.pop()
        node = made_by.get(name)
        if node is None or node.output[0] in placed:
            continue
        if are_inputs_placed:
            placed.add(node.output[0])
            order.append(node)
        else:
            waiting += [(name, True), *((needed, False) for needed in reversed(node.input))]
    return [_copy(node) for node in order]


def _copy(message: Any) -> Any:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def _one_of_equals(tensor: Any, kept: dict[bytes, Any]) -> str:
    """The name of the one constant that stands for all equal ones."""
    constant = _copy(tensor)
    constant.name, constant.doc_string = "", ""
    content = constant.SerializeToString(deterministic=True)
    if content not in kept:
        constant.name = f"constant_{len(kept)}"
        kept[content] = constant
    return str(kept[content].name)
