"""How batches flow to a model: mapped in parallel, some ahead of their use.

With numbers of its own, not those that `tf.data` would find by trying: while it tries, a thread of it sleeps for ever
longer times, up to a minute, and a data set that is thrown away sometimes waits for it to wake (TensorFlow 2.21). A
training of five seconds then took ten.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

BATCHES_AHEAD = 2
AT_A_TIME = min(16, os.cpu_count() or 1)
"""Elements that are made at once: a core each, but no more batches of images than memory can be spared for."""


def planned(steps: range, plan: Callable[[int], tuple[Any, ...]], signature: Sequence[Any]) -> Any:
    """A `tf.data.Dataset` of what `plan` says of each step, in order and one at a time.

    In place of `from_generator`, whose op counts as one with effects of its own: where TensorFlow is told to be
    deterministic, it then makes everything behind it wait for one batch after another.

    Args:
        steps: what `plan` is called with.
        plan: gives NumPy arrays, which depend on the step alone.
        signature: the `tf.TensorSpec` of each.
    """

    def said(step: Any) -> tuple[Any, ...]:
        values = tf.numpy_function(plan, [step], [spec.dtype for spec in signature], stateful=False)
        return tuple(tf.ensure_shape(value, spec.shape) for value, spec in zip(values, signature, strict=True))

    return tf.data.Dataset.range(steps.start, steps.stop, steps.step).map(said)


def mapped(data_set: Any, function: Callable[..., Any]) -> Any:
    """A `tf.data.Dataset` of the function's results, in order; some at a time."""
    return data_set.map(function, num_parallel_calls=AT_A_TIME)


def ahead(data_set: Any) -> Any:
    """The `tf.data.Dataset` itself, of which some elements are made before they are asked for."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return data_set.prefetch(BATCHES_AHEAD).with_options(options)
