"""Kills at seeded moments, a few of what `benchmarks.crash_matrix` does; and that it notices what is wrong."""

import os
import re
import shutil
import signal
import threading
import time
from contextlib import nullcontext
from dataclasses import replace
from queue import SimpleQueue

import psutil
import pytest
from dvc_objects.fs.utils import tmp_fname
from real_project import HANGS
from ruamel.yaml import YAML

from benchmarks import crash_attempts, crash_matrix, crash_project
from benchmarks.crash_attempts import ByDvc, End, ends_by, failed_itself, lives, started
from benchmarks.crash_ends import ALONE, BY_DVC, PYTHON_STARTS, wrong_ends
from benchmarks.crash_matrix import (
    Outcome,
    Part,
    batter,
    one_part,
    parts_of,
    run_all,
)
from benchmarks.crash_mending import CANNOT_READ_LOCK, KEPT_NOTES, LOCK, NOTES, RUNS, kind_of
from benchmarks.crash_project import Stage, attempted, content, damaged_objects, differences, stages_of
from benchmarks.crash_queue import Queued, insist

KILLS = {"split": 3, "train_student@kl-4-1": 3, "soften@4": 4}
"""Of stages alone: `test_interruption.py` kills those that dvc runs."""


@pytest.mark.slow
def test_after_seeded_kills_all_is_as_without(reproduced, tmp_path):
    (tmp_path / "reference").symlink_to(reproduced)
    stages = {stage.name: stage for stage in stages_of(reproduced)}
    parts = [Part(stages[name], ALONE, kills) for name, kills in KILLS.items()]
    for out in (out for part in parts for out in part.stage.outs):
        older = tmp_path / "older" / out / "older.txt" if (reproduced / out).is_dir() else tmp_path / "older" / out
        older.parent.mkdir(parents=True, exist_ok=True)
        older.write_text("older", encoding="utf-8")
    shutil.copy(reproduced / "dvc.lock", tmp_path / "older")
    outcomes = run_all(tmp_path, parts, seed=1, processes=1, commit="0a")
    assert [what for outcome in outcomes for what in outcome.wrong] == []
    assert all(outcome.hits >= KILLS[outcome.stage] and outcome.ends for outcome in outcomes)


# It notices what is wrong


STAGE = Stage("make", ("make",), ("out",))
DVC_LOCK = "stages: {make: {cmd: python -m pipeline make, outs: [{path: out, md5: x}]}}"


class Scripted:
    """Runs that a test makes up: what each of them does to the project, and how it ends."""

    victims = ("stage",)

    def __init__(self, project, *acts):
        self.project, self.acts = project, [*acts]

    def run(self, at=None, victim="", number=0, is_awaited=True):
        act = self.acts.pop(0) if self.acts else finish
        return act(self.project, at, number)


def finish(project, at=None, number=0):
    (project / "out").write_text("whole")
    lock = project / "dvc.lock"
    lock.write_text(DVC_LOCK)
    return End(0, 1.0, "")


def killed(project, at, number):
    return End(128 + number if number != signal.SIGKILL else -number, at, "", after_signal=0.1)


def killed_in_the_midst(project, at, number):
    (project / "out").write_text("wh")
    return killed(project, at, number)


def killed_with_a_traceback(project, at, number):
    return replace(killed(project, at, number), said="Traceback (most recent call last):")


def removes_the_output(project, at, number):
    (project / "out").unlink(missing_ok=True)
    return killed(project, at, number)


def leaves_a_file(project, at=None, number=0):
    (project / "out.partial").touch()
    return finish(project)


def writes_other_bytes(project, at=None, number=0):
    end = finish(project)
    (project / "out").write_text("Whole")
    return end


def fails(project, at=None, number=0):
    return End(1, 1.0, "Error: no")


