"""Several steps in each call of TensorFlow: with a small model, calling it costs more than the step itself."""

import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf

CALL_SECONDS = 0.25
"""A call runs so many steps that it takes at most about so long: the program reacts to Ctrl-C between two calls."""


class StepsInOneCall:
    """A `train_function` or `test_function` of Keras that runs all steps of an epoch, several in each call.

    Keras' own `steps_per_execution` is fixed before the first step is timed, and takes more steps than an epoch has
    where it is no divisor of their number. Here, the calls grow until they are long enough. The steps are the same
    ones in the same order, so every weight and metric has the same bits however many are in a call.

    `fit` and `evaluate` must be told that an epoch has one step, and get a data set that does not end before.

    Args:
        model: a compiled Keras model.
        step: its `train_step` or `test_step`.
        steps: the number of steps of an epoch.
        advance: is called after each call with its number of steps.
        seconds: how long a call may take.
    """

    def __init__(
        self,
        model: Any,
        step: Callable[[Any], Any],
        steps: int,
        advance: Callable[[int], object] = lambda count: None,
        seconds: float = CALL_SECONDS,
    ) -> None:
        self.steps, self.advance, self.seconds = steps, advance, seconds
        self.in_one_call, self._timed = 1, False

        def one(data: Any) -> None:
            step(data)  # without its outputs, the values of the metrics after each step are not computed

        traced = tf.function(one, reduce_retracing=True, autograph=False)  # as Keras' own

        def run(iterator: Any, count: Any) -> Any:
            for _ in tf.range(count):
                traced(next(iterator))
            return model.get_metrics_result()

        self._run = tf.function(run, reduce_retracing=True)

    def __call__(self, iterator: Any) -> dict[str, Any]:
        """Runs the steps of an epoch; returns the values of the metrics after the last one."""
        done, logs = 0, {}
        while done < self.steps:
            count = min(self.in_one_call, self.steps - done)
            start = time.monotonic()
            logs = self._run(iterator, tf.constant(count))
            float(logs["loss"])  # waits for the device
            self._grow(count, time.monotonic() - start)
            self.advance(count)
            done += count
        return logs

    def _grow(self, count: int, seconds: float) -> None:
        """Doubles the steps of a call where the longer call still keeps to the time; the first call also traces."""
        if self._timed and 2 * seconds <= self.seconds and count == self.in_one_call:
            self.in_one_call *= 2
        self._timed = True
