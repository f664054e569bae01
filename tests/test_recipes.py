"""What a phase may ask for: learning rates, weight decay, clipping, averaged weights, patience; and resume with it."""

from contextlib import redirect_stderr
from dataclasses import replace
from io import StringIO

import keras
import numpy as np
import pytest
from conftest import write_data_set
from sklearn.metrics import roc_auc_score
from test_training import (
    LINEAR,
    MODEL,
    SHIFTS,
    Noted,
    Watched,
    assert_measured,
    examples,
    kept_weights,
    result,
    sgd_by_hand,
    start_weights,
    targets_of,
)
from test_training import gradients as gradients_of

from pipeline.images.views import Augmentation
from pipeline.training.fit import train
from pipeline.training.hard_loss import HardLoss
from pipeline.training.input_pipeline import Examples
from pipeline.training.optimizers import learning_rates, new_optimizer
from pipeline.training.recipe import Phase, Recipe, StepSchedule


@pytest.fixture(scope="module")
def data_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data_set") / "raw"
    write_data_set(folder)
    return folder


@pytest.fixture(scope="module")
def given(data_set):
    """Training and validation examples with views, 26 and 14."""
    return examples(data_set, range(26)), examples(data_set, range(26, 40))


@pytest.fixture(scope="module")
def untouched(data_set):
    """The same without views: in a batch of 26, each step is the same."""
    return tuple(examples(data_set, rows, Augmentation()) for rows in (range(26), range(26, 40)))


def run(work, given, phases, model=LINEAR, *, batch_size=26, select_by="accuracy"):
    """The trained model, and the state at the end."""
    work.mkdir(exist_ok=True)
    state = Noted(work / "state.npz", select_by)
    built = model.build(classes=2, seed=5)
    return train(built, *given, HardLoss(), Recipe(phases, batch_size=batch_size, seed=5), state), state


# Learning rates

HALF = np.sqrt(0.5)


@pytest.mark.parametrize(
    ("phase", "rates"),
    [
        (Phase(2, 0.5, "all"), [0.5, 0.5, 0.5, 0.5]),
        (Phase(3, 0.8, "all", warmup=2), [0.2, 0.4, 0.6, 0.8, 0.8, 0.8]),
        # 1 + cos of 0, 45, 90 and 135 degrees
        (Phase(2, 2.0, "all", schedule="cosine"), [2.0, 1 + HALF, 1.0, 1 - HALF]),
        (Phase(3, 2.0, "all", schedule="cosine", warmup=1), [1.0, 2.0, 2.0, 1 + HALF, 1.0, 1 - HALF]),
        (
            Phase(4, 1.0, "all", schedule=StepSchedule(0.1, [1, 3]), warmup=1),
            [0.5, 1.0, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01],
        ),
        (Phase(3, 1.0, "all", schedule=StepSchedule(0.5, [1, 2])), [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]),
    ],
)
def test_learning_rates_are_those_of_the_formula(phase, rates):
    np.testing.assert_allclose(learning_rates(phase, 2), rates, rtol=1e-12)
    optimizer, variable = new_optimizer(phase, 2, []), keras.Variable([0.0])
    found = []
    for _ in [*rates, "one more"]:
        found.append(float(optimizer.learning_rate))
        optimizer.apply([keras.ops.zeros(1)], [variable])
    np.testing.assert_allclose(found, [*rates, rates[-1]], rtol=1e-6)


def test_a_training_takes_steps_of_these_learning_rates(tmp_path, data_set, untouched):
    """A step an epoch, by hand; the history has the rates."""
    phase = Phase(4, 0.2, "all", optimizer="sgd", schedule="cosine", warmup=1)
    _, state = run(tmp_path, untouched, [phase])
    rates = [0.2, 0.2, 0.15, 0.05]  # (1 + cos) / 2 of 0, 60 and 120 degrees is 1, 0.75 and 0.25
    weights = start_weights()
    for rate, file in zip(rates, state.files, strict=True):
        weights = [
            weight - rate * slope for weight, slope in zip(weights, gradients_of(data_set, *weights), strict=True)
        ]
        for ours, by_hand in zip(kept_weights(file), weights, strict=True):
            np.testing.assert_allclose(ours, by_hand, rtol=0, atol=1e-5)
    np.testing.assert_allclose([row["learning_rate"] for row in state.history], rates, rtol=1e-12)


