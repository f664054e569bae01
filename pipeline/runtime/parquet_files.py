"""Parquet files, by pyarrow: what is read takes no more memory than its pages do.

A file of a kilobyte can say a value of a megabyte a million times. So texts are read as numbers of different values,
and bytes a few rows at a time until there are too many.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.runtime.errors import DamagedError, MissingError, UnusableError, one_line, quoted
from pipeline.runtime.extras import how_to_install
from pipeline.runtime.limits import limits, raised_by

WRITE_AGAIN = "Write it again, it may be damaged."

VALUES_IN_A_BYTE = 16
"""More of them in each byte of a large file are hardly honest: those of logits take a byte or more."""

LONG = 64
"""Bytes of a value of fixed length that is no number."""

ROWS_AT_ONCE = 16
"""How many rows of bytes are read before their size is looked at; more at a time take no less time."""


def parquet_reader(file: Path) -> Any:
    """The module `pyarrow.parquet`, which reads a file.

    Raises:
        MissingError: pyarrow is not installed.
    """
    try:
        from pyarrow import parquet
    except ImportError:
        raise MissingError(
            f"{file} is read with the package pyarrow, which is not installed. Install it with "
            f"{how_to_install('parquet')}."
        ) from None
    return parquet


@contextmanager
def opened(file: Path, **how: Any) -> Iterator[Any]:
    """The open file, a `pyarrow.parquet.ParquetFile`.

    Args:
        file: its path.
        how: arguments of `ParquetFile`, such as the metadata that were read before.

    Raises:
        FileNotFoundError, UnusableError, DamagedError: as `or_damaged`.
        DamagedError: it announces more rows than it has bytes.
    """
    reader = parquet_reader(file)
    with or_damaged(file, lambda: reader.ParquetFile(file, page_checksum_verification=True, **how)) as parquet:
        if not 0 <= parquet.metadata.num_rows <= file.stat().st_size:
            raise DamagedError(f"{file} announces {parquet.metadata.num_rows:,} rows in fewer bytes. {WRITE_AGAIN}")
        yield parquet


def read_texts(file: Path, parquet: Any, columns: Sequence[str]) -> Any:
    """Columns of texts or numbers: a pyarrow table, whose columns of texts are those of numbers and different texts.

    Args:
        file: the path of the file.
        parquet: the open file.
        columns: the names of columns.

    Raises:
        FileNotFoundError, UnusableError, DamagedError: as `or_damaged`.
        DamagedError: a column has fewer rows than the file announces, or all have far more values than it has bytes.
        UnusableError: a column has lists, or other values that are no single text or number.
    """
    cells = parquet.metadata.num_rows * len(columns)
    if cells > max(limits().table_cells, VALUES_IN_A_BYTE * file.stat().st_size):
        raise DamagedError(f"{file} announces {cells:,} values in few bytes. {raised_by('table_cells')}")
    leaves = [parquet.schema.column(place) for place in range(len(parquet.schema))]
    short = {leaf.path: leaf for leaf in leaves if leaf.physical_type != "FIXED_LEN_BYTE_ARRAY" or leaf.length <= LONG}
    if odd := [name for name in columns if name not in short]:
        kind = one_line(parquet.schema_arrow.field(odd[0]).type)
        raise UnusableError(
            f"{file} has {kind} in the column {odd[0]!r}; expected one text or number in each row. Store it so."
        )
    texts = [name for name in columns if short[name].physical_type == "BYTE_ARRAY"]
    with opened(file, metadata=parquet.metadata, read_dictionary=texts) as again:
        table = or_damaged(file, lambda: again.read(columns=[*dict.fromkeys(columns)], use_threads=False))
    or_damaged(file, lambda: table.validate(full=True))  # such as numbers of texts that are not there
    if columns:
        _refuse_fewer(file, table.num_rows, parquet.metadata.num_rows)
    return table


def type_of(column: Any) -> Any:
    """The type of a column's values, also where they are numbered."""
    return column.type.value_type if hasattr(column.type, "index_type") else column.type


def values_of(file: Path, column: Any) -> list[Any]:
    """The values of a column of `read_texts`; a text that is there often takes memory once.

    Raises:
        DamagedError: a text is longer than any field may be, or pyarrow raised another error.
    """
    values: list[Any] = []
    for chunk in column.chunks:
        if hasattr(chunk, "dictionary"):
            different = or_damaged(file, chunk.dictionary.to_pylist)
            _refuse_long(file, different)
            values += [
                None if place is None else different[place] for place in or_damaged(file, chunk.indices.to_pylist)
            ]
        else:
            values += or_damaged(file, chunk.to_pylist)
    return values


def read_bytes(file: Path, parquet: Any, group: int, column: str) -> Any:
    """The column of a row group: a pyarrow chunked array.

    Raises:
        FileNotFoundError, UnusableError, DamagedError: as `or_damaged`.
        DamagedError: it has fewer rows than the file announces.
        UnusableError: it takes more memory than a row group may.
    """
    import pyarrow as pa

    batches = parquet.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=[column], use_threads=False)
    parts, size, rows = [], 0, 0
    while (batch := or_damaged(file, lambda: next(batches, None))) is not None:
        or_damaged(file, partial(batch.validate, full=True))
        size, rows = size + batch.nbytes, rows + batch.num_rows
        if size > limits().row_group_bytes:
            raise UnusableError(
                f"{file} has more than {limits().row_group_bytes / 2**20:,.0f} MiB in the column {column!r} of row "
                f"group {group}. {raised_by('row_group_bytes')}"
            )
        parts.append(batch.column(0))
    _refuse_fewer(file, rows, parquet.metadata.row_group(group).num_rows)
    return pa.chunked_array(parts) if parts else pa.chunked_array([], parquet.schema_arrow.field(column).type)


def or_damaged(file: Path, read: Callable[[], Any]) -> Any:
    """What pyarrow reads of a file.

    Raises:
        FileNotFoundError: there is no such file.
        UnusableError: it is encrypted.
        DamagedError: pyarrow raised another error.
    """
    try:
        return read()
    except FileNotFoundError:
        raise
    except Exception as error:
        if "encrypt" in str(error).lower():
            raise UnusableError(
                f"{file} is encrypted, and no key is used here: {one_line(error)}. Write it without encryption."
            ) from None
        # pyarrow has a dozen kinds, and passes on those of Python
        raise DamagedError(f"{file} cannot be read as a Parquet file: {one_line(error)}. {WRITE_AGAIN}") from None


def _refuse_fewer(file: Path, rows: int, announced: int) -> None:
    if rows != announced:
        raise DamagedError(f"{file} announces {announced:,} rows and has {rows:,}. {WRITE_AGAIN}")


def _refuse_long(file: Path, texts: Sequence[Any]) -> None:
    most = limits().field_characters
    if long := [text for text in texts if isinstance(text, str | bytes) and len(text) > most]:
        raise DamagedError(
            f"{file} has a text of {len(long[0]):,} characters, {quoted([str(long[0])])}, where at most {most:,} may "
            f"stand. {raised_by('field_characters')}"
        )
