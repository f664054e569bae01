"""`params.yaml`: reads it, checks it, and gives a stage the part that it may see.

DVC runs a stage again only when a parameter changed that `dvc.yaml` declares for it. So a stage can read the parameters
that are declared for it and those that change no result; reading any other one fails.
"""

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.params.section import Section
from pipeline.params.sections import BY_FORM, Params
from pipeline.runtime.errors import DamagedError, MismatchError, MissingError, ParameterError, nearest

WITHOUT_EFFECT = ("images.cache", "sample", "cifar10")
"""Keys that change what a run costs or where its data come from, but no result. Every stage may read them, and dvc.yaml
declares them for none, so that a change of them runs no stage again."""

TO_ADD = {
    "images": "images:\n        resize: {method: bilinear, antialias: true, fit: stretch}",
    "images.resize": "resize: {method: bilinear, antialias: true, fit: stretch}",
}
"""The lines that an older params.yaml lacks, by their key. With them, it gives the results that it gave before."""

RENAMED = {"dense": "hidden_units"}
"""The new names of keys, by their old names."""

UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")
"""The types of pydantic's errors about a key that a section or a data class does not have."""

REWORDED = {
    **dict.fromkeys(
        ("model_type", "model_attributes_type", "dataclass_type"), "expected keys with values below it, as in presets/"
    ),
    "path_type": "expected a path",
}
"""The texts that replace pydantic's own, by the type of its error."""


def load_params(stage: str, params_file: Path = Path("params.yaml"), dvc_file: Path = Path("dvc.yaml")) -> Params:
    """Reads and checks the whole of params.yaml, then keeps what dvc.yaml declares for `stage`, and `WITHOUT_EFFECT`.

    Raises:
        MissingError: a file is missing, or dvc.yaml has no such stage.
        DamagedError: dvc.yaml is not valid YAML.
        ParameterError: a value of params.yaml is missing, unknown or out of range.
        MismatchError: dvc.yaml declares a part of values that are read together.
    """
    return restrict(read_params(params_file), _declared(stage, dvc_file))


def read_params(path: Path = Path("params.yaml")) -> Params:
    """Reads and checks the whole of params.yaml.

    Raises:
        MissingError: there is no such file.
        ParameterError: a value is missing, unknown or out of range.
    """
    content = _read_yaml(path, ParameterError)
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        by_location: dict[str, list[str]] = {}
        for problem in error.errors():
            location, text = _explain(problem, content)
            by_location.setdefault(location, []).append(text)
        problems = "\n".join(f"  {location}: {' or '.join(texts)}" for location, texts in by_location.items())
        raise ParameterError(f"{path} is not valid:\n{problems}") from None


def with_effect(params: Params) -> dict[str, Any]:
    """The parameters on which results depend, as JSON values: all that can be read, without `WITHOUT_EFFECT`."""
    left_out: dict[str, Any] = {}
    for path in WITHOUT_EFFECT:
        *sections, last = path.split(".")
        below = left_out
        for name in sections:
            below = below.setdefault(name, {})
        below[last] = True
    return params.model_dump(mode="json", exclude=left_out)


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


def _declared(stage: str, dvc_file: Path) -> list[str]:
    stages = _read_yaml(dvc_file, DamagedError).get("stages", {})
    if stage not in stages:
        raise MissingError(f"{dvc_file} has no stage {stage!r}. Run this in the folder that holds the pipeline.")
    return [str(name) for name in stages[stage].get("params", [])]


def _read_yaml(path: Path, invalid: type[ParameterError | DamagedError]) -> dict[str, Any]:
    """Reads YAML with the parser that DVC uses, so that both see the same values; raises `invalid` if it is none."""
    if not path.is_file():
        raise MissingError(f"there is no {path} here. Run this in the folder that holds the pipeline.")
    try:
        content = YAML(typ="safe").load(path)
    except (YAMLError, ValueError) as error:
        raise invalid(f"{path} is not valid YAML: {error}") from None
    if not isinstance(content, dict):
        remedy = "Compare it with a file in presets/" if invalid is ParameterError else "Restore it with git"
        raise invalid(f"{path} holds no keys. {remedy}.")
    return content


def _explain(problem: Any, content: Any) -> tuple[str, str]:
    """The location of a problem, as in the file, and a text that says what is wrong there."""
    parts, known = _walk(problem["loc"], content)
    location = ".".join(map(str, parts))
    if problem["type"] in UNKNOWN_KEY:
        if parts[-1] == "resize":
            return location, "unknown key; images are resized alike for teacher and student, as images.resize says."
        if RENAMED.get(str(parts[-1])) in known:
            return location, f"is now called {RENAMED[str(parts[-1])]!r}; rename the key, its values stay the same."
        near = nearest(str(parts[-1]), known)
        hint = f"did you mean {near!r}?" if near else f"known are {', '.join(known)}."
        return location, f"unknown key; {hint}"
    if problem["type"] == "missing" and location in TO_ADD:
        return location, f"missing; add these lines, which change no result:\n      {TO_ADD[location]}"
    if problem["type"] == "missing":
        return location, "missing; every key must be there."
    context = problem.get("ctx", {})
    key = context.get("discriminator", "").strip("'")
    if problem["type"] == "union_tag_not_found":
        return f"{location}.{key}", "missing; every key must be there."
    if problem["type"] == "union_tag_invalid":
        expected = context["expected_tags"].replace("'", "").split(", ")
        near = nearest(context["tag"], expected)
        hint = f" Did you mean {near!r}?" if near else ""
        return f"{location}.{key}", f"unknown {key} {context['tag']!r}; known are {', '.join(expected)}.{hint}"
    text = REWORDED.get(problem["type"], problem["msg"].removeprefix("Value error, "))
    got = problem["input"]
    if problem["type"] == "list_type" and isinstance(got, int | float) and parts == list(problem["loc"]):
        text = f"expected a list, even of one value: [{got}]"
    return location, text if isinstance(got, dict) else f"{text} (got {got!r})"


def _walk(location: tuple[str | int, ...], content: Any) -> tuple[list[str | int], list[str]]:
    """Follows pydantic's location of a problem through the loaded file and its sections.

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
            # This part is no key of the file: pydantic inserts the name of a union's member, which picks the section.
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
    """The names that a union has for a section."""
    keys = _keys(section)
    tags = tuple(tag for key in ("architecture", "kind", "layout") if key in keys for tag in get_args(keys[key]))
    return (*tags, *(form for form, of_form in BY_FORM.items() if of_form is section))


def _sections(annotation: Any) -> list[type]:
    """Every section and data class inside a type such as `list[Phase]` or a union."""
    if isinstance(annotation, type) and (issubclass(annotation, Section) or is_dataclass(annotation)):
        return [annotation]
    return [section for inner in get_args(annotation) for section in _sections(inner)]
