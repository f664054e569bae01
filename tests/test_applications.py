"""Architectures by the names of keras.applications: all of them, with their own preprocessing, and their list."""

import inspect
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from described_model import described_model

from pipeline.cli.main import main
from pipeline.models import architectures, keras_files
from pipeline.models.applications import applications, weights_folder, weights_in
from pipeline.models.given_teacher import completed
from pipeline.models.teacher_file import GivenTeacher
from pipeline.runtime.errors import MismatchError, MissingError, ParameterError
from pipeline.stages import train_teacher
from pipeline.tools.model_list import ListedModel, as_text

FUNCTIONS = {
    name.lower(): function for name, function in vars(keras.applications).items() if inspect.isfunction(function)
}
"""What the imported package has."""


def test_every_architecture_of_keras_is_found():
    assert {name: application.constructor for name, application in applications().items()} == FUNCTIONS
    assert len(FUNCTIONS) >= 40


def test_those_of_any_width_are_known():
    takes_alpha = {name for name, function in FUNCTIONS.items() if "alpha" in inspect.signature(function).parameters}
    assert {name for name, application in applications().items() if application.has_width} == takes_alpha
    assert {"mobilenet", "mobilenetv3small"} < takes_alpha


@pytest.mark.parametrize("module", sorted({application.module for application in applications().values()}))
def test_preprocessing_is_that_of_its_module(module):
    application = next(each for each in applications().values() if each.module == module)
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 5, 5, 3)).astype(np.float32)
    preprocessed = pixels
    for layer in architectures.preprocessing_layers(application.preprocessing()):
        preprocessed = layer(preprocessed)
    expected = getattr(keras.applications, module).preprocess_input(pixels.copy())
    np.testing.assert_allclose(preprocessed, expected, rtol=0, atol=5e-5)


def test_an_unknown_preprocessing_is_to_be_stated(monkeypatch):
    monkeypatch.setattr("keras.applications.vgg16.preprocess_input", lambda pixels: pixels**2)
    with pytest.raises(ParameterError, match=r"vgg16.*`preprocessing`"):
        applications()["vgg16"].preprocessing()


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "options"), [("mobilenet", {"alpha": 0.25}), ("convnexttiny", {})])
def test_a_model_by_name_is_saved_loaded_and_frozen(tmp_path, architecture, options):
    """Also one with layers that Keras has for it alone."""
    head = {"weights": None, "pooling": "avg", "batch_normalization": False, "dropout": 0.0}
    described = described_model(architecture=architecture, input_shape=(32, 32, 3), **head, **options)
    model = described.build(classes=3, seed=1)
    assert model.output_shape == (None, 3)
    assert [layer.name for layer in architectures.for_phase(model, None).trainable_variables] == ["kernel", "bias"]
    keras_files.save(model, tmp_path / "model.keras")
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    np.testing.assert_array_equal(keras_files.load(tmp_path / "model.keras")(pixels), model(pixels))


NAMES_OF_KERAS = {
    "resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5": ("resnet50v2", "backbone"),
    "resnet50_weights_tf_dim_ordering_tf_kernels.h5": ("resnet50", "whole"),
    "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5": ("mobilenetv2", "backbone"),
    "mobilenet_2_5_224_tf.h5": ("mobilenet", "whole"),
    "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5": ("mobilenetv3small", "backbone"),
    "efficientnetv2-b0.h5": ("efficientnetv2b0", "whole"),
    "efficientnetb0_notop.h5": ("efficientnetb0", "backbone"),
    "convnext_tiny_notop.h5": ("convnexttiny", "backbone"),
    "NASNet-mobile-no-top.h5": ("nasnetmobile", "backbone"),
    "inception_resnet_v2_weights_tf_dim_ordering_tf_kernels.h5": ("inceptionresnetv2", "whole"),
}
"""Files of Keras 3.15 in its folder, as its source names them."""


@pytest.mark.parametrize("name", NAMES_OF_KERAS)
def test_weights_on_this_machine_are_told_by_their_file(tmp_path, name):
    (tmp_path / name).touch()
    (tmp_path / "of_another_program.h5").touch()
    architecture, part = NAMES_OF_KERAS[name]
    assert weights_in(tmp_path) == {architecture: {part}}


