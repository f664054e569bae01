"""A network of the user's own as student or teacher: its layers, weights, phases, and what is refused."""

import hashlib
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from real_project import ROOT, change
from weights import weights_sha256

from pipeline.images.views import Augmentation, Views
from pipeline.models import architectures
from pipeline.models.descriptions import OwnNetwork
from pipeline.models.given_teacher import completed
from pipeline.models.records import read_record
from pipeline.models.teacher_file import GivenTeacher
from pipeline.params.reading import read_params
from pipeline.runtime.errors import DamagedError, MismatchError, MissingError, ParameterError, UnusableError
from pipeline.stages import train_baseline
from pipeline.training.recipe import Phase, Recipe

NET = Path("net.keras")
PIXELS = np.random.default_rng(0).uniform(0, 255, (3, 12, 12, 3)).astype(np.float32)


def layers(activation=None, classes=2):
    return [
        keras.layers.Rescaling(1 / 255, name="scale"),
        keras.layers.Conv2D(4, 3, activation="relu", name="first"),
        keras.layers.BatchNormalization(name="normalised"),
        keras.layers.Conv2D(8, 3, strides=2, activation="relu", name="second"),
        keras.layers.GlobalAveragePooling2D(name="pooled"),
        keras.layers.Dense(classes, activation=activation, name="answer"),
    ]


def sequential(activation=None, classes=2):
    """In three lines, as docs/guide.md shows."""
    keras.utils.set_random_seed(9)
    return keras.Sequential([keras.Input((12, 12, 3)), *layers(activation, classes)])


def functional(activation=None, classes=2):
    """With a branch, and most layers in a nested model."""
    keras.utils.set_random_seed(9)
    *below, answer = layers(activation, classes)
    inner = keras.Sequential(below, name="inner")
    pixels = keras.Input((12, 12, 3))
    both = keras.layers.Concatenate()([inner(pixels), keras.layers.GlobalMaxPooling2D()(pixels)])
    return keras.Model(pixels, answer(both))


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def own(**keys):
    return OwnNetwork(**({"architecture": str(NET), "weights": "own"} | keys))


@pytest.mark.parametrize("made", [sequential, functional])
@pytest.mark.parametrize("activation", [None, "softmax"])
def test_with_its_weights_it_answers_as_the_file_does(made, activation):
    model = made(activation)
    model.save(NET)
    built = own().build(classes=2, seed=1)
    logits = keras.ops.convert_to_numpy(built(PIXELS))
    answers = keras.ops.softmax(logits) if activation else logits
    np.testing.assert_allclose(answers, model(PIXELS), rtol=1e-6, atol=1e-6)
    assert own().input_shape == (12, 12, 3)


def softmax_as_a_layer():
    return keras.Sequential([keras.Input((12, 12, 3)), *layers(), keras.layers.Softmax()])


def a_linear_end():
    return keras.Sequential([keras.Input((12, 12, 3)), *layers(), keras.layers.Activation("linear", dtype="float32")])


def named_as_ours():
    keras.utils.set_random_seed(9)
    names = {"pixels": keras.layers.Conv2D(2, 3, name="backbone"), "end": keras.layers.Dense(2, name="pixels")}
    return keras.Sequential([keras.Input((12, 12, 3)), names["pixels"], keras.layers.Flatten(), names["end"]])


def a_frozen_end():
    model = sequential()
    model.layers[-1].trainable = False
    return model


@pytest.mark.parametrize("made", [softmax_as_a_layer, a_linear_end, named_as_ours, a_frozen_end])
def test_other_ends_and_names_are_taken_too(made):
    model = made()
    model.save(NET)
    built = own().build(classes=2, seed=1)
    answers = keras.ops.softmax(built(PIXELS)) if made is softmax_as_a_layer else built(PIXELS)
    np.testing.assert_allclose(answers, model(PIXELS), rtol=1e-5, atol=1e-5)
    head = architectures.for_phase(built, None)
    assert len(head.trainable_variables) == 2


def a_shared_end():
    end, pixels = keras.layers.Dense(3), keras.Input((12, 12, 3))
    return keras.Model(pixels, end(end(keras.layers.GlobalAveragePooling2D()(pixels))))


def test_a_last_layer_that_is_used_twice_is_refused():
    a_shared_end().save(NET)
    with pytest.raises(UnusableError, match="twice"):
        own().build(classes=3, seed=1)


def test_stated_preprocessing_stands_in_front():
    model = sequential()
    model.save(NET)
    built = own(preprocessing="unit").build(classes=2, seed=1)
    np.testing.assert_allclose(built(PIXELS), model(PIXELS / 255), rtol=1e-5, atol=1e-6)


def test_without_them_its_weights_come_from_the_seed():
    sequential().save(NET)
    of_file, one, again, other = (
        weights_sha256(own(weights=weights).build(classes=2, seed=seed))
        for weights, seed in (("own", 1), (None, 1), (None, 1), (None, 2))
    )
    assert one == again
    assert len({of_file, one, other}) == 3


@pytest.mark.parametrize(
    ("trainable_from", "expected"),
    [
        (None, {"answer"}),
        ("second", {"second", "answer"}),
        ("normalised", {"normalised", "second", "answer"}),
        ("all", {"first", "normalised", "second", "answer"}),
    ],
)
def test_phases_freeze_by_the_names_of_its_layers(trainable_from, expected):
    sequential().save(NET)
    phase = architectures.for_phase(own().build(classes=2, seed=1), trainable_from)
    assert {variable.path.split("/")[-2] for variable in phase.trainable_variables} == expected


