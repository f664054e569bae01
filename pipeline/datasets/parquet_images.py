"""Layout `parquet`: Parquet files with the bytes of images in a column, as Hugging Face Datasets writes them.

An image is a struct of `bytes` and `path`, or plain bytes. If a label is a number, its name stands in the files'
metadata (https://huggingface.co/docs/datasets/about_dataset_features).
"""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipeline.datasets.class_names import ClassNames
from pipeline.datasets.labelled import DataSet
from pipeline.datasets.shard_patterns import shards_of
from pipeline.datasets.shards import Columns, Found, Sample, data_set_of, id_in, one_by_one, written
from pipeline.datasets.unlabelled import NONE_EXPECTED, Unlabelled
from pipeline.images.index import SplitName
from pipeline.images.parquet_rows import KEPT_BYTES, bytes_of
from pipeline.images.places import IMAGE_COLUMN, place_in_parquet
from pipeline.runtime.errors import DamagedError, MismatchError, UnusableError, all_named, one_line, quoted
from pipeline.runtime.parquet_files import (
    WRITE_AGAIN,
    opened,
    or_damaged,
    parquet_reader,
    read_bytes,
    read_texts,
    type_of,
    values_of,
)
from pipeline.runtime.text_files import parsed_json

ROW_DIGITS = 6
"""Rows have numbers of at least so many digits, so that ids sort as rows."""

LARGE_GROUP = 64 * 2**20
"""Bytes; reading one image takes as many as its row group has, unless the images beside it are read too."""


def read_parquet(
    *,
    data: Path,
    train: Sequence[str],
    val: Sequence[str] | None,
    test: Sequence[str] | None,
    val_fraction: float | None,
    test_fraction: float | None,
    image_column: str = IMAGE_COLUMN,
    label_column: str,
    id_column: str | None = None,
    group_column: str | None = None,
    class_names: ClassNames = None,
    unlabelled: Unlabelled = NONE_EXPECTED,
) -> DataSet:
    """Reads and checks Parquet files, without the bytes of images.

    An image's id is `<file without .parquet>/<row>`, such as `train-00000-of-00002/000017`, or
    `<file without .parquet>/<id>` with `id_column`.

    Args:
        data: the folder of the data set; every other path is relative to it.
        train: patterns of the files of all images that `val` and `test` do not hold (`shards_of`).
        val: those of the validation images, or None.
        test: those of the test images, or None.
        val_fraction: share of the training images to draw for validation, or None if `val` names files.
        test_fraction: share of the images of `train` to draw for testing, or None if `test` names files.
        image_column: the column of images.
        label_column: the column of labels: texts, or numbers, of which -1 is no label.
        id_column: the column of names, or None.
        group_column: the column of groups, such as the patient, or None.
        class_names: names and order of the classes, as `name_classes` takes them; None takes those of the files'
            metadata, if there are any.
        unlabelled: what happens to rows without a label.

    Returns:
        The data set, its rows sorted by id.

    Raises:
        MissingError: a file, or the package pyarrow, is missing.
        DamagedError: a file cannot be read.
        UnusableError: a column, or a value in it, is missing or cannot be used.
        MismatchError: files state other classes, or a label has no name.
    """
    columns = Columns(image_column, label_column, group_column)
    shards = shards_of(data, {"train": train, "val": val, "test": test}, ".parquet")
    found = Found()
    stated: dict[Path, list[str] | None] = {}
    for split, shard in one_by_one(shards):
        stated[shard] = _read_shard(data, shard, split, columns, id_column, found)
    found.class_names = _one_list(stated, others_are_given=class_names is not None)
    return data_set_of(
        found,
        data=data,
        columns=columns,
        shards=shards,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        class_names=class_names,
        unlabelled=unlabelled,
    )


def _read_shard(
    data: Path, shard: Path, split: SplitName, columns: Columns, id_column: str | None, found: Found
) -> list[str] | None:
    """Adds a file's images to `found`; returns the names of classes that the file states."""
    named = {"image": columns.image, "label": columns.label, "id": id_column, "group": columns.group}
    texts = {key: column for key, column in named.items() if column is not None and key != "image"}
    with opened(shard) as file:
        schema = file.schema_arrow
        _refuse_columns(shard, schema, named)
        table = read_texts(shard, file, [*texts.values()])
        chunks = _chunks(shard, file, str(columns.image))
        _refuse_no_bytes(shard, file, str(columns.image), chunks)
        _tell_large_groups(shard, chunks, found)
    values = {key: _texts(shard, column, table.column(column), key == "id") for key, column in texts.items()}
    names = values.get("id") or [f"{row:0{ROW_DIGITS}}" for row in range(table.num_rows)]
    _tell_other_order(shard, chunks, values.get("id", []), found)
    groups: Sequence[str | None] = values.get("group") or [None] * table.num_rows
    for row, (name, label, group) in enumerate(zip(names, values["label"], groups, strict=True)):
        place = place_in_parquet(shard, row, str(columns.image))
        found.samples.append(Sample(id_in(data, shard, name), place, split, label, group))
    return _class_names(schema, columns.label)