@pytest.mark.slow
def test_the_list_shows_parameters_sizes_and_weights(tmp_path, monkeypatch):
    """Parameters as keras.io/api/applications has them, in millions."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    (tmp_path / "models/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5").touch()
    shown = CliRunner().invoke(main, ["models", "vgg16", "mobilenetv3small", "xception"])
    rows = [line.split() for line in shown.stdout.splitlines()]
    assert ["vgg16", "138,357,544", "224", "x", "224", "backbone"] in rows
    assert ["xception", "22,910,480", "299", "x", "299", "none"] in rows
    assert ["mobilenetv3small", "2,554,968", "any", "size", "none"] in rows
    assert str(tmp_path / "models") in shown.stdout


def test_an_unknown_name_is_refused_with_the_nearest():
    refused = CliRunner().invoke(main, ["models", "resnet5"])
    assert refused.exit_code == 1
    assert "resnet50" in refused.output


def test_both_kinds_of_weights_are_shown():
    text = as_text([ListedModel("mobilenet", 4_253_864, 224, frozenset({"whole", "backbone"}))])
    assert "backbone and whole" in text


@pytest.mark.parametrize("architecture", ["resnet50", "densenet121"])
def test_grey_images_are_refused_where_the_weights_need_color(architecture):
    head = {"weights": None, "pooling": "avg", "batch_normalization": False, "dropout": 0.0}
    with pytest.raises(ParameterError, match=r"3 channels.*preprocessing"):
        described_model(architecture=architecture, input_shape=(32, 32, 1), **head).build(classes=2, seed=1)


@pytest.mark.slow
def test_own_preprocessing_makes_the_layers_that_its_name_makes():
    head = {"weights": None, "pooling": "avg", "batch_normalization": False, "dropout": 0.0}
    own, named = (
        described_model(architecture="vgg16", input_shape=(32, 32, 3), preprocessing=kind, **head).build(
            classes=2, seed=1
        )
        for kind in ("own", "caffe")
    )
    assert [layer.name for layer in own.layers] == [layer.name for layer in named.layers]


@pytest.mark.parametrize("home", ["", "a file", "not writable"])
def test_a_home_that_keras_cannot_write_is_replaced(home, tmp_path, monkeypatch):
    (tmp_path / "a file").touch()
    folder = tmp_path / "not writable"
    folder.mkdir()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / home) if home else "")
    if home == "not writable":
        monkeypatch.setattr("os.access", lambda path, mode: Path(path) != folder)
    expected = tmp_path / "a file/models" if home == "a file" else Path("/tmp/.keras/models")  # noqa: S108
    assert weights_folder() == expected


def test_weights_that_cannot_be_kept_are_told(monkeypatch, tmp_path):
    (tmp_path / "home").touch()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    head = {"weights": "imagenet", "pooling": "avg", "batch_normalization": False, "dropout": 0.0}
    with pytest.raises(MissingError, match="KERAS_HOME"):
        described_model(architecture="mobilenet", input_shape=(128, 128, 3), **head).build(classes=2, seed=1)


def test_keras_hub_is_listed_by_itself():
    refused = CliRunner().invoke(main, ["models", "keras_hub", "vgg16"])
    assert refused.exit_code == 1
    assert "give it alone, not keras_hub vgg16" in refused.output


@pytest.mark.parametrize("name", ["cnn", "mlp"])
def test_what_has_no_fixed_size_is_not_listed(name):
    refused = CliRunner().invoke(main, ["models", name])
    assert refused.exit_code == 1
    assert "no pretrained weights" in refused.output


# As ready teachers, with their own heads


SMALL = "keras.applications:mobilenetv3small"
CLASSES = {"cat": 281, "dog": 207}


@pytest.fixture
def classifier(monkeypatch):
    """Some ImageNet classifier with random weights, which stand in Keras' folder for the real ones."""
    build = keras.applications.MobileNetV3Small

    def from_folder(weights="imagenet", **options):
        keras.utils.set_random_seed(3)
        return build(weights=None, **options)

    monkeypatch.setattr("keras.applications.MobileNetV3Small", from_folder)
    return from_folder(input_shape=(224, 224, 3))


@pytest.mark.slow
def test_a_classifier_of_keras_is_a_teacher_with_its_head(classifier):
    whole = completed(GivenTeacher(SMALL, classes=CLASSES, accuracy=0.7), ["cat", "dog"])
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 224, 224, 3)).astype(np.float32)
    probabilities = np.asarray(classifier(keras.applications.mobilenet_v3.preprocess_input(pixels)))
    logits = np.asarray(whole.model(pixels))
    np.testing.assert_allclose(
        logits[:, 1] - logits[:, 0], np.log(probabilities[:, 207] / probabilities[:, 281]), rtol=0, atol=1e-4
    )
    assert whole.record["class_names"] == ["cat", "dog"]
    assert whole.record["given"]["accuracy"] == 0.7
    assert any("998 output" in note for note in whole.notes)


def test_every_classifier_can_be_built_without_its_softmax():
    without = [
        name for name, function in FUNCTIONS.items()
        if not {"classifier_activation", "input_shape", "weights"} <= {*inspect.signature(function).parameters}
    ]  # fmt: skip
    assert without == []


@pytest.mark.slow
def test_outputs_without_a_meaning_are_refused(classifier):
    with pytest.raises(MismatchError, match=r"1000 logits.*2 classes.*train_teacher\.classes"):
        completed(GivenTeacher(SMALL), ["cat", "dog"])


def test_its_missing_weights_are_named(monkeypatch, tmp_path):
    def fail(_, origin, **__):
        raise Exception(f"URL fetch failure on {origin}: None -- no network")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", fail)
    with pytest.raises(
        MissingError, match=re.escape(str(tmp_path / "models/weights_mobilenet_v3_small_224"))
    ) as refused:
        completed(GivenTeacher(SMALL, classes=CLASSES), ["cat", "dog"])
    assert str(refused.value).endswith("or name another teacher in train_teacher.model."), "it has no key `weights`"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"model": "keras.applications:mobilenetv3"}, ["keras.applications has no 'mobilenetv3'", "mobilenetv3"]),
        ({"model": SMALL, "preprocessing": "unit"}, ["preprocessing"]),
    ],
    ids=["an unknown name", "a preprocessing"],
)
def test_what_cannot_be_such_a_teacher_is_refused(keys, words):
    with pytest.raises(ValueError, match=words[0]) as raised:
        GivenTeacher(**keys)
    assert [word for word in words if word not in str(raised.value)] == []


@pytest.mark.slow
def test_the_stage_writes_it_and_needs_no_training(unlabelled, classifier):
    train_teacher.run(
        index=Path("data/index.csv"),
        teachers=[GivenTeacher(SMALL, classes={"HP": 281, "SSA": 207})],
        average="logits",
        output=Path("models/given.keras"),
        history=Path("results/history/teacher.csv"),
    )
    model = keras.saving.load_model("models/given.keras")
    assert model.input_shape == (None, 224, 224, 3)
    assert model.output_shape == (None, 2)
