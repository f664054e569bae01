"""The error classes: what raises and what catches each. The texts: a few names, and other libraries' errors."""

import ast
import os
from pathlib import Path

import pytest
from imports import ROOT, modules
from soft_label_files import DENSE, INDEX, VIEWS, provenance_of, write_logits

from pipeline.cli.tools import verify as verify_command
from pipeline.datasets.table_files import read_table
from pipeline.images.index import Index, read_index
from pipeline.params.reading import read_params
from pipeline.runtime import workspace
from pipeline.runtime.errors import (
    BusyError,
    DamagedError,
    MismatchError,
    MissingError,
    ParameterError,
    PipelineError,
    UnusableError,
    all_named,
    first_few,
    one_line,
)
from pipeline.runtime.publish import publish
from pipeline.soft_labels.identity import refuse_other
from pipeline.soft_labels.logit_storage import TopK
from pipeline.soft_labels.reading import open_logits
from pipeline.teacher_pass import earlier_logits
from pipeline.tools import verify

of_every_class = pytest.mark.parametrize("error", PipelineError.__subclasses__())
FILE = Path("a.file")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)


def open_the_logits():
    with open_logits(FILE):
        pass


def change_a_byte():
    content = bytearray(write_logits(FILE).read_bytes())
    content[len(content) // 2] ^= 1
    FILE.write_bytes(content)


def use_logits_for_other_images():
    with open_logits(write_logits(FILE)) as file:
        refuse_other(file, Index(INDEX.images[1:]))


def misspell_a_key():
    FILE.write_text((ROOT / "params.yaml").read_text().replace("batch_size:", "batch_sice:"))


def read_a_table():
    return read_table(Path(), FILE, ["image", "class"], key="annotations", remedy="Expected")


def write_what_another_writes():
    with publish(FILE), publish(FILE):
        pass


def nothing():
    pass


@pytest.mark.parametrize(
    ("expected", "before", "act"),
    [
        (MissingError, nothing, open_the_logits),
        (MissingError, nothing, lambda: read_index(FILE)),
        (MissingError, nothing, lambda: read_params(FILE)),
        (MissingError, nothing, read_a_table),
        (DamagedError, change_a_byte, open_the_logits),
        (DamagedError, lambda: FILE.write_text("id,votes\n"), lambda: read_index(FILE)),
        (DamagedError, lambda: FILE.write_bytes(b"PK\3\4"), read_a_table),
        (MismatchError, nothing, use_logits_for_other_images),
        (ParameterError, misspell_a_key, lambda: read_params(FILE)),
        (ParameterError, lambda: FILE.write_text("split: {"), lambda: read_params(FILE)),
        (ParameterError, nothing, lambda: TopK(3, "float16").columns(3)),
        (UnusableError, lambda: FILE.write_text("image,class\n"), read_a_table),
        (UnusableError, lambda: FILE.write_text("image,kind\na.png,0\n"), read_a_table),
        (BusyError, nothing, write_what_another_writes),
    ],
)
def test_a_situation_raises_its_class(expected, before, act, monkeypatch):
    monkeypatch.setattr("pipeline.runtime.publish.LOCK_SECONDS", 0.0)
    before()
    with pytest.raises(expected) as refused:
        act()
    assert FILE.name in str(refused.value) or expected is ParameterError


def named_in(node):
    return {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}


def test_code_raises_and_catches_the_small_classes():
    """Only the ends of processes catch PipelineError: the command line, and processes that send it there.

    Nothing raises it.
    """
    names = ("cli/program.py", "cluster/worker.py", "runtime/separate_process.py")
    ends = {Path("pipeline", name) for name in names}
    for module in modules():
        for node in ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and node.exc is not None:
                assert "PipelineError" not in named_in(node.exc), f"{module}:{node.lineno}"
            if isinstance(node, ast.ExceptHandler) and node.type is not None and module not in ends:
                assert "PipelineError" not in named_in(node.type), f"{module}:{node.lineno}"


def raising(error):
    def act(*_, **__):
        raise error("what happened. what to do.")

    return act


@of_every_class
def test_earlier_logits_that_are_gone_or_damaged_are_left_aside(error, monkeypatch):
    monkeypatch.setattr(earlier_logits, "open_logits", raising(error))

    def opened():
        with earlier_logits.open_earlier([FILE], provenance_of(INDEX, VIEWS, DENSE)) as earlier:
            return earlier

    if error in (MissingError, DamagedError, UnusableError):
        assert opened() is None
    else:
        with pytest.raises(error):
            opened()


@of_every_class
def test_verify_tells_that_a_file_is_missing_or_damaged(error, monkeypatch):
    monkeypatch.setattr(verify, "open_soft_labels", raising(error))

    def checked():
        return verify.verify(FILE, Path("index"), Path("teacher"), Path("logits"), MissingError("no params.yaml"))

    if error in (MissingError, DamagedError, UnusableError):
        assert [(check.name, check.ok) for check in checked()] == [("file", False)]
    else:
        with pytest.raises(error):
            checked()


@of_every_class
def test_verify_does_without_missing_or_invalid_params(error, monkeypatch, capsys):
    write_logits(FILE)
    monkeypatch.setattr("pipeline.params.reading.read_params", raising(error))
    if error in (MissingError, ParameterError):
        verify_command.callback(FILE, as_json=False)
        assert "not compared: what happened. what to do." in capsys.readouterr().out
    else:
        with pytest.raises(error):
            verify_command.callback(FILE, as_json=False)


@of_every_class
def test_only_work_that_another_process_does_is_passed_over(error, monkeypatch):
    finished = Path(".work/a.file/0123/finished.h5")
    finished.parent.mkdir(parents=True)
    finished.touch()
    monkeypatch.setattr(workspace, "locked", raising(error))
    if error is BusyError:
        workspace.forget_finished(FILE)
        assert finished.exists()
    else:
        with pytest.raises(error):
            workspace.forget_finished(FILE)


def test_up_to_five_names_are_shown_and_no_file_is_written():
    assert all_named(list("abcde")) == first_few(list("abcde")) == "a, b, c, d, e"
    assert all_named([]) == ""
    assert not Path(".work").exists()


def test_of_more_names_all_are_in_a_file():
    names = ["a b.png", "ä.png", "\udcff.png", *map(str, range(100))]
    assert all_named(names) == "a b.png, ä.png, \udcff.png, 0, 1 and 98 more (all in .work/names.txt)"
    assert Path(".work/names.txt").read_text(encoding="utf-8").splitlines() == [
        "a b.png", "ä.png", "\\udcff.png", *map(str, range(100)),
    ]  # fmt: skip
    assert all_named(list("ghijkl")).endswith("and 1 more (all in .work/names.txt)")
    assert Path(".work/names.txt").read_text().split() == list("ghijkl")


def test_an_experiment_writes_the_error_outside_its_copy(monkeypatch, tmp_path):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "repository"))
    assert all_named(list("abcdef"), "others").endswith(f"(all in {tmp_path}/repository/.work/others.txt)")
    assert (tmp_path / "repository/.work/others.txt").read_text() == "a\nb\nc\nd\ne\nf\n"


