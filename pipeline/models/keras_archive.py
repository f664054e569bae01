"""What a `.keras` file says of itself, looked at before Keras builds anything from it.

Keras believes a configuration: it takes memory for every weight, and time for every layer, whatever the file holds. The
weights lie in the same file, so a model needs no more of them than are there.
"""

import inspect
import io
import math
import re
import struct
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import keras

from pipeline.models.json_members import CONFIG, read_member, refuse_expanding
from pipeline.runtime.errors import DamagedError, UnusableError, one_line, shortened
from pipeline.runtime.limits import limits, raised_by

WEIGHTS = "model.weights.h5"
MOST_MEMBERS = 10_000
MOST_FILLED = 10
"""How often an array of weights may be larger than what is stored of it; Keras compresses nothing."""

SMALL = 4096
"""Bytes of an array for which `MOST_FILLED` does not count."""

OBJECTS_A_LAYER = 20
"""How many objects a layer may have on average: initializers, tensors, types; usual are six."""

CALLS_A_LAYER = 20
"""Keras builds a Sequential model again for each of its layers. So many calls take as long as the making of a layer."""

LONGEST_LIST = 65_536
"""Keras turns a list of numbers into a tensor one by one: a million take a second."""

MOST_NESTED = 12
"""How many models may lie inside each other: each takes a few levels of a document's depth."""

ARRAYS = ("__numpy__", "__tensor__")
ATTENTION = (
    keras.layers.MultiHeadAttention,
    keras.layers.GroupQueryAttention,
    keras.layers.Attention,  # and AdditiveAttention, which is one
)
PLAIN_TYPE = re.compile(r"(bool|string|bfloat16|(u?int|float|complex)\d{1,3})")
COSTLY = {
    *("CategoryEncoding", "Discretization", "FeatureSpace", "HashedCrossing", "Hashing", "IntegerLookup"),
    *("MelSpectrogram", "STFTSpectrogram", "StringLookup", "TextVectorization"),
}
"""Layers for texts, tables and sounds: they make arrays, or run loops, as large as their settings say."""

STEPS_OF_AUGMIX = 100
"""Chains times their depth; usual are nine."""

ONE_AT_A_TIME = threading.RLock()
"""Held while Keras' method for weights is replaced, which is that of all threads."""


