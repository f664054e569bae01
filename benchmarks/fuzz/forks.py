"""The process in which the program tries a file of others, in a hundredth of its time: nothing is imported again."""

import json
import os
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.runtime.separate_process import MEMORY, outcome, value

LONGEST = 1
"""Second of the processor; a real process has more."""


def in_a_fork(function: Callable[..., Any], *arguments: Any, path: Path, remedy: str, **_: Any) -> Any:
    """As `run_separately`, in a fork."""
    with tempfile.TemporaryFile("w+") as answer:
        if (process := os.fork()) == 0:
            resource.setrlimit(resource.RLIMIT_CPU, (LONGEST, LONGEST))
            told = outcome(function, [os.fspath(one) if isinstance(one, Path) else one for one in arguments])
            print(json.dumps(told), file=answer, flush=True)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        answer.seek(0)
        return value(answer.read(), code, path, remedy, MEMORY, LONGEST)


def try_in_a_fork(reader: Callable[..., None], path: Path, *more: Any, remedy: str, **_: Any) -> None:
    """As `try_once`, in a fork, whatever was tried before."""
    in_a_fork(reader, path, *more, path=path, remedy=remedy)
