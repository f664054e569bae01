"""A trained classifier in ONNX as a Keras model from its pixels to its logits."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pipeline.models import onnx_end
from pipeline.models.last_activation import PROBABILITIES, refuse_another_function, refuse_no_classes
from pipeline.models.model_end import REMEDY, refuse_other_outputs
from pipeline.models.onnx_files import count_parameters, external_data, place_of, read_graph, tensors_of
from pipeline.models.onnx_layer import GRAPH, Dtype, Layout, OnnxGraph, session_of
from pipeline.models.teacher_file import GivenTeacher
from pipeline.runtime.errors import ParameterError, UnusableError, quoted
from pipeline.runtime.onnx_errors import without_prefix

CHANNELS = (1, 3)
DTYPES: dict[str, Dtype] = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
}
"""The types of a graph's input, as ONNX Runtime calls them."""

STATE_IT = "State the images that it takes as train_teacher.input_shape: [height, width, channels]."

TRIED = (2, 7)
"""Numbers of images for which a graph must give as many rows of equally many numbers."""

Shape = tuple[int, int, int]


def load(teacher: GivenTeacher) -> tuple[Any, str, list[str]]:
    """Loads an ONNX file.

    Returns:
        A Keras model from (B, height, width, channels) pixels to (B, C) logits, whose one layer is an `OnnxGraph`; the
        activation at the end of the file's graph, which the model lacks if it is a softmax or sigmoid; and notes.

    Raises:
        MissingError: a package or a file of external data is missing.
        DamagedError: a file cannot be read.
        UnusableError: ONNX Runtime cannot compute the graph; or it does not classify images, or gives no logits.
        ParameterError: `input_shape` is missing or does not fit, or the preprocessing does not.
    """
    file = teacher.file
    proto = read_graph(file)
    with _copied(proto, file) as folder:
        layer = _layer(folder, proto, file)
        if layer.graph_dtype == "uint8" and teacher.preprocessing != "none":
            raise ParameterError(
                f"{file} takes whole numbers (uint8), so it scales the pixels itself: leave "
                "train_teacher.preprocessing out."
            )
        shape = _found_shape(layer, teacher.input_shape, file)
        model = _model(layer, shape)
        activation = onnx_end.last_activation(proto.graph)
        batch = "" if layer.batch_size is None else f", {layer.batch_size} image(s) at a time"
        notes = [f"ONNX Runtime computes it, as a layer of Keras ({layer.layout}{batch})"]
        if activation not in PROBABILITIES:
            onnx_end.refuse_no_logits(proto.graph, file)
            refuse_other_outputs(model, file)
            return model, activation, notes
        refuse_no_classes(activation, layer.outputs, file)
        onnx_end.switch_off_last_activation(proto.graph)
        if (before := onnx_end.last_activation(proto.graph)) in PROBABILITIES:
            raise UnusableError(f"{file} without its last {activation} ends in {before}, in probabilities. {REMEDY}")
        _write(proto, folder)
        bare_layer = _layer(folder, proto, file)
        bare_layer.layout, bare_layer.outputs = layer.layout, layer.outputs
    bare = _model(bare_layer, shape)
    refuse_another_function(model, bare, activation, file)
    return bare, activation, [*notes, f"the {activation} at its end is switched off in the copy"]


@contextmanager
def _copied(proto: Any, file: Path) -> Iterator[Path]:
    """A folder with a graph and its external data, which get plain names there."""
    beside = external_data(proto, file)
    names = {place: f"data{number}" for number, place in enumerate(beside)}
    for tensor in tensors_of(proto):
        name = names.get(place_of(tensor) or "")
        for entry in tensor.external_data:
            if name is not None and entry.key == "location":
                entry.value = name
    with tempfile.TemporaryDirectory() as folder:
        for place, path in beside.items():
            shutil.copyfile(path, Path(folder, names[place]))
        _write(proto, Path(folder))
        yield Path(folder)


def _write(proto: Any, folder: Path) -> None:
    (folder / GRAPH).unlink(missing_ok=True)  # a layer may still read the old one
    (folder / GRAPH).write_bytes(proto.SerializeToString(deterministic=True))


def _layer(folder: Path, proto: Any, file: Path) -> OnnxGraph:
    """The graph in a folder as a layer, whose layout and number of outputs are not known yet."""
    session, fault = session_of(folder / GRAPH)
    if session is None:
        raise UnusableError(
            f"{file} is no graph for this machine. {fault}. Export the model again, with the operators of ONNX alone "
            "and an opset that this version knows (opset_version=18)."
        )
    taken, given = _only(session.get_inputs(), "input", file), _only(session.get_outputs(), "output", file)
    if taken.type not in DTYPES or given.type not in DTYPES or given.type == "tensor(uint8)":
        raise UnusableError(
            f"{file} takes {taken.type} and gives {given.type}; expected images as one of {', '.join(DTYPES)}, and "
            "logits as floating-point numbers. Export it with these types."
        )
    layer = OnnxGraph(
        name="graph",
        graph_input=taken.name,
        graph_dtype=DTYPES[taken.type],
        layout="NHWC",
        batch_size=taken.shape[0] if taken.shape and isinstance(taken.shape[0], int) else None,
        outputs=0,
        graph_parameters=count_parameters(proto),
    )
    layer.attach(session, folder)
    return layer


