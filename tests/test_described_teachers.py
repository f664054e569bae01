"""Given teachers of which something is stated: preprocessing, order of classes, accuracy; and one logit for two."""

import hashlib
from dataclasses import asdict
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from scipy.special import expit, softmax

from pipeline.images.index import Image, Index, read_index, write_index
from pipeline.images.views import Augmentation, Views
from pipeline.models import keras_files
from pipeline.models.descriptions import Mlp
from pipeline.models.ensembles import save_ensemble
from pipeline.models.given_teacher import completed
from pipeline.models.parts import Standardization
from pipeline.models.teacher_file import GivenTeacher
from pipeline.runtime.errors import MismatchError, ParameterError
from pipeline.soft_labels.logit_storage import Dense
from pipeline.stages import precompute, train_teacher

FILE, INDEX, TEACHER = Path("given.keras"), Path("data/index.csv"), Path("models/teacher.keras")
CLASSES = ["HP", "SSA"]
SHAPE = (4, 5, 3)
PIXELS = np.random.default_rng(0).integers(0, 256, (6, *SHAPE)).astype(np.float32)


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    keras.utils.set_random_seed(3)


def write(outputs=2, activation=None, shape=SHAPE, record=None):
    """Saves a small teacher; returns it."""
    model = keras.Sequential([keras.Input(shape), layers.Flatten(), layers.Dense(outputs, activation)], name="small")
    if record is None:
        model.save(FILE)
    else:
        keras_files.save(model, FILE, record)
    return model


def complete(class_names=CLASSES, **stated):
    return completed(GivenTeacher(str(FILE), **stated), class_names)


def refused(error, class_names=CLASSES, **stated):
    with pytest.raises(error) as refusal:
        complete(class_names, **stated)
    return str(refusal.value)


# Preprocessing

