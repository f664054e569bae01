"""Models: parameter counts, preprocessing, frozen parts, reproducible files, clear refusals."""

import json
import re
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from described_model import described_model
from weights import weights_sha256

from pipeline.inference import cost
from pipeline.models import architectures, keras_files
from pipeline.models.parts import Standardization
from pipeline.runtime.errors import DamagedError, MismatchError, MissingError, ParameterError, UnusableError

HEAD = {"weights": None, "pooling": "avg", "batch_normalization": False, "dropout": 0.2}


def build(architecture, input_shape=(32, 32, 3), classes=2, seed=1, **changes):
    keys = {"architecture": architecture, "input_shape": input_shape} | HEAD | changes
    return described_model(**keys).build(classes=classes, seed=seed)


def small(**changes):
    return build("cnn", (12, 12, 3), **({"filters": [4, 8], "downsampling": "stride"} | changes))


@pytest.fixture(scope="module")
def mobilenet():
    """For tests that leave its weights as they are."""
    return build("mobilenetv2", alpha=1.0)


# Totals as the original notebook of system 1 and keras.applications print them.
PRETRAINED = {
    "resnet50v2": (keras.applications.resnet_v2, 2, 23_568_898),
    "mobilenetv2": (keras.applications.mobilenet_v2, 2, 2_260_546),
    "efficientnetb0": (keras.applications.efficientnet, 5, 4_049_571 + 1280 * 5 + 5),
    "resnet50": (keras.applications.resnet, 6, 23_587_712 + 2048 * 6 + 6),
    "resnet152": (keras.applications.resnet, 6, 58_370_944 + 2048 * 6 + 6),
}
"""Module of Keras, classes and all parameters."""


@pytest.fixture(scope="module", params=PRETRAINED)
def pretrained(request, mobilenet):
    """A pretrained architecture and its model, which stays as it is."""
    name = request.param
    return name, mobilenet if name == "mobilenetv2" else build(name, classes=PRETRAINED[name][1])


def test_models_have_the_parameters_that_keras_prints(pretrained):
    name, model = pretrained
    _, classes, total = PRETRAINED[name]
    assert cost.parameters(model)["total"] == total
    assert model.output_shape == (None, classes)


def pixels_of(count):
    return np.random.default_rng(0).uniform(0, 255, (count, 32, 32, 3)).astype(np.float32)


def before_backbone(model, pixels):
    """What the model's backbone sees of pixels."""
    inside = keras.Model(model.input, model.get_layer("backbone")._inbound_nodes[-1].input_tensors[0])
    return inside(pixels)


def test_preprocessing_is_the_one_of_keras(pretrained):
    name, model = pretrained
    pixels = pixels_of(2)
    expected = PRETRAINED[name][0].preprocess_input(pixels.copy())
    np.testing.assert_allclose(before_backbone(model, pixels), expected, rtol=0, atol=2e-5)


def test_cnn_parameters_and_shapes_by_hand():
    model = small()
    # (3*3*3 + 1) * 4 + (3*3*4 + 1) * 8 convolutions, 8 * 2 + 2 logits.
    assert cost.parameters(model) == {"total": 112 + 296 + 18, "trainable": 426}
    assert model.get_layer("backbone").output_shape == (None, 3, 3, 8)
    assert small(pooling="flatten").get_layer("logits").kernel.shape == (72, 2)
    assert small(downsampling="max_pooling").get_layer("backbone").output_shape == (None, 3, 3, 8)


def test_cnn_flops_by_hand():
    model = build("cnn", (8, 8, 1), filters=[2], downsampling="stride", dropout=0.0, pooling="flatten")
    convolution = 2 * (4 * 4) * 2 * (3 * 3 * 1)
    dense = 2 * (4 * 4 * 2) * 2
    biases = 4 * 4 * 2 + 2
    rescaling = 8 * 8
    counted = cost.forward_flops(model)
    assert convolution + dense + biases <= counted <= convolution + dense + biases + 2 * rescaling + 4


