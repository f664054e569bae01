"""Teachers that are trained already: files that are copied, weights that are put into a model, and what is refused."""

import hashlib
import json
import shutil
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
import pandas as pd
import pytest
from conftest import MODEL, mhist_in, write_data_set

from pipeline.images.views import UNTOUCHED, Augmentation
from pipeline.models import keras_files
from pipeline.models.ensembles import save_ensemble
from pipeline.runtime.errors import DamagedError, MismatchError, MissingError, UnusableError
from pipeline.soft_labels.logit_storage import Dense
from pipeline.stages import precompute, split, train_teacher
from pipeline.stages.train_teacher import GivenTeacher
from pipeline.training.recipe import Phase, Recipe, TeacherToTrain

INDEX, TEACHER, HISTORY = Path("data/index.csv"), Path("models/teacher.keras"), Path("history/teacher.csv")
CLASSES = ["HP", "SSA"]
PIXELS = np.random.default_rng(0).uniform(0, 255, (5, 12, 12, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A split data set, which no test changes."""
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_data_set(Path("raw"))
        split.run(
            layout="mhist",
            settings=mhist_in(Path("raw")),
            split_folder=Path("data/split"),
            index=INDEX,
        )
    return folder


@pytest.fixture(autouse=True)
def _project(data, tmp_path, monkeypatch):
    (tmp_path / "data").symlink_to(data / "data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)


def build(seed=1, classes=2, **changes):
    return replace(MODEL, **changes).build(classes=classes, seed=seed)


def of_another_make(*layers):
    """A model that `Description.build` never builds."""
    keras.utils.set_random_seed(4)
    first = [keras.Input((12, 12, 3)), keras.layers.Rescaling(1 / 255), keras.layers.Flatten()]
    return keras.Sequential([*first, *(layers or [keras.layers.Dense(2)])], name="foreign")


def take(*teachers, average="logits"):
    train_teacher.run(index=INDEX, teachers=teachers, average=average, output=TEACHER, history=HISTORY)


def given(file, weights_of=None):
    return GivenTeacher(str(file), weights_of)


def compute():
    """The teacher's logits of the validation images, with plain h5py."""
    precompute.run(
        index=INDEX,
        teacher=TEACHER,
        views=UNTOUCHED,
        stored_as=Dense("float32"),
        batch_size=8,
        previous=[],
        output=Path("logits.h5"),
    )
    with h5py.File("logits.h5") as file:
        return file["val/logits"][0]


def logits_of(path):
    """As `compute` gives them of the validation images, by a forward pass with plain Keras."""
    images = pd.read_csv(INDEX)
    paths = images[images["split"] == "val"].sort_values("id")["path"]
    pixels = np.stack([keras.utils.img_to_array(keras.utils.load_img(path)) for path in paths])
    return keras.saving.load_model(path)(pixels).numpy()


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


# Files


def write_ours():
    record = {"class_names": CLASSES, "validation": {"images": "ab" * 32, "accuracy": 0.75}}
    keras_files.save(build(), Path("given.keras"), record)


def write_of_another_make():
    of_another_make().save("given.keras")


def write_ensemble():
    for seed in (1, 2):
        keras_files.save(build(seed), Path(f"{seed}.keras"))
    save_ensemble([Path("1.keras"), Path("2.keras")], "probabilities", CLASSES, Path("given.keras"))


def write_with_one_channel():
    build(input_shape=(7, 9, 1)).save("given.keras")


@pytest.mark.parametrize("write", [write_ours, write_of_another_make, write_ensemble, write_with_one_channel])
def test_a_file_is_copied_byte_for_byte_and_nothing_trains(monkeypatch, capsys, write):
    write()
    content = Path("given.keras").read_bytes()

    def fail(*_, **__):
        raise AssertionError("a given teacher was trained")

    monkeypatch.setattr(keras.Model, "fit", fail)
    take(given("given.keras"))
    assert TEACHER.read_bytes() == content == Path("given.keras").read_bytes()
    assert HISTORY.read_text() == "epoch,phase,learning_rate\n"
    assert "given.keras is taken as it is: nothing is trained" in capsys.readouterr().out


def in_maps_and_lists(kind, activation=None):
    """A model whose one tensor, taken or given, has a name or is deep in lists."""
    keras.utils.set_random_seed(4)
    pixels = keras.Input((12, 12, 3), name="img")
    logits = keras.layers.Dense(2, activation)(keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(pixels)))
    taken = {"img": pixels} if kind in ("input", "both") else pixels
    return keras.Model(taken, {"output": {"a": logits}, "both": {"a": [logits]}, "lists": [[logits]]}.get(kind, logits))


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize(
    ("kind", "activation"), [("input", None), ("output", None), ("lists", None), ("both", None), ("both", "softmax")]
)
def test_the_one_tensor_of_a_map_or_list_is_taken_out(kind, activation, capsys):
    model = in_maps_and_lists(kind, activation)
    model.save("given.keras")
    take(given("given.keras"))
    assert "given.keras is taken: nothing is trained; its input and output are" in capsys.readouterr().out
    teacher = keras_files.load_classifier(TEACHER, CLASSES)
    kernel, bias = model.layers[-1].get_weights()
    by_hand = PIXELS.reshape(5, -1) / 255 @ kernel + bias
    np.testing.assert_allclose(np.asarray(teacher(PIXELS, training=False)), by_hand, rtol=0, atol=1e-4)


def test_another_file_under_the_same_name_is_noticed():
    of_another_make().save("given.keras")
    take(given("given.keras"))
    of_another_make(keras.layers.Dense(3), keras.layers.Dense(2)).save("given.keras")
    take(given("given.keras"))
    assert TEACHER.read_bytes() == Path("given.keras").read_bytes()


def test_a_teacher_of_another_make_labels_the_images():
    of_another_make().save("given.keras")
    take(given("given.keras"))
    np.testing.assert_allclose(compute(), logits_of("given.keras"), rtol=1e-5, atol=1e-6)


def test_a_given_ensemble_is_run_member_by_member():
    write_ensemble()
    take(given("given.keras"))
    compute()
    members = [{"teacher": "cnn", "teacher_sha256": sha256(f"{seed}.keras")} for seed in (1, 2)]
    with h5py.File("logits.h5") as file:
        assert json.loads(file.attrs["ensemble"]) == {"average": "probabilities", "members": members}


def test_an_ensemble_may_be_a_member():
    write_ensemble()
    keras_files.save(build(3), Path("3.keras"))
    take(given("given.keras"), given("3.keras"))
    expected = np.mean([logits_of("given.keras"), logits_of("3.keras")], axis=0)
    np.testing.assert_allclose(compute(), expected, rtol=1e-5, atol=1e-6)


# Weights


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"filters": [3, 2], "batch_normalization": True, "hidden_units": [4], "dropout": 0.5, "pooling": "avg"},
        {"input_shape": (8, 8, 1)},
    ],
    ids=["plain", "all parts", "grey"],
)
def test_weights_give_the_logits_of_their_model(changes):
    source = build(5, **changes)
    for weight in source.weights:  # also those that are zeros and ones at first
        if "seed" not in weight.path:
            weight.assign(np.random.default_rng(1).uniform(0.1, 1, weight.shape))
    source.save_weights("given.weights.h5")
    pixels = PIXELS[:, : source.input_shape[1], : source.input_shape[2], : source.input_shape[3]]
    expected = source(pixels).numpy()
    take(given("given.weights.h5", replace(MODEL, **changes)))
    np.testing.assert_array_equal(keras.saving.load_model(TEACHER, safe_mode=True)(pixels).numpy(), expected)
    assert HISTORY.read_text() == "epoch,phase,learning_rate\n"


