"""A model that is cut in two for a phase: a frozen part, which gives each image the same features in every epoch, and
the rest, which is trained on these features. TensorFlow is not imported here.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from pipeline.models import architectures
from pipeline.models.frozen_graph import FrozenGraph

NUMBERS_A_FLOP = 1 / 1000
"""What a FLOP costs that the rest computes again, in numbers that are kept.

It decides where a small tensor stands before a frozen layer that widens it. MobileNetV2 with images of 224 pixels,
trained from layer 100 on, is cut at 18,816 numbers: not at the 131,712 to which the next, frozen convolution leads,
and not at 12,544, a whole block before. All values from 1/4,000 to 1/250 give this cut.
"""

NOTHING_IS_FROZEN = "no layer with weights is frozen"
"""The reason why a model is not cut in most phases."""


@dataclass(frozen=True)
class Cut:
    """A model that is cut in two for one phase.

    Attributes:
        frozen: a Keras model from (B, height, width, channels) pixels, 0 to 255, to (B, K) float32 features; to be run
            in inference mode.
        rest: a Keras model from (B, K) float32 features to (B, C) logits, to be trained. It shares its layers with the
            model, connected as `architectures.for_phase` does it.
        tensors: the shape of each kept tensor, for one image, by the name of the layer that gives it. A row of features
            holds them in this order, the last index of each running fastest.
    """

    frozen: Any
    rest: Any
    tensors: dict[str, tuple[int, ...]]

    @property
    def values(self) -> int:
        """K, the number of features of an image."""
        return _count(self.tensors.values())


@dataclass(frozen=True)
class NotCut:
    """A model that is not cut.

    Attributes:
        reason: why, as a part of a sentence.
    """

    reason: str


def cut(model: Any, trainable_from: str | int | None, inference_mode: bool) -> Cut | NotCut:
    """Cuts a model in two for one phase of training.

    The frozen part ends before batch normalisation that uses the batch's statistics, and before dropout and all that
    may do something else in training, unless the phase runs them in inference mode; `FrozenGraph` has the rules. A
    nested model within the backbone is one layer here: all of its layers are frozen, or none is.

    Args:
        model: a model of `architectures.chain` or `own_network`, from (B, height, width, channels) pixels to (B, C)
            logits. Its layers are frozen as `architectures.for_phase` does it.
        trainable_from: as `architectures.for_phase` takes it.
        inference_mode: the same.

    Raises:
        ParameterError: the backbone has no such layer.
    """
    architectures.set_trainable(model, trainable_from)
    if not any(layer.weights and not layer.trainable for layer in model.get_layer("backbone").layers):
        return NotCut(NOTHING_IS_FROZEN)
    graph = FrozenGraph(model, architectures.is_in_inference_mode(trainable_from, inference_mode))
    if not graph.has_weights():
        return NotCut(f"no frozen layer with weights depends on the pixels alone: {graph.obstacle}")
    for numbers_a_flop in (NUMBERS_A_FLOP, 0):
        kept = graph.cheapest_cut(numbers_a_flop)
        count = _count(graph.shape(tensor) for tensor in kept)
        if count < math.prod(graph.input_shape) and graph.has_weights(kept):
            return _cut_at(kept, graph, model.name)
    pixels = f"the {math.prod(graph.input_shape):,} numbers of the pixels"
    return NotCut(f"what leaves the frozen layers is no smaller than {pixels}; they end where {graph.obstacle}")


def _cut_at(kept: Sequence[Any], graph: FrozenGraph, name: str) -> Cut:
    tensors = {graph.name(tensor): graph.shape(tensor) for tensor in kept}
    features = pixels = keras.Input(graph.input_shape, name="pixels")
    layers = keras.Model(graph.pixels, list(kept), name="frozen_layers")
    for operation in [*graph.preprocessing, layers, _Row(name="row", dtype="float32")]:
        features = operation(features)
    row = keras.Input((_count(tensors.values()),), name="kept_features")
    parts = _Parts(list(tensors.values()), [tensor.dtype for tensor in kept], name="kept_tensors", dtype="float32")
    rest = keras.Model(row, _logits(kept, parts(row), graph), name=name)
    return Cut(keras.Model(pixels, features, name="frozen_part"), rest, tensors)


def _logits(kept: Sequence[Any], given: Sequence[Any], graph: FrozenGraph) -> Any:
    """The logits, computed from given tensors in the place of the kept ones."""
    of_head = [call for call in graph.calls if call.operation in graph.head]
    of_backbone = [call for call in graph.calls if call.operation not in graph.head]
    if any(tensor is result for tensor in kept for call in of_backbone[:-1] for result in call.outputs):
        inputs = [
            keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=f"kept_tensor{number}")
            for number, tensor in enumerate(given, 1)
        ]
        backbone = keras.Model(inputs, _computed(graph.features, of_backbone, kept, inputs), name="backbone")
        behind = architectures.InferenceMode(backbone) if graph.in_inference_mode else backbone
        kept, given = [graph.features], [behind(given)]
    return _computed(graph.logits, of_head, kept, given)


def _computed(result: Any, calls: Sequence[Any], kept: Sequence[Any], given: Sequence[Any]) -> Any:
    """What becomes of `result` if the calls that can be are repeated with given tensors in the place of kept ones."""
    known = {id(tensor): one for tensor, one in zip(kept, given, strict=True)}
    for call in calls:
        if all(id(tensor) in known for tensor in call.input_tensors):
            arguments, options = call.arguments.fill_in(known)
            results = keras.tree.flatten(call.operation(*arguments, **options))
            known = {id(tensor): one for tensor, one in zip(call.outputs, results, strict=True)} | known
    return known[id(result)]


class _Row(keras.layers.Layer):
    """Puts the values of tensors (B, ...) in rows (B, K); with the type float32, it casts them to that."""

    def call(self, tensors: Any) -> Any:
        """Takes a tensor, or several in a list."""
        several = tensors if isinstance(tensors, list) else [tensors]
        rows = [ops.reshape(one, (-1, math.prod(one.shape[1:]))) for one in several]
        return ops.concatenate(rows, axis=1) if len(rows) > 1 else rows[0]


class _Parts(keras.layers.Layer):
    """The inverse of `_Row`: the tensors, in a list.

    Args:
        shapes: of each tensor, for one image.
        dtypes: of each tensor.
    """

    def __init__(self, shapes: Sequence[tuple[int, ...]], dtypes: Sequence[str], **options: Any) -> None:
        super().__init__(**options)
        self.shapes, self.dtypes = shapes, dtypes

    def call(self, row: Any) -> Any:
        """Takes rows (B, K) of float32."""
        ends = np.cumsum([math.prod(shape) for shape in self.shapes])[:-1].tolist()
        parts = ops.split(row, ends, axis=1) if ends else [row]
        return [
            ops.cast(ops.reshape(part, (-1, *shape)), dtype)
            for part, shape, dtype in zip(parts, self.shapes, self.dtypes, strict=True)
        ]


def _count(shapes: Iterable[tuple[int, ...]]) -> int:
    return sum(map(math.prod, shapes))
