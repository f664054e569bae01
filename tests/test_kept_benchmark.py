"""`benchmarks.student_epoch` with kept features: what each variant computes, and its tables; nothing is timed here."""

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import kept_tables
from benchmarks.epochs import data_of
from benchmarks.kept_epochs import FIRST_PASS, HALVES, IN_MEMORY, NOT_KEPT, NOTHING_KEPT, ON_DISK, OverFeatures
from benchmarks.projects import write_params
from benchmarks.variants import Pair

FROZEN = {
    "student.model.pooling": "avg",  # 16 features of an image, less than its pixels
    "student.phases.0.trainable_from": None,
    "student.phases.0.learning_rate": 0.01,
    "views.count": 5,
    "views.augmentation": {"rotation": 0.2},
}
IMAGES = 20


@pytest.fixture
def pair(tmp_path):
    """The default pair, whose student's convolutions are frozen."""
    write_params("mnist", FROZEN, tmp_path / "params.yaml")
    return Pair(str(tmp_path / "params.yaml"), classes=10)


@pytest.mark.slow
def test_each_variant_computes_the_features_that_it_says(pair, tmp_path, monkeypatch):
    """Images through the frozen layers in one epoch, after the first: all of them, or none where features are kept."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    with data_of(pair, None, IMAGES) as data:
        training = OverFeatures(pair, pair.recipe.phases[0], data)
        passed, few = [], training.part.forward.of_few
        monkeypatch.setattr(training.part.forward, "of_few", lambda pixels: passed.append(len(pixels)) or few(pixels))
        found = {}
        for name, timed in training.variants(epochs=2).items():
            for _ in range(2):
                timed.before()
                passed.clear()
                weights = training.student.get_weights()
                timed.run()
            found[name] = sum(passed)
            changed = [not np.array_equal(*both) for both in zip(weights, training.student.get_weights(), strict=True)]
            assert changed == [False] * 4 + [True] * 2  # two convolutions, and the logits
    assert found == {NOTHING_KEPT: IMAGES, FIRST_PASS: IMAGES, ON_DISK: 0, IN_MEMORY: 0, HALVES: 0}
    sizes = {file.suffix: file.stat().st_size for file in (tmp_path / ".work/features").iterdir()}
    assert sizes == {".float32": IMAGES * 16 * 4 + 32, ".float16": IMAGES * 16 * 2 + 32}


@pytest.mark.slow
def test_over_features_a_student_learns_what_it_learns_whole(pair, tmp_path, monkeypatch):
    """Two epochs, in two views: the same logits up to rounding, and other ones than without these epochs."""
    monkeypatch.chdir(tmp_path)
    phase = pair.recipe.phases[0]
    with data_of(pair, None, IMAGES) as data:
        (float16, whole) = kept_tables.rows_of_rounding("frozen", pair, phase, data)
        training = OverFeatures(pair, phase, data)
        before = kept_tables.logits_of(training.student, data)
        training.train(training.batches(NOT_KEPT, 2), 2)
        after = kept_tables.logits_of(training.student, data)
    assert float(whole[2]) < 1e-4
    assert 0 < float(float16[2]) < 0.01
    assert np.abs(after - before).max() > 0.01
    assert (float16[:2], whole[:2]) == (["frozen", "over float16"], ["frozen", "whole graph"])


def test_the_bytes_of_system_1_by_hand():
    """14 x 14 x 96 = 18,816 numbers; 25 views of 1,849 images in four bytes are 3.48 GB."""
    part = SimpleNamespace(cut=SimpleNamespace(tensors={"block_10_project_BN": (14, 14, 96)}), values=18816)
    (row,) = kept_tables.rows_of_bytes("fine-tuned", part, 25)
    assert row == ["fine-tuned", "block_10_project_BN 14 x 14 x 96", "18,816", "75,264", "37,632", "3.48", "1.74"]
    assert len(kept_tables.KEPT_HEADER) == len(row)


def test_the_difference_of_logits_by_hand():
    reference = np.array([[1.0, 0.0], [0.0, 1.0], [3.0, 1.0]], np.float32)
    other = reference + np.array([[0.0, 0.5], [1.5, 0.0], [0.0, 0.0]], np.float32)
    largest, mean, deviation, classes = kept_tables.difference(reference, other)
    assert (largest, mean, classes) == ("1.5", "0.33", "1 of 3")
    assert deviation == f"{np.sqrt(np.mean((reference - 1) ** 2)):.2g}" == "1"
