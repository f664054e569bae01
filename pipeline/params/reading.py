"""`params.yaml`: reads it, checks it, and gives a stage the part that it may see.

DVC runs a stage again only when a parameter changed that `dvc.yaml` declares for it. So a stage can read the parameters
that are declared for it and those that change no result; reading any other one fails.
"""

from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.params.problems import explained
from pipeline.params.section import DeclaredEntries, Section
from pipeline.params.sections import Params
from pipeline.runtime.errors import DamagedError, MismatchError, MissingError, ParameterError, one_line
from pipeline.runtime.text_files import read_text
from pipeline.runtime.yaml_files import parsed_yaml

PARAMS_FILE = Path("params.yaml")
NO_ITEM: Mapping[str, str] = {}

WITHOUT_EFFECT = (
    *("images.cache", "precompute.engine", "precompute.ray", "student.cache_frozen", "student.trainings_at_once"),
    *("sample", "cifar10", "limits"),
)
"""Keys that change what a run costs, where its data come from or what it refuses, but no result. Every stage may read
them, and dvc.yaml declares them for none, so that a change of them runs no stage again."""

BEHIND_THE_COMPARISON = ("export", "card")
"""Sections that only stages behind `evaluate` read: the numbers in `metrics.json` do not depend on them."""


def load_params(
    stage: str,
    params_file: Path = PARAMS_FILE,
    dvc_file: Path = Path("dvc.yaml"),
    item: Mapping[str, str] = NO_ITEM,
) -> Params:
    """Reads and checks the whole of params.yaml, then keeps what dvc.yaml declares for `stage`, and `WITHOUT_EFFECT`.

    Args:
        stage: its name in dvc.yaml.
        params_file: params.yaml.
        dvc_file: dvc.yaml.
        item: the values of those dimensions of its matrix that the names of its parameters contain.

    Raises:
        MissingError: a file is missing, or dvc.yaml has no such stage.
        DamagedError: dvc.yaml is not valid YAML.
        ParameterError: a value of params.yaml is missing, unknown or out of range.
        MismatchError: dvc.yaml declares a part of values that are read together.
    """
    return restrict(read_params(params_file), _declared(stage, item, dvc_file))


def read_params(path: Path = PARAMS_FILE) -> Params:
    """Reads and checks the whole of params.yaml.

    Raises:
        MissingError: there is no such file.
        ParameterError: a value is missing, unknown or out of range.
    """
    return checked(read_yaml(path, ParameterError), path)


def checked(content: dict[str, Any], path: Path) -> Params:
    """Checks the content of params.yaml.

    Args:
        content: the content.
        path: the file, for the message.

    Raises:
        ParameterError: a value is missing, unknown or out of range.
    """
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        by_location: dict[str, list[str]] = {}
        for problem in error.errors():
            location, text = explained(problem, content)
            by_location.setdefault(location, []).append(text)
        problems = "\n".join(f"  {at and at + ': '}{' or '.join(texts)}" for at, texts in by_location.items())
        raise ParameterError(f"{path} is not valid:\n{problems}") from None


def with_effect(params: Params) -> dict[str, Any]:
    """The parameters on which the comparison depends, as JSON values.

    They are all that can be read, without `WITHOUT_EFFECT` and `BEHIND_THE_COMPARISON`.

    `split.unlabelled: null` and `features_dtype: float32` are left out as well: numbers that were made before there
    were these keys still belong to them.
    """
    left_out: dict[str, Any] = {}
    for path in (*WITHOUT_EFFECT, *BEHIND_THE_COMPARISON):
        *sections, last = path.split(".")
        below = left_out
        for name in sections:
            below = below.setdefault(name, {})
        below[last] = True
    values = params.model_dump(mode="json", exclude=left_out)
    if values.get("split", {}).get("unlabelled", {}) is None:
        del values["split"]["unlabelled"]
    return dict(_without(values, "features_dtype", "float32"))


def _without(value: Any, key: str, default: str) -> Any:
    """The same JSON value without a key wherever it has its default."""
    if isinstance(value, list):
        return [_without(inner, key, default) for inner in value]
    if not isinstance(value, dict):
        return value
    return {name: _without(inner, key, default) for name, inner in value.items() if (name, inner) != (key, default)}


def restrict(params: Params, declared: list[str]) -> Params:
    """A copy of `params` in which only the declared paths, such as "student.model", and `WITHOUT_EFFECT` can be read.

    Raises:
        MismatchError: a path ends inside a data class, whose values are read together.
    """
    restricted: Params = _restrict(params, [path.split(".") for path in (*declared, *WITHOUT_EFFECT)])
    return restricted


def _restrict(section: Any, paths: list[list[str]]) -> Any:
    if is_dataclass(section) and [] not in paths:
        raise MismatchError(
            f"dvc.yaml declares the parameter {'.'.join(paths[0])!r} of {type(section).__name__}, whose values are "
            "read together. Declare the key above it in the stage's params."
        )
    if isinstance(section, dict) and [] not in paths:
        declared = {path[0]: [other[1:] for other in paths if other[0] == path[0]] for path in paths}
        return DeclaredEntries(
            {name: _restrict(section[name], inner) for name, inner in declared.items() if name in section}
        )
    if not isinstance(section, Section) or [] in paths:
        return section
    copy = section.model_copy()
    for name in type(section).model_fields:
        # Written past pydantic: the copy is frozen, and a field that is deleted must raise in `Section.__getattr__`.
        below = [path[1:] for path in paths if path[0] == name]
        if below:
            copy.__dict__[name] = _restrict(getattr(section, name), below)
        else:
            del copy.__dict__[name]
    return copy


def _declared(stage: str, item: Mapping[str, str], dvc_file: Path) -> list[str]:
    stages = read_yaml(dvc_file, DamagedError).get("stages", {})
    if not isinstance(stages, dict) or stage not in stages:
        raise MissingError(f"{dvc_file} has no stage {stage!r}. Run this in the folder that holds the pipeline.")
    declared = stages[stage].get("params", []) if isinstance(stages[stage], dict) else None
    if not isinstance(declared, list):
        raise DamagedError(f"{dvc_file} has no list of params in the stage {stage!r}. Restore it with git.")
    names = [str(name) for name in declared]
    for dimension, value in item.items():
        names = [name.replace(f"${{item.{dimension}}}", value) for name in names]
    return names


def read_yaml(path: Path, invalid: type[ParameterError | DamagedError]) -> dict[str, Any]:
    """Reads a YAML file of keys and their values; raises `invalid` if it is none."""
    if not path.is_file():
        raise MissingError(f"there is no {path} here. Run this in the folder that holds the pipeline.")
    is_params = invalid is ParameterError
    remedy = "Compare it with a file in presets/." if is_params else "Restore it with git."
    try:
        content = parsed_yaml(read_text(path, remedy, "params_bytes" if is_params else "yaml_bytes"))
    except DamagedError as error:
        raise invalid(str(error)) from None
    except ValueError as error:
        raise invalid(f"{path} is not valid YAML: {one_line(error, 400)}. {remedy}") from None
    if not isinstance(content, dict):
        raise invalid(f"{path} holds no keys. {remedy}")
    return content
