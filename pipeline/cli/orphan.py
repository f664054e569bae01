"""A stage that DVC started ends when DVC ends.

When `dvc` itself is killed, the process of its stage lives on. It could run for hours and block the output that the
next `dvc repro` wants to write. A stage can be ended at any moment, because everything that it writes allows that.
"""

import os
import sys
import threading
import time

import psutil

LOOK_EVERY_SECONDS = 0.5


def stop_with_dvc() -> None:
    """Watches the process of `dvc`, or of the Python program that runs DVC, if one started this process."""
    if "DVC_STAGE" not in os.environ:
        return
    hosts = _hosts(psutil.Process().parents())
    if not hosts:
        _end()  # `dvc` ended before this process could look
    threading.Thread(target=_watch, args=hosts, daemon=True).start()  # a daemon does not keep a finished stage alive


def _hosts(ancestors: list[psutil.Process]) -> list[psutil.Process]:
    """The processes with which the stage ends; none if one of them has ended already.

    A queued experiment is run by `dvc exp exec-run`. It lives on when the queue's worker ends, but then nothing
    collects its results, so the worker counts too. The processes above the worker do not count: `dvc queue start` ends
    at once.
    """
    dvc = [*filter(_is_dvc, ancestors), *filter(_is_python, ancestors)][:1]
    if not any("exec-run" in _words(process) for process in dvc):
        return dvc
    worker = [process for process in ancestors if "queue-worker" in _words(process)][:1]
    return dvc + worker if worker else []


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
