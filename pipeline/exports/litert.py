"""Writes LiteRT files (`.tflite`): in float32, in float16, and in integers of 8 bits throughout."""

import logging
import re
import warnings
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from pipeline.deployed.metadata import KEY, Metadata
from pipeline.deployed.seal import sealed
from pipeline.exports.graph import Graph
from pipeline.runtime.errors import UnusableError, first_few, one_line
from pipeline.runtime.native_stderr import native_stderr_closed

IDENTIFIER = b"TFL3"
UNKNOWN_OPERATION = re.compile(r"(?:op:|')\s*'?((?:tf|tfl)\.\w+|[A-Z0-9_]{2,})\b")
"""How the converter's errors name an operation that LiteRT does not have."""


def float32(graph: Graph, metadata: Metadata) -> bytes:
    """The bytes of a file with weights of 32 bits, which computes as the student does.

    Raises:
        UnusableError: LiteRT lacks an operation of the student.
    """
    return _sealed(_converted(_converter(graph, tf.uint8), graph, "litert_float32"), metadata)


def float16(graph: Graph, metadata: Metadata) -> bytes:
    """As `float32`, with weights of 16 bits; a processor without such numbers computes with 32 bits."""
    converter = _converter(graph, tf.uint8)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    return _sealed(_converted(converter, graph, "litert_float16"), metadata)


def int8(graph: Graph, metadata: Metadata, images: npt.NDArray[np.uint8]) -> bytes:
    """The bytes of a file that computes with integers alone; its input is uint8, its output int8.

    Args:
        graph: the student.
        metadata: what the file says of itself.
        images: (N, height, width, channels), on which the ranges of all activations are measured.

    Raises:
        UnusableError: LiteRT has no integer version of an operation of the student.
    """
    converter = _converter(graph, tf.float32)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None]] for image in _with_whole_range(images))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type, converter.inference_output_type = tf.uint8, tf.int8
    return _sealed(_converted(converter, graph, "litert_int8"), metadata)


def _with_whole_range(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """The images with a white value in a corner of the first one.

    LiteRT's ranges always hold 0. So that of the input is 0 to 255, its step 1, and a pixel is its own integer.
    """
    pixels = images.astype(np.float32)
    pixels[0].flat[-1] = 255.0
    return pixels


def _converter(graph: Graph, pixel_type: Any) -> Any:
    logging.getLogger("absl").setLevel(logging.ERROR)  # it warns that this way, five times as fast, is the older one
    return tf.lite.TFLiteConverter.from_concrete_functions([graph.frozen(pixel_type)])


def _converted(converter: Any, graph: Graph, of_format: str) -> bytes:
    try:
        with native_stderr_closed(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Statistics for quantized inputs were expected")
            return bytes(converter.convert())
    except Exception as error:  # TensorFlow's own class, and RuntimeError or ValueError of its parts
        operations = sorted(set(UNKNOWN_OPERATION.findall(str(error))))
        named = f"there is no such version of {first_few(operations)}" if operations else one_line(error)
        narrow = first_few(graph.narrow_types())
        remedy = f"It computes in {narrow}: build it in float32" if narrow else "Build the student from other layers"
        raise UnusableError(
            f"the student cannot be converted to {of_format}: {named}. {remedy}. Or leave {of_format} out of "
            "export.formats."
        ) from None


def _sealed(content: bytes, metadata: Metadata) -> bytes:
    """The file with its metadata and its digest."""
    model = schema.ModelT.InitFromPackedBuf(content)
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = list(metadata.as_json().encode("ascii"))
    entry.name, entry.buffer = KEY.encode(), len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return sealed(bytes(builder.Output()))