def _refuse_columns(shard: Path, schema: Any, named: dict[str, str | None]) -> None:
    for key, column in named.items():
        if column is not None and schema.names.count(column) != 1:
            raise UnusableError(
                f"{shard} has {schema.names.count(column) or 'no'} column(s) {column!r}; it has "
                f"{quoted(schema.names, 12)}. Correct split.{key}_column."
            )
    column = str(named["image"])
    if bytes_of(schema.empty_table().column(column)) is None:
        raise UnusableError(
            f"{shard} has {one_line(schema.field(column).type)} in the column {column!r}; expected the bytes of an "
            "image file in each row, or a struct with a field bytes. Correct split.image_column, or store the files' "
            "bytes."
        )


def _refuse_no_bytes(shard: Path, file: Any, column: str, chunks: Sequence[Any]) -> None:
    """Reads the images of those row groups alone whose statistics do not say that no bytes are missing."""
    empty, first = [], 0
    for group, chunk in enumerate(chunks):
        known = chunk.statistics if chunk.is_stats_set else None
        if known is None or not known.has_null_count or known.null_count:
            values = bytes_of(read_bytes(shard, file, group, column))
            nulls = values.is_null().to_pylist() if values.null_count else []
            empty += [str(first + row) for row, is_null in enumerate(nulls) if is_null]
        first += file.metadata.row_group(group).num_rows
    if empty:
        raise UnusableError(
            f"{shard} has no bytes in the column {column!r} in {len(empty)} row(s): {all_named(empty)}. Files that "
            "such a row names by a path are not read, because DVC would not see changes there. Store the files' bytes "
            "in the column, or remove these rows."
        )


def _tell_large_groups(shard: Path, chunks: Sequence[Any], found: Found) -> None:
    sizes = [chunk.total_compressed_size for chunk in chunks]
    if max(sizes, default=0) > LARGE_GROUP and not found.hints:
        found.hints.append(
            f"{shard} has row groups of up to {max(sizes) / 2**20:,.0f} MiB, and an image in it cannot be read alone. "
            "Passes in order read each group once; trainings that decode images again and again need "
            "images.cache: memory or disk, or files with row_group_size=100."
        )


def _tell_other_order(shard: Path, chunks: Sequence[Any], ids: Sequence[str], found: Found) -> None:
    total = sum(chunk.total_compressed_size for chunk in chunks)
    if total > KEPT_BYTES and any(one > other for one, other in pairwise(ids)) and not found.hints:
        found.hints.append(
            f"{shard} is large, and its rows are not in the order of split.id_column, in which stages read the images: "
            "each then costs as much as its row group. Sort the rows by it before they are written, or set "
            "split.id_column: null."
        )


def _chunks(shard: Path, file: Any, column: str) -> list[Any]:
    """The description of the column of bytes in each row group.

    pyarrow ends Python where it is asked for a damaged one. So a row is read before, which fails with an error, and no
    statistics are asked for of another type.
    """
    paths = [file.schema.column(place).path for place in range(len(file.schema))]
    place = paths.index(f"{column}.bytes" if f"{column}.bytes" in paths else column)
    groups = range(file.metadata.num_row_groups)
    # By a memory map, without which pyarrow reads all images of a row group for one.
    with parquet_reader(shard).ParquetFile(shard, metadata=file.metadata, memory_map=True) as mapped:
        for group in groups:
            rows = mapped.iter_batches(batch_size=1, row_groups=[group], columns=[column], use_threads=False)
            or_damaged(shard, partial(next, rows, None))
    chunks = [file.metadata.row_group(group).column(place) for group in groups]
    types = {chunk.physical_type for chunk in chunks} - {file.schema.column(place).physical_type}
    if types:
        raise DamagedError(
            f"{shard} describes the column {column!r} as {quoted(types)}, which it is not. {WRITE_AGAIN}"
        )
    return chunks


def _texts(shard: Path, name: str, column: Any, is_id: bool) -> list[str]:
    # Ids that differ as texts, such as 007 and 7, are those of two images; labels that do are one class.
    found = values_of(shard, column)
    values = [value if is_id and isinstance(value, str) else written(value) for value in found]
    if None in values:
        raise UnusableError(
            f"{shard} has {type_of(column)} in the column {name!r}; expected one text or number in each row. Correct "
            "split.label_column, split.id_column or split.group_column."
        )
    return [text for text in values if text is not None]


def _class_names(schema: Any, label_column: str) -> list[str] | None:
    """The names of labels 0, 1, ... that Hugging Face Datasets writes into a file."""
    try:
        told = parsed_json((schema.metadata or {})[b"huggingface"])
        names = told["info"]["features"][label_column]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return names if is_list and len(set(names)) == len(names) > 0 else None


def _one_list(stated: Mapping[Path, list[str] | None], others_are_given: bool) -> list[str] | None:
    """The names that all files state; where other names are given, some may state none."""
    lists = [(shard, names) for shard, names in stated.items() if names is not None or not others_are_given]
    for shard, names in lists[1:]:
        if names != lists[0][1]:
            these, those = (quoted(of) if of else "no names" for of in (names, lists[0][1]))
            raise MismatchError(
                f"{shard} states other classes than {lists[0][0]}: {these}, not {those}, so a number could mean two "
                "classes. Write both from one data set."
            )
    return lists[0][1] if lists else None