def test_flops_of_system_1s_student():
    model = build("mobilenetv2", (224, 224, 3), alpha=1.0)
    # 19,604,230,144 for 32 images by the same profiler, without rescaling and pooling layers of ours.
    assert cost.forward_flops(model) == pytest.approx(19_604_230_144 / 32, rel=2e-3)


def test_head_in_the_order_pooling_normalisation_dropout_logits():
    model = small(batch_normalization=True, pooling="max")
    assert [layer.name for layer in model.layers] == [
        "pixels", "rescaling", "backbone", "pooling", "head_normalization", "dropout", "logits",
    ]  # fmt: skip
    assert isinstance(model.get_layer("pooling"), keras.layers.GlobalMaxPooling2D)


def test_same_seed_same_weights_other_seed_other_weights():
    first, again, other = (weights_sha256(small(seed=seed)) for seed in (1, 1, 2))
    assert first == again != other


def trained_names(model):
    return {variable.path for variable in model.trainable_weights}


def test_phases_train_head_then_upper_layers_then_all(mobilenet):
    backbone = mobilenet.get_layer("backbone")
    assert trained_names(architectures.for_phase(mobilenet, None)) == {"logits/kernel", "logits/bias"}
    architectures.for_phase(mobilenet, 100)
    assert [layer.trainable for layer in backbone.layers] == [number >= 100 for number in range(len(backbone.layers))]
    architectures.for_phase(mobilenet, "block_16_expand")
    first = next(layer.name for layer in backbone.layers if layer.trainable)
    assert first == "block_16_expand"
    assert len(architectures.for_phase(mobilenet, "all").trainable_weights) == 158
    assert len(architectures.for_phase(mobilenet, None).trainable_weights) == 2


@pytest.fixture(scope="module")
def saved(mobilenet, tmp_path_factory):
    """The file of `mobilenet`, after a phase in which all is trained and one in which its head is."""
    architectures.for_phase(mobilenet, "all")
    architectures.for_phase(mobilenet, None)
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    keras_files.save(mobilenet, path)
    return path


def test_trainable_parameters_are_those_of_the_last_phase(mobilenet, saved):
    """System 1 prints 2,562 for the head of MobileNetV2 on a frozen backbone: 1280 * 2 + 2."""
    loaded = keras_files.load(saved)
    assert cost.parameters(loaded) == {"total": 2_260_546, "trainable": 2_562}
    assert weights_sha256(loaded) == weights_sha256(mobilenet)


@pytest.mark.parametrize("unknown", ["no_such_layer", 10_000])
def test_unknown_layer_is_refused(unknown):
    with pytest.raises(ParameterError, match=f"trainable_from is {unknown!r}.*a number from 0 to 2,"):
        architectures.for_phase(small(), unknown)


def two_convolutions(batch_normalization=False):
    """A model whose backbone is normalised twice, and drops whole paths in training, as EfficientNet does."""
    features = inputs = keras.Input((32, 32, 3))
    for number in (1, 2):
        features = keras.layers.Conv2D(4, 3, strides=4, name=f"conv{number}")(features)
        features = keras.layers.BatchNormalization(name=f"bn{number}")(features)
    dropped = keras.layers.Dropout(0.5, noise_shape=(None, 1, 1, 1))(features)
    return architectures.chain(
        keras.Model(inputs, keras.layers.Add()([features, dropped]), name="backbone"),
        preprocessing="symmetric",
        pooling="avg",
        batch_normalization=batch_normalization,
        hidden_units=[],
        dropout=0.0,
        classes=2,
        name="two_convolutions",
    )


def test_frozen_backbone_runs_in_inference_mode():
    """It must not drop paths, nor move its statistics."""
    model = two_convolutions()
    pixels = pixels_of(4)
    frozen = architectures.for_phase(model, None)
    before = [variable.numpy() for variable in frozen.non_trainable_variables]
    inference = frozen(pixels, training=False)
    np.testing.assert_array_equal(frozen(pixels, training=True), inference)
    after = [variable.numpy() for variable in frozen.non_trainable_variables]
    assert all(np.array_equal(old, new) for old, new in zip(before, after, strict=True))
    free = architectures.for_phase(model, "all")
    assert np.abs(free(pixels, training=True) - inference).max() > 1e-4


