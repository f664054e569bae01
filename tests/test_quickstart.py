"""docs/quickstart.ipynb: it runs from images to a shipped student, and is committed with what it shows.

The lines of docs/extending.md execute it.
"""

import base64
import csv
import io
import re
import sys
from pathlib import Path

import nbformat
import pytest
from PIL import Image
from real_project import ROOT, attempt, copy_repository, run

NOTEBOOK = Path("docs/quickstart.ipynb")
LINES = re.findall(r"```python\n(.*?)```", (ROOT / "docs/extending.md").read_text(encoding="utf-8"), re.DOTALL)
PRIVATE = r"/(?:root|home|tmp|Users)\b|site-packages|\b20\d\d-\d\d-\d\d\b|\b\d\d:\d\d:\d\d\b|Warning|Traceback"


def read(folder):
    return nbformat.read(folder / NOTEBOOK, as_version=4)


def code_cells(folder):
    return [cell for cell in read(folder).cells if cell.cell_type == "code"]


def kinds(cell):
    """What a cell shows: the name of each stream, and the MIME types of each picture or table."""
    return [output.get("name") or sorted(output.data) for output in cell.outputs]


def told(cell):
    """The texts that a cell shows."""
    values = [[output.get("text", ""), *output.get("data", {}).values()] for output in cell.outputs]
    return "\n".join(text for texts in values for text in texts)


def tracked_or_new(folder):
    """Every file but those that git ignores."""
    return set(run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=folder).splitlines())


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The project in which the notebook was executed."""
    folder = tmp_path_factory.mktemp("quickstart")
    copy_repository(folder)
    (lines,) = LINES
    run(sys.executable, "-c", lines, cwd=folder)
    return folder


@pytest.mark.slow
def test_git_checkout_brings_the_clone_back(executed):
    """What the notebook makes is tracked, or ignored."""
    assert tracked_or_new(executed) <= tracked_or_new(ROOT)


COMMANDS = {
    "a stage": ("echo \"Running stage 'x':\"; exit 0", 0, "Running stage 'x':"),
    "up to date": ("echo 'Data and pipelines are up to date.'; exit 0", 0, ""),
    "broken params.yaml": ("echo 'ERROR: params.yaml is invalid' >&2; exit 255", 255, ""),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", COMMANDS)
def test_a_cell_of_dvc_fails_if_dvc_fails_and_only_then(case, tmp_path):
    script, code, shown = COMMANDS[case]
    (tmp_path / "data").mkdir()
    (tmp_path / "data/index.csv").write_text("id\n")
    (tmp_path / "dvc").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "dvc").chmod(0o755)
    cells = [cell.source for cell in code_cells(ROOT) if "\ndvc repro" in cell.source]
    assert len(cells) == 2
    for cell in cells:
        lines = cell.removeprefix("%%bash --err progress\n")
        done = attempt("bash", "-c", f"PATH=$PWD:$PATH\n{lines}", cwd=tmp_path)
        assert done.returncode == code, done.stdout
        assert shown in done.stdout


@pytest.mark.slow
def test_the_notebook_ends_with_a_shipped_student(executed):
    """The int8 file labels images of ten classes, and is right on most of them."""
    exported = executed / "models/exports/best"
    files = {"student_float32.tflite", "student_int8.tflite", "student.onnx", "export.json"}
    assert {path.name for path in exported.iterdir()} == files
    assert (executed / "results/MODEL_CARD.md").is_file()
    with (executed / "results/labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    true = [Path(row["path"]).parent.name for row in rows]
    assert true == [str(number) for number in range(10)]
    assert sum(row["predicted"] == name for row, name in zip(rows, true, strict=True)) >= 8


@pytest.mark.slow
def test_the_committed_notebook_is_the_one_that_runs(executed):
    """The same cells, which show the same kinds of things."""
    assert [cell.source for cell in read(executed).cells] == [cell.source for cell in read(ROOT).cells]
    assert list(map(kinds, code_cells(executed))) == list(map(kinds, code_cells(ROOT)))


def test_the_notebook_is_committed_with_its_pictures_and_small():
    nbformat.validate(read(ROOT))
    cells = code_cells(ROOT)
    assert [cell.execution_count for cell in cells] == list(range(1, 1 + len(cells)))
    assert (ROOT / NOTEBOOK).stat().st_size < 400_000
    shown = [output.get("data", {}).get("image/png") for cell in cells for output in cell.outputs]
    pictures = [base64.b64decode(picture) for picture in shown if picture]
    assert len(pictures) >= 3
    for picture in pictures:
        with Image.open(io.BytesIO(picture)) as image:
            assert min(image.size) > 100
            assert len(set(image.convert("L").tobytes())) > 10, "it is not empty"


def test_the_notebook_tells_nothing_of_a_machine_or_a_time():
    assert {tuple(cell.metadata) for cell in read(ROOT).cells} == {()}
    for cell in code_cells(ROOT):
        assert "stderr" not in kinds(cell)
        assert not re.search(PRIVATE, told(cell)), cell.source


def test_the_notebook_has_short_texts_and_cells():
    assert max(len(cell.source) for cell in read(ROOT).cells) <= 700