@pytest.fixture
def made(tmp_path):
    """A project in which one stage has run."""
    for name, text in (("reference", "whole"), ("older", "old")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "dvc.lock").write_text(DVC_LOCK)
        (tmp_path / name / "out").write_text(text)
    return tmp_path / "reference"


def battered(made, monkeypatch, *acts, way=ALONE, kills=1):
    """What comes of kills, of which each is followed by a run to the end."""
    monkeypatch.setattr(crash_matrix, "IN_A_ROW", 1)
    project = made.parent / "project"
    return batter(STAGE, way, Scripted(project, finish, finish, *acts), made.parent, project, kills=kills, seed=1)


def test_a_run_that_goes_on_after_a_kill_is_right(made, monkeypatch):
    outcome = battered(made, monkeypatch, killed, finish)
    assert (outcome.hits, outcome.misses, outcome.ends, outcome.wrong) == (1, 0, 1, [])


def test_a_run_that_ended_before_its_kill_is_a_miss(made, monkeypatch):
    outcome = battered(made, monkeypatch, finish, finish, killed, finish)
    assert (outcome.hits, outcome.misses, outcome.ends, outcome.wrong) == (1, 1, 2, [])


def test_dvc_that_fails_without_a_kill_is_told(made):
    def fails_at_first(project, at=None, number=0):
        return replace(finish(project), forgiven=("ERROR: no",))

    runs = Scripted(made.parent / "project", fails_at_first, finish)
    outcome = batter(STAGE, BY_DVC, runs, made.parent, made.parent / "project", kills=1, seed=1)
    assert (outcome.hits, outcome.wrong) == (0, ["without a kill: ERROR: no"])


def test_a_hang_is_not_forgiven(made, monkeypatch):
    runs = ByDvc(STAGE, made, made.parent / "log")
    hung = End(-9, 1800.0, "", hung=True)
    monkeypatch.setattr(runs, "_run", lambda *arguments: hung)
    assert runs.run() == hung


@pytest.mark.parametrize(
    ("acts", "told"),
    [
        ((killed_in_the_midst, finish), "out is neither old nor new"),
        ((killed_with_a_traceback, finish), "a traceback"),
        ((killed, leaves_a_file), "after kills: out.partial"),
        ((killed, writes_other_bytes), "after kills: out"),
        ((killed, fails), "exit code 1: Error: no"),
    ],
)
def test_what_a_kill_must_not_leave_is_told(made, monkeypatch, acts, told):
    wrong = battered(made, monkeypatch, *acts).wrong
    assert any(told in line for line in wrong), wrong


def test_an_older_output_is_not_lost(made, monkeypatch):
    """Half of the runs find one; `dvc` removes it before a stage runs, and a stage alone must not."""
    acts = [act for _ in range(20) for act in (removes_the_output, finish)]
    wrong = battered(made, monkeypatch, *acts, kills=20).wrong
    assert 5 <= len(wrong) <= 15
    assert all("out is neither old nor new" in line for line in wrong)
    assert battered(made, monkeypatch, *acts, way=BY_DVC, kills=20).wrong == []


def test_an_output_that_was_never_replaced_is_left_alone(made, monkeypatch):
    acts = [act for _ in range(20) for act in (killed, finish)]
    assert battered(made, monkeypatch, *acts, kills=20).wrong == []


