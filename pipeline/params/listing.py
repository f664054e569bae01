"""The whole of `params.yaml`, with defaults, and with what each key means and which values it may have.

The meaning of a key stands in the docstring of its section, under "Attributes:"; its range is that of its type. So
both are written once.
"""

import inspect
import io
import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt
from pydantic import TypeAdapter
from pydantic.fields import FieldInfo
from ruamel.yaml import YAML

from pipeline.params.section import TAGS, Section

WIDTH = 110
NOT_LISTED_IF_NULL = ("sample", "cifar10", "limits")
"""Data that `dvc repro` makes if params.yaml has these keys, even if their value is null; and a section of defaults."""

KINDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    Path: "a path",
    NoneType: "null",
}
MOST_NAMES, MOST_KEYS = 12, 3
A_LIST = "a list, each "
WORD = re.compile(r"[A-Za-z_][\w./-]*")
LINE_ENDS = re.compile("[\x7f-\x9f\u2028\u2029\ufeff]")
BOUNDS = {Ge: ("ge", "from {}"), Gt: ("gt", "above {}"), Le: ("le", "to {}"), Lt: ("lt", "to below {}")}


def as_text(section: Section, written: Mapping[str, Any], *, defaults: bool = True) -> str:
    """Lists a section as YAML: every key with its value, and above it a comment on it.

    Args:
        section: the section, as it was read.
        written: the same section as its file has it; a key that it lacks has its default.
        defaults: whether keys that `written` lacks are listed, too.
    """
    return "\n".join(_lines(section, written, [type(section)], defaults))


def _lines(section: Any, written: Any, among: Sequence[type], defaults: bool) -> Iterator[str]:
    """The lines of a section, which may be one of the classes `among`."""
    meanings, hints = _meanings(type(section)), _hints(type(section))
    for name in _names(section):
        value, hint = getattr(section, name), hints[name]
        below = written.get(name) if isinstance(written, Mapping) else None
        is_written = isinstance(written, Mapping) and name in written
        if not is_written and (not defaults or (value is None and name in NOT_LISTED_IF_NULL)):
            continue
        if name in TAGS:
            of_all = [of_one[name] for of_one in map(_hints, among) if name in of_one]
            values = _either(of_all)
        else:
            values = "" if _has_sections(value) else _range(hint)
        facts = [meanings.get(name, ""), f"[{values}]" if values else "", "" if is_written else "(default)"]
        yield from textwrap.wrap(" ".join(filter(None, facts)), WIDTH, initial_indent="# ", subsequent_indent="# ")
        yield from _entry(name, value, below, _sections(hint), defaults)


def _entry(name: str, value: Any, written: Any, among: Sequence[type], defaults: bool) -> Iterator[str]:
    if _is_section(value):
        lines = list(_lines(value, written, among, defaults))
        yield f"{name}:" if lines else f"{name}: {{}}"
        yield from textwrap.indent("\n".join(lines), "  ").splitlines()
    elif isinstance(value, dict) and _has_sections(value):
        yield f"{name}:"
        for key, item in value.items():
            below = written.get(key) if isinstance(written, Mapping) else None
            yield from textwrap.wrap(_title(type(item)), WIDTH, initial_indent="  # ", subsequent_indent="  # ")
            yield from textwrap.indent("\n".join(_entry(key, item, below, among, defaults)), "  ").splitlines()
    elif _has_sections(value):
        yield f"{name}:"
        for number, item in enumerate(value):
            of_item = written[number] if isinstance(written, list) else None
            yield "  -"
            yield from textwrap.indent("\n".join(_lines(item, of_item, among, defaults)), "    ").splitlines()
    else:
        yield f"{name}: {_flow(value)}"


def _names(section: Any) -> list[str]:
    return [field.name for field in fields(section)] if is_dataclass(section) else list(type(section).model_fields)


def _is_section(value: Any) -> bool:
    return isinstance(value, Section) or is_dataclass(value)


def _has_sections(value: Any) -> bool:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
    return any(map(_is_section, items))


