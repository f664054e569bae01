"""The stage `export`: what it writes, what it refuses, and what a failure leaves."""

import json
import re
import shutil
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from conftest import MODEL, copy_here
from real_project import ROOT, change

from pipeline.cli.main import main
from pipeline.deployed.files import open_exported
from pipeline.deployed.formats import FILES
from pipeline.deployed.metadata import NO_DIGEST
from pipeline.exports import quality, temperature
from pipeline.images.image_files import read_original
from pipeline.images.index import fingerprint_of, read_index
from pipeline.models import keras_files
from pipeline.runtime.digests import sha256_file
from pipeline.runtime.errors import MismatchError, MissingError, UnusableError
from pipeline.stages import export

INDEX, OUTPUT, REPORT = Path("data/index.csv"), Path("models/exports/best"), Path("results/exports/best.json")
HISTORY = Path("results/history")
NAMES = ("student_kl_T4_seed1", "student_kl_T4_seed2")
STUDENTS = {name: Path("models/students") / f"{name.removeprefix('student_')}.keras" for name in NAMES}


@pytest.fixture(scope="module")
def two_students(split_once, tmp_path_factory) -> Path:
    """The small data set with two untrained students, the second one with the better curves."""
    project = tmp_path_factory.mktemp("export") / "project"
    shutil.copytree(split_once, project)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        data = read_index(INDEX)
        record = {
            "class_names": data.class_names,
            "validation": {"images": fingerprint_of(data.split("val")), "accuracy": 0.5},
        }
        HISTORY.mkdir(parents=True)
        for seed, (name, file) in enumerate(STUDENTS.items(), 1):
            keras_files.save(MODEL.build(classes=2, seed=seed), file, record)
            row = {"epoch": 1, "phase": 1, "val_accuracy": 0.5 + seed / 10, "val_cross_entropy": 0.7}
            pd.DataFrame([row]).to_csv(HISTORY / f"{name}.csv", index=False)
    return project


@pytest.fixture
def here(two_students, tmp_path, monkeypatch) -> Path:
    copy_here(two_students, tmp_path, monkeypatch)
    return tmp_path


def run(**changed):
    arguments = {
        "index": INDEX,
        "students": STUDENTS,
        "history": HISTORY,
        "select_by": "accuracy",
        "formats": ["litert_float32"],
        "softmax": False,
        "calibration_count": 10,
        "max_accuracy_drop": 0.0,
        "batch_size": 8,
        "output": OUTPUT,
        "report": REPORT,
    }
    export.run(**(arguments | changed))


def written() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in [*OUTPUT.rglob("*"), *REPORT.parent.rglob("*")] if path.is_file()}


def test_every_format_is_written_and_measured(here, capsys):
    run(formats=[*FILES], max_accuracy_drop=1.0)
    report = json.loads(REPORT.read_text())
    assert report == json.loads((OUTPUT / "export.json").read_text())
    assert {path.name for path in OUTPUT.iterdir()} == {*FILES.values(), "export.json"}
    assert (report["student"], report["sha256"]) == (NAMES[1], sha256_file(STUDENTS[NAMES[1]]))
    assert report["chosen"] == "the best of 2 students by validation accuracy (0.700)"
    assert report["test_images"] == 12
    assert report["class_names"] == ["HP", "SSA"]
    assert report["made_from"] == {
        "dataset": read_index(INDEX).fingerprint(),
        "export": {"calibration_images": 10, "formats": [*FILES], "max_accuracy_drop": 1.0, "softmax": False},
    }
    assert report["keras"]["bytes"] == STUDENTS[NAMES[1]].stat().st_size
    for name, found in report["files"].items():
        opened = quality.opened(OUTPUT / name)
        assert (found["digest"], found["precision"]) == (opened.metadata.digest, opened.metadata.precision)
        assert found["digest"] != NO_DIGEST
        assert opened.metadata.temperature == report["temperature"]
        assert opened.metadata.student == NAMES[1]
    for name in (FILES["litert_float32"], FILES["onnx"], FILES["saved_model"]):
        found = report["files"][name]
        assert (found["agreement"], found["accuracy"]) == (1.0, report["keras"]["accuracy"])
        assert found["largest_logit_difference"] < 1e-5
    assert f"{NAMES[1]}.keras" in capsys.readouterr().out


def test_files_take_the_pixels_of_images_as_they_are(here):
    """These images have the student's size, so nothing is resized: Pillow's pixels are the file's input."""
    run()
    report = json.loads(REPORT.read_text())["files"]["student_float32.tflite"]
    data = read_index(INDEX)
    pixels = np.stack([read_original(image.path) for image in data.split("test")])
    logits = open_exported(OUTPUT / "student_float32.tflite").logits(pixels)
    right = [int(np.argmax(row) == label) for row, label in zip(logits, data.labels(data.split("test")), strict=True)]
    assert report["accuracy"] == pytest.approx(sum(right) / 12)


def logits_of(part):
    """What the student answers for the images of a split, and their classes, without code of the stage."""
    data = read_index(INDEX)
    images = data.split(part)
    student = keras.saving.load_model(STUDENTS[NAMES[1]])
    return student.predict(np.stack([read_original(image.path) for image in images]), verbose=0), data.labels(images)


def test_the_temperature_is_fitted_on_validation_images(here, capsys):
    run()
    of_val, of_test = (temperature.fitted(*logits_of(part)) for part in ("val", "test"))
    report = json.loads(REPORT.read_text())
    assert report["temperature"] == pytest.approx(of_val[0], rel=1e-3)
    assert report["temperature"] != pytest.approx(of_test[0], rel=1e-2)
    assert report["temperature_note"] is None
    assert "note:" not in capsys.readouterr().out


