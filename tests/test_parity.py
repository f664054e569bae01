"""Offline equals online: our stage from the file, against Keras' own distiller with the teacher in the loop."""

import hashlib
import re
import shutil
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import MODEL
from onnx_graphs import classifier, node, write
from real_project import attempt, copy_without, inside
from scipy.special import log_softmax, softmax
from soft_label_files import edit

from pipeline.distillation.descriptions import (
    CrossEntropy,
    Decoupled,
    JensenShannon,
    Relations,
    SquaredError,
    Standardised,
    TeachersChoice,
)
from pipeline.distillation.loss import DistillationLoss
from pipeline.distillation.targets import HardAndSoftLabels
from pipeline.images.augmentation import Erasing, Mixing, Operations
from pipeline.images.decoded_images import DecodedImages
from pipeline.images.index import read_index
from pipeline.images.transforms import Transforms
from pipeline.images.views import Augmentation, Views
from pipeline.inference.forward import Forward
from pipeline.models import architectures, keras_files
from pipeline.models.descriptions import Application
from pipeline.models.ensembles import save_ensemble
from pipeline.models.given_teacher import completed
from pipeline.models.teacher_file import GivenTeacher
from pipeline.runtime.errors import MismatchError, MissingError, ParameterError
from pipeline.runtime.seen_files import RECORD
from pipeline.soft_labels.logit_storage import Dense, TopK
from pipeline.soft_labels.reading import open_soft_targets
from pipeline.stages import precompute, soften, split
from pipeline.tools import parity
from pipeline.tools.distiller_steps import Steps, last_place
from pipeline.tools.live_teacher import in_float32, is_keras_own
from pipeline.tools.parity import Distance, Parity
from pipeline.training.fit import train
from pipeline.training.input_pipeline import Examples, training_batches
from pipeline.training.recipe import Phase, Recipe
from pipeline.training.state import TrainingState

INDEX, TEACHER = Path("data/index.csv"), Path("teacher.keras")
CLASSES, SIDE, BATCH = 6, 16, 8
NAMES = [f"c{number}" for number in range(CLASSES)]
VIEWS = Views(3, 7, Augmentation(rotation=0.2, translation=0.2, horizontal_flip=True, contrast=0.3))
CNN = replace(MODEL, input_shape=(SIDE, SIDE, 3), filters=[4, 8], batch_normalization=True)
MOBILENET = Application(
    architecture="mobilenetv2",
    input_shape=(32, 32, 3),
    weights=None,
    pooling="avg",
    batch_normalization=False,
    dropout=0.0,
    alpha=0.35,
)
MIXED = Views(
    3,
    7,
    Augmentation(
        rotation=0.1,
        operations=Operations(2, {"hue": 0.2, "equalize": 0.5, "sharpness": 1.0}),
        erasing=Erasing(0.4),
        mixup=Mixing(1.0, 0.4),
        cutmix=Mixing(1.0, 0.4),
    ),
)
SMALLER = replace(CNN, input_shape=(12, 10, 3))
ONE_PLACE = 2.0**-23
OPTIMIZERS = ({"optimizer": "sgd", "learning_rate": 0.02}, {"optimizer": "adam", "learning_rate": 0.002})


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Six classes of 16 x 16 images, and a teacher of dropout, batch normalisation and large logits."""
    folder = tmp_path_factory.mktemp("labelled")
    noise = np.random.default_rng(3)
    for part, count in (("train", 5), ("val", 2), ("test", 2)):
        for label in range(CLASSES):
            (folder / f"raw/{part}/c{label}").mkdir(parents=True)
            for number in range(count):
                pixels = np.clip(noise.normal(40 * label, 40, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
                (folder / f"raw/{part}/c{label}/{part}{number}.png").write_bytes(tf.io.encode_png(pixels).numpy())
    with inside(folder):
        settings = {"data": Path("raw"), "train": "train", "val": "val", "test": "test"}
        settings |= {"val_fraction": None, "test_fraction": None}
        split.run(layout="folders", settings=settings, split_folder=Path("data/split"), index=INDEX)
        write_teacher(4)
        label_images(Path("logits.h5"))
    return folder


def write_teacher(scale):
    """An untrained teacher, with logits so many times as large as they come."""
    teacher = replace(CNN, filters=[8, 16], dropout=0.4).build(classes=CLASSES, seed=1)
    head = teacher.get_layer("logits")
    head.set_weights([scale * value for value in head.get_weights()])
    keras_files.save(teacher, TEACHER, {"class_names": NAMES})


def label_images(logits, stored_as=Dense("float32"), precision="float32", views=VIEWS):  # noqa: B008
    precompute.run(
        index=INDEX,
        teacher=TEACHER,
        views=views,
        stored_as=stored_as,
        batch_size=16,
        precision=precision,
        previous=[],
        output=logits,
    )


@pytest.fixture
def project(labelled, tmp_path, monkeypatch):
    """A copy of it, in the current folder."""
    shutil.copytree(labelled, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.delenv("DVC_ROOT", raising=False)


def soft_targets(temperature, logits="logits.h5"):
    path = Path(f"T{temperature:g}.h5")
    soften.run(logits=Path(logits), soft_targets=path, temperature=temperature)
    return path


def examples_in(file, name, shape):
    data = read_index(INDEX)
    images = data.split(name)
    return Examples.of(images, shape, HardAndSoftLabels(file, name, images, data.one_hot(images)))


def offline(targets, model, loss, recipe):
    """The stage's own training: an epoch a step, so that its history has the loss of every step."""
    state = TrainingState(Path(f"{targets.stem}.npz"))
    with open_soft_targets(targets) as file:
        train_on, validate_on = (examples_in(file, name, model.input_shape) for name in ("train", "val"))
        train(model.build(classes=CLASSES, seed=recipe.seed), train_on, validate_on, loss, recipe, state)
    weights = [state.arrays[f"weight{number}"] for number in range(sum(name[:6] == "weight" for name in state.arrays))]
    return [row["loss"] for row in state.history], weights


