"""Batches come in order, in parallel, and without the tuner of `tf.data`."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.autograph.pyct.transpiler import PyToPy
from tensorflow.python.data.ops.map_op import _MapDataset as MapDataset
from tensorflow.python.framework import op_def_registry
from test_training import examples

from pipeline.images.tf_data import mapped, planned, prefetched
from pipeline.training.input_pipeline import training_batches, validation_batches


def test_results_come_in_order_and_all_of_them():
    slow_first = mapped(tf.data.Dataset.range(40), lambda number: tf.reduce_sum(tf.ones((1000 * (40 - number),))) + 0.0)
    assert list(prefetched(slow_first).as_numpy_iterator()) == [1000.0 * (40 - number) for number in range(40)]


def test_each_step_is_planned_once_in_order_and_of_its_shape():
    planned_steps = []

    def plan(step):
        planned_steps.append(int(step))
        return np.full(2, step, np.int64), np.ones((1, 3), np.float32)

    signature = [tf.TensorSpec((None,), tf.int64), tf.TensorSpec((None, 3), tf.float32)]
    steps = planned(range(5, 11, 2), plan, signature)
    assert [spec.shape.as_list() for spec in steps.element_spec] == [[None], [None, 3]]
    assert [numbers.tolist() for numbers, _ in prefetched(steps).as_numpy_iterator()] == [[5, 5], [7, 7], [9, 9]]
    assert planned_steps == [5, 7, 9]


SIGNATURE = [tf.TensorSpec((None,), tf.int64), tf.TensorSpec((None, 3), tf.float32)]


def of_other_lengths(step):
    """Two arrays with 0 to 2 and 1 to 3 rows."""
    return np.full(step % 3, step, np.int64), np.full((1 + step % 3, 3), step, np.float32)


@pytest.mark.parametrize("at_once", [2, 3, 16])
def test_steps_that_are_planned_together_come_one_by_one(at_once):
    steps, planned_steps = range(1, 15, 2), []

    def plan(step):
        planned_steps.append(int(step))
        return of_other_lengths(step)

    together = planned(steps, plan, SIGNATURE, at_once)
    assert [spec.shape.as_list() for spec in together.element_spec] == [[None], [None, 3]]
    found = list(prefetched(together).as_numpy_iterator())
    assert planned_steps == [*steps]
    for step, arrays in zip(steps, found, strict=True):
        for array, expected in zip(arrays, of_other_lengths(step), strict=True):
            assert array.dtype == expected.dtype
            np.testing.assert_array_equal(array, expected)


def test_autograph_rewrites_no_function_of_a_data_set(data_set, monkeypatch):
    rewrite, rewritten = PyToPy.transform_function, []

    def noted(self, function, context):
        rewritten.append(function.__qualname__)
        return rewrite(self, function, context)

    monkeypatch.setattr(PyToPy, "transform_function", noted)
    some = examples(data_set, range(8))
    assert sum(1 for _ in training_batches(some, 4, 1, range(4))) == 4
    assert sum(1 for _ in validation_batches(some, 4)) == 2
    assert sum(1 for _ in some.images.decoded()) == 8
    assert rewritten == []


@pytest.mark.parametrize("at_once", [1, 2])
def test_planning_uses_no_op_with_side_effects(at_once):
    """With determinism on, `tf.data` uses no parallelism behind an op that it counts as stateful."""
    steps = planned(range(3), lambda step: (np.ones(1, np.float32),), [tf.TensorSpec((None,), tf.float32)], at_once)
    while not isinstance(steps, MapDataset):
        (steps,) = steps._inputs()
    graph = steps._functions()[0].function.graph.as_graph_def()
    stateful = {node.op for node in graph.node if op_def_registry.get(node.op).is_stateful}
    assert stateful == set()
    assert {"PyFuncStateless", "EagerPyFunc"} & {node.op for node in graph.node}


@pytest.mark.parametrize("kind", ["training", "validation", "images"])
def test_no_data_set_of_ours_tunes_itself(data_set, kind):
    """Without this option TensorFlow puts the tuner at the root of the iterator's graph."""
    some = examples(data_set, range(8))
    batches = {
        "training": lambda: training_batches(some, 4, 1, range(4)),
        "validation": lambda: validation_batches(some, 4),
        "images": lambda: some.images.batches(4),
    }[kind]()
    assert batches.options().autotune.enabled is False
    assert sum(1 for _ in batches) == {"training": 4, "validation": 2, "images": 2}[kind]
