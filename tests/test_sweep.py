"""`softlabel sweep`: trainings on other machines, by Ray and by SLURM's script, as docs/scale.md shows them.

Two nodes of a Ray cluster run on this machine, each with a folder of temporary files of its own. Where it does not
matter what a training computes, the stages are shell commands, which wait for the test.
"""

import fcntl
import io
import os
import re
import shutil
import signal
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from documents import blocks, follow
from real_project import (
    ENVIRONMENT,
    ROOT,
    attempt,
    change,
    copy_without,
    run,
    sha256,
    softlabel,
    stages_run,
    start,
    wait_until,
)

from pipeline.cli.main import main
from pipeline.cli.pending import Stage
from pipeline.cli.sweep import _train_here
from pipeline.runtime.errors import MissingError
from pipeline.tools import copied_training, ray_trainings
from pipeline.tools.project_copy import packed
from pipeline.tools.ray_trainings import gpus_of_each

STUDENT, BASELINE = "train_student@kl-4-2", "train_baseline@2"
FILES = ("models/students/kl_T4_seed2.keras", "models/baselines/seed2.keras")
SCALE, SCRIPTS = ROOT / "docs/scale.md", ROOT / "docs/slurm"
BY_RAY, BY_SLURM = blocks(SCALE, "A sweep over many machines"), blocks(SCALE, "SLURM")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """(A cluster, its two nodes' folders by node): the head runs no task, and a node one at a time."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    folders = {}
    try:
        for _ in range(2):
            folder = tmp_path_factory.mktemp("node")
            folders[made.add_node(num_cpus=1, env_vars={"TMPDIR": str(folder)})] = folder
        yield made, folders
    finally:
        made.shutdown()


@pytest.fixture(scope="module")
def two_more(reproduced, tmp_path_factory):
    """A project with a second seed, and a remote that is empty: a student and a baseline are to be trained."""
    folder = tmp_path_factory.mktemp("two_more")
    project = copy_without(reproduced, folder / "project")
    change(project / "params.yaml", "student.seeds", [1, 2])
    run("softlabel", "init-remote", str(folder / "remote"), cwd=project)
    return project


@pytest.fixture(scope="module")
def trained_here(two_more, tmp_path_factory):
    """The same project after both trainings on this machine alone."""
    project = copy_without(two_more, tmp_path_factory.mktemp("here") / "project")
    softlabel(
        ["train-student", "--loss", "kl", "--temperature", "4", "--seed", "2"],
        ["train-baseline", "--seed", "2"],
        cwd=project,
    )
    run("dvc", "commit", "--force", STUDENT, BASELINE, cwd=project)
    return project


def sweep(project, address):
    return attempt("softlabel", "sweep", "--engine", "ray", "--address", address, cwd=project)


def test_a_training_takes_a_gpu_where_the_cluster_has_any():
    assert gpus_of_each({"CPU": 8.0}) == 0
    assert gpus_of_each({"CPU": 8.0, "GPU": 4.0}) == 1


def test_a_machine_that_cannot_make_a_copy_is_not_lost(monkeypatch):
    import ray

    def fails(receipt):
        raise ray.exceptions.RayTaskError("train", "a traceback", PermissionError("scratch belongs to another user"))

    monkeypatch.setattr(ray, "get", fails)
    outcome = ray_trainings._outcome(None, STUDENT)
    assert (outcome.succeeded, outcome.machine) == (False, "its machine")
    assert outcome.last_lines == "PermissionError: scratch belongs to another user"


def test_a_file_is_no_place_for_copies(tmp_path):
    (tmp_path / "file").touch()
    refused = CliRunner().invoke(main, ["sweep", "--engine", "ray", "--scratch", str(tmp_path / "file")])
    assert refused.exit_code == 2
    assert "is a file" in refused.stderr


def test_one_training_that_fails_says_what_to_push(monkeypatch):
    failed = copied_training.Outcome(STUDENT, False, "here", "")
    monkeypatch.setattr(copied_training, "train", lambda *_, **__: failed)
    with pytest.raises(MissingError, match="run `dvc push --run-cache split soften` first"):
        _train_here(None, [Stage(STUDENT, "", (), (), ())], 0)


# Real trainings


@pytest.fixture(scope="module")
def swept(cluster, two_more, tmp_path_factory):
    """(The project after the commands of docs/scale.md, without the last; what they said)."""
    project = copy_without(two_more, tmp_path_factory.mktemp("swept") / "project")
    (block,) = BY_RAY
    return project, follow(block.replace("192.168.1.10:6379", cluster[0].address).removesuffix("dvc repro\n"), project)


def test_a_sweep_of_two_nodes_gives_the_bytes_of_one_machine(swept, trained_here):
    project, said = swept
    assert re.findall(r"(\S+): done on .* \((\d) of 2\)", said) in (
        [(STUDENT, "1"), (BASELINE, "2")],
        [(BASELINE, "1"), (STUDENT, "2")],
    )
    for file in FILES:
        assert sha256(project / file) == sha256(trained_here / file)


def test_both_nodes_took_part(cluster, swept):
    for folder in cluster[1].values():
        (copies,) = folder.glob("softlabel-*/*")
        assert sorted(entry.name for entry in copies.iterdir() if entry.is_dir()) == ["cache"], "no copy is left"
    made = [file.name for folder in cluster[1].values() for file in folder.glob("softlabel-*/*/*.lock")]
    assert sorted(made) == [f"{BASELINE}.lock", f"{STUDENT}.lock"], "each on one node"


def test_after_a_sweep_dvc_has_nothing_to_train(swept, trained_here):
    project, _ = swept
    assert BY_RAY[0].endswith("\ndvc repro\n")
    assert stages_run(run("dvc", "repro", "--dry", cwd=project))[0] == "evaluate"
    assert (project / "dvc.lock").read_bytes() == (trained_here / "dvc.lock").read_bytes()
    assert stages_run(run("dvc", "repro", "train_student", "train_baseline", cwd=project)) == []


@pytest.fixture
def slurm(tmp_path):
    """A folder with what SLURM has, but for a queue, and starts a command with what SLURM sets."""
    commands = {
        "sbatch": 'exec bash "$2"',
        "srun": 'exec "$@"',
        "scontrol": "echo node-1; echo node-2",
        "ray": 'echo "$RAY_AUTH_MODE $RAY_AUTH_TOKEN $SRUN_CPUS_PER_TASK"; echo "$@"',
    }
    for name, command in commands.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{command}\n")
        (tmp_path / name).chmod(0o755)
    set_by_slurm = {"SLURM_JOB_NODELIST": "node-[1-2]", "SLURM_NNODES": "2", "SLURM_CPUS_PER_TASK": "8"}
    path = os.pathsep.join([str(tmp_path), ENVIRONMENT["PATH"]])

    def begin(number, command, project):
        with pytest.MonkeyPatch.context() as patch:
            task = {"SLURM_ARRAY_TASK_ID": str(number), "TMPDIR": str(tmp_path / "tmp")}
            for name, value in {"PATH": path, **set_by_slurm, **task}.items():
                patch.setitem(ENVIRONMENT, name, value)
            return start("bash", "-euc", command, cwd=project, log=tmp_path / "log")

    (tmp_path / "tmp").mkdir()
    return begin, tmp_path / "log"


def test_an_array_task_trains_and_goes_on_after_sigterm(slurm, two_more, trained_here, tmp_path):
    """SLURM preempts with SIGTERM to all processes, and runs the script again."""
    project = copy_without(two_more, tmp_path / "project")
    run("softlabel", "init-remote", "--force", str(tmp_path / "remote"), cwd=project)
    begin, log = slurm
    submit, take = BY_SLURM
    first = begin(1, submit, project)
    wait_until(lambda: "epoch 2/8" in log.read_text(), first)
    os.killpg(first.pid, signal.SIGTERM)
    assert first.wait() != 0
    second = begin(1, f"exec bash {SCRIPTS}/sweep.sbatch", project)
    assert second.wait() == 0, log.read_text()
    assert f"{STUDENT}: pushed" in log.read_text()
    assert "epoch 1/8" not in log.read_text()
    assert stages_run(follow(f"{take.rstrip()} {STUDENT}", project)) == []
    assert sha256(project / FILES[0]) == sha256(trained_here / FILES[0])


def test_the_array_script_refuses_a_wrong_number(slurm, two_more):
    begin, log = slurm
    assert begin(4, f"exec bash {SCRIPTS}/sweep.sbatch", two_more).wait() == 1
    assert "there are 4, from 0 to 3" in log.read_text()
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize(("status", "code"), [("{}", 0), ('{"precompute": []}', 1)])
def test_the_script_of_the_pass_makes_a_cluster_of_the_nodes(slurm, tmp_path, status, code):
    """What DVC says of the stage afterwards counts, not how Ray ended."""
    (tmp_path / "dvc").write_text(f"#!/bin/sh\ntest \"$*\" = 'status --json precompute' && echo '{status}'\n")
    (tmp_path / "dvc").chmod(0o755)
    begin, log = slurm
    assert begin(0, f"exec bash {SCRIPTS}/precompute.sbatch", tmp_path).wait() == code, log.read_text()
    token, command, *rest = log.read_text().splitlines()
    assert rest == ["the teacher's pass is not done: see the lines above"] * code
    assert re.fullmatch("token [0-9a-f]{64} 8", token)
    options = "--address node-1:6379 --min-nodes 2 --num-cpus 8"
    assert command == f"symmetric-run {options} -- dvc repro precompute"


@pytest.mark.parametrize("script", sorted(SCRIPTS.iterdir()), ids=lambda path: path.name)
def test_a_script_is_valid_and_goes_on_when_it_is_requeued(script):
    run("bash", "-n", str(script), cwd=ROOT)
    assert "\n#SBATCH --requeue\n" in script.read_text()


# Shell commands in place of trainings


STAGES = """
stages:
  soften:
    cmd: echo soft > soft.txt
    outs: [soft.txt]
  train_student:
    matrix: {loss: "${distill.losses}", temperature: "${distill.temperatures}", seed: "${student.seeds}"}
    cmd: sh %(folder)s/train.sh student ${item.seed} > student_${item.loss}_${item.temperature}_${item.seed}.txt
    deps: [soft.txt]
    outs: ["student_${item.loss}_${item.temperature}_${item.seed}.txt"]
  train_baseline:
    matrix: {seed: "${student.seeds}"}
    cmd: sh %(folder)s/train.sh baseline ${item.seed} > baseline_${item.seed}.txt
    deps: [soft.txt]
    outs: ["baseline_${item.seed}.txt"]