def refuse_costly(path: Path, remedy: str) -> int:
    """Looks at a `.keras` file, which is a zip archive.

    Args:
        path: the file.
        remedy: what to do if it is damaged, as a sentence.

    Returns:
        The most weights that its model may have: each takes at least a byte.

    Raises:
        DamagedError: a part of it is missing or cannot be read.
        UnusableError: it would take too much memory or time.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _refuse_members(archive)
            weights = archive.getinfo(WEIGHTS)
            config = read_member(archive, CONFIG)
            refuse_layers(config, path)
            with _opened(archive, weights, path) as file, h5py.File(file, "r") as arrays:
                arrays.visititems(_refuse_empty)
    except UnusableError:
        raise
    except Exception as error:  # zip, JSON and HDF5 have many
        raise DamagedError(f"{path} cannot be loaded as a Keras model: {one_line(error)}. {remedy}") from None
    return min(weights.file_size, limits().model_parameters)


def _refuse_members(archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    if len(members) > MOST_MEMBERS:
        raise ValueError(f"the archive has {len(members):,} members")
    for member in members:
        parts = member.filename.replace("\\", "/").split("/")
        if ".." in parts or parts[0] == "" or ":" in parts[0]:
            raise ValueError(f"{shortened(member.filename, 60)!r} lies outside of the archive")
        refuse_expanding(member)


def refuse_layers(config: Any, path: Path) -> None:
    """Checks the layers of a model, as Keras serializes them.

    Raises:
        UnusableError: they would take too much memory or time.
        ValueError: a setting is too large; says why in a few words.
    """
    most = limits().model_layers
    counts = {"layers (those of a Sequential model count more)": (_cost(config), most)}
    counts["objects"] = sum(1 for _ in _objects(config)), most * OBJECTS_A_LAYER
    for what, (count, most_of_it) in counts.items():
        if count > most_of_it:
            raise UnusableError(
                f"{path} has {count:,} {what}, more than {most_of_it:,}: Keras takes minutes to build it. "
                f"{raised_by('model_layers')}"
            )
    _refuse_long(config)
    for known in _objects(config):
        name, settings = known["class_name"], known["config"]
        dtype = settings.get("dtype") if isinstance(settings, dict) else None
        if name in ARRAYS and not (isinstance(dtype, str) and PLAIN_TYPE.fullmatch(dtype)):
            raise ValueError(f"an array of type {shortened(repr(dtype), 60)}")
        if isinstance(settings, dict) and settings.get("unroll") is True:
            raise UnusableError(
                f"{path} has a layer {name} that is unrolled, so it grows with each step. Save the model with "
                "unroll=False there: it gives the same logits."
            )
        if name in COSTLY or (name == "AugMix" and _steps(settings) > STEPS_OF_AUGMIX):
            raise UnusableError(
                f"{path} has a layer {name}, which may take as much memory or time as its settings say, so it is not "
                "accepted. Save the model without it."
            )


def _steps(settings: Any) -> int:
    """How many operations an AugMix layer applies to an image."""
    return int(settings.get("num_chains", 3)) * int(settings.get("chain_depth", 3))


def _refuse_long(value: Any, nested: int = 0) -> None:
    inner = [*value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    nested += isinstance(value, dict) and isinstance(value.get("layers"), list)
    if len(inner) > LONGEST_LIST:
        raise ValueError(f"a list of {len(inner):,} values among the settings of its layers")
    if nested > MOST_NESTED:
        raise ValueError(f"more than {MOST_NESTED} models lie inside each other")
    for part in inner:
        _refuse_long(part, nested)


def _objects(value: Any) -> Iterator[Mapping[str, Any]]:
    """All objects of Keras in a configuration."""
    if isinstance(value, dict):
        if "config" in value and isinstance(value.get("class_name"), str):
            yield value
        value = [*value.values()]
    for inner in value if isinstance(value, list) else ():
        yield from _objects(inner)


def _cost(value: Any) -> int:
    """How many layers Keras makes or calls; a model that is called several times counts as often."""
    if isinstance(value, list):
        return sum(map(_cost, value))
    if not isinstance(value, dict):
        return 0
    layers = value.get("layers")
    if not isinstance(layers, list):
        return sum(map(_cost, value.values()))
    each = [(1 + _cost(layer)) * max(_calls(layer), 1) for layer in layers]
    is_sequential = "output_layers" not in value
    return sum(each) * (1 + len(each) // CALLS_A_LAYER) if is_sequential else sum(each)


def _calls(layer: Any) -> int:
    nodes = layer.get("inbound_nodes") if isinstance(layer, dict) else None
    return len(nodes) if isinstance(nodes, list) else 0


def _refuse_empty(name: str, item: Any) -> None:
    """Refuses an array that HDF5 would fill: it declares a shape, and holds little of it."""
    if isinstance(item, h5py.Dataset) and item.nbytes > max(MOST_FILLED * item.id.get_storage_size(), SMALL):
        raise ValueError(f"the weights {shortened(name, 60)!r} have {item.nbytes:,} bytes, which are not in the file")


def refuse_large_outputs(model: Any, path: Path) -> None:
    """Checks the shapes of all that the layers of a model make, which no weights need to stand for.

    Raises:
        UnusableError: one has too many numbers for one image.
    """
    most = limits().layer_outputs
    for name, shape in _shapes(model):
        if math.prod(size for size in shape if size is not None) > most:
            raise UnusableError(
                f"{path}: its layer {shortened(name, 60)!r} makes {shape} for each image, more than {most:,} numbers. "
                f"{raised_by('layer_outputs')}"
            )


def _shapes(model: Any) -> Iterator[tuple[str, tuple[int | None, ...]]]:
    """The layers and operations of a model, with the shape of each tensor that they give, and of attention scores."""
    for layer in model._flatten_layers():
        for operation in {id(part): part for part in (layer, *getattr(layer, "operations", ()))}.values():
            for node in operation._inbound_nodes:
                yield from ((operation.name, tensor.shape) for tensor in node.output_tensors)
                if isinstance(operation, ATTENTION):
                    yield operation.name, _scores(operation, *_query_and_value(operation, node.arguments))


def _query_and_value(layer: Any, arguments: Any) -> tuple[tuple[int | None, ...], tuple[int | None, ...]]:
    """The shapes of an attention layer's query and value, each a tensor or an array, wherever they were given."""
    given = inspect.signature(layer.call).bind(*arguments.args, **arguments.kwargs).arguments
    query, value, *_ = given["inputs"] if "inputs" in given else (given["query"], given["value"])
    return tuple(query.shape), tuple(value.shape)


