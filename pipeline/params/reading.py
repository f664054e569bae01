"""`params.yaml`: reads it, checks it, and says which part of it a stage may see.

DVC runs a stage again only when a parameter changed that `dvc.yaml` declares for it. So a stage is given
exactly those, and what changes no result: reading any other one fails.
"""

import difflib
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.params.section import Section
from pipeline.params.sections import BY_FORM, Params
from pipeline.runtime.errors import MissingError, ParameterError

WITHOUT_EFFECT = ("images.cache", "sample", "cifar10")
"""Keys that change what a run costs or where its data come from, and none of its results. Every stage may read them,
and dvc.yaml declares them for none, so that a change of theirs makes no stage run again."""

TO_ADD = {
    "images": "images:\n        resize: {method: bilinear, antialias: true, fit: stretch}",
    "images.resize": "resize: {method: bilinear, antialias: true, fit: stretch}",
}
"""Lines that bring a params.yaml of before up to date, without another result."""

RENAMED = {"dense": "hidden_units"}
"""Keys that were called otherwise, by the old name."""

UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")
"""What pydantic calls a key that a section, or a data class, does not have."""

SAID = {
    "model_type": "expected keys with values below it, as in presets/",
    "model_attributes_type": "expected keys with values below it, as in presets/",
    "dataclass_type": "expected keys with values below it, as in presets/",
    "path_type": "expected a path",
}


def load_params(stage: str, params_file: Path = Path("params.yaml"), dvc_file: Path = Path("dvc.yaml")) -> Params:
    """Reads and checks the whole of params.yaml, then keeps what `stage` declares in dvc.yaml, and `WITHOUT_EFFECT`.

    Raises:
        MissingError: there is no such file, or dvc.yaml does not know the stage.
        ParameterError: a value is missing, unknown or out of range; says which and what was expected.
    """
    return restrict(read_params(params_file), _declared(stage, dvc_file))


def read_params(path: Path) -> Params:
    """Reads and checks the whole of params.yaml.

    Raises:
        MissingError: there is no such file.
        ParameterError: a value is missing, unknown or out of range; says which and what was expected.
    """
    content = _read_yaml(path)
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        told = [_explain(problem, content) for problem in error.errors()]
        by_location: dict[str, list[str]] = {}
        for location, said in told:
            by_location.setdefault(location, []).append(said)
        problems = "\n".join(f"  {location}: {' or '.join(said)}" for location, said in by_location.items())
        raise ParameterError(f"{path} is not valid:\n{problems}") from None


def with_effect(params: Params) -> dict[str, Any]:
    """The sections on which results depend: all that can be read, but for `WITHOUT_EFFECT`; as JSON has them."""
    left_out: dict[str, Any] = {}
    for path in WITHOUT_EFFECT:
        *sections, last = path.split(".")
        below = left_out
        for name in sections:
            below = below.setdefault(name, {})
        below[last] = True
    return params.model_dump(mode="json", exclude=left_out)


def restrict(params: Params, declared: list[str]) -> Params:
    """A copy of `params` in which only declared paths, such as "student.model", and `WITHOUT_EFFECT` can be read.

    Raises:
        PipelineError: a path ends inside a data class, which is read as a whole.
    """
    restricted: Params = _restrict(params, [path.split(".") for path in (*declared, *WITHOUT_EFFECT)])
    return restricted


def _restrict(section: Any, paths: list[list[str]]) -> Any:
    if is_dataclass(section) and [] not in paths:
        raise ParameterError(
            f"dvc.yaml declares the parameter {'.'.join(paths[0])!r} of {type(section).__name__}, whose values are "
            "read together. Declare the key above it in the stage's params."
        )
    if not isinstance(section, Section) or [] in paths:
        return section
    copy = section.model_copy()
    for name in type(section).model_fields:
        below = [path[1:] for path in paths if path[0] == name]
        if below:
            copy.__dict__[name] = _restrict(getattr(section, name), below)
        else:
            del copy.__dict__[name]
    return copy


def _declared(stage: str, dvc_file: Path) -> list[str]:
    stages = _read_yaml(dvc_file).get("stages", {})
    if stage not in stages:
        raise MissingError(f"{dvc_file} has no stage {stage!r}. Run this in the folder that holds the pipeline.")
    return [str(name) for name in stages[stage].get("params", [])]