"""


@pytest.fixture(scope="module")
def shell_once(tmp_path_factory):
    """The project `shell`, to be copied."""
    folder = tmp_path_factory.mktemp("shell")
    project = folder / "project"
    project.mkdir()
    run("git", "init", "--quiet", cwd=project)
    run("dvc", "init", "--quiet", cwd=project)
    run("softlabel", "init-remote", str(folder / "remote"), cwd=project)
    shutil.copytree(ROOT / "pipeline", project / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "params.yaml", project / "params.yaml")
    change(project / "params.yaml", "student.seeds", [1, 2])
    (project / "dvc.yaml").write_text(STAGES % {"folder": folder})
    run("dvc", "repro", "--quiet", "soften", cwd=project)
    return project


@pytest.fixture
def shell(shell_once, tmp_path):
    """A project whose trainings are `train.sh` of the folder above it, and which has a remote of its own."""
    project = copy_without(shell_once, tmp_path / "project")
    for file in (project / "dvc.yaml", project / ".dvc/config.local"):
        file.write_text(file.read_text().replace(str(shell_once.parent), str(tmp_path)))
    return project


def test_what_comes_before_the_trainings_must_be_up_to_date(shell):
    (shell / "dvc.yaml").write_text((shell / "dvc.yaml").read_text().replace("echo soft", "echo softer"))
    refused = sweep(shell, "127.0.0.1:1")
    assert refused.returncode == 1
    assert "soften must run before the trainings: run `dvc repro soften` first." in refused.stdout


def test_without_a_remote_a_sweep_says_how_to_set_one_up(shell):
    (shell / ".dvc/config.local").unlink()
    refused = sweep(shell, "127.0.0.1:1")
    assert refused.returncode == 1
    assert "Set one up with `softlabel init-remote`" in refused.stdout


def test_nothing_is_taken_if_params_change_during_a_sweep(shell, monkeypatch):
    def change_meanwhile(*_, **__):
        change(shell / "params.yaml", "distill.hard_label_weight", 0.25)
        return {"train_baseline@1": True}

    monkeypatch.chdir(shell)
    monkeypatch.setattr("pipeline.cli.sweep._train_elsewhere", change_meanwhile)
    refused = CliRunner().invoke(main, ["sweep", "--engine", "ray"])
    assert refused.exit_code == 1
    assert "changed while the trainings ran" in refused.stderr
    assert not (shell / "baseline_1.txt").exists()


def test_a_copy_has_the_same_remote_wherever_it_lies(shell, tmp_path):
    """A path in DVC's configuration is relative to `.dvc`."""
    run("dvc", "remote", "add", "--force", "--default", "--local", "folder", "../remote", cwd=shell)
    with tarfile.open(fileobj=io.BytesIO(packed(shell, [Path("pipeline"), Path("absent")]))) as archive:
        archive.extractall(tmp_path / "elsewhere/copy")  # noqa: S202  # our own
    copied = run("dvc", "remote", "list", cwd=tmp_path / "elsewhere/copy")
    assert copied.split() == ["folder", str(tmp_path / "remote"), "(default)"]
    assert not list((tmp_path / "elsewhere/copy").rglob("__pycache__"))


