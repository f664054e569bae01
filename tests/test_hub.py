"""Teachers and students from keras_hub: presets that the tests save, their classifiers, backbones and lists."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from real_project import ROOT, change
from sklearn.datasets import load_sample_images
from weights import weights_sha256

from pipeline.cli.main import main
from pipeline.images.views import Augmentation, Views
from pipeline.models import architectures, hub, hub_models, hub_trial, keras_files
from pipeline.models.descriptions import HubBackbone
from pipeline.models.ensembles import save_ensemble
from pipeline.models.frozen_part import cut
from pipeline.models.given_teacher import completed
from pipeline.models.parts import Affine
from pipeline.models.teacher_file import GivenTeacher
from pipeline.params.reading import read_params
from pipeline.runtime import separate_process, tried_files
from pipeline.runtime.errors import DamagedError, MissingError, ParameterError, UnusableError
from pipeline.runtime.limits import limits
from pipeline.stages import train_baseline, train_teacher
from pipeline.tools import first_params
from pipeline.training.recipe import Phase, Recipe

pytestmark = pytest.mark.skipif(find_spec("keras_hub") is None, reason="keras_hub is not installed (the extra hub)")

SIDE = 32
SCALE, OFFSET = [1 / 51, 1 / 76.5, 1 / 102], [-1.0, -0.5, -0.2]
PHOTOS = np.stack(
    [photo[y : y + SIDE, x : x + SIDE] for photo in load_sample_images().images for y, x in ((50, 90), (250, 300))]
).astype(np.float32)
"""Parts of two photographs, 0 to 255."""


def resnet(image_shape=(None, None, 3)):
    """Of Keras' own layers."""
    import keras_hub

    return keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64],
        stackwise_num_blocks=[1],
        stackwise_num_strides=[1],
        block_type="basic_block",
        image_shape=image_shape,
    )


def vit():
    """Of layers that keras_hub has for it alone, for images of one size."""
    import keras_hub

    return keras_hub.models.ViTBackbone(
        image_shape=(SIDE, SIDE, 3), patch_size=8, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=16
    )


def classifier(backbone, *, activation="softmax", classes=5, image_size=(SIDE, SIDE), converts=True):
    import keras_hub

    family = type(backbone).__name__.removesuffix("Backbone")
    converter = getattr(keras_hub.layers, f"{family}ImageConverter")(image_size=image_size, scale=SCALE, offset=OFFSET)
    preprocessor = getattr(keras_hub.models, f"{family}ImageClassifierPreprocessor")(converter) if converts else None
    of_family = getattr(keras_hub.models, f"{family}ImageClassifier")
    return of_family(backbone, num_classes=classes, preprocessor=preprocessor, activation=activation)


@pytest.fixture(autouse=True)
def known(request, monkeypatch):
    """Instead of in a process of its own, files of weights are read here; not where a test says so."""
    if "tried" not in request.fixturenames:
        monkeypatch.setattr(
            hub_trial, "try_once_in_a_project", lambda _, path, *__, **___: hub_trial.read_weights(str(path))
        )


@pytest.fixture
def tried(tmp_path, monkeypatch):
    """A project in which nothing was tried yet."""
    monkeypatch.chdir(tmp_path)
    Path(".work").mkdir()


@pytest.fixture(scope="module")
def presets(tmp_path_factory):
    """A folder with two presets."""
    folder = tmp_path_factory.mktemp("presets")
    for build in (resnet, vit):
        keras.utils.set_random_seed(5)
        classifier(build()).save_to_preset(str(folder / build.__name__))
    return folder


@pytest.fixture
def copied(presets, tmp_path):
    """A preset of one's own to be damaged."""
    return shutil.copytree(presets / "resnet", tmp_path / "mine")


def described(folder, **keys):
    return HubBackbone(
        **{"architecture": f"keras_hub:{folder}", "input_shape": (SIDE, SIDE, 3), "weights": "own"} | keys
    )


def teacher(folder, **keys):
    return GivenTeacher(f"keras_hub:{folder}", **keys)


# As ready teachers, with their own heads


@pytest.mark.slow
@pytest.mark.parametrize("family", ["resnet", "vit"])
def test_a_teacher_answers_as_keras_hub_does(presets, family):
    """From photographs to logits, by the classes that are named."""
    import keras_hub
    import tensorflow as tf

    from pipeline.inference.forward import Forward

    whole = completed(teacher(presets / family, classes={"cat": 3, "dog": 1}, accuracy=0.7), ["cat", "dog"])
    logits = np.concatenate([*Forward(whole.model, 4)(tf.data.Dataset.from_tensor_slices(PHOTOS).batch(4))])
    theirs = keras_hub.models.ImageClassifier.from_preset(str(presets / family)).predict(PHOTOS, verbose=0)
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], np.log(theirs[:, 1] / theirs[:, 3]), rtol=0, atol=1e-4)
    assert np.ptp(logits) > 0.1
    given = whole.record["given"]
    assert given["preprocessing"] == {"scale": SCALE, "offset": OFFSET}
    assert (given["accuracy"], given["last_activation"]) == (0.7, "softmax")
    assert any("fit: crop" in note for note in whole.notes)


