"""docs/experiments.md by DVC's real queue: each experiment in a copy of a small repository that is under git."""

import json
import re
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from documents import EXPERIMENTS, block_with, follow
from dvc.lock import LockError
from dvc.repo.experiments.executor import local
from dvc.repo.experiments.executor.base import TaskStatus
from real_project import HANGS, change, copy_without, has_ended, run, sha256, stages_run, start, wait_until
from ruamel.yaml import YAML

from pipeline.cli.orphan import LOOK_EVERY_SECONDS

FAILED = '"status": 4'
"""How DVC notes it of an experiment, in a file that may be half written."""

STUDENT = "models-students-kl_T4_seed1.keras"
EXPERIMENT = re.compile("^refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/(.+)$", re.MULTILINE)


def experiments(folder):
    """The names of the experiments that are finished and collected."""
    return EXPERIMENT.findall(run("git", "for-each-ref", "--format=%(refname)", "refs/exps", cwd=folder))


def said(folder):
    """What all experiments have printed."""
    return "\n".join(path.read_text() for path in folder.glob(".dvc/tmp/exps/run/*/*.out"))


def await_experiments(folder, count, lost=0):
    """Waits until so many experiments are finished, while no more than those that are lost have failed."""

    def finished():
        told = [path.read_text() for path in folder.glob(".dvc/tmp/exps/run/*/*.run")]
        assert sum(FAILED in text for text in told) <= lost, said(folder)
        time.sleep(0.2)
        return len(experiments(folder)) == count

    wait_until(finished)


def queue(folder):
    """What DVC tells of its queue."""
    return run("dvc", "queue", "status", cwd=folder)


def processes(folder, word):
    """The processes in a folder and below with such a word in their command line."""

    def fits(process):
        try:
            return word in process.cmdline() and Path(process.cwd()).is_relative_to(folder)
        except (psutil.Error, OSError):
            return False

    return [process for process in psutil.process_iter() if fits(process)]


@pytest.fixture(scope="module")
def project(reproduced, tmp_path_factory):
    """The small project with everything committed; its queue's workers are ended in the end."""
    folder = copy_without(reproduced, tmp_path_factory.mktemp("experiments") / "project")
    for stage in ("export", "measure_exports", "report", "model_card"):  # nothing here is about them: they take long
        change(folder / "dvc.yaml", f"stages.{stage}.frozen", True)
    for command in (
        "config user.name Somebody",
        "config user.email somebody@example.org",
        "add --all",
        "commit --quiet --message=small",
    ):
        run("git", *command.split(), cwd=folder)
    yield folder
    for word in ("queue-worker", "exec-run"):
        for process in processes(folder, word):
            process.kill()


# Lists


def test_a_list_of_temperatures_is_swept_without_the_teacher(reproduced, tmp_path):
    """DVC would make their soft labels and train their students; test_sharing.py does so for one."""
    folder = copy_without(reproduced, tmp_path / "project")
    block = block_with("temperatures:", EXPERIMENTS, "Sweep by list", "yaml")
    temperatures = YAML(typ="safe").load(block)["distill"]["temperatures"]
    change(folder / "params.yaml", "distill.temperatures", temperatures)
    new = [temperature for temperature in temperatures if temperature != 4]
    assert len(new) == 5
    labels = {f"soften@{t}" for t in new}
    assert set(stages_run(run("dvc", "repro", "--dry", "soften", cwd=folder))) == labels
    would_run = {
        name for name in json.loads(run("dvc", "status", "--json", cwd=folder)) if not name.startswith("data/")
    }
    behind = {"evaluate", "export@best", "report", "model_card"}
    assert would_run == {f"train_student@kl-{t}-1" for t in new} | labels | behind


# A queue of two


@pytest.fixture(scope="module")
def swept(project, tmp_path_factory):
    """The project after the document's queue of two experiments has run, two at a time."""
    block = block_with("dvc queue start", EXPERIMENTS, "Sweep by queue")
    log = tmp_path_factory.mktemp("queue") / "log"
    assert start("bash", "-euc", block, cwd=project, log=log).wait(timeout=HANGS) == 0, log.read_text()
    await_experiments(project, 2)
    return project


def test_both_experiments_are_kept(swept):
    assert sorted(experiments(swept)) == ["weight-1", "weight-2"]


def test_each_ran_only_what_its_weight_touches(swept):
    assert sorted(stages_run(said(swept))) == sorted(2 * ["train_student@kl-4-1", "evaluate"])


def test_the_copies_are_gone_and_the_work_is_in_the_repository(swept):
    wait_until(lambda: not any((swept / ".dvc/tmp/exps").glob("tmp*")))
    assert len(list(swept.glob(f".work/{STUDENT}/*/"))) == 3


def table(text):
    """The rows of a table in Markdown."""
    lines = [line.strip().strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line] for line in lines]
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_the_table_of_experiments_has_the_requested_columns(swept):
    show = block_with("dvc exp show", EXPERIMENTS, "Compare")
    rows = table(follow(show, swept))
    quality = "models.student_kl_T4.quality"
    assert list(rows[0]) == [
        "Experiment",
        f"{quality}.accuracy.mean",
        f"{quality}.nll.mean",
        "distill.hard_label_weight",
    ]
    weights = {row["Experiment"]: row["distill.hard_label_weight"] for row in rows}
    assert {name[-9:-1]: weight for name, weight in weights.items() if "weight" in name} == {
        "weight-1": "0.3", "weight-2": "0.7",
    }  # fmt: skip
    assert len({row[f"{quality}.nll.mean"] for row in rows}) == 3