def test_phases_share_their_weights():
    model = small(dropout=0.0)
    phase = architectures.for_phase(model, None)
    phase.get_layer("logits").bias.assign([3.0, -1.0])
    np.testing.assert_array_equal(model.get_layer("logits").bias.numpy(), [3.0, -1.0])


# Options of the small networks, hidden layers and preprocessing


@pytest.mark.parametrize(
    ("options", "sides"),
    [
        # n -> n - 2, then a third of it, rounded down; a factor of 1 leaves no pooling.
        ({"padding": "valid", "factor": [3, 3, 1]}, [126, 42, 40, 13, 11]),
        # Convolutions keep n; then a half, a third and a fourth of it, rounded up.
        ({"padding": "same", "factor": [2, 3, 4]}, [128, 64, 64, 22, 22, 6]),
        ({"padding": "valid", "factor": 2, "kernel_size": 4}, [125, 62, 59, 29, 26, 13]),
        # With strides: (n - 4) / 3 + 1 rounded down, or n / 3 rounded up.
        ({"padding": "valid", "factor": 3, "kernel_size": 4, "downsampling": "stride"}, [42, 13, 4]),
        ({"padding": "same", "factor": [3, 1, 3], "kernel_size": 4, "downsampling": "stride"}, [43, 43, 15]),
    ],
)
def test_cnn_sides_by_hand(options, sides):
    given = {"filters": [16, 32, 64], "downsampling": "max_pooling", "pooling": "flatten"} | options
    model = build("cnn", (128, 128, 3), **given)
    shapes = [layer.output.shape for layer in model.get_layer("backbone").layers[1:]]
    assert [shape[1:3] for shape in shapes] == [(side, side) for side in sides]
    kernel = given.get("kernel_size", 3)
    # Each filter sees kernel * kernel pixels of all channels, and has a bias.
    backbone = [(kernel**2 * before + 1) * after for before, after in ((3, 16), (16, 32), (32, 64))]
    assert cost.parameters(model)["total"] == sum(backbone) + (sides[-1] ** 2 * 64 + 1) * 2


def test_cnn_convolves_and_pools_as_computed_by_hand():
    """One filter of ones on a 5x5 image of 0 to 24, without padding: each value is 9 times its middle pixel."""
    options = {"filters": [1], "padding": "valid", "downsampling": "max_pooling", "preprocessing": "none"}
    model = build("cnn", (5, 5, 1), factor=3, pooling="flatten", dropout=0.0, **options)
    model.set_weights([np.ones((3, 3, 1, 1)), np.array([2.0]), np.array([[1.0, -1.0]]), np.zeros(2)])
    pixels = np.arange(25, dtype=np.float32).reshape(1, 5, 5, 1)
    # The largest of the middle pixels is 18: 9 * 18 + 2 = 164.
    np.testing.assert_allclose(model(pixels), [[164.0, -164.0]], rtol=1e-6)


def mlp(input_shape=(1, 1, 3), classes=3, **changes):
    return build("mlp", input_shape, classes, **({"pooling": "flatten", "dropout": 0.0} | changes))


def test_mlp_has_the_weights_of_its_head_alone():
    """A hidden layer of 64 on 32x32 RGB pixels, ten classes: 3072 * 64 + 64 and 64 * 10 + 10."""
    model = mlp((32, 32, 3), 10, hidden_units=[64])
    assert cost.parameters(model)["total"] == 196_672 + 650
    assert model.get_layer("backbone").count_params() == 0
    assert model.get_layer("backbone").output_shape == (None, 3072)


