"""Models in other formats are told by name, with how to convert them, in a message of a few lines."""

import errno
import json
import re
import zipfile
from pathlib import Path
from unittest.mock import Mock

import keras
import pytest
from keras import layers

from pipeline.models import keras_files
from pipeline.models.given_teacher import refuse_missing
from pipeline.models.other_formats import BY_SUFFIX, conversion_of, foreign_layers, keras_2_version
from pipeline.runtime.errors import DamagedError

FILE = Path("given.keras")


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def model(*more):
    return keras.Sequential([keras.Input((4, 4, 3)), layers.Flatten(), layers.Dense(2), *more])


def refused():
    with pytest.raises(DamagedError) as refusal:
        keras_files.load(FILE)
    message = str(refusal.value)
    assert message.startswith("given.keras ")
    assert len(message) < 600
    return message


def rewritten(version, change=lambda config: config):
    """The file as another version of Keras would have written it."""
    with zipfile.ZipFile(FILE) as source:
        content = {name: source.read(name) for name in source.namelist()}
    content["metadata.json"] = json.dumps({"keras_version": version}).encode()
    content["config.json"] = change(content["config.json"].decode()).encode()
    with zipfile.ZipFile(FILE, "w") as target:
        for name, data in content.items():
            target.writestr(name, data)


def test_a_file_of_keras_2_is_told_with_its_version():
    inputs = keras.Input((4, 4, 3))
    keras.Model(inputs, layers.Dense(2)(layers.Flatten()(inputs))).save(FILE)
    rewritten("2.13.1", lambda config: config.replace("keras.src.models.functional", "keras.src.engine.functional"))
    assert keras_2_version(FILE) == "2.13.1"
    message = refused()
    for words in ("Keras 2.13.1", f"Keras {keras.__version__} cannot", "tf_keras", "docs/teachers.md"):
        assert words in message


def test_a_file_of_keras_3_is_none_of_keras_2():
    model().save(FILE)
    assert keras_2_version(FILE) is None
    rewritten("3.2.0")
    assert keras_2_version(FILE) is None


class Odd(layers.Layer):
    def call(self, inputs):
        return inputs


@keras.saving.register_keras_serializable("their_package")
class Registered(layers.Layer):
    def call(self, inputs):
        return inputs


@pytest.mark.parametrize(
    ("make", "module", "named"),
    [(Odd, "their_package.layers", "their_package.layers.Odd"), (Odd, None, "Odd"),
     (Registered, None, "their_package.Registered")],
    ids=["of a module", "of a script", "registered"],
)  # fmt: skip
def test_a_layer_of_somebody_elses_is_named_with_its_module(make, module, named):
    model(make()).save(FILE)

    def moved(text):
        config = json.loads(text)
        last = config["config"]["layers"][-1]
        last["module"] = module
        last["registered_name"] = last["registered_name"].replace("Registered", "Unregistered")
        last["class_name"] = last["class_name"].replace("Registered", "Unregistered")
        return json.dumps(config)

    rewritten("3.15.0", moved)
    expected = named.replace("Registered", "Unregistered")
    assert foreign_layers(FILE) == [expected]
    assert f": {expected}. Build" in refused()


def test_a_long_text_of_keras_is_left_out():
    """Keras tells the whole configuration of a large model."""
    model(*[layers.Dense(2) for _ in range(20)]).save(FILE)
    rewritten("3.15.0", lambda config: config.replace('"units": 2', '"units": "two"'))
    with pytest.raises(Exception) as of_keras:  # noqa: PT011
        keras.saving.load_model(FILE)
    assert len(str(of_keras.value)) > 600
    assert "cannot be loaded" in refused()


def test_a_saved_model_of_tensorflow_is_told():
    FILE.mkdir()
    (FILE / "saved_model.pb").touch()
    (FILE / "keras_metadata.pb").touch()
    message = refused()
    assert "SavedModel" in message
    assert "tf_keras" in message
    with pytest.raises(DamagedError, match=re.escape(message)):
        refuse_missing(FILE)


def test_one_that_was_exported_has_no_layers_to_convert():
    model().export("exported", verbose=False)
    Path("exported").rename(FILE)
    message = refused()
    assert "model.save('NAME.keras')" in message
    assert "tf_keras" not in message


def test_a_saved_model_of_before_tensorflow_2_5_is_keras_2_too():
    FILE.mkdir()
    (FILE / "saved_model.pb").write_bytes(b"\n\x0f_tf_keras_model\x12")
    assert "tf_keras" in refused()


def test_a_model_of_pytorch_under_another_name_is_told():
    with zipfile.ZipFile(FILE, "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    message = refused()
    assert "PyTorch" in message
    assert "ONNX" in message
    assert "`layer.set_weights`" in message


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_the_conversion_of_h5_that_is_shown_works():
    """The lines of the message, with the file's own name."""
    model().save("NAME.h5")
    line = conversion_of("NAME.h5").split("`")[1]
    exec(line, {})  # noqa: S102
    assert keras_files.load(Path("NAME.keras")).output_shape == (None, 2)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_the_conversion_that_teachers_md_shows_works():
    text = (Path(__file__).parents[1] / "docs/teachers.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    model().save("teacher.h5")
    (shown,) = [block for block in blocks if "# illustration" not in block]
    exec(shown, {})  # noqa: S102
    assert keras_files.load(Path("teacher.keras")).output_shape == (None, 2)
    assert all(compile(block, "docs/teachers.md", "exec") for block in blocks)


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("teacher.h5", "HDF5"),
        ("TEACHER.HDF5", "HDF5"),
        ("models/teacher", "SavedModel"),
        ("saved_model.pb", "SavedModel"),
        ("teacher.tflite", "LiteRT"),
        ("student.onnx", "A teacher can be one"),
        ("teacher.pt", "PyTorch"),
        ("model.pt", "a table of logits"),
        ("TEACHER.KERAS", "Rename it to end in .keras"),
        ("teacher.Weights.h5", "Rename it to end in .weights.h5"),
        ("teacher.pt2", "to ONNX"),
        ("teacher.pth", "PyTorch"),
        ("teacher.zip", "docs/teachers.md"),
    ],
)
def test_each_ending_is_told(file, named):
    assert named in conversion_of(file)


def test_what_is_said_of_an_ending_is_short():
    assert max(len(text) for text in BY_SUFFIX.values()) < 350


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES])
def test_a_failing_disk_is_no_damaged_archive(monkeypatch, number):
    """What it refuses is told as such, and the file is not said to be another one than it is."""
    monkeypatch.setattr(zipfile, "ZipFile", Mock(side_effect=OSError(number, "refused", str(FILE))))
    for read in (foreign_layers, keras_2_version):
        with pytest.raises(OSError, match="refused"):
            read(FILE)


def test_a_missing_file_and_a_folder_are_no_archives(tmp_path):
    for path in (tmp_path, tmp_path / "missing.keras", tmp_path / "missing" / "model.keras"):
        assert (foreign_layers(path), keras_2_version(path)) == ([], None)