def test_a_temperature_that_was_not_fitted_says_why(here, capsys, monkeypatch):
    monkeypatch.setattr(temperature, "fitted", lambda *_: (1.0, "all answers are right"))
    run()
    assert json.loads(REPORT.read_text())["temperature_note"] == "all answers are right"
    assert "note: all answers are right" in capsys.readouterr().out


def test_probabilities_of_8_bits_are_called_coarse(here, capsys):
    run(formats=["litert_int8"], softmax=True, max_accuracy_drop=1.0)
    said = capsys.readouterr().out
    assert "note: litert_int8 gives probabilities in steps of 1/256" in said
    assert "largest log-probability difference" in said
    run(formats=["litert_float32"], softmax=True)
    assert "1/256" not in capsys.readouterr().out


def test_a_student_without_finite_answers_is_refused(here):
    student = keras.saving.load_model(STUDENTS[NAMES[1]])
    head = student.get_layer("logits")
    head.set_weights([np.full_like(weights, np.nan) for weights in head.get_weights()])
    keras_files.save(student, STUDENTS[NAMES[1]], None)
    with pytest.raises(UnusableError, match=rf"{NAMES[1]}.*12 of 12 images are not finite\. Train it again"):
        run()
    assert not OUTPUT.exists()


def test_a_named_student_is_taken_as_it_is(here):
    run(students={NAMES[0]: STUDENTS[NAMES[0]]}, select_by=None, softmax=True)
    report = json.loads(REPORT.read_text())
    assert (report["student"], report["chosen"]) == (NAMES[0], "named in export.students")
    assert open_exported(OUTPUT / "student_float32.tflite").metadata.output == "probabilities"
    assert report["files"]["student_float32.tflite"]["largest_logit_difference"] < 1e-5


def test_a_lower_accuracy_fails_with_the_numbers(here, monkeypatch):
    run()
    before = written()
    data = read_index(INDEX)
    wrong = -np.eye(2, dtype=np.float32)[data.labels(data.split("test"))]
    monkeypatch.setattr(quality, "answers", lambda *_: wrong)
    with pytest.raises(UnusableError) as raised:
        run()
    accuracy = json.loads(REPORT.read_text())["keras"]["accuracy"]
    assert accuracy > 0
    message = str(raised.value)
    assert "lower than the student's by more than export.max_accuracy_drop, 0:" in message
    assert re.search(r"student_float32\.tflite +[\d,]+ +0\.0000 ", message)
    assert f" {accuracy:.4f}" in message
    run(max_accuracy_drop=accuracy)
    assert written() != before


def test_a_refused_export_leaves_the_earlier_one(here):
    run()
    before = written()
    with pytest.raises(UnusableError, match="Nothing was exported"):
        run(softmax=True, max_accuracy_drop=-1.0)
    assert written() == before
    assert not list(OUTPUT.parent.glob("*.partial"))


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_is_stopped_leaves_the_earlier_export(here, monkeypatch, error):
    run()
    before = written()

    def stop(*_):
        raise error

    monkeypatch.setattr(quality, "of_file", stop)
    with pytest.raises(type(error)):
        run(softmax=True)
    assert written() == before
    assert not list(OUTPUT.parent.glob("*.partial"))


def test_students_of_other_data_are_refused(here):
    with pytest.raises(MissingError, match="there is no model at"):
        run(students={NAMES[0]: Path("models/students/none.keras")}, select_by=None)
    keras_files.save(MODEL.build(classes=3, seed=1), STUDENTS[NAMES[1]], None)
    with pytest.raises(MismatchError, match="gives 3 logits, but the data set has 2 classes"):
        run()
    record = {"class_names": ["HP", "SSA"], "validation": {"images": "0" * 64, "accuracy": 0.5}}
    keras_files.save(MODEL.build(classes=2, seed=1), STUDENTS[NAMES[1]], record)
    with pytest.raises(MismatchError, match="trained with other validation images"):
        run()
    assert not OUTPUT.exists()
    run(all_validated=False)


def test_changed_images_are_refused(here):
    image = Path(read_index(INDEX).split("test")[0].path)
    image.write_bytes(image.read_bytes() + b"\0")
    with pytest.raises(MismatchError, match=r"1 image file\(s\) are missing or not those of the index"):
        run()


# The command line


@pytest.fixture
def project(here):
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, name)
    return here


def test_an_unknown_student_is_refused(project):
    done = CliRunner().invoke(main, ["export", "--student", "student_kl_T9_seed1"])
    assert done.exit_code == 1
    assert "there is no student 'student_kl_T9_seed1'. Expected best, or one of" in done.output
    change(Path("params.yaml"), "export.students", ["student_kl_T4_seed9"])
    done = CliRunner().invoke(main, ["export", "--student", "best"])
    assert "export.students names 'student_kl_T4_seed9', and no such student is trained" in done.output
    assert "Did you mean 'student_kl_T4_seed" in done.output


def test_the_command_exports_a_baseline_by_its_name(project):
    Path("models/baselines").mkdir()
    shutil.copy(STUDENTS[NAMES[0]], "models/baselines/seed2.keras")
    change(Path("params.yaml"), "export.students", ["best", "baseline_seed2"])
    change(Path("params.yaml"), "export.formats", ["litert_float32"])
    done = CliRunner().invoke(main, ["export", "--student", "baseline_seed2"])
    assert done.exit_code == 0, done.output
    assert json.loads(Path("results/exports/baseline_seed2.json").read_text())["student"] == "baseline_seed2"
    assert Path("models/exports/baseline_seed2/student_float32.tflite").is_file()
