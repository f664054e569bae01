"""What the formats of a table of logits share: what a file may hold, and the names of its columns."""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy.typing as npt

from pipeline.runtime.errors import UnusableError, first_few, quoted, shortened

Kind = Literal["logits", "probabilities"]
"""What the numbers of a table are."""

PREFIXES: dict[str, Kind] = {"logit:": "logits", "probability:": "probabilities"}
"""What stands before the name of a class in the name of its column."""

EXPECTED_COLUMNS = (
    "Expected the columns id and, for each class, logit:NAME or probability:NAME, and, if you like, view and rendering."
)


MOST_NAMED = 12
"""How many columns or arrays a message names."""

LIST = "wrong-logits"
"""The name of the file that lists the rows or columns of a refusal."""


@dataclass(frozen=True)
class Unchecked:
    """A table as its file says.

    Attributes:
        ids: R texts.
        views: (R,) whole numbers of any size; None: the file has none.
        values: (R, C) floating-point numbers of any size.
        kind: what `values` are.
        class_names: texts; None: the file has none.
        rendering: a text; None: the file has none.
    """

    ids: list[str]
    views: npt.NDArray[Any] | None
    values: npt.NDArray[Any]
    kind: Kind
    class_names: list[str] | None
    rendering: str | None


@dataclass(frozen=True)
class Columns:
    """The columns of a table in `.csv` or `.parquet`.

    Attributes:
        of_classes: the names of the C columns of classes.
        class_names: the names of the classes, which those columns end in.
        kind: what these columns hold.
    """

    of_classes: list[str]
    class_names: list[str]
    kind: Kind


def columns_of(path: Path, names: Sequence[str]) -> Columns:
    """Finds the columns of classes among all columns.

    Raises:
        UnusableError: a column is missing, misspelt or there twice, or the file has both kinds.
    """
    misspelt = misspelt_names(names, ("id", "view", "rendering")) | _misspelt_classes(names)
    of_prefix = {prefix: [name for name in names if name.startswith(prefix)] for prefix in PREFIXES}
    prefixes = [prefix for prefix in PREFIXES if of_prefix[prefix]]
    refuse_names(path, "column", names, misspelt, EXPECTED_COLUMNS, ids="id", has_values=bool(prefixes))
    kind = one_kind(path, [PREFIXES[prefix] for prefix in prefixes])
    of_classes = of_prefix[prefixes[0]]
    used = {"id", "view", "rendering", *of_classes}
    if repeated := [name for name, count in Counter(names).items() if count > 1 and name in used]:
        raise UnusableError(f"{path} has the column {quoted(repeated)} more than once. Give each column another name.")
    return Columns(of_classes, [name.removeprefix(prefixes[0]) for name in of_classes], kind)


def one_kind(path: Path, held: Sequence[Kind]) -> Kind:
    """The kind of the numbers in a file; refused if it has both kinds."""
    if len(held) > 1:
        raise UnusableError(f"{path} has both {held[0]} and {held[1]}. Leave one of them out.")
    return held[0]


def misspelt_names(names: Collection[str], known: Sequence[str]) -> dict[str, str]:
    """Names that differ from one of `known` by their case, blanks or an s, such as "Views" for "view", and that name.

    What need not be there would be passed over without a word.
    """
    plain = {_plain(name): name for name in known}
    meant = {name: plain[_plain(name)] for name in names if _plain(name) in plain}
    return {name: known_name for name, known_name in meant.items() if known_name not in names}


def _plain(name: str) -> str:
    return re.sub("ie$", "y", name.strip().casefold().rstrip("s"))


def _misspelt_classes(names: Collection[str]) -> dict[str, str]:
    """The names of columns that are meant for a class, such as "Logit:HP" or "logits: HP", and what they should be."""
    misspelt = {}
    for name in names:
        before, colon, class_name = name.partition(":")
        prefix = f"{_plain(before)}:"
        right = prefix + class_name.strip()
        if colon and prefix in PREFIXES and not name.startswith(prefix) and right not in names:
            misspelt[name] = right
    return misspelt


def refuse_names(
    path: Path,
    what: str,
    names: Collection[str],
    misspelt: Mapping[str, str],
    expected: str,
    *,
    ids: str,
    has_values: bool,
) -> None:
    """Refuses a file whose columns or arrays have wrong names, all of them at once.

    Args:
        path: the file.
        what: "column" or "array".
        names: what it has.
        misspelt: those of `names` that are misspelt, and what they should be.
        expected: the end of the message if something is missing.
        ids: the name under which the ids must be there.
        has_values: whether logits or probabilities are there.
    """
    meant = misspelt.values()
    faults = [f"lacks the {what} {ids}"] * (ids not in (*names, *meant))
    if not has_values and not any(name in PREFIXES.values() or name.startswith((*PREFIXES,)) for name in meant):
        faults.append("has neither logits nor probabilities")
    lacking = f"{path} {' and '.join(faults)}; it has {quoted(names, MOST_NAMED)}. {expected}" if faults else ""
    if misspelt:
        pairs = first_few([f"{shortened(repr(name), 60)} to {right!r}" for name, right in misspelt.items()], MOST_NAMED)
        raise UnusableError(f"{path} has {len(misspelt)} misspelt {what}(s). Rename {pairs}. {lacking}".rstrip())
    if lacking:
        raise UnusableError(lacking)


def one_text(path: Path, texts: Sequence[str]) -> str | None:
    """The text that all rows share in the column `rendering`; None if there are no rows."""
    different = sorted(set(texts))
    if len(different) > 1:
        raise UnusableError(
            f"{path} has {len(different)} different values in the column 'rendering': {quoted(different)}. "
            "Expected one, the same in each row: keep views of one rendering in one table."
        )
    return different[0] if different else None
