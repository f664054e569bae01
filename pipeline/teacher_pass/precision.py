"""Mixed precision: a teacher computes in a 16-bit float, which is faster on a GPU's tensor cores.

The weights stay float32, and are rounded when they are used.
"""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from pipeline.models.onnx_layer import graphs_in
from pipeline.runtime.errors import ParameterError
from pipeline.soft_labels.reading import MixedPrecision

ON_PIXELS = (keras.layers.InputLayer, keras.layers.Rescaling, keras.layers.Normalization)
"""Layers on the pixels stay in float32: a pixel up to 255 with a fraction needs more than a bfloat16's 8 bits."""


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