def test_the_history_has_the_learning_rate_of_the_last_step(tmp_path, given):
    """Of batches of 8, 26 images are four: in two epochs after the warm-up, cosines of 67.5 and 157.5 degrees."""
    phase = Phase(3, 1e-4, "all", schedule="cosine", warmup=1)
    _, state = run(tmp_path, given, [phase], batch_size=8)
    shares = [1, *((1 + np.cos(np.radians([67.5, 157.5]))) / 2)]
    np.testing.assert_allclose([row["learning_rate"] for row in state.history], 1e-4 * np.array(shares), rtol=1e-12)


# Weight decay and clipping, on one step


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop", "sgd"])
def test_weight_decay_shrinks_kernels_alone(optimizer):
    """Where the gradient is 0, decay is all that a step does."""
    kernel, bias = keras.Variable([[2.0, -4.0]]), keras.Variable([3.0])
    own = new_optimizer(Phase(1, 0.1, "all", optimizer=optimizer, weight_decay=0.25), 1, [kernel, bias])
    own.apply([keras.ops.zeros((1, 2)), keras.ops.zeros(1)], [kernel, bias])
    np.testing.assert_allclose(kernel, [[2 * 0.975, -4 * 0.975]], rtol=1e-6)
    np.testing.assert_array_equal(bias, [3.0])


def test_weight_decay_spares_biases_and_scales_of_any_shape():
    """The biases of attention have two dimensions: heads and depth."""
    layer = keras.layers.MultiHeadAttention(num_heads=2, key_dim=3)
    layer.build((1, 4, 5), (1, 4, 5))
    scales = [keras.Variable([[2.0]], name=name) for name in ("gamma", "beta")]
    trained = [*layer.trainable_variables, *scales]
    for variable in trained:
        variable.assign(keras.ops.ones(variable.shape))
    own = new_optimizer(Phase(1, 0.1, "all", optimizer="sgd", weight_decay=0.25), 1, trained)
    own.apply([keras.ops.zeros(variable.shape) for variable in trained], trained)
    found = [(variable.name, len(variable.shape), float(keras.ops.max(variable))) for variable in trained]
    shrunk = pytest.approx(0.975)
    of_input, of_output = [("kernel", 3, shrunk), ("bias", 2, 1)], [("kernel", 3, shrunk), ("bias", 1, 1)]
    assert found == [*3 * of_input, *of_output, ("gamma", 2, 1), ("beta", 2, 1)]


@pytest.mark.parametrize(("optimizer", "share"), [("adam", 0), ("adamw", 0.004), ("rmsprop", 0), ("sgd", 0)])
def test_without_weight_decay_optimizers_are_as_in_keras(optimizer, share):
    variables = [keras.Variable([[2.0]]), keras.Variable([3.0])]
    own = new_optimizer(Phase(1, 0.1, "all", optimizer=optimizer), 1, variables)
    own.apply([keras.ops.zeros((1, 1)), keras.ops.zeros(1)], variables)
    np.testing.assert_allclose(variables[0], [[2 * (1 - 0.1 * share)]], rtol=1e-6)
    np.testing.assert_allclose(variables[1], [3 * (1 - 0.1 * share)], rtol=1e-6)


def test_weight_decay_may_be_switched_off_for_adamw():
    kernel = keras.Variable([[2.0]])
    own = new_optimizer(Phase(1, 0.1, "all", optimizer="adamw", weight_decay=0.0), 1, [kernel])
    own.apply([keras.ops.zeros((1, 1))], [kernel])
    np.testing.assert_array_equal(kernel, [[2.0]])


@pytest.mark.parametrize(("clip_norm", "share"), [(None, 1), (20.0, 1), (13.0, 1), (6.5, 0.5), (1.3, 0.1)])
def test_a_gradient_is_clipped_to_a_norm_of_all_weights(clip_norm, share):
    """(3, 4) and 12 have the norm 13 together; a gradient that is no longer than that is left as it is."""
    variables = [keras.Variable([0.0, 0.0]), keras.Variable([[0.0]])]
    own = new_optimizer(Phase(1, 0.1, "all", optimizer="sgd", clip_norm=clip_norm), 1, variables)
    own.apply([keras.ops.array([3.0, 4.0]), keras.ops.array([[12.0]])], variables)
    np.testing.assert_allclose(variables[0], -0.1 * share * np.array([3, 4]), rtol=1e-6)
    np.testing.assert_allclose(variables[1], [[-0.1 * share * 12]], rtol=1e-6)