def test_a_layer_that_it_lacks_is_refused_by_name():
    sequential().save(NET)
    with pytest.raises(ParameterError, match=r"'third'"):
        architectures.for_phase(own().build(classes=2, seed=1), "third")


def ends_in_pooling():
    return keras.Sequential([keras.Input((12, 12, 3)), keras.layers.Conv2D(2, 3), keras.layers.GlobalMaxPooling2D()])


@pytest.mark.parametrize(
    ("model", "error", "words"),
    [
        (lambda: sequential(classes=3), MismatchError, [r"3 output", r"2 classes", r"Dense\(2\)"]),
        (ends_in_pooling, UnusableError, [r"GlobalMaxPooling2D", "Dense"]),
        (lambda: sequential("relu"), UnusableError, ["relu"]),
        (lambda: keras.Sequential([keras.Input((5,)), keras.layers.Dense(2)]), UnusableError, [r"\(5,\)"]),
    ],
    ids=["three classes", "no Dense layer at its end", "relu", "no images"],
)
def test_what_cannot_be_a_student_is_refused(model, error, words):
    model().save(NET)
    with pytest.raises(error) as raised:
        own().build(classes=2, seed=1)
    for word in [r"net\.keras", *words]:
        raised.match(word)


def test_a_missing_file_is_refused():
    with pytest.raises(MissingError, match=r"net\.keras.*`network\.save\('net\.keras'\)`") as refused:
        _ = own().input_shape
    assert "dvc repro" not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + 18 * b"\0"], ids=["empty", "an empty archive"])
def test_no_stage_can_make_a_damaged_file_again(content):
    NET.write_bytes(content)
    for read in (lambda: own().input_shape, lambda: completed(GivenTeacher(str(NET)), ["a", "b"])):
        with pytest.raises(DamagedError, match=r"net\.keras.*model\.save") as refused:
            read()
        assert "dvc repro" not in str(refused.value)


def test_the_network_of_the_guide_is_one(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/guide.md").read_text(encoding="utf-8"), re.DOTALL)
    (block,) = [block for block in blocks if "network.save" in block]
    exec(compile(block, "guide", "exec"), {})  # noqa: S102
    model = own(architecture="network.keras", weights=None).build(classes=10, seed=1)
    phase = architectures.for_phase(model, "features")
    assert len(phase.trainable_variables) == 3 + 2  # the two kernels and the bias of the one layer; the last layer


# In params.yaml and in a training


def params_with(model):
    (params := Path("params.yaml")).write_bytes((ROOT / "params.yaml").read_bytes())
    change(params, "student.model", model)
    return read_params(params)


def test_params_yaml_names_the_file():
    for weights in (None, "own"):
        read = params_with({"architecture": "nets/mine.keras", "weights": weights})
        assert read.student.model == OwnNetwork(architecture="nets/mine.keras", weights=weights)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"weights": "imagenet"}, ["student.model.weights", "'own'", "got 'imagenet'"]),
        ({"weights": None, "pooling": "avg"}, ["student.model.pooling: unknown key"]),
        ({"architecture": "MINE.KERAS"}, ["student.model.architecture: ", "Rename it to end in .keras"]),
        ({"architecture": "mine.onnx"}, ["student.model.architecture: ", "only networks of Keras are trained here"]),
        ({"architecture": "mine.pth"}, ["student.model.architecture: ", "mine.pth is a model of PyTorch"]),
        ({"architecture": "mine.csv"}, ["student.model.architecture: ", "a network cannot"]),
    ],
    ids=["ImageNet's weights", "a key of other models", "capitals", "ONNX", "PyTorch", "a table"],
)
def test_what_does_not_belong_to_it_is_named(keys, words):
    with pytest.raises(ParameterError) as raised:
        params_with({"architecture": "mine.keras"} | keys)
    assert [word for word in words if word not in str(raised.value)] == []


def train(model):
    train_baseline.run(
        index=Path("data/index.csv"),
        model=model,
        recipe=Recipe([Phase(2, 0.01, "second")], batch_size=8, seed=1),
        views=Views(1, 1, Augmentation()),
        output=Path("models/baselines/seed1.keras"),
        history=Path("results/history/baseline_seed1.csv"),
    )
    return keras.saving.load_model("models/baselines/seed1.keras")


@pytest.mark.slow
def test_a_training_moves_free_layers_and_follows_the_file(unlabelled, capsys):
    """Of the same path: the content of the file counts."""
    model = sequential()
    model.save(NET)
    trained = train(own())
    kept, moved = (trained.get_layer("backbone").get_layer(name).kernel for name in ("first", "second"))
    np.testing.assert_array_equal(kept, model.get_layer("first").kernel)
    assert np.abs(moved - model.get_layer("second").kernel).max() > 0
    trained_from = hashlib.sha256(NET.read_bytes()).hexdigest()
    assert read_record(Path("models/baselines/seed1.keras"))["files"] == [trained_from]
    capsys.readouterr()
    train(own())
    assert "already trained" in capsys.readouterr().err
    model.get_layer("first").kernel.assign(2 * model.get_layer("first").kernel)
    model.save(NET)
    np.testing.assert_array_equal(
        train(own()).get_layer("backbone").get_layer("first").kernel, model.get_layer("first").kernel
    )
