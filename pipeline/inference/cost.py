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
    """
    bytes_of_file = {"file_bytes": file.stat().st_size}
    if model is None:
        return bytes_of_file
    return {"parameters": parameters(model), "flops": forward_flops(model), **bytes_of_file}


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
    """The number of all weights, and of those that were trained in the model's last phase."""
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
