"""Batches flow in order, and no thread of TensorFlow's outlives them."""

import pytest
import tensorflow as tf
from test_training import examples

from pipeline.batches import training_batches, validation_batches
from pipeline.data_flow import ahead, mapped


def test_results_come_in_order_and_all_of_them():
    slow_first = mapped(tf.data.Dataset.range(40), lambda number: tf.reduce_sum(tf.ones((1000 * (40 - number),))) + 0.0)
    assert list(ahead(slow_first).as_numpy_iterator()) == [1000.0 * (40 - number) for number in range(40)]


@pytest.mark.parametrize("kind", ["training", "validation", "images"])
def test_no_data_set_of_ours_looks_for_its_own_numbers(data_set, kind):
    """What would look is the root of the graph of every iterator whose data set does not say otherwise."""
    some = examples(data_set, range(8))
    made = {
        "training": lambda: training_batches(some, 4, 1, range(4)),
        "validation": lambda: validation_batches(some, 4),
        "images": lambda: some.images.batches(4),
    }[kind]()
    assert made.options().autotune.enabled is False
    assert sum(1 for _ in made) == {"training": 4, "validation": 2, "images": 2}[kind]