@pytest.mark.slow
def test_saved_models_load_where_keras_hub_was_not_imported(presets, tmp_path):
    """In a new process; a model of Keras' own layers also where keras_hub is not installed, any other is refused."""
    expected = {}
    for family in ("resnet", "vit"):
        model = completed(teacher(presets / family), list("abcde")).model
        keras_files.save(model, tmp_path / f"{family}.keras", {"class_names": list("abcde")})
        expected[family] = np.asarray(model(PHOTOS))
    np.save(tmp_path / "photos.npy", PHOTOS)
    script = """
import sys
from pathlib import Path
import numpy as np
from pipeline.models import keras_files
from pipeline.runtime.errors import DamagedError
sys.modules["keras_hub"] = None
np.save("resnet.npy", keras_files.load(Path("resnet.keras"))(np.load("photos.npy")))
try:
    keras_files.load(Path("vit.keras"))
except DamagedError as error:
    print(error)
del sys.modules["keras_hub"]
np.save("vit.npy", keras_files.load(Path("vit.keras"))(np.load("photos.npy")))
"""
    paths = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=os.environ | paths, check=True, capture_output=True, text=True
    )
    assert "vit.keras has layers of keras_hub" in done.stdout
    assert "pip install -e '.[hub]'" in done.stdout
    for family, logits in expected.items():
        np.testing.assert_allclose(np.load(tmp_path / f"{family}.npy"), logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["resnet", "vit"])
def test_the_same_preset_gives_the_same_bytes(presets, tmp_path, family):
    """Wherever the folder lies."""
    moved = shutil.copytree(presets / family, tmp_path / "elsewhere" / family)
    for number, folder in enumerate((presets / family, moved)):
        keras_files.save(described(folder).build(classes=3, seed=1), tmp_path / f"{number}.keras")
    assert (tmp_path / "0.keras").read_bytes() == (tmp_path / "1.keras").read_bytes()


def test_without_softmax_it_is_taken_as_it_is(tmp_path):
    task = classifier(resnet((SIDE, SIDE, 3)), activation=None, image_size=None)
    task.save_to_preset(str(tmp_path / "mine"))
    whole = completed(teacher(tmp_path / "mine"), list("abcde"))
    np.testing.assert_allclose(whole.model(PHOTOS), task(PHOTOS * SCALE + OFFSET), rtol=0, atol=1e-4)
    assert whole.record["given"]["last_activation"] == "linear"


