"""How batches reach a model: they are made in parallel, and some of them before they are needed.

Both numbers are fixed here, and the tuner of `tf.data` is off. Its thread sleeps twice as long each time, up to a
minute, and a data set that is discarded sometimes waits until the thread wakes (TensorFlow 2.21).
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

BATCHES_AHEAD = 2
PARALLEL_CALLS = min(16, os.cpu_count() or 1)
"""How many elements are made at the same time: one for each core, but no more batches than memory can spare."""


def planned(steps: range, plan: Callable[[int], tuple[Any, ...]], signature: Sequence[Any]) -> Any:
    """A `tf.data.Dataset` of the arrays that `plan` returns for each step, in order, computed one after another.

    This replaces `from_generator`. TensorFlow counts a generator as stateful: with determinism on, everything behind
    it then runs without parallelism.

    Args:
        steps: the numbers that `plan` is called with.
        plan: returns NumPy arrays that depend on the step alone.
        signature: the `tf.TensorSpec` of each array.
    """

    def arrays(step: Any) -> tuple[Any, ...]:
        values = tf.numpy_function(plan, [step], [spec.dtype for spec in signature], stateful=False)
        return tuple(tf.ensure_shape(value, spec.shape) for value, spec in zip(values, signature, strict=True))

    return tf.data.Dataset.range(steps.start, steps.stop, steps.step).map(arrays)


def mapped(data_set: Any, function: Callable[..., Any]) -> Any:
    """A `tf.data.Dataset` of the function's results, computed in parallel, in the order of the elements."""
    return data_set.map(function, num_parallel_calls=PARALLEL_CALLS)


def prefetched(data_set: Any) -> Any:
    """The `tf.data.Dataset` itself, with some elements made before they are needed, and without its tuner."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return data_set.prefetch(BATCHES_AHEAD).with_options(options)