def test_weights_that_were_saved_after_training_are_taken():
    """Keras puts the optimizer's state beside the layers."""
    source = build(5)
    source.compile(optimizer="adam", loss="mse")
    source.optimizer.build(source.trainable_variables)
    source.save_weights("given.weights.h5")
    with h5py.File("given.weights.h5") as file:
        assert "optimizer" in file
    take(given("given.weights.h5", MODEL))
    np.testing.assert_array_equal(keras.saving.load_model(TEACHER)(PIXELS).numpy(), source(PIXELS).numpy())


def test_the_same_weights_are_the_same_bytes():
    build(5).save_weights("given.weights.h5")
    take(given("given.weights.h5", MODEL))
    first = TEACHER.read_bytes()
    take(given("given.weights.h5", MODEL))
    assert TEACHER.read_bytes() == first


def test_the_backbones_own_weights_are_not_looked_for():
    """`weights: imagenet` describes where a model began; the file that is given holds them all."""
    build(5).save_weights("given.weights.h5")
    take(given("given.weights.h5", replace(MODEL, weights="nowhere.h5")))
    assert TEACHER.is_file()


# Refusals


def write_legacy(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        of_another_make().save("given.h5")
    if name != "given.h5":
        shutil.move("given.h5", name)


def cut_off(path, size):
    Path(path).write_bytes(Path(path).read_bytes()[:size])


def write_cut_off():
    write_of_another_make()
    cut_off("given.keras", -100)


def write_damaged():
    write_of_another_make()
    content = bytearray(Path("given.keras").read_bytes())
    content[len(content) // 2] ^= 255
    Path("given.keras").write_bytes(content)


def write_another_archive():
    with zipfile.ZipFile("given.keras", "w") as archive:
        archive.writestr("letter.txt", "Dear Keras")


def write_other_layer():
    class Odd(keras.layers.Layer):
        def call(self, inputs):
            return inputs

    of_another_make(keras.layers.Dense(2), Odd()).save("given.keras")


def write_classes(names, count=2):
    def write():
        record = {"class_names": names, "validation": {"images": "ab" * 32, "accuracy": 0.75}}
        keras_files.save(build(classes=count), Path("given.keras"), record)

    return write


def write_layers(*layers):
    return lambda: of_another_make(*(layer() for layer in layers)).save("given.keras")


def dense(**options):
    return lambda: keras.layers.Dense(2, **options)


NO_ARCHIVE = ["given.keras", "`.keras` file", "model.save('NAME.keras')"]
REFUSED = {
    "missing": (MissingError, lambda: None, ["no teacher at given.keras", "train_teacher.model"]),
    "a folder": (
        MissingError,
        lambda: Path("given.keras").mkdir(),
        ["no teacher at given.keras", "train_teacher.model"],
    ),
    "empty": (DamagedError, lambda: Path("given.keras").write_bytes(b""), NO_ARCHIVE),
    "legacy HDF5 under another name": (
        DamagedError,
        lambda: write_legacy("given.keras"),
        ["given.keras", "HDF5", "load_model('NAME.h5', compile=False).save('NAME.k"],
    ),
    "cut off": (DamagedError, write_cut_off, NO_ARCHIVE),
    "damaged": (DamagedError, write_damaged, ["given.keras cannot be loaded", "Save it again with"]),
    "an archive of something else": (
        DamagedError,
        write_another_archive,
        ["given.keras cannot be loaded", "model.weights.h5"],
    ),
    "a Lambda layer": (
        DamagedError,
        write_layers(dense(), lambda: keras.layers.Lambda(lambda x: 2 * x)),
        ["given.keras", "code of its own", "Lambda", "save the model again"],
    ),
    "a layer of its own": (
        DamagedError,
        write_other_layer,
        ["given.keras", ": test_given_teachers.Odd.", "Keras' own layers", "`layer.set_weights`"],
    ),
    "a sigmoid for each class": (
        UnusableError,
        write_layers(dense(activation="sigmoid")),
        ["given.keras", "sigmoid of 2 outputs", "multi-label", "softmax", "activation=None"],
    ),
    "negative logits cut off": (
        UnusableError,
        write_layers(dense(activation="relu")),
        ["given.keras ends in relu", "activation=None"],
    ),
    "probabilities times 100": (
        UnusableError,
        write_layers(dense(activation="softmax"), lambda: keras.layers.Rescaling(100.0)),
        ["given.keras ends in softmax, with Rescaling behind it", "activation=None", "nothing behind it"],
    ),
    "softmax of probabilities": (
        UnusableError,
        write_layers(dense(activation="softmax"), keras.layers.Softmax),
        ["given.keras without its last softmax", "probabilities", "activation=None"],
    ),
    "one output of a kind that is not known": (
        UnusableError,
        write_layers(lambda: keras.layers.Dense(1), keras.layers.BatchNormalization),
        ["given.keras has one output for two classes", "not known", "Dense layer", "activation=None"],
    ),
    "one output from -1 to 1": (
        UnusableError,
        write_layers(lambda: keras.layers.Dense(1, "tanh")),
        ["given.keras has one output for two classes", "tanh", "activation=None", "sigmoid"],
    ),
    "three classes": (
        MismatchError,
        write_layers(lambda: keras.layers.Dense(3)),
        ["given.keras gives 3 logits", "2 classes", "train_teacher.classes"],
    ),
    "other classes": (
        MismatchError,
        write_classes(["cat", "dog"]),
        ["given.keras", "'cat', 'dog', but", "'HP', 'SSA'", "train_teacher.classes"],
    ),
    "two inputs": (
        UnusableError,
        lambda: two_inputs().save("given.keras"),
        ["given.keras", "[(None, 12, 12, 3), (None, 12, 12, 3)]", "(None, 2)", "(batch, classes)"],
    ),
    "a label for every pixel": (
        UnusableError,
        lambda: keras.Sequential([keras.Input((12, 12, 3)), keras.layers.Conv2D(2, 3)]).save("given.keras"),
        ["given.keras", "(None, 12, 12, 3)", "(None, 10, 10, 2)", "(batch, classes)"],
    ),
    "a fourth channel": (
        UnusableError,
        lambda: of_shape(12, 12, 4).save("given.keras"),
        ["given.keras", "shape (12, 12, 4)", "grey (1 channel) or RGB (3)", "append this model"],
    ),
    "pixels in a row": (
        UnusableError,
        lambda: of_shape(432).save("given.keras"),
        ["given.keras", "shape (432,)", "`keras.layers.Reshape`, append this model"],
    ),
    "inputs of no fixed size": (
        UnusableError,
        lambda: of_any_size().save("given.keras"),
        ["given.keras", "shape (None, None, 3)", "fixed size", "`model.set_weights`"],
    ),
}


def two_inputs():
    inputs = [keras.Input((12, 12, 3)), keras.Input((12, 12, 3))]
    return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(keras.layers.Add()(inputs))))


