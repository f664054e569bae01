"""Trainings beside each other: who starts them, what becomes of them, and the same bytes as one after another."""

import re
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import psutil
import pytest
import real_project
from real_project import change, copy_without, has_ended, process_of, run, sha256, stages_run, start, wait_until
from ruamel.yaml import YAML

from pipeline.cli import beside, orphan
from pipeline.cli.left_files import Training, is_left
from pipeline.cli.pending import Stage
from pipeline.runtime.errors import MismatchError
from pipeline.runtime.workspace import AT_START
from pipeline.soft_labels.hdf5 import seal

STUDENT, BASELINE = Path("models/students/kl_T4_seed1.keras"), Path("models/baselines/seed1.keras")
MADE = [STUDENT, BASELINE, *(Path(f"results/history/{name}_seed1.csv") for name in ("student_kl_T4", "baseline"))]
TRAININGS = ["train_student@kl-4-1", "train_baseline@1"]

# Who may start others


@pytest.mark.parametrize(
    ("line", "everything"),
    [
        ("/usr/bin/python3 /usr/bin/dvc repro", True),
        ("python -m dvc repro", True),
        ("/opt/dvc/bin/dvc repro --force", True),
        ("python dvc repro evaluate", True),
        ("python dvc exp run", True),
        ("python dvc repro train_student@kl-4-1", False),
        ("python dvc repro -s evaluate", False),
        ("python dvc repro --downstream train_baseline", False),
        ("python dvc repro evaluate train_baseline", False),
        ("python dvc exp run train_student", False),
        ("python dvc exp run -S student.seeds=[1] --name all --force", True),
        ("python dvc exp run --set-param student.seeds=[1] train_student", False),
        ("dvc --verbose repro --no-run-cache -fk evaluate", True),
        ("dvc --cd elsewhere repro -P", True),
        ("dvc repro -fs evaluate", False),
        ("dvc repro --dry", False),
        ("dvc exp show", False),
        ("python run_dvc_sweep.py repro", False),
        ("python dvc status", False),
        ("python runs_dvc.py", False),
    ],
)
def test_only_a_repro_of_everything_starts_others(line, everything):
    process = type("Process", (), {"cmdline": lambda self: line.split()})()
    assert orphan.runs_everything(process) is everything


def test_a_started_training_ends_with_the_one_that_started_it():
    lines = [
        ["python", "-m", "pipeline", "train-student"],
        ["/bin/sh", "-c", "x"],
        ["python3", "/usr/bin/dvc", "repro"],
    ]
    parents = [type("Above", (), {"cmdline": lambda self, line=line: line})() for line in [*lines, ["bash"]]]
    assert orphan._hosts(parents) == [parents[2], parents[0]]
    assert orphan._hosts(parents[1:]) == [parents[2]]


# Their processes; in place of the worker stands a script, which is asked for a name, what shall happen, and a duration

SCRIPT = """
import json, os, sys, time
from pathlib import Path
for line in sys.stdin:
    command, name, fate, seconds, last = json.loads(line)
    assert (command, last) == ("train-student", "--leave-finished")
    began = Path(f"{name}.began")
    began.with_suffix(".partial").write_text(f"{time.time()} {os.getpid()}")
    began.with_suffix(".partial").rename(began)  # tests read it as soon as it is there
    time.sleep(float(seconds))
    if fate == "dies":
        os._exit(1)
    Path(f"{name}.ended").write_text(str(time.time()))
    print(fate, flush=True)
"""


