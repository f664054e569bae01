"""`kill -9` of stages, of dvc, and of both, at many moments: the next run goes on, and ends with the same bytes."""

import json
import math
import re
import resource
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import psutil
import pytest
from conftest import MODEL
from real_project import (
    ENVIRONMENT,
    HANGS,
    LOGITS,
    MADE,
    WRITES_EACH_BATCH,
    attempt,
    copy_without,
    has_ended,
    inside,
    kill_group,
    marked,
    process_of,
    run,
    sha256,
    stages_run,
    start,
    wait_until,
)
from ruamel.yaml import YAML

from pipeline.cli.orphan import LOOK_EVERY_SECONDS
from pipeline.images.views import Augmentation, Views
from pipeline.inference.forward import Forward
from pipeline.soft_labels import logit_storage
from pipeline.soft_labels.hdf5 import damage
from pipeline.stages import precompute, train_teacher
from pipeline.teacher_pass import labelling
from pipeline.training.recipe import Phase, Recipe, TeacherToTrain

BATCH = 2
"""precompute.batch_size."""

BLOCK = 8 * BATCH
"""Views: kills come after so many and more."""

STARTING = re.compile(r"[a-z-]+: starting$|TensorFlow ")
"""What every stage prints first."""

VIEWS = 70 * 16 + 14 + 36
"""Of the small project: sixteen of each training image, one of each validation and test image."""


def exists(pattern: str) -> Callable[[Path, str], object]:
    return lambda project, said: any(project.glob(pattern))


def says(text: str) -> Callable[[Path, str], object]:
    return lambda project, said: text in said


def has_marked(count: int) -> Callable[[Path, str], object]:
    return lambda project, said: marked(project) >= count


# The whole pipeline under dvc


@dataclass(frozen=True)
class Kill:
    """Who is killed, while which stage runs, and when: a condition of the project and of what was printed."""

    who: str
    stage: str
    when: Callable[[Path, str], object]


STUDENT = "models-students-kl_T4_seed1.keras"
KILLS = {
    "both in the teacher's third epoch": Kill("both", "train-teacher", says("epoch 3/8  ")),
    "dvc when the finished teacher was written": Kill("dvc", "train-teacher", exists("models/teacher.keras")),
    "the stage when the file of the logits was begun": Kill("stage", "precompute", exists(".work/*/*/unfinished.h5*")),
    "dvc after twenty blocks": Kill("dvc", "precompute", has_marked(20 * BLOCK)),
    "both when every view was computed": Kill("both", "precompute", says("precompute: done")),
    "both when the logits were finished": Kill("both", "precompute", exists(".work/*/*/finished.h5")),
    "dvc while it notes the logits": Kill("dvc", "precompute", says(f"wrote {LOGITS}")),
    "both while soft labels are written": Kill("both", "soften", exists("data/soft_labels/soft_targets_T4.h5*")),
    "the stage in the student's third epoch": Kill("stage", "train-student", says("epoch 3/8  ")),
    "both when the finished student was written": Kill(
        "both", "train-student", exists(f".work/{STUDENT}/*/finished.keras")
    ),
}
NOT_KILLED = ["split", "describe_teacher", "train_baseline@1"]
"""These stages have run before; the second one need not run again if the teacher gets the same bytes."""


@dataclass(frozen=True)
class Scene:
    """What was there after a kill."""

    said: str
    marked: int
    lock: str
    damaged: list[str]


@pytest.fixture(scope="module")
def killed(reproduced, tmp_path_factory):
    """A project in which `dvc repro` was killed again and again, then left in peace; what was there each time."""
    folder = tmp_path_factory.mktemp("killed")
    project, log = copy_without(reproduced, folder / "project", *MADE), folder / "log"
    take(NOT_KILLED, reproduced, project)
    with patch.dict(ENVIRONMENT, WRITES_EACH_BATCH):
        scenes = {name: scene_of(kill, project, log) for name, kill in KILLS.items()}
    return project, scenes, run("dvc", "repro", "evaluate", cwd=project)


def take(stages: list[str], reproduced: Path, project: Path) -> None:
    """Takes the outputs of some stages, and what DVC keeps of them, from a project to one that has nothing."""
    yaml = YAML()
    lock = yaml.load(reproduced / "dvc.lock")
    lock["stages"] = {name: lock["stages"][name] for name in stages}
    yaml.dump(lock, project / "dvc.lock")
    for out in (out for noted in lock["stages"].values() for out in noted["outs"]):
        cached = [Path(".dvc/cache/files/md5", out["md5"][:2], out["md5"][2:])]
        if out["md5"].endswith(".dir"):
            listed = [entry["md5"] for entry in json.loads((reproduced / cached[0]).read_text())]
            cached += [Path(".dvc/cache/files/md5", md5[:2], md5[2:]) for md5 in listed]
        for path in (Path(out["path"]), *cached):
            (project / path).parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (reproduced / path).is_dir() else shutil.copy
            copy(reproduced / path, project / path)