# Averaged weights


@pytest.fixture(scope="module")
def averaged(tmp_path_factory, untouched):
    """Three epochs of a step of SGD each with averaged weights, then one without."""
    phases = [Phase(3, 0.1, "all", optimizer="sgd", ema=0.75), Phase(1, 0.1, "all", optimizer="sgd")]
    return run(tmp_path_factory.mktemp("averaged"), untouched, phases)


def averages_by_hand(data_set):
    """a <- 0.75 a + 0.25 w from the first step on, which is its own average."""
    average = None
    for weights in sgd_by_hand(data_set, 0.1):
        average = weights if average is None else [0.75 * a + 0.25 * w for a, w in zip(average, weights, strict=True)]
        yield average


def test_averaged_weights_follow_the_recursion(averaged, data_set):
    for file, expected in zip(averaged[1].files[:3], averages_by_hand(data_set), strict=True):
        for ours, by_hand in zip(kept_weights(file), expected, strict=True):
            np.testing.assert_allclose(ours, by_hand, rtol=0, atol=1e-6)
    moved = [one - other for one, other in zip([*sgd_by_hand(data_set, 0.1)][2], expected, strict=True)]
    assert np.abs(moved[0]).max() > 1e-3  # the weights themselves are elsewhere


def test_the_next_phase_begins_with_the_averaged_weights(averaged, data_set):
    *_, last = averages_by_hand(data_set)
    expected = [weight - 0.1 * slope for weight, slope in zip(last, gradients_of(data_set, *last), strict=True)]
    for ours, by_hand in zip(kept_weights(averaged[1].files[3]), expected, strict=True):
        np.testing.assert_allclose(ours, by_hand, rtol=0, atol=1e-6)


def test_averaged_weights_are_validated(averaged, untouched):
    model = LINEAR.build(classes=2, seed=5)
    for row, file in zip(averaged[1].history, averaged[1].files, strict=True):
        model.set_weights(kept_weights(file))
        assert_measured(row, model, untouched[1])


def test_averaged_weights_are_kept_as_the_best(averaged, data_set):
    trained, state = averaged
    best = kept_weights(state.files[state.best()["epoch"] - 1])
    for ours, kept in zip(trained.get_weights(), best, strict=True):
        np.testing.assert_array_equal(ours, kept)


def test_statistics_of_batch_normalisation_stay(tmp_path, given):
    """The model's after one epoch, whatever the momentum; the trained weights differ."""
    named = {weight.path: number for number, weight in enumerate(MODEL.build(classes=2, seed=5).weights)}
    kept = []
    for momentum in (None, 0.9):
        phase = Phase(1, 0.01, "all", optimizer="sgd", ema=momentum)
        _, state = run(tmp_path / str(momentum), given, [phase], MODEL, batch_size=8)
        kept.append(kept_weights(state.files[0]))
    plain, average = kept
    for path, number in named.items():
        assert np.array_equal(plain[number], average[number]) == ("moving_" in path), path


# Patience

STILL = Phase(6, 1e-30, "all", optimizer="sgd", steps_per_epoch=3, patience=2)
"""Its weights do not move, so its first epoch stays its best one, and the third is its last."""


def shown_in(work, given, phases):
    """The batches of a training, its history, and what it prints."""
    plain, printed = given[0], StringIO()
    watched = Watched([name for name, _ in plain.content], targets_of(plain), SHIFTS, 5, None)
    with redirect_stderr(printed):
        _, state = run(work, (Examples(plain.content, plain.images, watched), given[1]), phases, batch_size=8)
    return watched.shown, state.history, printed.getvalue()


@pytest.fixture(scope="module")
def impatient(tmp_path_factory, given):
    return shown_in(tmp_path_factory.mktemp("impatient"), given, [STILL, replace(STILL, epochs=2, patience=None)])


def test_a_phase_ends_after_some_epochs_that_are_no_better(impatient):
    _, history, printed = impatient
    assert [(row["epoch"], row["phase"]) for row in history] == [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2)]
    assert "phase 1 ends: 2 epochs were no better than its best" in printed


