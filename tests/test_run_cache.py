"""DVC keeps what every stage has made: going back restores it, and an edit that changes nothing keeps it."""

import json
import os
import sys

import pytest
from documents import EXPERIMENTS, block_with, follow
from real_project import ENVIRONMENT, ROOT, change, copy_without, run, sha256, softlabel, stages_run
from ruamel.yaml import YAML

STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
FILES = [
    *("data/index.csv", "models/teacher.keras", "models/teacher.json", "data/soft_labels/teacher_logits.h5"),
    *("data/soft_labels/soft_targets_T4.h5", "models/students/kl_T4_seed1.keras", "models/baselines/seed1.keras"),
    *("results/metrics.json", "dvc.lock"),
]


def base(stages):
    """Names of stages, without what a matrix adds."""
    return {name.partition("@")[0] for name in stages}


# Going back to earlier values


STAND_IN = """#!{python}
import os
from pathlib import Path
from ruamel.yaml import YAML
for out in YAML(typ="safe").load(Path("{lock}"))["stages"][os.environ["DVC_STAGE"]]["outs"]:
    file = Path(out["path"], *(["file"] if "nfiles" in out else []))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("made from other values")
"""
"""In the place of `python -m pipeline`: what the stages write is nothing to DVC, and this writes it at once."""


@pytest.fixture(scope="module")
def there_and_back(reproduced, tmp_path_factory):
    """A project in which parameters of every stage were changed, and set back; what `dvc repro` said each time."""
    folder = tmp_path_factory.mktemp("back")
    project = copy_without(reproduced, folder / "project")
    (folder / "python").write_text(STAND_IN.format(python=sys.executable, lock=reproduced / "dvc.lock"))
    (folder / "python").chmod(0o755)
    before = (project / "params.yaml").read_text()
    for path, value in {
        "split.val_fraction": 0.3,
        "train_teacher.seed": 2,
        "views.count": 1,
        "precompute.batch_size": 64,
        "distill.hard_label_weight": 0.25,
        "student.batch_size": 8,
        "evaluate.batch_size": 64,
    }.items():
        change(project / "params.yaml", path, value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENVIRONMENT, "PATH", f"{folder}{os.pathsep}{ENVIRONMENT['PATH']}")
        there = run("dvc", "repro", cwd=project)
    assert (project / "models/teacher.keras").read_text() == "made from other values"
    (project / "params.yaml").write_text(before)
    return project, there, run("dvc", "repro", cwd=project)


def test_other_values_run_every_stage(there_and_back):
    _, there, _ = there_and_back
    assert base(stages_run(there)) == STAGES.keys()


def test_going_back_runs_nothing(there_and_back):
    _, _, back = there_and_back
    assert stages_run(back) == []


@pytest.mark.parametrize("stage", STAGES)
def test_going_back_restores_each_stage(there_and_back, stage):
    _, _, back = there_and_back
    restored = {line.split("'")[1] for line in back.splitlines() if "is cached - skipping run" in line}
    assert stage in base(restored)


@pytest.mark.parametrize("file", FILES)
def test_going_back_restores_each_file(there_and_back, reproduced, file):
    folder, _, _ = there_and_back
    assert sha256(folder / file) == sha256(reproduced / file)


# An edit of a module that changes no result


@pytest.fixture(scope="module")
def edited(reproduced, tmp_path_factory):
    """A project in which a comment was added to modules of the expensive stages, whose results were then kept."""
    folder = copy_without(reproduced, tmp_path_factory.mktemp("edited") / "project")
    for module in ("stages/train_teacher", "teacher_pass/__init__"):
        with (folder / f"pipeline/{module}.py").open("a") as file:
            file.write("# a remark\n")
    before = json.loads(run("dvc", "status", "--json", cwd=folder))
    commit = block_with("dvc commit", EXPERIMENTS, "Keep results after an edit that does not change them")
    follow(commit, folder)
    return folder, before


def test_an_edit_would_run_the_expensive_stages(edited):
    _, before = edited
    assert {name for name in before if not name.startswith("data/")} == {"train_teacher", "precompute"}


def test_after_commit_nothing_runs(edited, reproduced):
    folder, _ = edited
    said = run("dvc", "repro", cwd=folder)
    assert stages_run(said) == []
    assert "is cached" not in said
    for file in FILES[:-1]:
        assert sha256(folder / file) == sha256(reproduced / file)


def test_after_commit_the_kept_results_are_taken_by_what_follows(edited):
    """A new temperature: its soft labels from the kept logits, by the edited program itself."""
    folder, _ = edited
    change(folder / "params.yaml", "distill.temperatures", [2, 4])
    assert stages_run(run("dvc", "repro", "soften@2", cwd=folder)) == ["soften@2"]
    files = [f"data/soft_labels/{name}.h5" for name in ("teacher_logits", "soft_targets_T2")]
    verified = softlabel(*(["verify", file] for file in files), cwd=folder)
    assert all(f"{file} is sound" in verified for file in files)
