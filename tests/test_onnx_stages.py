"""A teacher in ONNX in the stages: it is taken once, and everything after it works as with any other."""

import json
import shutil
from pathlib import Path

import h5py
import keras
import numpy as np
import pandas as pd
import pytest
from conftest import MODEL, mhist_in, write_data_set
from onnx_graphs import FILE, classifier, logits_by_hand, node, with_external_data, write

from pipeline.evaluation.description import read_description
from pipeline.images.views import UNTOUCHED
from pipeline.models import keras_files
from pipeline.models.teacher_file import GivenTeacher
from pipeline.runtime.errors import ParameterError
from pipeline.soft_labels.logit_storage import Dense
from pipeline.stages import describe_teacher, precompute, split, train_teacher

INDEX, TEACHER, HISTORY = Path("data/index.csv"), Path("models/teacher.keras"), Path("history/teacher.csv")
IMAGE = (12, 12, 3)
BRIGHT = np.tile(np.array([[-1.0, 1.0]], np.float32) / 432, (432, 1))
"""SSA images are brighter than HP images, by more than 60 of 255 on average; 125 lies between."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A split data set, which no test changes."""
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_data_set(Path("raw"))
        split.run(layout="mhist", settings=mhist_in(Path("raw")), split_folder=Path("data/split"), index=INDEX)
    return folder


@pytest.fixture(autouse=True)
def _project(data, tmp_path, monkeypatch):
    (tmp_path / "data").symlink_to(data / "data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)


def bright(*end, kernel=BRIGHT, **options):
    return classifier(*end, kernel=kernel / 16, bias=np.array([8, -8], np.float32), shape=IMAGE, **options)


def take(*teachers, average="logits"):
    train_teacher.run(index=INDEX, teachers=teachers, average=average, output=TEACHER, history=HISTORY)


def compute(file="logits.h5", precision="float32"):
    precompute.run(
        index=INDEX, teacher=TEACHER, views=UNTOUCHED, stored_as=Dense("float32"), batch_size=8, precision=precision,
        previous=[], output=Path(file),
    )  # fmt: skip
    with h5py.File(file) as opened:
        return {part: opened[f"{part}/logits"][0] for part in ("train", "val", "test")}


def pixels_of(part):
    images = pd.read_csv(INDEX)
    paths = images[images["split"] == part].sort_values("id")["path"]
    return np.stack([keras.utils.img_to_array(keras.utils.load_img(path)) for path in paths])


@pytest.mark.slow
def test_from_the_file_to_the_logits_twice_the_same_bytes(capsys):
    beside = with_external_data(bright(node("Softmax", ["z"], ["y"], axis=-1), batch=3))
    take(GivenTeacher(str(FILE)))
    said = capsys.readouterr().out
    assert "given.onnx is taken: nothing is trained; ONNX Runtime computes it" in said
    assert "(NCHW, 3 image(s) at a time); the softmax at its end is switched off" in said
    teacher = TEACHER.read_bytes()
    FILE.unlink()
    beside.unlink()
    found = compute()
    for part, logits in found.items():
        expected = logits_by_hand(pixels_of(part), BRIGHT / 16, np.array([8, -8]))
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)
    first = Path("logits.h5").read_bytes()
    shutil.rmtree(".work")
    with_external_data(bright(node("Softmax", ["z"], ["y"], axis=-1), batch=3))
    take(GivenTeacher(str(FILE)))
    compute("again.h5")
    assert TEACHER.read_bytes() == teacher
    assert Path("again.h5").read_bytes() == first


def test_changed_external_data_are_another_teacher():
    beside = with_external_data(bright())
    take(GivenTeacher(str(FILE)))
    before = keras_files.read_record(TEACHER)["given"]["sha256"]
    content = np.frombuffer(beside.read_bytes()[64:], np.float32)
    beside.write_bytes(bytes(64) + (2 * content).tobytes())
    take(GivenTeacher(str(FILE)))
    assert keras_files.read_record(TEACHER)["given"]["sha256"] != before
    logits = np.asarray(keras_files.load(TEACHER)(pixels_of("val")))
    np.testing.assert_allclose(
        logits, logits_by_hand(pixels_of("val"), BRIGHT / 8, np.array([8, -8])), rtol=0, atol=1e-4
    )


@pytest.mark.slow
def test_an_ensemble_mixes_graphs_and_networks_of_keras():
    """Two graphs that differ in their external data alone, and a network."""
    files = []
    for name, times in (("a", 1), ("b", 3)):
        Path(name).mkdir()
        files.append(write(bright(), f"{name}/given.onnx"))
        with_external_data(bright(kernel=times * BRIGHT), "data.bin", files[-1])
    assert files[0].read_bytes() == files[1].read_bytes()
    network = MODEL.build(classes=2, seed=1)
    network.save("network.keras")
    take(*(GivenTeacher(str(file)) for file in (*files, "network.keras")))
    pixels = pixels_of("test")
    graphs = [logits_by_hand(pixels, times * BRIGHT / 16, np.array([8, -8])) for times in (1, 3)]
    expected = np.mean([*graphs, np.asarray(network(pixels))], axis=0)
    np.testing.assert_allclose(np.asarray(keras_files.load(TEACHER)(pixels)), expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(compute()["test"], expected, rtol=0, atol=1e-4)
    with h5py.File("logits.h5") as file:
        members = json.loads(file.attrs["ensemble"])["members"]
    assert [member["teacher"] for member in members] == ["onnx", "onnx", "cnn"]
    assert len({member["teacher_sha256"] for member in members}) == 3


def test_what_a_graph_costs_is_known_in_part():
    """864 weights and two biases; which of them were trained, and the operations, are not known."""
    write(bright())
    take(GivenTeacher(str(FILE)))
    describe_teacher.run(index=INDEX, teacher=TEACHER, output=Path("teacher.json"))
    description = read_description(Path("teacher.json"))
    assert description.cost == {"parameters": {"total": 866}, "file_bytes": TEACHER.stat().st_size}
    assert description.architecture is None


def test_mixed_precision_of_a_graph_writes_nothing():
    write(bright())
    take(GivenTeacher(str(FILE)))
    with pytest.raises(ParameterError, match=r"precompute\.precision is mixed_float16.*ONNX graph.*float32"):
        compute(precision="mixed_float16")
    assert not Path("logits.h5").exists()