@pytest.fixture
def others(tmp_path, monkeypatch):
    """Makes an `Others` that trains by the script: a name, what shall happen, and a duration of each."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(beside, "WORKER", [sys.executable, "-c", SCRIPT])
    monkeypatch.setattr(beside, "is_trained", lambda words: words[2] == "done")

    def made(at_once, *trainings):
        stages = [
            Stage(name, f"python -m pipeline train-student {name} {fate} {seconds}", [], [], [name])
            for name, fate, seconds in trainings
        ]
        monkeypatch.setattr(beside, "foreseen", lambda own, dvc: stages)
        return beside.Others(at_once, Path("own.keras"), psutil.Process())

    return made


def when(file):
    return float(Path(file).read_text().split()[0])


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [2, 3])
def test_one_that_fails_is_told_in_a_line_and_harms_nobody(others, capfd, at_once):
    started = others(at_once, ("a", "done", 0), ("b", "failed", 0), ("c", "dies", 0), ("d", "done", 0))
    started.after_epoch(7)
    started.after_epoch(6)  # nothing more
    started.wait()
    started.stop()
    told = capfd.readouterr().err
    assert f"4 other training(s) run beside this one, {at_once} at a time" in told
    failed = "failed; its own stage will try again and say why"
    assert sorted(re.findall("^([a-d]): (.*)", told, re.MULTILINE)) == [
        ("a", "trained"), ("b", failed), ("c", failed), ("d", "trained"),
    ]  # fmt: skip


@pytest.mark.slow
def test_this_one_trains_others_when_it_is_done(others, monkeypatch, capfd):
    trained = []

    def is_trained(words):
        wait_until(Path("a.began").exists)
        trained.append(words)
        return words[1] == "b"

    monkeypatch.setattr(beside, "is_trained", is_trained)
    started = others(2, ("a", "done", 0.5), ("b", "done", 0), ("c", "done", 0))
    started.after_epoch(7)
    wait_until(Path("a.began").exists)
    assert not trained
    started.wait()
    started.stop()
    assert trained == [["train-student", name, "done", "0", "--leave-finished"] for name in "bc"]
    assert Path("a.ended").exists()
    told = capfd.readouterr().err
    assert "b: trained\nc: failed; its own stage" in told


@pytest.mark.slow
def test_a_process_is_ready_before_it_is_known_how_many_fit(others, monkeypatch):
    monkeypatch.setattr(beside, "usable_cores", lambda: 2)
    started = others(2, ("a", "done", 0))
    (ready,) = wait_until(lambda: list(started._workers))
    started.after_epoch(7)
    wait_until(Path("a.began").exists)
    started.wait()
    assert Path("a.began").read_text().split()[1] == str(ready.pid)
    started.stop()


@pytest.mark.slow
def test_the_ready_process_ends_where_none_fits(others, monkeypatch):
    monkeypatch.setattr(beside, "usable_cores", lambda: 2)
    monkeypatch.setattr(beside.Others, "_that_fit", lambda self, to_come: 1)
    alone = others("auto", ("a", "done", 0))
    (ready,) = wait_until(lambda: list(alone._workers))
    alone.after_epoch(7)
    assert ready.poll() == 0
    alone.after_epoch(6)
    alone.wait()
    alone.stop()
    assert not Path("a.began").exists()


def test_on_one_core_no_process_is_ready(others, monkeypatch):
    monkeypatch.setattr(beside, "usable_cores", lambda: 1.5)
    alone = others("auto", ("a", "done", 0))
    assert len(alone._foreseen.result()) == 1
    assert alone._workers == []
    alone.stop()


@pytest.mark.slow
def test_an_interruption_ends_all_and_starts_no_more(others, capfd):
    started = others(2, ("a", "done", 600), ("b", "done", 600))
    started.after_epoch(7)
    wait_until(Path("a.began").exists)
    worker = psutil.Process(int(Path("a.began").read_text().split()[1]))
    started.stop()
    assert has_ended(worker)
    assert not Path("b.began").exists()
    assert capfd.readouterr().err.count("\n") == 1  # that they began


@pytest.mark.slow
def test_an_interruption_ends_a_worker_that_hangs(others, monkeypatch):
    monkeypatch.setattr(beside, "STOP_SECONDS", 0.3)
    started = others(2, ("a", "done", 600))
    started.after_epoch(7)
    wait_until(Path("a.began").exists)
    worker = psutil.Process(int(Path("a.began").read_text().split()[1]))
    worker.suspend()
    started.stop()
    assert has_ended(worker)


def test_on_a_gpu_each_trains_alone(monkeypatch):
    monkeypatch.setattr("pipeline.runtime.devices.device_names", lambda: ["NVIDIA H100"])
    others = beside.Others("auto", Path("own.keras"), psutil.Process())
    assert [others._that_fit(to_come) for to_come in (2, 1, 0)] == [1, 1, 1]


def test_on_several_gpus_each_trains_alone_whatever_is_asked(monkeypatch):
    monkeypatch.setattr("pipeline.runtime.devices.accelerators", lambda: ["/device:GPU:0", "/device:GPU:1"])
    assert beside.Others(4, Path("own.keras"), psutil.Process())._that_fit(2) == 1
    monkeypatch.setattr("pipeline.runtime.devices.accelerators", lambda: ["/device:GPU:0"])
    assert beside.Others(4, Path("own.keras"), psutil.Process())._that_fit(2) == 4


# The note that finished files carry


@pytest.fixture
def training(split_once, tmp_path, monkeypatch):
    """A training in a copy of a small project, its parameters, and a process in place of that of DVC."""
    from conftest import copy_here

    from pipeline.params.reading import load_params

    copy_here(split_once, tmp_path, monkeypatch)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(real_project.ROOT / name, name)
    made = Training(Path("out/a.keras"), Path("out/a.csv"), {"seed": "1"}, Path("data/index.csv"))
    return made, load_params("train_baseline"), psutil.Process()


def leave(training, note):
    from pipeline.runtime.workspace import leave_note, workspace

    with workspace(training.output, code=["runtime"], made="here") as folder:
        for suffix in ("keras", "csv"):
            (folder / f"finished.{suffix}").write_text(suffix)
        leave_note(folder, note)


def test_files_that_were_left_for_a_training_are_published(training, capsys):
    made, params, dvc = training
    leave(made, made.note(params, dvc))
    assert made.take(made.note(params, dvc))
    assert (made.output.read_text(), made.history.read_text()) == ("keras", "csv")
    assert "trained beside an earlier stage, taken from" in capsys.readouterr().err


def test_other_files_are_not(training, monkeypatch):
    made, params, dvc = training
    note = made.note(params, dvc)
    other_dvc = type("Process", (), {"pid": dvc.pid, "__hash__": lambda self: hash(dvc) + 1})()
    notes = {
        "of another run of DVC": made.note(params, other_dvc),
        "of another seed": replace(made, item={"seed": "2"}).note(params, dvc),
    }
    assert made.note(params, dvc, dict(AT_START)) == note
    notes["of other code"] = made.note(params, dvc, dict(AT_START) | {"training/fit.py": "edited"})
    for name in ("soft_targets.h5", "another.h5"):
        with h5py.File(name, "w") as file:
            file["logits"] = [float(len(name))]
        seal(Path(name))
        notes[f"of {name}"] = replace(made, soft_labels=[Path(name)]).note(params, dvc)
    monkeypatch.setattr(type(params.student.model), "files", [Path("weights.h5")])
    for content in (b"weights", b"others"):
        Path("weights.h5").write_bytes(content)
        notes[f"of {content!r}"] = made.note(params, dvc)
    monkeypatch.setattr(type(params.student.model), "files", [])
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/another/python")
        notes["of other packages"] = made.note(params, dvc)
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("learning_rate: 0.002", "learning_rate: 0.003"))
    from pipeline.params.reading import load_params

    notes["of other parameters"] = made.note(load_params("train_baseline"), dvc)
    with made.index.open("a") as file:
        file.write("\n")
    notes["of another index"] = made.note(params, dvc)
    assert len({note, *notes.values()}) == 1 + len(notes)
    leave(made, note)
    assert not any(map(made.take, notes.values()))
    assert not made.output.exists()


def test_a_changed_image_is_left_to_the_training_itself(training):
    """It refuses the image and names it."""
    from pipeline.images.index import read_index

    made, params, dvc = training
    leave(made, made.note(params, dvc))
    Path(read_index(made.index).split("train")[0].path).write_bytes(b"")
    assert not made.take(made.note(params, dvc))


def test_a_note_waits_for_no_file_that_is_missing(training):
    made, params, dvc = training
    made.index.unlink()
    assert made.note(params, dvc) is None


def test_what_is_left_for_this_run_of_dvc_is_not_started_again(training):
    made, params, dvc = training
    assert not is_left(made.output, dvc)
    leave(made, made.note(params, dvc))
    assert is_left(made.output, dvc)


@pytest.mark.skipif(not psutil.LINUX, reason="elsewhere psutil has other names for it")
def test_what_is_left_is_found_after_the_clock_was_set(training, monkeypatch):
    """The system computes when it started from the clock, so a process seems to have begun at another time."""
    made, params, _ = training
    leave(made, made.note(params, psutil.Process()))
    began = psutil.Process().create_time()
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: 0.0)
    assert psutil.Process().create_time() != began
    assert is_left(made.output, psutil.Process())


def test_nobody_is_told_of_trainings_where_dvc_cannot_be_read(training):
    made, _, dvc = training
    for content in ("", "stages: [", "stages:\n  a: 1\n"):
        Path("dvc.lock").write_text(content)
        assert beside.foreseen(made.output, dvc) == []


class Waits:
    """In place of `Others`: what happens while it waits is the class attribute."""

    while_waiting = None
    begun = True

    def __init__(self, *_):
        pass

    def after_epoch(self, to_come):
        raise AssertionError

    def wait(self):
        type(self).while_waiting()

    def stop(self):
        pass


def edit_params():
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("learning_rate: 0.002", "learning_rate: 0.003"))


def edit_index():
    with Path("data/index.csv").open("a") as file:
        file.write("\n")


@pytest.mark.parametrize(
    ("edit", "others_ran", "refused"),
    [(edit_params, True, True), (edit_index, True, True), (edit_params, False, False), (lambda: None, True, False)],
)
def test_an_edit_while_it_waits_fails_the_stage(training, monkeypatch, edit, others_ran, refused):
    """DVC notes parameters when a stage ends, and would take the older model for one of the newer parameters."""
    from pipeline.params.reading import load_params

    made, _, dvc = training
    monkeypatch.setattr(orphan, "dvc_process", lambda: dvc)
    monkeypatch.setattr(orphan, "runs_everything", lambda process: True)
    monkeypatch.setattr(beside, "Others", Waits)
    monkeypatch.setattr(Waits, "while_waiting", edit)
    monkeypatch.setattr(Waits, "begun", others_ran)
    run_stage = beside.trained(made, lambda: load_params("train_baseline"), False)
    if refused:
        with (
            pytest.raises(MismatchError, match=r"changed while trainings ran beside .*Run `dvc repro` again"),
            run_stage,
        ):
            pass
    else:
        with run_stage as course:
            assert course.params.student.batch_size == 64


def test_commands_with_other_words_are_left_to_their_stages(training, monkeypatch):
    made, _, dvc = training
    commands = {
        "python -m pipeline train-student --loss kl --temperature 8to2 --seed 1": True,
        "python -m pipeline train-baseline --seed 2": True,
        "python -m pipeline train-baseline --seed 2 && echo train-baseline": False,
        "TF_ENABLE_ONEDNN_OPTS=0 python -m pipeline train-baseline --seed 2": False,
        "nice python -m pipeline train-baseline --seed 2": False,
    }
    stages = [Stage(command, command, [], [], [f"out{number}"]) for number, command in enumerate(commands)]
    monkeypatch.setattr(beside.pending, "pending", lambda *_: stages)
    Path("dvc.lock").write_text("stages: {}\n")
    assert [stage.name for stage in beside.foreseen(made.output, dvc)] == [
        name for name, done in commands.items() if done
    ]


# The real DVC


@pytest.fixture(scope="module")
def project(reproduced, tmp_path_factory):
    """The small project without its student and baseline, which `dvc repro` trains at the same time."""
    folder = copy_without(reproduced, tmp_path_factory.mktemp("beside") / "project", ".work", ".dvc/cache/runs")
    for name in ("evaluate", "export", "measure_exports", "measure_speed", "report", "model_card"):
        change(folder / "dvc.yaml", f"stages.{name}.frozen", True)
    change(folder / "params.yaml", "student.trainings_at_once", 2)
    return folder


def without_models(project):
    """Also DVC forgets them."""
    lock = YAML().load(project / "dvc.lock")
    for stage in TRAININGS:
        lock["stages"].pop(stage, None)
    YAML().dump(lock, project / "dvc.lock")
    for path in MADE:
        (project / path).unlink(missing_ok=True)
    for path in (".work", ".dvc/cache/runs"):
        shutil.rmtree(project / path, ignore_errors=True)


@pytest.fixture(scope="module")
def killed(project, tmp_path_factory):
    """What `dvc repro` says after its stage was killed while the other training ran beside it."""
    without_models(project)
    log = tmp_path_factory.mktemp("killed") / "log"
    dvc = start("dvc", "repro", cwd=project, log=log)
    child = wait_until(lambda: process_of("pipeline.cli.worker", dvc), dvc, every=0.02)
    leader = process_of("train-student", dvc)
    wait_until(lambda: "waiting for the trainings" in log.read_text(), dvc, every=0.02)
    child.suspend()
    leader.kill()
    assert dvc.wait(timeout=real_project.HANGS) != 0
    time.sleep(2 * orphan.LOOK_EVERY_SECONDS)
    child.resume()
    wait_until(lambda: has_ended(child))
    assert not (project / BASELINE).exists()
    return run("dvc", "repro", cwd=project)


def same_bytes(project, reproduced):
    return [sha256(project / path) == sha256(reproduced / path) for path in MADE] == [True] * len(MADE)


def test_after_a_kill_the_next_repro_ends_with_the_same_bytes(project, reproduced, killed):
    assert stages_run(killed) == TRAININGS
    assert f"{STUDENT}: already trained, taken from" in killed
    assert same_bytes(project, reproduced)


def test_trained_at_the_same_time_they_are_the_same_bytes(project, reproduced, killed, monkeypatch):
    """The stages of the others take the files that the first one's worker left, without TensorFlow.

    A worker may train several of them, one after another.
    """
    change(project / "params.yaml", "student.seeds", [1, 2])
    without_models(project)
    monkeypatch.setitem(real_project.ENVIRONMENT, "PYTHONPROFILEIMPORTTIME", "1")
    said = run("dvc", "repro", cwd=project)
    assert stages_run(said) == ["train_student@kl-4-1", "train_student@kl-4-2", "train_baseline@1", "train_baseline@2"]
    assert "train_baseline@1: trained\n" in said
    _, student, _, baseline, _ = said.split("Running stage")
    assert "\nTensorFlow " in student
    assert "\nTensorFlow " not in baseline  # what is imported before that line is not shown
    imported = set(re.findall(r"^import time:.*\| +(\S+)$", baseline, re.MULTILINE))
    assert "pipeline.cli.left_files" in imported
    assert not imported & {"tensorflow", "keras"}
    assert f"{BASELINE}: trained beside an earlier stage" in baseline
    assert same_bytes(project, reproduced)


def test_a_hand_cannot_leave_files_for_nobody(project):
    command = (sys.executable, "-m", "pipeline", "train-baseline", "--seed", "1", beside.LEAVE)
    done = real_project.attempt(*command, cwd=project)
    assert done.returncode == 2
    assert "Run it without." in done.stdout