def _read_yaml(path: Path) -> dict[str, Any]:
    """Reads YAML with the parser that DVC uses, so that both see the same values."""
    if not path.is_file():
        raise MissingError(f"there is no {path} here. Run this in the folder that holds the pipeline.")
    try:
        content = YAML(typ="safe").load(path)
    except (YAMLError, ValueError) as error:
        raise ParameterError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise ParameterError(f"{path} holds no sections. Compare it with a file in presets/.")
    return content


def _explain(problem: Any, content: Any) -> tuple[str, str]:
    """Where a problem is, as in the file, and what it is."""
    parts, known = _walk(problem["loc"], content)
    location = ".".join(map(str, parts))
    if problem["type"] in UNKNOWN_KEY:
        if parts[-1] == "resize":
            return location, "unknown key; images are resized alike for teacher and student, as images.resize says."
        if RENAMED.get(str(parts[-1])) in known:
            return location, f"is now called {RENAMED[str(parts[-1])]!r}; rename the key, its values stay the same."
        near = difflib.get_close_matches(str(parts[-1]), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}."
        return location, f"unknown key; {hint}"
    if problem["type"] == "missing" and location in TO_ADD:
        return location, f"missing; images were always resized as this says:\n      {TO_ADD[location]}"
    if problem["type"] == "missing":
        return location, "missing; every key must be there."
    context = problem.get("ctx", {})
    key = context.get("discriminator", "").strip("'")
    if problem["type"] == "union_tag_not_found":
        return f"{location}.{key}", "missing; every key must be there."
    if problem["type"] == "union_tag_invalid":
        expected = context["expected_tags"].replace("'", "").split(", ")
        near = difflib.get_close_matches(context["tag"], expected, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return f"{location}.{key}", f"unknown {key} {context['tag']!r}; known are {', '.join(expected)}.{hint}"
    said = SAID.get(problem["type"], problem["msg"].removeprefix("Value error, "))
    got = problem["input"]
    if problem["type"] == "list_type" and isinstance(got, int | float) and parts == list(problem["loc"]):
        said = f"expected a list, also of one: [{got}]"
    return location, said if isinstance(got, dict) else f"{said} (got {got!r})"


def _walk(location: tuple[str | int, ...], content: Any) -> tuple[list[str | int], list[str]]:
    """Follows the location of a problem through the loaded file and its sections.

    Returns:
        The location as in the file, and the known keys of the section that holds its last part.
    """
    sections: list[type] = [Params]
    parts: list[str | int] = []
    for number, part in enumerate(location):
        below = dict(enumerate(content)) if isinstance(content, list) else content
        known = [keys[part] for keys in map(_keys, sections) if part in keys]
        is_item = isinstance(content, list) and isinstance(part, int)
        if not is_item and not (isinstance(below, dict) and (part in below or known)):
            # No key of the file: the name of a union's member, which says which of the sections is meant.
            sections = [section for section in sections if part in _tags(section)] or sections
            continue
        parts.append(part)
        content = below.get(part)
        if known and number < len(location) - 1:
            sections = _sections(known[0])
    return parts, sorted({name for section in sections for name in map(str, _keys(section))})


def _keys(section: Any) -> dict[str | int, Any]:
    """The keys of a section or a data class, and the type of each."""
    if is_dataclass(section):
        return {field.name: field.type for field in fields(section)}
    return {name: field.annotation for name, field in section.model_fields.items()}


def _tags(section: type) -> tuple[Any, ...]:
    """The names by which a union knows a section as its member."""
    keys = _keys(section)
    tags = tuple(tag for key in ("architecture", "kind", "layout") if key in keys for tag in get_args(keys[key]))
    return (*tags, *(form for form, of_form in BY_FORM.items() if of_form is section))


def _sections(annotation: Any) -> list[type]:
    """Every section and data class inside a type such as `list[Phase]` or a union."""
    if isinstance(annotation, type) and (issubclass(annotation, Section) or is_dataclass(annotation)):
        return [annotation]
    return [found for inner in get_args(annotation) for found in _sections(inner)]
