"""The one way in for YAML, by the parser that DVC uses, so that both see the same values.

That parser ends the process if lists lie too deep inside each other, follows aliases that multiply until all memory is
taken, and fails in many ways on tags. So the events of a document, which take no memory, are looked at before it is
built.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    Event,
    MappingStartEvent,
    ScalarEvent,
)

from pipeline.runtime.errors import DamagedError, one_line
from pipeline.runtime.limits import Limits, limits
from pipeline.runtime.text_files import read_text, refuse_unusable, too_deep


def read_yaml(path: Path, remedy: str) -> Any:
    """Reads a YAML document in UTF-8.

    Args:
        path: the file.
        remedy: how to get the file again, as a sentence.

    Raises:
        OSError: the system does not let it be read.
        DamagedError: it is no such document, or beyond a limit.
    """
    text = read_text(path, remedy, "yaml_bytes")
    try:
        return parsed_yaml(text)
    except ValueError as error:
        raise DamagedError(f"{path} is not valid YAML: {one_line(error, 400)}. {remedy}") from None


def parsed_yaml(text: str) -> Any:
    """The content of a YAML document: null, true, false, numbers, texts, lists and maps, and nothing else.

    Numbers that are not finite are let through, since whoever checks the values can say at which key they stand.

    Raises:
        ValueError: it is no such document, or beyond a limit; says why in a few words.
    """
    within = limits()
    if len(text) > within.yaml_bytes:
        raise ValueError(f"it has more than {within.yaml_bytes:,} characters")
    try:
        _refuse_hostile(YAML(typ="safe").parse(text), within)
        value = YAML(typ="safe").load(text)
    except YAMLError as error:
        raise ValueError(str(error).replace('in "<unicode string>", ', "in ")) from None
    refuse_unusable(value, finite=False)
    return value


@dataclass
class _Open:
    """A list or map that has begun, with the number of its values, and of all values in it."""

    anchor: str | None = None
    is_map: bool = False
    values: int = 0
    size: int = 1


def _refuse_hostile(events: Iterable[Event], within: Limits) -> None:
    """Raises `ValueError` for tags, keys that are no scalars, and what is too deep or, with its aliases, too large."""
    sizes: dict[str, int] = {}
    opened = [_Open(size=0)]
    for event in events:
        if isinstance(event, CollectionEndEvent):
            ended = opened.pop()
            anchor, size = ended.anchor, ended.size
        elif isinstance(event, AliasEvent):
            if event.anchor not in sizes:
                raise ValueError(f"the alias *{event.anchor} repeats what it is in, or nothing that stands before it")
            _refuse_as_key(opened[-1], event)
            anchor, size = None, sizes[event.anchor]
        elif isinstance(event, CollectionStartEvent):
            _refuse_tag(event)
            _refuse_as_key(opened[-1], event)
            opened.append(_Open(event.anchor, isinstance(event, MappingStartEvent)))
            if len(opened) > within.depth + 1:
                raise ValueError(too_deep())
            continue
        elif isinstance(event, ScalarEvent):
            _refuse_tag(event)
            anchor, size = event.anchor, 1
        else:
            continue
        if anchor is not None:
            sizes[anchor] = size
        opened[-1].values += 1
        opened[-1].size += size
        if opened[-1].size > within.yaml_items:
            raise ValueError(f"it has more than {within.yaml_items:,} values, with those that aliases repeat")


def _refuse_as_key(inside: _Open, event: AliasEvent | CollectionStartEvent) -> None:
    if inside.is_map and inside.values % 2 == 0:
        line = event.start_mark.line + 1
        raise ValueError(f"a key in line {line} is a list, a map or an alias: put it in quotation marks")


def _refuse_tag(event: ScalarEvent | CollectionStartEvent) -> None:
    if event.tag is not None:
        raise ValueError(f"the tag {event.tag!r} is not read: write plain values, without tags")
