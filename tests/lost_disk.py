"""Runs a training in a project on a disk that stops in the midst and comes back; prints what came of it as JSON.

A disk is a file with ext4, which can be told to answer nothing more but input/output errors. Run by
`unshare -m python lost_disk.py IMAGE FOLDER PROJECT`, by root.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

SHUTDOWN, WITHOUT_FLUSH = 0x8004587D, (2).to_bytes(4, sys.byteorder)
"""EXT4_IOC_SHUTDOWN, and how: what was not yet written is lost."""

TRAINING = [sys.executable, "-m", "pipeline", "train-teacher"]
OUTPUTS = ["models/teacher.keras", "results/history/teacher.csv"]


def main(image: str, disk: Path, source: Path) -> None:
    """Takes the disk away after two epochs."""
    project, log = disk / "project", Path(f"{image}.log")
    for command in (["truncate", "--size=128M", image], ["mkfs.ext4", "-q", "-F", image], ["mount", image, disk]):
        subprocess.run(command, check=True)
    shutil.copytree(source, project, symlinks=True, ignore=shutil.ignore_patterns(".git", ".dvc", "pipeline"))
    for older in OUTPUTS:
        (project / older).write_text("older", encoding="utf-8")
    os.sync()
    with log.open("wb") as output, subprocess.Popen(TRAINING, cwd=project, stdout=output, stderr=output) as stage:
        while "epoch 2/" not in log.read_text(encoding="utf-8") and stage.poll() is None:
            time.sleep(0.01)
        folder = os.open(disk, os.O_RDONLY)
        fcntl.ioctl(folder, SHUTDOWN, WITHOUT_FLUSH)
        os.close(folder)
    subprocess.run(["umount", disk], check=True)
    subprocess.run(["mount", image, disk], check=True)
    left = [(project / output).read_text(encoding="utf-8", errors="replace") for output in OUTPUTS]
    again = subprocess.run(TRAINING, cwd=project, capture_output=True, text=True, check=False)
    bytes_now = [(project / output).read_bytes() == (source / output).read_bytes() for output in OUTPUTS]
    subprocess.run(["umount", disk], check=True)
    said = log.read_text(encoding="utf-8")
    print(json.dumps([stage.returncode, said, left, again.returncode, again.stderr, bytes_now]))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
