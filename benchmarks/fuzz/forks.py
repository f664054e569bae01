"""The process in which the program tries a file of others, in a hundredth of its time: a fork that tries many."""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from pipeline.runtime.separate_process import MEMORY, outcome, value

LONGEST = 1
"""Second of the processor for a file; a real process has more."""

MOST = 500
"""Files for a fork: what a library keeps of files that it cannot read is forgotten then."""


@dataclass
class _Fork:
    """A copy of this process that tries one file after another, until one ends it."""

    tried: int = 0
    process: int = field(init=False)

    def __post_init__(self) -> None:
        asked, ask = os.pipe()
        answer, answered = os.pipe()
        self.process = os.fork()
        if self.process == 0:
            os.close(ask)
            _serve(asked, answered)
        os.close(asked)
        os.close(answered)
        self.ask, self.answer = os.fdopen(ask, "w"), os.fdopen(answer)

    def answer_to(self, question: str) -> str:
        """The line that it answers; an empty text if it ended."""
        self.tried += 1
        print(question, file=self.ask, flush=True)
        return self.answer.readline()

    def end(self) -> int:
        """Waits until it ends, and returns the code."""
        self.ask.close()
        self.answer.close()
        return os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])


def _serve(asked: int, answered: int) -> NoReturn:
    try:
        with os.fdopen(asked) as questions, os.fdopen(answered, "w") as answers:
            for question in questions:
                module, name, arguments = json.loads(question)
                seconds = int(time.process_time()) + 1 + LONGEST
                resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))
                print(json.dumps(outcome(getattr(import_module(module), name), arguments)), file=answers, flush=True)
    finally:
        os._exit(0)


_forks: list[_Fork] = []
"""The fork that is used, if there is one; `None` would need a `global`."""


def in_a_fork(function: Callable[..., Any], *arguments: Any, path: Path, remedy: str, **_: Any) -> Any:
    """As `run_separately`, in a fork."""
    if not _forks:
        sys.stdout.flush()  # or the fork writes it again
        _forks.append(_Fork())
    (fork,) = _forks
    told = fork.answer_to(json.dumps([function.__module__, function.__qualname__, arguments], default=os.fspath))
    code = 0
    if fork.tried == MOST or not told:
        _forks.clear()
        code = fork.end()
    return value(told, code, path, remedy, MEMORY, LONGEST)


def try_in_a_fork(reader: Callable[..., None], path: Path, *more: Any, remedy: str, **_: Any) -> None:
    """As `try_once`, in a fork, whatever was tried before."""
    in_a_fork(reader, path, *more, path=path, remedy=remedy)