def online(targets, model, loss, recipe):
    """Keras' distiller, step by step: the losses and the last weights of two runs.

    In the second, pixels and first weights are moved by some units in the last place. Both take the step that was
    compiled once.
    """
    student, teacher, step = model.build(classes=CLASSES, seed=recipe.seed), keras_files.load(TEACHER), 0
    noise = np.random.default_rng(11)

    def moved(values):
        return np.asarray(values) * (1 + ONE_PLACE * noise.choice([-1, 1], values.shape)).astype(np.float32)

    first = student.get_weights()
    weights, losses, moves = [first, [moved(values) for values in first]], [[], []], [np.asarray, moved]
    with open_soft_targets(targets) as file:
        examples = examples_in(file, "train", model.input_shape)
        for phase in recipe.phases:
            distiller = keras.distillation.Distiller(
                teacher=teacher,
                student=architectures.for_phase(student, phase.trainable_from),
                distillation_losses=keras.distillation.LogitsDistillation(
                    loss=keras.losses.KLDivergence(), temperature=loss.temperature
                ),
                student_loss_weight=loss.hard_label_weight,
            )
            optimizer = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam}[phase.optimizer]
            distiller.compile(optimizer(phase.learning_rate), keras.losses.CategoricalCrossentropy(from_logits=True))
            distiller.optimizer.build(distiller.trainable_variables)  # now: made in the first step, they trace it twice
            new = [keras.ops.convert_to_numpy(variable) for variable in distiller.optimizer.variables]
            steps = range(step, step := step + phase.epochs)
            batches = [*training_batches(examples, recipe.batch_size, recipe.seed, steps)]
            for run in range(2):
                student.set_weights(weights[run])
                for variable, value in zip(distiller.optimizer.variables, new, strict=True):
                    variable.assign(value)
                for pixels, labels in batches:
                    distiller.reset_metrics()
                    logs = distiller.train_on_batch(moves[run](pixels), labels[:, :CLASSES], return_dict=True)
                    losses[run].append(float(logs["total_loss"]))
                weights[run] = student.get_weights()
    return [*zip(losses, weights, strict=True)]


def furthest(some, others):
    return max(np.max(np.abs(a - b), initial=0) for a, b in zip(some, others, strict=True))


