"""Commands on a disk with room for a part of what they write: a small, seeded part of benchmarks/full_disk.py. And on
one that can only be read, and one that is taken away."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from failing_disk import NO_DISK
from real_project import ENVIRONMENT, ROOT

CAN_MOUNT = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs none "$0"']


def can_mount(folder) -> bool:
    found = shutil.which("unshare")
    return bool(found) and subprocess.run([*CAN_MOUNT, folder], check=False, capture_output=True).returncode == 0


def test_nothing_is_damaged_and_the_next_run_ends_alike(reproduced, tmp_path):
    """`soften` writes HDF5, `pack` copies files, `predict` writes text; each reads all that it needs first."""
    (tmp_path / "disk").mkdir()
    if not can_mount(tmp_path / "disk"):
        pytest.skip("this system lets nobody mount a file system")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.full_disk", "--project", reproduced, "--tries", "2"),
            *("--only", "soften@4", "pack", "predict --output", "--output", str(tmp_path / "record.json")),
        ],
        cwd=ROOT,
        env=ENVIRONMENT | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / "record.json").read_text())
    rows = {row[0]: row[2:] for row in record["tables"][0]["rows"]}
    assert {name: row[0] for name, row in rows.items()} == {"soften@4": "2", "pack": "2", "predict --output": "2"}
    assert sum(int(row[1]) for row in rows.values()) >= 2  # so many disks were full


def on_a_mounted_copy(project, folder, before: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs a command of `softlabel` in a project that is a disk of its own, after commands on that, as `$PWD`."""
    shutil.copytree(project, folder, symlinks=True)
    shell = f'mount --bind "$0" "$0" && cd "$0" && {before} && exec "$@"'
    if not can_mount(folder):
        pytest.skip("this system lets nobody mount a file system")
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", shell, folder, sys.executable, "-m", "pipeline", *words],
        env=ENVIRONMENT | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


READ_ONLY = 'mount -o remount,bind,ro "$PWD"'


def test_a_disk_that_can_only_be_read_is_told(reproduced, tmp_path):
    done = on_a_mounted_copy(reproduced, tmp_path / "copy", READ_ONLY, "soften", "--temperature", "4")
    assert done.returncode == 1
    (message,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert "Read-only file system" in message
    assert message.endswith("mount it for writing, or work on another one.")


def test_what_only_reads_works_on_a_disk_that_can_only_be_read(reproduced, tmp_path):
    target = "data/soft_labels/soft_targets_T4.h5"
    done = on_a_mounted_copy(reproduced, tmp_path / "copy", READ_ONLY, "verify", target)
    assert done.returncode == 0, done.stderr
    assert f"{target} is sound" in done.stdout


def test_data_on_a_disk_that_was_taken_away_are_missing(reproduced, tmp_path):
    """An empty folder is left where a disk was mounted."""
    gone = "mount -t tmpfs none data/soft_labels"
    done = on_a_mounted_copy(reproduced, tmp_path / "copy", gone, "soften", "--temperature", "4")
    assert done.returncode == 1
    (message,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert "there is no file data/soft_labels/teacher_logits.h5" in message


@pytest.mark.parametrize(
    ("how", "told", "remedy"),
    [
        (
            "full-quota",
            "Disk quota exceeded: 'data/soft_labels/soft_targets_T4.h5'",
            "ask for more",
        ),
        ("unreadable", "Input/output error: 'data/soft_labels/teacher_logits.h5'", "look at it (dmesg)"),
        ("gone", "Transport endpoint is not connected: 'data/soft_labels/teacher_logits.h5'", "mount it again"),
    ],
)
def test_what_a_disk_refuses_is_told(reproduced, tmp_path, how, told, remedy):
    """Its file system, in a process of its own, answers as a quota, a damaged disk, or a server that has gone."""
    for path in ("data/soft_labels/teacher_logits.h5", "params.yaml", "dvc.yaml"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(reproduced / path, tmp_path / path)
    script = Path(__file__).with_name("failing_disk.py")
    command = [sys.executable, script, how, sys.executable, "-m", "pipeline", "soften", "--temperature", "4"]
    if not can_mount(tmp_path) or (done := in_namespace(command, tmp_path)).returncode == NO_DISK:
        pytest.skip("this system lets nobody mount a file system of his own")
    assert done.returncode == 1
    _, message = done.stderr.splitlines()
    assert message.startswith("Error: the system refused: ")
    assert told in message.replace(f"{tmp_path}/", "")
    assert remedy in message
    assert [path.name for path in (tmp_path / "data/soft_labels").iterdir()] == ["teacher_logits.h5"]


def in_namespace(command: list, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["unshare", "-rm", *command],
        cwd=folder,
        env=ENVIRONMENT | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def can_mount_an_image(folder: Path) -> bool:
    mount = 'truncate -s 8M "$0" && mkfs.ext4 -q -F "$0" && mount "$0" "$1"'
    probe = ["unshare", "-m", "sh", "-c", mount, folder / "probe", folder / "disk"]
    return os.geteuid() == 0 and subprocess.run(probe, check=False, capture_output=True).returncode == 0


def test_a_disk_that_stops_in_the_midst_is_told(reproduced, tmp_path):
    """When it is back, older models are there, and the training goes on after the last epoch that reached it."""
    (tmp_path / "disk").mkdir()
    if not can_mount_an_image(tmp_path):
        pytest.skip("this system lets nobody mount an image of a disk")
    script = Path(__file__).with_name("lost_disk.py")
    done = subprocess.run(
        ["unshare", "-m", sys.executable, script, tmp_path / "image", tmp_path / "disk", reproduced],
        env=ENVIRONMENT | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    code, said, left, code_again, said_again, are_as_without = json.loads(done.stdout)
    assert code == 1, said
    (message,) = [line for line in said.splitlines() if line.startswith("Error: ")]
    assert "Input/output error" in message
    assert "Traceback" not in said
    assert left == ["older", "older"]
    assert code_again == 0, said_again
    assert "continuing after epoch " in said_again
    assert are_as_without == [True, True]