def test_differences_are_those_of_the_two_weights(swept):
    diff = block_with("dvc metrics diff", EXPERIMENTS, "Compare")
    shown = follow(diff, swept)
    assert re.search(r"^params.yaml +distill.hard_label_weight +0.3 +0.7$", shown, re.MULTILINE)
    changed = re.findall(r"^results/metrics.json +(\S+) ", shown, re.MULTILINE)
    assert "models.student_kl_T4.quality.nll.mean" in changed
    assert not any("teacher." in name or "baseline" in name for name in changed)
    assert (swept / "dvc_plots/index.html").is_file()


def test_both_are_in_one_plot(swept):
    found = json.loads(run("dvc", "plots", "diff", "weight-1", "weight-2", "--json", cwd=swept))["data"]
    ((drawn),) = found["results/plots/reliability/student_kl_T4_seed1.csv"]
    assert drawn["revisions"] == ["weight-1", "weight-2"]
    assert {row["rev"] for row in drawn["content"]["data"]["values"]} == {"weight-1", "weight-2"}
    points = drawn["content"]["layer"][-1]["encoding"]
    assert points["color"]["field"] == "rev"
    assert points["color"]["scale"]["domain"] == ["weight-1", "weight-2"]


# What DVC cannot do, as the document says


def test_dvc_gives_up_where_a_busy_lock_made_it_try_twice(tmp_path, monkeypatch):
    """An experiment then fails before it begins. When DVC has mended this, the document needs no word of it."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    asked = []

    @contextmanager
    def busy(*_, **__):
        asked.append("lock")
        raise LockError("busy")
        yield

    monkeypatch.setattr(local, "get_exp_rwlock", busy)
    executor = local.TempDirExecutor(str(tmp_path), ".dvc", "0" * 40, TaskStatus.PREPARING)
    entry = SimpleNamespace(head_rev="0" * 40, baseline_rev="0" * 40)
    with pytest.raises(FileExistsError, match=r"[.]git"):
        executor.init_git(None, None, "0" * 40, entry, None)
    assert asked == ["lock"]
    assert "FileExistsError" in EXPERIMENTS.read_text(encoding="utf-8")


# Killed, and queued again

AGAIN = (
    "dvc exp run --queue --allow-missing --name {name} -S distill.hard_label_weight=0.9 "
    "-S student.phases.0.epochs=60 train_student"
)


@pytest.fixture(scope="module")
def resumed(swept, tmp_path_factory):
    """The project after a worker was killed in the middle of a training, and the same was queued again.

    Returns:
        The project, what all experiments had printed until then, and what they had in the end.
    """
    log = tmp_path_factory.mktemp("resumed") / "log"
    for process in processes(swept, "queue-worker"):  # nothing is queued: it would end in ten seconds
        process.kill()
    follow(AGAIN.format(name="lost"), swept)
    assert start("dvc", "queue", "start", cwd=swept, log=log).wait(timeout=HANGS) == 0
    (stage,) = wait_until(lambda: processes(swept, "train-student"))
    wait_until(lambda: states(swept))
    stage.suspend()
    runs = processes(swept, "exec-run")
    for process in processes(swept, "queue-worker"):
        process.kill()
    time.sleep(2 * LOOK_EVERY_SECONDS)
    stage.resume()
    wait_until(lambda: has_ended(stage))
    wait_until(lambda: not any(psutil.pid_exists(process.pid) for process in runs))
    assert len(states(swept)) == 1
    lost = said(swept)
    follow("dvc queue kill lost", swept)
    follow(block_with("remove --failed", EXPERIMENTS, "Sweep by queue"), swept)
    follow(AGAIN.format(name="found"), swept)
    assert start("dvc", "queue", "start", cwd=swept, log=log).wait(timeout=HANGS) == 0
    await_experiments(swept, 3, lost=1)
    return swept, lost, said(swept)


def states(folder):
    """The files of the student's unfinished trainings."""
    return list(folder.glob(f".work/{STUDENT}/*/state.npz"))


def test_a_stage_ends_with_its_worker_and_says_so(resumed):
    _, lost, _ = resumed
    assert "dvc has ended" in lost
    assert "continuing after epoch" not in lost


def test_the_next_experiment_goes_on_in_another_copy(resumed):
    _, lost, found = resumed
    (epoch,) = map(int, re.findall(r"continuing after epoch (\d+)", found))
    lines = [f"epoch {number}/60  " for number in (epoch, epoch + 1, 60)]
    assert [found.count(line) - lost.count(line) for line in lines] == [0, 1, 1]  # the lost one may have said one more


def test_nothing_is_left_of_the_lost_one(resumed):
    folder, _, _ = resumed
    assert sorted(experiments(folder)) == ["found", "weight-1", "weight-2"]
    wait_until(lambda: "Running" not in queue(folder))  # DVC collects an experiment before it says so in its queue
    assert "lost" not in queue(folder)
    assert states(folder) == []


# Into the workspace, and back


@pytest.fixture(scope="module")
def kept(resumed):
    """The project after the first experiment was brought into the workspace and committed."""
    folder, _, _ = resumed
    keep = block_with("dvc exp branch", EXPERIMENTS, "Compare")
    follow(keep, folder)
    return folder


def test_an_experiment_that_was_kept_is_up_to_date(kept):
    assert YAML(typ="safe").load(kept / "params.yaml")["distill"]["hard_label_weight"] == 0.3
    assert run("git", "status", "--porcelain", cwd=kept) == ""
    assert stages_run(run("dvc", "repro", cwd=kept)) == []


def test_going_back_restores_what_was_before_the_experiments(kept, reproduced):
    run("git", "checkout", "--quiet", "HEAD~1", "--", "params.yaml", cwd=kept)
    assert stages_run(run("dvc", "repro", cwd=kept)) == []
    for file in ("models/students/kl_T4_seed1.keras", "results/metrics.json", "dvc.lock"):
        assert sha256(kept / file) == sha256(reproduced / file)
