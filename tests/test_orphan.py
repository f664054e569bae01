"""A stage that `dvc` started ends when `dvc` is killed; one that was started by hand is left alone."""

import os
import subprocess
import sys
import threading

import psutil
import pytest
from real_project import ENVIRONMENT, HANGS, has_ended, wait_until

from pipeline.cli import orphan

STAGE = """
import os, time
from pathlib import Path
Path("pid.partial").write_text(str(os.getpid()))
Path("pid.partial").rename("pid")
while not Path("go").exists():
    time.sleep(0.001)
from pipeline.cli.orphan import stop_with_dvc
stop_with_dvc()
Path("watching").touch()
while not Path("end").exists():
    time.sleep(0.001)
Path("ended well").touch()
"""
DVC = """
import os, subprocess, sys
environment = {**os.environ, "DVC_ROOT": os.getcwd(), "DVC_STAGE": "stage"}
subprocess.run(f"{sys.executable} stage.py; true", shell=True, env=environment)
"""


@pytest.fixture
def chain(tmp_path):
    """A process that looks like dvc, and below it a shell and a stage, which watches from when the file `go` is there.

    Nobody reads what they print.
    """
    (tmp_path / "stage.py").write_text(STAGE)
    (tmp_path / "dvc").write_text(DVC)
    reader, writer = os.pipe()
    dvc = subprocess.Popen(
        [sys.executable, "dvc", "repro"], cwd=tmp_path, env=ENVIRONMENT, stderr=writer, start_new_session=True
    )
    os.close(writer)
    stage = None
    try:
        wait_until((tmp_path / "pid").exists, dvc)
        stage = psutil.Process(int((tmp_path / "pid").read_text()))
        yield dvc, stage, reader
    finally:
        os.close(reader)
        (tmp_path / "go").touch()
        (tmp_path / "end").touch()
        dvc.kill()
        dvc.wait()
        wait_until(lambda: stage is None or has_ended(stage))


def test_a_stage_ends_soon_after_dvc_was_killed_and_says_so(chain, tmp_path):
    dvc, stage, reader = chain
    (tmp_path / "go").touch()
    wait_until((tmp_path / "watching").exists, dvc)
    assert not has_ended(stage)
    dvc.kill()
    wait_until(lambda: has_ended(stage))
    assert b"`dvc repro`" in os.read(reader, 10_000)
    assert not (tmp_path / "ended well").exists()


def test_a_stage_ends_when_dvc_is_no_longer_listed(chain, tmp_path):
    dvc, stage, _ = chain
    (tmp_path / "go").touch()
    wait_until((tmp_path / "watching").exists, dvc)
    dvc.kill()
    dvc.wait()
    wait_until(lambda: has_ended(stage))


def test_it_ends_as_well_when_nobody_reads_what_it_prints(chain, tmp_path):
    """As when the terminal or the `tee` behind `dvc repro` ended together with dvc."""
    dvc, stage, reader = chain
    (tmp_path / "go").touch()
    wait_until((tmp_path / "watching").exists, dvc)
    os.dup2(os.open(os.devnull, os.O_RDONLY), reader)
    dvc.kill()
    dvc.wait()
    wait_until(lambda: has_ended(stage))


def test_a_stage_ends_when_dvc_died_before_it_could_watch(chain, tmp_path):
    """The first moments of a stage go into starting Python."""
    dvc, stage, _ = chain
    dvc.kill()
    dvc.wait()
    wait_until(lambda: stage.ppid() != dvc.pid)
    (tmp_path / "go").touch()
    wait_until(lambda: has_ended(stage))


def test_a_stage_works_on_while_dvc_lives(chain, tmp_path):
    dvc, _, _ = chain
    (tmp_path / "go").touch()
    wait_until((tmp_path / "watching").exists, dvc)
    (tmp_path / "end").touch()
    wait_until((tmp_path / "ended well").exists)


class Vanishing:
    """A process that ends between two questions."""

    def is_running(self):
        return True

    def status(self):
        raise psutil.NoSuchProcess(1)


def test_it_ends_as_well_when_dvc_ends_between_two_looks(monkeypatch):
    codes = []
    monkeypatch.setattr(os, "_exit", codes.append)
    orphan._watch(Vanishing())
    assert codes == [1]


