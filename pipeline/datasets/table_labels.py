"""The label of every row of a table: one column of labels, or one column for each class (one-hot)."""

from collections import Counter
from collections.abc import Collection, Sequence
from itertools import groupby

import numpy as np
import numpy.typing as npt

from pipeline.datasets.class_names import whole_number
from pipeline.datasets.labelled import composed
from pipeline.datasets.table_files import Table
from pipeline.datasets.unlabelled import IF_MEANT
from pipeline.runtime.errors import ParameterError, UnusableError, first_few, quoted

BITS = {"0": 0, "0.0": 0, "false": 0, "1": 1, "1.0": 1, "true": 1}

FEW_OF_ROWS = 0.1
"""Columns pass for one-hot if at most this share of the rows has no 1 or several."""

MOST_TRIED = 256
"""Of more columns of 0 and 1, no part is tried, only all of them together."""

MISSING = {"", "nan", "na", "n/a", "<na>", "null", "none"}
"""What programs write for a missing label, in lower case."""


def with_label(table: Table, columns: Sequence[str], named: Collection[str] = ()) -> list[int]:
    """The rows that have a label: a field of `columns` that says something.

    Args:
        table: N rows.
        columns: the column of labels, or the columns of 0 and 1.
        named: the labels of split.class_names, as in `read_labels`.

    Raises:
        UnusableError: no row has a label.
    """
    named = set(named)
    fields = zip(*map(table.column, columns), strict=True)
    rows = [row for row, of_row in enumerate(fields) if not all(is_missing(field, named) for field in of_row)]
    if not rows:
        raise UnusableError(
            f"no row of {table.path} has a label in {quoted(columns)}. Expected labels for some of the images at "
            "least: write them, or correct the name of the column."
        )
    return rows


def is_missing(field: str, named: Collection[str] = ()) -> bool:
    """Whether a field says that there is no label; `named` are the labels of split.class_names."""
    return field.strip().lower() in MISSING and composed(field) not in named


def read_labels(table: Table, column: str, names: Sequence[str], named: Collection[str] = ()) -> list[str]:
    """The label of each row.

    If all labels are whole numbers, 1.0 becomes 1: pandas writes 1.0 beside empty fields.

    Args:
        table: N rows.
        column: the column of labels.
        names: the names of the N images, for messages.
        named: the labels of split.class_names. One that reads none or NA is then a label, not a missing one.

    Raises:
        UnusableError: a row has no label, or one number is written in two ways.
    """
    named = set(named)
    labels = [composed(label) for label in table.column(column)]
    empty = [row for row, label in enumerate(labels) if is_missing(label, named)]
    if empty:
        words = sorted({labels[row] for row in empty if labels[row].strip()})
        raise UnusableError(
            f"{len(empty)} of {len(labels)} rows of {table.path} have no label in the column {column!r}: "
            f"{table.places(empty, names)}. Write their labels, or remove these rows. {IF_MEANT}"
            + (f" If {quoted(words)} is a class, name all classes in split.class_names." if words else "")
        )
    numbers = {label: whole_number(label) for label in set(labels)}
    if None in numbers.values():
        return labels
    whole = {label: str(number) if "." in label else label for label, number in numbers.items()}
    by_number = groupby(sorted(set(whole.values()), key=int), key=int)
    several = [spellings for _, same in by_number if len(spellings := list(same)) > 1]
    if several:
        raise UnusableError(
            f"{table.path} writes one number in different ways in the column {column!r}: {quoted(sorted(several[0]))}. "
            "A class has one label: write the number in one way."
        )
    return [whole[label] for label in labels]