def assert_equal_but_for_rounding(ours, theirs, rounded, loss):
    """Two float32 trainings drift apart as two do that differ in their rounding errors alone, or ten times as far.

    In the first step nothing has drifted yet. What is rounded there are the terms of the loss; the KL divergence is the
    difference of two cross-entropies, each of up to log C nats, whose rounding errors it keeps.
    """
    terms = theirs[0][0] + 2 * (1 - loss.hard_label_weight) * loss.temperature**2 * np.log(CLASSES)
    assert abs(ours[0][0] - theirs[0][0]) <= 4 * ONE_PLACE * terms
    largest = ONE_PLACE * terms, ONE_PLACE * max(np.max(np.abs(values), initial=0) for values in theirs[1])
    for our, their, other, one_place in zip(ours, theirs, rounded, largest, strict=True):
        assert furthest(our, their) <= 10 * max(furthest(other, their), one_place)


def compare(model, temperature, weight, phases, steps=4):
    recipe = Recipe([Phase(epochs=steps, steps_per_epoch=1, **phase) for phase in phases], BATCH, seed=2)
    loss, targets = DistillationLoss(temperature, weight), soft_targets(temperature)
    ours, (theirs, rounded) = offline(targets, model, loss, recipe), online(targets, model, loss, recipe)
    assert_equal_but_for_rounding(ours, theirs, rounded, loss)
    assert furthest(ours[1], model.build(classes=CLASSES, seed=2).get_weights()) > 1e-3  # it has learned something


@pytest.mark.parametrize(
    ("temperature", "weight", "optimizer"),
    [(0.5, 0.3, OPTIMIZERS[1]), (4.0, 1.0, OPTIMIZERS[0]), (20.0, 0.0, OPTIMIZERS[1])],
)
def test_the_stage_takes_the_steps_of_keras_own_distiller(project, temperature, weight, optimizer):
    """On stored views, with batch normalisation, the backbone frozen and then not, over the end of a pass."""
    compare(CNN, temperature, weight, [optimizer | {"trainable_from": part} for part in (None, "all")])


def test_fine_tuning_a_batch_normalised_backbone_equals_keras(project):
    teacher = replace(CNN, input_shape=MOBILENET.input_shape).build(classes=CLASSES, seed=1)
    keras_files.save(teacher, TEACHER, {"class_names": NAMES})
    label_images(Path("logits.h5"))
    compare(MOBILENET, 4.0, 0.3, [OPTIMIZERS[0] | {"trainable_from": 100}], steps=3)


def test_keras_default_distillation_loss_is_wrong_and_ours_right():
    """At T = 3 the softened logits are (1, 0, -1) and (0, 1, -1), whose softmaxes have one normaliser.

    So KL = p0 (1 - 0) + p1 (0 - 1) = (e - 1) / (e + 1 + 1/e), times T^2. The default takes the softened logits for
    probabilities, clipped to 1e-7 and 1: 1 log(1 / 1e-7), and 1e-7 log 1e-7, which is nothing. No T^2.
    """
    teacher, student = keras.ops.convert_to_tensor([[3.0, 0, -3]]), keras.ops.convert_to_tensor([[0.0, 3, -3]])
    right = keras.distillation.LogitsDistillation(temperature=3.0, loss=keras.losses.KLDivergence())
    expected = 9 * (np.e - 1) / (np.e + 1 + 1 / np.e)
    np.testing.assert_allclose(right.compute_loss(teacher, student), expected, rtol=1e-6)
    np.testing.assert_allclose(right.compute_loss(teacher + 5.0, student - 2.0), expected, rtol=1e-5)
    default = keras.distillation.LogitsDistillation(temperature=3.0)
    by_name = keras.distillation.LogitsDistillation(temperature=3.0, loss="kl_divergence")
    np.testing.assert_array_equal(by_name.compute_loss(teacher, student), default.compute_loss(teacher, student))
    np.testing.assert_allclose(default.compute_loss(teacher, student), 7 * np.log(10), rtol=1e-5)
    np.testing.assert_allclose(
        default.compute_loss(teacher - 3.0, student), 0, atol=1e-5
    )  # (0, -1, -2) are all clipped
    ours = DistillationLoss(3.0, 0.0)(np.array([[1, 0, 0, *softmax([1.0, 0, -1])]], np.float32), student)
    np.testing.assert_allclose(ours, expected, rtol=1e-6)