def test_a_stage_that_is_never_the_same_is_told(made):
    project = made.parent / "project"
    outcome = batter(STAGE, ALONE, Scripted(project, finish, writes_other_bytes), made.parent, project, 1, 1)
    assert (outcome.hits, outcome.wrong) == (0, ["without a kill: out"])


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (End(143, 1.0, "", after_signal=0.1), []),
        (End(-15, 1.0, "", after_signal=0.1), []),
        (End(0, 1.0, "", after_signal=0.1), []),
        (End(130, 1.0, "", after_signal=0.1), ["exit code 130: "]),
        (End(1, 1.0, "Error", after_signal=0.1), ["exit code 1: Error"]),
        (End(1, 1.0, PYTHON_STARTS, after_signal=0.1), [f"exit code 1: {PYTHON_STARTS}"]),
        (
            End(-11, 1.0, "Fatal\n  File a\nExtension modules: a, b", after_signal=0.1),
            ["exit code -11: Fatal\n  File a"],
        ),
        (End(-9, 1.0, "", after_signal=120.0, hung=True), ["hung", "exit code -9: "]),
        (End(143, 1.0, ""), ["exit code 143: "]),
    ],
)
def test_how_a_stage_may_end_at_sigterm(end, told):
    assert [*wrong_ends(end, ALONE, "stage", signal.SIGTERM)] == told


FAILED = "ERROR: failed to reproduce 'make': failed to run: python -m pipeline make, exited with "


@pytest.mark.parametrize(
    ("number", "victim", "end", "told"),
    [
        (signal.SIGTERM, "stage", End(255, 1.0, FAILED + "143", after_signal=0.1), None),
        (signal.SIGKILL, "group", End(-9, 1.0, "", after_signal=0.1), None),
        (signal.SIGKILL, "stage", End(255, 1.0, FAILED + "-9", after_signal=0.1), None),
        (signal.SIGKILL, "stage", End(255, 1.0, FAILED + "137", after_signal=0.1), None),
        (signal.SIGKILL, "dvc", End(137, 1.0, "", after_signal=0.1), "exit code 137: "),
        (signal.SIGKILL, "stage", End(255, 1.0, FAILED + "143", after_signal=0.1), r"exit codes \[143\] of the stage"),
        (signal.SIGINT, "dvc", End(252, 1.0, "ERROR: interrupted by the user", after_signal=0.1), None),
        (signal.SIGINT, "group", End(255, 1.0, FAILED + "130", after_signal=0.1), None),
        (signal.SIGINT, "dvc", End(1, 1.0, "KeyboardInterrupt", after_signal=0.1), None),
        (signal.SIGINT, "dvc", End(1, 1.0, "Running stage 'make':", after_signal=0.1), "exit code 1: "),
        (signal.SIGINT, "stage", End(255, 1.0, f"{PYTHON_STARTS}\n{FAILED}1", after_signal=0.1), None),
        (signal.SIGTERM, "stage", End(255, 1.0, FAILED + "1", after_signal=0.1), r"exit codes \[1\] of the stage"),
        (signal.SIGTERM, "dvc", End(1, 1.0, PYTHON_STARTS, after_signal=0.1), "exit code 1: "),
        (signal.SIGTERM, "stage", End(255, 1.0, "ERROR: no", after_signal=0.1), "exit code 255: ERROR: no"),
        (signal.SIGTERM, "dvc", End(255, 1.0, FAILED + "143", after_signal=0.1), r"exit codes \[143\] of the stage"),
        (signal.SIGTERM, "dvc", End(252, 1.0, "", after_signal=0.1), "exit code 252: "),
        (signal.SIGTERM, "dvc", End(255, 1.0, FAILED + "143"), "exit code 255"),
    ],
)
def test_how_dvc_may_end_at_a_signal(number, victim, end, told):
    found = [*wrong_ends(end, BY_DVC, victim, number)]
    assert [bool(re.match(told or "nothing", line)) for line in found] == ([True] if told else [])


def test_moments_depend_on_the_seed_alone(made, monkeypatch):
    asked = []

    def note(project, at, number):
        asked.append((at, number))
        return killed(project, at, number)

    for seed in (1, 1, 2):
        runs = Scripted(made.parent / "project", finish, finish, note)
        monkeypatch.setattr(crash_matrix, "IN_A_ROW", 1)
        batter(STAGE, ALONE, runs, made.parent, made.parent / "project", kills=1, seed=seed)
    assert asked[0] == asked[1] != asked[2]


