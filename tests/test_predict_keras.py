"""`softlabel predict` with a `.keras` file, in a folder with params.yaml and exported files."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from click.testing import CliRunner
from exported_files import CLASSES, LOGITS, PIXELS, student, write_litert
from real_project import ROOT, sha256

from pipeline.cli.main import main
from pipeline.models import keras_files

FILE = Path("models/students/kl_T4_seed1.keras")
EXPORT = Path("models/exports/best/export.json")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    keras_files.save(student(), folder / FILE, {"class_names": [*CLASSES]})
    keras_files.save(student(), folder / "foreign.keras")
    for number, pixels in enumerate(PIXELS):
        PIL.Image.fromarray(pixels[..., 0]).save(folder / f"{number}.png")
    shutil.copy(ROOT / "params.yaml", folder)
    return folder


@pytest.fixture
def project(made, tmp_path, monkeypatch) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def exported(**changed) -> None:
    EXPORT.parent.mkdir(parents=True)
    EXPORT.write_text(json.dumps({"sha256": sha256(FILE), "temperature": 2.5} | changed))


def predict(*arguments):
    return CliRunner().invoke(main, ["predict", *map(str, arguments)])


def refusal(*arguments):
    refused = predict(*arguments)
    assert (refused.exit_code, refused.stdout) == (1, "")
    return refused.stderr.splitlines()[-1]


@pytest.mark.parametrize(("options", "temperature"), [([], 1), (["--calibrated"], 2.5)])
def test_answers_are_those_by_pencil(project, options, temperature):
    """Three images in batches of two."""
    exported()
    done = predict(FILE, "[0-9].png", "--format", "csv", "--batch-size", 2, *options)
    rows = [*csv.DictReader(io.StringIO(done.stdout))]
    assert [row["path"] for row in rows] == ["0.png", "1.png", "2.png"]
    expected = np.exp(LOGITS / temperature)
    found = [[float(row[f"probability_{name}"]) for name in CLASSES] for row in rows]
    np.testing.assert_allclose(found, expected / expected.sum(axis=1, keepdims=True), atol=1e-5)


def test_a_temperature_belongs_to_one_file(project):
    assert "no file in models/exports was made from models/students/kl_T4" in refusal(FILE, "0.png", "--calibrated")
    exported(sha256="0" * 64)
    assert "run `dvc repro export`, or leave --calibrated out" in refusal(FILE, "0.png", "--calibrated")


@pytest.mark.parametrize("content", ["{", "[]", '{"sha256": "0"}', '{"sha256": "0", "temperature": null}'])
def test_what_an_export_tells_may_be_damaged(project, content):
    exported()
    EXPORT.write_text(content)
    assert "models/exports/best/export.json cannot be read" in refusal(FILE, "0.png", "--calibrated")


@pytest.fixture
def other_resize(project) -> str:
    """Edits params.yaml; the end of what a refusal says of it."""
    text = Path("params.yaml").read_text()
    assert text.count("method: bilinear") == 1
    Path("params.yaml").write_text(text.replace("method: bilinear", "method: lanczos3"))
    return 'says that the images of this student are resized by method "bilinear", antialias true, fit "stretch"'


def test_the_resizing_of_an_export_is_not_exchanged(other_resize):
    assert predict(FILE, "0.png").exit_code == 0  # nothing says otherwise
    exported()
    write_litert(EXPORT.with_name("student_float32.tflite"))
    for options in ([], ["--calibrated"]):
        assert f"models/exports/best/student_float32.tflite {other_resize}" in refusal(FILE, "0.png", *options)
    EXPORT.write_text(EXPORT.read_text().replace(sha256(FILE), "0" * 64))  # of another student
    assert predict(FILE, "0.png").exit_code == 0


def test_the_resizing_of_its_own_run_is_not_exchanged(other_resize):
    shutil.copy(FILE, "copy.keras")
    Path("results").mkdir()
    shutil.copy(ROOT / "results/metrics.json", "results")
    error = refusal(FILE, "0.png")
    assert f"results/metrics.json {other_resize}" in error
    assert 'images.resize of params.yaml is method "lanczos3", antialias true, fit "stretch"' in error
    assert predict("copy.keras", "0.png").exit_code == 0  # which the numbers do not know


def test_numbers_that_say_nothing_of_resizing_are_taken(other_resize):
    """As those of an older version."""
    Path("results").mkdir()
    metrics = json.loads((ROOT / "results/metrics.json").read_text())
    metrics["made_from"]["params"] = [line for line in metrics["made_from"]["params"] if "resize" not in line]
    Path("results/metrics.json").write_text(json.dumps(metrics))
    assert predict(FILE, "0.png").exit_code == 0


def test_exports_that_were_resized_alike_are_no_reason_to_refuse(project):
    exported()
    write_litert(EXPORT.with_name("student_float32.tflite"))
    assert predict(FILE, "0.png").exit_code == 0


def test_a_file_that_does_not_name_its_classes_is_refused(project):
    assert "foreign.keras does not say which classes its outputs are" in refusal("foreign.keras", "0.png")


def test_a_file_of_another_format_is_refused(project):
    Path("other.keras").write_bytes(b"\x1c\0\0\0TFL3")
    assert "other.keras is not a whole `.keras` file" in refusal("other.keras", "0.png")


def test_without_params_yaml_nobody_knows_how_images_are_resized(project):
    Path("params.yaml").unlink()
    assert "params.yaml" in refusal(FILE, "0.png")