def test_a_training_that_fails_is_told_and_the_others_go_on(cluster, shell):
    script = shell.parent / "train.sh"
    script.write_text(f"echo $1 $2 >> {shell.parent}/begun; echo no memory for $1 >&2; test $1 = student\n")
    failed = sweep(shell, cluster[0].address)
    assert failed.returncode == 1
    assert "train_baseline@1: failed on" in failed.stdout
    assert "no memory for baseline" in failed.stdout
    assert "2 of 4 trainings are done and here" in failed.stdout
    assert "Traceback" not in failed.stdout
    assert sorted(path.name for path in shell.glob("student_*")) == ["student_kl_4_1.txt", "student_kl_4_2.txt"]
    script.write_text(f"echo $1 $2 >> {shell.parent}/begun; cat data/raw/mnist/where.txt\n")
    (shell / "data/raw/mnist").mkdir(parents=True)
    (shell / "data/raw/mnist/where.txt").write_text("images that are read where they are")
    again = sweep(shell, cluster[0].address)
    assert again.returncode == 0, again.stdout
    assert (shell / "baseline_1.txt").read_text() == "images that are read where they are"
    assert set(re.findall(r"(\S+): done", again.stdout)) == {"train_baseline@1", "train_baseline@2"}
    begun = (shell.parent / "begun").read_text().splitlines()
    assert sorted(begun) == ["baseline 1", "baseline 1", "baseline 2", "baseline 2", "student 1", "student 2"]
    assert "4 trainings are up to date" in sweep(shell, cluster[0].address).stdout