def test_a_finished_part_is_not_run_again(made, monkeypatch):
    runs, servers = [], SimpleQueue()
    servers.put(None)
    monkeypatch.setattr(crash_matrix, "batter", lambda *arguments: runs.append(1) or Outcome("make", BY_DVC, hits=3))
    found = [one_part(made.parent, Part(STAGE, BY_DVC, 3), 1, servers, commit) for commit in ("0a", "0b")]
    assert [(outcome.hits, outcome.commit) for outcome in found] == [(3, "0a"), (3, "0a")]
    assert runs == [1]


@pytest.mark.parametrize("faults", [["other bytes"], []])
def test_what_is_wrong_ends_with_code_1(faults, monkeypatch, tmp_path):
    """After the record is written."""
    monkeypatch.setattr(
        "sys.argv", ["crash_matrix", "--work", str(tmp_path), "--output", str(tmp_path / "record.json")]
    )
    monkeypatch.setattr(crash_matrix, "make_reference", lambda project: None)
    monkeypatch.setattr(crash_matrix, "make_older", lambda reference, project: None)
    monkeypatch.setattr(crash_matrix, "stages_of", lambda project: [STAGE])
    monkeypatch.setattr(crash_matrix, "run_all", lambda *arguments: [Outcome("make", ALONE, wrong=faults)])
    monkeypatch.setattr(crash_matrix, "queue_kills", lambda *arguments: Queued())
    monkeypatch.setattr("benchmarks.record.commit", str)
    with pytest.raises(SystemExit) if faults else nullcontext():
        crash_matrix.main()
    assert (tmp_path / "record.json").is_file()


def test_kills_that_all_come_too_late_are_told(made):
    runs = Scripted(made.parent / "project", *[finish] * 60)
    outcome = batter(STAGE, ALONE, runs, made.parent, made.parent / "project", 1, 1)
    assert outcome.wrong == ["only 0 of 1 kills hit"]


@pytest.mark.slow
def test_a_lock_that_dvc_damaged_is_removed_and_counted(made, monkeypatch):
    """DVC writes it in place, and says what this script says."""
    says = f'test -e {LOCK} || exit 0; echo "ERROR: Unable to read RWLock-file; JSON structure is corrupted"; exit 255'
    monkeypatch.setattr(crash_attempts, "started", lambda words, *where: started(["sh", "-c", says], *where))
    runs = ByDvc(STAGE, made, made.parent / "log")
    assert (runs.run().code, runs.run().forgiven) == (0, ())
    (made / LOCK).parent.mkdir(parents=True)
    (made / LOCK).write_text("{")
    end = runs.run()
    assert (end.code, len(end.forgiven), (made / LOCK).exists()) == (0, 1, False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("told", "tries"), [("'./dvc.lock' is invalid.", 1), ("ERROR: failed to reproduce 'make': ", 2)]
)
def test_notes_that_dvc_cut_off_are_replaced_by_the_copy(made, monkeypatch, told, tries):
    """Whatever dvc says of them."""
    says = f'test -s {NOTES} && exit 0; echo "{told}"; exit 255'
    monkeypatch.setattr(crash_attempts, "started", lambda words, *where: started(["sh", "-c", says], *where))
    runs = ByDvc(STAGE, made, made.parent / "log")
    (made / NOTES).write_text("")
    assert runs.run().code == 255  # there is no copy
    assert (made / NOTES).read_text() == ""
    (made / KEPT_NOTES).parent.mkdir(exist_ok=True)
    (made / KEPT_NOTES).write_text("whole\n")
    end = runs.run()
    assert (end.code, len(end.forgiven), (made / NOTES).read_text()) == (0, tries, "whole\n")
    for file in (NOTES, KEPT_NOTES):  # a copy that dvc does not read either mends nothing
        (made / file).write_text("")
    assert runs.run().code == 255