ONE_PHASE = Recipe([Phase(3, **OPTIMIZERS[1], trainable_from="all")], BATCH, seed=2)


def proof(targets, model=CNN, recipe=ONE_PHASE, steps=4, loss=None, views=VIEWS):
    with open_soft_targets(targets) as file:
        temperature = file.temperature
    return parity.run(
        index=INDEX,
        teacher=TEACHER,
        soft_targets=targets,
        logits=Path("logits.h5"),
        views=views,
        loss=loss or DistillationLoss(temperature, 0.3),
        model=model,
        recipe=recipe,
        steps=steps,
    )


@pytest.fixture(scope="module")
def proven(labelled, tmp_path_factory):
    """The proof of the labelled images at T = 4."""
    folder = copy_without(labelled, tmp_path_factory.mktemp("proven") / "project")
    with inside(folder):
        return proof(soft_targets(4.0))


@contextmanager
def online_as_in(earlier):
    """Takes the online runs from an earlier proof: soft labels have no part in them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parity, "online_steps", lambda *_: (earlier.online, earlier.rounded))
        yield


def test_the_offline_side_of_the_proof_is_the_stage(project, proven):
    targets, found = soft_targets(4.0), proven
    assert parity.is_equal(found) is True
    in_stage = replace(ONE_PHASE, phases=[replace(ONE_PHASE.phases[0], epochs=4, steps_per_epoch=1)])
    losses, weights = offline(targets, CNN, DistillationLoss(4.0, 0.3), in_stage)
    np.testing.assert_array_equal(found.offline.losses, losses)
    assert furthest(found.offline.weights, weights) == 0
    assert found.phases == [1, 1, 1, 1]
    assert found.rounded.losses != found.online.losses
    assert keras.config.epsilon() == 1e-7


@pytest.mark.parametrize(
    ("model", "loss"),
    [
        (replace(CNN, dropout=0.5), None),
        (SMALLER, None),
        (CNN, DistillationLoss(4.0, 0.3, scale_by_temperature_squared=False)),
        (CNN, DistillationLoss(4.0, 0.3, soft_loss=CrossEntropy())),
    ],
    ids=["dropout", "another size than the teacher's", "not scaled by T^2", "cross-entropy"],
)
def test_the_proof_holds_with(project, proven, model, loss):
    found = proof(soft_targets(4.0), model, loss=loss)
    assert parity.is_equal(found) is True
    if loss is not None:
        same = loss.scale_by_temperature_squared
        assert (furthest(found.offline.weights, proven.offline.weights) == 0) == same  # the same gradient or not


LOSSES = {
    "the same with a T of the student's own": DistillationLoss(4.0, 0.3, soft_loss=CrossEntropy(student_temperature=2)),
    "js": DistillationLoss(4.0, 0.3, soft_loss=JensenShannon()),
    "mse": DistillationLoss(4.0, 0.3, soft_loss=SquaredError()),
    "dkd": DistillationLoss(4.0, 0.3, soft_loss=Decoupled()),
    "dist": DistillationLoss(4.0, 0.3, soft_loss=Relations()),
    "logit_standardization": DistillationLoss(4.0, 0.3, soft_loss=Standardised(before="dkd")),
    "hard": DistillationLoss(4.0, 0.3, soft_loss=TeachersChoice()),
    "a T that changes": DistillationLoss(4.0, 0.3, last_temperature=1.0),
}
LINEAR = replace(CNN, filters=[], batch_normalization=False)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_the_proof_holds_with_the_loss(project, loss):
    """Keras has none of them: ours is computed of the logits that the teacher gives in the loop."""
    assert not is_keras_own(loss)
    found = proof(soft_targets(4.0), LINEAR, loss=loss, steps=3)
    assert parity.is_equal(found) is True, parity.as_text(found)


def test_the_proof_holds_with_a_full_recipe(project):
    """Over the end of the warm-up. Class weights multiply the soft term, too, which Keras' own strategy does not do."""
    phase = replace(
        ONE_PHASE.phases[0],
        epochs=9,
        steps_per_epoch=2,
        schedule="cosine",
        warmup=1,
        weight_decay=0.01,
        clip_norm=1.0,
        label_smoothing=0.1,
        ema=0.9,
        patience=3,
        class_weight={name: 0.5 + number for number, name in enumerate(NAMES)},
    )
    found = proof(soft_targets(4.0), LINEAR, replace(ONE_PHASE, phases=[phase]), steps=3)
    assert parity.is_equal(found) is True, parity.as_text(found)


