"""Reads a table of logits from a Parquet file, by pyarrow; nothing in it is run."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.models.logit_formats import LIST, Unchecked, columns_of, one_text
from pipeline.runtime.errors import UnusableError, all_named
from pipeline.runtime.parquet_files import opened, or_damaged, read_texts, type_of, values_of


def read_parquet(path: Path) -> Unchecked:
    """Reads the table; other columns, such as pictures, are not read.

    Raises:
        MissingError: pyarrow is not installed.
        DamagedError: the file cannot be read.
        UnusableError: a column is missing, misspelt, there twice, or of another type.
    """
    with opened(path) as file:
        names = or_damaged(path, lambda: list(file.schema_arrow.names))
        columns = columns_of(path, names)
        others = [name for name in ("id", "view", "rendering") if name in names]
        table = read_texts(path, file, [*others, *columns.of_classes])
    import pyarrow as pa

    values = _values(path, [(name, table.column(name)) for name in columns.of_classes], columns.kind, pa)
    return Unchecked(
        _texts(path, "id", table.column("id"), pa),
        _views(path, table.column("view"), pa) if "view" in others else None,
        values,
        columns.kind,
        columns.class_names,
        one_text(path, _texts(path, "rendering", table.column("rendering"), pa)) if "rendering" in others else None,
    )


def _values(path: Path, columns: list[tuple[str, Any]], kind: str, pa: Any) -> npt.NDArray[Any]:
    """R numbers of C columns: (R, C); what is missing becomes NaN."""
    odd = [f"{name!r} of type {type_of(column)}" for name, column in columns if not pa.types.is_floating(column.type)]
    if odd:
        raise UnusableError(
            f"{path} has {len(odd)} column(s) of {kind} that are no floating-point numbers: {all_named(odd, LIST)}. "
            "Store them as float32."
        )
    dtype = np.result_type(*(column.type.to_pandas_dtype() for _, column in columns))
    values = np.empty((len(columns[0][1]), len(columns)), dtype)
    for place, (_, column) in enumerate(columns):
        values[:, place] = column.to_numpy()
    return values


def _texts(path: Path, name: str, column: Any, pa: Any) -> list[str]:
    kind = type_of(column)
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    _refuse_other(path, name, column, is_text, "a text")
    return values_of(path, column)


def _views(path: Path, column: Any, pa: Any) -> npt.NDArray[Any]:
    _refuse_other(path, "view", column, pa.types.is_integer(column.type), "a whole number")
    views: npt.NDArray[Any] = column.to_numpy()
    return views


def _refuse_other(path: Path, name: str, column: Any, is_right: bool, expected: str) -> None:
    if not is_right:
        raise UnusableError(
            f"{path} has the type {type_of(column)} in the column {name!r}; expected {expected} in each row. "
            "Store it so."
        )
    if column.null_count:
        raise UnusableError(
            f"{path} has {column.null_count} empty field(s) in the column {name!r}; expected {expected} in each row. "
            "Fill them."
        )
