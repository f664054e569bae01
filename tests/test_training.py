"""Training: resume after a kill, dropout by key, the best epoch, what is published, clear failures."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import cache, partial
from io import BytesIO
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from conftest import write_data_set
from scipy.special import log_softmax
from weights import weights_sha256

from pipeline.distillation.descriptions import CrossEntropy, Kl
from pipeline.distillation.loss import DistillationLoss
from pipeline.images.decoded_images import DecodedImages
from pipeline.images.index import Image, Index, fingerprint_of
from pipeline.images.resize import DEFAULT_RESIZE
from pipeline.images.views import Augmentation
from pipeline.measures.best_epoch import best_epoch
from pipeline.models import architectures, keras_files
from pipeline.models.descriptions import Cnn, Mlp
from pipeline.runtime.digests import sha256_file
from pipeline.runtime.errors import DamagedError, ParameterError
from pipeline.training.fit import train, trained
from pipeline.training.hard_labels import trained_on_hard_labels
from pipeline.training.hard_loss import HardLoss
from pipeline.training.hard_metrics import hard_label_accuracy, hard_label_cross_entropy
from pipeline.training.input_pipeline import Examples, HardLabels
from pipeline.training.recipe import Phase, Recipe
from pipeline.training.state import TrainingState

MODEL = Cnn(
    input_shape=(12, 12, 3),
    weights=None,
    filters=[4, 8],
    downsampling="stride",
    pooling="flatten",
    batch_normalization=True,
    dropout=0.3,
)
CROSS_ENTROPY = HardLoss()
SHIFTS = Augmentation(translation=0.2, horizontal_flip=True)


@pytest.fixture(scope="module")
def data_set(tmp_path_factory):
    """As `conftest.data_set`, for tests that leave it as it is."""
    folder = tmp_path_factory.mktemp("data_set") / "raw"
    write_data_set(folder)
    return folder


@cache
def examples(data_set: Path, rows: range, augmentation: Augmentation = SHIFTS) -> Examples:
    """Some of the 40 images, with a new view in every epoch."""
    names = [f"MHIST_{number:03d}.png" for number in rows]
    pixels = DecodedImages([data_set / "images" / name for name in names], (12, 12, 3), keep=True)
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


WITHOUT_STATISTICS = replace(MODEL, batch_normalization=False)
SPOILT = Recipe([Phase(6, 0.01, "all"), Phase(1, 50.0, "all")], batch_size=8, seed=5)
"""Its last epoch, at a ruinous learning rate, is not its best."""


def write(data_set: Path, recipe: Recipe = SPOILT, **others) -> None:
    """Trains as a stage does, to m.keras and m.csv in the current folder."""
    given = {
        "model": WITHOUT_STATISTICS,
        "data": index_of(data_set),
        "train_on": examples(data_set, range(26)),
        "validate_on": examples(data_set, range(26, 40)),
        "loss": CROSS_ENTROPY,
    }
    with trained(**(given | others), recipe=recipe, output=Path("m.keras"), code=["training"]) as result:
        result.publish(Path("m.keras"), Path("m.csv"))


@pytest.fixture(scope="module")
def train_on(data_set):
    return examples(data_set, range(26))


@pytest.fixture(scope="module")
def validate_on(data_set):
    return examples(data_set, range(26, 40))


def test_metrics_look_at_the_hard_half():
    logits = np.array([[2.0, 0.0], [2.0, 0.0]], np.float32)
    targets = np.array([[1, 0, 0.1, 0.9], [0, 1, 0.9, 0.1]], np.float32)
    np.testing.assert_array_equal(hard_label_accuracy(targets, logits), [1.0, 0.0])
    # log(1 + e^-2) and log(1 + e^2)
    np.testing.assert_allclose(hard_label_cross_entropy(targets, logits), [0.126928, 2.126928], rtol=1e-5)


def targets_of(examples):
    return examples.supervision.targets(0, np.arange(len(examples.images)))


class Noted(TrainingState):
    """Holds a copy of the file that each epoch leaves."""

    def __init__(self, path, select_by="accuracy"):
        super().__init__(path, select_by)
        self.files = []

    def keep(self, model, optimizer, row):
        super().keep(model, optimizer, row)
        self.files.append(self.path.read_bytes())


def run(work, train_on, validate_on, recipe, model=MODEL):
    """The trained model, and the state at the end."""
    state = Noted(work / "state.npz")
    return train(model.build(classes=2, seed=5), train_on, validate_on, CROSS_ENTROPY, recipe, state), state


def result(trained, state):
    return weights_sha256(trained), state.history


def kept_weights(file):
    """The weights in a state file, in the model's order."""
    with np.load(BytesIO(file)) as arrays:
        return [arrays[f"weight{n}"] for n in range(sum(name.startswith("weight") for name in arrays.files))]


