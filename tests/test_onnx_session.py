"""ONNX graphs that hang, take all memory or unfold without end: each is refused, and this process goes on."""

from itertools import pairwise

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_graphs import FILE, classifier, node, tensor, write

from pipeline.models import onnx_teacher
from pipeline.models.onnx_files import read_graph
from pipeline.models.teacher_file import GivenTeacher
from pipeline.runtime import tried_files
from pipeline.runtime.errors import DamagedError, UnusableError
from pipeline.runtime.separate_process import run_separately

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)

    def limited(function, *arguments, path, remedy, memory, seconds):
        return run_separately(function, *arguments, path=path, remedy=remedy, memory=2 * 2**30, seconds=2)

    monkeypatch.setattr(tried_files, "run_separately", limited)


def loaded() -> object:
    return onnx_teacher.load(GivenTeacher(str(FILE)))


def endless_loop() -> onnx.ModelProto:
    """A Loop of 2^62 rounds that adds zero to the logits."""
    body = helper.make_graph(
        [node("Identity", ["go_on"], ["still"]), node("Mul", ["before", "one"], ["after"])],
        "body",
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in (
            ("round", INT64, []), ("go_on", BOOL, []), ("before", FLOAT, ["batch", 2]))],
        [helper.make_tensor_value_info("still", BOOL, []), helper.make_tensor_value_info("after", FLOAT, ["batch", 2])],
    )  # fmt: skip
    constants = [tensor("rounds", np.int64(2**62)), tensor("yes", np.bool_(True)), tensor("one", np.float32(1))]
    return classifier(node("Loop", ["rounds", "yes", "z"], ["y"], body=body), constants=constants)


def large_constant() -> onnx.ModelProto:
    """64 GiB of zeros, made from two numbers."""
    shape = tensor("shape", np.array([2**17, 2**17], np.int64))
    nodes = [
        node("ConstantOfShape", ["shape"], ["zeros"]),
        node("ReduceMax", ["zeros"], ["zero"], keepdims=0),
        node("Add", ["z", "zero"], ["y"]),
    ]
    return classifier(*nodes, constants=[shape])


def large_product() -> onnx.ModelProto:
    """The same, from what the image gives, so that nothing can be computed beforehand."""
    shape = tensor("shape", np.array([2**17, 2**17], np.int64))
    nodes = [
        node("ReduceMax", ["z"], ["largest"], keepdims=0),
        node("Expand", ["largest", "shape"], ["many"]),
        node("ReduceMax", ["many"], ["again"], keepdims=0),
        node("Add", ["z", "again"], ["y"]),
    ]
    return classifier(*nodes, constants=[shape])


@pytest.mark.parametrize("graph", [endless_loop, large_constant, large_product])
def test_a_graph_without_end_is_refused(graph):
    write(graph())
    with pytest.raises(
        UnusableError, match=r"given.onnx is no graph for this machine.*(was not read within|memory)"
    ) as e:
        loaded()
    assert len(str(e.value)) < 500


def test_a_sound_graph_is_tried_once(monkeypatch):
    tried = []

    def noted(function, *arguments, **options):
        tried.append(arguments)
        return run_separately(function, *arguments, **options)

    monkeypatch.setattr(tried_files, "run_separately", noted)
    write(classifier())
    loaded(), loaded()
    assert len(tried) == 1


def calling(names: list[str], calls: int) -> list[onnx.FunctionProto]:
    """Functions of one value, each of which calls the next several times; the last one calls Identity."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("their", 1)]
    functions = []
    for name, called in zip(names, [*names[1:], "Identity"], strict=True):
        domain = "" if called == "Identity" else "their"
        values = ["a", *[f"b{number}" for number in range(calls - 1)], "c"]
        nodes = [node(called, [one], [other], domain=domain) for one, other in pairwise(values)]
        functions.append(helper.make_function("their", name, ["a"], ["c"], nodes, opsets))
    return functions


def with_functions(functions: list[onnx.FunctionProto]) -> onnx.ModelProto:
    return classifier(node("f0", ["z"], ["y"], domain="their"), domains=["their"], functions=functions)


def test_functions_that_unfold_without_end():
    write(with_functions(calling([f"f{number}" for number in range(30)], 3)))
    with pytest.raises(DamagedError, match=r"they unfold to 205,891,132,094,6\d\d operators"):
        loaded()


def test_a_function_that_calls_itself():
    write(with_functions(calling(["f0", "f1", "f0"], 1)[:2]))
    with pytest.raises(DamagedError, match="f0 calls itself"):
        loaded()


def test_functions_that_call_each_other_are_unfolded():
    write(with_functions(calling(["f0", "f1", "f2"], 4)))
    nodes = [one.op_type for one in read_graph(FILE).graph.node]
    assert nodes.count("Identity") == 4**3


def test_a_file_larger_than_onnx_allows(tmp_path):
    with (tmp_path / "given.onnx").open("wb") as file:
        file.truncate(3 * 2**30)  # no block of the disk is written
    with pytest.raises(DamagedError, match="more than 2,147,483,648 bytes"):
        loaded()
