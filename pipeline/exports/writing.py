"""Writes a student in one of the formats."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.deployed.formats import FILES, PRECISIONS, Format
from pipeline.deployed.metadata import Metadata
from pipeline.exports import litert, onnx, saved_model
from pipeline.exports.graph import Graph

OF_BYTES = {"litert_float32": litert.float32, "litert_float16": litert.float16, "onnx": onnx.float32}
"""The formats that need nothing but the student."""


def write_all(
    formats: Sequence[Format], folder: Path, graph: Graph, metadata: Metadata, images: npt.NDArray[np.uint8] | None
) -> None:
    """As `write`, in several formats, whose order changes no bytes.

    A SavedModel holds numbers that TensorFlow counts up with each graph, so it is written first.
    """
    for format_name in sorted(formats, key=lambda name: name != "saved_model"):
        write(format_name, folder, graph, metadata, images)


def write(
    format_name: Format, folder: Path, graph: Graph, metadata: Metadata, images: npt.NDArray[np.uint8] | None
) -> None:
    """Writes a file, or a folder, under its name in `FILES`.

    Args:
        format_name: the format.
        folder: where it is written.
        graph: the student.
        metadata: what the file says of itself, but for its precision.
        images: (N, height, width, channels), on which the ranges of an int8 file are measured; None for other formats.

    Raises:
        UnusableError: the format lacks an operation of the student.
    """
    path, metadata = folder / FILES[format_name], replace(metadata, precision=PRECISIONS[format_name])
    if format_name == "saved_model":
        saved_model.float32(graph, metadata, path)
    elif images is not None and format_name == "litert_int8":
        path.write_bytes(litert.int8(graph, metadata, images))
    else:
        path.write_bytes(OF_BYTES[format_name](graph, metadata))
