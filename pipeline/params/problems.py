"""What is wrong with a value of `params.yaml`, and where: pydantic's problems in the words of the file."""

from dataclasses import fields, is_dataclass
from typing import Any, get_args

from pipeline.images.operations import OPERATIONS
from pipeline.params.section import TAGS, Section
from pipeline.params.sections import BY_FORM, Params
from pipeline.runtime.errors import nearest

TO_ADD = {
    "images": "images:\n        resize: {method: bilinear, antialias: true, fit: stretch}",
    "images.resize": "resize: {method: bilinear, antialias: true, fit: stretch}",
    "student.select_by": "select_by: accuracy",
    "card": "card: {}",
}
"""The lines that an older params.yaml lacks, by their key. With them, it gives the results that it gave before."""

RENAMED = {"dense": "hidden_units"}
"""The new names of keys, by their old names."""

OF_SOFT_LOSS = """is now named by distill.losses, and described by distill.loss. In place of this key, write
      losses: [kl]               # or [cross_entropy], if it was cross_entropy
      loss: {kl: {}}             # or {cross_entropy: {}}
    Results stay the same; the students get other names."""

UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")
"""The types of pydantic's errors about a key that a section or a data class does not have."""

REWORDED = {
    **dict.fromkeys(
        ("model_type", "model_attributes_type", "dataclass_type"), "expected keys with values below it, as in presets/"
    ),
    "dict_type": "expected keys with values below it, as in presets/",
    "path_type": "expected a path",
}
"""The texts that replace pydantic's own, by the type of its error."""


def explained(problem: Any, content: Any) -> tuple[str, str]:
    """The location of a problem, as in the file, and a text that says what is wrong there."""
    parts, known = _walk(problem["loc"], content)
    location = ".".join(map(str, parts))
    if problem["type"] in UNKNOWN_KEY:
        if parts[-1] == "resize":
            return location, "unknown key; images are resized alike for teacher and student, as images.resize says."
        if RENAMED.get(str(parts[-1])) in known:
            return location, f"is now called {RENAMED[str(parts[-1])]!r}; rename the key, its values stay the same."
        if location == "distill.soft_loss":
            return location, OF_SOFT_LOSS
        if parts[-1] in OPERATIONS and "operations" in known:
            return location, f"unknown key; it is one of operations: {{count: 1, of: {{{parts[-1]}: …}}}}."
        near = nearest(str(parts[-1]), known)
        hint = f"did you mean {near!r}?" if near else f"known are {', '.join(known)}."
        return location, f"unknown key; {hint}"
    if problem["type"] == "missing" and location in TO_ADD:
        return location, f"missing; add these lines, which change no result:\n      {TO_ADD[location]}"
    if problem["type"] == "missing":
        return location, "missing; this key has no default."
    context = problem.get("ctx", {})
    key = context.get("discriminator", "").strip("'")
    if problem["type"] == "union_tag_not_found":
        return f"{location}.{key}", "missing; this key has no default."
    if problem["type"] == "union_tag_invalid":
        expected = context["expected_tags"].replace("'", "").split(", ")
        near = nearest(context["tag"], expected)
        hint = f" Did you mean {near!r}?" if near else ""
        those = "`softlabel models` lists them" if key == "architecture" else f"known are {', '.join(expected)}"
        return f"{location}.{key}", f"unknown {key} {context['tag']!r}; {those}.{hint}"
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
            sections = _sections(known[0]) or sections
    return parts, sorted({name for section in sections for name in map(str, _keys(section))})


def _keys(section: Any) -> dict[str | int, Any]:
    """The keys of a section or a data class, and the type of each."""
    if is_dataclass(section):
        return {field.name: field.type for field in fields(section)}
    return {name: field.annotation for name, field in section.model_fields.items()}


def _tags(section: type) -> tuple[Any, ...]:
    """The names that a union has for a section."""
    keys = _keys(section)
    tags = tuple(tag for key in TAGS if key in keys for tag in get_args(keys[key]))
    return (*tags, *(form for form, of_form in BY_FORM.items() if of_form is section))


def _sections(annotation: Any) -> list[type]:
    """Every section and data class inside a type such as `list[Phase]` or a union."""
    if isinstance(annotation, type) and (issubclass(annotation, Section) or is_dataclass(annotation)):
        return [annotation]
    return [section for inner in get_args(annotation) for section in _sections(inner)]