def scene_of(kill: Kill, project: Path, log: Path) -> Scene:
    dvc = start("dvc", "repro", cwd=project, log=log)
    try:
        stage = wait_until(lambda: process_of(kill.stage, dvc), dvc, every=0.05)
        if kill.stage != "soften":  # which does without TensorFlow
            wait_until(lambda: has_loaded_tensorflow(log.read_text()), dvc, every=0.02)
        if kill.who != "stage":  # dvc stands still, so that it notes nothing however late the moment is seen
            dvc.send_signal(signal.SIGSTOP)
        wait_until(lambda: kill.when(project, log.read_text()), dvc)
        {"dvc": lambda: kill_above(stage, dvc), "stage": stage.kill, "both": lambda: kill_group(dvc)}[kill.who]()
        dvc.wait(timeout=HANGS)
        wait_until(lambda: has_ended(stage))
    finally:
        stop(dvc)
    assert dvc.returncode != 0
    lock = project / "dvc.lock"
    files = [*project.glob("data/soft_labels/*.h5")]
    damaged = [path.name for path in files if damage(path)]
    return Scene(log.read_text(), marked(project), lock.read_text() if lock.exists() else "", damaged)


def has_loaded_tensorflow(said: str) -> bool:
    """Whether the last stage of a `dvc repro` has; it does nothing before."""
    return "\nTensorFlow " in said.rpartition("Running stage")[2]


def kill_above(stage: psutil.Process, dvc) -> None:
    """Kills dvc while the stage stands still, so that on no machine it has finished before it looks for dvc again."""
    with suppress(psutil.NoSuchProcess):
        stage.suspend()
    dvc.kill()
    dvc.wait(timeout=HANGS)
    time.sleep(2 * LOOK_EVERY_SECONDS)
    with suppress(psutil.NoSuchProcess):
        stage.resume()


def stop(process):
    """Leaves nothing behind when a test fails."""
    try:
        kill_group(process)
    except ProcessLookupError:
        process.wait()


def test_after_ten_kills_dvc_lock_is_as_without_them(killed, reproduced):
    """Up to the evaluation: speeds are never the same, and the report shows them."""
    project, _, _ = killed
    stages, expected = (YAML(typ="safe").load(folder / "dvc.lock")["stages"] for folder in (project, reproduced))
    assert expected.keys() - stages.keys() == {
        "export@best",
        "measure_exports",
        "measure_speed",
        "report",
        "model_card",
    }
    assert stages == {name: expected[name] for name in stages}
    assert len(stages) == 8


@pytest.mark.parametrize(
    "name", [str(LOGITS), "models/teacher.keras", "models/students/kl_T4_seed1.keras", "results/metrics.json"]
)
def test_after_ten_kills_each_file_is_as_without_them(killed, reproduced, name):
    project, _, _ = killed
    assert sha256(project / name) == sha256(reproduced / name)


def test_no_kill_leaves_a_damaged_file_under_a_final_name(killed):
    _, scenes, _ = killed
    assert {name: scene.damaged for name, scene in scenes.items()} == {name: [] for name in scenes}


def test_a_killed_training_goes_on_at_its_epoch(killed):
    """The third epoch had just been reported: it, or only the second, was kept."""
    _, scenes, _ = killed
    for name in ("dvc when the finished teacher was written", "both when the finished student was written"):
        (epoch,) = re.findall(r"continuing after epoch (\d)", scenes[name].said)
        assert epoch in "234"
        assert f"epoch {epoch}/8  " not in scenes[name].said
        assert f"epoch {int(epoch) + 1}/8  " in scenes[name].said
        assert f".keras: continuing after epoch {epoch} of 8\n" in scenes[name].said


def test_a_finished_model_is_not_trained_again(killed):
    _, scenes, end = killed
    teacher = scenes["the stage when the file of the logits was begun"].said.split("Running stage 'precompute'")[0]
    student = end.split("Running stage 'evaluate'")[0]
    assert stages_run(teacher) == ["train_teacher"]
    assert stages_run(student) == ["train_student@kl-4-1"]
    assert "epoch" not in teacher + student


def test_a_stage_whose_dvc_was_killed_says_why_it_ends(killed):
    _, scenes, _ = killed
    assert "dvc has ended" in scenes["dvc after twenty blocks"].said


