"""Exported files are read and run: what they say of themselves, what they answer, and how damage shows."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from exported_files import LOGITS, METADATA, PIXELS, write_litert, write_onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.deployed import files, seal
from pipeline.deployed.answers import as_logits
from pipeline.deployed.files import answer_one_image, open_exported, refuse_harmful
from pipeline.deployed.litert import LiteRtFile
from pipeline.deployed.metadata import NO_DIGEST, from_json
from pipeline.runtime.errors import DamagedError, MismatchError, MissingError, PipelineError, UnusableError
from pipeline.runtime.plain_names import is_plain_name

FILE = Path("student.tflite")


@pytest.fixture(scope="module")
def litert(tmp_path_factory) -> Path:
    return write_litert(tmp_path_factory.mktemp("exported") / "student.tflite")


def test_answers_are_those_by_pencil(litert):
    exported = open_exported(litert, threads=1)
    for images in (3, 1, 2):
        assert exported.logits(PIXELS[:images]) == pytest.approx(LOGITS[:images], abs=1e-5)


class Interpreter:
    """In the place of LiteRT's: answers with whole numbers, of which each step is 1/4, and -128 is 0."""

    made: ClassVar[list[int]] = []

    def __init__(self, model_content, num_threads):
        self.made.append(num_threads)

    def get_input_details(self):
        return [{"index": 0, "shape": np.array([1, 2, 2, 1]), "dtype": np.uint8}]

    def get_output_details(self):
        return [{"index": 1, "shape": np.array([1, 3]), "dtype": np.int8, "quantization": (0.25, -128)}]

    def get_tensor(self, index):
        return np.array([[-128, -127, -125]], np.int8)

    def __getattr__(self, name):
        return lambda *_: None


def test_whole_numbers_become_probabilities(monkeypatch):
    """0, 1/4 and 3/4; the first is taken for half a step, the most that was rounded to 0."""
    monkeypatch.setattr("ai_edge_litert.interpreter.Interpreter", Interpreter)
    exported = LiteRtFile(b"", replace(METADATA, output="probabilities"), threads=1)
    assert exported.logits(PIXELS[:1])[0] == pytest.approx(np.log([1 / 8, 1 / 4, 3 / 4]), abs=1e-6)


def test_threads_are_as_many_as_asked_for_or_the_cores(monkeypatch, tmp_path):
    monkeypatch.setattr("ai_edge_litert.interpreter.Interpreter", Interpreter)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    monkeypatch.setattr("pipeline.runtime.cores.CGROUP", tmp_path)  # this machine may be a container
    Interpreter.made.clear()
    for threads in (2, None):
        LiteRtFile(b"", METADATA, threads)
    assert Interpreter.made == [2, 3]


def test_a_graph_of_other_images_than_it_says_is_refused(tmp_path):
    """The digest is right: someone made such a file."""
    other = {**METADATA.preprocessing, "input_shape": [3, 2, 1]}
    file = write_litert(tmp_path / "student.tflite", preprocessing=other)
    with pytest.raises(DamagedError, match=r"takes uint8 of shape \(2, 2, 1\), and says .* \(3, 2, 1\)"):
        open_exported(file)


def test_a_file_of_two_digests_is_refused():
    """Else the second could change together with the first."""
    text = METADATA.as_json().encode()
    content = text + text.replace(NO_DIGEST.encode(), b"1" * 64)
    sealed = content.replace(NO_DIGEST.encode(), hashlib.sha256(content).hexdigest().encode())
    with pytest.raises(DamagedError, match="bytes are not those that were written"):
        seal.unsealed(sealed, FILE)


@pytest.mark.parametrize("kept", ["digest", "first key"])
def test_a_digest_without_its_object_is_refused(kept):
    """The bytes are those of their digest, which somebody has computed anew."""
    text = METADATA.as_json()
    text = text[text.index('"digest"') :] if kept == "digest" else text[: text.index('"version"')]
    with pytest.raises(DamagedError, match="bytes are not those that were written"):
        seal.unsealed(seal.sealed(text.encode()), FILE)


def test_metadata_are_read_from_the_file(litert):
    read = open_exported(litert).metadata
    assert replace(read, digest=NO_DIGEST) == METADATA
    assert read.input_shape == (2, 2, 1)


