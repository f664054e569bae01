"""A student whose answers are computed by pencil, and the files made from it, for tests of what is shipped."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.deployed.metadata import Metadata
from pipeline.deployed.seal import sealed
from pipeline.images.resize import DEFAULT_RESIZE, preprocessing

CLASSES = ("cat", "dog", 'a "bird", {digest}')
METADATA = Metadata(
    student="student_kl_T4_seed1",
    sha256="5" * 64,
    class_names=CLASSES,
    preprocessing=preprocessing((2, 2, 1), DEFAULT_RESIZE),
    output="logits",
    precision="float32",
    temperature=1.5,
)
PIXELS = np.array([[[10, 20], [30, 40]], [[255, 0], [0, 0]], [[0, 0], [0, 0]]], np.uint8)[..., None]
LOGITS = np.array([[1.0, 0.0, -1.5], [2.55, 5.1, -4.855], [0.0, 0.0, 0.5]])
"""Of each image in `PIXELS`, by pencil: a, b and 1/2 - 2 a - b / 20, where a is the sum of the pixels / 100, and b is
the top left one less the bottom right one, / 50, or 0 if that is below 0."""


def student() -> Any:
    """A convolution of 2 x 2 with two filters and ReLU, a and b, and the logits a, b and 1/2 - 2 a - b / 20."""
    from pipeline.models import backbones
    from pipeline.models.architectures import chain

    backbone = backbones.cnn((2, 2, 1), filters=[2], downsampling="stride", kernel_size=2, padding="valid", factor=1)
    model = chain(
        backbone,
        preprocessing="unit",
        pooling="flatten",
        batch_normalization=False,
        hidden_units=[],
        dropout=0.0,
        classes=3,
        name="student",
    )
    kernel = np.zeros((2, 2, 1, 2), np.float32)
    kernel[..., 0, 0] = 2.55
    kernel[0, 0, 0, 1], kernel[1, 1, 0, 1] = 5.1, -5.1
    backbone.set_weights([kernel, np.zeros(2, np.float32)])
    head = np.array([[1, 0, -2], [0, 1, -0.05]], np.float32)
    model.get_layer("logits").set_weights([head, np.array([0, 0, 0.5], np.float32)])
    return model


def write_litert(path: Path, **changed: Any) -> Path:
    """The student in float32, with some of its metadata changed."""
    from pipeline.exports import litert
    from pipeline.exports.graph import Graph

    metadata = replace(METADATA, **changed)
    path.write_bytes(litert.float32(Graph(student(), metadata.output), metadata))
    return path


def write_onnx(
    path: Path, nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], **constants: Any
) -> Path:
    """A graph of somebody's, with metadata and a right digest.

    Args:
        path: where it is written.
        nodes: of the graph.
        inputs: names, types and shapes.
        outputs: the same.
        constants: arrays by their names.
    """
    from onnx import helper, numpy_helper

    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(*one) for one in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    entry = model.metadata_props.add()
    entry.key, entry.value = "softlabel", METADATA.as_json()
    path.write_bytes(sealed(model.SerializeToString()))
    return path