def test_the_next_phase_goes_on_through_the_images(tmp_path, given, impatient):
    """Nine batches were shown when the first phase ended, so the next one begins with the tenth."""
    whole, _, _ = shown_in(tmp_path, given, [Phase(1, 0.01, "all", steps_per_epoch=15)])
    shown = impatient[0]
    assert shown[-6:] == whole[9:]
    assert shown[:9] == whole[:9]


def test_patience_counts_from_the_best_epoch_of_the_phase(tmp_path):
    """By `select_by`, and not from the best of the phases before."""
    state = Noted(tmp_path / "state.npz", "cross_entropy")
    rows = [(1, 0.1), (2, 0.5), (2, 0.4), (2, 0.4), (2, 0.45)]
    lost = []
    for epoch, (phase, value) in enumerate(rows, 1):
        state.history.append({"epoch": epoch, "phase": phase, "val_cross_entropy": value, "val_accuracy": epoch / 9})
        lost.append([state.has_lost_patience(phase, patience) for patience in (1, 2, None)])
    assert lost == [[False] * 3, [False] * 3, [False] * 3, [True, False, False], [True, True, False]]


# Resume

WEIGHTS = {"HP": 0.5, "SSA": 2.0}
RECIPES = {
    "all at once": (
        MODEL,
        "auc",
        [
            Phase(
                epochs=2,
                learning_rate=0.02,
                trainable_from=None,
                optimizer="sgd",
                momentum=0.9,
                schedule=StepSchedule(0.5, [1]),
                weight_decay=0.01,
                clip_norm=0.5,
                label_smoothing=0.1,
                ema=0.8,
                class_weight=WEIGHTS,
            ),
            Phase(
                epochs=2,
                learning_rate=0.01,
                trainable_from="all",
                optimizer="adamw",
                schedule="cosine",
                warmup=1,
                weight_decay=0.05,
                clip_norm=1.0,
                ema=0.9,
                class_weight=WEIGHTS,
            ),
        ],
    ),
    "patience": (LINEAR, "balanced_accuracy", [replace(STILL, ema=0.9), Phase(2, 0.01, "all", ema=0.5)]),
}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, given):
    work = tmp_path_factory.mktemp("uninterrupted")
    return {
        name: run(work / name, given, phases, model, batch_size=8, select_by=select_by)
        for name, (model, select_by, phases) in RECIPES.items()
    }


@pytest.mark.parametrize(
    ("recipe", "epochs"),
    [("all at once", 1), ("all at once", 2), ("all at once", 3), ("patience", 2), ("patience", 3)],
)
def test_a_stopped_training_ends_bit_identical(tmp_path, given, uninterrupted, recipe, epochs):
    """Within each phase, between them, and where patience was lost: the state file of every epoch, to the last bit."""
    model, select_by, phases = RECIPES[recipe]
    _, state = uninterrupted[recipe]
    (tmp_path / "state.npz").write_bytes(state.files[epochs - 1])
    continued = run(tmp_path, given, phases, model, batch_size=8, select_by=select_by)
    assert continued[1].files == state.files[epochs:]
    assert result(*continued) == result(*uninterrupted[recipe])


# The best epoch by a measure of all validation images


def test_the_area_under_the_curve_is_that_of_the_kept_weights(uninterrupted, given):
    """Of 14 images in batches of 8 and 6, exact: the number of scikit-learn on all of them."""
    trained, state = uninterrupted["all at once"]
    logits = np.asarray(trained(given[1].images.rows(np.arange(14)).numpy().astype(np.float32)), np.float64)
    area = roc_auc_score(targets_of(given[1])[:, 1], logits[:, 1] - logits[:, 0])
    assert state.best()["val_auc"] == pytest.approx(area, abs=1e-12)
    assert state.best()["val_auc"] == max(row["val_auc"] for row in state.history)


def test_such_a_column_is_there_only_where_it_is_asked_for(uninterrupted, impatient):
    told = {f"{kind}{name}" for kind in ("", "val_") for name in ("loss", "accuracy", "cross_entropy")}
    always = {"epoch", "phase", "learning_rate"} | told
    histories = [uninterrupted["all at once"][1].history, uninterrupted["patience"][1].history, impatient[1]]
    columns = [always | {"val_auc"}, always | {"val_balanced_accuracy"}, always]
    assert [set(history[0]) for history in histories] == columns
