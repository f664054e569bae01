"""Which trainings DVC will run after the one that runs now, as dvc.yaml, params.yaml and dvc.lock tell.

DVC decides that for each stage when its turn has come; here it is foreseen, without DVC. A wrong answer costs time, but
changes no result: a training that was not foreseen is done in its turn, and what was trained in vain is not used.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

TRAININGS = ("train_student", "train_baseline")
"""The stages of dvc.yaml whose items can be trained beside each other."""

CACHE = Path(".dvc/cache/files/md5")
"""Where DVC keeps files, unless it is told another place; then it may be that something is trained in vain."""

Values = Mapping[str, Any]
"""The content of a YAML file, or a part of it."""


@dataclass(frozen=True)
class Stage:
    """One item of a stage's matrix.

    Attributes:
        name: as DVC names it: "train_student@kl-4-1".
        command: its command line.
        deps: the files and folders on which it depends.
        params: the paths of its parameters, such as "student.model".
        outs: the files that it writes.
    """

    name: str
    command: str
    deps: Sequence[str]
    params: Sequence[str]
    outs: Sequence[str]


def pending(pipeline: Values, params: Values, lock: Values, own: Path) -> list[Stage]:
    """The trainings whose turn will come and for which everything is ready, in the order of their turns.

    Args:
        pipeline: the content of dvc.yaml.
        params: the content of params.yaml.
        lock: the content of dvc.lock.
        own: an output of the training that runs now. It is not among them.

    Raises:
        KeyError, TypeError, AttributeError: a file has another form than DVC gives it, or than this repository's has.
    """
    noted = _Noted(lock.get("stages") or {})
    stages = list(trainings(pipeline, params))
    (now,) = (stage for stage in stages if own.as_posix() in stage.outs)
    frozen = {name for name, declared in pipeline["stages"].items() if declared.get("frozen")}
    known = noted.known(frozen, now.deps)
    return [
        stage
        for stage in stages
        if stage is not now
        and all(
            noted.is_current(name, known)
            for name in map(noted.maker, stage.deps)
            if name and _stage(name) not in frozen
        )
        and all(Path(path).exists() for path in stage.deps)
        and not (_asked(stage, params) == noted.params(stage) and noted.is_current(noted.maker(stage.outs[0]), known))
    ]


def trainings(pipeline: Values, params: Values) -> Iterator[Stage]:
    """All students and baselines, in the order of dvc.yaml, but for stages that are frozen."""
    for name in TRAININGS:
        declared = pipeline["stages"][name]
        if declared.get("frozen"):
            continue
        matrix = {key: _resolved(values, params) for key, values in declared["matrix"].items()}
        for values in product(*matrix.values()):
            item = dict(zip(matrix, map(str, values), strict=True))
            deps, asked, outs = (
                [_filled(_path(entry), item) for entry in declared.get(key, [])] for key in ("deps", "params", "outs")
            )
            yield Stage(f"{name}@{'-'.join(item.values())}", _filled(declared["cmd"], item), deps, asked, outs)


def _resolved(values: Any, params: Values) -> Any:
    """The values of a dimension of a matrix: a list, or "${distill.losses}"."""
    return _value(params, values[2:-1]) if isinstance(values, str) else values


def _path(entry: str | Values) -> str:
    """The path of an entry of dvc.yaml, which may have options."""
    return entry if isinstance(entry, str) else next(iter(entry))


def _filled(text: str, item: Mapping[str, str]) -> str:
    for dimension, value in item.items():
        text = text.replace(f"${{item.{dimension}}}", value)
    return text


def _value(values: Values, path: str) -> Any:
    below: Any = values
    for key in path.split("."):
        below = below.get(key) if isinstance(below, Mapping) else None
    return below


def _stage(name: str) -> str:
    """The stage of an item of a matrix, without the item."""
    return name.partition("@")[0]


def _asked(stage: Stage, params: Values) -> Values:
    return {path: _value(params, path) for path in stage.params}


class _Noted:
    """What dvc.lock has noted of each stage when it ran last."""

    def __init__(self, stages: Values) -> None:
        self.stages = stages
        self.makers = {out["path"]: name for name, stage in stages.items() for out in stage.get("outs", [])}

    def maker(self, path: str) -> str:
        """The stage that made a file, or an empty text."""
        return self.makers.get(path, "")

    def params(self, stage: Stage) -> Values:
        """The parameters with which a stage ran."""
        noted: Values = self.stages.get(self.maker(stage.outs[0]), {}).get("params", {}).get("params.yaml", {})
        return noted

    def known(self, frozen: set[str], deps: Sequence[str]) -> dict[str, str]:
        """The hashes that files and folders have now, of those that must be known, by path.

        DVC brought all stages before a training up to date before it ran it, but for frozen ones. So their outputs are
        what dvc.lock says, and what they depend on as well.
        """
        hashes = {out["path"]: out["md5"] for stage in self.stages.values() for out in stage.get("outs", [])}
        before: set[str] = set()
        todo = {self.maker(path) for path in deps} - {""}
        while todo:
            before |= todo
            todo = (
                {self.maker(dep["path"]) for name in todo for dep in self.stages[name].get("deps", [])} - before - {""}
            )
        for name in sorted(before):
            if _stage(name) not in frozen:
                hashes |= {dep["path"]: dep["md5"] for dep in self.stages[name].get("deps", [])}
        return hashes

    def is_current(self, name: str, known: Mapping[str, str]) -> bool:
        """Whether a stage has run, its outputs are there, and no dependency is known to have changed."""
        stage = self.stages.get(name)
        return stage is not None and all(
            [_is_there(out) for out in stage.get("outs", [])]
            + [_now(dep, known) in (None, dep["md5"]) for dep in stage.get("deps", [])]
        )


def _is_there(out: Values) -> bool:
    """Whether an output exists, or lies in DVC's cache, from which DVC would take it."""
    return any(path.exists() for path in (Path(out["path"]), CACHE / out["md5"][:2] / out["md5"][2:]))


def _now(dep: Values, known: Mapping[str, str]) -> str | None:
    """DVC's hash of a file or folder, if it is known."""
    path = Path(dep["path"])
    if path.suffix == ".py" and path.is_file():
        return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    return known.get(dep["path"])
