"""What of a model computes the same for an image in each epoch of a phase: the graph of its frozen tensors."""

import inspect
import math
from collections.abc import Collection
from functools import cached_property
from typing import Any

import keras

from pipeline.models.cheapest_cut import WIDE, cheapest_cut

BATCH = 1009
"""A batch size that no dimension of a model is likely to have: it shows which tensors have one row for each image."""

ASSIGN = {"assign", "assign_add", "assign_sub"}
"""What a layer calls that changes a variable."""

SAME_IN_TRAINING = (keras.layers.Dense.call, keras.layers.EinsumDense.call)
"""Methods that take `training` and compute the same with and without it."""

LOOKED_INTO = ("keras.src.models.functional", "keras.src.models.sequential")
"""The modules whose models do no more in training than their layers do."""


class FrozenGraph:
    """The calls of a model's layers from the preprocessed pixels to the logits, and which of them are frozen.

    A call is frozen if its layer is, if it computes the same in training as in inference, and if it depends on frozen
    calls alone. Layers without weights count as frozen.

    Args:
        model: a model of `architectures.chain` or `own_network`, with the trainable layers of the phase.
        in_inference_mode: whether its backbone is in inference mode also in training.

    Attributes:
        preprocessing: the layers before the backbone.
        head: the layers behind it.
        calls: the nodes of Keras from the backbone's input on, in an order in which they can be computed.
        tensors: the frozen tensors by their id, in the order of the calls, the backbone's input first.
        obstacle: the first layer that is not frozen, and why, in words.
    """

    def __init__(self, model: Any, in_inference_mode: bool) -> None:
        self.input_shape, self.in_inference_mode = tuple(model.input_shape[1:]), in_inference_mode
        backbone, operations = model.get_layer("backbone"), model.operations[1:]  # without the input
        place = operations.index(backbone)
        self.preprocessing, self.head = operations[:place], operations[place + 1 :]
        self.pixels, self.features = backbone.inputs[0], backbone.outputs[0]
        self.logits = self.features
        for operation in self.head:
            self.logits = operation(self.logits)
        by_depth = keras.Model(self.pixels, self.logits)._nodes_by_depth
        self.calls = [call for depth in sorted(by_depth, reverse=True) for call in by_depth[depth] if not call.is_input]
        self.tensors, self.obstacle = {id(self.pixels): self.pixels}, ""
        self._frozen_calls: dict[int, Any] = {}
        trained = {id(variable) for layer in model.layers for variable in layer.trainable_variables}
        for call in self.calls:
            if all(id(tensor) in self.tensors for tensor in call.input_tensors):
                objection = _objection(call.operation, in_inference_mode and call.operation not in self.head, trained)
                if objection is None:
                    self._frozen_calls[id(call)] = call
                    self.tensors |= {id(tensor): tensor for tensor in call.outputs}
                elif not self.obstacle:
                    self.obstacle = f"{call.operation.name} {objection}"

    def has_weights(self, tensors: Collection[Any] | None = None) -> bool:
        """Whether frozen layers with weights compute certain tensors; None: any frozen tensor."""
        keys, found = set(self.tensors) if tensors is None else {id(tensor) for tensor in tensors}, False
        for call in reversed(self._frozen_calls.values()):
            if any(id(tensor) in keys for tensor in call.outputs):
                keys |= {id(tensor) for tensor in call.input_tensors}
                found = found or _has_weights(call.operation)
        return found

    def cheapest_cut(self, numbers_a_flop: float) -> list[Any]:
        """The frozen tensors to keep, in the order of the calls.

        Args:
            numbers_a_flop: what a FLOP of an image that is computed again costs, in numbers that are kept.
        """
        place = {key: number for number, key in enumerate(self.tensors)}
        again, arcs = [0] * len(place), []
        ends = {place[id(self.logits)]} if id(self.logits) in place else set()
        for call in self.calls:
            starts = [place[id(tensor)] for tensor in call.input_tensors if id(tensor) in place]
            if id(call) in self._frozen_calls:
                results = [place[id(tensor)] for tensor in call.outputs]
                arcs += [(start, result) for start in starts for result in results]
                for result in results:
                    again[result] = int(self._flops(call) * numbers_a_flop)
            else:
                ends |= set(starts)
        tensors = list(self.tensors.values())
        kept = [self._numbers(tensor) for tensor in tensors]
        return [tensors[number] for number in cheapest_cut(kept, again, arcs, ends)]

    def shape(self, tensor: Any) -> tuple[int, ...]:
        """The shape of a frozen tensor for one image."""
        return tuple(self._specs[id(tensor)].shape[1:])

    def name(self, tensor: Any) -> str:
        """The name of the layer that gives a frozen tensor; with numbers where it gives several."""
        layer, call, place = tensor._keras_history
        calls = [one for one in self.calls if one.operation is layer]
        of_call = f", call {calls.index(layer._inbound_nodes[call]) + 1}" if len(calls) > 1 else ""
        several = len(layer._inbound_nodes[call].outputs) > 1
        return f"{layer.name}{of_call}" + (f", output {place + 1}" if several else "")

    @cached_property
    def _specs(self) -> dict[int, Any]:
        """Shape and type of the frozen tensors, for `BATCH` images."""
        tensors = list(self.tensors.values())
        pixels = keras.KerasTensor((BATCH, *self.input_shape))
        return dict(zip(self.tensors, keras.Model(self.pixels, tensors).compute_output_spec(pixels), strict=True))

    def _numbers(self, tensor: Any) -> int:
        """How many numbers of an image a tensor has; `WIDE` if a row of float32 for each image cannot hold it."""
        spec = self._specs[id(tensor)]
        has_row_for_each_image = spec.shape[:1] == (BATCH,) and None not in spec.shape
        is_exact = spec.dtype in ("float16", "bfloat16", "float32")
        return math.prod(spec.shape[1:]) if has_row_for_each_image and is_exact else WIDE

    def _flops(self, call: Any) -> int:
        """About the FLOPs of one image: each weight is multiplied and added once at each place of the result."""
        layer = call.operation
        if not _has_weights(layer):
            return 0
        if len(layer._flatten_layers()) > 1:  # at how many places its layers compute is not known
            return 1000 * WIDE
        return 2 * int(layer.count_params()) * max(math.prod(self.shape(tensor)[:-1]) for tensor in call.outputs)


