"""A queued experiment runs the program as it was when it was queued.

DVC runs it in a copy of the repository and notes the copy's modules, but `softlabel` is installed from the repository
itself, where they may have been edited since.
"""

import os
import sys
from pathlib import Path

from pipeline.artifacts import in_a_copy


def run_own_code() -> None:
    """Starts this process again on the modules in the current folder, if it is an experiment's copy."""
    own = Path("pipeline")
    if "DVC_STAGE" not in os.environ or not in_a_copy() or not (own / "__main__.py").is_file():
        return
    if not own.samefile(Path(__file__).parent):
        found_first = os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH")]))
        command = [sys.executable, "-m", "pipeline", *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | {"PYTHONPATH": found_first})  # noqa: S606
