"""Teachers in ONNX: their logits, their files, and what is refused."""

import hashlib
import shutil
import sys
import zipfile
from contextlib import suppress
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import MODEL
from onnx import TensorProto, helper
from onnx_graphs import (
    FILE,
    KERNEL,
    SHAPE,
    classifier,
    logits_by_hand,
    node,
    point_to,
    tensor,
    with_external_data,
    write,
)

from pipeline.inference.forward import Forward
from pipeline.inference.several_devices import OnDevice
from pipeline.models import keras_files, onnx_layer
from pipeline.models.given_teacher import completed, digest_of
from pipeline.models.onnx_files import read_graph
from pipeline.models.parts import Standardization
from pipeline.models.teacher_file import GivenTeacher
from pipeline.runtime.errors import (
    DamagedError,
    MismatchError,
    MissingError,
    ParameterError,
    PipelineError,
    UnusableError,
)

INDEX, TEACHER, HISTORY = Path("data/index.csv"), Path("models/teacher.keras"), Path("history/teacher.csv")
CLASSES = ["HP", "SSA"]
PIXELS = np.random.default_rng(0).uniform(0, 255, (5, *SHAPE)).astype(np.float32)


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)


def complete(class_names=CLASSES, **stated):
    return completed(GivenTeacher(str(FILE), **stated), class_names)


def logits(pixels=PIXELS, **stated):
    return np.asarray(complete(**stated).model(pixels, training=False))


def saved(file="saved.keras", **stated):
    given = complete(**stated)
    keras_files.save(given.model, Path(file), given.record)
    return Path(file)


# Logits


def value(name, kind=TensorProto.FLOAT, shape=("batch", 2)):
    return helper.make_tensor_value_info(name, kind, shape)


def grey(**options):
    return classifier(shape=(4, 5, 1), kernel=KERNEL[:20], **options)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("batch", ["batch", None, 1, 3, 8])
def test_a_graph_of_any_layout_and_batch_gives_its_logits(layout, batch):
    """Five images: a batch of 3 is filled up once, a batch of 8 at once."""
    write(classifier(layout=layout, batch=batch))
    np.testing.assert_allclose(logits(), logits_by_hand(PIXELS), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("dtype", "atol"), [("float16", 0.02), ("float64", 1e-4), ("uint8", 1e-4)]
)  # a float16 has 11 bits
def test_pixels_become_what_the_graph_takes(dtype, atol):
    write(classifier(dtype=dtype, layout="NHWC"))
    found = logits()
    assert found.dtype == np.float32
    np.testing.assert_allclose(
        found, logits_by_hand(np.rint(PIXELS) if dtype == "uint8" else PIXELS), rtol=0, atol=atol
    )


def test_whole_numbers_stay_between_0_and_255():
    write(classifier(dtype="uint8"))
    found = logits(np.stack([np.full(SHAPE, -3.0), np.full(SHAPE, 256.0)]).astype(np.float32))
    expected = logits_by_hand(np.stack([np.zeros(SHAPE), np.full(SHAPE, 255.0)]))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_grey_images_have_one_channel(layout):
    write(grey(layout=layout))
    expected = logits_by_hand(PIXELS[..., :1], KERNEL[:20])
    np.testing.assert_allclose(logits(PIXELS[..., :1]), expected, rtol=0, atol=1e-4)


def test_what_is_stated_is_put_around_the_graph():
    write(classifier())
    preprocessing = Standardization([0.4, 0.5, 0.6], [0.2, 0.25, 0.3])
    given = complete(preprocessing=preprocessing, classes=["SSA", "HP"], accuracy=0.9)
    scaled = (PIXELS / 255 - np.array([0.4, 0.5, 0.6])) / np.array([0.2, 0.25, 0.3])
    expected = logits_by_hand(scaled)[:, ::-1]
    np.testing.assert_allclose(np.asarray(given.model(PIXELS)), expected, rtol=0, atol=1e-5)
    assert given.record == {
        "class_names": CLASSES,
        "given": {
            "sha256": hashlib.sha256(FILE.read_bytes()).hexdigest(),
            "accuracy": 0.9,
            "preprocessing": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]},
            "classes": ["SSA", "HP"],
            "last_activation": "linear",
        },
    }