def of_shape(*shape):
    return keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(2)])


def of_any_size():
    layers = [keras.Input((None, None, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)]
    return keras.Sequential(layers)


def refused(error, *teachers):
    with pytest.raises(error) as refusal:
        take(*teachers)
    assert not TEACHER.parent.exists()
    assert not HISTORY.parent.exists()
    assert not list(Path(".work").glob("*/*/finished.*"))
    return str(refusal.value)


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_teacher_is_refused_and_nothing_is_written(case):
    error, write, named = REFUSED[case]
    write()
    message = refused(error, given("given.keras"))
    assert [words for words in named if words not in message] == [], message


def test_when_one_member_is_refused_nothing_is_written():
    of_another_make(keras.layers.Dense(2, activation="sigmoid")).save("given.keras")
    keras_files.save(build(), Path("sound.keras"))
    message = refused(UnusableError, given("given.keras"), given("sound.keras"))
    assert "given.keras ends in a sigmoid of 2 outputs" in message


def test_an_older_teacher_stays_when_a_new_one_is_refused():
    write_ours()
    take(given("given.keras"))
    older = TEACHER.read_bytes()
    with pytest.raises(MissingError, match=r"no teacher at absent\.keras"):
        take(given("absent.keras"))
    assert TEACHER.read_bytes() == older


WRONG_WEIGHTS = {
    "wider": {"filters": [3]},
    "a hidden layer more": {"hidden_units": [4]},
    "batch normalisation": {"batch_normalization": True},
    "larger images": {"input_shape": (16, 16, 3)},
}


@pytest.mark.parametrize("described", WRONG_WEIGHTS)
def test_weights_of_another_model_are_refused(described):
    build().save_weights("given.weights.h5")
    message = refused(MismatchError, given("given.weights.h5", replace(MODEL, **WRONG_WEIGHTS[described])))
    assert all(words in message for words in ("given.weights.h5", "train_teacher.weights_of", "lacks layers/"))


@pytest.mark.parametrize(
    "saved",
    [{"filters": [2, 2]}, {"hidden_units": [2]}, {"batch_normalization": True}],
    ids=["a convolution", "a hidden layer", "batch normalisation"],
)
def test_weights_of_a_model_with_more_layers_are_refused(saved):
    """Keras loads what the described model takes and leaves out the rest, which is another function."""
    build(**({"pooling": "avg"} | saved)).save_weights("given.weights.h5")
    assert "also has layers/" in refused(MismatchError, given("given.weights.h5", replace(MODEL, pooling="avg")))


def test_weights_for_other_classes_are_refused():
    build(classes=3).save_weights("given.weights.h5")
    message = refused(MismatchError, given("given.weights.h5", MODEL))
    assert "(72, 2)" in message
    assert "(72, 3)" in message


def write_cut_off_weights(file):
    build().save_weights(file)
    cut_off(file, 500)


@pytest.mark.parametrize(
    ("error", "write", "named"),
    [
        (MissingError, lambda file: None, "no teacher at given.weights.h5"),
        (DamagedError, Path.touch, "given.weights.h5 cannot be read"),
        (DamagedError, lambda file: file.write_text("no HDF5 at all"), "given.weights.h5 cannot be read"),
        (DamagedError, write_cut_off_weights, "given.weights.h5 cannot be read"),
    ],
    ids=["missing", "empty", "text", "cut off"],
)
def test_a_file_that_holds_no_weights_is_refused(error, write, named):
    write(Path("given.weights.h5"))
    assert named in refused(error, given("given.weights.h5", MODEL))


@pytest.mark.filterwarnings("ignore:You are saving a model that has not yet been built")
def test_a_model_that_was_never_built_is_refused():
    keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(2)]).save("given.keras")
    assert "given.keras does not classify images: it takes None" in refused(UnusableError, given("given.keras"))


