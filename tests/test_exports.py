"""What a student is exported to: answers by pencil in each format, the same bytes again, and what is refused."""

import hashlib
import json
import math
import re
import shutil
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import PIL.Image
import pytest
import tensorflow as tf
from exported_files import CLASSES, LOGITS, METADATA, PIXELS, student
from real_project import ENVIRONMENT, ROOT, change, copy_without, run

from pipeline.deployed.files import open_exported
from pipeline.deployed.formats import FILES, PRECISIONS
from pipeline.deployed.metadata import NO_DIGEST
from pipeline.exports import calibration_images, litert, onnx, quality, saved_model, temperature
from pipeline.exports.choice import best_of
from pipeline.exports.graph import Graph
from pipeline.exports.writing import write
from pipeline.images.index import Image, Index
from pipeline.images.resize import DEFAULT_RESIZE, preprocessing
from pipeline.models import backbones
from pipeline.models.architectures import chain
from pipeline.runtime.errors import DamagedError, MismatchError, MissingError, UnusableError

SIGNATURE = "serving_default"


@pytest.fixture(scope="module", params=["logits", "probabilities"])
def written(request, tmp_path_factory) -> Path:
    """A folder with the student by pencil in all formats."""
    folder, graph = tmp_path_factory.mktemp(request.param), Graph(student(), request.param)
    for name in FILES:
        write(name, folder, graph, replace(METADATA, output=request.param), PIXELS)
    return folder


def log_probabilities(logits):
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("name", [name for name in FILES if PRECISIONS[name] != "int8"])
def test_each_format_gives_the_logits_by_pencil(written, name):
    exported = quality.opened(written / FILES[name])
    expected = LOGITS if exported.metadata.output == "logits" else log_probabilities(LOGITS)
    rounding = 5e-3 if PRECISIONS[name] == "float16" else 1e-5
    for images in (1, 3):
        assert exported.logits(PIXELS[:images]) == pytest.approx(expected[:images], abs=rounding)
    assert replace(exported.metadata, digest=NO_DIGEST) == replace(
        METADATA, output=exported.metadata.output, precision=PRECISIONS[name]
    )


def test_integers_give_the_logits_up_to_their_steps(written):
    """A step of the output is a 255th of its range; probabilities have steps of 1/256."""
    exported = open_exported(written / FILES["litert_int8"])
    found = exported.logits(PIXELS)
    if exported.metadata.output == "logits":
        assert found == pytest.approx(LOGITS, abs=2 * np.ptp(LOGITS) / 255)
    else:
        assert np.exp(found) == pytest.approx(np.exp(log_probabilities(LOGITS)), abs=2 / 256)
        assert np.exp(found[1, 2]) == pytest.approx(1 / 512)  # of 0.00004: half a step in place of 0


def interpreter(content):
    from ai_edge_litert.interpreter import Interpreter

    opened = Interpreter(model_content=content, num_threads=1)
    opened.allocate_tensors()
    return opened


def test_a_file_of_integers_has_no_other_numbers(written):
    opened = interpreter((written / FILES["litert_int8"]).read_bytes())
    kinds = {np.dtype(tensor["dtype"]).kind for tensor in opened.get_tensor_details()}
    assert kinds <= {"i", "u"}
    (pixels,), (answers,) = opened.get_input_details(), opened.get_output_details()
    assert (pixels["dtype"], pixels["quantization"]) == (np.uint8, (1.0, 0))
    assert answers["dtype"] == np.int8


def test_a_saved_model_serves_pixels(written):
    """With TensorFlow alone, as a server does."""
    folder = written / FILES["saved_model"]
    signature = tf.saved_model.load(str(folder)).signatures[SIGNATURE]
    (name,) = signature.structured_outputs
    assert signature.structured_input_signature[1]["pixels"].dtype == tf.uint8
    answers = signature(pixels=tf.constant(PIXELS))[name].numpy()
    if name == "probabilities":
        assert answers.sum(axis=1) == pytest.approx([1, 1, 1])
        answers = np.log(answers)
    assert answers == pytest.approx(LOGITS if name == "logits" else log_probabilities(LOGITS), abs=1e-5)
    assert not (folder / saved_model.FINGERPRINT).exists()
    saved = tf.train.list_variables(str(folder / "variables/variables"))
    assert len(saved) == 1 + len(student().weights)  # each once, beside TensorFlow's own entry


