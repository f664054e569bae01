"""A stage that DVC started ends when DVC ends.

When `dvc` itself is killed, the process of its stage lives on. It could run for hours and block the output that the
next `dvc repro` wants to write. A stage can be ended at any moment, because everything that it writes allows that.
"""

import os
import sys
import threading
import time
from itertools import dropwhile, takewhile

import psutil

LOOK_EVERY_SECONDS = 0.5

AFTER_ALL = {"evaluate", "report", "dvc.yaml"}
"""What may be named behind `dvc repro` if all trainings shall run."""

CHOOSES = {"--single-item", "--pipeline", "--downstream", "--recursive", "--glob", "--dry", "--interactive"}
CHOOSES_IN_SHORT = set("spRi")
"""Options of `dvc repro` with which it runs only some stages, or only says what it would run."""

WITH_VALUE = {"-S", "--set-param", "-n", "--name", "-m", "--message"}
"""Options of `dvc exp run` that a value follows."""


def stop_with_dvc() -> None:
    """Watches the process of `dvc`, or of the Python program that runs DVC, if one started this process."""
    if "DVC_STAGE" not in os.environ:
        return
    hosts = _hosts(psutil.Process().parents())
    if not hosts:
        _end()  # `dvc` ended before this process could look
    threading.Thread(target=_watch, args=hosts, daemon=True).start()  # a daemon does not keep a finished stage alive


def stop_with_parent() -> None:
    """Watches the process that started this one, whatever it is."""
    threading.Thread(target=_watch, args=[psutil.Process(os.getppid())], daemon=True).start()


def _hosts(ancestors: list[psutil.Process]) -> list[psutil.Process]:
    """The processes with which the stage ends; none if one of them has ended already.

    A queued experiment is run by `dvc exp exec-run`. It lives on when the queue's worker ends, but then nothing
    collects its results, so the worker counts too. The processes above the worker do not count: `dvc queue start` ends
    at once. A stage that another stage started (`beside`) ends with that one as well: the Python program below `dvc`.
    """
    dvc = [*filter(_is_dvc, ancestors), *filter(_is_python, ancestors)][:1]
    leader = [*filter(_is_python, takewhile(lambda process: process not in dvc, ancestors))][:1]
    if not any("exec-run" in _words(process) for process in dvc):
        return dvc + leader
    worker = [process for process in ancestors if "queue-worker" in _words(process)][:1]
    return dvc + leader + worker if worker else []


def dvc_process() -> psutil.Process | None:
    """The process of `dvc` that started this stage; None if none did, or a Python program that runs DVC did."""
    if "DVC_STAGE" not in os.environ:
        return None
    return next(filter(_is_dvc, psutil.Process().parents()), None)


def runs_everything(process: psutil.Process) -> bool:
    """Whether a process of `dvc` was asked to bring all stages up to date, or those in which all end."""
    words = [*dropwhile(lambda word: word not in ("dvc", "dvc.exe"), _words(process))]
    for command in (["repro"], ["exp", "run"]):
        places = [place for place in range(len(words)) if words[place : place + len(command)] == command]
        if places:
            after = words[places[0] + len(command) :]
            break
    else:
        return False
    values = {place + 1 for place, word in enumerate(after) if word in WITH_VALUE}
    return all(_chooses_none(word) for place, word in enumerate(after) if place not in values)


def _chooses_none(word: str) -> bool:
    if word.startswith("--"):
        return word not in CHOOSES
    return not CHOOSES_IN_SHORT & {*word} if word.startswith("-") else word in AFTER_ALL


def _is_dvc(process: psutil.Process) -> bool:
    """Whether this is `dvc`, or Python that runs a script or module of that name."""
    words = _words(process)
    return "dvc" in words[0] or (_is_python(process) and any("dvc" in word for word in words[1:3]))


def _is_python(process: psutil.Process) -> bool:
    return "python" in _words(process)[0]


def _words(process: psutil.Process) -> list[str]:
    """The words of the command line, each without its folder."""
    try:
        return [os.path.basename(word) for word in process.cmdline()] or [""]
    except psutil.Error:
        return [""]


def _watch(*hosts: psutil.Process) -> None:
    while all(map(_lives, hosts)):
        time.sleep(LOOK_EVERY_SECONDS)
    _end()


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _end() -> None:
    try:
        print("dvc has ended; so does this stage. `dvc repro` goes on where it stopped.", file=sys.stderr, flush=True)
    finally:  # also if stderr is closed
        os._exit(1)