# Together


def test_one_trained_one_file_and_one_of_weights_are_an_ensemble():
    of_another_make().save("given.keras")
    build(5).save_weights("given.weights.h5")
    trained = TeacherToTrain(MODEL, Recipe([Phase(1, 0.01, "all")], batch_size=8, seed=1), Augmentation())
    take(trained)
    shutil.copy(TEACHER, "trained.keras")
    take(given("given.keras"), trained, given("given.weights.h5", MODEL))
    history = pd.read_csv(HISTORY)
    assert list(history.columns[:4]) == ["member", "epoch", "phase", "learning_rate"]
    assert history[["member", "epoch", "phase"]].values.tolist() == [[1, 1, 1]]
    assert HISTORY.read_text().splitlines()[1].startswith("1,1,1,0.01,")

    keras_files.save(build(5), Path("weights.keras"))
    files = ["given.keras", "trained.keras", "weights.keras"]
    logits = compute()
    with h5py.File("logits.h5") as file:
        assert json.loads(file.attrs["ensemble"])["members"] == [
            {"teacher": name, "teacher_sha256": sha256(path)}
            for name, path in zip(["foreign", "cnn", "cnn"], files, strict=True)
        ]
    np.testing.assert_allclose(logits, np.mean([logits_of(path) for path in files], axis=0), rtol=1e-5, atol=1e-6)


def test_an_ensemble_of_files_alone_has_a_header_for_its_curves():
    for seed in (1, 2):
        keras_files.save(build(seed), Path(f"{seed}.keras"))
    take(given("1.keras"), given("2.keras"), average="probabilities")
    assert HISTORY.read_text() == "member,epoch,phase,learning_rate\n"


def elsewhere(file):
    with h5py.File(file, "r+") as weights:
        weights["layers/more"] = h5py.ExternalLink("/dev/zero", "/x")


def in_chunks(file):
    with h5py.File(file, "r+") as weights:
        weights.create_dataset("layers/more", data=np.zeros(8), chunks=True)


@pytest.mark.parametrize(
    ("change", "told"),
    [(elsewhere, "layers/more is a link"), (in_chunks, "layers/more does not lie in one run of the file's bytes")],
)
def test_weights_that_lie_elsewhere_are_refused(change, told):
    build().save_weights("given.weights.h5")
    change("given.weights.h5")
    message = refused(DamagedError, given("given.weights.h5", MODEL))
    assert f"given.weights.h5 cannot be read as a file of weights (HDF5): {told}" in message