def test_one_sigmoid_of_two_classes_becomes_two_logits(tmp_path):
    task = classifier(resnet(), activation="sigmoid", classes=1)
    task.save_to_preset(str(tmp_path / "mine"))
    logits = np.asarray(completed(teacher(tmp_path / "mine"), ["no", "yes"]).model(PHOTOS))
    answers = np.asarray(task(PHOTOS * SCALE + OFFSET))[:, 0]
    np.testing.assert_allclose(1 / (1 + np.exp(-logits[:, 1])), answers, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(logits[:, 0], 0)


def test_preprocessing_is_stated_where_the_preset_has_none(tmp_path, presets):
    task = classifier(resnet((SIDE, SIDE, 3)), activation=None, converts=False)
    task.save_to_preset(str(tmp_path / "mine"))
    whole = completed(teacher(tmp_path / "mine", preprocessing="unit"), list("abcde"))
    np.testing.assert_allclose(whole.model(PHOTOS), task(PHOTOS / 255), rtol=0, atol=1e-5)
    with pytest.raises(ParameterError, match=r"own: leave train_teacher\.preprocessing out"):
        completed(teacher(presets / "resnet", preprocessing="unit"), list("abcde"))


def yes_or_no_of_each(folder):
    classifier(resnet(), activation="sigmoid").save_to_preset(folder)


def of_any_size(folder):
    classifier(resnet(), image_size=None).save_to_preset(folder)


def with_a_layer_in_front(folder):
    task = classifier(resnet((SIDE, SIDE, 3)), converts=False)
    task.preprocessor = keras.layers.Rescaling(1 / 255)
    task.save_to_preset(folder)


def without_a_head(folder):
    resnet().save_to_preset(folder)


@pytest.mark.parametrize(
    ("save", "words"),
    [
        (yes_or_no_of_each, "sigmoid"),
        (of_any_size, "image_size"),
        (without_a_head, "weights: own"),
        (with_a_layer_in_front, "ImageConverter"),
    ],
)
def test_what_is_no_ready_teacher_is_refused(tmp_path, save, words):
    save(str(tmp_path / "mine"))
    with pytest.raises(UnusableError, match=words):
        completed(teacher(tmp_path / "mine"), list("abcde"))


def test_weights_of_a_teacher_are_not_described_again():
    with pytest.raises(ValueError, match="weights_of"):
        teacher("vit", weights_of=described("vit"))


@pytest.mark.slow
def test_the_stage_takes_a_preset_and_follows_its_content(unlabelled, tmp_path, capsys):
    mine = tmp_path / "mine"
    classifier(resnet(), classes=2, image_size=(12, 12)).save_to_preset(str(mine))

    def given(folder):
        train_teacher.run(
            index=Path("data/index.csv"),
            teachers=[teacher(folder, classes={"HP": 1, "SSA": 0})],
            average="logits",
            output=Path("models/given.keras"),
            history=Path("results/history/teacher.csv"),
        )
        (work,) = Path(".work/models-given.keras").glob("*/")
        return Path("models/given.keras").read_bytes(), work

    first, work = given(mine)
    assert "nothing is trained" in capsys.readouterr().out
    assert keras_files.load(Path("models/given.keras")).output_shape == (None, 2)
    renamed = mine.rename(tmp_path / "renamed")
    assert given(renamed)[1] == work
    classifier(resnet(), classes=2, image_size=(12, 12)).save_to_preset(str(renamed))
    second, other_work = given(renamed)
    assert second != first
    assert other_work != work


# As backbones of described models


def test_a_backbone_gives_the_features_of_keras_hub(presets):
    model = described(presets / "resnet", pooling="max").build(classes=2, seed=1)
    import keras_hub

    theirs = keras_hub.models.Backbone.from_preset(str(presets / "resnet"))
    features = np.asarray(theirs(PHOTOS * SCALE + OFFSET)).max(axis=(1, 2))
    kernel, bias = model.get_layer("logits").get_weights()
    np.testing.assert_allclose(model(PHOTOS), features @ kernel + bias, rtol=0, atol=1e-3)


@pytest.mark.parametrize("pooling", ["token", "avg", "max", "flatten"])
def test_tokens_of_a_transformer_are_pooled(presets, pooling):
    model = described(presets / "vit", pooling=pooling, preprocessing="unit").build(classes=2, seed=1)
    tokens = np.asarray(model.get_layer("backbone")(PHOTOS / 255))
    assert tokens.shape == (4, 17, 8)
    pooled = {
        "token": tokens[:, 0], "avg": tokens.mean(axis=1), "max": tokens.max(axis=1), "flatten": tokens.reshape(4, -1)
    }[pooling]  # fmt: skip
    kernel, bias = model.get_layer("logits").get_weights()
    np.testing.assert_allclose(model(PHOTOS), pooled @ kernel + bias, rtol=0, atol=1e-5)


def test_a_backbone_without_tokens_has_no_class_token(presets):
    with pytest.raises(ParameterError, match=r"token.*avg, max or flatten"):
        described(presets / "resnet", pooling="token").build(classes=2, seed=1)


def test_random_weights_come_from_the_seed(presets):
    of_preset, one, again, other = (
        weights_sha256(described(presets / "vit", weights=weights).build(classes=2, seed=seed))
        for weights, seed in (("own", 1), (None, 1), (None, 1), (None, 2))
    )
    assert one == again
    assert len({of_preset, one, other}) == 3


def test_images_of_another_size_are_taken_where_weights_allow_it(presets):
    assert described(presets / "resnet", input_shape=(20, 24, 3)).build(classes=2, seed=1).output_shape == (None, 2)
    with pytest.raises(ParameterError, match=r"\[64, 64, 3\].*Its weights are for \[32, 32, 3\]"):
        described(presets / "vit", input_shape=(64, 64, 3)).build(classes=2, seed=1)
    random = described(presets / "vit", input_shape=(16, 16, 1), weights=None, preprocessing="unit")
    assert random.build(classes=2, seed=1).input_shape == (None, 16, 16, 1)


def test_of_the_features_of_each_stage_the_last_are_taken(tmp_path):
    import keras_hub

    backbone = keras_hub.models.HGNetV2Backbone(
        depths=[1, 1],
        embedding_size=8,
        hidden_sizes=[8, 16],
        stem_channels=[3, 8, 8],
        hidden_act="relu",
        use_learnable_affine_block=False,
        stackwise_stage_filters=[[8, 4, 8, 1, 1, 3], [8, 4, 16, 1, 1, 3]],
        apply_downsample=[False, True],
        use_lightweight_conv_block=[False, False],
        image_shape=(SIDE, SIDE, 3),
    )
    backbone.save_to_preset(str(tmp_path / "mine"))
    model = described(tmp_path / "mine", preprocessing="none").build(classes=2, seed=1)
    features = backbone(PHOTOS)["stage2"]
    np.testing.assert_allclose(model.get_layer("backbone")(PHOTOS), features, rtol=1e-5, atol=1e-5)


def test_a_backbone_of_texts_is_no_backbone_for_images(tmp_path):
    import keras_hub

    texts = keras_hub.models.BertBackbone(
        vocabulary_size=9, num_layers=1, num_heads=1, hidden_dim=2, intermediate_dim=2, max_sequence_length=4
    )
    texts.save_to_preset(str(tmp_path / "mine"))
    with pytest.raises(UnusableError, match=r"mine is no backbone for images\. `softlabel models keras_hub`"):
        described(tmp_path / "mine", preprocessing="unit").build(classes=2, seed=1)


@pytest.mark.parametrize(
    ("stated", "expected"),
    [({}, "none"), ({"scale": 0.5}, Affine(0.5, 0.0)), ({"offset": [1, 2, 3]}, Affine(1.0, [1.0, 2.0, 3.0]))],
    ids=["nothing", "scale", "offset"],
)
def test_what_a_converter_does_not_state_changes_nothing(copied, stated, expected):
    import keras_hub

    keras_hub.layers.ResNetImageConverter(image_size=(SIDE, SIDE), **stated).save_to_preset(str(copied))
    assert hub_models.preprocessing(str(copied)) == expected


def test_preprocessing_of_color_needs_color(presets):
    with pytest.raises(ParameterError, match=r"images of 3 channels.*unit"):
        described(presets / "resnet", input_shape=(SIDE, SIDE, 1), weights=None).build(classes=2, seed=1)


def test_a_preset_without_image_converter_needs_preprocessing(tmp_path):
    resnet().save_to_preset(str(tmp_path / "mine"))
    with pytest.raises(ParameterError, match=r"no image converter.*`preprocessing`"):
        described(tmp_path / "mine").build(classes=2, seed=1)
    assert described(tmp_path / "mine", preprocessing="unit").build(classes=2, seed=1).output_shape == (None, 2)


@pytest.mark.parametrize(
    ("family", "trainable_from", "arrays"),
    [("resnet", "stack0_block0_2_conv", 3), ("resnet", None, 0), ("vit", "vit_encoder", 18), ("vit", None, 0)],
)
def test_phases_freeze_by_the_names_of_its_layers(presets, tmp_path, family, trainable_from, arrays):
    """Also in the file; counted are a kernel with scale and offset, or an encoder with its last normalisation."""
    model = described(presets / family).build(classes=2, seed=1)
    phase = architectures.for_phase(model, trainable_from)
    assert len(phase.trainable_variables) == arrays + 2
    keras_files.save(model, tmp_path / "model.keras", {"class_names": ["a", "b"]})
    assert len(keras_files.load(tmp_path / "model.keras").trainable_variables) == arrays + 2


@pytest.mark.parametrize(
    ("family", "trainable_from", "inference_mode", "kept"),
    [
        ("resnet", None, False, (64,)),
        # 16 patches of 8 x 8 pixels and a class token, of 8 numbers each.
        ("vit", "vit_encoder", True, (17, 8)),
        ("vit", None, False, (8,)),
    ],
)
def test_backbones_are_cut_in_two(presets, family, trainable_from, inference_mode, kept):
    model = described(presets / family).build(classes=2, seed=1)
    whole = architectures.for_phase(model, trainable_from, inference_mode)
    found = cut(model, trainable_from, inference_mode)
    (shape,) = found.tensors.values()
    assert shape == kept
    features = found.frozen(PHOTOS, training=False)
    np.testing.assert_allclose(found.rest(features, training=True), whole(PHOTOS, training=True), rtol=1e-5, atol=1e-5)
    assert [one.path for one in found.rest.trainable_weights] == [one.path for one in whole.trainable_weights]


def test_frozen_layers_are_known_in_an_ensemble_too(presets, tmp_path):
    model = described(presets / "vit").build(classes=2, seed=1)
    trained = len(architectures.for_phase(model, "vit_encoder").trainable_variables)
    keras_files.save(model, tmp_path / "model.keras", {"class_names": ["a", "b"]})
    save_ensemble([tmp_path / "model.keras"] * 2, "logits", ["a", "b"], tmp_path / "both.keras")
    assert len(keras_files.load(tmp_path / "both.keras").trainable_variables) == 2 * trained


@pytest.mark.slow
def test_a_student_trains_free_layers_and_follows_the_folder(unlabelled, copied, capsys):
    def trained():
        train_baseline.run(
            index=Path("data/index.csv"),
            model=described(copied, input_shape=(12, 12, 3)),
            recipe=Recipe([Phase(1, 0.01, "stack0_block0_2_conv")], batch_size=8, seed=1),
            views=Views(1, 1, Augmentation()),
            output=Path("models/baselines/seed1.keras"),
            history=Path("results/history/baseline_seed1.csv"),
        )
        return keras_files.load(Path("models/baselines/seed1.keras")).get_layer("backbone")

    import keras_hub

    before = keras_hub.models.Backbone.from_preset(str(copied))
    after = trained()
    frozen, free = "stack0_block0_1_conv", "stack0_block0_2_conv"
    np.testing.assert_array_equal(after.get_layer(frozen).kernel, before.get_layer(frozen).kernel)
    assert np.abs(after.get_layer(free).kernel - before.get_layer(free).kernel).max() > 0
    capsys.readouterr()
    trained()
    assert "already trained" in capsys.readouterr().err
    before.get_layer(frozen).kernel.assign(2 * before.get_layer(frozen).kernel)
    before.save_to_preset(str(copied))
    np.testing.assert_array_equal(trained().get_layer(frozen).kernel, before.get_layer(frozen).kernel)


# What is missing or damaged


def cut_weights(folder):
    file = folder / "model.weights.h5"
    file.write_bytes(file.read_bytes()[:2000])


def other_weights(folder):
    vit().save_weights(folder / "model.weights.h5")


def broken_json(folder):
    (folder / "config.json").write_text("{")


def without(name):
    def remove(folder):
        (folder / name).unlink()

    return remove


DAMAGES = {
    "weights that are cut off": cut_weights,
    "weights of another model": other_weights,
    "no weights": without("model.weights.h5"),
    "no weights of the head": without("task.weights.h5"),
    "no configuration": without("config.json"),
    "a broken configuration": broken_json,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_refused(copied, damage):
    DAMAGES[damage](copied)
    with pytest.raises(DamagedError, match=r"mine.*save_to_preset\(FOLDER\)"):
        completed(teacher(copied), list("abcde"))
    if damage != "no weights of the head":
        with pytest.raises(DamagedError, match=r"mine.*save_to_preset\(FOLDER\)"):
            described(copied, preprocessing="unit").build(classes=2, seed=1)


# Folders of others


def settings(folder, **changes):
    """Changes settings of the backbone in a preset's configuration."""
    file = folder / "config.json"
    document = json.loads(file.read_text())
    document["config"].update(changes)
    file.write_text(json.dumps(document))


def deep(folder):
    (folder / "config.json").write_text('{"config": ' + "[" * 200 + "]" * 200 + "}")


def long(folder):
    settings(folder, note=[0] * 70_000)


def large(folder):
    (folder / "metadata.json").write_text(" " * (limits().text_bytes + 1))


def list_of_shards(*names):
    def write(folder):
        (folder / "model.weights.h5").rename(folder / "shard.weights.h5")
        (folder / "model.weights.json").write_text(json.dumps({"weight_map": {"layers": [*names]}}))

    return write


def converter(**changes):
    """Changes settings of the image converter."""

    def change_file(folder):
        for name, place in (("image_converter.json", ()), ("task.json", ("preprocessor", "config", "image_converter"))):
            if not (folder / name).is_file():
                continue
            document = json.loads((folder / name).read_text())
            inner = document["config"]
            for key in place:
                inner = inner[key]
            (inner["config"] if place else inner).update(changes)
            (folder / name).write_text(json.dumps(document))

    return change_file


def pipe_in_place_of(name):
    def replace_file(folder):
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return replace_file


def device(folder):
    (folder / "more.weights.h5").symlink_to("/dev/zero")


HOSTILE = {
    "a pipe": (pipe_in_place_of("config.json"), "no file, but a pipe.*config.json"),
    "a pipe for pixels": (pipe_in_place_of("image_converter.json"), "no file, but a pipe.*image_converter.json"),
    "a device": (device, "no file, but a pipe.*more.weights.h5"),
    "a deep document": (deep, "config.json"),
    "a long list": (long, "config.json.*70,000 values"),
    "a large document": (large, r"metadata.json has more than"),
    "a list": (lambda folder: (folder / "task.json").write_text("[1]"), "task.json is no document.*no map"),
    "a shard elsewhere": (list_of_shards("../elsewhere.h5"), "'../elsewhere.h5' is no file of weights"),
    "an absolute shard": (list_of_shards("/etc/passwd"), "'/etc/passwd' is no file of weights"),
    "a shard that lacks": (list_of_shards("shard.weights.h5", "b.weights.h5"), "'b.weights.h5' is no file of weights"),
}
TOO_LARGE = {
    "more weights": (
        lambda folder: settings(folder, input_conv_filters=[40_000_000]),
        "declares a model of .* or more",
    ),
    "many layers": (lambda folder: settings(folder, stackwise_num_blocks=[10**6]), "declares a model of .* or more"),
}


def refused(call, expected):
    with pytest.raises((DamagedError, UnusableError), match=expected) as told:
        call()
    assert len(str(told.value)) < 600


@pytest.mark.parametrize("hostile", [*HOSTILE, *TOO_LARGE])
def test_a_hostile_folder_is_refused_before_it_is_read(copied, hostile):
    """In all ways in; what stands in the configuration of a backbone alone, in those of backbones."""
    change_folder, expected = (HOSTILE | TOO_LARGE)[hostile]
    change_folder(copied)
    (copied.parent / "elsewhere.h5").touch()
    refused(lambda: hub_models.backbone(str(copied), (SIDE, SIDE, 3), with_weights=True), expected)
    refused(lambda: described(copied, preprocessing="own").build(classes=2, seed=1), expected)
    if hostile in HOSTILE:
        refused(lambda: completed(teacher(copied), list("abcde")), expected)
        refused(lambda: hub_models.preprocessing(str(copied)), expected)


CONVERTERS = {
    "a scale that is a text": {"scale": "abc"},
    "a scale of several forms": {"scale": [[1, 2], [3]]},
    "a scale of four": {"scale": [1.0, 1.0, 1.0, 1.0]},
    "a scale that is a map": {"scale": {}},
    "an offset without a number": {"offset": [None, 1.0, 1.0]},
    "a size that is a text": {"image_size": ["a", 3]},
    "a size below zero": {"image_size": [-4, 3]},
    "half a pixel": {"image_size": [3.5, 2]},
    "a size beyond all memory": {"image_size": [20_000, 20_000]},
}


@pytest.mark.parametrize("hostile", CONVERTERS)
def test_a_hostile_image_converter_ends_in_a_message(copied, hostile):
    converter(**CONVERTERS[hostile])(copied)
    refused(lambda: completed(teacher(copied), list("abcde")), "mine")
    if "size" not in hostile and hostile != "half a pixel":
        refused(lambda: hub_models.preprocessing(str(copied)), "mine")


def test_files_of_others_in_the_folder_do_not_matter(copied):
    """A pipe that keras_hub does not read; and weights of another program, which do not raise a bound."""
    digest = hub.digest_of(str(copied))
    os.mkfifo(copied / "README.md")
    (copied / ".git").mkdir()
    (copied / "tf_model.h5").write_bytes(bytes(10**6))
    (copied / os.fsdecode(b"\xff.txt")).touch()
    assert hub.digest_of(str(copied)) == digest
    size = sum((copied / name).stat().st_size for name in ("model.weights.h5", "task.weights.h5"))
    assert hub_trial.refuse_costly(copied) == size
    completed(teacher(copied), list("abcde"))


def test_files_may_be_links_to_where_they_are_kept(copied, tmp_path):
    """As Hugging Face keeps them."""
    (tmp_path / "blobs").mkdir()
    for file in [*copied.iterdir()]:
        if file.is_file():
            file.rename(tmp_path / "blobs" / file.name)
            file.symlink_to(tmp_path / "blobs" / file.name)
    completed(teacher(copied), list("abcde"))


def test_every_file_that_keras_hub_names_is_known():
    """Left out are those of texts, sounds and videos."""
    from keras_hub.src.utils import preset_utils

    names = {value for name, value in vars(preset_utils).items() if name.isupper() and name.endswith("_FILE")}
    others = {name for name in names if re.search("tokenizer|audio|video|README", name)}
    assert {name for name in names - others if not hub.is_read(name)} == set()


def test_without_its_weights_a_preset_may_have_many(copied):
    settings(copied, input_conv_filters=[40_000_000])
    with pytest.raises(UnusableError, match=r"more than 1,000,000,000 weights.*limits.model_megaparameters"):
        hub_models.backbone(str(copied), (SIDE, SIDE, 3), with_weights=False)


def test_outputs_that_need_no_weights_are_counted(copied):
    with pytest.raises(UnusableError, match=r"makes .* for each image, more than 100,000,000 numbers"):
        hub_models.backbone(str(copied), (20_000, 20_000, 3), with_weights=True)


@pytest.mark.slow
@pytest.mark.usefixtures("tried")
def test_a_table_that_is_too_large_ends_a_process(tmp_path, monkeypatch):
    """The relative positions in a window of 3,000 x 3,000 places have 3,000^4 pairs; nothing of it is built here."""
    import keras_hub

    made = keras_hub.models.SwinTransformerBackbone(
        image_shape=(SIDE, SIDE, 3), embed_dim=4, depths=[1], num_heads=[1], window_size=2, patch_size=4
    )
    made.save_to_preset(str(tmp_path / "mine"))
    hub_models.backbone(str(tmp_path / "mine"), (SIDE, SIDE, 3), with_weights=True)
    settings(tmp_path / "mine", window_size=3000)
    monkeypatch.setattr(hub_models, "untried_backbone", here := Here("untried_backbone"))
    refused(lambda: hub_models.backbone(str(tmp_path / "mine"), (SIDE, SIDE, 3), with_weights=False), "mine")
    assert not here.called


class Here:
    """Stands for a function that must not be called in this process."""

    def __init__(self, name):
        self.__name__, self.called = name, False

    def __call__(self, *_, **__):
        self.called = True


@pytest.mark.slow
@pytest.mark.usefixtures("tried")
def test_the_process_answers_an_image_of_the_asked_size(tmp_path, monkeypatch):
    """Of 8 x 8 pixels 64 tokens, whose pairs cost nothing; of 400 x 400 there are 2 x 10^10, 100 GB."""
    import keras_hub

    keras_hub.models.DINOV3Backbone(
        patch_size=1, num_layers=1, hidden_dim=8, num_heads=2, intermediate_dim=8, image_shape=(8, 8, 3)
    ).save_to_preset(str(tmp_path / "mine"))
    monkeypatch.setattr(hub_models, "untried_backbone", here := Here("untried_backbone"))
    hub_models.backbone(str(tmp_path / "mine"), (8, 8, 3), with_weights=True)
    assert here.called
    here.called = False
    refused(lambda: hub_models.backbone(str(tmp_path / "mine"), (400, 400, 3), with_weights=True), "mine")
    assert not here.called


@pytest.fixture
def ran(monkeypatch):
    """What ran in a process of its own."""
    calls = []

    def noted(function, folder, *more, **options):
        calls.append((function.__name__, *more))
        assert options["memory"] >= hub_trial.START
        return separate_process.run_separately(function, folder, *more, **options)

    monkeypatch.setattr(tried_files, "run_separately", noted)
    return calls


@pytest.mark.slow
@pytest.mark.usefixtures("tried")
def test_each_content_is_loaded_in_a_process_of_its_own_once(copied, ran):
    for _ in range(2):
        hub_models.backbone(str(copied), (SIDE, SIDE, 3), with_weights=True)
    assert ran == [("build_preset", "untried_backbone", (SIDE, SIDE, 3), True)]
    hub_models.classifier(str(copied))
    settings(copied, name="another")
    hub_models.classifier(str(copied))
    assert ran[1:] == [("build_preset", "untried_model")] * 2
    (copied / "model.weights.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(30_000))
    refused(lambda: hub_models.classifier(str(copied)), r"model.weights.h5 cannot be read as a file of weights")


@pytest.mark.slow
@pytest.mark.usefixtures("tried")
@pytest.mark.parametrize("package", ["keras_hub", "keras_nlp", "keras_cv"])
def test_files_with_its_layers_are_tried_if_others_wrote_them(presets, monkeypatch, package):
    """Also under the earlier names of the package, under which it registers its classes, too."""
    ran = []
    monkeypatch.setattr(tried_files, "run_separately", lambda function, *_, **__: ran.append(function.__name__))
    for family in ("resnet", "vit"):  # the first becomes a model of Keras' own layers
        model = completed(teacher(presets / family), list("abcde")).model
        keras_files.save(model, Path(f"{family}.keras"), {"class_names": list("abcde")})
        model.save(f"theirs_{family}.keras")
        with zipfile.ZipFile(f"theirs_{family}.keras") as source, zipfile.ZipFile(f"{family}2.keras", "w") as target:
            for name in source.namelist():
                target.writestr(name, source.read(name).replace(b"keras_hub>", package.encode() + b">"))
    ran.clear()
    for name in ("resnet", "vit", "theirs_resnet", "resnet2"):
        keras_files.load(Path(f"{name}.keras"))
    assert ran == []
    for _ in range(2):
        with suppress(DamagedError):  # keras_cv has no such class
            keras_files.load(Path("vit2.keras"))
    assert ran == ["load_file"]


def test_an_unknown_preset_is_refused_without_a_network():
    with pytest.raises(MissingError, match=r"no preset 'resnet_18_imagnet'.*'resnet_18_imagenet'"):
        completed(teacher("resnet_18_imagnet"), ["a", "b"])


@pytest.mark.parametrize("preset", ["resnet_18_imagenet", "hf://timm/resnet18.a1_in1k"])
def test_a_preset_that_cannot_be_downloaded_is_named(monkeypatch, preset):
    import keras_hub

    def fail(*_, **__):
        raise ConnectionError("no route to host")

    for kind in (keras_hub.models.ImageClassifier, keras_hub.models.Backbone, keras_hub.layers.ImageConverter):
        monkeypatch.setattr(kind, "from_preset", fail)
    for load in (completed, lambda given, _: described(given.preset).build(classes=2, seed=1)):
        with pytest.raises(MissingError, match=rf"{preset}.*no route to host.*keras_hub:FOLDER.*softlabel models"):
            load(teacher(preset), ["a", "b"])


def test_an_image_classifier_is_no_text_model(tmp_path):
    (tmp_path / "config.json").write_text('{"registered_name": "keras_hub>BertBackbone", "config": {}}')
    with pytest.raises(DamagedError, match="BertBackbone"):
        completed(teacher(tmp_path), ["a", "b"])


def test_without_keras_hub_one_command_is_named(monkeypatch, presets):
    monkeypatch.setattr(hub, "find_spec", lambda name: None)
    command = r"pip install -e '\.\[hub\]'"
    with pytest.raises(MissingError, match=command):
        completed(teacher(presets / "vit"), ["a", "b"])
    with pytest.raises(MissingError, match=command):
        described(presets / "vit").build(classes=2, seed=1)
    listed = CliRunner().invoke(main, ["models", "keras_hub"])
    assert (listed.exit_code, "pip install -e '.[hub]'" in listed.output) == (1, True)


# Their names and lists


@pytest.mark.parametrize(
    ("preset", "name"),
    [
        ("resnet_18_imagenet", "resnet_18_imagenet"),
        ("hf://timm/resnet18.a1_in1k", "resnet18.a1_in1k"),
        ("kaggle://keras/resnetv1/keras/resnet_18_imagenet/3", "resnet_18_imagenet"),
        ("models/my net/", "my_net"),
        ("..", "keras_hub"),
    ],
)
def test_a_model_is_named_without_its_path(preset, name):
    assert hub.model_name(preset) == name


def test_the_list_has_what_keras_hub_has(tmp_path, monkeypatch):
    """Parameters in millions as keras.io/keras_hub/presets has them."""
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    here = tmp_path / "models/keras/resnetv1/keras/resnet_18_imagenet/3"
    here.mkdir(parents=True)
    for file in ("config.json", "model.weights.h5"):
        (here / file).touch()
    shown = CliRunner().invoke(main, ["models", "keras_hub"])
    rows = [line.split() for line in shown.stdout.splitlines()]
    assert ["resnet_18_imagenet", "11,186,112", "yes"] in rows
    assert ["vit_base_patch16_224_imagenet", "85,798,656", "no"] in rows
    assert len([row for row in rows if row[-1:] == ["no"]]) >= 80
    refused = CliRunner().invoke(main, ["models", "keras_hub", "vgg16"])
    assert (refused.exit_code, "alone" in refused.output) == (1, True)


def test_the_default_list_says_how_to_see_presets(monkeypatch):
    from pipeline.tools.model_list import as_text

    assert as_text([]).endswith("`softlabel models keras_hub` lists them.")
    monkeypatch.setattr(hub, "find_spec", lambda name: None)
    assert as_text([]).endswith(
        "after `pip install -e '.[hub]'` in softlabel's folder, or `pip install './FILE.whl[hub]'` with its wheel."
    )


def test_the_content_of_a_folder_counts_and_not_its_place(presets, tmp_path, copied):
    digest = hub.digest_of(str(copied))
    assert digest == hub.digest_of(str(presets / "resnet"))
    assert {file.name for file in described(copied).files} == set(os.listdir(copied))
    (copied / "task.weights.h5").rename(copied / "weights.h5")
    assert hub.digest_of(str(copied)) not in (digest, None)
    assert hub.digest_of("resnet_18_imagenet") is None
    assert described("resnet_18_imagenet").files == []


# In params.yaml


def params_with(path, value):
    (params := Path("params.yaml")).write_bytes((ROOT / "params.yaml").read_bytes())
    change(params, path, value)
    return read_params(params)


def test_params_yaml_names_presets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = {
        "architecture": "keras_hub:hf://timm/net",
        "input_shape": [32, 32, 3],
        "weights": "own",
        "pooling": "token",
    }
    assert params_with("student.model", model).student.model == described("hf://timm/net", pooling="token")
    given = {"model": "keras_hub:vit", "classes": {"a": 0, "b": 3}}
    assert params_with("train_teacher", given).train_teacher.preset == "vit"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"weights": "imagenet"}, ["student.model.weights", "'own'", "got 'imagenet'"]),
        ({"alpha": 0.5}, ["student.model.alpha: unknown key"]),
        ({"architecture": "keras_hub:"}, ["softlabel models keras_hub"]),
        ({"architecture": "vgg16", "pooling": "token"}, ["student.model.pooling", "'flatten'", "got 'token'"]),
    ],
    ids=["ImageNet's weights", "a key of other models", "no preset", "a token of another model"],
)
def test_what_does_not_belong_to_a_preset_is_named(tmp_path, monkeypatch, keys, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParameterError) as raised:
        params_with("student.model", {"architecture": "keras_hub:vit", "input_shape": [32, 32, 3]} | keys)
    assert [word for word in words if word not in str(raised.value)] == []


def test_init_describes_a_student_of_keras_hub():
    pictures = first_params.Pictures(height=200, width=300, channels=3, smallest=200, largest=300)
    sections = first_params.sections(pictures, 500, teacher=None, student="keras_hub:mine", on_gpu=False)
    model = sections["student"]["model"]
    assert (model["architecture"], model["weights"]) == ("keras_hub:mine", "own")
    assert HubBackbone(**model).input_shape == [128, 128, 3]
