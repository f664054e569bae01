"""Training: order, views and dropout by key, resume after a kill, the best epoch, clear failures."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from pipeline import model_files, models
from pipeline.batches import Examples, training_batches, validation_batches
from pipeline.errors import PipelineError
from pipeline.images import Images
from pipeline.training import Phase, Recipe, hard_label_accuracy, hard_label_cross_entropy, train, train_to_files
from pipeline.training_state import TrainingState
from pipeline.views import Augmentation, apply_affines, draw_affines

MODEL = {
    "architecture": "cnn",
    "input_shape": (12, 12, 3),
    "classes": 2,
    "weights": None,
    "filters": [4, 8],
    "downsampling": "stride",
    "pooling": "flatten",
    "batch_normalization": True,
    "dropout": 0.3,
}
CROSS_ENTROPY = keras.losses.CategoricalCrossentropy(from_logits=True)
SHIFTS = Augmentation(translation=0.2, horizontal_flip=True)


def examples(data_set: Path, rows: range) -> Examples:
    names = [f"MHIST_{number:03d}.png" for number in rows]
    pixels = Images([data_set / "images" / name for name in names], (12, 12, 3), keep=True)
    return Examples(names, names, pixels, np.eye(2, dtype=np.float32)[[number % 2 for number in rows]])


@pytest.fixture
def train_on(data_set):
    return examples(data_set, range(26))


@pytest.fixture
def validate_on(data_set):
    return examples(data_set, range(26, 40))


def epochs_of(batches, per_epoch):
    found = [(pixels.numpy(), targets.numpy()) for pixels, targets in batches]
    return [found[start : start + per_epoch] for start in range(0, len(found), per_epoch)]


def test_an_epoch_holds_every_image_once_with_its_own_target(train_on):
    identified = Examples(train_on.ids, train_on.content, train_on.images, np.eye(26, dtype=np.float32))
    plain = train_on.images.rows(np.arange(26)).numpy().astype(np.float32)
    orders = []
    for epoch in epochs_of(training_batches(identified, 8, 3, range(2), Augmentation()), 4):
        assert [len(pixels) for pixels, _ in epoch] == [8, 8, 8, 2]
        rows = np.concatenate([targets for _, targets in epoch]).argmax(axis=1)
        assert sorted(rows) == list(range(26))
        np.testing.assert_array_equal(np.concatenate([pixels for pixels, _ in epoch]), plain[rows])
        orders.append(rows.tolist())
    assert orders[0] != orders[1]


def test_epochs_do_not_depend_on_where_training_starts(train_on):
    whole = epochs_of(training_batches(train_on, 8, 3, range(3), SHIFTS), 4)
    resumed = epochs_of(training_batches(train_on, 8, 3, range(2, 3), SHIFTS), 4)
    for (pixels, targets), (pixels_again, targets_again) in zip(whole[2], resumed[0], strict=True):
        np.testing.assert_array_equal(pixels, pixels_again)
        np.testing.assert_array_equal(targets, targets_again)


def test_views_are_those_of_the_key_whatever_the_batch_size(train_on):
    identified = Examples(train_on.ids, train_on.content, train_on.images, np.eye(26, dtype=np.float32))
    expected = apply_affines(
        train_on.images.rows(np.arange(26)), draw_affines(SHIFTS, 3, train_on.ids, 5), SHIFTS.fill_mode
    ).numpy()
    for batch_size in (1, 7, 26):
        for pixels, targets in training_batches(identified, batch_size, 3, range(5, 6), SHIFTS):
            np.testing.assert_array_equal(pixels.numpy(), expected[targets.numpy().argmax(axis=1)])


def test_validation_is_untouched_and_in_order(validate_on):
    batches = list(validation_batches(validate_on, 4))
    pixels = np.concatenate([images.numpy() for images, _ in batches])
    np.testing.assert_array_equal(pixels, validate_on.images.rows(np.arange(14)).numpy())
    np.testing.assert_array_equal(np.concatenate([targets.numpy() for _, targets in batches]), validate_on.targets)


def test_metrics_look_at_the_hard_half():
    logits = np.array([[2.0, 0.0], [2.0, 0.0]], np.float32)
    targets = np.array([[1, 0, 0.1, 0.9], [0, 1, 0.9, 0.1]], np.float32)
    np.testing.assert_array_equal(hard_label_accuracy(targets, logits), [1.0, 0.0])
    # log(1 + e^-2) and log(1 + e^2)
    np.testing.assert_allclose(hard_label_cross_entropy(targets, logits), [0.126928, 2.126928], rtol=1e-5)


def run(work, train_on, validate_on, recipe, model=MODEL):
    state = TrainingState(work / "state.npz")
    trained = train(models.build(**model, seed=recipe.seed), train_on, validate_on, CROSS_ENTROPY, recipe, state)
    return model_files.weights_sha256(trained), state.history


RECIPE = Recipe([Phase(2, 0.01, None), Phase(3, 0.002, "all")], batch_size=8, seed=5, augmentation=SHIFTS)


def test_the_best_epoch_is_returned(tmp_path, train_on, validate_on):
    """Later epochs at a ruinous learning rate must not spoil the weights that are returned."""
    good = Recipe([Phase(6, 0.01, "all")], batch_size=8, seed=5)
    model = MODEL | {"batch_normalization": False}
    digest, history = run(tmp_path / "good", train_on, validate_on, good, model)
    best = max(history, key=lambda row: (row["val_accuracy"], -row["val_cross_entropy"]))
    spoilt = Recipe([Phase(6, 0.01, "all"), Phase(2, 50.0, "all")], batch_size=8, seed=5)
    spoilt_digest, longer = run(tmp_path / "spoilt", train_on, validate_on, spoilt, model)
    assert longer[:6] == history
    assert longer[-1]["val_cross_entropy"] > 10 * best["val_cross_entropy"]
    assert spoilt_digest == digest


def test_history_matches_keras_evaluation_of_the_best_epoch(tmp_path, train_on, validate_on):
    state = TrainingState(tmp_path / "state.npz")
    trained = train(models.build(**MODEL, seed=5), train_on, validate_on, CROSS_ENTROPY, RECIPE, state)
    best = max(state.history, key=lambda row: (row["val_accuracy"], -row["val_cross_entropy"]))
    logits = trained.predict(validate_on.images.rows(np.arange(14)).numpy().astype(np.float32), verbose=0)
    assert best["val_accuracy"] == pytest.approx(np.mean(logits.argmax(1) == validate_on.targets.argmax(1)))
    shifted = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    assert best["val_cross_entropy"] == pytest.approx(-np.mean((shifted * validate_on.targets).sum(1)), rel=1e-5)


def test_head_only_phase_leaves_the_backbone_untouched(tmp_path, train_on, validate_on):
    model = models.build(**MODEL, seed=5)
    before = [weight.numpy() for weight in model.get_layer("backbone").weights]
    head = model.get_layer("logits").kernel.numpy()
    recipe = Recipe([Phase(2, 0.01, None)], batch_size=8, seed=5)
    train(model, train_on, validate_on, CROSS_ENTROPY, recipe, TrainingState(tmp_path / "state.npz"))
    after = [weight.numpy() for weight in model.get_layer("backbone").weights]
    assert all(np.array_equal(old, new) for old, new in zip(before, after, strict=True))
    assert not np.array_equal(head, model.get_layer("logits").kernel.numpy())


@pytest.mark.parametrize("stop_in_epoch", [0, 1, 2, 4])
def test_a_stopped_training_ends_bit_identical(tmp_path, train_on, validate_on, stop_in_epoch, monkeypatch):
    """Stops in the head phase, at its end, at the start of the next phase, in the last epoch."""
    expected = run(tmp_path / "whole", train_on, validate_on, RECIPE)

    def stop(self, epoch, logs=None):
        if epoch == stop_in_epoch:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.training._Report.on_epoch_end", stop)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "stopped", train_on, validate_on, RECIPE)
    assert run(tmp_path / "stopped", train_on, validate_on, RECIPE) == expected


def test_other_seed_other_weights_same_seed_same_weights(tmp_path, train_on, validate_on):
    first, again = (run(tmp_path / name, train_on, validate_on, RECIPE)[0] for name in "ab")
    other = Recipe(RECIPE.phases, RECIPE.batch_size, 6, RECIPE.augmentation)
    assert first == again != run(tmp_path / "c", train_on, validate_on, other)[0]


def test_a_wrong_layer_of_a_later_phase_is_found_before_the_first_epoch(tmp_path, train_on, validate_on, capsys):
    recipe = Recipe([Phase(2, 0.01, None), Phase(2, 0.01, "conv_1")], batch_size=8, seed=5)
    with pytest.raises(PipelineError, match="trainable_from is 'conv_1'"):
        run(tmp_path, train_on, validate_on, recipe)
    assert "epoch 1/" not in capsys.readouterr().err


def test_a_damaged_state_starts_afresh(tmp_path, train_on, validate_on, capsys):
    (tmp_path / "damaged").mkdir()
    run(tmp_path / "whole", train_on, validate_on, RECIPE)
    whole = (tmp_path / "whole/state.npz").read_bytes()
    (tmp_path / "damaged/state.npz").write_bytes(whole[: len(whole) // 2])
    capsys.readouterr()
    assert run(tmp_path / "damaged", train_on, validate_on, RECIPE) == run(
        tmp_path / "w", train_on, validate_on, RECIPE
    )
    assert "state.npz is damaged; starting at the first epoch again" in capsys.readouterr().err


def test_divergence_is_refused_with_the_remedy(tmp_path, train_on, validate_on):
    broken = Examples(train_on.ids, train_on.content, train_on.images, train_on.targets * np.float32(np.nan))
    with pytest.raises(PipelineError, match=r"diverged in epoch 1.*Lower the learning_rate"):
        run(tmp_path, broken, validate_on, RECIPE)


def test_weights_of_samples_reach_the_metrics_of_a_plain_fit(train_on):
    """The student is a plain Keras model: class weights in `fit` change what it learns."""
    model = models.for_phase(models.build(**(MODEL | {"dropout": 0.0}), seed=1), "all")
    model.compile(optimizer="sgd", loss=CROSS_ENTROPY)
    pixels = train_on.images.rows(np.arange(26)).numpy().astype(np.float32)
    plain = model.evaluate(pixels, train_on.targets, verbose=0)
    doubled = model.evaluate(pixels, train_on.targets, sample_weight=np.full(26, 2.0), verbose=0)
    assert doubled == pytest.approx(2 * plain, rel=1e-5)


SCRIPT = """
import json, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_training as t
folder = Path({folder!r})
t.train_to_files(t.MODEL, t.examples(folder, range(26)), t.examples(folder, range(26, 40)), loss=t.CROSS_ENTROPY,
                 recipe=t.Recipe([t.Phase(40, 0.01, None), t.Phase(40, 0.002, "all")], 8, 5, t.SHIFTS),
                 output=Path("teacher.keras"), history=Path("teacher.csv"))