RECIPES = {
    "passes": Recipe([Phase(2, 0.01, None), Phase(3, 0.002, "all")], batch_size=8, seed=5),
    "steps": Recipe(
        [
            Phase(2, 0.01, None, steps_per_epoch=3, optimizer="sgd", momentum=0.9),
            Phase(2, 0.002, "all", steps_per_epoch=2, optimizer="rmsprop", backbone_in_inference_mode=True),
        ],
        batch_size=8,
        seed=5,
    ),
}


@pytest.fixture(scope="module")
def uninterrupted(train_on, validate_on, tmp_path_factory):
    """What `run` gives for each recipe, in one go."""
    work = tmp_path_factory.mktemp("uninterrupted")
    return {name: run(work / name, train_on, validate_on, recipe) for name, recipe in RECIPES.items()}


def assert_measured(row, model, validate_on):
    """The validation accuracy and cross-entropy of a row are those of the model."""
    logits = np.asarray(model(validate_on.images.rows(np.arange(14)).numpy().astype(np.float32)))
    assert row["val_accuracy"] == pytest.approx(np.mean(logits.argmax(1) == targets_of(validate_on).argmax(1)))
    shifted = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    assert row["val_cross_entropy"] == pytest.approx(-np.mean((shifted * targets_of(validate_on)).sum(1)), rel=1e-5)


def best_of(history):
    return max(history, key=lambda row: (row["val_accuracy"], -row["val_cross_entropy"]))


def test_history_matches_keras_evaluation_of_the_best_epoch(uninterrupted, validate_on):
    trained, state = uninterrupted["passes"]
    assert_measured(best_of(state.history), trained, validate_on)


def test_head_only_phase_leaves_the_backbone_untouched(uninterrupted):
    """Statistics of its batch normalisation included; in the next phase it is trained."""
    start = MODEL.build(classes=2, seed=5)
    backbone = {weight.path for weight in start.get_layer("backbone").weights}
    _, state = uninterrupted["passes"]
    for epochs, moved in ((2, False), (3, True)):
        kept = kept_weights(state.files[epochs - 1])
        changed = {
            weight.path
            for weight, now in zip(start.weights, kept, strict=True)
            if not np.array_equal(weight.numpy(), now)
        }
        assert (changed & backbone == backbone) == moved
        assert bool(changed & backbone) == moved
        assert {"logits/kernel", "logits/bias"} <= changed


@pytest.mark.parametrize(("recipe", "epochs"), [("steps", 1), ("passes", 2), ("steps", 3), ("passes", 4)])
def test_a_stopped_training_ends_bit_identical(tmp_path, train_on, validate_on, uninterrupted, recipe, epochs):
    """From the file that it leaves: in the head phase, at its end, and before the last epoch."""
    _, state = uninterrupted[recipe]
    (tmp_path / "state.npz").write_bytes(state.files[epochs - 1])
    continued = run(tmp_path, train_on, validate_on, RECIPES[recipe])
    assert len(continued[1].files) == RECIPES[recipe].epochs - epochs
    assert result(*continued) == result(*uninterrupted[recipe])


def test_another_seed_gives_other_order_and_dropout(tmp_path, train_on, validate_on, uninterrupted):
    """From the same initial weights."""
    other = replace(RECIPES["passes"], phases=[Phase(1, 0.01, None)], seed=6)
    _, state = run(tmp_path, train_on, validate_on, other)
    _, same = uninterrupted["passes"]
    assert state.history[0]["loss"] != same.history[0]["loss"]
    pairs = zip(kept_weights(state.files[0]), kept_weights(same.files[0]), strict=True)
    assert not all(np.array_equal(one, another) for one, another in pairs)


def test_a_wrong_layer_of_a_later_phase_is_found_at_the_start(tmp_path, train_on, validate_on, capsys):
    recipe = Recipe([Phase(2, 0.01, None), Phase(2, 0.01, "conv_1")], batch_size=8, seed=5)
    with pytest.raises(ParameterError, match="trainable_from is 'conv_1'"):
        run(tmp_path, train_on, validate_on, recipe)
    assert "epoch 1/" not in capsys.readouterr().err


