"""Pipes, sockets, devices and links in place of files: each is refused, and no reader waits for a pipe."""

import os
import signal
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner
from real_project import HANGS, ROOT

from pipeline.cli.main import main
from pipeline.images.index import read_index
from pipeline.images.places import read_bytes
from pipeline.runtime.errors import PipelineError
from pipeline.runtime.npz_files import read_npz


def pipe(path: str) -> None:
    os.mkfifo(path)


def listening(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)


def endless(path: str) -> None:
    os.symlink("/dev/zero", path)


def to_itself(path: str) -> None:
    os.symlink(path, path)


KINDS = [pipe, listening, endless, to_itself]


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("params.yaml", "dvc.yaml"):
        Path(name).write_bytes((ROOT / name).read_bytes())
    for folder in ("data", "results", "images"):
        Path(folder).mkdir()
    signal.alarm(HANGS)  # a reader that waits for a pipe ends this process
    yield
    signal.alarm(0)


def refused(*words: str) -> str:
    """What a command says that must fail in one message."""
    result = CliRunner().invoke(main, [*words])
    assert (result.exit_code, type(result.exception)) == (1, SystemExit), result.exception
    return result.output


def state(place):
    """What tells that nobody wrote or replaced it; when a link was followed last (`st_atime`) is none of that."""
    found = os.lstat(place)
    return found.st_mode, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("results/metrics.json", ["table"]),
        ("x.h5", ["verify", "x.h5"]),
        ("x.h5", ["inspect", "x.h5"]),
        ("x.tflite", ["predict", "x.tflite", "params.yaml"]),
        ("x.onnx", ["predict", "x.onnx", "params.yaml"]),
        ("x.npz", ["init", "x.npz", "--force"]),
        ("images/cat.png", ["init", "images", "--force"]),
        ("params.yaml", ["params"]),
        ("dvc.yaml", ["soften", "--temperature", "4"]),
        ("packed", ["pack", "packed"]),
    ],
)
def test_commands_refuse_it_in_place_of_a_file(make, place, words):
    Path(place).unlink(missing_ok=True)
    make(place)
    before = state(place)
    assert "Error: " in (said := refused(*words)) or "WRONG file" in said
    assert state(place) == before


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize(
    "read",
    [read_index, read_bytes, lambda path: read_npz(path, example="x=x", plain="numbers")],
    ids=["index", "image", "npz"],
)
def test_readers_refuse_it_in_place_of_a_file(make, read):
    make("x")
    with pytest.raises((PipelineError, OSError)):
        read(Path("x"))