def test_mlp_trains_alike_whether_the_head_or_all_is_trained():
    """Its backbone holds no weights, so nothing can be frozen."""
    names = [f"{layer}/{kind}" for layer in ("dense1", "dense2", "logits") for kind in ("kernel", "bias")]
    pixels = np.random.default_rng(0).uniform(0, 255, (6, 4, 4, 3)).astype(np.float32)
    results = []
    for trainable_from in (None, "all"):
        model = mlp((4, 4, 3), hidden_units=[5, 4], dropout=0.5)
        phase = architectures.for_phase(model, trainable_from)
        assert [weight.path for weight in phase.trainable_weights] == names
        phase.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
        phase.train_on_batch(pixels, np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2]])
        results.append([weight.numpy() for weight in phase.weights])
    for head, everything in zip(*results, strict=True):
        np.testing.assert_array_equal(head, everything)


def test_hidden_layers_are_dense_with_relu_before_the_dropout():
    model = small(hidden_units=[7, 5], batch_normalization=True)
    assert [layer.name for layer in model.layers][3:] == [
        "pooling", "head_normalization", "dense1", "dense2", "dropout", "logits",
    ]  # fmt: skip
    assert [model.get_layer(name).kernel.shape for name in ("dense1", "dense2", "logits")] == [(8, 7), (7, 5), (5, 2)]


def test_a_hidden_layer_by_hand():
    """2 x - 10, cut at 0, then 3 h + 1."""
    model = mlp((1, 1, 1), 1, hidden_units=[1], preprocessing="none")
    model.set_weights([np.array([[2.0]]), np.array([-10.0]), np.array([[3.0]]), np.array([1.0])])
    pixels = np.array([4.0, 10.0], np.float32).reshape(2, 1, 1, 1)
    np.testing.assert_allclose(model(pixels), [[1.0], [31.0]])


@pytest.mark.parametrize(
    ("preprocessing", "expected"),
    [
        ("none", [255.0, 51.0, 0.0]),
        ("unit", [1.0, 0.2, 0.0]),
        ("own", [1.0, 0.2, 0.0]),  # of an mlp
        ("symmetric", [1.0, -0.6, -1.0]),
        ("caffe", [0 - 103.939, 51 - 116.779, 255 - 123.68]),
        (Standardization([0.5, 0.2, 0.1], [0.5, 0.1, 0.2]), [1.0, 0.0, -0.5]),
    ],
)
def test_preprocessing_by_hand(preprocessing, expected):
    """Logits that are what the first layer sees of one pixel."""
    model = mlp(preprocessing=preprocessing)
    model.set_weights([np.eye(3), np.zeros(3)])
    np.testing.assert_allclose(model(np.array([[[[255.0, 51.0, 0.0]]]])), [expected], rtol=0, atol=1e-4)


@pytest.mark.parametrize("architecture", ["resnet50", "efficientnetb0"])
def test_preprocessing_of_a_pretrained_backbone_can_be_another(architecture):
    model = build(architecture, preprocessing="symmetric")
    pixels = pixels_of(2)
    np.testing.assert_allclose(before_backbone(model, pixels), pixels / 127.5 - 1, rtol=0, atol=1e-6)


# Batch normalisation that keeps its statistics while it is trained


def learning(phase, pixels):
    """Which weights a training step would move: statistics by themselves, others by a gradient that is not 0."""
    before = [weight.numpy() for weight in phase.non_trainable_weights]
    with tf.GradientTape() as tape:
        logits = phase(pixels, training=True)
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)(np.eye(2)[np.arange(len(pixels)) % 2], logits)
    gradients = tape.gradient(loss, [weight.value for weight in phase.trainable_weights])
    moved = [
        weight.path
        for weight, old in zip(phase.non_trainable_weights, before, strict=True)
        if not np.array_equal(weight.numpy(), old)
    ]
    return set(moved), {
        weight.path
        for weight, gradient in zip(phase.trainable_weights, gradients, strict=True)
        if np.abs(gradient).max() > 0
    }


@pytest.mark.parametrize("trainable_from", ["all", 3])
def test_inference_mode_keeps_statistics_and_trains_gamma_beta(trainable_from):
    model, pixels = two_convolutions(), pixels_of(4)
    free, kept = (architectures.for_phase(model, trainable_from, inference_mode) for inference_mode in (False, True))
    trained = {weight.path for weight in free.trainable_weights}
    assert [weight.path for weight in kept.trainable_weights] == [weight.path for weight in free.trainable_weights]
    assert learning(free, pixels)[0] >= {"bn2/moving_mean", "bn2/moving_variance"}
    statistics, learned = learning(kept, pixels)
    assert statistics == set()
    assert {"bn2/gamma", "bn2/beta"} <= learned
    assert ({"bn1/gamma", "bn1/beta"} <= trained) == (trainable_from == "all")


