"""The label of every row of a table: one column of labels, or one column for each class (one-hot)."""

from collections.abc import Sequence
from itertools import groupby

from pipeline.annotations import composed
from pipeline.class_names import whole_number
from pipeline.errors import PipelineError, first_few, quoted
from pipeline.table_files import Table

BITS = {"0": 0, "0.0": 0, "false": 0, "1": 1, "1.0": 1, "true": 1}


def read_labels(table: Table, column: str, names: Sequence[str]) -> list[str]:
    """The label of every row; where all are whole numbers, 1.0 becomes 1, as pandas writes numbers beside empty fields.

    Args:
        table: N rows.
        column: of the labels.
        names: of the N images, for messages.

    Raises:
        PipelineError: a row has no label, or one number is written in two ways.
    """
    labels = [composed(label) for label in table.column(column)]
    empty = [row for row, label in enumerate(labels) if not label.strip()]
    if empty:
        raise PipelineError(
            f"{len(empty)} of {len(labels)} rows of {table.path} have no label in the column {column!r}: "
            f"{table.places(empty, names)}. Write their labels, or remove these rows."
        )
    numbers = {label: whole_number(label) for label in set(labels)}
    if None in numbers.values():
        return labels
    whole = {label: str(number) if "." in label else label for label, number in numbers.items()}
    by_number = groupby(sorted(set(whole.values()), key=int), key=int)
    spelled = [spellings for _, same in by_number if len(spellings := list(same)) > 1]
    if spelled:
        raise PipelineError(
            f"{table.path} writes one number in different ways in the column {column!r}: {quoted(sorted(spelled[0]))}. "
            "A class has one label: write the number in one way."
        )
    return [whole[label] for label in labels]


def read_one_hot(table: Table, columns: Sequence[str], names: Sequence[str]) -> list[str]:
    """The label of every row: that of `columns` which holds its one 1 (or 1.0, or true).

    Args:
        table: N rows.
        columns: one for each class, of 0 and 1.
        names: of the N images, for messages.

    Raises:
        PipelineError: a field is neither 0 nor 1, or a row has not exactly one 1.
    """
    fields = list(zip(*map(table.column, columns), strict=True))
    other = sorted({field for row in fields for field in row if field.lower() not in BITS})
    if other:
        raise PipelineError(
            f"{table.path} has fields other than 0 and 1 in split.label_columns: {quoted(other)}. "
            "Correct them, or name the one column that holds the labels in split.label_column."
        )
    ones = [[name for name, field in zip(columns, row, strict=True) if BITS[field.lower()]] for row in fields]
    wrong = [row for row, found in enumerate(ones) if len(found) != 1]
    if wrong:
        counts = first_few([str(number) for number in sorted({len(ones[row]) for row in wrong})])
        raise PipelineError(
            f"{len(wrong)} of {len(ones)} rows of {table.path} have {counts} ones in split.label_columns, not one: "
            f"{table.places(wrong, names)}. An image has one class: correct these rows, or name all columns of classes."
        )
    return [found[0] for found in ones]


def refuse_column_of_one_hot(table: Table, column: str) -> None:
    """A column that is one of several, of which each row has exactly one 1, does not hold labels 0 and 1.

    Raises:
        PipelineError: says which columns belong together.
    """
    bits = [_bits(table.column(name)) if table.columns.count(name) == 1 else None for name in table.columns]
    place = table.columns.index(column)
    if bits[place] is None:
        return
    for first in range(place + 1):
        together = _one_hot_from(first, bits)
        if together and place < together:
            found = table.columns[first:together]
            listed = ", ".join(found) if len(found) <= 12 else f"{', '.join(found[:12])}, ... {found[-1]}"
            raise PipelineError(
                f"the column {column!r} of {table.path} is one of {len(found)} columns with exactly one 1 in each row: "
                f"set split.label_columns: [{listed}] and split.label_column: null. "
                "If 0 and 1 are the classes, name them in split.class_names."
            )


def _bits(fields: Sequence[str]) -> list[int] | None:
    bits = [BITS.get(field.lower()) for field in fields]
    return [bit for bit in bits if bit is not None] if None not in bits else None


def _one_hot_from(first: int, bits: Sequence[list[int] | None]) -> int | None:
    """The end of the longest run of columns from `first` on in which each row has exactly one 1."""
    end, sums = None, None
    for position in range(first, len(bits)):
        column = bits[position]
        if column is None:
            break
        sums = column if sums is None else [total + bit for total, bit in zip(sums, column, strict=True)]
        if max(sums) > 1:
            break
        if min(sums) == 1 and position > first:
            end = position + 1
    return end
