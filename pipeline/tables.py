"""Layouts `mhist` and `csv`: a table of image names and labels beside one folder of images.

MHIST is by Wei et al. (https://bmirds.github.io/MHIST); `csv` fits tables such as those of Cassava.
"""

import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.annotations import (
    Annotation,
    DataSet,
    quoted,
    refuse_escapes,
    refuse_labels,
    refuse_leaving,
    refuse_repeated,
    shares_to_draw,
)
from pipeline.errors import PipelineError, all_named
from pipeline.groups import grouped
from pipeline.index import in_order

NAME = "Image Name"
LABEL = "Majority Vote Label"
VOTES = "Number of Annotators who Selected SSA (Out of 7)"
PARTITION = "Partition"
COLUMNS = (NAME, LABEL, VOTES, PARTITION)
PARTITIONS = ("train", "test")


def read_mhist(*, data: Path, annotations: Path, images: Path, val_fraction: float) -> DataSet:
    """Reads and checks MHIST's `annotations.csv` and its folder of images.

    Args:
        data: the folder of the data set.
        annotations: the table, relative to `data`.
        images: the folder of images, relative to `data`.
        val_fraction: share of the training partition to draw for validation, 0 to 1.

    Returns:
        The data set, its rows sorted by id.

    Raises:
        PipelineError: the table or a name in it cannot be used; no image was decoded.
    """
    path, folder = data / annotations, data / images
    table = _read_table(data, annotations, COLUMNS, "annotations", "Rename its columns to MHIST's")
    refuse_repeated(table[NAME], path)
    _refuse_partitions_and_votes(table, path)
    refuse_labels(table[LABEL], path, f"the column {LABEL!r}")
    _refuse_images(data, list(table[NAME]), images)
    rows = [
        Annotation(name, label, partition, int(votes) if votes else None, folder / name)
        for name, label, votes, partition in zip(*(table[column] for column in COLUMNS), strict=True)
    ]
    return _data_set(path, folder, rows, {"val": val_fraction})


def read_csv(
    *,
    data: Path,
    annotations: Path,
    images: Path,
    image_column: str,
    label_column: str,
    class_names: Path | None,
    validation_ids: Path | None,
    test_ids: Path | None,
    val_fraction: float | None,
    test_fraction: float | None,
    group_column: str | None = None,
) -> DataSet:
    """Reads and checks a table with any two columns for names and labels, and its folder of images.

    Args:
        data: the folder of the data set; every other path is relative to it.
        annotations: the table.
        images: the folder of images.
        image_column: the column of file names.
        label_column: the column of labels.
        class_names: a JSON file that maps labels to names of classes; None takes the labels as they are written.
        validation_ids: a table whose `image_column` names the validation images, or None.
        test_ids: the same of the test images.
        val_fraction: share of the training images to draw for validation, or None where they are named.
        test_fraction: share of all images to draw for testing, or None where they are named.
        group_column: the column of what keeps images in one split, or None.

    Returns:
        The data set, its rows sorted by id.

    Raises:
        PipelineError: a table, the JSON file or a name in them cannot be used; no image was decoded.
    """
    path, folder = data / annotations, data / images
    columns = (image_column, label_column) if group_column is None else (image_column, label_column, group_column)
    remedy = "Name its columns in split.image_column and split.label_column. It needs"
    table = _read_table(data, annotations, columns, "annotations", remedy)
    names, labels = list(table[image_column]), list(table[label_column])
    refuse_repeated(names, path)
    place = f"the column {label_column!r}"
    if class_names is not None:
        labels = _named(labels, path, _read_names(data, class_names))
        place = f"{data / class_names} and {place}"
    refuse_labels(labels, path, place)
    partitions = _read_partitions(data, names, path, image_column, {"val": validation_ids, "test": test_ids})
    _refuse_images(data, names, images)
    rows = [
        Annotation(name, label, partitions.get(name, "train"), None, folder / name)
        for name, label in zip(names, labels, strict=True)
    ]
    if group_column is not None:
        rows = grouped(rows, list(table[group_column]), path, group_column)
    return _data_set(path, folder, rows, shares_to_draw(val_fraction, test_fraction))


def _data_set(path: Path, folder: Path, rows: list[Annotation], drawn: dict[str, float]) -> DataSet:
    named = {row.id for row in rows}
    others = sorted(entry.name for entry in folder.iterdir() if entry.is_file() and entry.name not in named)
    rows.sort(key=lambda row: row.id)
    names = in_order(row.label for row in rows)
    return DataSet(path, rows, drawn, others, f"no row names these files of {folder}", names)


