"""What a model costs to store and to run."""

import math
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2


def cost(model: Any, file: Path) -> dict[str, Any]:
    """What a model costs to store and to run."""
    return {
        "parameters": parameters(model),
        "flops": forward_flops(model),
        "file_bytes": file.stat().st_size,
    }


def forward_flops(model: Any) -> int:
    """Floating-point operations of one image's forward pass, a multiply-add counted as two.

    Counted by TensorFlow's own profiler on the frozen inference graph.
    """
    shape = (1, *model.input_shape[1:])
    function = tf.function(lambda pixels: model(pixels, training=False))
    concrete = function.get_concrete_function(tf.TensorSpec(shape, tf.float32))
    graph = convert_variables_to_constants_v2(concrete).graph
    profiler = tf.compat.v1.profiler
    options = profiler.ProfileOptionBuilder(profiler.ProfileOptionBuilder.float_operation())
    counted = profiler.profile(graph, options=options.with_empty_output().build())
    return int(counted.total_float_ops)


def parameters(model: Any) -> dict[str, int]:
    """Numbers of weights: all of them, and those that were trained in the model's last phase."""
    return {
        "total": int(model.count_params()),
        "trainable": int(sum(math.prod(weight.shape) for weight in model.trainable_weights)),
    }


def untrained(architecture: dict[str, Any]) -> Any:
    """A Keras model of these layers, as Keras serializes a model, with weights that mean nothing; to be timed."""
    return keras.saving.deserialize_keras_object(architecture, safe_mode=True)
