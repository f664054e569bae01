"""`softlabel params`: params.yaml whole, with meanings, ranges and defaults."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner
from layouts import documented_sections
from real_project import ROOT, change
from ruamel.yaml import YAML

from pipeline.cli.main import main
from pipeline.distillation.descriptions import KINDS
from pipeline.models.applications import applications
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
    "a full recipe": TRAINED
    | {
        "select_by": "auc",
        "phases": [
            {"epochs": 9, "learning_rate": 0.1, "trainable_from": "all", "warmup": 1, "ema": 0.9, "patience": 2}
            | {"schedule": {"factor": 0.1, "after_epochs": [5]}, "class_weight": {"5": 1.0, "7": 2.0}}
            | {"weight_decay": 0.1, "clip_norm": 1.0, "label_smoothing": 0.1},
            {"epochs": 9, "learning_rate": 0.1, "trainable_from": "all", "schedule": "cosine"}
            | {"class_weight": "balanced"},
        ],
    },
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


@pytest.mark.parametrize("operations", [{"count": 2, "magnitude": 9}, {"count": 1, "of": {"hue": 0.1, "blur": 0.05}}])
def test_every_kind_of_view_is_listed_and_explained(operations, tmp_path):
    mixing = {"alpha": 1, "share": 0.5}
    augmentation = {"mixup": mixing, "cutmix": mixing, "erasing": {"share": 0.25}, "operations": operations}
    check(with_value(tmp_path, "views.augmentation", augmentation), tmp_path)


@pytest.mark.parametrize("teacher", TEACHERS)
def test_every_form_of_a_teacher_is_listed_and_explained(teacher, tmp_path):
    check(with_value(tmp_path, "train_teacher", TEACHERS[teacher]), tmp_path)


def test_every_loss_is_listed_and_explained(tmp_path):
    """With its defaults, and with a number for each parameter."""
    written = {"student_temperature": 2.5, "hard_label_weight": 0.25}
    values = {"alpha": 0.5, "beta": 4, "gamma": 2, "before": "dkd", **written}
    losses = {kind: {} for kind in KINDS}
    for kind, loss in KINDS.items():
        own = {field.name: values[field.name] for field in fields(loss) if field.name != "kind"}
        losses[f"my_{kind}"] = {"kind": kind, **own}
    file = with_value(tmp_path, "distill.loss", losses)
    check(file, tmp_path)
    text = listed(file)
    check_ranges(text)
    assert "# Decoupled knowledge distillation: " in text
    assert comment_on(text[text.index("  my_dist:") :], "gamma") == (
        "The weight of the correlation over the images of a batch [a number from 0]"
    )


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
        ("select_by", "accuracy, balanced_accuracy, auc, cross_entropy"),
        ("warmup", "a whole number from 0"),
        ("trainings_at_once", "auto or a whole number from 1"),
        ("ema", "a number above 0 to below 1 or null"),
    ],
)
def test_ranges_are_told(key, values):
    assert f"[{values}]" in comment_on(listed(ROOT / "params.yaml"), key)


LAYOUTS = "mhist, csv, folders, arrays, cifar10, webdataset, parquet"
ARCHITECTURES = "cnn, mlp or one that `softlabel models` lists or keras_hub:PRESET or a .keras file"
CLASSES = {"model": "teacher.keras", "classes": ["a", None]}


def section_of(layout):
    return next(section for section in documented_sections() if section["layout"] == layout)


@pytest.mark.parametrize(
    ("path", "value", "key", "values"),
    [
        ("split", section_of("csv"), "layout", LAYOUTS),
        ("split", section_of("arrays"), "layout", LAYOUTS),
        ("split", section_of("csv"), "validation_ids", "a path or null"),
        ("split", section_of("csv"), "test_ids", "a path or null"),
        ("split", section_of("csv"), "label_columns", "null or a list, each a text"),
        ("split", section_of("csv"), "unlabelled", "{use: …, folder: …, rows: …} or null"),
        ("split", section_of("folders") | {"unlabelled": {"folder": "more"}}, "folder", "a path or null"),
        ("split", section_of("arrays") | {"unlabelled": {"rows": True}}, "array", "a text or null"),
        ("student.model", MODEL, "architecture", ARCHITECTURES),
        ("student.model", MODEL, "weights", "null"),
        ("student.model", TEACHERS["keras.applications"]["model"], "architecture", ARCHITECTURES),
        ("student.model", TEACHERS["keras.applications"]["model"], "weights", "a text or null"),
        ("student.model", TEACHERS["a network of one's own"]["model"], "architecture", ARCHITECTURES),
        ("student.model", TEACHERS["a network of one's own"]["model"], "weights", "own or null"),
        ("precompute.storage", {"kind": "topk", "k": 2}, "kind", "dense, topk"),
        ("precompute.storage", {"kind": "dense", "dtype": "float16"}, "kind", "dense, topk"),
        ("train_teacher", TRAINED, "schedule", "constant, cosine or {factor: …, after_epochs: …}"),
        ("train_teacher", TRAINED, "class_weight", "balanced or a map or null"),
        ("train_teacher", CLASSES, "preprocessing", "none, unit, symmetric, caffe or {mean: …, std: …}"),
        ("train_teacher", CLASSES, "classes", "null or a map or a list, each a text or null"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isidentifier() else "",
)
def test_ranges_name_all_that_the_key_may_be(path, value, key, values, tmp_path):
    """Also what another form of the section would allow, where this very key chooses the form."""
    text = listed(with_value(tmp_path, path, value))
    of_section = text[text.index(f"\n{path.split('.')[0]}:") :]
    below = of_section if "." not in path else of_section[of_section.index(f"  {path.split('.')[1]}:") :]
    told = comment_on(below, key)
    assert told[told.index("[") :].removesuffix(" (default)") == f"[{values}]"


def test_of_a_cnn_no_other_weights_are_told(tmp_path):
    told = comment_on(listed(with_value(tmp_path, "train_teacher", TRAINED)), "weights")
    assert told.startswith("Null: there are no trained weights for it [null]")


def number_fits(values, value):
    """Whether a number lies in "a number above 0 to below 1" and the like."""
    if "whole" in values and not isinstance(value, int):
        return False
    parts = re.fullmatch(r"a (?:whole )?number(?: (from|above) ([\d.]+))?(?: (to|to below) ([\d.]+))?", values)
    if parts is None:
        return False
    low, high = float(parts[2] or "-inf"), float(parts[4] or "inf")
    return (low < value if parts[1] == "above" else low <= value) and (
        value < high if parts[3] == "to below" else value <= high
    )


def fits(values, value):
    """Whether a value is among those that a range tells."""
    single, _, each = values.partition("a list, each ")
    if isinstance(value, list):
        return each != "" and all(fits(each, item) for item in value)
    told = single.replace("true or false", "true, false").removesuffix(" or ").split(" or ")
    named = {name for part in told for name in part.split(", ")}
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null") in named
    if isinstance(value, int | float):
        return any(number_fits(part, value) for part in told)
    if isinstance(value, dict):
        return "a map" in named or any(part.endswith(f"{key}: …}}") for part in told for key in list(value)[-1:])
    is_preset = value.startswith("keras_hub:") and "keras_hub:PRESET" in named
    is_file = value.endswith(".keras") and "a .keras file" in named
    is_listed = value in applications() and "one that `softlabel models` lists" in named
    return value in named or is_preset or is_file or is_listed or bool({"a text", "a path"} & named)


def check_ranges(text):
    """Every range contains the value below it."""
    told, checked = "", 0
    for line in map(str.strip, text.splitlines()):
        if line.startswith("#"):
            told += line.removeprefix("#")
            continue
        if "[" in told and re.match(r"\w+: ", line):
            ((key, value),) = YAML(typ="safe").load(line).items()
            values = told.strip().removesuffix("(default)").strip()
            assert values.endswith("]"), line
            assert fits(values[values.index("[") + 1 : -1], value), f"{key}: {value} is not in {values}"
            checked += 1
        told = ""
    return checked


def test_the_check_of_ranges_sees_other_values():
    for values, value in [
        ("null", "a.csv"),
        ("csv", "mhist"),
        ("a text", None),
        ("a number from 0 to below 1", 1),
        ("a whole number from 1", 1.5),
        ("a path or null", ["a"]),
        ("a list, each a text", [1]),
    ]:
        assert not fits(values, value)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_each_range_contains_what_is_written(file):
    assert check_ranges(listed(file)) > 40


@pytest.mark.parametrize("unlabelled", [None, {"use": False}])
@pytest.mark.parametrize("section", documented_sections(), ids=lambda section: section["layout"])
def test_the_ranges_of_a_layout_contain_its_values(section, unlabelled, tmp_path):
    check_ranges(listed(with_value(tmp_path, "split", section | {"unlabelled": unlabelled})))


@pytest.mark.parametrize("teacher", TEACHERS)
def test_the_ranges_of_a_teacher_contain_its_values(teacher, tmp_path):
    check_ranges(listed(with_value(tmp_path, "train_teacher", TEACHERS[teacher])))


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
