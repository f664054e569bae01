"""Mixed precision: a teacher computes in a 16-bit float, which is faster on a GPU's tensor cores.

The weights stay float32, and are rounded when they are used.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from pipeline.models.ensembles import LoadedTeacher, Teacher, load_teacher
from pipeline.models.onnx_layer import graphs_in
from pipeline.runtime.errors import ParameterError
from pipeline.soft_labels.reading import MixedPrecision, Precision

ON_PIXELS = (keras.layers.InputLayer, keras.layers.Rescaling, keras.layers.Normalization)
"""Layers on the pixels stay in float32: a pixel up to 255 with a fraction needs more than a bfloat16's 8 bits."""


def load_in_precision(path: Path, class_names: Sequence[str], precision: Precision) -> LoadedTeacher:
    """Loads a teacher's `.keras` file, as `load_teacher` does.

    Args:
        path: the file.
        class_names: C names.
        precision: "float32" means as the file says; with a mixed one, `in_full` of each member keeps the copy that
            computes in the file's precision.

    Raises:
        MissingError, DamagedError, MismatchError, UnusableError: as `load_teacher`.
        ParameterError: mixed precision is wanted where no member computes, or of an ONNX graph.
    """
    loaded = load_teacher(path, class_names)
    if precision == "float32":
        return loaded
    again = load_teacher(path, class_names).members
    return loaded._replace(members=_in_mixed_precision(loaded.members, again, precision))


def _in_mixed_precision(
    teachers: Sequence[Teacher], again: Sequence[Teacher], precision: MixedPrecision
) -> list[Teacher]:
    """The teachers, computing in mixed precision; `in_full` keeps the copy that computes in full precision.

    Raises:
        ParameterError: none of them computes.
    """
    if all(teacher.model is None for teacher in teachers):
        raise ParameterError(
            f"precompute.precision is {precision}, but the teacher's logits are given: nothing computes them. Leave "
            "precompute.precision out."
        )
    for copy in again:
        if copy.model is not None:
            lower(copy.model, precision)
    return [replace(copy, in_full=teacher.model) for teacher, copy in zip(teachers, again, strict=True)]


def lower(model: Any, precision: MixedPrecision) -> None:
    """Makes the layers of a Keras model compute in mixed precision.

    Three kinds of layers stay as they are: those that preprocess the pixels; the last layer with weights, which gives
    the logits, and all behind it; and quantised layers.

    Args:
        model: a model that no compiled function has called yet; its weights are not changed.
        precision: the mixed precision.

    Raises:
        ParameterError: a part of the model is an ONNX graph.
    """
    if graphs_in(model):
        raise ParameterError(
            f"precompute.precision is {precision}, but the teacher holds an ONNX graph, which computes in the "
            "precision in which it was exported. Set precompute.precision: float32, or export the model in float16."
        )
    for layer in _before_the_logits(model):
        if not isinstance(layer, ON_PIXELS) and getattr(layer, "quantization_mode", None) is None:
            layer.dtype_policy = keras.dtype_policies.get(precision)


def _before_the_logits(model: Any) -> Iterator[Any]:
    """All layers before the last one with weights, with the layers of nested models in place of these models."""
    layers = [layer for layer in model.layers if layer is not model]
    last = max((number for number, layer in enumerate(layers) if layer.weights), default=0)
    for layer in layers[:last]:
        yield from (part for part in layer._flatten_layers() if not isinstance(part, keras.Model))
    if layers and isinstance(layers[last], keras.Model):
        yield from _before_the_logits(layers[last])


def difference(lowered: npt.NDArray[np.float32], full: npt.NDArray[np.float32]) -> str:
    """How logits (N, C) of two precisions differ, in words."""
    errors = np.abs(lowered.astype(np.float64) - full)
    others = int((lowered.argmax(axis=1) != full.argmax(axis=1)).sum())
    return (
        f"compared with the teacher's own precision on {len(full)} image(s), logits (from {full.min():.3g} to "
        f"{full.max():.3g}) differ by at most {errors.max():.3g}, on average by {errors.mean():.3g}; "
        f"the predicted class changes for {others}"
    )
