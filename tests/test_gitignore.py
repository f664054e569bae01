"""Data sets of users: git takes what DVC notes of them, and nothing else."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture(autouse=True)
def _in_a_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(ROOT / ".gitignore", ".gitignore")
    git("init", "--quiet")


def test_git_takes_the_notes_of_data_sets_and_no_data():
    kept = ["data/raw/birds.dvc", "data/raw/a.npz.dvc", "data/raw/of_2026/birds.dvc"]
    ignored = [
        "data/raw/a.npz", "data/raw/birds/1.png", "data/raw/birds/images/1.png", "data/raw/birds/train/cat/1.png",
        "data/raw/of_2026/birds/train/cat/1.png", "data/raw/of_2026/a.npz",
    ]  # fmt: skip
    for name in (*kept, *ignored):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    assert git("ls-files", "--others", "--exclude-standard").split() == sorted([".gitignore", *kept])
    assert git("check-ignore", *ignored).split() == ignored


def test_git_takes_nothing_that_pip_builds():
    for name in ("build/lib/pipeline/tools/plan.py", "softlabel-0.1.0-py3-none-any.whl", "softlabel.egg-info/PKG-INFO"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    assert git("ls-files", "--others", "--exclude-standard").split() == [".gitignore"]


def test_dvc_adds_data_sets(tmp_path):
    """DVC refuses a note that git would ignore."""
    for name in ("data/raw/birds/images/1.png", "data/raw/of_2026/birds/1.png", "data/raw/a.npz"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name)
    subprocess.run(["dvc", "init", "--quiet"], check=True)
    added = ["data/raw/birds", "data/raw/of_2026/birds", "data/raw/a.npz"]
    subprocess.run(["dvc", "add", "--quiet", *added], check=True)
    status = git("status", "--short", "--untracked-files=all", "data").split()
    assert status[1::2] == sorted(f"{name}.dvc" for name in added)


def test_git_takes_the_numbers_of_exports_and_not_what_dvc_keeps():
    """The folder itself is in git, since DVC makes nothing for an empty `export.students`, and stages depend on it."""
    kept, ignored = (
        ["results/exports/.gitkeep", "results/exports/best.json"],
        ["results/export_speed.json", "results/x"],
    )
    for name in (*kept, *ignored):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    assert git("ls-files", "--others", "--exclude-standard", "results").split() == kept
    assert (ROOT / kept[0]).is_file()
