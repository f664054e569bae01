"""`python -m pipeline.cli.copied STAGE`: brings a training up to date in a copy of the project, and pushes its files.

DVC runs in this process. It pulls what the stage needs, takes the result if the remote has it, and else runs the stage.
"""

import sys
from pathlib import Path

CACHE = Path("../cache")
"""DVC's cache of all copies on this machine, relative to a copy."""


def bring_up_to_date(stage: str) -> int:
    """Runs a stage and pushes what it made; ends with the process that started this one.

    Returns:
        DVC's exit code.
    """
    from dvc.cli import main as dvc
    from dvc.config import Config

    from pipeline.cli.orphan import stop_with_parent

    stop_with_parent()
    with Config(".dvc").edit("local") as written:
        written["cache"]["dir"] = str(CACHE.resolve())
    code = dvc(["repro", "--pull", "--single-item", stage])
    return int(code or dvc(["push", "--run-cache", stage]))


if __name__ == "__main__":
    sys.exit(bring_up_to_date(sys.argv[1]))