@pytest.fixture(scope="module")
def proven_mixed(labelled, tmp_path_factory):
    """A project whose views are mixed, erased and operated on, and its proof for a student of another size."""
    folder = copy_without(labelled, tmp_path_factory.mktemp("mixed") / "project")
    with inside(folder):
        label_images(Path("logits.h5"), views=MIXED)
        return folder, proof(soft_targets(4.0), SMALLER, views=MIXED)


def test_the_proof_holds_with_mixed_views(proven_mixed):
    """The teacher in the loop sees the same mixed pictures in its own size."""
    folder, found = proven_mixed
    assert parity.is_equal(found) is True
    with open_soft_targets(folder / "T4.h5") as file:
        transforms = [file.transforms("train", view) for view in range(3)]
    mixed = np.array([of_view.partner >= 0 for of_view in transforms])
    by_box = np.array([of_view.box.any(axis=1) for of_view in transforms])
    assert 10 < by_box.sum() < mixed.sum() < mixed.size


def teachers_answers(transforms):
    """The teacher's logits for all views that these transforms make: (V, N, C)."""
    data, teacher = read_index(INDEX), keras_files.load(TEACHER)
    images = data.split("train")
    pixels = DecodedImages([image.path for image in images], teacher.input_shape[1:], keep=True)
    rows, views = np.repeat(np.arange(len(images)), 3), np.tile(np.arange(3), len(images))
    answers = Forward(teacher, 16).of_views(pixels, views, rows, transforms, MIXED.augmentation)
    return np.concatenate([*answers]).reshape(len(images), 3, CLASSES).swapaxes(0, 1)


def test_labels_of_another_views_mix_are_no_rounding(proven_mixed, tmp_path, monkeypatch):
    folder, found = proven_mixed
    monkeypatch.chdir(copy_without(folder, tmp_path / "project"))
    targets = Path("T4.h5")
    with open_soft_targets(targets) as file:
        stored = Transforms.joined([file.transforms("train", view)[None] for view in range(3)])
    of_another = {name: np.roll(getattr(stored, name), 1, axis=0) for name in ("partner", "own_share", "box")}
    own, others = (
        softmax(teachers_answers(transforms) / 4, axis=-1) for transforms in (stored, replace(stored, **of_another))
    )

    def change_soft(file):
        np.testing.assert_allclose(file["train/soft"], own, rtol=1e-4)
        file["train/soft"][:] = others

    edit(targets, change_soft)
    with online_as_in(found):
        assert parity.is_equal(proof(targets, SMALLER, views=MIXED)) is False


def small_teacher(kind):
    """A teacher that `Description.build` never makes, of layers that were seeded."""
    keras.utils.set_random_seed(7)
    shape = (SIDE, SIDE, 3)
    if kind == "in mixed precision":
        with mixed_precision():
            inputs = keras.Input(shape)
            features = keras.layers.Conv2D(4, 3, 2)(keras.layers.Rescaling(1 / 255)(inputs))
            return keras.Model(inputs, keras.layers.Dense(CLASSES)(keras.layers.Flatten()(features)))
    layers = [keras.layers.Rescaling(1 / 255), keras.layers.Conv2D(4, 3, 2, activation="relu"), keras.layers.Flatten()]
    sequential = keras.Sequential([keras.Input(shape), *layers, keras.layers.Dense(CLASSES)], name="sequential")
    if kind == "a Sequential":
        return sequential
    inputs = keras.Input(shape)
    wrapped = keras.Model(inputs, sequential(inputs), name="wrapped")
    if kind == "a Sequential in a Functional":
        return wrapped
    if kind == "inputs in a list":
        return keras.Model([inputs], [sequential(inputs)])
    return keras.Sequential([keras.Input(shape), wrapped], name="nested")


