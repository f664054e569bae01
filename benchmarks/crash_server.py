"""A process that has loaded TensorFlow and forks for each command, so that hundreds of commands need one start.

A fork has only the thread that forked. So nothing may be computed before: the threads of TensorFlow start with its
first operation, and those of NumPy's library start again by themselves. A stage writes the same bytes as in a new
process (`tests/test_crash_matrix.py`).
"""

import atexit
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

LOADED = ("pipeline.cli.main", "dvc.repo", "matplotlib.pyplot")
"""What stages import when they need it, and what takes long."""


class CommandServer:
    """Runs commands of the program, one after another, each in a process and a session of its own.

    Args:
        program: the folder whose copy of the program runs: TensorFlow reads the source again when it traces.
    """

    def __init__(self, program: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DVC_")}
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__],
            cwd=program,
            env=environment | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(program)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        """Starts the server, which loads TensorFlow meanwhile."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the server."""
        self._process.communicate()

    def kill(self) -> None:
        """Ends the server at once, even while it loads; who waits for its answer gets an empty one."""
        self._process.kill()

    def start(self, words: Sequence[str], folder: Path, log: Path) -> int:
        """Starts a command, and returns the number of its process, which leads a group.

        Args:
            words: such as ["precompute"].
            folder: its current folder.
            log: where it prints to; emptied.
        """
        return int(self._told(folder=str(folder), log=str(log), words=[*words]))

    def wait(self) -> tuple[int, float]:
        """Waits for the command: its exit code, or the negative number of the signal that ended it; and the seconds."""
        code, seconds = json.loads(self._told(wait=True))
        return code, seconds

    def _told(self, **order: Any) -> str:
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return self._process.stdout.readline() if self._process.stdout else ""


def serve() -> None:
    """Answers the orders of a `CommandServer`, until there are no more."""
    from pipeline.cli.tensorflow_start import NOT_NEEDED_BY_KERAS, _hidden

    with _hidden(NOT_NEEDED_BY_KERAS):
        import_module("keras")
    stages = [f"pipeline.stages.{stage.stem}" for stage in sorted(Path("pipeline/stages").glob("[a-z]*.py"))]
    for name in (*stages, *LOADED):
        import_module(name)
    gc.collect()
    gc.freeze()  # or each fork would look at, and copy, all that was imported
    number, start = 0, 0.0
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            status = os.waitpid(number, 0)[1]
            print(json.dumps([os.waitstatus_to_exitcode(status), time.monotonic() - start]), flush=True)
            continue
        start, number = time.monotonic(), os.fork()
        if number == 0:
            _become(order)
        print(number, flush=True)


def _become(order: dict[str, Any]) -> NoReturn:
    """Turns this process into one that `python -m pipeline` has just started, and ends it.

    Python's own end is left out: it would tear down all that was imported, page by page, for seconds.
    """
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.chdir(order["folder"])
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for descriptor, file in ((0, os.open(os.devnull, os.O_RDONLY)), (1, log), (2, log)):
        os.dup2(file, descriptor)
    sys.argv = ["softlabel", *order["words"]]
    code: Any = 1
    try:
        import_module("pipeline.cli.main").main()
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException:
        traceback.print_exc()
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as Python does
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    serve()
