"""The simulated large run at a small size: killed and started again, its file is that of an undisturbed run."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import large_run
from benchmarks.large_steps import LOGITS, STEPS, TARGETS, Size
from benchmarks.made_answers import LIFT, RIGHT, logits_of, made_index
from pipeline.teacher_pass import labelling

SIZE = Size(3000, 40, 12, views=2, storage=large_run.DENSE.as_json())


def logits_again(folder):
    """The digest of the logits of a run that has nothing of an earlier one."""
    shutil.rmtree(folder / ".work", ignore_errors=True)
    (folder / LOGITS).unlink(missing_ok=True)
    return STEPS["precompute"](SIZE)["sha256"]


def test_a_killed_run_ends_as_an_undisturbed_one_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    STEPS["index"](SIZE)
    assert large_run.step(SIZE, "precompute, killed", tmp_path) == {}
    assert not LOGITS.exists()
    (marks,) = Path(".work").glob("*/*/done_train")
    done = np.fromfile(marks, np.uint8)
    assert len(done) == SIZE.train * SIZE.views
    assert 0 < done.sum() <= SIZE.rows / 2
    with monkeypatch.context() as patched:  # and in other portions, none of which is a whole number of batches
        patched.setattr(labelling, "VIEWS_AT_ONCE", 1501)
        resumed = STEPS["precompute, resumed"](SIZE)["sha256"]
    for name in ("verify the logits", "soften", "verify the soft labels", "student's reader"):
        STEPS[name](SIZE)
    assert logits_again(tmp_path) == resumed


def test_the_steps_take_top_k_as_well(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    size = replace(SIZE, train=500, storage={"kind": "topk", "k": 3, "dtype": "float16"})
    for name, step in STEPS.items():
        if name not in ("precompute, killed", "precompute, resumed"):
            step(size)
    assert TARGETS.is_file()


def test_a_step_that_takes_too_much_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(large_run, "BOUND_MIB", 1.0)
    with pytest.raises(SystemExit, match=r"the step 'index' took \d+ MiB of memory, at most 1"):
        large_run.step(replace(SIZE, train=10), "index", tmp_path)


def test_a_made_answer_depends_on_its_key_alone():
    keys, labels = np.array([7, 8, 9, 3, 4, 10**9]), np.array([0, 1, 2, 0, 1, 2])
    together = logits_of(keys, labels, 5)
    alone = [logits_of(keys[row : row + 1], labels[row : row + 1], 5)[0] for row in range(len(keys))]
    np.testing.assert_array_equal(together, alone)
    assert len({row.tobytes() for row in together}) == len(keys)


def test_made_answers_are_uniform_and_mostly_right():
    """Of 40,000 answers of four classes: a wrong one names each class alike, so one in four of them is right, too."""
    labels = np.arange(40000) % 4
    logits = logits_of(np.arange(40000), labels, 4)
    right = logits.argmax(axis=1) == labels
    assert np.mean(right) == pytest.approx(RIGHT + (1 - RIGHT) / 4, abs=0.006)
    plain = logits - LIFT * (np.arange(4) == logits.argmax(axis=1)[:, None])
    assert plain.mean() == pytest.approx(0, abs=0.1)
    assert plain.std() == pytest.approx(8 / np.sqrt(12), rel=0.05)


def test_made_images_take_turns_in_all_classes():
    index = made_index(25, 10, 10)
    assert [len(index.split(split)) for split in ("train", "val", "test")] == [25, 10, 10]
    assert np.bincount(index.labels(index.split("train"))).tolist() == [3] * 5 + [2] * 5
    assert np.bincount(index.labels(index.split("val"))).tolist() == [1] * 10
