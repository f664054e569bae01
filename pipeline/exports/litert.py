"""Writes LiteRT files (`.tflite`): in float32, in float16, and in integers of 8 bits throughout."""

import flatbuffers
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from pipeline.deployed.metadata import KEY, Metadata
from pipeline.deployed.seal import sealed
from pipeline.exports.graph import Graph

IDENTIFIER = b"TFL3"


def float32(graph: Graph, metadata: Metadata) -> bytes:
    """The bytes of a file with weights of 32 bits, which computes as the student does."""
    return _sealed(tf.lite.TFLiteConverter.from_concrete_functions([graph.frozen()]).convert(), metadata)


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