@contextmanager
def mixed_precision():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


KINDS = ["a Sequential", "a Sequential in a Functional", "nested twice", "inputs in a list", "in mixed precision"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_teacher_of_any_kind_enters_the_distiller_as_it_is(kind):
    """Keras' distiller looks at `teacher.output`, which a Sequential does not have, and which may be a list."""
    teacher, pixels = small_teacher(kind), np.random.default_rng(1).uniform(0, 255, (3, SIDE, SIDE, 3))
    entering = in_float32(teacher)
    assert entering.output.dtype == "float32"
    assert entering.output.shape == (None, CLASSES)
    np.testing.assert_array_equal(entering(pixels), teacher([pixels] if kind == "inputs in a list" else pixels))


def test_the_proof_holds_with_a_sequential_teacher(project):
    small_teacher("a Sequential").save(TEACHER)
    label_images(Path("logits.h5"))
    assert parity.is_equal(proof(soft_targets(4.0), steps=2)) is True


def test_the_proof_holds_with_a_teacher_in_onnx(project):
    shape, noise = (SIDE, SIDE, 3), np.random.default_rng(4)
    kernel, bias = noise.normal(0, 0.002, (SIDE * SIDE * 3, CLASSES)), noise.normal(0, 1, CLASSES)
    file = write(classifier(node("Softmax", ["z"], ["y"]), shape=shape, kernel=kernel, bias=bias, batch=3))
    teacher = completed(GivenTeacher(str(file)), NAMES)
    keras_files.save(teacher.model, TEACHER, teacher.record)
    label_images(Path("logits.h5"))
    assert parity.is_equal(proof(soft_targets(4.0), steps=2)) is True


@pytest.mark.parametrize(("kinds", "average"), [(KINDS, "logits"), (KINDS[:3:2], "probabilities")])
def test_the_proof_holds_with_an_ensemble(project, kinds, average):
    for number, kind in enumerate(kinds):
        small_teacher(kind).save(f"{number}.keras")
    save_ensemble([Path(f"{number}.keras") for number in range(len(kinds))], average, NAMES, TEACHER)
    label_images(Path("logits.h5"))
    assert parity.is_equal(proof(soft_targets(4.0), steps=2)) is True


@pytest.mark.parametrize(
    "damage",
    [
        lambda soft: soft[:, [1, 0, *range(2, soft.shape[1])]],
        lambda soft: np.roll(soft, 1, axis=0),
        lambda soft: np.roll(soft, 1, axis=2),
        lambda soft: softmax(np.log(soft) * 1.01, axis=2),
    ],
    ids=["two images exchanged", "the views shifted", "the classes shifted", "another temperature by 1 %"],
)
def test_what_is_wrong_with_the_soft_labels_is_no_rounding(project, proven, damage):
    targets = soft_targets(4.0)

    def change_soft(file):
        file["train/soft"][:] = damage(file["train/soft"][:])

    edit(targets, change_soft)
    with online_as_in(proven):
        found = proof(targets)
    assert parity.is_equal(found) is False
    assert re.search(r"Offline is not online: they differ by [\d,]{3,} times what rounding does", parity.as_text(found))


def test_how_far_rounded_storage_drifts(project):
    """The first step's drift as NumPy computes it from the two sets of soft labels; and it is no rounding."""

    def first_batch(targets):
        with open_soft_targets(targets) as file:
            examples = examples_in(file, "train", CNN.input_shape)
            (pixels, labels), *_ = training_batches(examples, BATCH, ONE_PHASE.seed, range(1))
        return pixels, labels[:, CLASSES:].numpy().astype(np.float64)

    write_teacher(32)
    label_images(Path("logits.h5"))
    pixels, exact = first_batch(soft_targets(1.0))
    student = CNN.build(classes=CLASSES, seed=ONE_PHASE.seed)
    told = log_softmax(student(pixels, training=True).numpy().astype(np.float64), axis=1)

    def divergence(p):
        return np.mean(np.sum(p * (np.log(p) - told), axis=1))

    earlier = None
    for stored_as in (Dense("float16"), TopK(2, "float32")):
        label_images(Path("logits.h5"), stored_as)
        targets = soft_targets(1.0)
        with nullcontext() if earlier is None else online_as_in(earlier):
            found = earlier = proof(targets)
        drift = 0.7 * (divergence(first_batch(targets)[1]) - divergence(exact))
        rounding = 4 * ONE_PLACE * (found.online.losses[0] + 2 * np.log(CLASSES))
        assert abs(drift) > 2 * rounding
        np.testing.assert_allclose(found.offline.losses[0] - found.online.losses[0], drift, atol=rounding)
        assert parity.is_equal(found) is None
        assert "The file holds the logits rounded (kind " in parity.as_text(found)


def test_a_teacher_in_mixed_precision_is_no_exact_one(project):
    label_images(Path("logits.h5"), precision="mixed_bfloat16")
    found = proof(soft_targets(4.0), steps=1)
    assert parity.is_equal(found) is None
    assert "rounded (kind dense, dtype float32, precision mixed_bfloat16): this" in parity.as_text(found)
    assert abs(found.offline.losses[0] - found.online.losses[0]) > 1e-5


def test_a_teacher_whose_logits_are_no_float32_is_compared_too(project):
    teacher = small_teacher("inputs in a list")
    logits = keras.layers.Activation("linear", dtype="float64", name="in_float64")(teacher.outputs[0])
    keras_files.save(keras.Model(teacher.inputs, logits), TEACHER, {"class_names": NAMES})
    label_images(Path("logits.h5"))
    assert parity.is_equal(proof(soft_targets(4.0), steps=2)) is True


@pytest.mark.parametrize("dtype", ["uint8", "float16"])
def test_a_teacher_whose_pixels_are_no_float32_is_compared_too(project, dtype):
    keras.utils.set_random_seed(2)
    pixels = keras.Input((SIDE, SIDE, 3), dtype=dtype)
    features = keras.layers.Rescaling(1 / 255)(pixels)
    logits = keras.layers.Dense(CLASSES)(keras.layers.Flatten()(features))
    keras_files.save(keras.Model(pixels, logits), TEACHER, {"class_names": NAMES})
    label_images(Path("logits.h5"))
    assert parity.is_equal(proof(soft_targets(4.0), steps=2)) is True


def test_a_student_that_diverges_is_no_proof(project):
    wild = replace(ONE_PHASE, phases=[Phase(1, 1e30, "all", optimizer="sgd")])
    with pytest.raises(ParameterError, match=r"diverged: its losses were .*Lower the learning_rate of student"):
        proof(soft_targets(4.0), recipe=wild)


def test_soft_labels_of_other_logits_are_refused(project):
    targets = soft_targets(4.0)
    label_images(Path("logits.h5"), Dense("float16"))
    with pytest.raises(MismatchError, match=r"T4\.h5 was softened from other logits"):
        proof(targets)


def test_who_does_not_belong_together_is_refused(project):
    targets = soft_targets(4.0)
    with pytest.raises(MismatchError, match=r"T4\.h5 holds other views: seed 7, expected 5"):
        proof(targets, views=replace(VIEWS, seed=5))
    other = CNN.build(classes=CLASSES, seed=9)
    keras_files.save(other, TEACHER, {"class_names": NAMES})
    with pytest.raises(MismatchError, match=r"T4\.h5 was made from another teacher"):
        proof(targets)
    TEACHER.unlink()
    with pytest.raises(MissingError, match=r"there is no teacher at teacher\.keras\. Make it with `dvc repro train_t"):
        proof(targets)


def three_trainings(offline, rounded, weight=0.5):
    """Two steps in each of two phases; the weights are one number."""
    online = Steps([2.0, 1.5, 1.0, 0.5], [np.array([3.0])])
    of = [Steps([loss + far for loss, far in zip(online.losses, more, strict=True)], [np.array([3.0 + more[-1]])])
          for more in (offline, rounded)]  # fmt: skip
    return Parity(of[0], online, of[1], [1, 1, 2, 2], DistillationLoss(1.0, weight), 1, parity.EXACT)


def test_the_text_shows_both_curves_and_largest_differences():
    text = parity.as_text(three_trainings([0, 0, -4e-3, 2e-3], [0, 1e-3, 0, 5e-4]))
    rows = [line.split() for line in text.splitlines()]
    assert ["2", "1", "0.996000000", "1.00000000", "-4.0e-03"] in rows
    assert ["1", "2", "1.50000000", "1.50000000", "+0.0e+00"] in rows
    assert [*["largest", "difference", "of", "the", "loss", "of", "a", "step"], "4.0e-03", "1.0e-03"] in rows
    assert [*["largest", "difference", "of", "a", "weight", "at", "the", "end"], "2.0e-03", "5.0e-04"] in rows
    assert text.splitlines()[-1].startswith("Offline equals online")


@pytest.mark.parametrize(("times", "equal"), [(9.9, True), (10.1, False)])
def test_ten_times_what_rounding_does_is_the_limit(times, equal):
    assert parity.is_equal(three_trainings([0, 0, 0, times * 1e-3], [0, 0, 0, 1e-3])) is equal


def test_rounding_is_at_least_one_unit_in_the_last_place():
    found = parity.distances(three_trainings([0, 0, 0, 0], [0, 0, 0, 0]))
    assert found["the loss of a step"] == Distance(0, 2 * ONE_PLACE, 2)
    assert found["a weight at the end"] == Distance(0, 3 * ONE_PLACE, 3)


@pytest.mark.parametrize(("rounding", "equal"), [(0.019, True), (0.021, None)])
def test_rounding_that_hides_a_tenth_of_the_loss_proves_nothing(rounding, equal):
    """The largest loss is 2."""
    found = three_trainings([0, 0, 0, 0], [rounding, 0, 0, 0])
    assert parity.is_equal(found) is equal
    assert ("Nothing can be told: rounding alone" in parity.as_text(found)) is (equal is None)


def test_soft_labels_without_weight_prove_nothing_of_themselves():
    assert "but soft labels have no part in it" in parity.as_text(three_trainings([0] * 4, [1e-6] * 4, weight=1.0))


@pytest.mark.parametrize(
    ("gpus", "tensor_float_32", "expected"), [([], True, 2**-23), (["GPU:0"], False, 2**-23), (["GPU:0"], True, 2**-10)]
)
def test_the_last_place_is_that_of_the_products_operands(monkeypatch, gpus, tensor_float_32, expected):
    """TensorFloat-32 has ten bits behind the leading one, float32 has twenty-three."""
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: gpus)
    monkeypatch.setattr(tf.config.experimental, "tensor_float_32_execution_enabled", lambda: tensor_float_32)
    assert last_place() == expected


