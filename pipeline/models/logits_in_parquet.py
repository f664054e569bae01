"""Reads a table of logits from a Parquet file, by pyarrow; nothing in it is run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.models.logit_formats import LIST, Unchecked, columns_of, one_text
from pipeline.runtime.errors import DamagedError, MissingError, UnusableError, all_named, one_line


def read_parquet(path: Path) -> Unchecked:
    """Reads the table; other columns, such as pictures, are not read.

    Raises:
        MissingError: pyarrow is not installed.
        DamagedError: the file cannot be read.
        UnusableError: a column is missing, misspelt, there twice, or of another type.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise MissingError(
            f"{path} is read with the package pyarrow, which is not installed. Install it with "
            "`pip install 'softlabel[parquet]'`, or write the table as .npz or .csv."
        ) from None
    with path.open("rb") as content:
        file = _read(path, lambda: parquet.ParquetFile(content, page_checksum_verification=True))
        names = _read(path, lambda: list(file.schema_arrow.names))
        columns = columns_of(path, names)
        others = [name for name in ("id", "view", "rendering") if name in names]
        table = _read(path, lambda: file.read(columns=[*others, *columns.of_classes], use_threads=False))
    values = _values(path, [(name, table.column(name)) for name in columns.of_classes], columns.kind, pa)
    return Unchecked(
        _texts(path, "id", table.column("id"), pa),
        _views(path, table.column("view"), pa) if "view" in others else None,
        values,
        columns.kind,
        columns.class_names,
        one_text(path, _texts(path, "rendering", table.column("rendering"), pa)) if "rendering" in others else None,
    )


def _read(path: Path, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except Exception as error:  # pyarrow has a dozen kinds, and passes on those of Python
        raise DamagedError(
            f"{path} cannot be read as a Parquet file: {one_line(error)}. Write it again, it may be damaged."
        ) from None


def _values(path: Path, columns: list[tuple[str, Any]], kind: str, pa: Any) -> npt.NDArray[Any]:
    """R numbers of C columns: (R, C); what is missing becomes NaN."""
    odd = [f"{name!r} of type {column.type}" for name, column in columns if not pa.types.is_floating(column.type)]
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
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    _refuse_other(path, name, column, is_text, "a text")
    texts: list[str] = _read(path, column.to_pylist)
    return texts


def _views(path: Path, column: Any, pa: Any) -> npt.NDArray[Any]:
    _refuse_other(path, "view", column, pa.types.is_integer(column.type), "a whole number")
    views: npt.NDArray[Any] = column.to_numpy()
    return views


def _refuse_other(path: Path, name: str, column: Any, is_right: bool, expected: str) -> None:
    if not is_right:
        raise UnusableError(
            f"{path} has the type {column.type} in the column {name!r}; expected {expected} in each row. Store it so."
        )
    if column.null_count:
        raise UnusableError(
            f"{path} has {column.null_count} empty field(s) in the column {name!r}; expected {expected} in each row. "
            "Fill them."
        )
