"""A stage that DVC started ends when DVC ends.

DVC leaves a stage's process alive when `dvc` itself is killed. It would go on for hours and keep the next
`dvc repro` from its output. All work is written so that it can be ended at any moment.
"""

import os
import sys
import threading
import time

import psutil

LOOK_EVERY_SECONDS = 0.5


def stop_with_dvc() -> None:
    """Watches the process of `dvc`, if it is one that started this one."""
    started_by_dvc = "DVC_ROOT" in os.environ
    dvc = next(filter(_is_dvc, psutil.Process().parents()), None) if started_by_dvc else None
    if dvc is not None:
        threading.Thread(target=_watch, args=(dvc,), daemon=True).start()


def _is_dvc(process: psutil.Process) -> bool:
    try:
        return any("dvc" in os.path.basename(word) for word in process.cmdline()[:3])
    except psutil.Error:
        return False


def _watch(dvc: psutil.Process) -> None:
    while dvc.is_running() and dvc.status() != psutil.STATUS_ZOMBIE:
        time.sleep(LOOK_EVERY_SECONDS)
    print("dvc has ended; so does this stage. `dvc repro` goes on where it stopped.", file=sys.stderr, flush=True)
    os._exit(1)