IMAGENET = Standardization([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
PREPARED = {
    "unit": lambda pixels: pixels / 255,
    "symmetric": lambda pixels: pixels / 127.5 - 1,
    "caffe": lambda pixels: pixels[..., ::-1] - [103.939, 116.779, 123.68],
    "imagenet": lambda pixels: (pixels / 255 - IMAGENET.mean) / IMAGENET.std,
}


@pytest.mark.parametrize("name", PREPARED)
def test_pixels_are_prepared_as_they_were_outside_of_the_teacher(name):
    """The last as torchvision does it: ToTensor, then Normalize."""
    model = write()
    preprocessing = IMAGENET if name == "imagenet" else name
    teacher = complete(preprocessing=preprocessing)
    expected = model(PREPARED[name](PIXELS).astype(np.float32))
    np.testing.assert_allclose(teacher.model(PIXELS), expected, rtol=1e-4, atol=1e-4)
    assert str(preprocessing) in teacher.notes[0]


def test_one_channel_has_one_mean():
    model = write(shape=(4, 5, 1))
    teacher = complete(preprocessing=Standardization([0.1307], [0.3081]))
    expected = model((PIXELS[..., :1] / 255 - 0.1307) / 0.3081)
    np.testing.assert_allclose(teacher.model(PIXELS[..., :1]), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("preprocessing", ["caffe", IMAGENET], ids=["caffe", "mean and std"])
def test_preprocessing_of_other_channels_is_refused(preprocessing):
    write(shape=(4, 5, 1))
    message = refused(ParameterError, preprocessing=preprocessing)
    assert all(words in message for words in ("train_teacher.preprocessing", "3 channel(s)", "given.keras takes 1"))


# The order of the classes

THREE = ["cat", "dog", "emu"]


@pytest.mark.parametrize(
    ("outputs", "classes", "order"),
    [
        (3, ["emu", "cat", "dog"], [1, 2, 0]),
        (3, {"dog": 0, "cat": 1, "emu": 2}, [1, 0, 2]),
        (5, ["fox", "emu", "gnu", "cat", "dog"], [3, 4, 1]),
        (5, [None, "emu", None, "dog", "cat"], [4, 3, 1]),
        (5, {"cat": 4, "dog": 0, "emu": 2}, [4, 0, 2]),
        (5, {"cat": 4, "dog": 0, "emu": 2, "fox": 1}, [4, 0, 2]),
        (4, ["cat", "dog", "emu", None], [0, 1, 2]),
    ],
)
def test_each_class_gets_its_own_output(outputs, classes, order):
    model = write(outputs)
    teacher = complete(THREE, classes=classes)
    np.testing.assert_array_equal(teacher.model(PIXELS), np.asarray(model(PIXELS))[:, order])
    assert any("order" in note for note in teacher.notes) == (order != sorted(order))
    assert any(f"{outputs - 3} output(s)" in note for note in teacher.notes) == (outputs > 3)


@pytest.mark.parametrize("recorded", [["emu", "dog", "cat"], ["fox", "emu", "dog", "cat"]])
def test_a_file_of_ours_says_its_order_itself(recorded):
    """A file that `dvc repro` wrote for the same classes in another order, or for more of them."""
    images = {"images": "ab" * 32, "accuracy": 0.75}
    model = write(len(recorded), record={"class_names": recorded, "validation": images})
    teacher = complete(THREE)
    expected = np.asarray(model(PIXELS))[:, [recorded.index(name) for name in THREE]]
    np.testing.assert_array_equal(teacher.model(PIXELS), expected)
    assert (teacher.record["class_names"], teacher.record["validation"]) == (THREE, images)
    assert teacher.record["given"]["classes"] == recorded
    other = complete(THREE, classes=["cat", "dog", "emu", "fox"][: len(recorded)])
    np.testing.assert_array_equal(other.model(PIXELS), np.asarray(model(PIXELS))[:, :3])


@pytest.mark.parametrize(
    ("outputs", "classes", "named"),
    [
        (3, ["cat", "dog"], ["train_teacher.classes", "2 outputs", "given.keras gives 3", "null"]),
        (2, ["cat", "dog", "emu"], ["train_teacher.classes", "3 outputs", "given.keras gives 2"]),
        (3, {"cat": 1, "dog": 2, "emu": 3}, ["train_teacher.classes", "output 3", "given.keras", "0 to 2"]),
        (3, ["cat", "Dog", "emu"], ["train_teacher.classes lacks 1 ", "'dog'; ", "Is 'Dog' there 'dog' here?"]),
        (3, {"cat": 0, "emu": 1}, ["train_teacher.classes lacks 1 ", "'dog'; ", " 'cat', 'emu'.", "data/index.csv"]),
        (3, ["a", "b", "c"], ["train_teacher.classes lacks 3 ", "'cat', 'dog', 'emu'; ", " 'a', 'b', 'c'"]),
        (4, None, ["given.keras gives 4 logits", "3 classes", "train_teacher.classes"]),
        (2, None, ["given.keras gives 2 logits", "3 classes", "`dvc repro`"]),
        (1, None, ["given.keras gives 1 logits", "3 classes", "`dvc repro`"]),
    ],
)
def test_outputs_that_do_not_fit_the_data_set_are_refused(outputs, classes, named):
    write(outputs)
    message = refused(MismatchError if classes is None else ParameterError, THREE, classes=classes)
    assert [words for words in named if words not in message] == [], message


def test_a_thousand_classes_make_no_long_message():
    names = [f"class {number}" for number in range(1000)]
    write(2, record={"class_names": ["one", "two"]})
    assert len(refused(MismatchError, names)) < 500
    assert len(refused(ParameterError, names, classes=["one", "two"])) < 500


def test_weights_may_be_of_more_classes_than_the_data_set_has():
    described = Mlp(input_shape=SHAPE, weights=None, pooling="flatten", batch_normalization=False, dropout=0.0)
    source = described.build(classes=3, seed=1)
    source.save_weights("given.weights.h5")
    teacher = GivenTeacher("given.weights.h5", described, classes=["SSA", None, "HP"])
    np.testing.assert_array_equal(completed(teacher, CLASSES).model(PIXELS), np.asarray(source(PIXELS))[:, [2, 0]])


# One logit


@pytest.mark.parametrize("activation", [None, "sigmoid"])
@pytest.mark.parametrize("positive", ["SSA", "HP"])
def test_one_logit_z_becomes_0_and_z(activation, positive):
    """Of the two classes the second is the positive one, unless the teacher's order says otherwise."""
    model = write(1, activation)
    teacher = complete(classes=None if positive == "SSA" else ["SSA", "HP"])
    z = np.asarray(keras.ops.matmul(PIXELS.reshape(6, -1), model.layers[-1].kernel))
    logits, column = np.asarray(teacher.model(PIXELS)), CLASSES.index(positive)
    np.testing.assert_array_equal(logits[:, 1 - column], 0)
    np.testing.assert_allclose(logits[:, [column]], z, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(softmax(logits, axis=1)[:, [column]], expit(z), rtol=1e-4, atol=1e-6)
    if activation is not None:
        np.testing.assert_allclose(softmax(logits, axis=1)[:, [column]], model(PIXELS), rtol=1e-5, atol=1e-6)
    assert any(note.endswith(repr(positive)) for note in teacher.notes)


# The file


@pytest.mark.parametrize(
    "stated",
    [{"preprocessing": "unit"}, {"preprocessing": IMAGENET}, {"classes": {"SSA": 0, "HP": 1}}, {"accuracy": 0.9}],
    ids=["preprocessing", "mean and std", "classes", "accuracy"],
)
def test_a_described_teacher_is_recorded_in_the_same_bytes_again(stated):
    write_index_of(CLASSES)
    model = write()
    first = take(GivenTeacher(str(FILE), **stated))
    record = keras_files.read_record(TEACHER)
    assert record["class_names"] == CLASSES
    assert record["given"] == {
        "sha256": hashlib.sha256(FILE.read_bytes()).hexdigest(),
        "accuracy": None,
        "preprocessing": "none",
        "classes": None,
        "last_activation": "linear",
        **{name: asdict(value) if value is IMAGENET else value for name, value in stated.items()},
    }
    keras.layers.Dense(3)  # another automatic name is used up
    assert take(GivenTeacher(str(FILE), **stated)) == first
    loaded = keras.saving.load_model(TEACHER, safe_mode=True)
    assert (loaded.name, loaded.input_shape, loaded.output_shape) == (model.name, (None, *SHAPE), (None, 2))


def test_another_stated_accuracy_makes_another_member():
    write_index_of(CLASSES)
    write()
    take(GivenTeacher(str(FILE)), GivenTeacher(str(FILE), accuracy=0.5))
    with pytest.raises(ParameterError, match="two teachers of the ensemble are the same"):
        take(GivenTeacher(str(FILE)), GivenTeacher(str(FILE)))


def test_members_are_given_each_in_its_own_way():
    """One with softmax, one with one logit, one of pixels / 255, one that is an ensemble, and their mean."""
    write_index_of(CLASSES)
    teachers = []
    for name, outputs, activation in (("a", 2, "softmax"), ("b", 1, "sigmoid"), ("c", 2, None)):
        write(outputs, activation).save(f"{name}.keras")
        teachers.append(GivenTeacher(f"{name}.keras", preprocessing="none" if activation else "unit"))
    write().save(FILE)
    save_ensemble([FILE, FILE], "logits", CLASSES, Path("two.keras"))
    teachers.append(GivenTeacher("two.keras", classes=["SSA", "HP"]))
    alone = [np.asarray(completed(teacher, CLASSES).model(PIXELS)) for teacher in teachers]
    take(*teachers)
    logits = keras.saving.load_model(TEACHER, safe_mode=True)(PIXELS)
    np.testing.assert_allclose(logits, np.mean(alone, axis=0), rtol=1e-5, atol=1e-4)
    records = [member["record"] for member in keras_files.read_record(TEACHER)["members"]]
    assert [record["given"]["last_activation"] for record in records] == ["softmax", "sigmoid", "linear", None]


def test_a_model_of_lists_of_tensors_is_taken_without_a_warning():
    """So are models that Keras 3 has read from files of Keras 2."""
    inputs = keras.Input(SHAPE)
    keras.Model([inputs], [layers.Dense(2)(layers.Flatten()(inputs))]).save(FILE)
    assert complete(preprocessing="unit").model(PIXELS).shape == (6, 2)


# End to end


def write_index_of(class_names):
    Path("data").mkdir()
    write_index(INDEX, Index([Image(name, f"{name}.png", name, "train", "", "") for name in class_names], class_names))


def take(*teachers):
    """The bytes of the teacher that the stage writes."""
    train_teacher.run(index=INDEX, teachers=teachers, average="logits", output=TEACHER, history=Path("history.csv"))
    return TEACHER.read_bytes()


NUMBERS = [str(number) for number in range(11)]
GREY = {name: 10 + 20 * int(name) for name in NUMBERS}
"""The one grey of all images of a class."""


@pytest.fixture
def numbered():
    """Three grey images of each of the classes 0 to 10, one in each split; the classes' order is that of numbers."""
    images = []
    for name, grey in GREY.items():
        for part in ("train", "val", "test"):
            path = Path(f"data/split/{part}/{name}/{part}_{name}.png")
            path.parent.mkdir(parents=True)
            path.write_bytes(tf.io.encode_png(np.full((4, 4, 1), grey, np.uint8)).numpy())
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            images.append(Image(f"{part}_{name}.png", path.as_posix(), name, part, "", sha256))
    write_index(INDEX, Index(images))
    assert read_index(INDEX).class_names == NUMBERS


def nearest_grey(names, scale=1.0):
    """Logits -(x - grey)^2 / 100 of each class, but for a part that all share, for an image that is all x."""
    greys = np.array([GREY.get(name, 250) for name in names])
    last = layers.Dense(len(names))
    model = keras.Sequential([keras.Input((4, 4, 1)), layers.GlobalAveragePooling2D(), last])
    last.set_weights([greys[None] * 2 / 100 / scale, -(greys**2) / 100])
    model.save(FILE)


MORE = sorted([*NUMBERS, "unknown"])
"""In the order of text: 0, 1, 10, 2 and so on."""


@pytest.mark.parametrize(
    ("names", "scale", "stated"),
    [
        (NUMBERS, 1.0, {}),
        (MORE, 1 / 255, {"preprocessing": "unit", "classes": {name: MORE.index(name) for name in NUMBERS}}),
    ],
    ids=["in the order of numbers", "scaled outside, in another order"],
)
def test_stored_logits_are_in_the_order_of_the_classes(numbered, names, scale, stated):
    nearest_grey(names, scale)
    take(GivenTeacher(str(FILE), **stated, accuracy=1.0))
    precompute.run(
        index=INDEX,
        teacher=TEACHER,
        views=Views(1, 1, Augmentation()),
        stored_as=Dense("float32"),
        batch_size=16,
        previous=[],
        output=Path("logits.h5"),
    )
    greys = np.array([GREY[name] for name in NUMBERS], float)
    with h5py.File("logits.h5") as file:
        assert file["class_names"].asstr()[...].tolist() == NUMBERS
        for part in ("train", "val", "test"):
            labels, logits = file[part]["label"][...], file[part]["logits"][0]
            expected = -((greys[labels][:, None] - greys) ** 2) / 100
            centred = logits - logits.max(axis=1, keepdims=True)
            np.testing.assert_allclose(centred, expected, rtol=0, atol=0.01)
            assert (logits.argmax(axis=1) == labels).all()