@pytest.mark.parametrize("name", ["litert_float16", "litert_int8", "onnx"])
def test_a_changed_byte_of_any_format_is_refused(written, tmp_path, name):
    whole = (written / FILES[name]).read_bytes()
    for place in np.random.default_rng(1).integers(len(whole), size=50):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(place) % 8
        (tmp_path / FILES[name]).write_bytes(damaged)
        with pytest.raises((DamagedError, UnusableError)):
            open_exported(tmp_path / FILES[name])


def test_an_onnx_file_renamed_is_refused(written, tmp_path):
    (tmp_path / "student.tflite").write_bytes((written / FILES["onnx"]).read_bytes())
    with pytest.raises(DamagedError, match=r"content is that of \.onnx"):
        open_exported(tmp_path / "student.tflite")


def network(*layers, shape=(8, 8, 3)):
    """Scaled pixels, some layers and three logits."""
    features = inputs = keras.Input(shape)
    for layer in (keras.layers.Rescaling(1 / 255), *layers, keras.layers.Flatten(), keras.layers.Dense(3)):
        features = layer(features)
    return keras.Model(inputs, features)


def small_cnn(kind):
    backbone = backbones.cnn((8, 8, 3), filters=[4], downsampling="stride", kernel_size=3, padding="same", factor=2)
    return chain(
        backbone,
        preprocessing=kind,
        pooling="flatten",
        batch_normalization=False,
        hidden_units=[],
        dropout=0.0,
        classes=3,
        name="student",
    )


