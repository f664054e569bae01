"""What a model costs to store and to run."""

import math
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2


def cost(model: Any, file: Path) -> dict[str, Any]:
    """The model's numbers of weights, the operations of its forward pass, and the bytes of its file.

    Args:
        model: a Keras model; None if a teacher is none, whose bytes alone are known.
        file: its file.

    Returns:
        What is known; the operations are not if the model holds a graph of another format.
    """
    bytes_of_file = {"file_bytes": file.stat().st_size}
    if model is None:
        return bytes_of_file
    counted = {} if graph_parameters(model) else {"flops": forward_flops(model)}
    return {"parameters": parameters(model), **counted, **bytes_of_file}


def graph_parameters(model: Any) -> list[int]:
    """How many parameters each graph of another format in a model has; TensorFlow's profiler does not see these."""
    return [layer.graph_parameters for layer in model._flatten_layers() if hasattr(layer, "graph_parameters")]


def forward_flops(model: Any) -> int:
    """Floating-point operations of one image's forward pass; a multiply-add counts as two.

    TensorFlow's profiler counts them on the inference graph, in which variables are constants.
    """
    shape = (1, *model.input_shape[1:])
    function = tf.function(lambda pixels: model(pixels, training=False))
    concrete = function.get_concrete_function(tf.TensorSpec(shape, tf.float32))
    graph = convert_variables_to_constants_v2(concrete).graph
    profiler = tf.compat.v1.profiler
    options = profiler.ProfileOptionBuilder(profiler.ProfileOptionBuilder.float_operation())
    return int(profiler.profile(graph, options=options.with_empty_output().build()).total_float_ops)


def parameters(model: Any) -> dict[str, int]:
    """The number of all weights, and of those that were trained in the model's last phase.

    The latter is missing if the model holds a graph of another format, which does not say it.
    """
    if graphs := graph_parameters(model):
        return {"total": int(model.count_params()) + sum(graphs)}
    return {
        "total": int(model.count_params()),
        "trainable": int(sum(math.prod(weight.shape) for weight in model.trainable_weights)),
    }


def untrained(architecture: dict[str, Any]) -> Any:
    """A Keras model with freshly initialized weights, for measurements of its speed.

    Args:
        architecture: the model's layers, as Keras serializes a model.
    """
    return keras.saving.deserialize_keras_object(architecture, safe_mode=True)