OPEN = ("batch", "channels", "height", "width")
FILTERS = np.random.default_rng(2).normal(0, 0.1, (2, 3, 2, 2)).astype(np.float32)


def convolution():
    """A graph of images of any size: the mean of two filters' answers."""
    nodes = [node("Conv", ["x", "filters"], ["maps"]), node("ReduceMean", ["maps"], ["y"], axes=[2, 3], keepdims=0)]
    ends = [value("x", shape=OPEN)], [value("y")]
    graph = helper.make_graph(nodes, "open", *ends, [tensor("filters", FILTERS)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_a_size_that_a_graph_leaves_open_is_stated():
    """As graphs from Hugging Face's Optimum leave it; the layout shows in what the graph can compute."""
    write(convolution())
    with pytest.raises(
        ParameterError, match=r"\(batch, channels, height, width\), .* open.*train_teacher\.input_shape"
    ):
        complete()
    assert complete(input_shape=SHAPE).model.input_shape == (None, *SHAPE)
    by_hand = np.zeros((5, 2))
    for row in range(3):
        for column in range(4):
            window = PIXELS[:, row : row + 2, column : column + 2].astype(np.float64)
            by_hand += np.einsum("bhwc,ochw->bo", window, FILTERS) / 12
    np.testing.assert_allclose(logits(input_shape=SHAPE), by_hand, rtol=0, atol=1e-4)


def test_an_open_size_that_fits_both_layouts_is_refused():
    write(classifier(taken=OPEN))
    with pytest.raises(UnusableError, match="as NCHW and as NHWC alike"):
        complete(input_shape=SHAPE)


def test_a_stated_size_decides_between_two_layouts():
    """Three rows of RGB pixels, each three wide, or (3, 5, 3)."""
    write(classifier(taken=("batch", 3, 5, 3), shape=(5, 3, 3), kernel=KERNEL[:45]))
    with pytest.raises(ParameterError, match=r"\(batch, 3, 5, 3\), and two .* channels.*train_teacher\.input_shape"):
        complete()
    assert complete(input_shape=(5, 3, 3)).notes[0].endswith("(NCHW)")
    assert complete(input_shape=(3, 5, 3)).notes[0].endswith("(NHWC)")


# Ends


def softmax(values):
    exponentials = np.exp(values - values.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


SWITCHED_OFF = {
    "softmax": [node("Softmax", ["z"], ["y"], axis=-1)],
    "cast": [node("Softmax", ["z"], ["p"], axis=1), node("Cast", ["p"], ["y"], to=TensorProto.FLOAT)],
    "reshaped": [node("Softmax", ["z"], ["p"]), node("Identity", ["p"], ["q"]), node("Flatten", ["q"], ["y"])],
}


@pytest.mark.parametrize("end", SWITCHED_OFF)
def test_a_softmax_is_switched_off_in_the_copy(end):
    write(classifier(*SWITCHED_OFF[end]))
    before = FILE.read_bytes()
    given = complete()
    assert "the softmax at its end is switched off in the copy" in given.notes
    assert given.record["given"]["last_activation"] == "softmax"
    np.testing.assert_allclose(np.asarray(given.model(PIXELS)), logits_by_hand(PIXELS), rtol=0, atol=1e-4)
    assert FILE.read_bytes() == before


def one_output(*end):
    return classifier(*end, kernel=KERNEL[:, :1], bias=np.array([0.5], np.float32))


@pytest.mark.parametrize("end", [(), [node("Sigmoid", ["z"], ["y"])]], ids=["a logit", "sigmoid"])
def test_one_output_of_two_classes_becomes_two_logits(end):
    write(one_output(*end))
    z = logits_by_hand(PIXELS, KERNEL[:, :1], np.array([0.5]))
    np.testing.assert_allclose(logits(), np.concatenate([0 * z, z], axis=1), rtol=0, atol=1e-4)


CONSTANTS = [
    tensor("two", np.float32(2)),
    tensor("minus", np.float32(-1)),
    tensor("many", np.array([1, 2], np.float32)),
    tensor("unit", np.eye(2, dtype=np.float32)),
    tensor("ones", np.ones(2, np.float32)),
    tensor("zeros", np.zeros(2, np.float32)),
    tensor("last", np.array([-1])),
]
LOGITS = {
    "log_softmax": ([node("LogSoftmax", ["z"], ["y"], axis=-1)], lambda z: np.log(softmax(z))),
    "a temperature": ([node("Div", ["z", "two"], ["y"])], lambda z: z / 2),
    "a factor": ([node("Mul", ["many", "z"], ["y"])], lambda z: z * [1, 2]),
    "a factor in a node": (
        [node("Constant", [], ["c"], value_float=3.0), node("Mul", ["z", "c"], ["y"])],
        lambda z: 3 * z,
    ),
    "a shift": ([node("Sub", ["z", "two"], ["y"])], lambda z: z - 2),
    "a shift of each row": (
        [node("ReduceMax", ["z"], ["m"], axes=[-1]), node("Sub", ["z", "m"], ["y"])],
        lambda z: z - z.max(axis=1, keepdims=True),
    ),
    "a shift of each row by their sum": (
        [node("ReduceSum", ["z", "last"], ["s"]), node("Sub", ["z", "s"], ["y"])],
        lambda z: z - z.sum(axis=1, keepdims=True),
    ),
    "an addend in a node": (
        [node("Constant", [], ["c"], value_float=3.0), node("Add", ["c", "z"], ["y"])],
        lambda z: z + 3,
    ),
    "the larger of two": ([node("Max", ["z", "product"], ["y"])], lambda z: z - [0, -0.25]),
    "normalised": (
        [node("BatchNormalization", ["z", "many", "ones", "zeros", "ones"], ["y"], epsilon=0.0)],
        lambda z: z * [1, 2] + 1,
    ),
    "a mean": ([node("Add", ["z", "product"], ["s"]), node("Div", ["s", "two"], ["y"])], lambda z: z - [0.25, -0.125]),
    "a later layer": (
        [node("Relu", ["z"], ["r"]), node("Gemm", ["r", "unit", "many"], ["y"])],
        lambda z: np.maximum(z, 0) + np.array([1, 2]),
    ),
}


@pytest.mark.parametrize("end", LOGITS)
def test_an_end_that_gives_logits_is_taken(end):
    nodes, by_hand = LOGITS[end]
    write(classifier(*nodes, constants=CONSTANTS))
    np.testing.assert_allclose(logits(), by_hand(logits_by_hand(PIXELS)), rtol=0, atol=1e-4)


def test_a_graph_that_computes_nothing_gives_its_pixels():
    """Two pixels of a grey image."""
    graph = helper.make_graph(
        [node("Flatten", ["x"], ["y"])], "bare", [value("x", shape=("batch", 1, 2, 1))], [value("y")]
    )
    write(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))
    pixels = PIXELS[:, :1, :2, :1]
    np.testing.assert_array_equal(logits(pixels, input_shape=(1, 2, 1)), pixels.reshape(5, 2))


def test_functions_of_the_file_are_looked_into():
    """PyTorch's exporter writes modules as functions; what they end in is at the end of the graph."""
    function = helper.make_function(
        "their", "Head", ["a"], ["b"], [node("Softmax", ["a"], ["b"], axis=-1)], [helper.make_opsetid("", 17)]
    )
    write(classifier(node("Head", ["z"], ["y"], domain="their"), domains=["their"], functions=[function]))
    np.testing.assert_allclose(logits(), logits_by_hand(PIXELS), rtol=0, atol=1e-4)


NO_LOGITS = {
    "relu": ([node("Relu", ["z"], ["y"])], "ends in Relu: its outputs"),
    "tanh": ([node("Tanh", ["z"], ["t"]), node("Identity", ["t"], ["y"])], "ends in Tanh: "),
    "scaled probabilities": (
        [node("Softmax", ["z"], ["p"]), node("Mul", ["p", "two"], ["y"])],
        "ends in Softmax, with Mul behind it",
    ),
    "turned round": ([node("Mul", ["z", "minus"], ["y"])], "ends in Mul: "),
    "divided by logits": ([node("Div", ["two", "z"], ["y"])], "ends in Div: "),
    "taken from a constant": ([node("Sub", ["zeros", "z"], ["y"])], "ends in Sub: "),
    "taken from a constant, further back": (
        [node("Sub", ["two", "z"], ["s"]), node("Add", ["s", "many"], ["y"])],
        "ends in Sub, with Add behind it",
    ),
    "taken from a constant in a node": (
        [node("Constant", [], ["c"], value_float=3.0), node("Sub", ["c", "z"], ["y"])],
        "ends in Sub: ",
    ),
    "taken from their mean": (
        [node("ReduceMean", ["z"], ["m"], axes=[1]), node("Sub", ["m", "z"], ["y"])],
        "ends in Sub: ",
    ),
    "taken from other logits": ([node("Sub", ["product", "z"], ["y"])], "ends in Sub: "),
    "a mean over the batch, taken from them": (
        [node("ReduceMean", ["z"], ["m"], axes=[0]), node("Sub", ["z", "m"], ["y"])],
        "ends in Sub: ",
    ),
    "the larger of them and a constant": ([node("Max", ["z", "minus"], ["y"])], "ends in Max: "),
    "probabilities in parts": (
        [
            node("Exp", ["z"], ["e"]),
            node("ReduceSum", ["e"], ["s"], keepdims=1),
            node("Div", ["e", "s"], ["y"]),
        ],
        "ends in Div: ",
    ),
    "the mean of probabilities": (
        [node("Softmax", ["z"], ["p"]), node("Softmax", ["product"], ["q"]), node("Mean", ["p", "q"], ["y"])],
        "ends in Softmax, with Mean behind it",
    ),
    "twice": (
        [node("Softmax", ["z"], ["p"]), node("Softmax", ["p"], ["y"])],
        "without its last softmax ends in softmax",
    ),
    "over the batch": ([node("Softmax", ["z"], ["y"], axis=0)], "softmax at the end of given.onnx cannot be switched"),
    "a sigmoid for each class": ([node("Sigmoid", ["z"], ["y"])], "sigmoid of 2 outputs"),
    "hidden": (
        [node("Softmax", ["z"], ["p"]), node("MatMul", ["p", "unit"], ["y"])],
        "gives probabilities: for each of 7 images",
    ),
    "hidden relu": (
        [node("Relu", ["z"], ["p"]), node("MatMul", ["p", "unit"], ["y"])],
        "cuts off negative numbers",
    ),
}


@pytest.mark.parametrize("end", NO_LOGITS)
def test_an_end_that_gives_no_logits_is_refused(end):
    nodes, said = NO_LOGITS[end]
    kernel = KERNEL * 100 if end == "hidden relu" else KERNEL
    write(classifier(*nodes, constants=CONSTANTS, kernel=kernel))
    with pytest.raises(UnusableError) as refusal:
        complete()
    message = str(refusal.value)
    assert said in message
    assert "activation=None" in message


def test_one_output_of_an_unknown_kind_is_refused():
    write(one_output(node("LogSoftmax", ["z"], ["y"], axis=0)))
    with pytest.raises(UnusableError, match=r"one output for two classes, and its end is log_softmax"):
        complete()


# Files


def changed(path, place=-1):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_the_name_of_a_teacher_counts_its_external_data():
    write(classifier())
    assert digest_of(GivenTeacher(str(FILE))) == hashlib.sha256(FILE.read_bytes()).hexdigest()
    beside = with_external_data(classifier())
    first = digest_of(GivenTeacher(str(FILE)))
    assert complete().record["given"]["sha256"] == first
    changed(beside)
    assert digest_of(GivenTeacher(str(FILE))) != first
    changed(beside)
    assert digest_of(GivenTeacher(str(FILE))) == first
    shutil.move(FILE, "other.onnx")
    assert digest_of(GivenTeacher("other.onnx")) == first


def test_the_copy_is_complete_by_itself():
    with_external_data(classifier(node("Softmax", ["z"], ["y"], axis=-1)), "data.bin")
    saved()
    FILE.unlink()
    Path("data.bin").unlink()
    shutil.move("saved.keras", "moved.keras")
    model = keras_files.load_classifier(Path("moved.keras"), CLASSES)
    np.testing.assert_allclose(np.asarray(model(PIXELS)), logits_by_hand(PIXELS), rtol=0, atol=1e-4)
    with zipfile.ZipFile("moved.keras") as archive:
        files = [name for name in archive.namelist() if name.startswith("assets/")]
        assert [name.rpartition("/")[2] for name in files] == ["data0", "graph.onnx"]
        assert archive.read(files[0])[64:] == KERNEL.reshape(*SHAPE, 2).transpose(2, 0, 1, 3).tobytes()


def test_the_same_teacher_is_the_same_bytes():
    with_external_data(classifier())
    first = saved("first.keras").read_bytes()
    again = keras_files.load(Path("first.keras"))
    assert (
        saved(
            "second.keras",
        ).read_bytes()
        == first
    )
    keras_files.save(again, Path("third.keras"), keras_files.read_record(Path("first.keras")))
    assert Path("third.keras").read_bytes() == first


def outside():
    path = with_external_data(classifier(), "folder/kernel.bin", Path("given.onnx"))
    return path, path.stat().st_size - 64


def pointing_to(place):
    def make():
        model = classifier()
        path, size = Path("kernel.bin"), len(model.graph.initializer[0].raw_data)
        path.write_bytes(bytes(64) + model.graph.initializer[0].raw_data)
        Path("folder").mkdir()
        point_to(model.graph.initializer[0], str(path.resolve()) if place is None else place, 64, size)
        return write(model, "folder/given.onnx")

    return make


def linked(what):
    def make():
        Path("elsewhere").mkdir()
        with_external_data(classifier(), "weights/kernel.bin", Path("elsewhere/given.onnx"))
        Path("folder").mkdir()
        if what == "file":
            Path("folder/weights").mkdir()
            Path("folder/weights/kernel.bin").symlink_to(Path("elsewhere/weights/kernel.bin").resolve())
        else:
            Path("folder/weights").symlink_to(Path("elsewhere/weights").resolve())
        return Path(shutil.copy("elsewhere/given.onnx", "folder/given.onnx"))

    return make


def without_data():
    with_external_data(classifier()).unlink()
    return FILE


def with_short_data():
    path = with_external_data(classifier())
    path.write_bytes(path.read_bytes()[:-1])
    return FILE


def with_odd_place():
    model = classifier()
    point_to(model.graph.initializer[0], "kernel.bin", "-64", 480)
    Path("kernel.bin").write_bytes(bytes(600))
    return write(model)


EXTERNAL = {
    "missing": (MissingError, without_data, ["weights/kernel.bin", "no such file", "under these names"]),
    "cut off": (DamagedError, with_short_data, ["kernel.bin has 543 bytes", "given.onnx needs 544", "cut off"]),
    "a negative place": (DamagedError, with_odd_place, ["given.onnx", "'kernel'", "damaged"]),
    "above": (UnusableError, pointing_to("../kernel.bin"), ["'../kernel.bin', outside of its folder"]),
    "around": (UnusableError, pointing_to("x/../../kernel.bin"), ["outside of its folder"]),
    "absolute": (UnusableError, pointing_to(None), ["kernel.bin', outside of its folder"]),
    "a link": (UnusableError, linked("file"), ["folder/weights/kernel.bin, which is a link", "`cp -L`"]),
    "a linked folder": (UnusableError, linked("folder"), ["folder/weights/kernel.bin, which is a link"]),
}


@pytest.mark.parametrize("case", EXTERNAL)
def test_external_data_that_cannot_be_taken_are_refused(case):
    error, make, named = EXTERNAL[case]
    file = make()
    for use in (digest_of, lambda teacher: completed(teacher, CLASSES)):
        with pytest.raises(error) as refusal:
            use(GivenTeacher(str(file)))
        assert [words for words in named if words not in str(refusal.value)] == [], refusal.value


def test_a_keras_file_with_a_graph_cannot_reach_outside():
    """ONNX Runtime itself refuses it: somebody may have written the archive by hand."""
    Path("secret.bin").write_bytes(bytes(544))
    with_external_data(classifier())
    saved()
    model = onnx.ModelProto()
    with zipfile.ZipFile("saved.keras") as source, zipfile.ZipFile("forged.keras", "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("graph.onnx"):
                model.ParseFromString(content)
                point_to(model.graph.initializer[0], str(Path("secret.bin").resolve()), 64, 480)
                content = model.SerializeToString()
            target.writestr(name, content)
    with pytest.raises(DamagedError, match=r"forged\.keras holds an ONNX graph, but .* cannot compute it"):
        keras_files.load(Path("forged.keras"))


def test_an_onnx_runtime_that_reaches_outside_is_refused(monkeypatch):
    write(classifier())
    file = saved()
    monkeypatch.setattr(onnxruntime, "__version__", "1.23.2")
    for use in (complete, lambda: keras_files.load(file)):
        with pytest.raises((UnusableError, DamagedError), match=r"ONNX Runtime 1\.23\.2 is too old.* 1\.24 or later"):
            use()


# Refusals


def text(content):
    return lambda: FILE.write_bytes(content)


def cut_off():
    write(classifier())
    FILE.write_bytes(FILE.read_bytes()[:-100])


def written(*nodes, **options):
    return lambda: write(classifier(*nodes, **options))


NO_ONNX = (DamagedError, ["given.onnx is no whole ONNX model", "Git LFS", "export it again"])
NO_RUN = ["given.onnx is no graph for this machine. ONNX Runtime", "cannot compute it: ", "operators of ONNX alone"]
REFUSED = {
    "missing": (MissingError, lambda: None, ["no teacher at given.onnx"]),
    "empty": (NO_ONNX[0], text(b""), NO_ONNX[1]),
    "a text": (NO_ONNX[0], text(b"Dear ONNX, this is no graph.\n"), NO_ONNX[1]),
    "a pointer": (NO_ONNX[0], text(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"), NO_ONNX[1]),
    "cut off": (NO_ONNX[0], cut_off, NO_ONNX[1]),
    "their operator": (UnusableError, written(node("Odd", ["z"], ["y"], domain="their"), domains=["their"]),
                       [*NO_RUN, "their:Odd(-1) is not a registered function/op"]),
    "no operator": (UnusableError, written(node("Odd", ["z"], ["y"])), [*NO_RUN, "No Op registered for Odd"]),
    "a later opset": (UnusableError, written(opset=99), [*NO_RUN, "Opset 99", "opset_version=18"]),
    "no such tensor": (UnusableError, written(node("Identity", ["w"], ["y"])), [*NO_RUN, "'w'"]),
    "two inputs": (UnusableError, written(node("Add", ["z", "more"], ["y"]), inputs=[value("more")]),
                   ["given.onnx has 2 inputs: 'x', 'more'", "extract_model"]),
    "two outputs": (UnusableError, written(node("Identity", ["z"], ["y"]), outputs=[value("row", shape=("batch", 60))]),
                    ["given.onnx has 2 outputs: 'y', 'row'", "extract_model"]),
    "other inputs": (UnusableError, written(dtype="int64"), ["given.onnx takes tensor(int64)", "tensor(uint8)"]),
    "other outputs": (UnusableError, written(node("ArgMax", ["z"], ["y"], axis=1), output=TensorProto.INT64),
                      ["gives tensor(int64)", "floating-point numbers"]),
    "bytes": (UnusableError, written(node("Cast", ["z"], ["y"], to=2), output=TensorProto.UINT8),
              ["gives tensor(uint8)", "floating-point numbers"]),
    "pixels in a row": (UnusableError, written(taken=("batch", 60)), ["of shape (batch, 60)", "expected images"]),
    "a fourth channel": (UnusableError, written(taken=("batch", 4, 3, 5)), ["of shape (batch, 4, 3, 5)", "3 (RGB)"]),
    "a number for each image": (UnusableError, written(node("ReduceSum", ["z", "one"], ["y"], keepdims=0),
                                constants=[tensor("one", [1])], given=("batch",)), ["of shape (2,)", "one row"]),
    "all images in one row": (UnusableError, written(node("Reshape", ["z", "form"], ["y"]),
                              constants=[tensor("form", [1, -1])]), ["of shape (1, 4)", "one row"]),
    "one image in fact": (UnusableError, written(node("Reshape", ["z", "form"], ["y"]),
                          constants=[tensor("form", [1, 2])]), ["cannot compute batches of 2 and", "fixed size"]),
    "two rows for any images": (UnusableError, written(node("Cast", ["rows"], ["y"], to=1),
                                constants=[tensor("rows", [[1, 2], [3, 4]])]),
                                ["for 7 images it gives numbers of shape (2, 2)", "expected (7, classes)"]),
    "a class for each image": (UnusableError, written(node("Transpose", ["z"], ["turned"]),
                               node("MatMul", ["z", "turned"], ["y"]), given=("batch", "classes")),
                               ["for 7 images it gives numbers of shape (7, 7)", "expected (7, classes)"]),
    "three classes": (MismatchError, written(node("Concat", ["z", "s"], ["y"], axis=1), constants=[]),
                      ["gives 3 logits", "2 classes"]),
}  # fmt: skip


def three_classes():
    kernel = np.concatenate([KERNEL, KERNEL[:, :1]], axis=1)
    write(classifier(kernel=kernel, bias=np.zeros(3, np.float32)))


REFUSED["three classes"] = (MismatchError, three_classes, REFUSED["three classes"][2])


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_teacher_is_refused(case):
    error, make, named = REFUSED[case]
    make()
    with pytest.raises(error) as refusal:
        complete()
    message = str(refusal.value)
    assert [words for words in named if words not in message] == [], message
    assert len(message) < 600
    assert str(Path().resolve().parent) not in message
    assert "onnxruntime_src" not in message
    assert not list(Path().glob("**/*.keras"))


def test_no_damage_is_a_traceback(capfd):
    """Bytes of the graph are changed one by one: each file is taken or refused, and nothing else is said."""
    write(classifier(node("Softmax", ["z"], ["y"], axis=-1)))
    with_external_data(classifier(node("Softmax", ["z"], ["y"], axis=-1)), file=Path("other.onnx"))
    taken = 0
    for file in (FILE, Path("other.onnx")):
        whole = file.read_bytes()
        for place in [*range(0, 220, 7), *range(len(whole) - 90, len(whole), 7)]:
            content = bytearray(whole)
            content[place] ^= 0x91
            FILE.write_bytes(content)
            with suppress(PipelineError):
                complete()
                taken += 1
    assert taken < 45
    assert capfd.readouterr() == ("", "")


def test_a_place_of_external_data_that_is_no_text_is_refused():
    with_external_data(classifier())
    FILE.write_bytes(FILE.read_bytes().replace(b"weights/kernel.bin", b"weights/kernel.b\xad\xad"))
    with pytest.raises(UnusableError, match=r"given\.onnx is no graph for this machine"):
        complete()


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"input_shape": (5, 4, 3)}, r"input_shape is \[5, 4, 3\], but given\.onnx takes .* \(batch, 3, 4, 5\)"),
        ({"preprocessing": Standardization([0.5], [0.5])}, "for images of 1 channel"),
        ({"classes": ["SSA", "HP", None]}, "names 3 outputs, but given.onnx gives 2"),
    ],
)
def test_what_is_stated_must_fit(stated, said):
    write(classifier())
    with pytest.raises(ParameterError, match=said):
        complete(**stated)


def test_whole_numbers_cannot_be_preprocessed():
    write(classifier(dtype="uint8"))
    with pytest.raises(
        ParameterError, match=r"given\.onnx takes whole numbers.*leave train_teacher\.preprocessing out"
    ):
        complete(preprocessing="unit")


def test_an_ending_in_capitals_is_one_too():
    write(classifier(), "GIVEN.ONNX")
    given = completed(GivenTeacher("GIVEN.ONNX"), ["HP", "SSA"])
    np.testing.assert_allclose(given.model(PIXELS), logits_by_hand(PIXELS), rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match=r"TEACHER\.KERAS cannot be loaded.*Rename it to end in \.keras$"):
        GivenTeacher("TEACHER.KERAS")


@pytest.mark.parametrize("other", ["teacher.keras", "keras.applications:vgg16"])
def test_the_size_is_stated_of_a_graph_alone(other):
    with pytest.raises(ValueError, match="input_shape"):
        GivenTeacher(other, input_shape=SHAPE)


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_without_the_extra_it_is_named(package, monkeypatch):
    write(classifier())
    uses = [complete, lambda: digest_of(GivenTeacher(str(FILE)))]
    if package == "onnxruntime":  # all that a teacher needs that was taken before
        file = saved()
        uses.append(lambda: keras_files.load(file))
    monkeypatch.setitem(sys.modules, package, None)
    for use in uses:
        with pytest.raises(MissingError, match=rf"package {package}, .*`pip install -e '\.\[onnx\]'`"):
            use()


def test_a_graph_inside_a_file_of_somebody_else_is_refused():
    """Nobody checked what it ends in."""
    write(classifier(node("Tanh", ["z"], ["y"])))
    with pytest.raises(UnusableError):
        complete()
    write(classifier())
    complete().model.save("given.keras")
    with pytest.raises(UnusableError, match=r"given\.keras ends in OnnxGraph"):
        completed(GivenTeacher("given.keras"), CLASSES)


def test_a_layer_without_its_graph_says_so():
    write(classifier())
    empty = keras.models.clone_model(complete().model)
    with pytest.raises(UnusableError, match="has no graph"):
        empty(PIXELS)


# Where it runs


def test_cuda_is_taken_where_it_is(monkeypatch):
    available = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    assert onnx_layer._providers(available) == ["CPUExecutionProvider"]
    monkeypatch.setattr(onnx_layer, "device_names", lambda: ["a GPU"])
    cuda, cpu = onnx_layer._providers(available)
    assert cuda == ("CUDAExecutionProvider", {"cudnn_conv_algo_search": "HEURISTIC"})
    assert cpu == "CPUExecutionProvider"
    assert onnx_layer._providers(available[2:]) == ["CPUExecutionProvider"]
    ((_, options), _) = onnx_layer._providers(available, 3)
    assert options["device_id"] == "3"


def test_another_gpu_gets_a_session_of_its_own(monkeypatch):
    """The graph is in memory: its files may be gone. A processor plays the GPUs."""
    write(classifier())
    model = complete().model
    (layer,) = onnx_layer.graphs_in(model)
    opened, session_of = [], onnx_layer.session_of

    def noted(graph, device=0):
        opened.append(device)
        return session_of(graph, device)

    monkeypatch.setattr(onnx_layer, "session_of", noted)
    assert layer._session_on(1) is layer.session  # without CUDA, one session serves all threads
    monkeypatch.setattr(onnx_layer, "CUDA", "CPUExecutionProvider")
    Path("given.onnx").unlink()
    forward = Forward(model, 4)
    there = OnDevice(forward._function(), "/device:CPU:0", 2)
    assert opened == [2]
    np.testing.assert_array_equal(there(PIXELS[:4]).numpy(), forward.of_few(PIXELS[:4]))
    monkeypatch.setattr(onnx_layer, "session_of", lambda graph, device: (None, "no memory"))
    with pytest.raises(UnusableError, match=r"GPU 2 cannot take the graph of .*: no memory"):
        layer._session_on(2)


def test_the_runtime_is_part_of_what_decides_the_numbers():
    write(classifier())
    (first, *_) = onnx_layer.runtimes(complete().model)
    assert first.startswith(f"onnxruntime {onnxruntime.__version__} ")
    assert onnx_layer.runtimes(MODEL.build(classes=2, seed=1)) == []


@pytest.mark.parametrize("batch", ["batch", 3])
def test_an_image_has_its_logits_beside_any_others(batch):
    write(classifier(batch=batch))
    forward = Forward(complete().model, 7)
    assert forward.is_steady
    alone = next(forward([keras.ops.convert_to_tensor(PIXELS[:1])]))
    (together,) = forward([keras.ops.convert_to_tensor(PIXELS[::-1].copy())])
    np.testing.assert_array_equal(alone[0], together[-1])


def test_a_file_that_is_larger_than_onnx_can_be_is_not_read(monkeypatch):
    """2 GiB and one byte, of which the disk holds nothing."""
    with FILE.open("wb") as file:
        file.truncate(2**31 + 1)
    monkeypatch.setattr(Path, "read_bytes", None)
    with pytest.raises(DamagedError, match=r"given\.onnx has more than 2,147,483,648 bytes, the most that"):
        read_graph(FILE)