def is_free(lock):
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_trainings_of_a_lost_node_are_run_on_another(cluster, shell):
    """The last test of this cluster: it has one node less."""
    made, folders = cluster
    (lost, on_lost), (_, on_kept) = folders.items()
    begun, log = shell.parent / "begun", shell.parent / "log"
    script = f"echo $TMPDIR >> {begun}; while [ ! -e $TMPDIR/go ]; do sleep 0.1; done; echo $1 $2\n"
    (shell.parent / "train.sh").write_text(script)
    command = ["softlabel", "sweep", "--engine", "ray", "--address", made.address]
    process = start(*command, cwd=shell, log=log)
    try:
        wait_until(lambda: begun.is_file() and len(begun.read_text().splitlines()) == 2, process, every=0.05)
        made.remove_node(lost, allow_graceful=False)
        (on_kept / "go").touch()
        assert process.wait() == 0, log.read_text()
        locks = [*on_lost.glob("softlabel-*/*/*.lock")]
        wait_until(lambda: all(map(is_free, locks)), every=0.05)  # DVC has ended there, in the midst of its stage
    finally:
        (on_lost / "go").touch()  # ends the command that the lost node ran
    assert sorted(begun.read_text().splitlines()) == sorted([str(on_lost), *[str(on_kept)] * 4])
    assert (shell / "baseline_2.txt").read_text() == "baseline 2\n"
