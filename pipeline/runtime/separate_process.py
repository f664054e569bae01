"""Runs a function in a process of its own: what hangs, takes too much memory or crashes there ends that process alone.

It is meant for files that others made and for libraries in C that read them. A process costs 0.1 s, and what the
function imports; so a stage runs one for a file that it does not know yet, never for an image or a batch.

    softlabel ──{"arguments": ...}──> process ──{"value": ...} or {"error": ...}──> softlabel

Nothing but JSON comes back. The process ends when a limit is reached, and when the thread that started it ends. macOS
knows neither this nor a limit of memory (`RLIMIT_AS` does nothing there): the process then ends when its time is over.
"""

import ctypes
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from pipeline.runtime import errors
from pipeline.runtime.errors import DamagedError, PipelineError, UnusableError, is_of_memory, one_line

MEMORY = 4 * 2**30
"""Bytes of addresses that the process may have; what Python and its libraries map counts as well."""

SECONDS = 10
"""Seconds of computing; waiting, such as for a slow disk, may take `WAITING` times as long."""

WAITING = 30

KILL_WITH_PARENT = 1
"""`PR_SET_PDEATHSIG` of Linux."""


def run_separately(
    function: Callable[..., Any],
    *arguments: Any,
    path: Path,
    remedy: str,
    memory: int = MEMORY,
    seconds: int = SECONDS,
) -> Any:
    """The value of a function that reads a file, from a process of its own.

    Args:
        function: a function at the top of a module of this program.
        arguments: its arguments; JSON-serialisable; a path reaches it as a text.
        path: the file that it reads, for messages.
        remedy: what the user can do if that fails, as a sentence.
        memory: bytes that the process may have.
        seconds: seconds that it may compute.

    Returns:
        What the function returns, which must be JSON-serialisable.

    Raises:
        PipelineError: the function raised it.
        DamagedError: the function raised another error, or the process crashed.
        UnusableError: the process took more memory or time than it may.
    """
    command = [sys.executable, "-m", __name__, function.__module__, function.__qualname__, str(memory), str(seconds)]
    asked = json.dumps({"arguments": arguments, "parent": os.getpid()}, default=os.fspath)
    with tempfile.TemporaryFile() as said:  # a pipe that nobody reads would stop a library that prints much
        try:
            ended = subprocess.run(
                command,
                input=asked,
                stdout=subprocess.PIPE,
                stderr=said,
                env=_environment(),
                text=True,
                timeout=seconds * WAITING + 1,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise _too_slow(path, remedy, seconds) from None
    return value(ended.stdout, ended.returncode, path, remedy, memory, seconds)


def value(answer: str, code: int, path: Path, remedy: str, memory: int, seconds: int) -> Any:
    """What a process that ended with a code has answered; the arguments and errors are those of `run_separately`."""
    if answer.endswith("\n"):
        return value_of(json.loads(answer), path, remedy, memory)
    if -code in (signal.SIGXCPU, signal.SIGALRM, signal.SIGKILL):
        raise _too_slow(path, remedy, seconds)
    name = signal.Signals(-code).name if code < 0 else f"code {code}"
    raise DamagedError(f"{path} cannot be read: the library that reads it crashed ({name}). {remedy}")


def value_of(told: Mapping[str, Any], path: Path, remedy: str, memory: int = MEMORY) -> Any:
    """The value of an `outcome`; its error is raised, as `run_separately` says."""
    if "value" in told:
        return told["value"]
    if told["error"] == MemoryError.__name__:
        raise UnusableError(f"{path} takes more than {memory / 2**30:.1f} GiB of memory to be read. {remedy}")
    if told["error"] is None:
        raise DamagedError(f"{path} cannot be read: {told['text']}. {remedy}")
    raise getattr(errors, told["error"])(told["text"])


def _too_slow(path: Path, remedy: str, seconds: int) -> UnusableError:
    return UnusableError(f"{path} was not read within {seconds} s of computing, or memory is short. {remedy}")


def _environment() -> dict[str, str]:
    """The variables of this process, and where its code lies; one thread, since each has memory of its own."""
    root = os.fspath(Path(__file__).parents[2])
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return os.environ | one_thread | {"PYTHONPATH": paths}


def _serve(module: str, name: str, memory: int, seconds: int) -> NoReturn:
    """What the process does: it limits itself, calls the function and answers with one line."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints goes to stderr
    asked = json.loads(sys.stdin.read())
    _limit(memory, seconds, asked["parent"])
    told = outcome(getattr(importlib.import_module(module), name), asked["arguments"])
    print(json.dumps(told), file=answers, flush=True)
    os._exit(0)  # a library that has read a damaged file may crash when it tidies up


def outcome(function: Callable[..., Any], arguments: Sequence[Any]) -> dict[str, Any]:
    """What is answered: the function's value, or the name and text of its error."""
    try:
        return {"value": function(*arguments)}
    except PipelineError as error:
        return {"error": type(error).__name__, "text": str(error)}
    except Exception as error:  # of a library, whose reader a damaged file has confused
        if is_of_memory(error):
            return {"error": MemoryError.__name__}
        return {"error": None, "text": one_line(f"{type(error).__name__}: {error}")}


def _limit(memory: int, seconds: int, parent: int) -> None:
    for kind, limit in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_CORE, 0)):
        with suppress(ValueError, OSError):  # the system has no such limit, or a lower one is in force
            resource.setrlimit(kind, (limit, limit))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds * WAITING)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(KILL_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)  # it ended before


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