@pytest.mark.slow
@pytest.mark.parametrize("unfinished", ["ab/cd", "ab/cd/.0123456789_-abcdefghij.tmp"])
def test_unfinished_runs_of_dvc_are_removed(made, monkeypatch, unfinished):
    says = f"test ! -e {RUNS}/{unfinished} || {{ echo \"ERROR: failed to reproduce 'make': 'outs'\"; exit 255; }}"
    monkeypatch.setattr(crash_attempts, "started", lambda words, *where: started(["sh", "-c", says], *where))
    for name in ("ab/cd", "ab/ef"):
        (made / RUNS / name).mkdir(parents=True)
    for name in ("ab/ef/1", "ab/gh/.0123456789_-abcdefghij", "ab/gh/2.tmp"):
        (made / RUNS / name).parent.mkdir(exist_ok=True)
        (made / RUNS / name).touch()
    if unfinished != "ab/cd":
        (made / RUNS / unfinished).touch()
    end = ByDvc(STAGE, made, made.parent / "log").run()
    assert (end.code, len(end.forgiven)) == (0, 1)
    whole = [path.name for path in (made / RUNS).glob("*/*/*")]
    assert sorted(whole) == [".0123456789_-abcdefghij", "1", "2.tmp"]
    assert not (made / RUNS / "ab/cd").exists()


@pytest.mark.slow
def test_what_dvc_left_beside_outputs_is_counted_and_removed(made, monkeypatch):
    left, other = f"results/{tmp_fname()}", "results/.card.md.partial"  # the first is DVC's own
    (made / "results").mkdir(exist_ok=True)
    monkeypatch.setattr(crash_attempts, "started", lambda words, *where: started(["true"], *where))
    runs = ByDvc(STAGE, made, made.parent / "log")
    for name in (left, other):
        (made / name).touch()
    assert runs.run(60.0, "dvc", signal.SIGKILL).forgiven == ()  # the run after it finds them
    assert runs.run().forgiven == (f"dvc left {left}",)
    assert ((made / left).exists(), (made / other).exists()) == (False, True)


@pytest.mark.slow
@pytest.mark.parametrize(("failures", "end"), [(0, (0, 0)), (2, (0, 2)), (3, (255, 2))])
def test_dvc_is_run_again_where_it_fails_by_itself(made, monkeypatch, failures, end):
    does = f'echo again >> tries; test "$(wc -l < tries)" -gt {failures} || exit 255'
    monkeypatch.setattr(crash_attempts, "started", lambda words, *where: started(["sh", "-c", does], *where))
    found = ByDvc(STAGE, made, made.parent / "log").run()
    assert (found.code, len(found.forgiven)) == end


@pytest.mark.parametrize(
    ("end", "of_itself"),
    [
        (End(255, 1.0, "ERROR: no"), True),
        (End(255, 1.0, "ERROR: no", after_signal=0.1), True),  # the signal came when dvc had failed
        (End(252, 1.0, "ERROR: no", after_signal=0.1), False),
        (End(-15, 1.0, "ERROR: no", after_signal=0.1), False),
        (End(255, 1.0, "Running stage 'make':"), False),
        (End(255, 1.0, f"Running stage 'make':\n{CANNOT_READ_LOCK}"), True),
        (End(255, 1.0, f"Running stage 'make':\n{CANNOT_READ_LOCK}", after_signal=0.1), False),
        (End(255, 1.0, f"Running stage 'make':\n{FAILED}1\n{CANNOT_READ_LOCK}"), False),
        (End(255, 1.0, "ERROR: no", hung=True), False),
        (End(0, 1.0, ""), False),
    ],
)
def test_where_dvc_failed_by_itself(end, of_itself):
    assert failed_itself(end) is of_itself