def read_one_hot(table: Table, columns: Sequence[str], names: Sequence[str]) -> list[str]:
    """The label of each row: the name of the column that holds the row's only 1 (or 1.0, or true).

    Args:
        table: N rows.
        columns: a column of 0 and 1 for each class.
        names: the names of the N images, for messages.

    Raises:
        UnusableError: a field is neither 0 nor 1, or a row is empty, or has not exactly one 1.
    """
    fields = list(zip(*map(table.column, columns), strict=True))
    empty = [row for row, of_row in enumerate(fields) if all(map(is_missing, of_row))]
    if empty:
        raise UnusableError(
            f"{len(empty)} of {len(fields)} rows of {table.path} have nothing in split.label_columns: "
            f"{table.places(empty, names)}. Write their labels, or remove these rows. {IF_MEANT}"
        )
    other = sorted({field for row in fields for field in row if field.lower() not in BITS})
    if other:
        raise UnusableError(
            f"{table.path} has fields other than 0 and 1 in split.label_columns: {quoted(other)}. "
            "Correct them, or name the one column that holds the labels in split.label_column."
        )
    ones = [[name for name, field in zip(columns, row, strict=True) if BITS[field.lower()]] for row in fields]
    wrong = [row for row, labels in enumerate(ones) if len(labels) != 1]
    if wrong:
        counts = first_few([str(number) for number in sorted({len(ones[row]) for row in wrong})])
        raise UnusableError(
            f"{len(wrong)} of {len(ones)} rows of {table.path} have {counts} ones in split.label_columns, not one: "
            f"{table.places(wrong, names)}. An image has one class: correct these rows, or list the columns of all "
            "classes."
        )
    return [label for (label,) in ones]


def refuse_column_of_one_hot(table: Table, column: str, names: Sequence[str]) -> None:
    """Refuses a column of 0 and 1 that is one of several one-hot columns: it does not hold the labels 0 and 1.

    Columns are one-hot if nearly every row has exactly one 1 in them.

    Args:
        table: N rows.
        column: the column that should hold labels.
        names: the names of the N images, for messages.

    Raises:
        ParameterError: the column is one of several. Says which ones, and which rows do not have exactly one 1.
    """
    if _bits(table.column(column)) is None:
        return
    counts = Counter(table.columns)
    of_bits = {
        name: bits
        for place, name in enumerate(table.columns)
        if counts[name] == 1 and (bits := _bits([row[place] for row in table.rows])) is not None
    }
    matrix = np.array(list(of_bits.values()), np.float32)
    together = _one_hot_with([*of_bits].index(column), matrix)
    if not together:
        return
    one_hot = [name for place, name in enumerate(of_bits) if place in together]
    wrong = np.flatnonzero(matrix[together].sum(axis=0) != 1).tolist()
    listed = ", ".join(one_hot) if len(one_hot) <= 12 else f"{', '.join(one_hot[:12])}, ... {one_hot[-1]}"
    raise ParameterError(
        f"the column {column!r} of {table.path} is one of {len(one_hot)} columns with exactly one 1 in "
        + (f"all but {len(wrong)} of {len(names)} rows" if wrong else "each row")
        + f": set split.label_columns: [{listed}] and split.label_column: null"
        + (f", and correct {table.places(wrong, names)}. " if wrong else ". ")
        + "If 0 and 1 are the classes, name these two in split.class_names."
    )


def _bits(fields: Sequence[str]) -> list[int] | None:
    bits = [BITS.get(field.lower()) for field in fields]
    return [bit for bit in bits if bit is not None] if None not in bits else None


def _one_hot_with(column: int, bits: npt.NDArray[np.float32]) -> list[int]:
    """The columns that are one-hot together with one of them; none if there are no such columns.

    Args:
        column: the number of this column.
        bits: (K, N), 0 and 1: K columns of N rows.
    """
    if len(bits) > MOST_TRIED:
        return list(range(len(bits))) if np.mean(bits.sum(axis=0) == 1) >= 1 - FEW_OF_ROWS else []
    common = bits @ bits.T  # (K, K): in how many rows two columns both have a 1
    ones = common.diagonal()
    apart = (ones > 0) & (common[column] <= FEW_OF_ROWS * np.minimum(ones, ones[column]))
    apart[column] = False
    for second in sorted(np.flatnonzero(apart).tolist(), key=lambda place: -ones[place]):
        chosen = [column, second]
        while (following := _most_apart(chosen, common)) is not None:
            chosen.append(following)
        if np.mean(bits[chosen].sum(axis=0) == 1) >= 1 - FEW_OF_ROWS:
            return chosen
    return []


def _most_apart(chosen: Sequence[int], common: npt.NDArray[np.float32]) -> int | None:
    """The column that shares the smallest part of its ones with the chosen columns; of several, that with most ones."""
    ones = common.diagonal()
    shared = common[chosen].sum(axis=0)
    fits = (ones > 0) & (shared <= FEW_OF_ROWS * np.minimum(ones, ones[chosen].sum()))
    left = [place for place in np.flatnonzero(fits).tolist() if place not in chosen]
    return min(left, key=lambda place: (shared[place] / ones[place], -ones[place]), default=None)
