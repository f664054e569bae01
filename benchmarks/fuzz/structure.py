"""Hypothesis strategies that change a file by its structure: documents stay valid JSON, which is valid YAML, too."""

import copy
import json
from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import strategies as st

from pipeline.runtime.csv_rows import csv_rows

DEEP = "2000 lists in each other"
"""Stands for them until the document is written, because `json` cannot write them."""

NUMBERS = (0, -1, 1, 2**31, 2**63, 2**64, 10**30, 10**400, 0.1, 1e308, -1e-320, float("nan"), float("inf"))
TEXTS = (
    *("", " ", "\0", "\x1b[2J", "\ud800", "\u202e", "../..", "/etc/passwd", "=1+1", "<b>", "nan", "1e999", "~"),
    *("a" * 5000, DEEP),
)
LEAVES = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.text(max_size=20), st.sampled_from(NUMBERS), st.sampled_from(TEXTS))
)
VALUES = LEAVES | st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(TEXTS), inner, max_size=3),
    max_leaves=6,
)
"""Any JSON value, small or odd."""

CHANGES = ("replace", "remove", "repeat", "swap")


def changed_json(documents: Sequence[Any]) -> st.SearchStrategy[bytes]:
    """One of some JSON documents after one to three changes, as bytes.

    A change puts another value in a place, or removes what is there, has it twice, or takes what stands elsewhere.

    Args:
        documents: parsed documents, such as `[json.loads(seed) for seed in seeds]`.
    """
    place = st.integers(0, 2**16)
    replaced = st.tuples(place, st.just("replace"), VALUES, place)
    change = replaced | st.tuples(place, st.sampled_from(CHANGES[1:]), st.none(), place)
    return st.builds(_changed, st.sampled_from(documents), st.lists(change, min_size=1, max_size=3))


def _changed(document: Any, changes: list[tuple[int, str, Any, int]]) -> bytes:
    root = [copy.deepcopy(document)]
    for number, how, value, other in changes:
        places = list(_places(root))
        if places:
            _change(*places[number % len(places)], how, value, places[other % len(places)])
    text = json.dumps(root[0] if root else None)
    return text.replace(json.dumps(DEEP), "[" * 2000 + "]" * 2000).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every list or object in a value, with each of its indices or keys."""
    keys = range(len(value)) if isinstance(value, list) else list(value) if isinstance(value, dict) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def _change(inside: Any, key: Any, how: str, value: Any, other: tuple[Any, Any]) -> None:
    if how == "remove":
        del inside[key]
    elif how == "repeat" and isinstance(inside, list):
        inside.insert(key, copy.deepcopy(inside[key]))
    elif how == "repeat":
        inside[f"{key} "] = copy.deepcopy(inside[key])
    elif how == "swap":
        inside[key] = copy.deepcopy(other[0][other[1]])
    else:
        inside[key] = value


def changed_table(tables: Sequence[bytes], fields: st.SearchStrategy[str]) -> st.SearchStrategy[bytes]:
    """One of some tables in CSV with rows of any length between two of its own, or with one to three other fields.

    Another field is any, or that of another row in the same column, so that some tables stay right.

    Args:
        tables: the tables.
        fields: what new fields hold.
    """
    place, table = st.integers(0, 12), st.sampled_from(tables)
    rows = st.lists(st.lists(fields, max_size=9), max_size=6)
    others = st.lists(st.tuples(place, place, fields | place), min_size=1, max_size=3)
    return st.builds(_with_rows, table, rows, place) | st.builds(_with_fields, table, others)


def _with_rows(table: bytes, rows: Sequence[Sequence[str]], place: int) -> bytes:
    lines = table.split(b"\n")
    return b"\n".join([*lines[:place], _written(rows), *lines[place:]])


def _with_fields(table: bytes, others: Sequence[tuple[int, int, str | int]]) -> bytes:
    rows = [line.split(b",") for line in table.rstrip(b"\n").split(b"\n")]
    for number, column, other in others:
        row = rows[number % len(rows)]
        place, same = column % len(row), rows[other % len(rows)] if isinstance(other, int) else None
        row[place] = same[place % len(same)] if same is not None else _written([[other]]).rstrip(b"\n")
    return b"".join(b",".join(row) + b"\n" for row in rows)


def _written(rows: Sequence[Sequence[object]]) -> bytes:
    return "".join(csv_rows(rows)).encode(errors="replace")
