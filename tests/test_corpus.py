"""Inputs that failed once: each is now read, or refused with a message of ours.

`tests/corpus/` has a folder for each kind of file that `benchmarks/fuzz/` knows, with small files in it.
"""

from pathlib import Path

import pytest

from benchmarks.fuzz.outcomes import outcome
from benchmarks.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
FILES = sorted(path for path in CORPUS.glob("*/*") if path.is_file())
LARGEST = 2**17
SLOW = {"exported_litert", "exported_onnx", "hdf5_soft_labels", "hdf5_weights", "hub_preset"}
"""Kinds whose readers start a process, or import keras_hub."""


def slow(name):
    return [pytest.mark.slow] if name in SLOW else []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=slow(path.parent.name), id=path.relative_to(CORPUS).as_posix()) for path in FILES],
)
def test_an_input_that_failed_once_fails_no_more(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = outcome(TARGETS[path.parent.name], path.read_bytes(), tmp_path)
    assert found.kind != "failed", found.text


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [pytest.param(name, marks=slow(name)) for name in TARGETS])
def test_unchanged_files_of_each_kind_are_read(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for content in TARGETS[name].seeds():
        found = outcome(TARGETS[name], content, tmp_path)
        assert found.kind == "accepted", found.text


def test_every_folder_is_a_kind_of_file_and_holds_small_files():
    assert {path.parent.name for path in FILES} <= set(TARGETS)
    assert [path for path in FILES if path.stat().st_size > LARGEST] == []
