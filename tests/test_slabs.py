"""What `evaluate` makes of many images' logits in slabs of rows: the same as of all at once, in little memory."""

import io
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from scipy.special import log_softmax, logit, softmax

from pipeline.evaluation.contributions import contributions
from pipeline.evaluation.kept_logits import Renamed, kept_logits
from pipeline.evaluation.metrics import brier_scores, kl_divergences, log_losses, reliability, summarise
from pipeline.evaluation.predictions import write_predictions
from pipeline.exports.quality import closeness
from pipeline.measures import slabs as of_slabs
from pipeline.measures.slabs import in_slabs, slabs
from pipeline.measures.unequal_classes import one_against_rest

NAMES = [f"class {number}" for number in range(20)]
LABELS = np.arange(600) % 20


def answers(seed, count=600, classes=20):
    return np.random.default_rng(seed).normal(0, 3, (count, classes)).astype(np.float32)


def computed(folder):
    """All that `evaluate` computes of a model, as arrays and files."""
    logits, teacher = answers(1), answers(2)
    ids = [f"{number}.png" for number in range(600)]
    write_predictions(folder, ids, LABELS, NAMES, {"teacher": teacher, "student": logits})
    arrays = contributions(logits, LABELS, teacher) | summarise(logits, LABELS, teacher)
    return arrays | reliability(logits, LABELS).to_dict("list"), (folder / "student.csv").read_text()


@pytest.mark.parametrize("numbers", [20 * 50, 20 * 77, 20 * 599])
def test_slabs_change_nothing(tmp_path, monkeypatch, numbers):
    arrays, text = computed(tmp_path / "at_once")
    monkeypatch.setattr(of_slabs, "NUMBERS_AT_ONCE", numbers)
    found, in_parts = computed(tmp_path / "in_parts")
    assert in_parts == text
    assert found.keys() == arrays.keys()
    for name, expected in arrays.items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-13, err_msg=name)


def test_the_last_slab_may_be_smaller(monkeypatch):
    monkeypatch.setattr(of_slabs, "NUMBERS_AT_ONCE", 6)
    assert [(part.start, part.stop) for part in slabs(5, 3)] == [(0, 2), (2, 4), (4, 5)]
    assert in_slabs(lambda v, y: v[:, 0] + y, np.arange(15.0).reshape(5, 3), np.arange(5)).tolist() == [0, 4, 8, 12, 16]
    assert in_slabs(lambda v: v[:, 0], np.empty((0, 3))).tolist() == []


@pytest.mark.parametrize("classes", [2, 3, 16, 17, 40])
def test_scores_are_log_odds_of_each_class(classes):
    logits = answers(3, count=50, classes=classes)
    found = dict(one_against_rest(logits))
    assert [*found] == ([1] if classes == 2 else [*range(classes)])
    odds = logit(softmax(logits.astype(np.float64), axis=1))
    for number, scores in found.items():
        np.testing.assert_allclose(scores, odds[:, number], rtol=1e-9, atol=1e-9)


def test_probabilities_are_written_as_pandas_writes_them(tmp_path):
    logits = answers(4)
    logits[0, :2] = 200, -200
    write_predictions(tmp_path / "said", [*map(str, range(600))], LABELS, NAMES, {"teacher": logits})
    expected = io.StringIO()
    table = pd.DataFrame(np.exp(log_softmax(logits.astype(np.float64), axis=1)))
    table.to_csv(expected, index=False, header=False, float_format="%.6g", lineterminator="\n")
    lines = (tmp_path / "said/teacher.csv").read_text().splitlines()
    assert [line.split(",", 6)[6] for line in lines[1:]] == expected.getvalue().splitlines()


def test_no_float64_copy_of_all_logits_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(of_slabs, "NUMBERS_AT_ONCE", 2**12)
    logits, teacher, labels = answers(1, 1000, 200), answers(2, 1000, 200), np.arange(1000) % 200
    names, ids = [*map(str, range(200))], [*map(str, range(1000))]
    tracemalloc.start()
    try:
        for contribution in (log_losses, brier_scores):
            contribution(logits, labels)
        kl_divergences(logits, teacher)
        reliability(logits, labels)
        for _ in one_against_rest(logits):
            pass
        write_predictions(tmp_path / "said", ids, labels, names, {"teacher": teacher, "student": logits})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * logits.size


def test_closeness_of_exports_in_slabs(monkeypatch):
    class Metadata:
        output, precision = "probabilities", "float32"

    first, second = answers(1), answers(2)
    at_once = closeness(first, second, Metadata)
    monkeypatch.setattr(of_slabs, "NUMBERS_AT_ONCE", 20 * 7)
    assert closeness(first, second, Metadata) == at_once
    assert at_once["agreement"] == np.mean(first.argmax(axis=1) == second.argmax(axis=1))


def test_kept_logits_come_back_and_leave_no_file(tmp_path):
    with kept_logits(tmp_path / "work") as scores:
        for name, seed in (("teacher", 1), ("student_seed1", 2)):
            scores.keep(name, answers(seed))
        np.testing.assert_array_equal(scores["teacher"], answers(1))
        np.testing.assert_array_equal(Renamed(scores, {7: "student_seed1"})[7], answers(2))
        assert [*scores] == ["teacher", "student_seed1"]
        assert (len(scores), len(Renamed(scores, {7: "teacher"})), [*Renamed(scores, {7: "teacher"})]) == (2, 1, [7])
        assert [*(tmp_path / "work").iterdir()] == []
