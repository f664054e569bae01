"""The one way in for texts, JSON and YAML: how long, how deep and how many is known before a document is used.

A parser's own errors are of many kinds, and what it accepts is wider than what a program expects: numbers without end,
NaN, half characters, lists inside each other until the stack is full. Behind these functions a document holds null,
true, false, numbers, texts that can be written as UTF-8, lists and maps, and nothing else.
"""

import json
import math
import re
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from pipeline.runtime.disk_errors import named
from pipeline.runtime.errors import DamagedError, one_line, shortened
from pipeline.runtime.limits import Limits, limits, raised_by

LONGEST_NUMBER = 30
"""Characters of a whole number: one of 64 bits has 20."""

HALVES = re.compile("[\ud800-\udfff]")
"""Halves of characters, which JSON can escape and UTF-8 cannot write."""


def read_text(path: Path, remedy: str, limit: str = "text_bytes", errors: str = "strict") -> str:
    """Reads a text in UTF-8, with or without a mark in front; its lines end in a newline alone.

    Args:
        path: the file.
        remedy: how to get the file again, as a sentence.
        limit: the limit of its size, as `Limits` names it.
        errors: what becomes of bytes that are no UTF-8, as `bytes.decode` takes it.

    Raises:
        OSError: the system does not let it be read.
        DamagedError: it is no regular file, too large, or no UTF-8.
    """
    content = read_bytes(path, remedy, limit)
    try:
        return content.decode("utf-8-sig", errors).replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise DamagedError(f"{path} cannot be read as text in UTF-8: {one_line(error)}. {remedy}") from None


def read_bytes(path: Path, remedy: str, limit: str = "text_bytes") -> bytes:
    """Reads a file whole; the arguments are those of `read_text`.

    Raises:
        OSError: the system does not let it be read.
        DamagedError: it is no regular file, or too large.
    """
    most = getattr(limits(), limit)
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe or a device may never end
        raise DamagedError(f"{path} is no file, but a folder, a pipe or a device. {remedy}")
    with named(path), path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise DamagedError(f"{path} has more than {most:,} bytes. {raised_by(limit) or remedy}")
    return content


def read_json(path: Path, remedy: str, limit: str = "text_bytes") -> Any:
    """Reads a JSON document; the arguments are those of `read_text`.

    Raises:
        OSError: the system does not let it be read.
        DamagedError: it is no such document, or beyond a limit.
    """
    text = read_text(path, remedy, limit)
    try:
        return parsed_json(text)
    except ValueError as error:
        raise DamagedError(f"{path} cannot be read as JSON: {one_line(error)}. {remedy}") from None


def parsed_json(text: str | bytes, within: Limits | None = None) -> Any:
    """The content of a JSON document.

    Args:
        text: the document; bytes are UTF-8.
        within: its limits; None for those in force.

    Raises:
        ValueError: it is no such document, or beyond a limit; says why in a few words.
    """
    within = within or limits()
    document = text.decode("utf-8") if isinstance(text, bytes) else text
    if len(document) > within.text_bytes:
        raise ValueError(f"it has more than {within.text_bytes:,} characters")
    if _counted(document) > within.items and _counted(_without_texts(document)) > within.items:
        raise ValueError(f"it has more than {within.items:,} values")
    try:
        value = DECODER.decode(document)
    except RecursionError:
        raise ValueError(too_deep()) from None
    refuse_unusable(value, within)
    return value


def _counted(document: str) -> int:
    """About as many values as a JSON document has, before any of them takes memory."""
    return sum(map(document.count, ",[{"))


def _without_texts(document: str) -> str:
    return re.sub('"[^"]*"', "", document.replace(r"\\", "").replace(r"\"", ""))


def refuse_unusable(value: Any, within: Limits | None = None, *, finite: bool = True) -> None:
    """Checks that a parsed document is within the limits and holds plain values alone.

    Args:
        value: its content.
        within: its limits; None for those in force.
        finite: whether all numbers must be finite.

    Raises:
        ValueError: it is not; says why in a few words.
    """
    within = within or limits()
    items, left, level = within.items, within.depth, [value]
    while level:
        items, left = items - len(level), left - 1
        if items < 0:
            raise ValueError(f"it has more than {within.items:,} values")
        if left < -1:
            raise ValueError(too_deep())
        for one in level:
            _refuse_unusable(one, within.field_characters)
            if finite and isinstance(one, float) and not math.isfinite(one):
                raise ValueError(f"the number {one} is not finite")
        level = [inner for one in level for inner in _inside(one)]


def _inside(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.keys()
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _refuse_unusable(value: Any, longest: int) -> None:
    """Raises `ValueError` for one value, whatever is inside it."""
    if isinstance(value, str):
        if len(value) > longest:
            raise ValueError(f"a text has {len(value):,} characters, at most {longest:,} are read")
        if HALVES.search(value):
            raise ValueError("a text holds half a character, which cannot be written")
    elif isinstance(value, int):
        if value.bit_length() > 64:
            raise ValueError("a whole number has more than 64 bits")
    elif value is not None and not isinstance(value, float | list | dict):
        raise ValueError(f"{one_line(value, 40)} is read as a {type(value).__name__}: put it in quotation marks")


def too_deep() -> str:
    """What is wrong with a document that is deeper than the limit."""
    return f"more than {limits().depth} lists or maps lie inside each other"


def _whole(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        raise ValueError(f"a whole number has {len(text):,} digits")
    return int(text)


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        repeated = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {shortened(repr(repeated), 60)} stands more than once")
    return values


def _not_finite(name: str) -> NoReturn:
    raise ValueError(f"the number {name} is not finite")


DECODER = json.JSONDecoder(parse_int=_whole, parse_constant=_not_finite, object_pairs_hook=_no_key_twice)