def _read_table(data: Path, table_name: Path, columns: Sequence[str], key: str, remedy: str) -> pd.DataFrame:
    path = data / table_name
    if not path.is_file():
        raise PipelineError(
            f"there is no {key} file at {path}. Put it there, or correct split.data and split.{key} in params.yaml."
        )
    refuse_leaving(data, path, key)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a row with too many fields
            table = pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False, encoding="utf-8-sig")
    except (ValueError, pd.errors.ParserWarning) as error:
        raise PipelineError(f"{path} cannot be read as a CSV file in UTF-8: {error}") from None
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise PipelineError(
            f"{path} lacks the column{'s' if len(missing) > 1 else ''} {quoted(missing)}; "
            f"it has {quoted(table.columns)}. {remedy}: {quoted(columns)}."
        )
    if table.empty:
        raise PipelineError(f"{path} has its header but no rows. Add a row for each image.")
    return table


def _refuse_partitions_and_votes(table: pd.DataFrame, path: Path) -> None:
    unknown = sorted(set(table[PARTITION]) - set(PARTITIONS))
    if unknown:
        raise PipelineError(
            f"{path} has the partition(s) {quoted(unknown)}; known are {quoted(PARTITIONS)}. "
            f"Correct the column {PARTITION!r}."
        )
    votes = sorted({value for value in table[VOTES] if value and not re.fullmatch("[0-7]", value)})
    if votes:
        raise PipelineError(
            f"{path} has votes that are no whole numbers from 0 to 7: {all_named(votes)}. "
            f"Write a count, or leave the field empty, in the column {VOTES!r}."
        )


def _refuse_images(data: Path, names: list[str], images: Path) -> None:
    folder = data / images
    refuse_leaving(data, folder, "images")
    refuse_escapes(names, folder)
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise PipelineError(
            f"{len(missing)} of {len(names)} annotated images are not in {folder}: {all_named(missing)}. "
            "Copy them there, or remove their rows."
        )


def _read_names(data: Path, class_names: Path) -> dict[str, str]:
    path = data / class_names
    if not path.is_file():
        raise PipelineError(f"there is no class_names file at {path}. Put it there, or set split.class_names: null.")
    refuse_leaving(data, path, "class_names")
    expected = 'Expected an object of labels and different names, such as {"0": "healthy", "1": "ill"}.'
    try:
        pairs = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=list)
    except (ValueError, RecursionError) as error:
        raise PipelineError(f"{path} cannot be read as JSON in UTF-8: {error}. {expected}") from None
    if not isinstance(pairs, list) or not all(_is_pair_of_texts(pair) for pair in pairs):
        raise PipelineError(f"{path} is no JSON object of texts. {expected}")
    labels, names = [label for label, _ in pairs], [name for _, name in pairs]
    twice = sorted({text for texts in (labels, names) for text in texts if texts.count(text) > 1})
    if twice:
        raise PipelineError(f"{path} uses {quoted(twice)} more than once. {expected}")
    return dict(pairs)


def _is_pair_of_texts(pair: Any) -> bool:
    return isinstance(pair, tuple) and all(isinstance(text, str) for text in pair)


def _named(labels: list[str], path: Path, names: dict[str, str]) -> list[str]:
    unknown = sorted(set(labels) - set(names))
    if unknown:
        raise PipelineError(
            f"{path} has labels that split.class_names does not know: {quoted(unknown[:5])}; "
            f"known are {quoted(names)}. Correct the labels, or add them to that file."
        )
    return [names[label] for label in labels]


def _read_partitions(
    data: Path, names: list[str], path: Path, column: str, tables: dict[str, Path | None]
) -> dict[str, str]:
    """The split of every image that a table of ids names."""
    found: dict[str, str] = {}
    for split, ids in tables.items():
        if ids is None:
            continue
        key = {"val": "validation_ids", "test": "test_ids"}[split]
        named = set(_read_table(data, ids, (column,), key, "It needs the column split.image_column")[column])
        unknown = sorted(named - set(names))
        if unknown:
            raise PipelineError(
                f"{data / ids} names {len(unknown)} image(s) that {path} does not: {all_named(unknown)}. "
                f"Add their rows there, or remove them from split.{key}."
            )
        both = sorted(named & set(found))
        if both:
            raise PipelineError(
                f"{len(both)} image(s) are in split.validation_ids and in split.test_ids: {all_named(both)}. "
                "An image is in one split only: remove them from one of the two files."
            )
        found |= dict.fromkeys(named, split)
    return found