def test_only_views_that_were_not_marked_are_computed(killed):
    """What was marked before dvc was killed, and in the moment until the stage noticed, is not computed again."""
    _, scenes, _ = killed
    before = scenes["dvc after twenty blocks"].marked
    assert 20 * BLOCK <= before < VIEWS
    assert views_computed(scenes["both when every view was computed"].said) == [
        (str(VIEWS - before), str(VIEWS - before))
    ]


def views_computed(said: str) -> list[tuple[str, str]]:
    return re.findall(r"precompute: done: (\d+)/(\d+) views", said)


def test_computed_views_stay_marked_until_dvc_has_the_logits(killed):
    """Whether their file was sealed, published or noted: no view is computed again."""
    _, scenes, _ = killed
    assert scenes["both when every view was computed"].marked == VIEWS
    assert scenes["both when the logits were finished"].marked == VIEWS
    assert {*views_computed(scenes["both when the logits were finished"].said)} <= {("0", "0")}
    assert views_computed(scenes["dvc while it notes the logits"].said) == []


def test_published_logits_unknown_to_dvc_are_not_computed_again(killed):
    _, scenes, _ = killed
    assert LOGITS.name not in scenes["dvc while it notes the logits"].lock
    assert views_computed(scenes["both while soft labels are written"].said) == []
    assert f"wrote {LOGITS}" in scenes["both while soft labels are written"].said


def test_no_kill_leaves_an_unfinished_file_beside_the_finished(killed):
    project, _, _ = killed
    assert sorted(path.name for path in (project / LOGITS).parent.iterdir()) == ["soft_targets_T4.h5", LOGITS.name]


# The stage alone


@pytest.fixture(scope="module")
def project(reproduced, tmp_path_factory):
    """A project in which everything before `precompute` is done; a full disk comes first, then there is room."""
    folder = tmp_path_factory.mktemp("alone") / "project"
    return copy_without(reproduced, folder, ".work", ".dvc/cache", "dvc.lock", "data/soft_labels")


def files_up_to(size: int) -> Callable[[], None]:
    """A limit that the system sets to the length of every file."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def refused_by_the_system(*command: str, cwd: Path, size: int) -> None:
    done = attempt(*command, cwd=cwd, preexec_fn=files_up_to(size))
    assert done.returncode == 1, done.stdout
    message = "".join(line for line in done.stdout.splitlines(keepends=True) if not STARTING.match(line))
    assert message.startswith("Error: the system refused: ")
    assert message.endswith("Check the disk and the permissions.\n")
    assert "Traceback" not in message


@pytest.mark.unmeasured
def test_a_full_disk_is_told_before_the_teacher_runs(project):
    """The file needs 48 kB; 40 kB are enough for all that comes before, such as the teacher's weights."""
    refused_by_the_system("softlabel", "precompute", cwd=project, size=40_000)
    assert not (project / LOGITS).exists()
    assert not list(project.glob(".work/*/*/*"))


def test_a_second_precompute_is_refused_while_the_first_works(project, reproduced, tmp_path):
    """In the folder in which the disk was full before."""
    first = start("softlabel", "precompute", cwd=project, log=tmp_path / "log")
    try:
        wait_until(lambda: "TensorFlow " in (tmp_path / "log").read_text(), first, every=0.02)
        wait_until(lambda: marked(project) >= BLOCK, first)
        first.send_signal(signal.SIGSTOP)
        second = attempt("softlabel", "precompute", cwd=project)
        assert second.returncode == 1
        (message,) = [line for line in second.stdout.splitlines() if not STARTING.match(line)]
        assert message.startswith("Error: ")
        assert str(LOGITS) in message
        assert not (project / LOGITS).exists()
        first.send_signal(signal.SIGCONT)
        assert first.wait(timeout=HANGS) == 0
    finally:
        stop(first)
    assert sha256(project / LOGITS) == sha256(reproduced / LOGITS)


def test_a_stage_killed_early_and_midway_writes_the_same_bytes(reproduced, tmp_path):
    """The second run goes on after the first, the third after the second; dvc has no part in it."""
    project = copy_without(reproduced, tmp_path / "project", ".work", ".dvc/cache", "dvc.lock", "data/soft_labels")
    with patch.dict(ENVIRONMENT, WRITES_EACH_BATCH):
        early = killed_at(3 * BLOCK, project, tmp_path / "first")
        midway = killed_at(max(early + 1, 10 * BLOCK), project, tmp_path / "second")
    assert 3 * BLOCK <= early < midway < VIEWS
    said = run("softlabel", "precompute", cwd=project)
    assert views_computed(said) == [(str(VIEWS - midway), str(VIEWS - midway))]
    assert sha256(project / LOGITS) == sha256(reproduced / LOGITS)


