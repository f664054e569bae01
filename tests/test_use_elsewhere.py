"""Soft labels used from other repositories, by the commands of docs/sharing.md, as the real DVC runs them."""

import subprocess
import sys
from pathlib import Path

import h5py
import keras
import pytest
from real_project import ENVIRONMENT, ROOT, attempt, change, copy_without, run, sha256
from ruamel.yaml import YAML
from shared_project import Shared, publish

AT_4 = "data/soft_labels/soft_targets_T4.h5"
ARTIFACTS = YAML(typ="safe").load(ROOT / "dvc.yaml")["artifacts"]


@pytest.fixture(scope="module")
def shared(reproduced, tmp_path_factory) -> Shared:
    """A published project with the remote in the configuration that git shares, and a version of the soft labels."""
    project = publish(reproduced, tmp_path_factory.mktemp("shared"))
    run("dvc", "remote", "add", "--default", "shared", str(project.remote), cwd=project.first)
    run("git", "commit", "--quiet", "--all", "--message", "Remote", cwd=project.first)
    run("git", "push", "--quiet", cwd=project.first)
    project.play("tag", cwd=project.first)
    return project


@pytest.fixture
def elsewhere(tmp_path) -> Path:
    """A folder that is nobody's."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_get(shared, elsewhere):
    shared.play("get", cwd=elsewhere)
    assert names_in(elsewhere) == ["soft_targets_T4.h5"]
    assert sha256(elsewhere / "soft_targets_T4.h5") == sha256(shared.first / AT_4)


def test_get_with_a_folder_that_git_does_not_know(reproduced, tmp_path, elsewhere):
    project = publish(reproduced, tmp_path)
    command = project.here("get").strip()
    assert attempt("bash", "-euc", command, cwd=elsewhere).returncode != 0
    run("bash", "-euc", f"{command} --remote folder --remote-config url={project.remote}", cwd=elsewhere)
    assert sha256(elsewhere / "soft_targets_T4.h5") == sha256(project.first / AT_4)


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


def test_every_artifact_can_be_had(shared, elsewhere):
    for name in ARTIFACTS:
        run("git", "tag", "--annotate", f"{name}@v2.0.0", "--message", "Second", cwd=shared.first)
    run("git", "push", "--quiet", "--tags", cwd=shared.first)
    for name in ARTIFACTS:
        run("dvc", "artifacts", "get", f"file://{shared.origin}", name, cwd=elsewhere)
    expected = {
        "teacher.keras": "models/teacher.keras",
        "teacher_logits.h5": "data/soft_labels/teacher_logits.h5",
        "soft_targets_T4.h5": AT_4,
        "T4_seed1.keras": "models/students/T4_seed1.keras",
    }
    assert names_in(elsewhere) == sorted(expected)
    for name, path in expected.items():
        assert sha256(elsewhere / name) == sha256(shared.first / path)
    assert keras.saving.load_model(elsewhere / "T4_seed1.keras").output_shape == (None, 2)


def test_every_artifact_is_described():
    assert list(ARTIFACTS) == ["teacher", "teacher-logits", "soft-labels", "student"]
    for name, entry in ARTIFACTS.items():
        assert entry.keys() == {"path", "type", "desc", "labels"}
        assert entry["type"] == ("model" if entry["path"].endswith(".keras") else "dataset")
        assert entry["desc"].endswith(".")
        assert entry["labels"], name


def test_the_paths_follow_the_params(reproduced, tmp_path):
    """As they are written there: 1.0 names another file than 1."""
    from dvc.repo import Repo

    project = copy_without(reproduced, tmp_path / "project")
    change(project / "params.yaml", "distill.temperatures", [1.0, 4])
    change(project / "params.yaml", "student.seeds", [7, 1])
    with Repo(str(project)) as repo:
        found = repo.artifacts.read()["dvc.yaml"]
        outs = {out.fspath for out in repo.index.outs}
    assert found["soft-labels"].path == "data/soft_labels/soft_targets_T1.0.h5"
    assert found["student"].path == "models/students/T1.0_seed7.keras"
    for artifact in found.values():
        assert str(project / artifact.path) in outs
