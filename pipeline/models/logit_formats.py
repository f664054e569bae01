"""What the formats of a table of logits share: what a file may hold, and the names of its columns."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy.typing as npt

from pipeline.runtime.errors import UnusableError, quoted

Kind = Literal["logits", "probabilities"]
"""What the numbers of a table are."""

PREFIXES: dict[str, Kind] = {"logit:": "logits", "probability:": "probabilities"}
"""What stands before the name of a class in the name of its column."""

EXPECTED_COLUMNS = (
    "Expected the columns id and, for each class, logit:NAME or probability:NAME, and, if you like, view and rendering."
)


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
    refuse_misspelt(path, "column", names, ("view", "rendering"))
    of_prefix = {prefix: [name for name in names if name.startswith(prefix)] for prefix in PREFIXES}
    prefixes = [prefix for prefix in PREFIXES if of_prefix[prefix]]
    kind = one_kind(path, [PREFIXES[prefix] for prefix in prefixes], names, EXPECTED_COLUMNS)
    of_classes = of_prefix[prefixes[0]]
    if "id" not in names:
        raise UnusableError(f"{path} lacks the column id; it has {quoted(names, 12)}. {EXPECTED_COLUMNS}")
    used = {"id", "view", "rendering", *of_classes}
    if repeated := [name for name, count in Counter(names).items() if count > 1 and name in used]:
        raise UnusableError(f"{path} has the column {quoted(repeated)} more than once. Give each column another name.")
    return Columns(of_classes, [name.removeprefix(prefixes[0]) for name in of_classes], kind)


def one_kind(path: Path, held: Sequence[Kind], names: Collection[str], expected: str) -> Kind:
    """The kind of the numbers in a file; refused if it has both kinds, or none among the `names` of what it has."""
    if len(held) == 1:
        return held[0]
    if held:
        raise UnusableError(f"{path} has both {held[0]} and {held[1]}. Leave one of them out.")
    raise UnusableError(f"{path} has neither logits nor probabilities; it has {quoted(names, 12)}. {expected}")


def refuse_misspelt(path: Path, what: str, names: Collection[str], known: Sequence[str]) -> None:
    """Refuses "Views" for "view": what need not be there would be passed over without a word."""
    plain = {name.rstrip("s"): name for name in known}
    for name in names:
        meant = plain.get(name.strip().casefold().rstrip("s"))
        if meant is not None and meant not in names:
            raise UnusableError(f"{path} has the {what} {quoted([name])}. Did you mean {meant!r}? Rename it.")


def one_text(path: Path, texts: Sequence[str]) -> str | None:
    """The text that all rows share in the column `rendering`; None if there are no rows."""
    different = sorted(set(texts))
    if len(different) > 1:
        raise UnusableError(
            f"{path} has {len(different)} different values in the column 'rendering': {quoted(different)}. "
            "Expected one, the same in each row: keep views of one rendering in one table."
        )
    return different[0] if different else None