"""


def start(folder: Path, data_set: Path) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    script = SCRIPT.format(tests=str(Path(__file__).parent), folder=str(data_set))
    environment = {name: value for name, value in os.environ.items() if name != "DVC_ROOT"}
    return subprocess.Popen(
        [sys.executable, "-c", script], cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def kept_epochs(folder: Path) -> int:
    for state in folder.glob(".work/*/*/state.npz"):
        with np.load(state) as file:
            return len(json.loads(str(file["history"]))[0])
    return 0


def wait_until(condition, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_kill_9_at_several_moments_then_byte_identical_files(tmp_path, data_set):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    uninterrupted = start(whole, data_set)
    for moment in (1, 41):
        process = start(killed, data_set)
        wait_until(lambda moment=moment: kept_epochs(killed) >= moment, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not (killed / "teacher.keras").exists()
        assert kept_epochs(killed) < 80
    final = start(killed, data_set)
    messages = final.communicate(timeout=120)[1].decode()
    assert final.returncode == 0, messages
    assert "continuing after epoch" in messages
    assert "continuing" not in uninterrupted.communicate(timeout=120)[1].decode()
    assert uninterrupted.returncode == 0
    for name in ("teacher.keras", "teacher.csv"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    assert len(pd.read_csv(killed / "teacher.csv")) == 80
    assert not list(killed.glob(".work/*/")), "the work folder goes when the output is there"


def test_changed_parameters_start_afresh(tmp_path, data_set, train_on, validate_on, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)

    def fail(*_):
        raise OSError("no space left")

    def attempt(learning_rate):
        recipe = Recipe([Phase(1, learning_rate, "all")], 8, 5)
        train_to_files(
            MODEL,
            train_on,
            validate_on,
            loss=CROSS_ENTROPY,
            recipe=recipe,
            output=Path("m.keras"),
            history=Path("m.csv"),
        )

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.model_files.save", fail)
        with pytest.raises(OSError, match="no space"):
            attempt(0.01)
    assert len(list(Path(".work").glob("*/*/state.npz"))) == 1
    attempt(0.02)
    assert pd.read_csv("m.csv")["learning_rate"].tolist() == [0.02]
    assert not list(Path(".work").glob("*/*/state.npz"))