@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_a_pipe_or_a_link_in_its_place_is_replaced(kind):
    """The program waited for a reader of the pipe, and wrote where the link leads."""
    Path(".work").mkdir()
    Path("mine.txt").write_text("mine")
    if kind == "pipe":
        os.mkfifo(".work/names.txt")
        reader = os.open(".work/names.txt", os.O_RDONLY | os.O_NONBLOCK)  # else a failure of this test would wait
    else:
        Path(".work/names.txt").symlink_to("../mine.txt")
    assert all_named(list("abcdef")).endswith("(all in .work/names.txt)")
    if kind == "pipe":
        os.close(reader)
    assert Path(".work/names.txt").is_file()
    assert not Path(".work/names.txt").is_symlink()
    assert Path("mine.txt").read_text() == "mine"


def test_where_nothing_can_be_written_the_few_are_shown():
    Path(".work").write_text("a file, where the folder should be")
    assert all_named(list("abcdef")) == "a, b, c, d, e and 1 more"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("first\n  second\t\x1b[1mthird\x00"), "first second [1mthird"),
        (ValueError("é" * 200), "é" * 200),
        (ValueError("word " * 200), "word " * 39 + "w ..."),
        (MemoryError(), "MemoryError"),
        ("a text", "a text"),
    ],
)
def test_an_error_becomes_one_line_of_at_most_200_characters(error, line):
    assert one_line(error) == line
    assert len(line) <= 200


def test_an_error_is_cut_at_another_limit_if_asked():
    assert one_line("0123456789", limit=9) == "01234 ..."