def test_the_entry_of_the_flatbuffer_has_its_name(litert):
    """As others read it, with FlatBuffers."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(litert.read_bytes())
    entries = {
        model.Metadata(number).Name(): model.Metadata(number).Buffer() for number in range(model.MetadataLength())
    }
    text = model.Buffers(entries[b"softlabel"]).DataAsNumpy().tobytes()
    assert json.loads(text)["class_names"] == list(METADATA.class_names)


def test_probabilities_become_their_logarithms(tmp_path):
    exported = open_exported(write_litert(tmp_path / "student.tflite", output="probabilities"))
    expected = LOGITS - np.log(np.exp(LOGITS).sum(axis=1, keepdims=True))
    assert exported.logits(PIXELS) == pytest.approx(expected, abs=1e-5)


def test_probabilities_of_zero_have_a_finite_logarithm():
    logits = as_logits(np.array([[0, 1]], np.float32), "probabilities", 1 / 512)
    assert logits.tolist() == [[pytest.approx(-9 * np.log(2)), 0.0]]


@pytest.mark.parametrize("bad", [PIXELS.astype(np.float32), PIXELS[0], PIXELS[:, :1], PIXELS[:0]])
def test_other_pixels_are_refused(litert, bad):
    with pytest.raises(ValueError, match="expected uint8 pixels of shape"):
        open_exported(litert).logits(bad)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_a_changed_byte_anywhere_is_refused(litert, tmp_path, data):
    content = bytearray(litert.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(PipelineError):
        open_exported(tmp_path / FILE)


@pytest.mark.parametrize("change", [lambda whole: whole[:-1], lambda whole: whole + b"\0", lambda whole: whole * 2])
def test_another_length_is_refused(litert, tmp_path, change):
    (tmp_path / FILE).write_bytes(change(litert.read_bytes()))
    with pytest.raises(DamagedError, match="bytes are not those that were written"):
        open_exported(tmp_path / FILE)


NAMES = {
    "student.onnx": (DamagedError, "content is that of .tflite"),
    "student.h5": (UnusableError, "ends in .h5; expected a file that ends in .tflite or .onnx"),
    "student": (UnusableError, "ends in nothing"),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_renamed_file_is_refused(litert, tmp_path, name):
    error, message = NAMES[name]
    (tmp_path / name).write_bytes(litert.read_bytes())
    with pytest.raises(error, match=message):
        open_exported(tmp_path / name)


def test_what_is_no_exported_file_is_refused(tmp_path):
    with pytest.raises(MissingError, match="there is no file"):
        open_exported(tmp_path / FILE)
    (tmp_path / FILE).write_bytes(b"\x1c\0\0\0TFL3 of another program")
    with pytest.raises(UnusableError, match="no file of the stage export"):
        open_exported(tmp_path / FILE)
    (tmp_path / FILE).write_bytes(b"PK of Keras")
    with pytest.raises(DamagedError, match="content is that of none"):
        open_exported(tmp_path / FILE)


def test_what_the_runtime_refuses_is_one_message(tmp_path):
    """A file with a right digest that LiteRT cannot read."""
    text = METADATA.as_json().encode()
    (tmp_path / FILE).write_bytes(seal.sealed(b"\x08\0\0\0TFL3" + bytes(64) + text))
    with pytest.raises(DamagedError, match="LiteRT cannot run the file"):
        open_exported(tmp_path / FILE)


@pytest.mark.parametrize("error", [RuntimeError, IndexError, ValueError, OverflowError])
@pytest.mark.parametrize("call", ["invoke", "get_tensor", "allocate_tensors"])
def test_what_fails_when_it_runs_is_one_message(monkeypatch, call, error):
    def fail(*_):
        raise error("confused\x1b[2J")

    monkeypatch.setattr("ai_edge_litert.interpreter.Interpreter", Interpreter)
    exported = LiteRtFile(b"", METADATA, threads=1)
    monkeypatch.setattr(Interpreter, call, fail, raising=False)
    with pytest.raises(DamagedError, match=r"LiteRT cannot run the file: confused \[2J\. Export"):
        exported.logits(PIXELS)


IMAGES = ("x", 2, ("images", 2, 2, 1))
GIVEN = ("y", 1, ("images", 3))
"""1 is float32, 2 is uint8 and 7 is int64, by ONNX's numbers."""


def graph(path, *more, inputs=(IMAGES,), outputs=(GIVEN,), **constants):
    """The first three pixels, and further nodes; the last one gives y."""
    from onnx import helper

    flat = [helper.make_node("Cast", ["x"], ["f"], to=1), helper.make_node("Flatten", ["f"], ["flat"])]
    cut = helper.make_node("Slice", ["flat", "zero", "three", "one"], ["z"])
    last = more or [helper.make_node("Identity", ["z"], ["y"])]
    numbers = {"zero": np.array([0]), "one": np.array([1]), "three": np.array([3])}
    return write_onnx(path, [*flat, cut, *last], inputs, outputs, **numbers, **constants)