def _has_weights(operation: Any) -> bool:
    return bool(getattr(operation, "weights", ()))


def _objection(operation: Any, in_inference_mode: bool, trained: Collection[int]) -> str | None:
    """Why the results of an operation cannot be kept from one epoch to the next; None if they can be.

    Args:
        operation: a layer, or an operation without weights.
        in_inference_mode: whether it is in inference mode also in training.
        trained: the ids of the variables that the phase trains: a layer in a frozen model may also stand elsewhere.
    """
    if not isinstance(operation, keras.layers.Layer):
        return None
    if any(id(variable) in trained for variable in operation.variables):
        return "is trained"
    for layer in operation._flatten_layers():
        call = type(layer).call
        takes_training = "training" in inspect.signature(call).parameters
        always_changes = not takes_training and not ASSIGN.isdisjoint(_names_in(call))
        if always_changes or "add_loss" in _names_in(call) or layer.activity_regularizer is not None:
            return "adds a loss or changes a variable"
        if in_inference_mode or call.__module__ in LOOKED_INTO or call in SAME_IN_TRAINING:
            continue
        if call is keras.layers.BatchNormalization.call:
            if layer.trainable:  # frozen, it uses its own statistics
                return "uses the statistics of the batch"
        elif takes_training or layer._seed_generators:
            return "may do something else in training than in inference"
    return None


def _names_in(function: Any) -> tuple[str, ...]:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return () if code is None else code.co_names
