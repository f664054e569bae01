"""The whole of `params.yaml`, with defaults, and with what each key means and which values it may have.

The meaning of a key stands in the docstring of its section, under "Attributes:"; its range is that of its type. So
both are written once.
"""

import inspect
import io
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt
from pydantic import TypeAdapter
from pydantic.fields import FieldInfo
from ruamel.yaml import YAML

from pipeline.params.section import Section

WIDTH = 110
MADE_IF_NAMED = ("sample", "cifar10")
"""Data that `dvc repro` makes if params.yaml has these keys, even if their value is null; they are not listed then."""

KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", NoneType: "null"}
MOST_NAMES = 12
WORD = re.compile(r"[A-Za-z_][\w./-]*")
LINE_ENDS = re.compile("[\x7f-\x9f\u2028\u2029\ufeff]")
BOUNDS = {Ge: ("ge", "from {}"), Gt: ("gt", "above {}"), Le: ("le", "to {}"), Lt: ("lt", "to below {}")}


def as_text(section: Section, written: Mapping[str, Any]) -> str:
    """Lists a section as YAML: every key with its value, and above it a comment on it.

    Args:
        section: the section, as it was read.
        written: the same section as its file has it; a key that it lacks has its default.
    """
    return "\n".join(_lines(section, written))


def _lines(section: Any, written: Any) -> Iterator[str]:
    meanings, hints = _meanings(type(section)), get_type_hints(type(section), include_extras=True)
    for name in _names(section):
        value, hint = getattr(section, name), hints[name]
        below = written.get(name) if isinstance(written, Mapping) else None
        is_written = isinstance(written, Mapping) and name in written
        if value is None and not is_written and name in MADE_IF_NAMED:
            continue
        values = "" if _is_section(value) or _may_be_a_section(hint) else _range(hint)
        facts = [meanings.get(name, ""), f"[{values}]" if values else "", "" if is_written else "(default)"]
        yield from textwrap.wrap(" ".join(filter(None, facts)), WIDTH, initial_indent="# ", subsequent_indent="# ")
        yield from _entry(name, value, below)


def _entry(name: str, value: Any, written: Any) -> Iterator[str]:
    if _is_section(value):
        yield f"{name}:"
        yield from textwrap.indent("\n".join(_lines(value, written)), "  ").splitlines()
    elif isinstance(value, list) and any(map(_is_section, value)):
        yield f"{name}:"
        for number, item in enumerate(value):
            of_item = written[number] if isinstance(written, list) else None
            yield "  -"
            yield from textwrap.indent("\n".join(_lines(item, of_item)), "    ").splitlines()
    else:
        yield f"{name}: {_flow(value)}"


def _names(section: Any) -> list[str]:
    return [field.name for field in fields(section)] if is_dataclass(section) else list(type(section).model_fields)


def _is_section(value: Any) -> bool:
    return isinstance(value, Section) or is_dataclass(value)


def _may_be_a_section(hint: Any) -> bool:
    return any(isinstance(kind, type) and issubclass(kind, Section) for kind in get_args(hint))


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


def _range(hint: Any) -> str:
    """The values that a type allows, in words; empty if it tells nothing."""
    if get_origin(hint) is Annotated:
        base, *metadata = get_args(hint)
        flat = [bound for item in metadata for bound in (item.metadata if isinstance(item, FieldInfo) else [item])]
        bounds = [
            text.format(f"{getattr(bound, key):g}" if isinstance(getattr(bound, key), float) else getattr(bound, key))
            for kind, (key, text) in BOUNDS.items()
            for bound in flat
            if isinstance(bound, kind)
        ]
        return " ".join([_range(base), *bounds])
    if get_origin(hint) is Literal:
        return ", ".join(map(str, get_args(hint))) if len(get_args(hint)) <= MOST_NAMES else ""
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(dict.fromkeys(filter(None, map(_range, get_args(hint)))))
    if get_origin(hint) is list:
        return f"a list, each {of_items}" if (of_items := _range(get_args(hint)[0])) else ""
    return KINDS.get(hint, "")