def killed_at(views: int, project: Path, log: Path) -> int:
    """How many views were marked when `precompute` was killed, which was as soon as there were so many."""
    stage = start("softlabel", "precompute", cwd=project, log=log)
    try:
        wait_until(lambda: "TensorFlow " in log.read_text(), stage, every=0.02)
        wait_until(lambda: marked(project) >= views, stage)
    finally:
        stop(stage)
    return marked(project)


@pytest.mark.unmeasured
def test_soften_on_a_full_disk_says_so_and_leaves_nothing(reproduced, tmp_path):
    targets = Path("data/soft_labels/soft_targets_T4.h5")
    project = copy_without(reproduced, tmp_path / "project", str(targets))
    for size in (300, 2048, 16384):
        refused_by_the_system("softlabel", "soften", "--temperature", "4", cwd=project, size=size)
        assert [path.name for path in (project / targets).parent.iterdir()] == [LOGITS.name]
    run("softlabel", "soften", "--temperature", "4", cwd=project)
    assert sha256(project / targets) == sha256(reproduced / targets)


# In this process, where forward passes can be counted and files damaged


class Killed(BaseException):
    """Ends the work as abruptly as Python can."""


def compute(output: str) -> None:
    precompute.run(
        index=Path("data/index.csv"),
        teacher=Path("models/teacher.keras"),
        views=Views(4, 3, Augmentation(rotation=0.1)),
        stored_as=logit_storage.Dense("float32"),
        batch_size=2,
        previous=[],
        output=Path(output),
    )


def kill_after(batches: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the images of each forward pass, and ends the work after so many passes."""
    passes: list[int] = []
    original = Forward.__call__

    def counted(self, pixels):
        for logits in original(self, pixels):
            passes.append(len(logits))
            yield logits
            if len(passes) == batches:
                raise Killed

    monkeypatch.setattr(Forward, "__call__", counted)
    return passes


@pytest.fixture(scope="module")
def whole(split_once, tmp_path_factory):
    """A project in which `whole.h5` was computed without a kill, and how many views that took."""
    folder = copy_without(split_once, tmp_path_factory.mktemp("whole") / "project")
    with inside(folder) as patch:
        passes = kill_after(10**6, patch)
        compute("whole.h5")
    return folder, sum(passes)


@pytest.fixture
def views(whole, monkeypatch):
    """How many views there are; the current folder is the project of `whole`."""
    monkeypatch.chdir(whole[0])
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr(labelling, "WRITING_SHARE", math.inf)  # every batch is written as it comes
    return whole[1]


@pytest.mark.parametrize("batches", [1, 7, 8, 9, 25, 40])
def test_only_what_was_not_yet_written_is_computed_twice(views, monkeypatch, batches):
    """Killed among the validation images, the test images, and the training images."""
    output = Path(f"killed_after_{batches}.h5")
    with monkeypatch.context() as patch:
        before = kill_after(batches, patch)
        with pytest.raises(Killed):
            compute(output.name)
    assert not output.exists()
    with monkeypatch.context() as patch:
        after = kill_after(10**6, patch)
        compute(output.name)
    again = 2 * BATCH  # the batch that was not written, and one by which the others are believed
    assert views <= sum(before) + sum(after) <= views + again
    assert output.read_bytes() == Path("whole.h5").read_bytes()


def test_it_says_how_much_was_done_before(views, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        kill_after(9, patch)
        with pytest.raises(Killed):
            compute("killed.h5")
    assert "continuing" not in capsys.readouterr().err
    compute("killed.h5")
    told = capsys.readouterr().err
    before, of_all = re.search(r"^precompute: continuing after (\d+) of (\d+) views$", told, re.MULTILINE).groups()
    assert 8 * BATCH <= int(before) <= 9 * BATCH
    assert int(of_all) == views
    assert f"precompute: done: {views - int(before)}/{views - int(before)} views" in told
    compute("killed.h5")
    assert "precompute: computed before, and kept in .work" in capsys.readouterr().err


def test_a_finished_model_damaged_in_place_is_not_published(unlabelled):
    """The published file and the one that is kept may be one file with two names."""
    train()
    whole = Path("trained.keras").read_bytes()
    with Path("trained.keras").open("r+b") as file:
        file.seek(len(whole) // 2)
        file.write(b"damage")
    train()
    assert Path("trained.keras").read_bytes() == whole


def train() -> None:
    train_teacher.run(
        index=Path("data/index.csv"),
        teachers=[TeacherToTrain(MODEL, Recipe([Phase(1, 0.01, "all")], batch_size=8, seed=1), Augmentation())],
        average="logits",
        output=Path("trained.keras"),
        history=Path("history.csv"),
    )