def _sections(hint: Any) -> list[type]:
    """Every section and data class inside a type."""
    if isinstance(hint, type) and (issubclass(hint, Section) or is_dataclass(hint)):
        return [hint]
    return [section for inner in get_args(hint) for section in _sections(inner)]


def _hints(section: type) -> dict[str, Any]:
    return get_type_hints(section, include_extras=True)


def _flow(value: Any) -> str:
    """A value as YAML in one line."""
    return _plain(TypeAdapter(Any).dump_python(value, mode="json"))


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_plain(key)}: {_plain(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_plain, value)) + "]"
    yaml = YAML(typ="safe", pure=True)
    if isinstance(value, str):
        if WORD.fullmatch(value) and yaml.load(value) == value:
            return value
        # JSON's strings are YAML's, but for line ends of Unicode, which YAML folds.
        return LINE_ENDS.sub(lambda sign: f"\\u{ord(sign[0]):04x}", json.dumps(value, ensure_ascii=False))
    text = io.StringIO()
    yaml.dump(value, text)
    return text.getvalue().split("\n")[0]


def _meanings(section: type) -> dict[str, str]:
    """What the docstring of a section, or of a class that it extends, says of each key."""
    meanings: dict[str, str] = {}
    for kind in reversed(section.__mro__):
        _, _, attributes = (inspect.cleandoc(kind.__doc__ or "")).partition("Attributes:\n")
        for name, text in re.findall(r"^    (\w+): ((?:.*\n?(?:     +.*\n?)*))", attributes, re.MULTILINE):
            plain = re.sub(r"\bNone\b", "null", " ".join(text.split()).rstrip("."))
            meanings[name] = plain[0].upper() + plain[1:]
    return meanings


def _title(section: type) -> str:
    """The first line of the docstring of a section."""
    return inspect.cleandoc(section.__doc__ or "").partition("\n")[0].rstrip(".")


def _range(hint: Any) -> str:
    """The values that a type allows, in words; empty if there are no words for all of them."""
    if get_origin(hint) is Annotated:
        base, *metadata = get_args(hint)
        flat = [bound for item in metadata for bound in (item.metadata if isinstance(item, FieldInfo) else [item])]
        bounds = [
            text.format(f"{getattr(bound, key):g}" if isinstance(getattr(bound, key), float) else getattr(bound, key))
            for kind, (key, text) in BOUNDS.items()
            for bound in flat
            if isinstance(bound, kind)
        ]
        words = [item.description for item in metadata if isinstance(item, FieldInfo) and item.description]
        return " ".join([*(words or [_range(base)]), *bounds])
    if get_origin(hint) is Literal:
        is_short = len(get_args(hint)) <= MOST_NAMES
        return ", ".join(map(str, get_args(hint))) if is_short else "one that `softlabel models` lists"
    if get_origin(hint) in (Union, UnionType):
        return _either(get_args(hint))
    if get_origin(hint) is list:
        return f"{A_LIST}{of_items}" if (of_items := _range(get_args(hint)[0])) else ""
    if get_origin(hint) is dict:
        return "a map"
    if isinstance(hint, type) and _sections(hint):
        keys = list(_hints(hint)) if len(_hints(hint)) <= MOST_KEYS else []
        return "{" + ", ".join(f"{key}: …" for key in keys) + "}" if keys else "keys below it"
    return KINDS.get(hint, "")


def _either(hints: Sequence[Any]) -> str:
    """The values that one of some types allows; lists last, since "each" would bind what follows."""
    names = [
        name
        for hint in hints
        if get_origin(hint) is Literal and len(get_args(hint)) <= MOST_NAMES
        for name in get_args(hint)
    ]
    others = [_range(hint) for hint in hints if get_origin(hint) is not Literal or len(get_args(hint)) > MOST_NAMES]
    if "" in others:
        return ""
    others.sort(key=lambda words: A_LIST in words)
    return " or ".join(dict.fromkeys([", ".join(map(str, names))] * bool(names) + others))