def test_in_inference_mode_the_heads_own_statistics_still_move():
    model = two_convolutions(batch_normalization=True)
    statistics, _ = learning(architectures.for_phase(model, "all", True), pixels_of(4))
    assert statistics == {"head_normalization/moving_mean", "head_normalization/moving_variance"}


def test_trainable_weights_in_inference_mode_are_counted_by_hand(mobilenet):
    """MobileNetV2 with all layers trained: everything but 2 statistics for each of its normalised channels."""
    phase = architectures.for_phase(mobilenet, "all", True)
    normalised = [layer for layer in mobilenet.get_layer("backbone").layers if hasattr(layer, "moving_mean")]
    # 17,056 channels are normalised, as keras.applications prints: 34,112 weights are not trainable.
    assert sum(layer.moving_mean.shape[0] for layer in normalised) == 17_056
    assert cost.parameters(phase) == {"total": 2_260_546, "trainable": 2_260_546 - 34_112}


def save_some(folder):
    """Writes a model of each kind that this program builds by itself, and one of keras.applications."""
    head = {"weights": None, "batch_normalization": True, "dropout": 0.2}
    options = {
        "cnn": {"filters": [4, 8], "downsampling": "max_pooling", "pooling": "flatten", "hidden_units": [5]},
        "mlp": {"pooling": "flatten", "hidden_units": [5]},
        "mobilenetv2": {"alpha": 0.35, "pooling": "avg"},
    }
    for name in options:
        described = described_model(architecture=name, input_shape=(32, 32, 3), **head, **options[name])
        model = described.build(classes=2, seed=1)
        architectures.for_phase(model, None)
        keras_files.save(model, folder / f"{name}.keras")


@pytest.mark.slow
def test_files_are_byte_identical_across_processes(tmp_path):
    """Of this one, which has built other models before, and of one that has not."""
    keras.layers.Dense(3)(keras.Input((4,)))
    program = (
        "import sys; from pathlib import Path; from pipeline.cli.tensorflow_start import start_tensorflow\n"
        "start_tensorflow(); sys.path.insert(0, 'tests'); import test_models; test_models.save_some(Path(sys.argv[1]))"
    )
    folders = [tmp_path / name for name in ("busy", "fresh")]
    for folder in folders:
        folder.mkdir()
    save_some(folders[0])
    subprocess.run([sys.executable, "-c", program, folders[1]], check=True, cwd=Path(__file__).parents[1])
    busy, fresh = ({file.name: file.read_bytes() for file in folder.iterdir()} for folder in folders)
    assert sorted(busy) == ["cnn.keras", "mlp.keras", "mobilenetv2.keras"]
    assert busy == fresh


@pytest.mark.parametrize(("now", "year"), [(3600.0, 1970), (4.4e9, 2109)])
def test_a_clock_without_a_battery_is_told(tmp_path, monkeypatch, now, year):
    """Keras writes the date into a zip archive, which ends in an error of Python before 1980."""
    older = tmp_path / "model.keras"
    older.write_text("older")
    monkeypatch.setattr(time, "time", lambda: now)
    with pytest.raises(UnusableError, match=rf"the year {year}, .* Set the clock, then run again\."):
        keras_files.save(small(), older)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["older"]


def test_saved_file_loads_in_plain_keras_to_the_same_predictions(mobilenet, saved):
    pixels = pixels_of(2)
    np.testing.assert_array_equal(keras.saving.load_model(saved)(pixels), mobilenet(pixels))


def test_weights_digest_sees_one_changed_bit():
    model = small()
    before = weights_sha256(model)
    bias = model.get_layer("logits").bias
    bias.assign(np.nextafter(bias.numpy(), np.float32(1)))
    assert weights_sha256(model) != before


