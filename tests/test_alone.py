"""What the whole job and every tool do beyond the project: no connection, no pickle, no file elsewhere."""

import json
import os
import re
from collections import Counter
from pathlib import Path

import pytest
from real_project import ROOT, audited, copy_without, run, softlabel, without_network

from pipeline.runtime.own_surroundings import onnx_runtime

KERAS = [".keras", ".keras/keras.json"]
"""Keras writes its settings there when it is loaded for the first time; docs/reliability.md names it."""

DVC = re.compile(r"/var/tmp/dvc/|/dev/(null|pts/|tty)|/proc/self/")  # noqa: S108 - where DVC keeps its state of all projects
"""Where DVC, and every process, may write."""

OTHERS = {"sweep", "init-remote", "init", "parity", "models", "import-logits"}
"""Tools that are asked for another machine, or take minutes; all but the first two only do what stages do, too."""

TOOLS = [
    ["plan"],
    ["params"],
    ["table"],
    ["table", "--markdown"],
    ["inspect", "data/soft_labels/soft_targets_T4.h5"],
    ["inspect", "data/soft_labels/teacher_logits.h5", "--sample", "MHIST_000.png"],
    ["pack", "packed"],
    ["verify", "data/soft_labels/soft_targets_T4.h5"],
    ["verify", "packed"],
    ["predict", "models/exports/best/student_float32.tflite", "data/split/test"],
    ["predict", "models/exports/best/student.onnx", "data/split/test", "--output", "labels.txt"],
    ["render-views", "views", "--split", "val"],
]


def noted(folder: Path) -> list[tuple[str, str, str]]:
    """(command, event, what) of each line of the log."""
    lines = (folder / "audit").read_text(encoding="utf-8").splitlines()
    assert len(lines) > 20, "nothing was noted"
    return [tuple(json.loads(line)) for line in lines]


def of_networks(events: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    return [event for event in events if event[1].startswith("socket.")]


def written_outside(events: list[tuple[str, str, str]], *folders: Path) -> list[str]:
    paths = {what for _, event, what in events if not event.startswith(("socket.", "pickle."))}
    return sorted(path for path in paths if not DVC.match(path) and not any(map(Path(path).is_relative_to, folders)))


def below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


# The whole job, which ran without a network where the system allows that


def test_the_job_asks_for_no_connection(reproduced):
    assert of_networks(noted(reproduced.parent)) == []


def test_the_job_reads_no_pickle(reproduced):
    assert [event for event in noted(reproduced.parent) if event[1] == "pickle.find_class"] == []


@pytest.mark.unmeasured
def test_the_job_writes_nothing_outside(reproduced):
    base = Path(os.path.realpath(reproduced.parent))
    moved = base.parent / "unfinished"  # where it ran before it got its name
    assert written_outside(noted(base), moved / "project", moved / "tmp", moved / "home/.keras") == []


def test_the_job_leaves_nothing_in_the_folders_of_the_user(reproduced):
    """What native code writes is no event of Python, so the folders are looked at."""
    assert below(reproduced.parent / "home") == KERAS
    assert below(reproduced.parent / "tmp") == []


# The tools


@pytest.fixture(scope="module")
def tools(reproduced, tmp_path_factory):
    """The folder in which every tool ran, without a network."""
    base = tmp_path_factory.mktemp("tools")
    project = copy_without(reproduced, base / "project", ".dvc/cache")
    with audited(base):
        softlabel(*TOOLS, cwd=project, before=without_network())
    return base


def test_every_tool_is_among_them():
    from pipeline.cli.main import TOOLS as ALL

    assert {tool.name for tool in ALL} == {words[0] for words in TOOLS} | OTHERS


def test_no_tool_asks_for_a_connection_or_reads_a_pickle(tools):
    events = noted(tools)
    assert of_networks(events) == []
    assert [event for event in events if event[1] == "pickle.find_class"] == []


@pytest.mark.unmeasured
def test_no_tool_writes_outside(tools):
    base = Path(os.path.realpath(tools))
    assert written_outside(noted(base), base / "project", base / "tmp", base / "home/.keras") == []
    assert below(base / "home") == KERAS
    assert below(base / "tmp") == []


# That this would be seen


@pytest.mark.unmeasured
def test_what_a_process_does_outside_is_noted(tmp_path):
    program = (
        "import os, pickle, socket\n"
        "open('here', 'w').close(); os.mkdir('folder'); open('here')\n"
        "s = socket.socket(); s.setblocking(False); s.connect_ex(('127.0.0.1', 9))\n"
        "pickle.loads(b'cos\\ngetcwd\\n.')\n"
    )
    with audited(tmp_path):
        run(*without_network(), "python", "-c", program, cwd=tmp_path)
    here = os.path.realpath(tmp_path)
    events = [json.loads(line)[1:] for line in (tmp_path / "audit").read_text().splitlines()]
    assert Counter(map(tuple, events)) == Counter(
        [
            ("open", f"{here}/here"),
            ("os.mkdir", f"{here}/folder"),
            ("socket.connect", "('127.0.0.1', 9)"),
            ("pickle.find_class", "os.getcwd"),
        ]
    )


def test_dvc_neither_reports_nor_looks_for_updates():
    said = run("dvc", "config", "--list", "--project", cwd=ROOT)
    assert {"core.analytics=false", "core.check_update=false"} <= set(said.splitlines())


def test_onnx_runtime_reports_nothing(monkeypatch):
    """It sends what it runs to its maker unless this variable is set before it is loaded."""
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    onnx_runtime()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
    only = [
        path
        for path in (ROOT / "pipeline").rglob("*.py")
        if re.search(r"^\s*import onnxruntime", path.read_text(), re.M)
    ]
    assert [path.name for path in only] == ["own_surroundings.py"]
