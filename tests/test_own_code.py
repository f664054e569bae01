"""A queued experiment runs the modules of its own copy, everything else the program that is installed."""

import os
from pathlib import Path

import pytest
from real_project import ENVIRONMENT, copy_without, run

from pipeline import own_code

TOLD = "this is the copy's own code"


@pytest.fixture
def copy(reproduced, tmp_path, monkeypatch):
    """A copy of a project in which one module says that it is its own."""
    folder = copy_without(reproduced, tmp_path / ".dvc/tmp/exps/project", ".dvc", ".work")
    module = folder / "pipeline/soften.py"
    module.write_text(module.read_text().replace('print(f"wrote', f'print("{TOLD}")\n    print(f"wrote'))
    monkeypatch.setitem(ENVIRONMENT, "DVC_STAGE", "soften@4")
    monkeypatch.setitem(ENVIRONMENT, "DVC_ROOT", str(tmp_path))
    return folder


def soften(folder):
    return run("softlabel", "soften", "--temperature", "4", cwd=folder)


def test_an_experiment_runs_its_own_copy(copy):
    assert TOLD in soften(copy)


def test_a_stage_in_the_repository_itself_runs_what_is_installed(copy, monkeypatch):
    monkeypatch.setitem(ENVIRONMENT, "DVC_ROOT", str(copy))
    said = soften(copy)
    assert "wrote data/soft_labels" in said
    assert TOLD not in said


def test_a_command_by_hand_runs_what_is_installed(copy, monkeypatch):
    monkeypatch.delitem(ENVIRONMENT, "DVC_STAGE")
    assert TOLD not in soften(copy)


def test_what_runs_its_own_code_already_goes_on(monkeypatch):
    """Or it would start itself again and again."""
    monkeypatch.setenv("DVC_STAGE", "soften@4")
    monkeypatch.setattr(own_code, "in_a_copy", lambda: True)
    monkeypatch.chdir(Path(own_code.__file__).parents[1])
    monkeypatch.setattr(os, "execve", lambda *_: pytest.fail("started again"))
    own_code.run_own_code()


def test_a_folder_without_the_program_is_left_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("DVC_STAGE", "soften@4")
    monkeypatch.setattr(own_code, "in_a_copy", lambda: True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "execve", lambda *_: pytest.fail("started another program"))
    own_code.run_own_code()
