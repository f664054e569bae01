"""Commands on a disk with room for a part of what they write: a small, seeded part of benchmarks/full_disk.py."""

import json
import shutil
import subprocess
import sys

import pytest
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