def test_a_graph_that_fails_says_so_in_one_message(tmp_path, capfd, monkeypatch):
    """One that has passed the trial, and fails with other images."""
    from onnx import helper

    monkeypatch.setattr("pipeline.deployed.files.refuse_harmful", lambda *_: None)
    name = "\x1b]0;PWNED\a"
    fails = helper.make_node("Reshape", ["z", "shape"], ["y"], name=name)
    exported = open_exported(graph(tmp_path / "student.onnx", fails, shape=np.array([7, 3])))
    with pytest.raises(DamagedError, match=r"cannot run the file: .*cannot be reshaped") as refused:
        exported.logits(PIXELS)
    assert str(refused.value).isprintable()
    assert not any(technical in str(refused.value) for technical in ("ONNXRuntimeError", "onnxruntime_src"))
    assert capfd.readouterr() == ("", "")


def test_weights_outside_of_a_graph_are_never_read(tmp_path, monkeypatch):
    """ONNX Runtime would look for them in the current folder, where other files lie."""
    import onnx
    from onnx import helper

    monkeypatch.chdir(tmp_path)
    Path("data.bin").write_bytes(np.ones(3, np.float32).tobytes())
    file = graph(Path("student.onnx"), helper.make_node("Max", ["z", "w"], ["y"]), w=np.zeros(3, np.float32))
    assert open_exported(file).logits(PIXELS).min() >= 0
    model = onnx.load_from_string(file.read_bytes())
    (weights,) = (tensor for tensor in model.graph.initializer if tensor.name == "w")
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="data.bin")
    model.metadata_props[0].value = METADATA.as_json()
    file.write_bytes(seal.sealed(model.SerializeToString()))
    with pytest.raises(DamagedError, match="External data path"):
        open_exported(file)


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ({"inputs": (IMAGES, ("w", 1, (1,)))}, "2 inputs and 1 outputs"),
        ({"outputs": (GIVEN, ("z", 1, ("images", 3)))}, "1 inputs and 2 outputs"),
        ({"inputs": (("x", 1, IMAGES[2]),)}, "takes float32 of shape"),
        ({"outputs": (("f", 1, IMAGES[2]),)}, r"gives float32 of shape .*; expected \(images, classes\)"),
        ({"outputs": (("three", 7, (1,)),)}, "gives int64"),
    ],
)
def test_a_graph_of_other_ends_is_refused(tmp_path, ends, message):
    with pytest.raises(DamagedError, match=message):
        open_exported(graph(tmp_path / "student.onnx", **ends))


def test_a_graph_without_an_input_is_refused(tmp_path):
    from onnx import helper

    zeros = helper.make_node("ConstantOfShape", ["shape"], ["y"])
    file = write_onnx(tmp_path / "student.onnx", [zeros], [], [GIVEN], shape=np.array([1, 3]))
    with pytest.raises(DamagedError, match="0 inputs and 1 outputs"):
        open_exported(file)


def endless(path):
    """A loop of 2^62 rounds."""
    from onnx import helper

    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go_on"], ["still"]), helper.make_node("Neg", ["before"], ["after"])],
        "body",
        [value("round", 7, ()), value("go_on", 9, ()), value("before", 1, None)],
        [value("still", 9, ()), value("after", 1, None)],
    )
    loop = helper.make_node("Loop", ["rounds", "yes", "z"], ["y"], body=body)
    return graph(path, loop, rounds=np.int64(2**62), yes=np.bool_(True))


def vast(path):
    """64 GiB of what the image gives."""
    from onnx import helper

    nodes = [
        helper.make_node("ReduceMax", ["z"], ["largest"], keepdims=0),
        helper.make_node("Expand", ["largest", "shape"], ["many"]),
        helper.make_node("ReduceMax", ["many"], ["again"], keepdims=0),
        helper.make_node("Add", ["z", "again"], ["y"]),
    ]
    return graph(path, *nodes, shape=np.array([2**17, 2**17]))


