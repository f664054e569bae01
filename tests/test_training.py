"""Training: resume after a kill, dropout by key, the best epoch, what is published, clear failures."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from weights import weights_sha256

from pipeline import model_files, models
from pipeline.artifacts import sha256_file
from pipeline.batches import Examples, HardLabels
from pipeline.errors import PipelineError
from pipeline.images import Images
from pipeline.index import Image, Index, fingerprint_of
from pipeline.recipe import Phase, Recipe
from pipeline.training import hard_label_accuracy, hard_label_cross_entropy, train, trained
from pipeline.training_state import TrainingState
from pipeline.views import Augmentation

MODEL = {
    "architecture": "cnn",
    "input_shape": (12, 12, 3),
    "weights": None,
    "filters": [4, 8],
    "downsampling": "stride",
    "pooling": "flatten",
    "batch_normalization": True,
    "dropout": 0.3,
}
CROSS_ENTROPY = keras.losses.CategoricalCrossentropy(from_logits=True)
SHIFTS = Augmentation(translation=0.2, horizontal_flip=True)


def examples(data_set: Path, rows: range, augmentation: Augmentation = SHIFTS) -> Examples:
    """Some of the 40 images, with a new view in every epoch."""
    names = [f"MHIST_{number:03d}.png" for number in rows]
    pixels = Images([data_set / "images" / name for name in names], (12, 12, 3), keep=True)
    one_hot = np.eye(2, dtype=np.float32)[[number % 2 for number in rows]]
    content = [(name, sha256_file(data_set / "images" / name)) for name in names]
    return Examples(content, pixels, HardLabels(names, one_hot, augmentation, 5, None))


def index_of(data_set: Path) -> Index:
    """The first 26 images are trained on, the others validated on."""
    images = []
    for number in range(40):
        path = data_set / "images" / f"MHIST_{number:03d}.png"
        part = "train" if number < 26 else "val"
        images.append(Image(path.name, str(path), ["HP", "SSA"][number % 2], part, "", sha256_file(path)))
    return Index(images)


def write(data_set: Path, recipe: Recipe, **others) -> None:
    """Trains as a stage does, to m.keras and m.csv in the current folder."""
    given = {
        "model": MODEL,
        "data": index_of(data_set),
        "train_on": examples(data_set, range(26)),
        "validate_on": examples(data_set, range(26, 40)),
        "loss": CROSS_ENTROPY,
    }
    with trained(**(given | others), recipe=recipe, output=Path("m.keras")) as result:
        result.publish(Path("m.keras"), Path("m.csv"))


@pytest.fixture
def train_on(data_set):
    return examples(data_set, range(26))


@pytest.fixture
def validate_on(data_set):
    return examples(data_set, range(26, 40))


def test_metrics_look_at_the_hard_half():
    logits = np.array([[2.0, 0.0], [2.0, 0.0]], np.float32)
    targets = np.array([[1, 0, 0.1, 0.9], [0, 1, 0.9, 0.1]], np.float32)
    np.testing.assert_array_equal(hard_label_accuracy(targets, logits), [1.0, 0.0])
    # log(1 + e^-2) and log(1 + e^2)
    np.testing.assert_allclose(hard_label_cross_entropy(targets, logits), [0.126928, 2.126928], rtol=1e-5)


def targets_of(examples):
    return examples.supervision.take(0, np.arange(len(examples.images)))[2]


def run(work, train_on, validate_on, recipe, model=MODEL):
    state = TrainingState(work / "state.npz")
    trained = train(
        models.build(**model, classes=2, seed=recipe.seed), train_on, validate_on, CROSS_ENTROPY, recipe, state
    )
    return weights_sha256(trained), state.history


RECIPE = Recipe([Phase(2, 0.01, None), Phase(3, 0.002, "all")], batch_size=8, seed=5)


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
    trained = train(models.build(**MODEL, classes=2, seed=5), train_on, validate_on, CROSS_ENTROPY, RECIPE, state)
    best = max(state.history, key=lambda row: (row["val_accuracy"], -row["val_cross_entropy"]))
    logits = trained.predict(validate_on.images.rows(np.arange(14)).numpy().astype(np.float32), verbose=0)
    assert best["val_accuracy"] == pytest.approx(np.mean(logits.argmax(1) == targets_of(validate_on).argmax(1)))
    shifted = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    assert best["val_cross_entropy"] == pytest.approx(-np.mean((shifted * targets_of(validate_on)).sum(1)), rel=1e-5)


def test_head_only_phase_leaves_the_backbone_untouched(tmp_path, train_on, validate_on):
    model = models.build(**MODEL, classes=2, seed=5)
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
    other = Recipe(RECIPE.phases, RECIPE.batch_size, 6)
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
    targets = np.full((26, 2), np.nan, np.float32)
    broken = Examples(train_on.content, train_on.images, HardLabels(["a"] * 26, targets, Augmentation(), 0, 1))
    with pytest.raises(PipelineError, match=r"diverged in epoch 1.*Lower the learning_rate"):
        run(tmp_path, broken, validate_on, RECIPE)


def test_weights_of_samples_reach_the_metrics_of_a_plain_fit(train_on):
    """The student is a plain Keras model: class weights in `fit` change what it learns."""
    model = models.for_phase(models.build(**(MODEL | {"dropout": 0.0}), classes=2, seed=1), "all")
    model.compile(optimizer="sgd", loss=CROSS_ENTROPY)
    pixels = train_on.images.rows(np.arange(26)).numpy().astype(np.float32)
    plain = model.evaluate(pixels, targets_of(train_on), verbose=0)
    doubled = model.evaluate(pixels, targets_of(train_on), sample_weight=np.full(26, 2.0), verbose=0)
    assert doubled == pytest.approx(2 * plain, rel=1e-5)


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_training as t
t.write(Path({folder!r}), t.Recipe([t.Phase(40, 0.01, None), t.Phase(40, 0.002, "all")], 8, 5))
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
        assert not (killed / "m.keras").exists()
        assert kept_epochs(killed) < 80
    final = start(killed, data_set)
    messages = final.communicate(timeout=120)[1].decode()
    assert final.returncode == 0, messages
    assert "continuing after epoch" in messages
    assert "continuing" not in uninterrupted.communicate(timeout=120)[1].decode()
    assert uninterrupted.returncode == 0
    for name in ("m.keras", "m.csv"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    assert len(pd.read_csv(killed / "m.csv")) == 80
    assert not list(killed.glob(".work/*/*/state.npz")), "the state goes when the model is there"


# What is published


SHORT = Recipe([Phase(1, 0.01, "all")], 8, 5)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)


def outputs():
    return Path("m.keras").read_bytes(), Path("m.csv").read_bytes()


def never(*_, **__):
    raise AssertionError("it trains again")


def test_the_file_records_classes_and_accuracy(data_set, here):
    write(data_set, RECIPE)
    data = index_of(data_set)
    best = pd.read_csv("m.csv")["val_accuracy"].max()
    assert model_files.read_record(Path("m.keras")) == {
        "class_names": ["HP", "SSA"],
        "validation": {"images": fingerprint_of(data.split("val")), "accuracy": pytest.approx(best, abs=1e-9)},
    }


def test_a_finished_training_is_published_again_and_not_repeated(data_set, here, monkeypatch):
    """DVC removes the outputs before it runs the stage; a kill may come before it notes that the stage has ended."""
    write(data_set, SHORT)
    before = outputs()
    Path("m.keras").unlink()
    Path("m.csv").unlink()
    monkeypatch.setattr("pipeline.training.train", never)
    write(data_set, SHORT)
    assert outputs() == before


def test_a_training_from_scratch_gives_the_same_bytes(data_set, here):
    write(data_set, SHORT)
    before = outputs()
    shutil.rmtree(".work")
    time.sleep(1.1)  # a .keras file is a zip archive, which notes times
    write(data_set, SHORT)
    assert outputs() == before


def renamed(data_set):
    return Index(
        [Image(image.id, image.path, image.label + "!", image.split, "", image.sha256) for image in data_set.images]
    )


OTHER_INPUTS = {
    "learning rate": lambda data_set: {"recipe": Recipe([Phase(1, 0.02, "all")], 8, 5)},
    "epochs": lambda data_set: {"recipe": Recipe([Phase(2, 0.01, "all")], 8, 5)},
    "batch size": lambda data_set: {"recipe": Recipe([Phase(1, 0.01, "all")], 9, 5)},
    "seed": lambda data_set: {"recipe": Recipe([Phase(1, 0.01, "all")], 8, 6)},
    "model": lambda data_set: {"model": MODEL | {"dropout": 0.4}},
    "loss": lambda data_set: {"loss": keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)},
    "images": lambda data_set: {"train_on": examples(data_set, range(25))},
    "validation images": lambda data_set: {"validate_on": examples(data_set, range(27, 40))},
    "views": lambda data_set: {"train_on": examples(data_set, range(26), Augmentation())},
    "class names": lambda data_set: {"data": renamed(index_of(data_set))},
}


@pytest.mark.parametrize("other", OTHER_INPUTS)
def test_another_input_trains_anew(data_set, here, monkeypatch, other):
    write(data_set, SHORT)
    monkeypatch.setattr("pipeline.training.train", never)
    changed = {"recipe": SHORT} | OTHER_INPUTS[other](data_set)
    with pytest.raises(AssertionError, match="it trains again"):
        write(data_set, **changed)


def test_changed_content_of_an_image_trains_anew(data_set, here, monkeypatch):
    write(data_set, SHORT)
    monkeypatch.setattr("pipeline.training.train", never)
    shutil.copy(data_set / "images/MHIST_002.png", data_set / "images/MHIST_000.png")
    with pytest.raises(AssertionError, match="it trains again"):
        write(data_set, SHORT)


def test_changed_parameters_start_afresh(data_set, here, monkeypatch):
    def fail(*_):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.model_files.save", fail)
        with pytest.raises(OSError, match="no space"):
            write(data_set, SHORT)
    assert len(list(Path(".work").glob("*/*/state.npz"))) == 1
    write(data_set, Recipe([Phase(1, 0.02, "all")], 8, 5))
    assert pd.read_csv("m.csv")["learning_rate"].tolist() == [0.02]
    assert not list(Path(".work").glob("*/*/state.npz"))


def test_a_full_disk_costs_no_epoch(data_set, here, monkeypatch, capsys):
    """What was trained before the model could not be written is there the next time."""

    def fail(*_):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.model_files.save", fail)
        with pytest.raises(OSError, match="no space"):
            write(data_set, SHORT)
    assert not Path("m.keras").exists()
    capsys.readouterr()
    write(data_set, SHORT)
    printed = capsys.readouterr().err
    assert "continuing after epoch 1" in printed
    assert "epoch 1/1" not in printed
