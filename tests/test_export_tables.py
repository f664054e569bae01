"""What ships: the tables of exported files, from numbers written by hand."""

import hashlib
import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest
from shipped import DATA_SET, EXPORT, FILES, KERAS, SETTINGS, SPEED, export, times, write_shipped
from test_table import TEACHER

from pipeline.evaluation.comparison import comparison
from pipeline.evaluation.current_exports import Now
from pipeline.evaluation.export_tables import read_shipped
from pipeline.evaluation.exports import ExportSpeed, read_export, read_export_speed, write_export_speed
from pipeline.evaluation.text_table import as_markdown, as_text
from pipeline.runtime.errors import DamagedError, MissingError

STUDENT = {"quality": {}, "seeds": {"1": {}, "2": {}}}
METRICS = {"test_images": 1500, "models": {"teacher": TEACHER, "student_kl_T4": STUDENT, "baseline": STUDENT}}


def shipped(folder, items=("best",), file=Path("not here"), dataset=DATA_SET, **settings):
    now = Now(METRICS, SETTINGS | {"students": [*items]} | settings, dataset, lambda *_: file)
    return read_shipped(folder / "results/exports", folder / "results/export_speed.json", now)


def rows_of(table):
    return [re.split(r"\s{2,}", line.strip()) for line in as_text(table).splitlines()]


def test_quality_of_each_file_cell_by_cell(tmp_path):
    write_shipped(tmp_path, best=EXPORT)
    quality, _ = shipped(tmp_path).tables
    rows = rows_of(quality)
    assert rows[0] == [
        *("what ships", "precision", "MB", "accuracy", "AUC", "NLL", "ECE", "calibrated ECE", "agreement"),
        "largest difference",
    ]
    assert rows[2:7] == [
        ["teacher", "94.765", "0.988", "0.999", "0.045", "0.010"],
        ["student kl T=4, seed 1", "float32", "0.068", "0.963", "0.999", "0.119", "0.012", "0.008"],
        ["student_float32.tflite", "float32", "0.041", "0.963", "0.999", "0.119", "0.012", "0.008", "1.000", "1.9e-06"],
        ["student_int8.tflite", "int8", "0.015", "0.961", "0.999", "0.119", "0.012", "0.008", "0.997", "0.43"],
        ["student.onnx", "float32", "0.040", "0.963", "0.999", "0.119", "0.012", "0.008", "1.000", "2.1e-06"],
    ]
    assert quality.notes[1:] == [
        "Agreement: with the Keras student's choices. Largest difference: largest logit difference from it.",
        "Calibrated ECE: of logits / T. T of student kl T=4, seed 1: 1.234 (from the validation images).",
    ]


def test_a_temperature_that_was_not_fitted_is_said_to_be_so(tmp_path):
    write_shipped(tmp_path, best=export(temperature=1.0, temperature_note="all answers are right: it is 1"))
    quality, _ = shipped(tmp_path).tables
    assert quality.notes[-1].endswith("T of student kl T=4, seed 1: 1.000 (all answers are right: it is 1).")


def test_of_probabilities_the_logarithms_are_compared(tmp_path):
    made_from = {"dataset": DATA_SET, "export": SETTINGS | {"softmax": True}}
    write_shipped(tmp_path, best=export(made_from=made_from))
    quality, _ = shipped(tmp_path, softmax=True).tables
    assert quality.notes[1].endswith("largest log-probability difference from it.")


def test_times_are_those_of_the_very_file(tmp_path):
    """A file of another digest was measured before it was exported again."""
    write_shipped(tmp_path, best=EXPORT)
    _, speed = shipped(tmp_path).tables
    assert rows_of(speed)[:6] == [
        ["time and memory", "ms, one thread", "95 %", "ms, all 2 threads", "95 %", "images/s, 32 at a time", "peak MB"],
        ["-" * len(as_text(speed).splitlines()[0])],
        ["teacher", "2.500", "2.510", "1.250", "1.260", "12,346", "88"],
        ["student_float32.tflite", "0.040", "0.050", "0.020", "0.030", "12,346", "88"],
        ["student_int8.tflite", "not measured"],
        ["student.onnx", "not measured"],
    ]
    assert speed.notes[0] == "Measured on 2 CPU cores (x86_64) on 2026-01-31."


def test_without_times_there_is_one_table(tmp_path):
    write_shipped(tmp_path, best=EXPORT)
    (tmp_path / "results/export_speed.json").unlink()
    assert len(shipped(tmp_path).tables) == 1
    write_export_speed(ExportSpeed(), tmp_path / "results/export_speed.json")
    assert len(shipped(tmp_path).tables) == 1


