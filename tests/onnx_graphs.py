"""Small ONNX files, written node by node, whose logits are known."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SHAPE = (4, 5, 3)
KERNEL = np.random.default_rng(1).normal(0, 0.01, (60, 2)).astype(np.float32)
BIAS = np.array([0.5, -0.25], np.float32)
FILE = Path("given.onnx")
DTYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "float64": TensorProto.DOUBLE}
DTYPES |= {"uint8": TensorProto.UINT8, "int64": TensorProto.INT64}

node = helper.make_node


def tensor(name, values):
    return numpy_helper.from_array(np.asarray(values), name)


def logits_by_hand(pixels, kernel=KERNEL, bias=BIAS):
    """Of (B, 4, 5, 3) pixels: each image in a row, in the order of NHWC, times the kernel, plus the bias."""
    return pixels.reshape(len(pixels), -1).astype(np.float64) @ kernel + bias


def of_layout(layout, kernel=KERNEL, shape=SHAPE):
    """The kernel in the order in which a graph of that layout flattens its images."""
    if layout == "NHWC":
        return kernel
    return kernel.reshape(*shape, -1).transpose(2, 0, 1, 3).reshape(kernel.shape)


def sizes(layout, shape=SHAPE):
    height, width, channels = shape
    return (channels, height, width) if layout == "NCHW" else shape


def classifier(
    *end,
    layout="NCHW",
    batch="batch",
    dtype="float32",
    shape=SHAPE,
    kernel=KERNEL,
    bias=BIAS,
    taken=None,
    given=("batch", None),
    constants=(),
    output=None,
    inputs=(),
    outputs=(),
    opset=17,
    domains=(),
    functions=(),
):
    """A model of one dense layer, with the logits "z"; `end` are the nodes from there to the output "y"."""
    end = end or (node("Identity", ["z"], ["y"]),)
    computes = "float32" if dtype in ("uint8", "int64") else dtype
    first = [node("Cast", ["x"], ["pixels"], to=TensorProto.FLOAT)] if computes != dtype else []
    dense = [
        node("Flatten", [first[0].output[0] if first else "x"], ["row"]),
        node("MatMul", ["row", "kernel"], ["product"]),
        node("Add", ["product", "bias"], ["z"]),
    ]
    taken = (batch, *sizes(layout, shape)) if taken is None else taken
    kind = DTYPES[computes] if output is None else output
    graph = helper.make_graph(
        [*first, *dense, *end],
        "classifier",
        [helper.make_tensor_value_info("x", DTYPES[dtype], taken), *inputs],
        [helper.make_tensor_value_info("y", kind, given), *outputs],
        [tensor("kernel", of_layout(layout, kernel, shape).astype(computes)), tensor("bias", bias.astype(computes)),
         *constants],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(name, 1) for name in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9, functions=functions)


def write(model, file=FILE):
    Path(file).write_bytes(model.SerializeToString(deterministic=True))
    return Path(file)


def with_external_data(model, place="weights/kernel.bin", file=FILE):
    """Writes a model whose kernel lies in another file, behind 64 other bytes."""
    (kernel,) = (one for one in model.graph.initializer if one.name == "kernel")
    content = bytes(64) + kernel.raw_data
    path = Path(file).parent / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    point_to(kernel, place, 64, len(kernel.raw_data))
    write(model, file)
    return path


def point_to(kernel, place, offset, length):
    kernel.ClearField("raw_data")
    kernel.data_location = TensorProto.EXTERNAL
    del kernel.external_data[:]
    for key, value in (("location", place), ("offset", offset), ("length", length)):
        kernel.external_data.add(key=key, value=str(value))


def loaded(file=FILE):
    """The file with its external data, by the library onnx."""
    return onnx.load(file)
