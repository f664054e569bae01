"""How batches reach a model: they are made in parallel, and some of them before they are needed.

Both numbers are fixed here, and the tuner of `tf.data` is off. Its thread sleeps twice as long each time, up to a
minute, and a data set that is discarded sometimes waits until the thread wakes (TensorFlow 2.21). No function goes
through AutoGraph, which would rewrite each of them in search of Python's loops, two thirds of a second in a training.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

BATCHES_AHEAD = 2
PARALLEL_CALLS = min(16, os.cpu_count() or 1)
"""How many elements are made at the same time: one for each core, but no more batches than memory can spare."""

Plan = Callable[[int], tuple[Any, ...]]
"""Returns NumPy arrays for a number."""


def planned(steps: range, plan: Plan, signature: Sequence[Any], at_once: int = 1) -> Any:
    """A `tf.data.Dataset` of the arrays that `plan` returns for each step, in order, computed one after another.

    This replaces `from_generator`. TensorFlow counts a generator as stateful: with determinism on, everything behind
    it then runs without parallelism.

    Args:
        steps: the numbers that `plan` is called with.
        plan: returns NumPy arrays that depend on the step alone.
        signature: the `tf.TensorSpec` of each array; the first dimension is unknown.
        at_once: how many steps one call of Python plans; the next ones are planned meanwhile. For a small model such a
            call costs more than the plan. An iterator takes longer to make, so it pays only for many steps.
    """
    if at_once == 1:
        numbers = tf.data.Dataset.range(steps.start, steps.stop, steps.step)
        return mapped_in_turn(numbers, partial(_called, plan, signature=signature))

    def together(first: int) -> tuple[Any, ...]:
        made = [plan(step) for step in steps[first : first + at_once]]
        ends = np.cumsum([[0] * len(signature), *([len(array) for array in arrays] for arrays in made)], axis=0)
        return ends, *(np.concatenate(arrays) for arrays in zip(*made, strict=True))

    def one_by_one(ends: Any, *arrays: Any) -> Any:
        splits = tf.unstack(ends, axis=1)
        ragged = map(partial(tf.RaggedTensor.from_row_splits, validate=False), arrays, splits)
        return tf.data.Dataset.from_tensor_slices(tuple(ragged))

    with_ends = [tf.TensorSpec((None, len(signature)), tf.int64), *signature]
    firsts = tf.data.Dataset.range(0, len(steps), at_once)
    blocks = mapped_in_turn(firsts, partial(_called, together, signature=with_ends)).prefetch(1)
    return blocks.flat_map(_as_it_is(one_by_one))


def _called(function: Plan, number: Any, signature: Sequence[Any]) -> tuple[Any, ...]:
    """The arrays that a function of Python returns for a number, as tensors."""
    values = tf.numpy_function(function, [number], [spec.dtype for spec in signature], stateful=False)
    return tuple(tf.ensure_shape(value, spec.shape) for value, spec in zip(values, signature, strict=True))


def mapped(data_set: Any, function: Callable[..., Any]) -> Any:
    """A `tf.data.Dataset` of the function's results, computed in parallel, in the order of the elements."""
    return data_set.map(_as_it_is(function), num_parallel_calls=PARALLEL_CALLS)


def mapped_in_turn(data_set: Any, function: Callable[..., Any]) -> Any:
    """A `tf.data.Dataset` of the function's results, computed one after another."""
    return data_set.map(_as_it_is(function))


def prefetched(data_set: Any) -> Any:
    """The `tf.data.Dataset` itself, with some elements made before they are needed, and without its tuner."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return data_set.prefetch(BATCHES_AHEAD).with_options(options)


def _as_it_is(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which AutoGraph leaves alone."""
    return tf.autograph.experimental.do_not_convert(function)  # type: ignore[no-any-return]