def test_the_command_proves_it_and_writes_nothing(reproduced, tmp_path):
    project = copy_without(reproduced, tmp_path / "project", ".dvc/cache")

    def everything():
        files = {path for path in project.rglob("*") if path.is_file()} - {project / ".work" / RECORD}
        return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    before = everything()
    done = attempt("softlabel", "parity", "--steps", "3", cwd=project)
    assert done.returncode == 0, done.stdout
    curve = re.findall(r"^1 +\d +\d\.\d{8,} +\d\.\d{8,} +(?:[+-]\d\.\de-0[6-9]|\+0\.0e\+00)$", done.stdout, re.M)
    assert len(curve) == 3
    assert "Offline equals online" in done.stdout
    assert everything() == before
    misspelt = attempt("softlabel", "parity", "--temperature", "4.0", cwd=project)
    assert misspelt.returncode == 2
    assert "T = 4.0 is not in distill.temperatures, as written there: 4." in misspelt.stdout

    def exchange(file):
        file["train/soft"][:] = file["train/soft"][:][:, ::-1]

    edit(project / "data/soft_labels/soft_targets_T4.h5", exchange)
    unequal = attempt("softlabel", "parity", "--steps", "2", "--temperature", "4", "--seed", "7", cwd=project)
    # The exchange is told from rounding, not from a digest: `edit` names the new one, and the logits' stays.
    assert unequal.returncode == 1
    assert "Offline is not online" in unequal.stdout
