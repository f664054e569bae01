"""The wheel with the extra `runtime`, alone in an environment: it labels real images, without TensorFlow."""

import csv
import email
import io
import os
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
import tensorflow as tf
from exported_files import CLASSES, student, write_litert
from packaging.requirements import Requirement
from real_project import copy_repository, run

from pipeline.images.decoding import decode

ALLOWED = {"ai-edge-litert", "click", "numpy", "pillow"}
"""What the extra `runtime` may ask for, and what these packages themselves need."""

MODULES = """
import sys
from pipeline.cli.main import main
before = set(sys.modules)
main(sys.argv[1:], standalone_mode=False)
names = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)
print(*sorted(name for name in names if not name.startswith("_")), file=sys.stderr)
"""


def needed(name: str, extras: frozenset[str] = frozenset()) -> set[str]:
    """A distribution with all that it needs, as its metadata say."""
    found = {name}
    for text in distribution(name).requires or []:
        requirement = Requirement(text)
        if any(requirement.marker is None or requirement.marker.evaluate({"extra": extra}) for extra in extras or {""}):
            found |= needed(requirement.name, frozenset(requirement.extras))
    return found


def link(name: str, packages: Path) -> None:
    """Puts the files of an installed distribution into the packages of another environment."""
    installed = distribution(name)
    for file in installed.files or []:
        if ".." not in file.parts and "__pycache__" not in file.parts:
            (packages / file).parent.mkdir(parents=True, exist_ok=True)
            (packages / file).symlink_to(installed.locate_file(file))


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Path:
    """An environment that holds the wheel and what its metadata name."""
    folder = tmp_path_factory.mktemp("wheel")
    (folder / "source").mkdir()
    copy_repository(folder / "source")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), "./source", cwd=folder)
    run(sys.executable, "-m", "venv", "--without-pip", str(folder / "env"), cwd=folder)
    (wheel,) = folder.glob("softlabel-*.whl")
    python = str(folder / "env/bin/python")
    run(*pip, "--python", python, "install", "--no-deps", "--no-index", str(wheel), cwd=folder)
    (packages,) = folder.glob("env/lib/*/site-packages")
    (metadata,) = packages.glob("softlabel-*.dist-info/METADATA")
    told = email.message_from_string(metadata.read_text()).get_all("Requires-Dist")
    asked = [Requirement(text) for text in told]
    runtime = {each.name for each in asked if each.marker is None or each.marker.evaluate({"extra": "runtime"})}
    assert runtime == ALLOWED | {"tqdm"}  # which LiteRT needs, too
    names = {each for name in runtime for each in needed(name)}
    assert names == {each for name in ALLOWED for each in needed(name)}
    for name in names:
        link(name, packages)
    return folder / "env"


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A folder with a model and two photographs, JPEG files of 640 x 427 pixels."""
    folder = tmp_path_factory.mktemp("work")
    write_litert(folder / "student.tflite")
    (folder / "photos").mkdir()
    for file in Path(sklearn.datasets.__file__).parent.glob("images/*.jpg"):
        shutil.copy(file, folder / "photos")
    return folder


def alone(environment: Path, *command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs a command of the environment, which sees nothing of this one."""
    return subprocess.run(
        [environment / "bin" / command[0], *command[1:]],
        cwd=cwd,
        env={"PATH": os.defpath},
        capture_output=True,
        text=True,
        check=False,
    )


def test_real_images_are_labelled_as_in_the_pipeline(environment, work):
    done = alone(environment, "softlabel", "predict", "student.tflite", "photos", "--format", "csv", cwd=work)
    assert (done.returncode, done.stderr) == (0, "predict: starting\n")
    rows = [*csv.DictReader(io.StringIO(done.stdout))]
    assert [row["path"] for row in rows] == ["photos/china.jpg", "photos/flower.jpg"]
    pixels = [decode(tf.io.read_file(str(work / row["path"])), (2, 2, 1)) for row in rows]
    logits = student()(np.stack(pixels).astype(np.float32)).numpy().astype(np.float64)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = [[float(row[f"probability_{name}"]) for name in CLASSES] for row in rows]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found[0] != found[1]


def test_nothing_else_is_loaded(environment, work):
    """So it starts in a fraction of a second; docs/guide.md has the time."""
    arguments = ["predict", "student.tflite", "photos", "--output", "labels.txt"]
    done = alone(environment, "python", "-c", MODULES, *arguments, cwd=work)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stderr.splitlines()[-1].split())
    assert {"PIL", "ai_edge_litert", "click", "numpy", "pipeline", "tqdm"} <= loaded
    assert loaded.isdisjoint({"dvc", "filelock", "h5py", "keras", "pandas", "pydantic", "tensorflow"})


def test_what_is_not_installed_is_told_in_one_line(environment, work):
    assert "predict" in alone(environment, "softlabel", "--help", cwd=work).stdout
    for command in ("evaluate", "plan", "verify x.h5", "train-baseline --seed 1", "predict x.keras photos"):
        refused = alone(environment, "softlabel", *command.split(), cwd=work)
        assert (refused.returncode, refused.stdout) == (1, "")
        _, line = refused.stderr.splitlines()
        assert "which is not installed" in line
        assert "`pip install './FILE.whl[pipeline]'`" in line
    refused = alone(environment, "softlabel", "predict", "student.onnx", "photos", cwd=work)
    assert "there is no file student.onnx" in refused.stderr
