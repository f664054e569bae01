"""A student as a TensorFlow graph from uint8 pixels to answers, from which every file is made."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from pipeline.deployed.metadata import Output

PIXELS = "pixels"
"""The name of the input, in every format that keeps names."""


RANDOM_STATE = "seed_generator_state"
"""The end of the names that Keras gives to the states of its random layers."""


class Graph(tf.Module):
    """A student whose input is uint8 pixels, with softmax if that is wished.

    The states of its random layers become 0: they are never used, and Keras draws them anew when it loads a student.

    Args:
        model: from (B, height, width, channels) pixels, 0 to 255, to (B, C) logits; Keras' layers in TensorFlow.
        output: what the graph gives, and the name of its output.

    Attributes:
        serve: a `tf.function` from (B, height, width, channels) uint8 to {output: (B, C) float32}; B is free.
    """

    def __init__(self, model: Any, output: Output) -> None:
        super().__init__()
        self.output, self._shape = output, (None, *model.input_shape[1:])
        apply = _with_channels_gathered(model)
        # In a function, where TensorFlow does not look for variables: else it saves each twice.
        self._logits: Callable[[Any], Any] = lambda pixels: apply(tf.cast(pixels, tf.float32), training=False)
        for state in model.variables:
            if state.path.endswith(RANDOM_STATE):
                state.assign(keras.ops.zeros_like(state))
        self._variables = [variable.value for variable in model.variables]  # TensorFlow saves those that it finds here
        self.serve = tf.function(self._answers, input_signature=[tf.TensorSpec(self._shape, tf.uint8, name=PIXELS)])

    def _answers(self, pixels: Any) -> dict[str, Any]:
        logits = tf.cast(self._logits(pixels), tf.float32)
        return {self.output: tf.nn.softmax(logits) if self.output == "probabilities" else logits}

    def frozen(self, pixel_type: Any = tf.uint8) -> Any:
        """A concrete function with the weights as constants.

        Args:
            pixel_type: `tf.uint8`; or `tf.float32` for a converter that puts its own integer input in front.
        """
        signature = tf.TensorSpec(self._shape, pixel_type, name=PIXELS)
        function = tf.function(self._answers, input_signature=[signature])
        with _functions_inlined():
            concrete = function.get_concrete_function()
        return convert_variables_to_constants_v2(concrete)

    def narrow_types(self) -> list[str]:
        """The types of 16 bits in which the student computes: ["float16"]."""
        types = {value.dtype for node in self.frozen().graph.get_operations() for value in node.outputs}
        return sorted(kind.name for kind in types & {tf.float16, tf.bfloat16})


@contextmanager
def _functions_inlined() -> Iterator[None]:
    """Traces what Keras wraps into functions, such as grouped convolutions, as parts of the graph that calls them."""
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def _with_channels_gathered(model: Any) -> Any:
    """The same model, but where `preprocessing: caffe` flips the channels, they are gathered in this order.

    LiteRT flips integers without a regard to their scale, and so gives other numbers (TensorFlow 2.21).
    """
    if not any(_flips_channels(operation) for operation in model.operations):
        return model

    def call(operation: Any, *arguments: Any, **options: Any) -> Any:
        if _flips_channels(operation):
            return keras.ops.take(arguments[0], [2, 1, 0], axis=-1)
        return operation(*arguments, **options)

    return keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=call)


def _flips_channels(operation: Any) -> bool:
    return type(operation).__name__ == "Flip" and operation.axis == -1
