"""Which epoch is the best, by each measure, and the measures of all validation images together."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import softmax
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from pipeline.evaluation import metrics
from pipeline.images.index import Image
from pipeline.measures.best_epoch import COLUMNS, best_epoch
from pipeline.measures.unequal_classes import area_under_roc_curve, balanced_accuracy
from pipeline.runtime.errors import ParameterError
from pipeline.training.state import TrainingState
from pipeline.training.validation_logits import (
    NAME,
    MeasureValidation,
    ValidationLogits,
    measured_on_all,
    refuse_one_class,
)

ROWS = [  # accuracy, balanced accuracy, AUC, cross-entropy
    (0.90, 0.50, 0.70, 0.60),
    (0.80, 0.75, 0.80, 0.50),
    (0.85, 0.70, 0.95, 0.45),
    (0.88, 0.60, 0.90, 0.40),
    (0.70, 0.60, 0.60, 0.90),
]
HISTORY = [{"epoch": number, **dict(zip(COLUMNS.values(), row, strict=True))} for number, row in enumerate(ROWS, 1)]


@pytest.mark.parametrize(
    ("select_by", "epoch"), [("accuracy", 1), ("balanced_accuracy", 2), ("auc", 3), ("cross_entropy", 4)]
)
def test_each_measure_picks_another_epoch(tmp_path, select_by, epoch):
    state = TrainingState(tmp_path / "state.npz", select_by)
    state.history = HISTORY
    assert state.best()["epoch"] == epoch
    assert best_epoch(HISTORY, select_by)["epoch"] == epoch
    assert best_epoch(HISTORY[::-1], select_by)["epoch"] == epoch


@pytest.mark.parametrize("select_by", ["accuracy", "balanced_accuracy", "auc"])
def test_of_equals_the_lowest_cross_entropy_then_the_first(select_by):
    rows = [(0.9, 0.5), (0.95, 0.4), (0.95, 0.3), (0.95, 0.3), (0.8, 0.1)]
    history = [
        {"epoch": number, COLUMNS[select_by]: value, "val_cross_entropy": loss}
        for number, (value, loss) in enumerate(rows, 1)
    ]
    assert best_epoch(history, select_by)["epoch"] == 3
    assert best_epoch(history[::-1], select_by)["epoch"] == 4


def logits_of(count, classes):
    """Labels of classes of unequal sizes, and logits that know something of them."""
    generator = np.random.default_rng(classes)
    labels = generator.choice(classes, count, p=np.arange(1, classes + 1) / (classes * (classes + 1) / 2))
    return generator.normal(np.eye(classes)[labels], 1.0).astype(np.float32), labels


@pytest.mark.parametrize("classes", [2, 5])
def test_the_measures_are_those_of_scikit_learn(classes):
    logits, labels = logits_of(200, classes)
    balanced = balanced_accuracy_score(labels, logits.argmax(axis=1))
    assert balanced_accuracy(logits, labels) == pytest.approx(balanced, abs=1e-12)
    probabilities = softmax(logits.astype(np.float64), axis=1)
    given = probabilities[:, 1] if classes == 2 else probabilities
    area = roc_auc_score(labels, given, multi_class="ovr")
    assert area_under_roc_curve(logits, labels) == pytest.approx(area, abs=1e-12)


def test_evaluate_computes_the_same_area():
    assert metrics.area_under_roc_curve is area_under_roc_curve


# The logits of all validation images, from batches


@pytest.fixture
def kept():
    return ValidationLogits(images=7, classes=3)


@pytest.mark.parametrize("classes", [3, 6])
def test_batches_become_all_images_in_their_order(kept, classes):
    """Batches of 3, 3 and 1, as `fit` gives them: within a function of TensorFlow; the targets may have a soft half."""
    logits, labels = logits_of(7, 3)
    targets = np.concatenate([np.eye(3)[labels], np.full((7, 3), 0.9)], axis=1)[:, :classes].astype(np.float32)
    update = tf.function(kept.update_state, reduce_retracing=True)
    for start in (0, 3, 6):
        update(targets[start : start + 3], logits[start : start + 3])
    for found, expected in zip(kept.of_all(), (logits, labels), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_more_images_than_there_are_places_leave_the_first_ones(kept):
    """As in training, whose batches the metric sees, too; a reset makes place for those of validation."""
    logits, labels = logits_of(20, 3)
    targets = np.eye(3, dtype=np.float32)[labels]
    kept.update_state(targets[:5], logits[:5])
    kept.update_state(targets[5:20], logits[5:20])
    np.testing.assert_array_equal(kept.of_all()[0], logits[:7])
    kept.reset_state()
    kept.update_state(targets[13:], logits[13:])
    np.testing.assert_array_equal(kept.of_all()[0], logits[13:])
    assert float(kept.result()) == 0


def told_of(select_by, logits, labels):
    callback = MeasureValidation(ValidationLogits(len(labels), logits.shape[1]), select_by)
    callback.kept.update_state(np.eye(logits.shape[1], dtype=np.float32)[labels], logits)
    logs = {NAME: 0.0, "loss": 1.0, f"val_{NAME}": 0.0, "val_loss": 2.0}
    callback.on_epoch_end(0, logs)
    return logs


@pytest.mark.parametrize(("select_by", "value"), [("auc", 0.75), ("balanced_accuracy", 0.75)])
def test_an_epoch_tells_the_measure_by_hand(select_by, value):
    """Margins 1 and -2 of the first class, 2 and -1 of the second: of four pairs three are in order."""
    logits = np.array([[0, 1], [0, -2], [0, 2], [0, -1]], np.float32)
    if select_by == "balanced_accuracy":  # 1 of 1 and 1 of 2
        logits, labels = logits[:3], np.array([0, 0, 1])
    else:
        labels = np.array([0, 0, 1, 1])
    assert told_of(select_by, logits, labels) == {"loss": 1.0, "val_loss": 2.0, COLUMNS[select_by]: value}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite_give_no_measure(bad):
    """So that `KeepState` says that the training has diverged."""
    logits = np.array([[0, 1], [0, bad]], np.float32)
    assert np.isnan(told_of("auc", logits, np.array([0, 1]))["val_auc"])


def test_only_measures_of_all_images_keep_logits():
    assert [len(measured_on_all(name, 4, 2)) for name in COLUMNS] == [0, 1, 1, 0]
    assert isinstance(measured_on_all("auc", 4, 2)[0].kept, keras.metrics.Metric)


def test_validation_images_of_one_class_have_no_area():
    images = [Image(str(number), "", "HP", "val", "", "") for number in range(3)]
    with pytest.raises(ParameterError, match=r"select_by is auc, and the 3 validation images .* class 'HP'\. Expected"):
        refuse_one_class("auc", images)
    refuse_one_class("balanced_accuracy", images)
    refuse_one_class("auc", [*images, Image("x", "", "SSA", "val", "", "")])
