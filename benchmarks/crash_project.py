"""The project of `benchmarks.crash_matrix`, and what is in it before and after a stage."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from benchmarks.projects import ROOT, environment_of, write_params
from pipeline.runtime.publish import remove

MEASURED = {"results/speed.json", "results/export_speed.json"}
"""Outputs that hold seconds, which are never the same again: of these, the names of what they hold are compared."""

SIDE, PER_CLASS, EPOCHS = 12, 30, 4
MODEL = {
    "architecture": "cnn", "input_shape": [SIDE, SIDE, 3], "weights": None, "preprocessing": "own", "filters": [4],
    "kernel_size": 3, "padding": "same", "downsampling": "max_pooling", "factor": 2, "pooling": "flatten",
    "batch_normalization": False, "dropout": 0.2,
}  # fmt: skip
TRAINING = {
    "model": MODEL,
    "batch_size": 16,
    "phases": [{"epochs": EPOCHS, "learning_rate": 0.01, "trainable_from": "all"}],
}
CHANGES = {
    "split.data": "data/raw/small",
    **{f"train_teacher.{key}": value for key, value in TRAINING.items()},
    **{f"student.{key}": value for key, value in TRAINING.items()},
    "student.seeds": [1],
    "student.trainings_at_once": 1,
    "distill.temperatures": [4],
    "views.count": 4,
    "precompute.batch_size": 2,
    "precompute.precision": "float32",
    "export": {
        "students": ["best"],
        "formats": ["litert_float32", "onnx"],
        "softmax": False,
        "calibration_images": 20,
        "max_accuracy_drop": 1.0,
    },
}
"""What params.yaml has other than the preset `mhist`: a teacher, a student and a baseline that take a second each."""

OLDER = {"split.val_fraction": 0.3}
"""What params.yaml had when the older outputs were made; the split changes, and so does each output."""


@dataclass(frozen=True)
class Stage:
    """A stage as dvc.lock has it.

    Attributes:
        name: "train_student@kl-4-1".
        words: its command without `python -m pipeline`.
        outs: the paths of its outputs.
    """

    name: str
    words: tuple[str, ...]
    outs: tuple[str, ...]

    @property
    def file_name(self) -> str:
        """The name as a part of the name of a file."""
        return re.sub(r"\W", "_", self.name)


def make_reference(project: Path) -> None:
    """Makes a small project under git in which `dvc repro` has run all stages; nothing if it is there."""
    if (project / ".done").is_file():
        return
    shutil.rmtree(project, ignore_errors=True)
    for file in (*ROOT.glob("pipeline/**/*.*"), ROOT / "dvc.yaml", ROOT / ".gitignore", ROOT / ".dvcignore"):
        if "__pycache__" not in file.parts:
            copy = project / file.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
    shutil.copytree(ROOT / ".dvc/plots", project / ".dvc/plots")
    (project / ".dvc/config").write_text("[core]\n    analytics = false\n", encoding="utf-8")
    (project / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n", encoding="utf-8")
    _write_images(project / "data/raw/small")
    write_params("mhist", CHANGES, project / "params.yaml")
    asked("git", "init", "--quiet", cwd=project)
    asked("dvc", "repro", cwd=project)
    (project / ".done").touch()


def make_older(reference: Path, project: Path) -> None:
    """Copies a project, and runs all stages on another split; nothing if it is there."""
    if (project / ".done").is_file():
        return
    shutil.rmtree(project, ignore_errors=True)
    shutil.copytree(reference, project, symlinks=True)
    (project / ".done").unlink()
    write_params("mhist", CHANGES | OLDER, project / "params.yaml")
    asked("dvc", "repro", cwd=project)
    (project / ".done").touch()


def _write_images(folder: Path) -> None:
    """Writes images of two classes that brightness tells apart, a little noisily, in MHIST's layout."""
    noise = np.random.default_rng(7)
    (folder / "images").mkdir(parents=True)
    head = "Image Name,Majority Vote Label,Number of Annotators who Selected SSA (Out of 7),Partition\n"
    rows = []
    for number in range(2 * PER_CLASS):
        label, brightness = [("HP", 90), ("SSA", 160)][number % 2]
        pixels = np.clip(noise.normal(brightness, 45, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"images/MHIST_{number:03d}.png")
        rows.append(f"MHIST_{number:03d}.png,{label},{number % 8},{'test' if number % 10 >= 7 else 'train'}\n")
    (folder / "annotations.csv").write_text(head + "".join(rows), encoding="utf-8")


def asked(*command: str, cwd: Path) -> str:
    """Runs a command that must succeed in a project, and returns what it printed.

    Raises:
        SystemExit: it failed; the message shows what it printed.
    """
    code, said = attempted(*command, cwd=cwd)
    if code:
        raise SystemExit(f"`{' '.join(command)}` failed in {cwd}:\n{said[-4000:]}")
    return said


def attempted(*command: str, cwd: Path) -> tuple[int, str]:
    """Runs a command in a project: its exit code and what it printed, but not what outlives it prints."""
    with tempfile.TemporaryFile() as said:  # a pipe would be read until the workers end that `dvc queue start` leaves
        done = subprocess.run(
            command, cwd=cwd, env=environment_of(cwd), stdin=subprocess.DEVNULL, stdout=said, stderr=said, check=False
        )
        said.seek(0)
        return done.returncode, said.read().decode(errors="replace")


def stages_of(reference: Path) -> list[Stage]:
    """The stages of a project in which all have run."""
    lock = locked_stages(reference)
    return [
        Stage(
            name,
            tuple(noted["cmd"].removeprefix("python -m pipeline ").split()),
            tuple(out["path"] for out in noted["outs"]),
        )
        for name, noted in lock.items()
    ]


def locked_stages(project: Path) -> dict[str, Any]:
    """What dvc.lock has of each stage."""
    stages: dict[str, Any] = YAML(typ="safe").load(project / "dvc.lock")["stages"]
    return stages


def copy_before(stage: Stage, reference: Path, project: Path, with_dvc: bool, older: Path | None = None) -> None:
    """Makes a project as it was before a stage ran, where all others have run; one that is there is replaced.

    Args:
        stage: the stage.
        reference: a project in which all have run.
        project: the copy.
        with_dvc: whether the copy has what DVC and git keep, which is most of it.
        older: a project whose outputs of the stage lie in the copy; None: the stage has never run there.
    """
    shutil.rmtree(project, ignore_errors=True)
    left_out = ["__pycache__", *([] if with_dvc else [".dvc", ".git"])]
    shutil.copytree(reference, project, symlinks=True, ignore=shutil.ignore_patterns(*left_out))
    for out in stage.outs:
        remove(project / out)
        if older is not None:
            (shutil.copytree if (older / out).is_dir() else shutil.copy2)(older / out, project / out)
    for work in (project / ".work").glob("*/"):
        if work.name in {out.replace("/", "-") for out in stage.outs}:
            shutil.rmtree(work)
    runs = [*(project / ".dvc/cache/runs").glob("*/*/*")]
    of_stage = [
        run for run in runs if YAML(typ="safe").load(run)["cmd"] == f"python -m pipeline {' '.join(stage.words)}"
    ]
    if runs and not of_stage:
        raise RuntimeError(f"DVC has no run of {stage.name} in its cache, where it keeps each")
    for run in of_stage:  # or dvc would take it, and not run the stage
        shutil.rmtree(run.parent)
    yaml = YAML()
    lock = yaml.load(project / "dvc.lock")
    if older is not None and with_dvc:
        lock["stages"][stage.name] = locked_stages(older)[stage.name]
    else:
        del lock["stages"][stage.name]
    yaml.dump(lock, project / "dvc.lock")


def content(project: Path) -> dict[str, str]:
    """What each file of a project holds, and which folders are there.

    Left out is what DVC and git keep for themselves. Of `.work/digests.sqlite`, which notes times, of the copy of
    dvc.lock, which is one of an earlier moment, and of outputs that hold seconds, the bytes are not compared.
    """
    return {path: _held(project / path, path) for path in paths_of(project)}


def paths_of(project: Path) -> Iterator[str]:
    """All files and folders of a project, but for what DVC and git keep for themselves."""
    for folder, folders, files in os.walk(project):
        below = Path(folder).relative_to(project)
        folders[:] = sorted(name for name in folders if name not in (".git", ".dvc", "__pycache__"))
        yield from ((below / name).as_posix() for name in (*folders, *files))


def _held(file: Path, path: str) -> str:
    if file.is_dir():
        return "a folder"
    if path in MEASURED:
        return " ".join(sorted(set(re.findall(r'"\w+":', file.read_text(encoding="utf-8")))))
    if path == "dvc.lock":
        with suppress(YAMLError, LookupError, TypeError, AttributeError):  # dvc was killed while it wrote it
            return json.dumps(_without_measured(locked_stages(file.parent)), sort_keys=True)
    return (
        ""
        if path.startswith((".work/digests.sqlite", ".work/dvc.lock"))
        else hashlib.sha256(file.read_bytes()).hexdigest()
    )


def _without_measured(stages: Mapping[str, Any]) -> dict[str, Any]:
    """The stages of dvc.lock without the digests of outputs that hold seconds."""
    return {
        name: noted | {"outs": [{"path": out["path"]} if out["path"] in MEASURED else out for out in noted["outs"]]}
        for name, noted in stages.items()
    }


def differences(expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """The paths that are in one of two contents alone, or hold something else."""
    return sorted(
        path
        for path in {*expected, *found}
        if expected.get(path) != found.get(path) and not re.fullmatch(r"\.work/.*\.lock", path)
    )


def damaged_objects(project: Path) -> list[str]:
    """The files in DVC's cache that do not hold what their names say."""
    return [
        file.as_posix()
        for file in sorted((project / ".dvc/cache/files/md5").glob("??/*"))
        if re.fullmatch(r"\w+(\.dir)?", file.name)
        and hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest() != file.parent.name + file.name[:30]
    ]


def mixed_outputs(stage: Stage, found: Mapping[str, str], *whole: Mapping[str, str]) -> list[str]:
    """The outputs of a stage that are not as in any of some contents: neither old nor new, or partly so.

    Args:
        stage: the stage.
        found: what is there.
        *whole: what may be there; an output that is absent in one of them may be absent.
    """
    return [out for out in stage.outs if _of(out, found) not in [_of(out, content) for content in whole]]


def _of(out: str, found: Mapping[str, str]) -> dict[str, str]:
    return {path: held for path, held in found.items() if path == out or path.startswith(f"{out}/")}
