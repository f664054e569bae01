"""Losses, reader and models without TensorFlow: on Keras' JAX backend they give what they give on TensorFlow."""

import ast
import json
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import MODEL
from either_backend import LEARNING_RATE, ROOT, STEPS, run_on_jax, train_from_file
from soft_label_files import CLASS_NAMES, INDEX, VIEWS, logits_of, write_both
from test_loss import ULP, log_softmax, rounding_bound, soft_term_in_float64, softmax, targets

from pipeline.distillation.descriptions import (
    CrossEntropy,
    Decoupled,
    JensenShannon,
    Kl,
    Relations,
    SquaredError,
    Standardised,
    TeachersChoice,
    of,
)
from pipeline.distillation.loss import DistillationLoss
from pipeline.images.index import write_index
from pipeline.models import architectures, ensembles, keras_files
from pipeline.models.descriptions import Mlp

FREE_OF_TENSORFLOW = [
    *("distillation.descriptions", "distillation.loss", "distillation.soft_losses"),
    *("distillation.targets", "distillation.teacher_answers"),
    *("images.augmentation", "images.image_files", "images.index", "images.operations"),
    *("images.one_hot", "images.parquet_rows", "images.places", "images.random_words", "images.resize"),
    "images.sampling",
    *("images.headers", "images.shard_bytes", "images.transforms", "images.views"),
    *("models.applications", "models.architectures", "models.backbones", "models.descriptions", "models.ensembles"),
    *("models.hub", "models.hub_models", "models.keras_files", "models.last_activation", "models.model_end"),
    *("models.cheapest_cut", "models.frozen_graph", "models.frozen_part", "models.other_formats"),
    *("models.json_members", "models.keras_archive"),
    *("models.logit_formats", "models.logit_tables", "models.logits_in_csv", "models.logits_in_npz"),
    *("models.logits_in_parquet", "models.own_network", "models.parts", "models.records", "models.stored_answers"),
    "models.teacher_file",
    *("runtime.csv_rows", "runtime.digests", "runtime.errors", "runtime.kept_files", "runtime.npz_files"),
    *(
        "runtime.cores",
        "runtime.disk_errors",
        "runtime.parallel",
        "runtime.progress",
        "runtime.publish",
        "runtime.seen_files",
    ),
    *("runtime.bounded_reads", "runtime.extras", "runtime.limits", "runtime.parquet_files", "runtime.room"),
    *(
        "runtime.ranges",
        "runtime.separate_process",
        "runtime.temperatures",
        "runtime.text_files",
        "runtime.tried_files",
    ),
    *("runtime.workspace", "soft_labels.hdf5", "soft_labels.identity", "soft_labels.layout"),
    *("soft_labels.logit_storage", "soft_labels.one_view", "soft_labels.reading"),
    *("measures.best_epoch", "training.hard_loss", "training.kept_features", "training.recipe"),
]

COMPUTES_WITH_TENSORFLOW = "models.onnx_layer"
"""Models without such a layer need no TensorFlow, so the module is imported without it."""

SIDE = 32
IMAGE = {"input_shape": (SIDE, SIDE, 3), "batch_normalization": False, "dropout": 0.0, "weights": None}
CNN = replace(MODEL, **IMAGE, filters=[4, 8], downsampling="max_pooling")
MODELS = {
    "softmax_regression": Mlp(**IMAGE, pooling="flatten"),
    "cnn": replace(CNN, batch_normalization=True, hidden_units=[8]),
    "caffe": replace(CNN, preprocessing="caffe", downsampling="stride"),
}
NAMES = [*MODELS, "mobilenet"]
TRAINED = {
    "softmax_regression": {},
    "cnn": {},
    "mobilenet": {"trainable_from": "Conv_1", "inference_mode": True, "learning_rate": 2e-4},
}
AVERAGES = ("logits", "probabilities")
TEMPERATURE, WEIGHT = 4.0, 0.3

