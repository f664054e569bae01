"""The real `softlabel` and the real `dvc` in copies of this repository: how tests start, watch and kill them."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import psutil
import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "GIT_"))}
ENVIRONMENT["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), ENVIRONMENT["PATH"]])
ENVIRONMENT["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(Path(__file__).parent / "without_jax"), os.environ.get("PYTHONPATH")])
)
ENVIRONMENT["PYTHONDONTWRITEBYTECODE"] = "1"  # or Python keeps what TensorFlow generates beside it, in TMPDIR
HANGS = 1800
"""Seconds after which a process is taken to hang: so many that no machine, however slow or busy, needs them."""

LOGITS = Path("data/soft_labels/teacher_logits.h5")
MADE = [
    *("data/split", "data/index.csv", "data/soft_labels", "models", "results"),
    *("dvc.lock", ".dvc/cache", ".dvc/tmp", ".work"),
]
"""Everything that the stages and DVC write."""

WRITES_EACH_BATCH = {
    "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent / "writes_each_batch"), ENVIRONMENT["PYTHONPATH"]])
}
"""Of the environment: `precompute` marks views in small steps, however slow the disk is."""

OF_THE_USER = ("XDG_", "KERAS_", "MPL", "ORT_")
"""How variables begin that name folders and settings of the user, which a process that is `audited` does without."""

TOGETHER = """
import json, sys
from pipeline.cli.main import main
for arguments in json.loads(sys.argv[1]):
    main(arguments, standalone_mode=False)
"""


def run(*command: str, cwd: Path) -> str:
    """Runs a command that must succeed, and returns everything it printed."""
    done = attempt(*command, cwd=cwd)
    assert done.returncode == 0, done.stdout
    return done.stdout


def attempt(*command: str, cwd: Path, preexec_fn: Callable[[], None] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a command that may fail; its errors are in its output."""
    return subprocess.run(
        command,
        cwd=cwd,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        preexec_fn=preexec_fn,
    )


def softlabel(*commands: list[str], cwd: Path, before: Sequence[str] = ()) -> str:
    """Runs commands of `softlabel`, which must succeed, in one process, so that all of them load TensorFlow only once.

    It is the program of the project in that folder; `before` are words that start it. Returns everything they printed.
    """
    return run(*before, sys.executable, "-c", TOGETHER, json.dumps(commands), cwd=cwd)


@cache
def without_network() -> list[str]:
    """The words before a command that run it without any network; none where the system forbids it."""
    words = ["unshare", "-rn"]
    can = shutil.which("unshare") and subprocess.run([*words, "true"], check=False, capture_output=True).returncode == 0
    return words if can else []


@contextmanager
def audited(folder: Path) -> Iterator[None]:
    """Lets commands have an empty folder of the user and of temporary files, `home` and `tmp`; `audit` is their log."""
    for name in ("home", "tmp"):
        (folder / name).mkdir()
    path = os.pathsep.join([str(Path(__file__).parent / "audited"), ENVIRONMENT["PYTHONPATH"]])
    given = {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp"), "AUDITED": str(folder / "audit")}
    kept = {name: value for name, value in ENVIRONMENT.items() if not name.startswith(OF_THE_USER)}
    with patch.dict(ENVIRONMENT, {**kept, **given, "PYTHONPATH": path}, clear=True):
        yield


def start(*command: str, cwd: Path, log: Path) -> subprocess.Popen[bytes]:
    """Starts a command in a process group of its own; what it prints goes to a file.

    It gives way to this process, so that on a busy machine, too, who waits for a moment does not see it too late.
    """
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            cwd=cwd,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=lambda: os.nice(10),
        )


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """`kill -9` of a command and of all that it started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_until(
    condition: Callable[[], Any], process: subprocess.Popen[bytes] | None = None, every: float = 0.001
) -> Any:
    """Polls a condition that stays true once it is, and returns its value.

    Fails if a process that should bring it about ends before. It looks `every` so many seconds: seldom where no
    moment is to be caught.
    """
    deadline = time.monotonic() + HANGS
    while True:
        ended = process is not None and process.poll() is not None
        if value := condition():
            return value
        assert not ended, "the process ended before its moment came"
        assert time.monotonic() < deadline, "the moment never came"
        time.sleep(every)


def process_of(stage: str, dvc: subprocess.Popen[bytes]) -> psutil.Process | None:
    """The process of a stage that `dvc` started."""
    try:
        started = psutil.Process(dvc.pid).children(recursive=True)
        return next((process for process in started if stage in process.cmdline()), None)
    except psutil.Error:
        return None


def has_ended(process: psutil.Process) -> bool:
    """Whether a process that is not ours is gone, or waits for nothing but its parent."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def marked(project: Path) -> int:
    """How many views the unfinished logits have, as their marks tell."""
    while True:
        try:
            return sum(np.count_nonzero(np.fromfile(path, np.uint8)) for path in project.glob(".work/*/*/done_*"))
        except FileNotFoundError:  # renamed or removed since it was listed
            continue


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def stages_run(output: str) -> list[str]:
    """The stages that `dvc repro` ran, in order."""
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def change(params_file: Path, path: str, value: object) -> None:
    """Sets one value of a params file."""
    yaml = YAML()
    content = yaml.load(params_file)
    *sections, last = path.split(".")
    section = content
    for name in sections:
        section = section[name]
    section[last] = value
    yaml.dump(content, params_file)


def copy_repository(folder: Path) -> None:
    """Copies what git would commit, apart from tests and dvc.lock, into a git repository of its own."""
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", cwd=ROOT)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() and not name.startswith("tests/") and Path(name).name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    run("git", "init", "--quiet", cwd=folder)


def make_small(project: Path) -> None:
    """Small models and a small data set, but so many views and epochs that there is time to kill what runs."""
    from conftest import write_data_set

    write_data_set(project / "data/raw/small", per_class=60)
    params = project / "params.yaml"
    change(params, "split.data", "data/raw/small")
    for section in ("train_teacher", "student"):
        change(params, f"{section}.model.input_shape", [12, 12, 3])
        change(params, f"{section}.model.filters", [4])
        change(params, f"{section}.batch_size", 16)
        change(params, f"{section}.phases", [{"epochs": 8, "learning_rate": 0.01, "trainable_from": "all"}])
    change(params, "student.seeds", [1])
    change(params, "student.trainings_at_once", 1)  # or it would depend on the machine which process trains
    change(params, "views.count", 16)
    change(params, "views.augmentation", {"translation": 0.2, "horizontal_flip": True})
    change(params, "precompute.batch_size", 2)
    change(params, "export.formats", ["litert_float32", "onnx"])


@contextmanager
def inside(folder: Path) -> Iterator[pytest.MonkeyPatch]:
    """Makes a project the current folder, as for a person and not for DVC; what else is patched ends with the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("DVC_ROOT", raising=False)
        yield patch


def copy_without(project: Path, folder: Path, *paths: str) -> Path:
    """Copies a project, but for some of its files and folders."""
    shutil.copytree(project, folder, symlinks=True)
    for path in paths:
        shutil.rmtree(folder / path) if (folder / path).is_dir() else (folder / path).unlink()
    return folder