@pytest.mark.slow
@pytest.mark.parametrize(
    ("does", "at"),
    [
        (f'echo "Running stage \'make\':"; echo "{FAILED}1"; exit 255', None),
        ("echo \"Running stage 'make':\"; echo \"ERROR: output 'out' does not exist\"; exit 255", None),
        ("exec sleep 60", 0.1),
    ],
)
def test_notes_are_left_alone_where_a_stage_or_a_kill_failed(made, monkeypatch, does, at):
    monkeypatch.setattr(crash_attempts, "started", lambda words, *where: started(["sh", "-c", does], *where))
    (made / KEPT_NOTES).parent.mkdir(exist_ok=True)
    (made / KEPT_NOTES).write_text("older\n")
    end = ByDvc(STAGE, made, made.parent / "log").run(at, "dvc", signal.SIGKILL)
    assert (end.forgiven, (made / NOTES).read_text()) == ((), DVC_LOCK)
    assert end.code


@pytest.mark.slow
def test_stages_that_the_notes_lost_are_looked_at_again(made, monkeypatch):
    """A text that is cut off may still be valid, and shorter."""
    adds = "sed -i 's/stages: {/stages: {other: {}, /' dvc.lock"

    def repro(words, *where):
        return started(["sh", "-c", adds if words == ["dvc", "repro"] else "true"], *where)

    monkeypatch.setattr(crash_attempts, "started", repro)
    noted = {"make": {"outs": ["of another run"]}, "other": {}}
    assert ByDvc(STAGE, made, made.parent / "log", {"make": noted["make"]}).run().forgiven == ()
    runs = ByDvc(STAGE, made, made.parent / "log", noted)
    assert runs.run().forgiven == ("dvc.lock lacked other",)
    assert sorted(YAML(typ="safe").load(made / NOTES)["stages"]) == ["make", "other"]
    assert runs.run().forgiven == ()
    whole = noted | {"other": {"outs": []}}  # so what is there now has lost something
    assert ByDvc(STAGE, made, made.parent / "log", whole).run().forgiven == ("dvc.lock lacked other",)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("ERROR: failed to reproduce 'a': Unable to read RWLock-file '.dvc/tmp/rwlock'.", "Unable to read RWLock-file"),
        ("'./dvc.lock' validation failed.\n\nrequired key not provided", "dvc.lock is cut off"),
        ("ERROR: failed to reproduce 'a': 'outs'\n", "a run in its cache is unfinished"),
        ("ERROR: output 'outs' is missing", "something else"),
        ("Stage 'a' is cached - skipping run\nERROR: output 'b' does not exist", "a run in its cache is unfinished"),
        ("ERROR: output 'b' does not exist", "something else"),
        ("ERROR: failed to reproduce 'a': Unable to acquire lock. Most likely", "a lock is not taken"),
    ],
)
def test_how_dvc_failed_is_told_by_what_it_said(said, kind):
    assert kind_of(said) == kind


def test_notes_that_are_cut_off_are_content_as_they_are(made):
    (made / "dvc.lock").write_text(DVC_LOCK)
    (made / ".work").mkdir(exist_ok=True)
    (made / ".work/dvc.lock").write_text("1")
    first = content(made)
    (made / "dvc.lock").write_text("")
    (made / ".work/dvc.lock").write_text("2")
    assert differences(first, content(made)) == ["dvc.lock"]


@pytest.mark.slow
def test_ctrl_c_ends_what_was_started(made, monkeypatch):
    """Threads run the parts; none of them may wait for its stage, which would run for hours."""
    started_here, both = [], threading.Barrier(2)

    def waits(work, part, seed, servers, commit):
        with started(["sleep", "3600"], made.parent, made.parent / "log") as process:
            started_here.append(psutil.Process(process.pid))
            if both.wait() == 0:  # one of them: a second signal would interrupt what ends them
                os.kill(os.getpid(), signal.SIGINT)
            ends_by(psutil.Process(process.pid), time.monotonic() + HANGS)

    monkeypatch.setattr(crash_matrix, "one_part", waits)
    ended, server = [], type("Server", (), {"kill": lambda self: ended.append(self)})()
    monkeypatch.setattr(crash_matrix, "CommandServer", lambda program: nullcontext(server))
    with pytest.raises(KeyboardInterrupt):
        run_all(made.parent, [Part(STAGE, ALONE, 1)] * 3, seed=1, processes=2, commit="0a")
    assert [lives(process) for process in started_here] == [False, False]
    assert ended == [server, server]