NOISE = np.random.default_rng(5).integers(0, 256, (20, 8, 8, 3), np.uint8)
ABOUT_NOISE = replace(METADATA, preprocessing=preprocessing((8, 8, 3), DEFAULT_RESIZE))
NETWORKS = {
    "RGB to BGR": lambda: small_cnn("caffe"),
    "symmetric": lambda: small_cnn("symmetric"),
    "exact GELU": lambda: network(keras.layers.Conv2D(4, 3, activation=keras.activations.gelu)),
    "groups": lambda: network(keras.layers.Conv2D(6, 3, groups=3)),
    "random layers": lambda: network(keras.layers.RandomFlip(), keras.layers.Conv2D(4, 3), keras.layers.Dropout(0.5)),
    "normalised": lambda: network(keras.layers.Conv2D(4, 3), keras.layers.LayerNormalization()),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_each_format_gives_the_answers_of_keras(tmp_path, kind):
    keras.utils.set_random_seed(3)
    model = NETWORKS[kind]()
    expected = model(NOISE.astype(np.float32), training=False).numpy()
    graph = Graph(model, "logits")
    for name in FILES:
        write(name, tmp_path, graph, ABOUT_NOISE, NOISE)
        share = np.abs(quality.opened(tmp_path / FILES[name]).logits(NOISE) - expected).max() / np.abs(expected).max()
        assert share < {"float32": 1e-5, "float16": 2e-3, "int8": 0.06}[PRECISIONS[name]], name


@pytest.mark.parametrize("name", [name for name in FILES if name != "saved_model"])
def test_what_a_format_lacks_is_named(tmp_path, name):
    keras.utils.set_random_seed(3)
    graph = Graph(network(keras.layers.Reshape((8, 24)), keras.layers.GRU(4)), "logits")
    message = rf"converted to {name}: .*TensorList.*[Ll]eave {name} out of export\.formats"
    with pytest.raises(UnusableError, match=message):
        write(name, tmp_path, graph, ABOUT_NOISE, NOISE)


def test_numbers_of_16_bits_are_named_as_the_cause(tmp_path):
    graph = Graph(network(keras.layers.Conv2D(4, 3, dtype="mixed_float16")), "logits")
    with pytest.raises(UnusableError, match=r"litert_float32: .*tf\.Conv2D\. It computes in float16.*in float32\."):
        write("litert_float32", tmp_path, graph, ABOUT_NOISE, NOISE)


class Branches(keras.layers.Layer):
    """Which of two sides is computed depends on the pixels."""

    def call(self, features):
        return tf.cond(tf.reduce_sum(features) > 0, lambda: features * 2, lambda: features * 3)


def test_branches_have_no_onnx_file():
    with pytest.raises(UnusableError, match="converted to onnx: it has branches or loops"):
        onnx.float32(Graph(network(Branches()), "logits"), ABOUT_NOISE)


def test_missing_packages_of_onnx_are_named(monkeypatch):
    monkeypatch.setattr(onnx, "PACKAGES", ("numpy", "no_such_package"))
    with pytest.raises(MissingError, match=r"onnx, which needs the package no_such_package.*\.\[onnx\]"):
        onnx.refuse_without_packages()


AGAIN = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import keras
import test_exports
from pipeline.cli.main import main
dropout = test_exports.Graph(keras.saving.load_model("dropout.keras"), "logits")
test_exports.write("saved_model", Path("models/exports"), dropout, test_exports.METADATA, None)
main(["export", "--student", "best"], standalone_mode=False)
Path("mobilenet.onnx").write_bytes(test_exports.onnx.float32(*test_exports.mobilenet()))
"""


def mobilenet():
    """The graph of MobileNetV2 of width 0.35, whose weights are random and the same each time; and its metadata."""
    keras.utils.set_random_seed(7)
    model = chain(
        backbones.pretrained("mobilenetv2", (96, 96, 3), None, 0.35),
        preprocessing="symmetric",
        pooling="avg",
        batch_normalization=False,
        hidden_units=[],
        dropout=0.2,
        classes=3,
        name="student",
    )
    draw = np.random.default_rng(11)
    for layer in model.get_layer("backbone").layers:  # statistics of batches, as a training leaves them
        if isinstance(layer, keras.layers.BatchNormalization):
            size = layer.gamma.shape
            shifts = [draw.normal(0, 0.3, size), draw.normal(0, 0.3, size)]
            layer.set_weights([draw.uniform(0.8, 1.2, size), *shifts, draw.uniform(0.05, 0.2, size)])
    return Graph(model, "logits"), replace(METADATA, preprocessing=preprocessing((96, 96, 3), DEFAULT_RESIZE))


@pytest.mark.slow
def test_mobilenet_answers_as_keras_does(tmp_path):
    graph, about = mobilenet()
    pixels = np.random.default_rng(2).integers(0, 256, (6, 2, 2, 3), np.uint8).repeat(48, axis=1).repeat(48, axis=2)
    expected = graph.serve(pixels)["logits"].numpy()
    for name in ("litert_float32", "litert_float16", "litert_int8", "onnx"):
        write(name, tmp_path, graph, about, pixels)
        found = quality.opened(tmp_path / FILES[name]).logits(pixels)
        share = np.abs(found - expected).max() / np.ptp(expected)
        assert share < {"float32": 1e-4, "float16": 0.01, "int8": 0.15}[PRECISIONS[name]], name


@pytest.fixture(scope="module")
def twice(reproduced, tmp_path_factory) -> list[Path]:
    """The small project, whose student two processes export, in two orders and with two seeds of Python's hashes."""
    projects = []
    network(keras.layers.Dropout(0.5)).save(file := tmp_path_factory.mktemp("dropout") / "dropout.keras")
    for seed, formats in (("1", list(FILES)), ("2", list(reversed(FILES)))):
        folder = copy_without(reproduced, tmp_path_factory.mktemp("twice") / "project", "models/exports")
        change(folder / "params.yaml", "export.formats", formats)
        shutil.copy(file, folder)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(ENVIRONMENT, "PYTHONHASHSEED", seed)
            run(sys.executable, "-c", AGAIN, str(Path(__file__).parent), cwd=folder)
        projects.append(folder)
    return projects


def test_another_process_writes_the_same_bytes(twice):
    first, second = (
        {path.relative_to(project): path for path in (project / "models/exports").rglob("*") if path.is_file()}
        for project in twice
    )
    assert first.keys() == second.keys()
    assert len(first) == 9 + 4  # of the student, and of one with dropout, whose state Keras draws anew at each start
    differ = [name.name for name in first if first[name].read_bytes() != second[name].read_bytes()]
    assert differ == ["export.json"]  # its entries have the order of the formats


def test_another_process_names_alike_what_onnx_names(twice):
    """MobileNetV2 has equal constants, and many names that tf2onnx counts."""
    first, second = ((project / "mobilenet.onnx").read_bytes() for project in twice)
    assert first == second


# Which training images set the ranges


def index_of(counts):
    """An index of training images: so many of each class, and of none."""
    images = [
        Image(f"{name or 'none'}{number}", f"{name}/{number}.png", name, "train", "", "0" * 64)
        for name, count in counts.items()
        for number in range(count)
    ]
    return Index(images, [name for name in counts if name])


def test_ranges_are_measured_on_classes_alike():
    chosen = calibration_images.chosen(index_of({"a": 50, "b": 4, "c": 50, "": 30}), 20)
    by_class = pd.Series([image.class_name for image in chosen]).value_counts()
    assert by_class.to_dict() == {"a": 8, "b": 4, "c": 8}
    of_a = [image.id for image in chosen if image.class_name == "a"]
    assert of_a == sorted((f"a{number}" for number in range(50)), key=lambda name: sha256(name))[:8]


def test_ranges_are_measured_on_what_there_is():
    assert len(calibration_images.chosen(index_of({"a": 3, "b": 2}), 200)) == 5


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


# The temperature


@pytest.mark.parametrize(("logit", "right"), [(3.0, 8), (0.5, 9), (1.0, 7)])
def test_the_temperature_is_that_of_the_closed_form(logit, right):
    """Of two classes and logits a or 0, the NLL is least where sigmoid(a / T) is the share of right answers."""
    labels = np.array([1] * right + [0] * (10 - right))
    logits = np.tile([0.0, logit], (10, 1))
    expected = logit / math.log(right / (10 - right))
    assert temperature.fitted(logits, labels) == (pytest.approx(expected, rel=1e-4), None)


def test_right_answers_leave_the_temperature_at_one():
    fitted, remark = temperature.fitted(np.array([[9.0, 0], [0, 9]]), np.array([0, 1]))
    assert fitted == 1
    assert "no temperature can be fitted" in remark


def test_answers_that_say_nothing_end_at_the_bound():
    fitted, remark = temperature.fitted(np.tile([0.0, 9.0], (10, 1)), np.array([0, 1] * 5))
    assert fitted == pytest.approx(temperature.MOST, rel=1e-3)
    assert "end of its range" in remark


# Which student


def write_history(folder, name, rows):
    columns = ["epoch", "val_accuracy", "val_cross_entropy"]
    pd.DataFrame([(epoch, *row) for epoch, row in enumerate(rows, 1)], columns=columns).assign(phase=1).to_csv(
        folder / f"{name}.csv", index=False
    )


STUDENTS = ["student_kl_T4_seed1", "student_kl_T4_seed2", "student_kl_T8_seed1"]


@pytest.mark.parametrize(
    ("of_students", "best"),
    [
        ([[(0.9, 0.5), (0.7, 0.1)], [(0.95, 0.9)], [(0.8, 0.2)]], 1),
        ([[(0.9, 0.5)], [(0.9, 0.6), (0.9, 0.4)], [(0.9, 0.5)]], 1),
        ([[(0.9, 0.5)], [(0.9, 0.5)], [(0.9, 0.5)]], 0),
    ],
)
def test_the_best_student_is_chosen_by_its_best_epoch(tmp_path, of_students, best):
    for name, rows in zip(STUDENTS, of_students, strict=True):
        write_history(tmp_path, name, rows)
    name, why = best_of(tmp_path, STUDENTS, "accuracy")
    assert name == STUDENTS[best]
    assert why == f"the best of 3 students by validation accuracy ({max(row[0] for row in of_students[best]):.3f})"


def test_another_measure_than_the_training_had_is_refused(tmp_path):
    write_history(tmp_path, STUDENTS[0], [(0.9, 0.5)])
    assert best_of(tmp_path, STUDENTS[:1], "cross_entropy")[1] == "the only student by validation cross-entropy (0.500)"
    with pytest.raises(MismatchError, match="no val_auc"):
        best_of(tmp_path, STUDENTS[:1], "auc")
    with pytest.raises(MissingError, match="no training curves"):
        best_of(tmp_path, STUDENTS, "accuracy")


# What is measured


def test_quality_is_that_of_a_small_table():
    logits, labels = np.log([[0.8, 0.2], [0.4, 0.6]]), np.array([0, 0])
    report = quality.quality(logits, labels, 1.0)
    assert report["accuracy"] == 0.5
    assert "auc" not in report  # of one class
    assert report["nll"] == pytest.approx(-(math.log(0.8) + math.log(0.4)) / 2)
    assert report["brier"] == pytest.approx((2 * 0.2**2 + 2 * 0.6**2) / 2)
    assert report["calibrated"] == {name: report[name] for name in ("nll", "brier", "ece")}
    assert quality.quality(logits, labels, 1e6)["calibrated"]["nll"] == pytest.approx(math.log(2), abs=1e-4)


def test_closeness_compares_logits_or_their_logarithms():
    ours, keras_student = np.array([[1.0, 2.0], [3.0, 0.0]]), np.array([[1.0, 2.5], [0.0, 1.0]])
    assert quality.closeness(ours, keras_student, METADATA) == {"agreement": 0.5, "largest_logit_difference": 3.0}
    assert quality.closeness(keras_student, ours, METADATA)["largest_logit_difference"] == 3.0
    about = replace(METADATA, output="probabilities")
    assert quality.closeness(ours, ours + 7, about)["largest_logit_difference"] == pytest.approx(0)


@pytest.mark.parametrize(("precision", "least"), [("float32", np.finfo(np.float32).tiny), ("int8", 1 / 512)])
def test_probabilities_too_small_for_a_file_do_not_count(precision, least):
    """A file that gives what it can of e^-200 and e^-150 is as close as can be; another class is far."""
    of_keras, about = np.array([[200.0, 0], [0, 150]]), replace(METADATA, output="probabilities", precision=precision)
    ours = np.log(np.array([[1, least], [least, 1]]))
    assert quality.closeness(ours, of_keras, about)["largest_logit_difference"] == pytest.approx(0, abs=0.01)
    other = quality.closeness(ours[::-1], of_keras, about)["largest_logit_difference"]
    assert other == pytest.approx(-math.log(least), abs=0.01)


def test_a_file_without_finite_answers_is_refused():
    quality.refuse_not_finite(np.zeros((2, 3)), "a.tflite", "Leave it out.")
    with pytest.raises(UnusableError, match=r"a\.tflite: the logits of 1 of 2 images are not finite.*Leave it out\."):
        quality.refuse_not_finite(np.array([[0, 1], [np.inf, 2]]), "a.tflite", "Leave it out.")


@pytest.mark.parametrize(("of_file", "is_refused"), [(0.94, False), (0.9395, True)])
def test_the_largest_drop_itself_is_taken(of_file, is_refused):
    """0.96 - 0.94 is 0.020000000000000018 in binary numbers."""
    keras_student = {"bytes": 1, "accuracy": 0.96}
    file = {"bytes": 1, "accuracy": of_file, "agreement": 1.0, "largest_logit_difference": 0.0}
    report = {"student": "s", "test_images": 2000, "keras": keras_student, "files": {"a.onnx": file}}
    report["made_from"] = {"export": {"softmax": False}}
    with pytest.raises(UnusableError) if is_refused else nullcontext():
        quality.refuse_large_drop(report, 0.02)


def test_class_names_reach_every_format(written):
    for file in FILES.values():
        assert quality.opened(written / file).metadata.class_names == CLASSES


def test_metadata_of_onnx_stand_in_its_properties(written):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(written / FILES["onnx"]), providers=["CPUExecutionProvider"])
    text = session.get_modelmeta().custom_metadata_map["softlabel"]
    assert json.loads(text)["class_names"] == list(CLASSES)
    assert (session.get_inputs()[0].name, session.get_inputs()[0].type) == ("pixels", "tensor(uint8)")
    assert session.get_inputs()[0].shape == ["images", 2, 2, 1]