@pytest.mark.slow
@pytest.mark.parametrize(("made", "message"), [(endless, "not read within 2 s"), (vast, "GiB of memory")])
def test_a_graph_without_end_is_refused(tmp_path, monkeypatch, made, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pipeline.runtime.tried_files.SECONDS", 2)
    file = made(tmp_path / "student.onnx")
    with pytest.raises(UnusableError, match=message):
        refuse_harmful(file, file.read_bytes())


@pytest.mark.slow
def test_a_sound_file_may_be_opened_here(litert, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refuse_harmful(litert, litert.read_bytes())
    refuse_harmful(graph(tmp_path / "student.onnx"), b"")


@pytest.mark.parametrize(("is_project", "times"), [(True, 1), (False, 2)])
def test_a_file_is_tried_once_in_a_project(litert, tmp_path, monkeypatch, is_project, times):
    """Elsewhere nothing is written, and it is tried in each call."""
    tried = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr("pipeline.runtime.tried_files.run_separately", lambda *given, **_: tried.append(given))
    monkeypatch.setattr(files, "refuse_harmful", refuse_harmful)
    if is_project:
        Path(".work").mkdir()
    for _ in range(2):
        open_exported(litert)
    assert tried == [(answer_one_image, litert)] * times
    assert Path(".work").exists() == is_project


TEXTS = st.text(min_size=1)
SOME = st.builds(
    replace,
    st.just(METADATA),
    student=TEXTS,
    class_names=st.lists(TEXTS.filter(is_plain_name), min_size=2, unique=True).map(tuple),
    temperature=st.floats(1e-6, 1e6),
    digest=st.from_regex("[0-9a-f]{64}", fullmatch=True),
)


@given(SOME)
def test_metadata_survive_their_json(metadata):
    assert from_json(metadata.as_json(), FILE) == metadata


@given(SOME, st.binary(), st.binary())
def test_metadata_are_found_among_other_bytes(metadata, before, behind):
    text = replace(metadata, digest=NO_DIGEST).as_json().encode("ascii")
    found = seal.unsealed(seal.sealed(before + text + behind), FILE)
    assert replace(found, digest=metadata.digest) == metadata


def changed(**values: object) -> str:
    return json.dumps({**json.loads(METADATA.as_json()), **values})


FAULTS = {
    "no JSON": ("{", DamagedError, "cannot be read"),
    "no object": ("[]", DamagedError, "cannot be read"),
    "a later version": (changed(version=2), MismatchError, "version 2; this program reads"),
    "an unknown key": (changed(more=1), DamagedError, "other keys"),
    "no size": (changed(preprocessing={}), DamagedError, "other keys"),
    "two channels": (changed(preprocessing={"input_shape": [2, 2, 2]}), DamagedError, "input_shape"),
    "one class": (changed(class_names=["a"]), DamagedError, "1 class"),
    "numbers for classes": (changed(class_names=[1, 2]), DamagedError, "no texts"),
    "a formula for a class": (changed(class_names=["=1+1", "b"]), DamagedError, "names no data set may have"),
    "a terminal's escape": (changed(class_names=["\x1b[2J", "b"]), DamagedError, "names no data set may have"),
    "one text for classes": (changed(class_names="ab"), DamagedError, "other keys"),
    "no student": (changed(student=None), DamagedError, "no texts"),
    "a class twice": (changed(class_names=["a", "a"]), DamagedError, "2 class"),
    "no temperature": (changed(temperature=0), DamagedError, "temperature 0"),
    "another output": (changed(output="scores"), DamagedError, "output 'scores'"),
    "another precision": (changed(precision="int4"), DamagedError, "precision 'int4'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_metadata_that_cannot_be_true_are_refused(fault):
    text, error, message = FAULTS[fault]
    with pytest.raises(error, match=message):
        from_json(text, FILE)


@pytest.fixture
def folder(tmp_path) -> Path:
    for name, content in {"saved_model.pb": b"graph", "variables/data": b"weights"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / seal.IN_FOLDER).parent.mkdir()
    (tmp_path / seal.IN_FOLDER).write_text(METADATA.as_json(), encoding="ascii")
    seal.seal_folder(tmp_path)
    return tmp_path


def test_a_folder_is_sealed(folder):
    found = seal.unsealed_folder(folder)
    assert found.digest != NO_DIGEST
    assert replace(found, digest=NO_DIGEST) == METADATA


DAMAGE = {
    "a file changed": lambda folder: (folder / "variables/data").write_bytes(b"Weights"),
    "a file more": lambda folder: (folder / "more").touch(),
    "a file less": lambda folder: (folder / "saved_model.pb").unlink(),
    "a file renamed": lambda folder: (folder / "variables/data").rename(folder / "variables/date"),
    "other classes": lambda folder: (folder / seal.IN_FOLDER).write_text(
        (folder / seal.IN_FOLDER).read_text().replace("cat", "cow")
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_changed_folder_is_refused(folder, damage):
    DAMAGE[damage](folder)
    with pytest.raises(DamagedError, match="bytes are not those that were written"):
        seal.unsealed_folder(folder)


def test_a_folder_that_says_nothing_is_refused(tmp_path):
    with pytest.raises(MissingError, match=r"there is no .*softlabel\.json"):
        seal.unsealed_folder(tmp_path)


def test_nothing_is_sealed_twice():
    once = seal.sealed(METADATA.as_json().encode())
    with pytest.raises(ValueError, match="sealed already"):
        seal.sealed(once)
