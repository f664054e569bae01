"""`softlabel params`: params.yaml whole, with meanings, ranges and defaults."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from layouts import documented_sections
from real_project import ROOT, change
from ruamel.yaml import YAML

from pipeline.cli.main import main
from pipeline.params.listing import as_text
from pipeline.params.reading import read_params, read_yaml
from pipeline.runtime.errors import ParameterError

FILES = [ROOT / "params.yaml", *sorted((ROOT / "presets").glob("*.yaml"))]
MODEL = {"architecture": "cnn", "input_shape": [8, 8, 3], "filters": [2]}
TRAINED = {"model": MODEL, "phases": [{"epochs": 1, "learning_rate": 0.1, "trainable_from": None}]}
TEACHERS = {
    "a network of one's own": TRAINED | {"model": {"architecture": "net.keras"}},
    "keras.applications": TRAINED | {"model": {"architecture": "vgg16", "input_shape": [32, 32, 3]}},
    "keras_hub": TRAINED | {"model": {"architecture": "keras_hub:resnet_18_imagenet", "input_shape": [32, 32, 3]}},
    "a file": {"model": "teacher.keras", "preprocessing": {"mean": [0.5], "std": [0.5]}, "classes": {"a": 1, "b": 0}},
    "two": [TRAINED, {"model": "teacher.keras"}],
    "an ensemble": {"average": "probabilities", "members": [TRAINED, {"model": "teacher.keras"}]},
}


def listed(file):
    return as_text(read_params(file), read_yaml(file, ParameterError))


def with_value(tmp_path, path, value):
    file = tmp_path / "params.yaml"
    file.write_bytes((ROOT / "params.yaml").read_bytes())
    change(file, path, value)
    return file


def check(file, tmp_path):
    """What is listed is a params.yaml of the same meaning that leaves nothing out, and says something of every key."""
    text = listed(file)
    whole = tmp_path / "whole.yaml"
    whole.write_text(text, encoding="utf-8")
    assert read_params(whole) == read_params(file)
    assert "(default)" not in listed(whole)
    above = ""
    for line in text.splitlines():
        if re.match(r" *\w+:", line):
            assert re.match(r" *# [A-Z]", above), f"nothing is said of {line}"
            above = ""
        elif not above and line.strip() != "-":
            above = line


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_file_is_listed_whole_and_explained(file, tmp_path):
    check(file, tmp_path)


@pytest.mark.parametrize("section", documented_sections(), ids=lambda section: section["layout"])
def test_every_layout_is_listed_whole_and_explained(section, tmp_path):
    check(with_value(tmp_path, "split", section), tmp_path)


@pytest.mark.parametrize("teacher", TEACHERS)
def test_every_form_of_a_teacher_is_listed_and_explained(teacher, tmp_path):
    check(with_value(tmp_path, "train_teacher", TEACHERS[teacher]), tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "5:1",
        "12:30",
        "a:b",
        "C:\\x",
        "x :y",
        "? x",
        "?",
        "yes",
        "007",
        "1e3",
        "# x",
        "- x",
        "[a",
        "é",
        "a\u2028b",
        "\x85",
        "null",
    ],
)
def test_any_name_is_read_as_it_was(name, tmp_path):
    section = {"layout": "folders", "data": "raw", "train": ".", "val": None, "test": None, "val_fraction": 0.1}
    names = {"class_names": {"a": name, name: "other", "c": "x"}, "test_fraction": 0.1}
    check(with_value(tmp_path, "split", section | names), tmp_path)


def comment_on(text, key):
    """The comment above the first key of this name."""
    lines = text.splitlines()
    end = next(number for number, line in enumerate(lines) if line.strip().startswith(f"{key}:"))
    start = next(number for number in range(end - 1, -1, -1) if not lines[number].strip().startswith("#"))
    return " ".join(line.strip().removeprefix("# ") for line in lines[start + 1 : end])


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("cache", "none, memory, disk"),
        ("hard_label_weight", "a number from 0 to 1"),
        ("learning_rate", "a number above 0"),
        ("momentum", "a number from 0 to below 1"),
        ("validation_steps", "a whole number from 1 or null"),
        ("seeds", "a list, each a whole number from 0 to below 4294967296"),
        ("scale_by_temperature_squared", "true or false"),
        ("trainable_from", "a whole number from 0 or a text or null"),
    ],
)
def test_ranges_are_told(key, values):
    assert f"[{values}]" in comment_on(listed(ROOT / "params.yaml"), key)


def test_defaults_are_marked_where_a_key_is_left_out(tmp_path):
    file = with_value(tmp_path, "train_teacher", TRAINED)
    for key, is_default in (("seed", True), ("dropout", True), ("epochs", False), ("filters", False)):
        assert comment_on(listed(file), key).endswith("(default)") is is_default


def test_the_command_prints_it_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_bytes((ROOT / "presets/intel.yaml").read_bytes())
    shown = CliRunner().invoke(main, ["params"])
    assert shown.exit_code == 0
    assert YAML(typ="safe").load(shown.stdout)["student"]["model"]["architecture"] == "resnet50"
    assert shown.stdout == listed(Path("params.yaml")) + "\n"


def test_an_invalid_file_is_refused_as_ever(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with_value(tmp_path, "student.seeds", 4)
    shown = CliRunner().invoke(main, ["params"])
    assert shown.exit_code == 1
    assert "student.seeds" in shown.stderr