@pytest.mark.slow
def test_a_command_is_not_waited_for_once_it_has_ended(tmp_path):
    """`dvc queue start` ends at once, and its workers hold what it printed to."""
    code, said = attempted("sh", "-c", "sleep 3600 & echo $!", cwd=tmp_path)
    left = psutil.Process(int(said))
    assert (code, lives(left)) == (0, True)
    left.kill()


def test_one_kill_in_four_is_by_dvc():
    parts = parts_of([STAGE, replace(STAGE, name="other")], 200, ["other"])
    assert [(part.stage.name, part.way, part.kills) for part in parts] == [
        ("make", ALONE, 150), ("other", ALONE, 150), ("other", BY_DVC, 50),
    ]  # fmt: skip


def test_an_object_of_the_cache_with_other_bytes_is_found(tmp_path):
    folder = tmp_path / ".dvc/cache/files/md5/5d"
    folder.mkdir(parents=True)
    (folder / "41402abc4b2a76b9719d911017c592").write_text("hello")
    assert damaged_objects(tmp_path) == []
    (folder / "41402abc4b2a76b9719d911017c592").write_text("hallo")
    assert len(damaged_objects(tmp_path)) == 1


def test_seconds_are_not_compared_but_their_names_are(tmp_path):
    (tmp_path / "results").mkdir()
    speed = tmp_path / "results/speed.json"
    contents = []
    for text in ('{"teacher": 1.5}', '{"teacher": 1.7}', '{"student": 1.5}'):
        speed.write_text(text)
        contents.append(content(tmp_path))
    assert differences(contents[0], contents[1]) == []
    assert differences(contents[0], contents[2]) == ["results/speed.json"]


def test_a_project_before_a_stage_lacks_its_outputs(made, tmp_path):
    (made / ".work/out/1234").mkdir(parents=True)
    (made / ".work/out/1234/finished.h5").touch()
    crash_project.copy_before(STAGE, made, tmp_path / "project", with_dvc=False)
    assert not (tmp_path / "project/out").exists()
    assert not (tmp_path / "project/.work/out").exists()
    assert YAML(typ="safe").load(tmp_path / "project/dvc.lock") == {"stages": {}}


def test_dvc_has_no_run_of_the_stage_but_those_of_others(made, tmp_path):
    """Or `dvc repro` would take the stage from there, or train others again whose notes are lost."""
    for name in ("make", "make-other", "other"):
        run = made / f".dvc/cache/runs/ab/{name}/1"
        run.parent.mkdir(parents=True)
        run.write_text(f"cmd: python -m pipeline {name}\nouts: []\n")
    crash_project.copy_before(STAGE, made, tmp_path / "project", with_dvc=True)
    left = (tmp_path / "project/.dvc/cache/runs").glob("*/*/*")
    assert sorted(path.parent.name for path in left) == ["make-other", "other"]


@pytest.mark.slow
def test_a_lock_that_dvc_damaged_in_the_queue_is_removed(tmp_path):
    says = f"test -e {LOCK} && echo \"ERROR: Unable to read RWLock-file '{LOCK}'. JSON is corrupted\" && exit 255"
    (tmp_path / LOCK).parent.mkdir(parents=True)
    (tmp_path / LOCK).write_text("{")
    queued = Queued()
    assert insist(queued, "sh", "-c", f"{says}; echo done", cwd=tmp_path) == "done\n"
    assert (queued.mended, (tmp_path / LOCK).exists()) == (1, False)