LOSSES = [
    {"temperature": t, "hard_label_weight": w, "scale_by_temperature_squared": scaled, "soft_loss": kind.as_json()}
    for t in (0.5, 1.0, 4.0, 20.0)
    for w in (0.0, 0.3, 1.0)
    for scaled, kind in ((True, Kl()), (False, CrossEntropy()))
]
OTHERS = [
    DistillationLoss(TEMPERATURE, WEIGHT, soft_loss=soft_loss, last_temperature=last)
    for soft_loss, last in (
        (JensenShannon(), None),
        (SquaredError(), None),
        (Decoupled(), None),
        (Relations(), None),
        (Standardised(before="dkd"), None),
        (TeachersChoice(), None),
        (Kl(student_temperature=2), 1.0),
    )
]
ON_JAX = (
    f"""
import importlib
import keras
for name in {[*FREE_OF_TENSORFLOW, COMPUTES_WITH_TENSORFLOW]}:
    try:
        importlib.import_module("pipeline." + name)
    except ImportError as error:
        print(name, error)
assert keras.backend.backend() == "jax"
assert "tensorflow" not in sys.modules
"""
    + """
import json
from pathlib import Path

import jax
import keras
import numpy as np
from either_backend import train_from_file

from pipeline.models import ensembles, keras_files
from pipeline.images.index import read_index
from pipeline.distillation.loss import DistillationLoss

case = json.loads(Path("case.json").read_text())
given, found = np.load("given.npz"), {}
for number, settings in enumerate(case["losses"]):
    loss = DistillationLoss.from_config(settings)
    y_true, z = given[f"targets {settings['temperature']:g}"], given["z"]
    found[f"loss {number}"] = loss.call(y_true, z)
    found[f"gradient {number}"] = jax.grad(lambda z: loss.call(y_true, z).sum())(jax.numpy.asarray(z))
for number, settings in enumerate(case["others"]):
    loss = DistillationLoss.from_config(settings)
    y_true, z = given[f"{loss.needs} at 4"], given["z"]
    found[f"other {number}"] = loss.call(y_true, z)
    found[f"gradient of other {number}"] = jax.grad(lambda z: loss.call(y_true, z).sum())(jax.numpy.asarray(z))
pixels = given["pixels"]
for name in case["models"]:
    model = keras_files.load_classifier(Path(f"{name}.keras"), case["class_names"])
    found[f"logits {name}"] = model.predict(pixels[0], verbose=0)
for average in case["averages"]:
    model, members, kind = ensembles.load_teacher(Path(f"{average}.keras"), case["class_names"])
    assert kind == average
    found[f"logits {average}"] = model.predict(pixels[0], verbose=0)
    for number, member in enumerate(members):
        found[f"logits {average} {number}"] = member.model.predict(pixels[0], verbose=0)
for name, phase in case["trained"].items():
    losses, weights = train_from_file(
        keras_files.load(Path(f"{name}.keras")), Path("soft_targets_T4.h5"), read_index(Path("index.csv")), pixels,
        DistillationLoss(**case["loss"]), **phase,
    )
    found |= {f"losses {name}": losses} | {f"weights {name} {path}": value for path, value in weights.items()}
np.savez("found.npz", **found)
"""
)


# Imports


@pytest.mark.parametrize("name", [*FREE_OF_TENSORFLOW, COMPUTES_WITH_TENSORFLOW])
def test_the_module_is_imported_where_there_is_no_tensorflow(name, folder):
    failed = (folder / "failed_imports").read_text()
    assert name not in [line.split()[0] for line in failed.splitlines()], failed