def test_files_of_several_exports_are_told_apart(tmp_path):
    baseline = export(student="baseline_seed2", files={"student.onnx": FILES["student.onnx"]})
    write_shipped(tmp_path, best=EXPORT, baseline_seed2=baseline)
    quality, speed = shipped(tmp_path, ["best", "baseline_seed2"]).tables
    assert [row.name for row in quality.rows] == [
        "teacher", "student kl T=4, seed 1", *(f"best/{name}" for name in FILES),
        "baseline, seed 2", "baseline_seed2/student.onnx",
    ]  # fmt: skip
    assert [row.name for row in speed.rows][-1] == "baseline_seed2/student.onnx"


def test_one_student_under_two_names_has_one_row(tmp_path):
    one_file = export(files={"student.onnx": FILES["student.onnx"]})
    write_shipped(tmp_path, best=one_file, student_kl_T4_seed1=one_file)
    quality, _ = shipped(tmp_path, ["best", "student_kl_T4_seed1"]).tables
    assert [row.name for row in quality.rows][1:] == [
        "student kl T=4, seed 1", "best/student.onnx", "student_kl_T4_seed1/student.onnx",
    ]  # fmt: skip
    assert quality.notes[-1].count("T of student kl T=4, seed 1") == 1


def test_an_unknown_auc_leaves_its_cell_empty(tmp_path):
    """As of test images of a single class."""
    keras = {name: value for name, value in EXPORT["keras"].items() if name != "auc"}
    write_shipped(tmp_path, best=export(keras=keras))
    quality, _ = shipped(tmp_path).tables
    assert str(quality.rows[1].cells[3]) == ""


def test_without_exports_nothing_is_shown_or_read(tmp_path):
    metrics = tmp_path / "metrics.json"
    metrics.write_text(json.dumps({"test_images": 1500, "models": {"teacher": TEACHER}}))
    nothing = shipped(tmp_path, [])
    assert (nothing.tables, nothing.remarks) == ([], [])
    assert comparison(metrics, nothing) == comparison(metrics)


def test_an_export_that_was_not_made_yet_is_named(tmp_path):
    nothing = shipped(tmp_path)
    assert nothing.tables == []
    assert nothing.remarks == ["There is no export 'best' yet. Make it with `dvc repro export`."]


OTHERS = {
    "a student that is gone": ({"student": "student_kl_T9_seed1"}, "there is no student kl T=9, seed 1 any more"),
    "a seed that is gone": ({"student": "student_kl_T4_seed3"}, "there is no student kl T=4, seed 3 any more"),
    "other test images": ({"test_images": 9}, "measured on 9 test images, and there are 1,500 now"),
    "trained again": ({"sha256": "34" * 32}, "the student kl T=4, seed 1 was trained again since"),
    "of an earlier version": ({"made_from": None}, "it does not say from which images and with which settings"),
    "other images": (
        {"made_from": {"dataset": "00" * 32, "export": SETTINGS}},
        "it was made from other images, labels or splits",
    ),
    "other settings": (
        {"made_from": {"dataset": DATA_SET, "export": SETTINGS | {"softmax": True, "max_accuracy_drop": 0.5}}},
        "it was made with export.max_accuracy_drop 0.5 (now 0.02), export.softmax true (now false)",
    ),
    "a setting less": (
        {"made_from": {"dataset": DATA_SET, "export": {"softmax": False}}},
        'export.formats null (now ["litert_int8", "onnx"])',
    ),
}


@pytest.mark.parametrize(("changes", "reason"), OTHERS.values(), ids=OTHERS)
def test_an_export_of_another_student_is_not_shown(tmp_path, changes, reason):
    file = tmp_path / "student.keras"
    file.write_bytes(b"the student")
    write_shipped(tmp_path, best=export(**{"sha256": hashlib.sha256(b"the student").hexdigest()} | changes))
    found = shipped(tmp_path, file=file)
    assert found.tables == []
    (remark,) = found.remarks
    assert reason in remark
    assert remark.endswith("`dvc repro export`.")


def test_a_student_that_is_not_here_is_not_compared(tmp_path):
    """As in a clone without the models."""
    write_shipped(tmp_path, best=EXPORT)
    assert shipped(tmp_path, file=tmp_path / "student.keras").remarks == []


def test_without_an_index_the_images_are_not_compared(tmp_path):
    write_shipped(tmp_path, best=EXPORT)
    assert shipped(tmp_path, dataset=None).remarks == []


DAMAGE = {
    "cut off": lambda text: text[:-20],
    "without a key": lambda text: text.replace('"chosen"', '"choosen"'),
    "a number that is none": lambda text: text.replace("0.9607", '"0.9607"'),
    "no list of files": lambda text: re.sub('"files": .*', '"files": 7}', text),
    "a student of no name": lambda text: text.replace("student_kl_T4_seed1", "pupil"),
    "a student of no seed": lambda text: text.replace("student_kl_T4_seed1", "teacher"),
    "no object": lambda _: "[]",
    "an AUC that is null": lambda text: text.replace('"auc": 0.9991', '"auc": null'),
    "an AUC that is a text": lambda text: text.replace('"auc": 0.9991', '"auc": "x"'),
    "an AUC that is a list": lambda text: text.replace('"auc": 0.9991', '"auc": []'),
    "a precision that is null": lambda text: text.replace('"precision": "int8"', '"precision": null'),
    "a precision that is a list": lambda text: text.replace('"precision": "int8"', '"precision": []'),
    "no number": lambda text: text.replace("0.9607", "NaN"),
    "an infinite number": lambda text: text.replace("0.4321", "Infinity"),
    "a number below 0": lambda text: text.replace("14568", "-1"),
    "true for a number": lambda text: text.replace("1.2345", "true"),
}