def test_missing_damaged_and_code_carrying_files_are_refused(tmp_path):
    with pytest.raises(MissingError, match=r"absent\.keras.*`dvc repro`"):
        keras_files.load(tmp_path / "absent.keras")
    path = tmp_path / "model.keras"
    keras_files.save(small(), path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DamagedError, match=r"model\.keras .*`dvc repro`"):
        keras_files.load(path)
    pixels = keras.Input((4, 4, 3))
    keras.Model(pixels, keras.layers.Lambda(lambda x: x * 2)(pixels)).save(path)
    with pytest.raises(DamagedError, match=r"model\.keras .*code of its own.*Lambda"):
        keras_files.load(path)


def test_archive_holds_no_date_and_no_addresses(tmp_path):
    keras_files.save(small(), tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        assert {member.date_time[0] for member in archive.infolist()} == {1980}
        assert json.loads(archive.read("metadata.json"))["date_saved"].startswith("1980")


def test_an_input_too_small_for_the_backbone_is_refused():
    with pytest.raises(ParameterError, match=r"mobilenetv2 .*input_shape \[12, 12, 3\]"):
        build("mobilenetv2", (12, 12, 3), alpha=1.0)


def test_missing_weights_file_is_refused_at_once():
    with pytest.raises(MissingError, match=r"nowhere\.h5.*imagenet or null in params\.yaml"):
        build("mobilenetv2", alpha=1.0, weights="nowhere.h5")


def test_a_file_of_backbone_weights_is_loaded(tmp_path, mobilenet):
    path = tmp_path / "backbone.weights.h5"
    mobilenet.get_layer("backbone").save_weights(path)
    loaded = build("mobilenetv2", alpha=1.0, seed=2, weights=str(path))
    first, second = (weights_sha256(model.get_layer("backbone")) for model in (mobilenet, loaded))
    assert first == second


def write_numbers(path):
    with h5py.File(path, "w") as file:
        file["numbers"] = np.arange(3)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: small().save_weights(path),
        lambda path: path.write_bytes(b"no HDF5 at all"),
        Path.touch,
        write_numbers,
    ],
    ids=["another architecture", "text", "empty", "other HDF5"],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, write):
    path = tmp_path / "other.weights.h5"
    write(path)
    with pytest.raises(MismatchError, match=r"other\.weights\.h5 do not fit mobilenetv2"):
        build("mobilenetv2", alpha=0.35, weights=str(path))


def test_a_defect_while_building_is_not_blamed_on_the_weights(tmp_path, monkeypatch):
    def broken(**_):
        raise ZeroDivisionError

    (tmp_path / "weights.h5").write_bytes(b"")
    monkeypatch.setattr("keras.applications.MobileNetV2", broken)
    with pytest.raises(ZeroDivisionError):
        build("mobilenetv2", alpha=1.0, weights=str(tmp_path / "weights.h5"))


def test_imagenet_without_network_says_where_to_put_the_file(monkeypatch, tmp_path):
    def fail(_, origin, **__):
        raise Exception(f"URL fetch failure on {origin}: None -- no network")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", fail)
    expected = tmp_path / "models" / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_160_no_top.h5"
    with pytest.raises(MissingError, match=re.escape(f"{expected} ")):
        build("mobilenetv2", (160, 160, 3), alpha=0.35, weights="imagenet")


def test_a_published_weights_file_fits_the_backbone():
    source = Path(__file__).parents[2] / "shared/weights/keras_home/models"
    name = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"
    if not (source / name).is_file():
        pytest.skip(reason="the pretrained MobileNetV2 weights are not beside the repository")
    backbone = build("mobilenetv2", (96, 96, 3), alpha=0.35, weights=str(source / name)).get_layer("backbone")
    with h5py.File(source / name) as file:
        np.testing.assert_array_equal(backbone.get_layer("Conv1").kernel, file["Conv1/Conv1/kernel"])
        statistics = file["Conv_1_bn/Conv_1_bn/moving_variance"]
        np.testing.assert_array_equal(backbone.get_layer("Conv_1_bn").moving_variance, statistics)
