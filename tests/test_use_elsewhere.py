"""Soft labels used from other repositories, by the commands of docs/sharing.md, as the real DVC runs them."""

import json
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
from real_project import ENVIRONMENT, ROOT, attempt, change, copy_without, run, sha256
from ruamel.yaml import YAML
from shared_project import DOCUMENT, Shared, publish

AT_4 = "data/soft_labels/soft_targets_T4.h5"
ARTIFACTS = YAML(typ="safe").load(ROOT / "dvc.yaml")["artifacts"]


@pytest.fixture(scope="module")
def shared(reproduced, tmp_path_factory) -> Shared:
    """A published project: in its first commit git knows no remote, in its second one it does, and has versions."""
    project = publish(reproduced, tmp_path_factory.mktemp("shared"))
    run("dvc", "remote", "add", "--default", "shared", str(project.remote), cwd=project.first)
    run("git", "commit", "--quiet", "--all", "--message", "Remote", cwd=project.first)
    run("git", "push", "--quiet", cwd=project.first)
    for name in ARTIFACTS:
        tag = project.here("tag").replace("soft-labels", name)
        run("bash", "-euc", tag, cwd=project.first)
    # An earlier version that is tagged later, of the commit without a remote: it could not be had.
    run("git", "tag", "--annotate", "student@v0.9.0", "HEAD~", "--message", "Old", cwd=project.first)
    run("git", "push", "--quiet", "origin", "student@v0.9.0", cwd=project.first)
    return project


@pytest.fixture
def elsewhere(tmp_path) -> Path:
    """A folder that is nobody's."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_get_brings_the_file_and_nothing_else(shared, elsewhere):
    shared.play("get", cwd=elsewhere)
    assert names_in(elsewhere) == ["soft_targets_T4.h5"]
    assert sha256(elsewhere / "soft_targets_T4.h5") == sha256(shared.first / AT_4)


def test_get_with_a_folder_that_git_does_not_know(shared, elsewhere):
    first_commit = run("git", "rev-parse", "HEAD~", cwd=shared.first).strip()
    command = f"{shared.here('get').strip()} --rev {first_commit}"
    assert attempt("bash", "-euc", command, cwd=elsewhere).returncode != 0
    assert "`--remote folder --remote-config url=/mnt/team/project`" in DOCUMENT.read_text(encoding="utf-8")
    run("bash", "-euc", f"{command} --remote folder --remote-config url={shared.remote}", cwd=elsewhere)
    assert sha256(elsewhere / "soft_targets_T4.h5") == sha256(shared.first / AT_4)


def test_import_notes_where_it_came_from(shared, elsewhere):
    run("git", "init", "--quiet", cwd=elsewhere)
    run("dvc", "init", "--quiet", cwd=elsewhere)
    shared.play("import", cwd=elsewhere)
    assert sha256(elsewhere / "soft_targets.h5") == sha256(shared.first / AT_4)
    noted = YAML(typ="safe").load(elsewhere / "soft_targets.h5.dvc")["deps"][0]
    head = run("git", "rev-parse", "HEAD", cwd=shared.first).strip()
    assert noted == {"path": AT_4, "repo": {"url": f"file://{shared.origin}", "rev_lock": head}}
    assert "/soft_targets.h5\n" in (elsewhere / ".gitignore").read_text()


def test_open_reads_it_into_h5py(shared, elsewhere):
    program = subprocess.run(
        [sys.executable, "-c", shared.here("open")],
        cwd=elsewhere,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    with h5py.File(shared.first / AT_4) as file:
        assert program.stdout == f"{file['train/soft'][0].shape}\n"
    assert names_in(elsewhere) == []


def test_an_artifact_of_a_version(shared, elsewhere):
    assert "tag soft-labels@v1.0.0\n" in run("git", "cat-file", "-p", "soft-labels@v1.0.0", cwd=shared.origin)
    shared.play("artifact", cwd=elsewhere)
    assert sha256(elsewhere / "soft_targets_T4.h5") == sha256(shared.first / AT_4)


GET_ARTIFACTS = """
import sys
from dvc.cli import main
for name in sys.argv[2:]:
    assert main(["artifacts", "get", sys.argv[1], name, "--out", name]) == 0
"""
"""`dvc artifacts get` of several ones in one process."""


def test_the_other_artifacts_at_their_highest_version(shared, elsewhere):
    expected = {
        "teacher": "models/teacher.keras",
        "teacher-logits": "data/soft_labels/teacher_logits.h5",
        "student": "models/students/kl_T4_seed1.keras",
    }
    assert {*expected, "soft-labels"} == {*ARTIFACTS}
    run(sys.executable, "-c", GET_ARTIFACTS, f"file://{shared.origin}", *expected, cwd=elsewhere)
    for name, path in expected.items():
        assert sha256(elsewhere / name) == sha256(shared.first / path)


def test_every_artifact_is_described():
    for name, entry in ARTIFACTS.items():
        assert entry.keys() == {"path", "type", "desc", "labels"}
        assert entry["type"] == ("model" if entry["path"].endswith(".keras") else "dataset")
        assert entry["desc"].endswith(".")
        assert entry["labels"], name


READ_BY_DVC = """
import json
from dvc.repo import Repo
with Repo() as repo:
    paths = {name: artifact.path for name, artifact in repo.artifacts.read()["dvc.yaml"].items()}
    print(json.dumps([paths, [out.def_path for out in repo.index.outs]]))
"""


def test_the_paths_follow_the_params(reproduced, tmp_path):
    """As they are written there: 1.0 names another file than 1."""
    project = copy_without(reproduced, tmp_path / "project")
    change(project / "params.yaml", "distill.temperatures", [1.0, 4])
    change(project / "params.yaml", "student.seeds", [7, 1])
    paths, outs = json.loads(run(sys.executable, "-c", READ_BY_DVC, cwd=project))
    assert paths["soft-labels"] == "data/soft_labels/soft_targets_T1.0.h5"
    assert paths["student"] == "models/students/kl_T1.0_seed7.keras"
    assert set(paths.values()) < set(outs)