def _scores(layer: Any, query: tuple[int | None, ...], value: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """The shape of what an attention layer keeps of each pair of a query and a value."""
    if isinstance(layer, keras.layers.AdditiveAttention):
        return (*query[:-1], value[-2], query[-1])
    if not isinstance(layer, keras.layers.MultiHeadAttention):
        return (query[0], getattr(layer, "num_query_heads", 1), query[-2], value[-2])
    pairs = [shape[axis] for shape in (query, value) for axis in layer.attention_axes]
    beside = [size for axis, size in enumerate(query[:-1]) if axis not in layer.attention_axes]
    return (*beside, layer.num_heads, *pairs)


@contextmanager
def weights_within(most: int, path: Path | str, remedy: str = "Save the model again.") -> Iterator[None]:
    """Lets the block make no more weights than a file can hold.

    Args:
        most: how many.
        path: the file, for messages.
        remedy: what to do if it declares more, as a sentence.

    Raises:
        UnusableError: it makes more.
    """
    made, here = 0, threading.get_ident()

    def counted(layer: Any, shape: Any = None, *arguments: Any, **options: Any) -> Any:
        nonlocal made
        if threading.get_ident() == here:
            made += math.prod(size for size in shape or () if isinstance(size, int))
            if made > most:
                raise ValueError("too many weights")
        return add_weight(layer, shape, *arguments, **options)

    with ONE_AT_A_TIME:
        add_weight = keras.layers.Layer.add_weight
        keras.layers.Layer.add_weight = counted
        try:
            yield
        except Exception:
            if made <= most:
                raise
        finally:
            keras.layers.Layer.add_weight = add_weight
    if made > most:
        if most == limits().model_parameters:
            raise UnusableError(f"{path} has more than {most:,} weights. {raised_by('model_parameters')}")
        raise UnusableError(
            f"{path} declares a model of {made:,} weights or more, and holds at most {most:,}. {remedy}"
        )


@contextmanager
def _opened(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> Iterator[Any]:
    """A member as a file; one that is stored as it is, as Keras does it, is not read into memory."""
    if member.compress_type != zipfile.ZIP_STORED:
        yield io.BytesIO(archive.read(member))
        return
    with path.open("rb") as file:
        file.seek(member.header_offset + 26)
        name, extra = struct.unpack("<HH", file.read(4))
        yield _Part(file, member.header_offset + 30 + name + extra, member.file_size)


class _Part(io.RawIOBase):
    """Some bytes of a file as a file of their own, as h5py reads one."""

    def __init__(self, file: Any, start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = file, start, size, 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._start + self._at)
        count: int = self._file.readinto(memoryview(buffer)[: max(self._size - self._at, 0)])
        self._at += count
        return count