def watchers(monkeypatch, parents):
    """How many threads `stop_with_dvc` starts in a process with such command lines above it."""
    started = []
    lines = [type("Parent", (), {"cmdline": lambda self, line=line: line})() for line in parents]
    monkeypatch.setattr(psutil.Process, "parents", lambda self: lines)
    monkeypatch.setattr(threading.Thread, "start", lambda self: started.append(self))
    orphan.stop_with_dvc()
    return len(started)


# Queued experiments: `dvc queue start` -> `dvc exp queue-worker` -> `dvc exp exec-run` -> shell -> stage

RUN = ["/usr/bin/python3", "/usr/bin/dvc", "exp", "exec-run", "--infofile", "x.run"]
WORKER = ["/usr/bin/python3", "/usr/bin/dvc", "exp", "queue-worker", "dvc-exp-1@localhost"]
STARTER = ["/usr/bin/python3", "/usr/bin/dvc", "queue", "start", "-j", "2"]


class Above:
    """A process above a stage, by its command line."""

    def __init__(self, line):
        self.line = line

    def cmdline(self):
        return self.line


def watched(*lines):
    return [host.line for host in orphan._hosts([Above(line) for line in lines])]


def test_a_queued_experiment_watches_its_run_and_worker():
    assert watched(SHELL_LINE, RUN, WORKER, STARTER, ["bash"]) == [RUN, WORKER]
    assert watched(SHELL_LINE, RUN, WORKER) == [RUN, WORKER]


def test_a_queued_experiment_whose_worker_has_ended_has_no_hosts():
    assert watched(SHELL_LINE, RUN) == []
    assert watched(SHELL_LINE, RUN, STARTER) == []


def test_nothing_above_another_dvc_is_watched():
    assert watched(SHELL_LINE, DVC_LINE, STARTER) == [DVC_LINE]


@pytest.mark.parametrize("ended", [0, 1])
def test_a_stage_ends_with_the_first_of_its_hosts(monkeypatch, ended):
    codes, lives = [], [True, True]
    monkeypatch.setattr(orphan, "_lives", lives.__getitem__)
    monkeypatch.setattr(orphan.time, "sleep", lambda seconds: lives.__setitem__(ended, False))
    monkeypatch.setattr(os, "_exit", codes.append)
    orphan._watch(0, 1)
    assert codes == [1]


DVC_LINE = ["/usr/bin/python3", "/usr/bin/dvc", "repro"]
SHELL_LINE = ["/bin/sh", "-c", "softlabel precompute"]


@pytest.mark.parametrize(
    "line", [DVC_LINE, ["/opt/dvc/bin/dvc", "repro"], ["python3", "-m", "dvc", "repro"]], ids=" ".join
)
def test_each_way_to_start_dvc_is_known(monkeypatch, line):
    monkeypatch.setenv("DVC_STAGE", "precompute")
    assert watchers(monkeypatch, [SHELL_LINE, line, ["bash"]]) == 1


def test_a_program_that_runs_dvc_as_a_library_is_watched(monkeypatch):
    monkeypatch.setenv("DVC_STAGE", "precompute")
    assert watchers(monkeypatch, [SHELL_LINE, ["python3", "sweep.py"], ["bash"]]) == 1


def test_without_dvc_nothing_is_watched(monkeypatch):
    monkeypatch.delenv("DVC_STAGE", raising=False)
    assert watchers(monkeypatch, [SHELL_LINE, DVC_LINE]) == 0


def test_a_stage_started_by_hand_is_not_watched(monkeypatch):
    """Its shell may have inherited DVC_ROOT."""
    monkeypatch.setenv("DVC_ROOT", "/somewhere")
    monkeypatch.delenv("DVC_STAGE", raising=False)
    assert watchers(monkeypatch, [["bash"], ["/usr/sbin/sshd"]]) == 0


def test_the_watcher_never_keeps_a_stage_from_ending(chain, tmp_path):
    dvc, stage, _ = chain
    (tmp_path / "go").touch()
    wait_until((tmp_path / "watching").exists, dvc)
    (tmp_path / "end").touch()
    wait_until(lambda: has_ended(stage))
    assert dvc.wait(timeout=HANGS) == 0
