"""Other Python processes in the current folder, which publish and work beside the test."""

import signal
import subprocess
import sys

from real_project import HANGS


def process(program: str) -> subprocess.Popen[str]:
    """Another Python process in the current folder."""
    imports = "import os, signal, sys\nfrom pathlib import Path\n"
    imports += "from pipeline.runtime.publish import publish\nfrom pipeline.runtime.workspace import workspace\n"
    return subprocess.Popen(
        [sys.executable, "-c", imports + program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def killed(program: str) -> None:
    """Runs a program that is to kill itself without any chance to tidy up."""
    with process(program + "\n    os.kill(os.getpid(), signal.SIGKILL)") as running:
        running.communicate(timeout=HANGS)
    assert running.returncode == -signal.SIGKILL