def test_a_damaged_state_starts_afresh(tmp_path, train_on, validate_on, uninterrupted, capsys):
    """And trains as before: all that is random is a function of the seed."""
    whole = uninterrupted["passes"][1].files[-1]
    (tmp_path / "state.npz").write_bytes(whole[: len(whole) // 2])
    capsys.readouterr()
    afresh = run(tmp_path, train_on, validate_on, RECIPES["passes"])
    assert len(afresh[1].files) == 5
    assert result(*afresh) == result(*uninterrupted["passes"])
    assert "state.npz is damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    "history", ["[[], 0", "[" * 5000, "{}", "[[], []]", "[[7], 1]", '[[{"epoch": 1, "phase": 1}], 1]', "[[], 0, 0]"]
)
def test_a_history_that_is_none_starts_afresh(tmp_path, history, capsys):
    np.savez(tmp_path / "state.npz", history=np.array(history), weight0=np.zeros(3))
    state = TrainingState(tmp_path / "state.npz")
    assert (state.history, state.phase, state.arrays) == ([], 0, {})
    assert "state.npz is damaged" in capsys.readouterr().err


def test_a_state_of_another_model_is_told(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    row = {"epoch": 1, "phase": 1, "val_accuracy": 0.5, "val_cross_entropy": 0.7}
    for arrays in ({}, {"weight0": np.zeros((3, 3), np.float32), "weight1": np.zeros(2, np.float32)}):
        np.savez(tmp_path / "state.npz", history=np.array(json.dumps([[row], 1])), **arrays)
        with pytest.raises(DamagedError, match=r"does not hold the weights of this model.*Remove it"):
            TrainingState(tmp_path / "state.npz").restore_weights(model)


def test_divergence_is_refused_with_the_remedy(tmp_path, train_on, validate_on):
    targets = np.full((26, 2), np.nan, np.float32)
    broken = Examples(train_on.content, train_on.images, HardLabels(["a"] * 26, targets, Augmentation(), 0, 1))
    with pytest.raises(ParameterError, match=r"diverged in epoch 1.*Lower the learning_rate"):
        run(tmp_path, broken, validate_on, Recipe([Phase(1, 0.01, "all")], 8, 5), LINEAR)


def test_weights_of_samples_reach_the_metrics_of_a_plain_fit(train_on):
    """The student is a plain Keras model: class weights in `fit` change what it learns."""
    model = architectures.for_phase(replace(MODEL, dropout=0.0).build(classes=2, seed=1), "all")
    model.compile(optimizer="sgd", loss=CROSS_ENTROPY)
    pixels = train_on.images.rows(np.arange(26)).numpy().astype(np.float32)
    plain = model.evaluate(pixels, targets_of(train_on), verbose=0)
    doubled = model.evaluate(pixels, targets_of(train_on), sample_weight=np.full(26, 2.0), verbose=0)
    assert doubled == pytest.approx(2 * plain, rel=1e-5)


SCRIPT = """
import os, signal, sys
from pathlib import Path
from pipeline.cli.tensorflow_start import start_tensorflow
start_tensorflow()
sys.path.insert(0, {tests!r})
import test_training as t

keep = t.TrainingState.keep
def keep_and_end(state, model, optimizer, row):
    if (row["epoch"], "before") == {moment}:
        os.kill(os.getpid(), signal.SIGKILL)
    keep(state, model, optimizer, row)
    if (row["epoch"], "after") == {moment}:
        os.kill(os.getpid(), signal.SIGKILL)
t.TrainingState.keep = keep_and_end
for folder in {folders}:
    os.chdir(folder)
    t.write(Path({data_set!r}), t.RECIPES["passes"], model=t.MODEL)
"""


def run_until(moment: tuple[int, str] | None, folders: list[Path], data_set: Path) -> tuple[int, str]:
    """Trains in each folder in a process of its own, which gets a `kill -9` before or after some epoch's state is kept.

    Returns:
        Its exit code, and what it printed to stderr.
    """
    script = SCRIPT.format(
        tests=str(Path(__file__).parent), folders=list(map(str, folders)), data_set=str(data_set), moment=moment
    )
    environment = {name: value for name, value in os.environ.items() if name != "DVC_ROOT"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def kept_epochs(folder: Path) -> int:
    for state in folder.glob(".work/*/*/state.npz"):
        with np.load(state) as file:
            return len(json.loads(str(file["history"]))[0])
    return 0


@pytest.mark.slow
def test_kill_9_at_several_moments_then_byte_identical_files(tmp_path, data_set):
    """In the first phase, and in the second before the state of an epoch is kept."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    for moment, epochs in (((1, "after"), 1), ((4, "before"), 3)):
        code, messages = run_until(moment, [killed], data_set)
        assert code == -signal.SIGKILL, messages
        assert kept_epochs(killed) == epochs
        assert not (killed / "m.keras").exists()
    code, messages = run_until(None, [killed, whole], data_set)
    assert code == 0, messages
    assert re.findall(r"continuing after epoch \d|^epoch \d/\d  ", messages, re.MULTILINE) == [
        "continuing after epoch 3", *(f"epoch {epoch}/5  " for epoch in (4, 5, 1, 2, 3, 4, 5)),
    ]  # fmt: skip
    for name in ("m.keras", "m.csv"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    assert len(pd.read_csv(killed / "m.csv")) == 5
    assert not list(killed.glob(".work/*/*/state.npz")), "the state goes when the model is there"


# Optimizers, against steps that are computed here


LINEAR = Mlp(
    input_shape=(12, 12, 3),
    weights=None,
    pooling="flatten",
    batch_normalization=False,
    dropout=0.0,
)
"""Softmax regression on pixels of 0 to 1."""


def steps_taken(work, data_set, phase) -> list[list[np.ndarray]]:
    """Kernel and bias after each epoch of a training whose only batch are the 26 untouched images."""
    train_on, validate_on = (examples(data_set, rows, Augmentation()) for rows in (range(26), range(26, 40)))
    recipe = Recipe([phase], batch_size=26, seed=5)
    return [kept_weights(file) for file in run(work, train_on, validate_on, recipe, LINEAR)[1].files]


def gradients(data_set, kernel, bias) -> list[np.ndarray]:
    """Of the mean cross-entropy: x (softmax(x W + b) - y), averaged over the images."""
    given = examples(data_set, range(26), Augmentation())
    pixels = given.images.rows(np.arange(26)).numpy().reshape(26, -1) / 255
    powers = np.exp(pixels @ kernel + bias)
    missed = powers / powers.sum(axis=1, keepdims=True) - targets_of(given)
    return [pixels.T @ missed / 26, missed.mean(axis=0)]


def start_weights() -> list[np.ndarray]:
    return [weight.astype(np.float64) for weight in LINEAR.build(classes=2, seed=5).get_weights()]


def sgd_by_hand(data_set, rate, momentum=0.0):
    """v <- m v - r g, then w <- w + v: kernel and bias after each of three steps."""
    weights = start_weights()
    speeds = [np.zeros_like(weight) for weight in weights]
    for _ in range(3):
        slopes = gradients(data_set, *weights)
        speeds = [momentum * speed - rate * slope for speed, slope in zip(speeds, slopes, strict=True)]
        weights = [weight + speed for weight, speed in zip(weights, speeds, strict=True)]
        yield weights


def steps_of_keras(optimizer, data_set, rate, **options):
    """The same of an optimizer that Keras steps by itself."""
    variables = [keras.Variable(weight) for weight in start_weights()]
    own = optimizer(learning_rate=rate, **options)
    for _ in range(3):
        slopes = gradients(data_set, *(variable.numpy() for variable in variables))
        own.apply([keras.ops.convert_to_tensor(slope) for slope in slopes], variables)
        yield [variable.numpy() for variable in variables]


EXPECTED = {
    "sgd": (sgd_by_hand, {}),
    "sgd with momentum": (sgd_by_hand, {"momentum": 0.9}),
    "adam": (partial(steps_of_keras, keras.optimizers.Adam), {}),
    "adamw": (partial(steps_of_keras, keras.optimizers.AdamW), {}),
    "rmsprop": (partial(steps_of_keras, keras.optimizers.RMSprop), {}),
    "rmsprop with momentum": (partial(steps_of_keras, keras.optimizers.RMSprop), {"momentum": 0.5}),
}


@pytest.mark.parametrize("named", EXPECTED)
def test_every_optimizer_takes_the_expected_steps(tmp_path, data_set, named):
    steps, options = EXPECTED[named]
    found = steps_taken(tmp_path, data_set, Phase(3, 0.1, "all", optimizer=named.split()[0], **options))
    for ours, expected in zip(found, steps(data_set, 0.1, **options), strict=True):
        for one, other in zip(ours, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


def test_every_optimizer_goes_its_own_way(data_set):
    """So the comparisons above tell them apart: weights end further from each other than those tolerate."""
    ends = [list(steps(data_set, 0.1, **options))[-1][0] for steps, options in EXPECTED.values()]
    for number, one in enumerate(ends):
        for other in ends[:number]:
            assert np.abs(one - other).max() > 1e-4


# Epochs of a fixed number of batches


class Watched(HardLabels):
    """Notes which images are shown in which view; asking for one image alone is no batch of these tests."""

    def targets(self, view, rows):
        if len(rows) > 1:
            self.shown = [*getattr(self, "shown", []), (view, rows.tolist())]
        return super().targets(view, rows)


def shown_in(work, data_set, phases, count=None):
    """The batches of a training on 26 images, 8 a batch: 8, 8, 8, 2 in a pass."""
    plain = examples(data_set, range(26))
    names = [name for name, _ in plain.content]
    watched = Watched(names, targets_of(plain), SHIFTS, 5, count)
    recipe = Recipe(phases, batch_size=8, seed=5)
    given = Examples(plain.content, plain.images, watched)
    run(work, given, examples(data_set, range(26, 40)), recipe, LINEAR)
    return watched.shown


@pytest.fixture(scope="module")
def three_passes(data_set, tmp_path_factory):
    """What three epochs show in which every image comes once."""
    return shown_in(tmp_path_factory.mktemp("passes"), data_set, [Phase(3, 0.01, "all")])


def test_batches_go_on_through_the_images_over_epochs_and_phases(tmp_path, data_set, three_passes):
    phases = [Phase(2, 0.01, None, steps_per_epoch=3), Phase(3, 0.01, "all", steps_per_epoch=2)]
    shown = shown_in(tmp_path, data_set, phases)
    assert shown == three_passes
    assert [len(rows) for _, rows in shown] == 3 * [8, 8, 8, 2]
    assert [view for view, _ in shown] == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
    for number in range(3):
        of_a_pass = [row for _, rows in shown[4 * number : 4 * number + 4] for row in rows]
        assert sorted(of_a_pass) == list(range(26))


def test_of_a_fixed_number_of_views_each_pass_shows_the_next(tmp_path, data_set):
    """Not each epoch: five epochs of two batches are two and a half passes."""
    shown = shown_in(tmp_path, data_set, [Phase(5, 0.01, "all", steps_per_epoch=2)], count=2)
    assert [view for view, _ in shown] == [0, 0, 0, 0, 1, 1, 1, 1, 0, 0]


def test_an_epoch_may_be_longer_than_a_pass(tmp_path, data_set, three_passes):
    shown = shown_in(tmp_path, data_set, [Phase(1, 0.01, "all", steps_per_epoch=9)])
    assert shown == three_passes[:9]
    assert [view for view, _ in shown] == [0, 0, 0, 0, 1, 1, 1, 1, 2]


def with_normalisation_in_the_backbone() -> keras.Model:
    pixels = keras.Input((12, 12, 3))
    backbone = keras.Sequential([keras.Input((12, 12, 3)), keras.layers.BatchNormalization()], name="backbone")
    return keras.Model(pixels, keras.layers.Dense(2, name="logits")(keras.layers.Flatten()(backbone(pixels))))


@pytest.mark.parametrize("in_inference_mode", [True, False])
def test_inference_mode_moves_no_statistics_of_the_backbone(tmp_path, train_on, validate_on, in_inference_mode):
    """It starts with mean 0 and variance 1, and learns gamma and beta in either mode."""
    keras.utils.set_random_seed(1)
    phase = Phase(1, 0.01, "all", backbone_in_inference_mode=in_inference_mode)
    state = TrainingState(tmp_path / "state.npz")
    recipe = Recipe([phase], batch_size=8, seed=5)
    model = train(with_normalisation_in_the_backbone(), train_on, validate_on, CROSS_ENTROPY, recipe, state)
    gamma, beta, mean, variance = model.get_layer("backbone").get_weights()
    assert (gamma != 1).all()
    assert (beta != 0).all()
    assert (mean == 0).all() == in_inference_mode
    assert (variance == 1).all() == in_inference_mode


# Validation on a part of the images


def chosen_by_hand(data_set, count):
    """The 14 validation images with the smallest SHA-256 of their ids."""
    names = [f"MHIST_{number:03d}.png" for number in range(26, 40)]
    return sorted(sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:count])


@pytest.mark.parametrize(
    ("batch_size", "steps", "count"), [(8, 1, 8), (3, 2, 6), (5, 2, 10), (8, 2, 14), (8, 40, 14), (8, None, 14)]
)
def test_validation_images_are_chosen_by_their_ids_alone(data_set, batch_size, steps, count):
    expected = chosen_by_hand(data_set, count)
    data = index_of(data_set)
    turned = Index(sorted(data.images, key=lambda image: image.id, reverse=True))
    for seed, index in ((1, data), (2, data), (1, turned)):
        used = Recipe([Phase(1, 0.01, "all")], batch_size, seed, steps).validation_images(index)
        assert [image.id for image in used] == expected
        assert {image.split for image in used} == {"val"}


@pytest.mark.parametrize("steps", [2, None])
def test_every_epoch_is_validated_on_the_recorded_images(data_set, here, steps):
    """Weights that do not move give the same loss after every epoch: that of these images."""
    data = index_of(data_set)
    recipe = Recipe([Phase(2, 1e-30, "all", optimizer="sgd")], 4, 5, validation_steps=steps)
    with trained_on_hard_labels(
        data,
        model=LINEAR,
        recipe=recipe,
        augmentation=Augmentation(),
        view_seed=1,
        view_count=1,
        resize=DEFAULT_RESIZE,
        cache="memory",
        output=Path("m.keras"),
        code=["training"],
    ) as result:
        record, model = keras_files.read_record(result.model), keras.saving.load_model(result.model)
        table = pd.read_csv(result.curves)
    names = chosen_by_hand(data_set, 14 if steps is None else 8)
    used = [image for image in data.images if image.id in names]
    assert record["validation"]["images"] == fingerprint_of(used)
    numbers = [int(name[6:9]) for name in names]
    pixels = examples(data_set, range(40)).images.rows(np.array(numbers)).numpy()
    logits = np.asarray(model(pixels.astype(np.float32)))
    labels = np.array(numbers) % 2
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]
    np.testing.assert_allclose(table["val_loss"], np.full(2, losses.mean()), rtol=1e-5)
    np.testing.assert_allclose(table["val_accuracy"], np.full(2, np.mean(logits.argmax(axis=1) == labels)))
    assert record["validation"]["accuracy"] == pytest.approx(table["val_accuracy"].max())


# The parts of a student's loss


@pytest.mark.parametrize(("soft_loss", "scaled"), [(Kl(), True), (CrossEntropy(), False)])
def test_the_curves_of_a_student_have_its_soft_loss(tmp_path, train_on, validate_on, soft_loss, scaled):
    loss = DistillationLoss(3.0, 0.3, scaled, soft_loss)
    told = []
    for given in (train_on, validate_on):
        soft = np.random.default_rng(len(given.images)).dirichlet([1.0, 1.0], len(given.images))
        both = np.concatenate([targets_of(given), soft], axis=1).astype(np.float32)
        names = [name for name, _ in given.content]
        told.append(Examples(given.content, given.images, HardLabels(names, both, Augmentation(), 0, 1)))
    state = TrainingState(tmp_path / "state.npz")
    recipe = Recipe([Phase(3, 0.01, "all")], batch_size=8, seed=5)
    best = train(LINEAR.build(classes=2, seed=5), *told, loss, recipe, state)
    for row in state.history:
        for kind in ("", "val_"):
            parts = 0.3 * row[f"{kind}cross_entropy"] + 0.7 * row[f"{kind}soft_loss"]
            assert row[f"{kind}loss"] == pytest.approx(parts, rel=1e-5)
    logits = np.asarray(best(validate_on.images.rows(np.arange(14)).numpy().astype(np.float32))) / 3
    soft = targets_of(told[1])[:, 2:]
    surprise = np.log(np.exp(logits).sum(axis=1, keepdims=True)) - logits
    if soft_loss == Kl():
        surprise = 9 * (surprise + np.log(soft))
    assert state.best()["val_soft_loss"] == pytest.approx((soft * surprise).sum(axis=1).mean(), rel=1e-4)


def test_a_temperature_follows_the_epochs_also_after_a_stop(tmp_path, train_on, validate_on):
    """From 8 to 2 in three epochs: 8, 5, 2. The loss of each is computed from its weights in NumPy."""
    told = []
    for given in (train_on, validate_on):
        v = np.random.default_rng(len(given.images)).normal(0, 9, (len(given.images), 2))
        both = np.concatenate([targets_of(given), v - v.mean(axis=1, keepdims=True)], axis=1).astype(np.float32)
        names = [name for name, _ in given.content]
        told.append(Examples(given.content, given.images, HardLabels(names, both, Augmentation(), 0, 1)))
    recipe = Recipe([Phase(2, 0.01, "all"), Phase(1, 0.01, "all")], batch_size=8, seed=5)

    def state_of(name, start=None):
        state = Noted(tmp_path / name)
        if start is not None:
            state.path.write_bytes(start)
            state = Noted(state.path)
        train(LINEAR.build(classes=2, seed=5), *told, DistillationLoss(8.0, 0.3, last_temperature=2.0), recipe, state)
        return state

    whole = state_of("whole.npz")
    model, v = LINEAR.build(classes=2, seed=5), targets_of(told[1])[:, 2:].astype(np.float64)
    for temperature, file, row in zip((8.0, 5.0, 2.0), whole.files, whole.history, strict=True):
        model.set_weights(kept_weights(file))
        z = np.asarray(model(validate_on.images.rows(np.arange(14)).numpy().astype(np.float32)), np.float64)
        log_p, log_q = log_softmax(v / temperature, axis=1), log_softmax(z / temperature, axis=1)
        expected = temperature**2 * np.sum(np.exp(log_p) * (log_p - log_q), axis=1).mean()
        assert row["val_soft_loss"] == pytest.approx(expected, rel=1e-4)
    continued = state_of("continued.npz", whole.files[0])
    assert len(continued.files) == 2
    assert continued.history == whole.history
    assert continued.files[-1] == whole.files[-1]


def test_the_curves_count_labelled_images_alone(tmp_path, train_on, validate_on):
    """Nothing is learned, so that the first logits say it all; of 26 images, in batches of 8, 16 have no label."""
    loss, one_hot = DistillationLoss(3.0, 0.3), targets_of(train_on)
    one_hot = np.where((np.arange(26) % 13 < 8)[:, None], 0, one_hot)
    soft = np.random.default_rng(26).dirichlet([1.0, 1.0], 26)
    both = np.concatenate([one_hot, soft], axis=1).astype(np.float32)
    names = [name for name, _ in train_on.content]
    told = Examples(train_on.content, train_on.images, HardLabels(names, both, Augmentation(), 0, 1))
    state = TrainingState(tmp_path / "state.npz")
    recipe = Recipe([Phase(1, 1e-12, "all", optimizer="sgd")], batch_size=8, seed=5)
    labelled = np.concatenate([targets_of(validate_on), np.full((14, 2), 0.5)], axis=1).astype(np.float32)
    names = [name for name, _ in validate_on.content]
    validation = Examples(validate_on.content, validate_on.images, HardLabels(names, labelled, Augmentation(), 0, 1))
    model = train(LINEAR.build(classes=2, seed=5), told, validation, loss, recipe, state)
    (row,) = state.history
    logits = np.asarray(model(train_on.images.rows(np.arange(26)).numpy().astype(np.float32)), np.float64)
    chosen, labels = np.flatnonzero(one_hot.any(axis=1)), one_hot.argmax(axis=1)
    assert len(chosen) == 10
    surprise = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(26), labels]
    assert row["cross_entropy"] == pytest.approx(surprise[chosen].mean(), rel=1e-5)
    assert row["accuracy"] == pytest.approx(np.mean(logits.argmax(axis=1)[chosen] == labels[chosen]))
    assert row["accuracy"] != pytest.approx(np.mean(logits.argmax(axis=1) == labels))
    assert row["loss"] == pytest.approx(0.3 * surprise[chosen].sum() / 26 + 0.7 * row["soft_loss"], rel=1e-5)


def test_the_curves_of_a_teacher_have_no_soft_loss(uninterrupted):
    history = uninterrupted["passes"][1].history
    assert set(history[0]) == {"epoch", "phase", "learning_rate"} | {
        f"{kind}{name}" for kind in ("", "val_") for name in ("loss", "accuracy", "cross_entropy")
    }


# What is published


def enter(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.delenv("DVC_ROOT", raising=False)


@pytest.fixture
def here(tmp_path, monkeypatch):
    enter(tmp_path, monkeypatch)


def no_space(*_):
    raise OSError("no space left")


@pytest.fixture(scope="module")
def unsaved_once(data_set, tmp_path_factory):
    """A folder in which a training came to its end and its model could not be written; to be copied."""
    folder = tmp_path_factory.mktemp("unsaved")
    with pytest.MonkeyPatch.context() as patch:
        enter(folder, patch)
        patch.setattr("pipeline.models.keras_files.save", no_space)
        with pytest.raises(OSError, match="no space"):
            write(data_set)
    return folder


@pytest.fixture(scope="module")
def published_once(unsaved_once, data_set, tmp_path_factory):
    """A copy of it in which the model was written; to be copied."""
    folder = tmp_path_factory.mktemp("published")
    shutil.copytree(unsaved_once, folder, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        enter(folder, patch)
        write(data_set)
    return folder


@pytest.fixture
def unsaved(unsaved_once, tmp_path, here):
    shutil.copytree(unsaved_once, tmp_path, dirs_exist_ok=True)


@pytest.fixture
def published(published_once, tmp_path, here):
    shutil.copytree(published_once, tmp_path, dirs_exist_ok=True)


def outputs():
    return Path("m.keras").read_bytes(), Path("m.csv").read_bytes()


def never(*_, **__):
    raise AssertionError("it trains again")


def test_the_best_epoch_is_published(published, validate_on):
    """Later epochs at a ruinous learning rate must not spoil the weights that are returned."""
    history = pd.read_csv("m.csv").to_dict("records")
    best = best_of(history)
    assert history[-1]["val_cross_entropy"] > 10 * best["val_cross_entropy"]
    assert_measured(best, keras.saving.load_model("m.keras"), validate_on)


def test_the_file_records_classes_and_accuracy(data_set, published):
    data = index_of(data_set)
    best = pd.read_csv("m.csv")["val_accuracy"].max()
    assert keras_files.read_record(Path("m.keras")) == {
        "class_names": ["HP", "SSA"],
        "validation": {"images": fingerprint_of(data.split("val")), "accuracy": pytest.approx(best, abs=1e-9)},
    }


def test_a_finished_training_is_published_again_and_not_repeated(data_set, published, monkeypatch):
    """DVC removes the outputs before it runs the stage; a kill may come before it notes that the stage has ended."""
    before = outputs()
    Path("m.keras").unlink()
    Path("m.csv").unlink()
    monkeypatch.setattr("pipeline.training.fit.train", never)
    write(data_set)
    assert outputs() == before


def test_a_kill_before_the_state_was_removed_leaves_none(data_set, published, monkeypatch):
    """It may come when the finished files are there."""
    (finished,) = Path(".work").rglob("finished.keras")
    finished.with_name("state.npz").touch()
    monkeypatch.setattr("pipeline.training.fit.train", never)
    write(data_set)
    assert [*Path(".work").rglob("state.npz")] == []


def test_a_training_from_scratch_gives_the_same_bytes(data_set, published, monkeypatch):
    """A day later: a .keras file is a zip archive, which notes times."""
    before = outputs()
    shutil.rmtree(".work")
    monkeypatch.setattr(time, "time", lambda now=time.time: now() + 86_400)
    write(data_set)
    assert outputs() == before


def renamed(data_set):
    return Index(
        [
            Image(image.id, image.path, image.class_name + "!", image.split, "", image.sha256)
            for image in data_set.images
        ]
    )


def with_first(phase):
    return {"recipe": replace(SPOILT, phases=[phase, *SPOILT.phases[1:]])}


OTHER_INPUTS = {
    "learning rate": lambda _: with_first(Phase(6, 0.02, "all")),
    "epochs": lambda _: with_first(Phase(7, 0.01, "all")),
    "batch size": lambda _: {"recipe": replace(SPOILT, batch_size=9)},
    "seed": lambda _: {"recipe": replace(SPOILT, seed=6)},
    "model": lambda _: {"model": replace(WITHOUT_STATISTICS, dropout=0.4)},
    "loss": lambda _: {"loss": HardLoss(label_smoothing=0.1)},
    "images": lambda data_set: {"train_on": examples(data_set, range(25))},
    "validation images": lambda data_set: {"validate_on": examples(data_set, range(27, 40))},
    "views": lambda data_set: {"train_on": examples(data_set, range(26), Augmentation())},
    "class names": lambda data_set: {"data": renamed(index_of(data_set))},
}


@pytest.mark.parametrize("other", OTHER_INPUTS)
def test_another_input_trains_anew(data_set, published, monkeypatch, other):
    monkeypatch.setattr("pipeline.training.fit.train", never)
    with pytest.raises(AssertionError, match="it trains again"):
        write(data_set, **OTHER_INPUTS[other](data_set))


def test_changed_content_of_an_image_trains_anew(data_set, published, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.training.fit.train", never)
    write(Path(shutil.copytree(data_set, tmp_path / "same")))  # the place of the images does not matter
    changed = Path(shutil.copytree(data_set, tmp_path / "changed"))
    shutil.copy(changed / "images/MHIST_002.png", changed / "images/MHIST_000.png")
    with pytest.raises(AssertionError, match="it trains again"):
        write(changed)


def test_changed_parameters_start_afresh(data_set, unsaved):
    assert len(list(Path(".work").glob("*/*/state.npz"))) == 1
    write(data_set, replace(SPOILT, phases=[Phase(1, 0.02, "all")]))
    assert pd.read_csv("m.csv")["learning_rate"].tolist() == [0.02]
    assert not list(Path(".work").glob("*/*/state.npz"))


def test_a_full_disk_costs_no_epoch(data_set, unsaved, capsys):
    """What was trained before the model could not be written is there the next time."""
    assert not Path("m.keras").exists()
    write(data_set)
    printed = capsys.readouterr().err
    assert "m.keras: continuing after epoch 7 of 7\n" in printed
    assert not re.search(r"^epoch \d/7", printed, re.MULTILINE)


def test_the_best_epoch_is_by_accuracy_then_loss_then_time():
    rows = [(1, 0.9, 0.5), (2, 0.95, 0.4), (3, 0.95, 0.3), (4, 0.95, 0.3), (5, 0.8, 0.1)]
    history = [dict(zip(("epoch", "val_accuracy", "val_cross_entropy"), row, strict=True)) for row in rows]
    assert best_epoch(history)["epoch"] == 3
    assert best_epoch(history[::-1])["epoch"] == 4
