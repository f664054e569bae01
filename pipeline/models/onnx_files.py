"""Reads ONNX files: the graph, the files beside it that hold its numbers, and the digest of all of them."""

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.models.onnx_layer import refuse_without
from pipeline.runtime.digests import fingerprint, sha256_file
from pipeline.runtime.errors import DamagedError, MissingError, UnusableError, one_line

NO_ONNX = (
    "is no whole ONNX model. If it was downloaded, it may be cut off, or the pointer that Git LFS keeps in its place "
    "(`git lfs pull` fetches the file); otherwise export it again."
)

LARGEST = 2**31
"""Bytes of an ONNX file, by the rules of protobuf; more numbers lie in files beside it."""

MOST_NODES = 100_000
"""Operators of a graph whose functions are replaced by their nodes; ONNX' library takes some seconds for so many."""


def read_graph(file: Path) -> Any:
    """The `onnx.ModelProto` of a file, without its external data.

    Functions that the file itself defines are replaced by their nodes.

    Raises:
        MissingError: the package onnx is not installed.
        DamagedError: the file is no ONNX model.
    """
    refuse_without("onnx", "onnxruntime")
    import onnx
    from google.protobuf.message import DecodeError
    from onnx.inliner import inline_local_functions

    if file.stat().st_size > LARGEST:
        raise DamagedError(f"{file} has more than {LARGEST:,} bytes, the most that an ONNX file can have.")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(file.read_bytes())
    except (DecodeError, UnicodeDecodeError):
        raise DamagedError(f"{file} {NO_ONNX}") from None
    if not (model.ir_version and model.HasField("graph") and model.opset_import):
        raise DamagedError(f"{file} {NO_ONNX}")  # protobuf takes an empty file, and many a text, for a message
    if not model.functions:
        return model
    try:
        if (nodes := _unfolded(model)) > MOST_NODES:
            raise ValueError(f"they unfold to {nodes:,} operators")
        return inline_local_functions(model)
    except (RuntimeError, ValueError) as error:
        raise DamagedError(f"{file} has functions that cannot be read: {one_line(error)}. Export it again.") from None


def _unfolded(model: Any) -> int:
    """How many operators a graph has when its functions, which may call each other, are replaced by their nodes."""
    functions = {(function.domain, function.name): function for function in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size_of(nodes: Any, callers: tuple[tuple[str, str], ...]) -> int:
        return sum(size_of_call((node.domain, node.op_type), callers) for node in _with_branches(nodes))

    def size_of_call(called: tuple[str, str], callers: tuple[tuple[str, str], ...]) -> int:
        if called in callers:
            raise ValueError(f"{called[1]} calls itself")
        if called in functions and called not in sizes:
            sizes[called] = size_of(functions[called].node, (*callers, called))
        return sizes.get(called, 1)

    return size_of(model.graph.node, ())


def _with_branches(nodes: Any) -> Iterator[Any]:
    """Nodes, and those of the graphs in them."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _with_branches(graph.node)


def external_data(model: Any, file: Path) -> dict[str, Path]:
    """The files beside a graph that hold its tensors, by the place that the graph names, in the order of places.

    Args:
        model: the graph of `file`.
        file: the ONNX file.

    Raises:
        MissingError: one of them is missing.
        DamagedError: one of them is too short.
        UnusableError: one of them lies outside of the folder of `file`.
    """
    needed: dict[str, int] = {}
    for tensor in tensors_of(model):
        if place := place_of(tensor):
            needed[place] = max(needed.get(place, 0), _end_of(tensor, file))
    return {place: _beside(file, place, needed[place]) for place in sorted(needed)}


def tensors_of(message: Any) -> Iterator[Any]:
    """All tensors in a protobuf message, wherever they are: initializers, constants, the branches of an If."""
    if message.DESCRIPTOR.full_name == "onnx.TensorProto":
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in [value] if hasattr(value, "DESCRIPTOR") else value:
                yield from tensors_of(part)


def place_of(tensor: Any) -> str | None:
    """The name of the file that holds a tensor's numbers; None if the graph itself holds them."""
    return _entries(tensor).get("location") if tensor.data_location == tensor.EXTERNAL else None


def _entries(tensor: Any) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data if isinstance(entry.value, str)}


def _end_of(tensor: Any, file: Path) -> int:
    """The position behind a tensor's last byte in its file, as far as the graph says it."""
    entries = _entries(tensor)
    numbers = [entries.get(key, "0") for key in ("offset", "length")]
    if not all(number.isascii() and number.isdecimal() for number in numbers):
        raise DamagedError(f"{file}: the place of tensor {tensor.name!r} in its file is damaged. Export it again.")
    return sum(map(int, numbers))


def _beside(file: Path, place: str, size: int) -> Path:
    """The path of a file of external data, which has at least `size` bytes."""
    parts = PurePosixPath(place)
    path = file.parent / parts
    if parts.is_absolute() or ".." in parts.parts or "\0" in place:
        raise UnusableError(
            f"{file} keeps numbers in {place!r}, outside of its folder, and only files in that folder are read. Put "
            "both into one folder, and export it again from there."
        )
    if not path.is_file():
        raise MissingError(
            f"{file} keeps numbers in {path}, and there is no such file. Copy it from where the model was exported: "
            "the two belong together, under these names."
        )
    if Path(os.path.realpath(path)) != Path(os.path.realpath(file.parent), parts):
        raise UnusableError(
            f"{file} keeps numbers in {path}, which is a link to another place. Replace the link by the file itself, "
            "as `cp -L` copies it."
        )
    if path.stat().st_size < size:
        raise DamagedError(
            f"{path} has {path.stat().st_size:,} bytes, but {file} needs {size:,}: it is cut off, or of another model. "
            "Copy both files again."
        )
    return path


def sha256_with_external_data(file: Path) -> str:
    """What names an ONNX model: the SHA-256 of its file; with external data, of the digests of all its files.

    Raises:
        As `read_graph` and `external_data`.
    """
    beside = external_data(read_graph(file), file)
    if not beside:
        return sha256_file(file)
    return fingerprint(graph=sha256_file(file), **{f"/{place}": sha256_file(path) for place, path in beside.items()})


def count_parameters(model: Any) -> int:
    """How many floating-point numbers the initializers of a graph hold."""
    from onnx import TensorProto

    floats = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
    return sum(math.prod(tensor.dims) for tensor in model.graph.initializer if tensor.data_type in floats)
