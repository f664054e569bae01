"""How runs may end that `benchmarks.crash_matrix` kills, and what is told of those that end otherwise."""

import re
from collections.abc import Iterator
from signal import SIGINT, SIGKILL

from benchmarks.crash_attempts import DVC_FAILED, STAGE_BEGAN, STAGE_FAILED, End

ALONE, BY_DVC = "alone", "dvc repro"
"""The ways in which a stage runs."""

DVC_INTERRUPTED = 252
"""The exit code of dvc at Ctrl-C while no stage runs."""

TOLD = 2000
"""Characters of what a run printed."""

PYTHON_STARTS = "Fatal Python error: init_"
"""What Python says if Ctrl-C comes while it starts itself, before the program begins; its exit code is then 1."""


def wrong_ends(end: End, way: str, victim: str, number: int) -> Iterator[str]:
    """What is not as it must be of a run that got a signal."""
    if end.hung:
        yield "hung"
    if "Traceback" in end.said and (way == ALONE or end.after_signal is None):
        yield f"a traceback: {short(end.said)}"
    killed = {-number} | ({128 + number} if number != SIGKILL else set())
    killed |= {1} if way == BY_DVC and number == SIGINT and PYTHON_STARTS in end.said else set()
    allowed = {0} if end.after_signal is None else {0, *killed}
    if way == BY_DVC and end.after_signal is not None:
        of_stage = {int(code) for code in STAGE_FAILED.findall(end.said)}
        of_shell = 128 + number  # of one that lies between dvc and the stage, as dash does and bash does not
        if of_stage - killed - {of_shell} or (of_stage and victim == "dvc"):
            yield f"exit codes {sorted(of_stage)} of the stage: {short(end.said)}"
        allowed |= {DVC_FAILED} if of_stage else set()
        if number == SIGINT:  # while dvc itself starts, it ends as Python does
            allowed |= {DVC_INTERRUPTED} if STAGE_BEGAN.search(end.said) else {DVC_INTERRUPTED, 1}
    if end.code not in allowed:
        yield f"exit code {end.code}: {short(end.said)}"


def short(said: str) -> str:
    """The end of what a run printed: no folders of this machine, and of a crash no list of modules in C."""
    return re.sub(r"\nExtension modules: .*|(?<![\w.])/[^\s'\"]*/", "", said)[-TOLD:]