def imported(module):
    """Everything that a module imports, also within functions."""
    for node in ast.walk(ast.parse((ROOT / "pipeline" / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("name", FREE_OF_TENSORFLOW)
def test_the_module_imports_no_other_than_these(name):
    names = set(imported(name))
    assert not [other for other in names if other.split(".")[0] == "tensorflow"]
    ours = {other.removeprefix("pipeline.") for other in names if other.startswith("pipeline.")}
    known = (*FREE_OF_TENSORFLOW, COMPUTES_WITH_TENSORFLOW)
    assert [other for other in ours if not other.startswith(known)] == []


def test_what_needs_tensorflow_is_refused(tmp_path):
    code = "try:\n    import pipeline.training.input_pipeline\nexcept ImportError as error:\n    print(error)"
    assert run_on_jax(code, tmp_path) == "tensorflow is refused\n"


# The same numbers


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Models, ensembles, soft labels and pixels, written on TensorFlow, and what JAX made of them.

    That is `found.npz`, and in `failed_imports` which modules JAX without TensorFlow cannot import, and why.
    """
    folder = tmp_path_factory.mktemp("jax")
    built = {
        name: model.build(classes=len(CLASS_NAMES), seed=number) for number, (name, model) in enumerate(MODELS.items())
    }
    for name, model in (built | {"mobilenet": mobilenet()}).items():
        take_statistics(model)
        keras_files.save(model, folder / f"{name}.keras")
    for average in AVERAGES:
        members = [folder / f"{name}.keras" for name in ("softmax_regression", "caffe")]
        ensembles.save_ensemble(members, average, CLASS_NAMES, folder / f"{average}.keras")
    write_both(folder)
    write_index(folder / "index.csv", INDEX)
    np.savez(
        folder / "given.npz", pixels=PIXELS, z=LOGITS, **{f"targets {t:g}": y for t, y in TARGETS.items()}, **HALVES
    )
    case = {
        "losses": LOSSES,
        "others": [loss.get_config() for loss in OTHERS],
        "models": NAMES,
        "class_names": CLASS_NAMES,
        "averages": AVERAGES,
        "trained": TRAINED,
        "loss": {"temperature": TEMPERATURE, "hard_label_weight": WEIGHT},
    }
    (folder / "case.json").write_text(json.dumps(case), encoding="utf-8")
    (folder / "failed_imports").write_text(run_on_jax(ON_JAX, folder))
    return folder


def mobilenet():
    """Each kind of layer that MobileNetV2 has, with one block in place of seventeen."""
    layers = keras.layers
    keras.utils.set_random_seed(3)
    pixels = keras.Input((SIDE, SIDE, 3))
    features = layers.Conv2D(4, 3, strides=2, use_bias=False)(layers.ZeroPadding2D(((0, 1), (0, 1)))(pixels))
    before = layers.ReLU(6.0)(layers.BatchNormalization()(features))
    features = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(before)
    features = layers.ReLU(6.0)(layers.BatchNormalization()(features))
    features = layers.BatchNormalization()(layers.Conv2D(4, 1, use_bias=False)(features))
    features = layers.Conv2D(8, 1, use_bias=False, name="Conv_1")(layers.Add()([before, features]))
    features = layers.ReLU(6.0)(layers.BatchNormalization()(features))
    return architectures.chain(
        keras.Model(pixels, features, name="backbone"),
        preprocessing="symmetric",
        pooling="avg",
        batch_normalization=False,
        hidden_units=[],
        dropout=0.0,
        classes=len(CLASS_NAMES),
        name="mobilenet",
    )


def take_statistics(model):
    """Gives batch normalisations the statistics of pixels; the signal would die out in so many fresh ones."""
    layers = [inner for layer in model.layers for inner in (layer, *getattr(layer, "layers", ()))]
    for layer in layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(PIXELS[0], training=True)


GENERATOR = np.random.default_rng(3)
PIXELS = GENERATOR.integers(0, 256, (VIEWS.count, len(INDEX.split("train")), SIDE, SIDE, 3)).astype(np.float32)
LOGITS = GENERATOR.normal(0, 5, (40, 7)).astype(np.float32)
TEACHER = GENERATOR.normal(0, 5, (40, 7))
TARGETS = {t: targets(GENERATOR.integers(7, size=40), softmax(TEACHER, t)) for t in (0.5, 1.0, 4.0, 20.0)}
for of_temperature in TARGETS.values():
    of_temperature[:5, :7] = 0  # five rows have no label


LABELLED = TARGETS[TEMPERATURE][:, :7]
HALVES = {
    "probabilities at 4": TARGETS[TEMPERATURE],
    "logits at 4": np.concatenate([LABELLED, TEACHER - TEACHER.mean(axis=1, keepdims=True)], axis=1, dtype=np.float32),
}


@pytest.fixture(scope="module")
def found(folder):
    return np.load(folder / "found.npz")


def named(number):
    *values, kind = LOSSES[number].values()
    return "-".join(map(str, [*values, kind["kind"]]))


@pytest.mark.parametrize("number", range(len(LOSSES)), ids=named)
def test_loss_and_gradient_are_those_of_the_formula(number, found):
    t, w, scaled, kind = LOSSES[number].values()
    kind = of(kind)
    z, y_true = LOGITS.astype(np.float64), TARGETS[t]
    y, p = np.split(y_true.astype(np.float64), 2, axis=1)
    loss = w * -np.sum(y * log_softmax(z), axis=1) + (1 - w) * soft_term_in_float64(y_true, z, t, scaled, kind)
    np.testing.assert_allclose(found[f"loss {number}"], loss, rtol=0, atol=rounding_bound(z, t, w, scaled))
    factor = t if scaled else 1 / t
    gradient = w * (y.sum(axis=1, keepdims=True) * softmax(z) - y) + (1 - w) * factor * (softmax(z, t) - p)
    # As in test_gradient_of_the_soft_term, of both terms; p sums to 1 within C roundings.
    size, classes = np.abs(z).max(), z.shape[1]
    bound = ULP * sum(
        weight * (10 * size / divisor + 2 * classes + 8 + classes + 4)
        for weight, divisor in ((w, 1), ((1 - w) * factor, t))
    )
    np.testing.assert_allclose(found[f"gradient {number}"], gradient, rtol=0, atol=bound)


@pytest.mark.parametrize("number", range(len(OTHERS)), ids=[loss.soft_loss.kind for loss in OTHERS])
def test_every_other_loss_is_the_same_on_jax(number, found):
    """As TensorFlow computes it in float64; test_soft_losses.py compares that with the papers."""
    loss, z = OTHERS[number], tf.constant(LOGITS, tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(z)
        rows = loss.call(tf.constant(HALVES[f"{loss.needs} at 4"], tf.float64), z)
        total = tf.reduce_sum(rows)
    np.testing.assert_allclose(found[f"other {number}"], rows.numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found[f"gradient of other {number}"], tape.gradient(total, z), rtol=1e-3, atol=1e-4)


@pytest.fixture
def float64():
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx("float32")


def in_float64(path):
    """The model of a file, with its weights, computing in float64."""
    model = keras_files.load(path)
    exact = keras.models.model_from_json(model.to_json().replace('"float32"', '"float64"'))
    exact.set_weights(model.get_weights())
    return exact


def assert_as_near(on_jax, on_tensorflow, exact):
    """JAX may miss what float64 gives by 16 times what TensorFlow misses it by, or by 256 roundings.

    Both round the same operations in float32, in another order of summing, which differs from one processor to the
    next. Sums of 3,072 terms gather some 55 roundings, half of them either way, and each layer adds its own. What is
    looked for, another formula or other weights, is larger by far.
    """
    missed = np.abs(on_tensorflow - exact).max()
    allowed = max(16 * missed, 256 * ULP * np.abs(exact).max())
    np.testing.assert_allclose(on_jax, exact, rtol=0, atol=allowed)


def assert_moved_alike(on_jax, exact, before):
    """In all, JAX misses where float64 ends by less than a tenth of the way there.

    In all, not weight by weight: where rounding takes a ReLU to the other side of zero, a few weights differ by much
    more than rounding.
    """
    assert np.linalg.norm(on_jax - exact) < 0.1 * np.linalg.norm(exact - before)


@pytest.mark.parametrize("name", [*NAMES, *AVERAGES])
def test_a_model_file_gives_the_same_logits(name, folder, found, float64):
    exact = in_float64(folder / f"{name}.keras")(PIXELS[0].astype(np.float64), training=False).numpy()
    keras.config.set_floatx("float32")
    on_tensorflow = keras_files.load(folder / f"{name}.keras")(PIXELS[0], training=False).numpy()
    assert exact.dtype == np.float64
    assert np.ptp(exact, axis=0).max() > 0.01
    assert_as_near(found[f"logits {name}"], on_tensorflow, exact)


@pytest.mark.parametrize("average", AVERAGES)
def test_the_members_of_an_ensemble_say_what_they_say_alone(average, found):
    members = [found[f"logits {average} {number}"] for number in range(2)]
    for member, name in zip(members, ("softmax_regression", "caffe"), strict=True):
        np.testing.assert_allclose(member, found[f"logits {name}"], rtol=0, atol=256 * ULP * np.abs(member).max())
    expected = ensembles.average_of(np.stack(members), average)
    np.testing.assert_allclose(found[f"logits {average}"], expected, rtol=0, atol=256 * ULP * np.abs(members).max())


# Training


def trained_on_tensorflow(folder, name, model, pixels=PIXELS):
    loss = DistillationLoss(TEMPERATURE, WEIGHT)
    return train_from_file(model, folder / "soft_targets_T4.h5", INDEX, pixels, loss, **TRAINED[name])


@pytest.mark.parametrize("name", TRAINED)
def test_a_student_ends_where_it_does_on_tensorflow(name, folder, found, float64):
    losses, weights = trained_on_tensorflow(folder, name, in_float64(folder / f"{name}.keras"), PIXELS.astype(float))
    keras.config.set_floatx("float32")
    student = keras_files.load(folder / f"{name}.keras")
    before = {weight.path: weight.numpy() for weight in student.weights}
    losses32, student_weights = trained_on_tensorflow(folder, name, student)
    np.testing.assert_allclose(losses32, losses, rtol=1e-3)
    np.testing.assert_allclose(found[f"losses {name}"], losses, rtol=1e-3)
    moved = 0
    for path, exact in weights.items():
        on_jax = found[f"weights {name} {path}"]
        if np.array_equal(exact, before[path]):
            np.testing.assert_array_equal(on_jax, before[path])
            continue
        moved += 1
        assert_moved_alike(on_jax, exact, before[path])
        assert_moved_alike(student_weights[path], exact, before[path])
    # Of the backbone, the last convolution's kernel and its normalisation's scale and offset, but not its statistics.
    assert moved == (3 + 2 if TRAINED[name] else len(weights))


def test_a_student_of_one_layer_ends_where_the_formula_does(folder, found):
    """Softmax regression by gradient descent, in float64 NumPy, from logits and labels by id."""
    model = keras_files.load(folder / "softmax_regression.keras")
    before = model.get_weights()
    kernel, bias = (weight.astype(np.float64) for weight in before)
    images = INDEX.split("train")
    y = np.asarray(INDEX.one_hot(images))
    teacher = logits_of(VIEWS.count, len(images)).astype(np.float64)
    losses = []
    for step in range(STEPS):
        pixels, v = PIXELS[step % VIEWS.count].reshape(len(images), -1) / 255.0, teacher[step % VIEWS.count]
        z, p = pixels @ kernel + bias, softmax(v, TEMPERATURE)
        hard = -np.sum(y * log_softmax(z), axis=1)
        soft = np.sum(p * (log_softmax(v / TEMPERATURE) - log_softmax(z / TEMPERATURE)), axis=1)
        losses.append(np.mean(WEIGHT * hard + (1 - WEIGHT) * TEMPERATURE**2 * soft))
        slope = WEIGHT * (softmax(z) - y) + (1 - WEIGHT) * TEMPERATURE * (softmax(z, TEMPERATURE) - p)
        kernel -= LEARNING_RATE * pixels.T @ slope / len(images)
        bias -= LEARNING_RATE * slope.mean(axis=0)
    losses32, weights32 = trained_on_tensorflow(folder, "softmax_regression", model)
    assert_as_near(found["losses softmax_regression"], losses32, losses)
    assert np.ptp(losses) > 1000 * np.abs(losses32 - losses).max()
    for (path, on_tensorflow), exact, start in zip(weights32.items(), (kernel, bias), before, strict=True):
        assert_as_near(found[f"weights softmax_regression {path}"], on_tensorflow, exact)
        assert np.abs(exact - start).max() > 1000 * np.abs(on_tensorflow - exact).max()
