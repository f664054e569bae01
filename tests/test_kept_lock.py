"""What DVC leaves when it is ended, and how to go on: stages keep a copy of dvc.lock, for DVC writes it in place."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dvc_objects.fs.utils import tmp_fname
from real_project import ENVIRONMENT

from pipeline.cli.kept_lock import keep_copy

DOCUMENT = Path(__file__).parents[1] / "docs/reliability.md"
KEPT = Path(".work/dvc.lock")
STAGE = """
import sys
from pathlib import Path
from pipeline.cli.kept_lock import keep_copy
keep_copy()
Path(sys.argv[1]).write_text("made")
with Path("ran.log").open("a") as log: print(sys.argv[1], file=log)
"""
PIPELINE = """
stages:
  first: {{cmd: {python} stage.py one, outs: [one]}}
  second: {{cmd: {python} stage.py two, deps: [one], outs: [two]}}
"""


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """The folder of a project, in a process that looks like a stage of DVC."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_STAGE", "second")
    monkeypatch.delenv("DVC_ROOT", raising=False)
    Path("dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    return tmp_path


def test_a_stage_keeps_the_bytes_that_are_there_when_it_starts(stage):
    for content in ("schema: '2.0'\nstages: {}\n", "schema: '2.0'\nstages:\n  first: {}\n"):
        Path("dvc.lock").write_text(content)
        keep_copy()
        assert KEPT.read_text() == content
    assert [path.name for path in KEPT.parent.iterdir()] == ["dvc.lock"]


def test_a_file_that_is_cut_off_does_not_replace_a_whole_one(stage):
    keep_copy()
    before = KEPT.read_bytes()
    for cut in ("", "schema: '2.0'\nstages:\n  fir"):
        Path("dvc.lock").write_text(cut)
        keep_copy()
        assert KEPT.read_bytes() == before


def test_a_stage_that_dvc_did_not_start_keeps_nothing(stage, monkeypatch):
    monkeypatch.delenv("DVC_STAGE")
    keep_copy()
    assert not KEPT.parent.exists()


def test_an_experiment_in_a_copy_keeps_nothing(stage, monkeypatch):
    copy = stage / ".dvc/tmp/exps/temporary"
    copy.mkdir(parents=True)
    shutil.copy("dvc.lock", copy)
    monkeypatch.setenv("DVC_ROOT", str(stage))
    monkeypatch.chdir(copy)
    keep_copy()
    assert not (stage / KEPT.parent).exists()


def test_without_dvc_lock_there_is_nothing_to_keep(stage):
    Path("dvc.lock").unlink()
    keep_copy()
    assert not KEPT.exists()


@pytest.mark.slow
@pytest.mark.parametrize("kept", ["nothing", "half a line"])
def test_with_the_copy_only_the_last_stage_runs_again(tmp_path, kept):
    """By real dvc, whose run cache is removed, or it would restore the outputs."""
    (tmp_path / "stage.py").write_text(STAGE)
    (tmp_path / "dvc.yaml").write_text(PIPELINE.format(python=sys.executable))

    def dvc(*words):
        return subprocess.run(["dvc", *words], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)

    dvc("init", "--no-scm")
    assert dvc("repro").returncode == 0
    whole = (tmp_path / "dvc.lock").read_text()
    shutil.rmtree(tmp_path / ".dvc/cache/runs")
    (tmp_path / "dvc.lock").write_text("" if kept == "nothing" else whole[: whole.index("hash: md5") + 2])
    refused = dvc("repro")
    assert refused.returncode
    assert "dvc.lock' " in refused.stderr
    shutil.copy(tmp_path / KEPT, tmp_path / "dvc.lock")
    assert dvc("repro").returncode == 0
    assert (tmp_path / "dvc.lock").read_text() == whole
    assert (tmp_path / "ran.log").read_text().split() == ["one", "two", "two"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ends_before", "told"),
    [
        (None, "join() argument must be str"),
        ("outs:", "failed to reproduce 'second': 'outs'"),
        ("- path: two", "'two' does not exist"),
    ],
)
def test_an_unfinished_run_stops_dvc_until_it_is_removed(tmp_path, ends_before, told):
    """DVC makes a folder, a file in it, and gives the file its name. The command is that of docs/reliability.md."""
    (tmp_path / "stage.py").write_text(STAGE)
    both = PIPELINE.replace("stage.py two,", "stage.py three && {python} stage.py two,").replace(
        "[two]", "[three, two]"
    )
    (tmp_path / "dvc.yaml").write_text(both.format(python=sys.executable))

    def run(*words):
        return subprocess.run(words, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)

    run("dvc", "init", "--no-scm")
    assert run("dvc", "repro").returncode == 0
    noted = (tmp_path / "dvc.lock").read_text()
    (whole,) = (tmp_path / ".dvc/cache/runs").glob("*/*/*")
    if ends_before is None:
        whole = whole.rename(whole.parents[1] / whole.name)
    else:
        cut_off, _, _ = whole.read_text().partition(ends_before)
        whole.with_name(tmp_fname()).write_text(cut_off)
        os.utime(whole, (0, 0))  # DVC reads the newest
    (tmp_path / "dvc.lock").unlink()
    for _ in range(2):
        refused = run("dvc", "repro")
        assert (refused.returncode, told in refused.stderr) == (255, True), refused.stderr
    (command,) = re.findall(r"`(find \.dvc/cache/runs [^`]*)`", DOCUMENT.read_text(encoding="utf-8"))
    assert run("sh", "-c", command).returncode == 0
    assert [*whole.parent.iterdir()] == [whole]
    assert run("dvc", "repro").returncode == 0
    assert (tmp_path / "dvc.lock").read_text() == noted