def _only(ends: Sequence[Any], kind: str, file: Path) -> Any:
    if len(ends) != 1:
        raise UnusableError(
            f"{file} has {len(ends)} {kind}s: {quoted([end.name for end in ends])}; expected the images as its only "
            "input and the logits as its only output. Export it so, or cut it with `onnx.utils.extract_model(FILE, "
            "NEW_FILE, [INPUT], [OUTPUT])`."
        )
    return ends[0]


def _found_shape(layer: OnnxGraph, stated: Shape | None, file: Path) -> Shape:
    """The (height, width, channels) of the images; gives the layer its layout and the number of its outputs."""
    fitting, refusals = [], []
    for layout, shape in _places(layer.session.get_inputs()[0].shape, stated, file):
        layer.layout = layout
        try:
            given = [layer.run(np.zeros((images, *shape), np.float32)).shape for images in TRIED]
            fitting.append((layout, shape, given))
        except Exception as error:  # ONNX Runtime has many, without a common class
            refusals.append(without_prefix(error))
    if not fitting:
        raise UnusableError(
            f"{file} cannot compute batches of {TRIED[0]} and of {TRIED[1]} images: {refusals[-1]}. Export it with a "
            "batch of any size, or of the fixed size that it needs."
        )
    if len(fitting) > 1:
        raise UnusableError(
            f"{file} takes images as NCHW and as NHWC alike, and nobody can tell which it expects. Export it with "
            "fixed sizes of its input."
        )
    ((layer.layout, shape, given),) = fitting
    for images, outputs in zip(TRIED, given, strict=True):
        if len(outputs) != 2 or outputs != (images, given[0][1]):
            raise UnusableError(
                f"{file} does not classify images: for {images} images it gives numbers of shape {outputs}; expected "
                f"({images}, classes). Export it with one row of logits for each image."
            )
    layer.outputs = given[0][1]
    return shape


def _places(taken: Sequence[Any], stated: Shape | None, file: Path) -> list[tuple[Layout, Shape]]:
    """The layouts that a graph may expect, each with the (height, width, channels) of the images.

    Args:
        taken: the shape of the graph's input; a size that is not a number is free.
        stated: `GivenTeacher.input_shape`.
        file: how messages name the graph.
    """
    words = f"({', '.join('?' if size is None else str(size) for size in taken)})"
    if len(taken) != 4:
        raise UnusableError(
            f"{file} takes inputs of shape {words}; expected images, (batch, channels, height, width) or "
            "(batch, height, width, channels). Export it with such an input."
        )
    if stated is not None:
        height, width, channels = stated
        orders: dict[Layout, Shape] = {"NCHW": (channels, height, width), "NHWC": stated}
        places = [(layout, stated) for layout, order in orders.items() if _fits(taken[1:], order)]
        if not places:
            raise ParameterError(
                f"train_teacher.input_shape is {list(stated)}, but {file} takes inputs of shape {words}. Leave it out "
                "if the file says the size, or state the size with which the model was trained."
            )
        return places
    if not all(isinstance(size, int) for size in taken[1:]):
        raise ParameterError(f"{file} takes inputs of shape {words}, which leaves the size open. {STATE_IT}")
    one, two, three = taken[1:]
    by_channels: dict[Layout, Shape] = {"NCHW": (two, three, one), "NHWC": (one, two, three)}
    places = [(layout, shape) for layout, shape in by_channels.items() if shape[2] in CHANNELS]
    if len(places) > 1:
        raise ParameterError(f"{file} takes inputs of shape {words}, and two of these can be the channels. {STATE_IT}")
    if not places:
        raise UnusableError(
            f"{file} takes inputs of shape {words}; expected images of 1 channel (grey) or 3 (RGB), "
            "(batch, channels, height, width) or (batch, height, width, channels). Use a teacher of such images."
        )
    return places


def _fits(taken: Sequence[Any], order: Shape) -> bool:
    return all(not isinstance(size, int) or size == wanted for size, wanted in zip(taken, order, strict=True))


def _model(layer: OnnxGraph, shape: Shape) -> Any:
    pixels = keras.Input(shape, name="pixels")
    return keras.Model(pixels, layer(pixels), name="onnx")
