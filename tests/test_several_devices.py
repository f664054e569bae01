"""Several devices in one process: the same logits, and the training of one device but for rounding.

The devices are virtual ones of a CPU, in a process of their own (`on_several_devices.py`); no real GPU was at hand.
"""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from pipeline.inference.several_devices import AHEAD, in_turn

HANG = 60.0
"""Seconds after which a thread that waits for another one has found a fault."""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    program = Path(__file__).with_name("on_several_devices.py")
    path = os.pathsep.join(filter(None, [str(program.parent.parent), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path_factory.mktemp("devices"))],
        env=os.environ | {"PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# Forward passes


@pytest.mark.parametrize("model", ["cnn", "ensemble"])
def test_logits_of_three_devices_are_those_of_one(found, model):
    assert found["forward_passes"][model] == {
        "same": True,
        "used": ["/device:CPU:1", "/device:CPU:2"],
        "said": [],
    }


def test_a_device_that_rounds_otherwise_is_left_out(found):
    other = found["forward_passes"]["other rounding"]
    assert other["same"]
    assert other["used"] == ["/device:CPU:1"]
    (line,) = other["said"]
    assert line.startswith("1 of 3 GPUs are not used for the forward pass: they round otherwise")


def test_logits_by_chance_are_those_of_one_device(found):
    assert found["forward_passes"]["chance"]["used"] == []
    assert "2 of 3 GPUs are not used" in found["forward_passes"]["chance"]["said"][0]


def test_workers_work_at_the_same_time_and_answer_in_order():
    together = threading.Barrier(3)

    def worker(name):
        def work(item):
            together.wait(HANG)  # passes only if all three are here
            return name, item

        return work

    assert [*in_turn([worker(name) for name in "abc"], range(9))] == [("abc"[item % 3], item) for item in range(9)]


def test_few_items_are_under_way_at_a_time():
    """However slow the reader is: 2 for each of 3 workers, and never more."""
    taken = []

    def items():
        for item in range(50):
            taken.append(item)
            yield item

    for read, answer in enumerate(in_turn([lambda item: 10 * item] * 3, items()), 1):
        assert answer == 10 * (read - 1)
        assert len(taken) <= read + 3 * AHEAD - 1
    assert read == 50


def test_a_failed_item_ends_the_work_and_says_why():
    def work(item):
        if item == 4:
            raise ValueError("item 4")
        return item

    answers = in_turn([work, work], iter(range(1000)))
    assert [next(answers) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="item 4"):
        next(answers)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]


# Trainings


@pytest.mark.parametrize("count", range(1, 8))
def test_replicas_take_all_rows_once_in_order(found, count):
    """The shares are such that the mean over the replicas, each times its share, is the mean over the rows."""
    parts = found["parts_of_batches"][count - 1]
    assert [row for inputs, *_ in parts for row in inputs] == [*range(count)]
    assert [target for _, targets, *_ in parts for target in targets] == [10 * row for row in range(count)]
    sizes = [len(inputs) for inputs, *_ in parts]
    assert max(sizes) - min(sizes) <= 1
    assert [computed for _, _, computed, _ in parts] == [max(1, size) for size in sizes]
    np.testing.assert_allclose([share for *_, share in parts], [3 * size / count for size in sizes], rtol=1e-6)


STEPS = 8
"""Two epochs of 26 images in batches of 8."""


@pytest.fixture(params=["distilled", "over_features"])
def training(request, found):
    return found[request.param]


def test_three_devices_learn_what_one_learns(training):
    """But for rounding, in float32: batches that 3 does not divide, and one with fewer rows than devices, included."""
    one, three = np.array(training["one"]["weights"]), np.array(training["three"]["weights"])
    np.testing.assert_allclose(three, one, rtol=0, atol=1e-5)
    assert (three != one).any()  # or it was no training on three


def test_three_devices_tell_what_one_tells(training):
    for one, three in zip(training["one"]["history"], training["three"]["history"], strict=True):
        assert three == pytest.approx(one, rel=1e-5)


def test_three_devices_see_the_batches_of_one(training):
    """The first of the rows that are asked for tells the shape of the targets."""
    one, three = (training[name]["asked"][1 : 1 + STEPS] for name in ("one", "three"))
    assert three == one
    assert len(one) == STEPS


def test_a_measure_of_all_validation_images_is_told(found):
    assert all("val_auc" in row for row in found["distilled"]["three"]["history"])


def test_a_killed_training_ends_with_the_same_bits(found):
    """Also where each device has its own dropout masks, and statistics of its own rows."""
    assert found["continued"] == {"epochs": 2, "same": True}


def test_each_device_draws_masks_of_its_own(found):
    (one,), three = found["masks"]
    assert three[0] == one
    assert len({tuple(state) for state in three}) == 3


def test_a_batch_that_cannot_be_shared_stays_on_one(found):
    """So another run on one device goes on with it."""
    stopped, continued, *_ = found["stages"]
    assert stopped == {"said": ["trained on one of 3 GPUs: batch_size is 8, no multiple of 3"], "weights": None}
    assert continued == {"said": ["8.keras: continuing after epoch 1 of 2"], "weights": 8}


def test_a_training_on_one_is_not_continued_on_three(found):
    *_, stopped, other = found["stages"]
    assert stopped == {"said": [], "weights": None}
    assert other == {"said": ["trained on 3 GPUs, each with 3 of the 9 images of a batch"], "weights": 8}