ONE_FILE = FILES["student.onnx"]
UNSOUND = {
    "no test images": {"test_images": 0},
    "a file of no bytes": {"files": {**FILES, "student.onnx": FILES["student.onnx"] | {"bytes": 0}}},
    "AUC above 1": {"keras": KERAS | {"auc": 1.5}},
    "accuracy below 0": {"keras": KERAS | {"accuracy": -1}},
    "accuracy is true": {"keras": KERAS | {"accuracy": True}},
    "precision as a number": {"files": {"student.onnx": ONE_FILE | {"precision": 32}}},
    "digest as a list": {"files": {"student.onnx": ONE_FILE | {"digest": ["ab"]}}},
    "why as a number": {"chosen": 7},
    "temperature as a text": {"temperature": "1"},
    "note as a number": {"temperature_note": 7},
    "made from nothing": {"made_from": {}},
    "data set as a number": {"made_from": {"dataset": 1, "export": SETTINGS}},
    "settings as a number": {"made_from": {"dataset": DATA_SET, "export": 7}},
}


@pytest.mark.parametrize("changes", UNSOUND.values(), ids=UNSOUND)
def test_unsound_values_are_refused(tmp_path, changes):
    write_shipped(tmp_path, best=export(**changes))
    with pytest.raises(DamagedError, match=r"best\.json is damaged"):
        read_export(tmp_path / "results/exports", "best")


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_numbers_are_refused_with_the_remedy(tmp_path, damage):
    write_shipped(tmp_path, best=EXPORT)
    file = tmp_path / "results/exports/best.json"
    assert damage(file.read_text()) != file.read_text()
    file.write_text(damage(file.read_text()))
    with pytest.raises(DamagedError, match=r"best\.json is damaged.*dvc repro --single-item --force export`"):
        shipped(tmp_path)


def test_missing_numbers_are_refused_with_the_remedy(tmp_path):
    with pytest.raises(MissingError, match=r"no numbers of an export at .*best\.json.*dvc repro"):
        read_export(tmp_path, "best")
    with pytest.raises(MissingError, match=r"no speeds of the exports at .*dvc repro"):
        read_export_speed(tmp_path / "export_speed.json")


@pytest.mark.parametrize(
    "damage",
    [
        lambda document: document.pop("cores"),
        lambda document: document["models"]["teacher"].pop("one_thread"),
        lambda document: document["models"]["best/student_int8.tflite"].pop("digest"),
        lambda document: document["models"]["teacher"].update(peak_memory_mb="much"),
        lambda document: document["models"]["teacher"].update(peak_memory_mb=True),
        lambda document: document["models"]["teacher"].update(batch_images_per_second=float("inf")),
    ],
)
def test_damaged_times_are_refused_with_the_remedy(tmp_path, damage):
    document = json.loads(json.dumps(asdict(SPEED)))
    damage(document)
    file = tmp_path / "export_speed.json"
    file.write_text(json.dumps(document))
    with pytest.raises(DamagedError, match=r"export_speed\.json is damaged.*--force measure_exports`"):
        read_export_speed(file)


def test_times_are_read_as_they_were_written(tmp_path):
    write_export_speed(SPEED, tmp_path / "export_speed.json")
    assert read_export_speed(tmp_path / "export_speed.json") == SPEED
    assert SPEED.models["teacher"] == times(2.5)


@pytest.mark.parametrize(
    "name", ["a|b", "<b>x</b>", "[link](http://x)", "*stars*", "a\nb", "`code`", "\\", "&lt;", "$x$"]
)
def test_names_in_markdown_are_shown_as_they_are(tmp_path, name):
    """Every sign that Markdown could take for markup has a backslash, and a name stays in its line."""
    write_shipped(tmp_path, best=export(files={name: FILES["student.onnx"]}))
    quality, _ = shipped(tmp_path).tables
    (line,) = [line for line in as_markdown(quality).splitlines() if "2.1e-06" in line]
    cell = re.split(r"(?<!\\)\|", line)[1].strip() if name != "\\" else line[2:4]
    assert re.sub(r"\\([^\w\s])", r"\1", cell) == name.replace("\n", " ")
    assert not re.search(r"(?<!\\)[<>*`\[\]&$]", cell)
