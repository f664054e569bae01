"""Parts of a long measurement, a process each, of which every one that has ended leaves its time in a file."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from benchmarks.projects import ROOT, environment_of

TIMES = "times"


@dataclass(frozen=True)
class Taken:
    """What a process took, from its start to its end.

    Attributes:
        seconds: on the clock.
        processor: seconds of processor time of all its threads and processes.
    """

    seconds: float
    processor: float


def timed(project: Path, name: str, words: Sequence[str]) -> Taken:
    """Runs `python -m WORDS` in a project, or reads what it took earlier.

    A part that was killed begins anew: the files that it has left are removed first, or it would go on with them.

    Args:
        project: the folder.
        name: of the part; its file is `times/NAME.json`.
        words: a module and its arguments.

    Raises:
        SystemExit: the process failed, or the one of a run that was killed is still there.
    """
    ended = project / TIMES / f"{name}.json"
    if ended.is_file():
        return Taken(**json.loads(ended.read_text(encoding="utf-8")))
    begun, log = ended.with_suffix(".begun"), ended.with_suffix(".log")
    if begun.is_file():
        _remove_what_is_new(project, begun)
    else:
        ended.parent.mkdir(exist_ok=True)
        _write(begun, {"files": _files(project), "process": None})
    taken = _run(project, words, log, begun)
    _write(ended, asdict(taken))
    print(f"{project.name}: {name}  {taken.seconds:.1f} s, {taken.processor:.1f} s of processor time", flush=True)
    return taken


def _run(project: Path, words: Sequence[str], log: Path, begun: Path) -> Taken:
    environment = environment_of(project)
    environment["PYTHONPATH"] = os.pathsep.join([str(project), str(ROOT)])
    with log.open("wb") as printed:
        start, before = time.perf_counter(), _of_children()
        with subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=project,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
        ) as process:
            with suppress(psutil.NoSuchProcess):
                note = {"number": process.pid, "since": psutil.Process(process.pid).create_time()}
                _write(begun, json.loads(begun.read_text(encoding="utf-8")) | {"process": note})
            code = process.wait()
        taken = Taken(time.perf_counter() - start, _of_children() - before)
    if code:
        said = log.read_text(encoding="utf-8", errors="replace").splitlines()
        raise SystemExit("\n".join([f"`python -m {' '.join(words)}` failed in {project}:", *said[-20:]]))
    return taken


def _of_children() -> float:
    """Processor seconds of the processes that this one has started, and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _files(project: Path) -> list[str]:
    return sorted(str(file.relative_to(project)) for file in project.rglob("*") if file.is_file())


def _remove_what_is_new(project: Path, begun: Path) -> None:
    note = json.loads(begun.read_text(encoding="utf-8"))
    if note["process"] and _lives(**note["process"]):
        raise SystemExit(
            f"process {note['process']['number']}, which an earlier run of this command started in {project}, is still "
            "running. End it first."
        )
    kept = {*note["files"], *(str(file.relative_to(project)) for file in begun.parent.iterdir())}
    for name in set(_files(project)) - kept:
        (project / name).unlink()


def _lives(number: int, since: float) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(number).create_time() == since)
    return False


def _write(path: Path, content: object) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content), encoding="utf-8")
    partial.replace(path)