def test_the_whole_range_of_pixels_is_measured():
    dark = np.full((2, 3, 3, 1), 100, np.uint8)
    opened = interpreter(litert.int8(Graph(student_of_three_rows(), "logits"), METADATA, dark))
    assert opened.get_input_details()[0]["quantization"] == (1.0, 0)


def student_of_three_rows():
    return network(shape=(3, 3, 1))


def test_states_of_random_layers_do_not_reach_the_files(tmp_path):
    """Keras draws them anew when it builds or loads a network."""
    model = network(keras.layers.Dropout(0.5))
    saved_model.float32(Graph(model, "logits"), ABOUT_NOISE, tmp_path / "saved_model")
    saved = tf.train.load_checkpoint(str(tmp_path / "saved_model/variables/variables"))
    values = [saved.get_tensor(name) for name in saved.get_variable_to_shape_map() if "/VARIABLE_VALUE" in name]
    states = [value.tolist() for value in values if value.shape == (2,)]
    assert states == [[0, 0]]


def test_the_guides_lines_answer_with_litert_alone(written, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    PIL.Image.fromarray(PIXELS[0, ..., 0]).save("image.png")
    guide = (ROOT / "docs/guide.md").read_text(encoding="utf-8")
    (block,) = [block for block in re.findall(r"```python\n(.*?)```", guide, re.DOTALL) if "ai_edge_litert" in block]
    expected = LOGITS[:1] if written.name.startswith("logits") else np.exp(log_probabilities(LOGITS[:1]))
    for name in ("litert_int8", "litert_float32"):
        of_this = block.replace(FILES["litert_int8"], FILES[name]).replace("models/exports/best", str(written))
        exec(compile(of_this, "guide", "exec"), {})  # noqa: S102
        shown = np.array(re.findall(r"[-+.\de]+", capsys.readouterr().out), float)
        assert shown == pytest.approx(expected[0], abs=2 * np.ptp(LOGITS) / 255)
