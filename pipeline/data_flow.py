"""How batches flow to a model: mapped in parallel, some ahead of their use.

With numbers of its own, not those that `tf.data` would find by trying: while it tries, a thread of it sleeps for ever
longer times, up to a minute, and a data set that is thrown away sometimes waits for it to wake (TensorFlow 2.21). A
training of five seconds then took ten.
"""

import os
from collections.abc import Callable
from typing import Any

import tensorflow as tf

BATCHES_AHEAD = 2
AT_A_TIME = min(16, os.cpu_count() or 1)
"""Elements that are made at once: a core each, but no more batches of images than memory can be spared for."""


def mapped(data_set: Any, function: Callable[..., Any]) -> Any:
    """A `tf.data.Dataset` of the function's results, in order; some at a time."""
    return data_set.map(function, num_parallel_calls=AT_A_TIME)


def ahead(data_set: Any) -> Any:
    """The `tf.data.Dataset` itself, of which some elements are made before they are asked for."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return data_set.prefetch(BATCHES_AHEAD).with_options(options)
