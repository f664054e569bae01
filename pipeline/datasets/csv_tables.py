"""Layouts `mhist` and `csv`: a table of image names and labels beside one folder of images.

MHIST is by Wei et al. (https://bmirds.github.io/MHIST); `csv` fits tables such as those of Cassava.
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from pipeline.datasets.class_names import ClassNames, labels_in, name_classes
from pipeline.datasets.groups import grouped
from pipeline.datasets.image_names import ImageFolder, copied_as, nearest_file
from pipeline.datasets.labelled import Annotation, DataSet, ids_of, shares_to_draw
from pipeline.datasets.table_files import Table, TableKey, read_list, read_table
from pipeline.datasets.table_labels import read_labels, read_one_hot, refuse_column_of_one_hot, with_label
from pipeline.datasets.unlabelled import NONE_EXPECTED, Unlabelled, read_folder, refuse_outside_training, used
from pipeline.images.index import SplitName
from pipeline.runtime.errors import MismatchError, UnusableError, all_named, quoted

NAME = "Image Name"
LABEL = "Majority Vote Label"
VOTES = "Number of Annotators who Selected SSA (Out of 7)"
PARTITION = "Partition"
COLUMNS = (NAME, LABEL, VOTES, PARTITION)
PARTITIONS: dict[str, SplitName] = {"train": "train", "test": "test"}
"""The split of each of MHIST's partitions."""
LISTED: dict[TableKey, SplitName] = {"validation_ids": "val", "test_ids": "test"}
"""The split of the images that a table of ids names, by the key of that table."""


def read_mhist(
    *,
    data: Path,
    annotations: Path,
    images: Path,
    val_fraction: float,
    class_names: ClassNames = None,
    unlabelled: Unlabelled = NONE_EXPECTED,
) -> DataSet:
    """Reads and checks MHIST's `annotations.csv` and its folder of images.

    Args:
        data: the folder of the data set.
        annotations: the table, relative to `data`.
        images: the folder of images, relative to `data`.
        val_fraction: share of the training partition to draw for validation, 0 to 1.
        class_names: names and order of the classes, as `name_classes` takes them.
        unlabelled: which images without a label are used.

    Returns:
        The data set, its rows sorted by id.

    Raises:
        MissingError: the table, a folder or an image is missing.
        DamagedError: the table cannot be read.
        UnusableError: the table's columns or fields cannot be used.
        MismatchError: a label has no name.
    """
    remedy = "Rename its columns to MHIST's"
    table = read_table(data, annotations, COLUMNS, key="annotations", remedy=remedy, header=True)
    folder = ImageFolder(data, images)
    names_and_files = folder.files_of(table, NAME)
    _refuse_partitions_and_votes(table)
    place = f"the column {LABEL!r}"
    known = labels_in(data, class_names)
    labelled = _labelled(table, [LABEL], known, unlabelled)
    labels = read_labels(table.part(labelled), LABEL, table.part(labelled).column(NAME), known)
    names_of_classes, order = name_classes(labels, class_names, data=data, source=table.path, place=place)
    classes = _of_all_rows(table, labelled, names_of_classes)
    votes = [int(count) if count else None for count in table.column(VOTES)]
    ids = ids_of([name for name, _ in names_and_files])
    partitions = [PARTITIONS[name] for name in table.column(PARTITION)]
    columns = (ids, names_and_files, classes, partitions, votes)
    rows = [
        Annotation(name, class_name, partition, count, folder.place(file), file_name=copied_as(name, file))
        for name, (_, file), class_name, partition, count in zip(*columns, strict=True)
    ]
    return _data_set(data, folder, table, rows, {"val": val_fraction}, order, unlabelled)


def read_csv(
    *,
    data: Path,
    annotations: Path,
    images: Path,
    image_column: str,
    label_column: str | None = None,
    label_columns: Sequence[str] | None = None,
    separator: str | None = None,
    header: bool | None = None,
    class_names: ClassNames = None,
    validation_ids: Path | None,
    test_ids: Path | None,
    val_fraction: float | None,
    test_fraction: float | None,
    group_column: str | None = None,
    unlabelled: Unlabelled = NONE_EXPECTED,
) -> DataSet:
    """Reads and checks a table with any columns for names and labels, and its folder of images.

    Args:
        data: the folder of the data set; every other path is relative to it.
        annotations: the table.
        images: the folder of images.
        image_column: the column of image names.
        label_column: the column of labels, or None.
        label_columns: if `label_column` is None, a column of 0 and 1 for each class, in the order of the class axis.
        separator: the character between the fields of all tables; None finds it.
        header: whether the first line of a table names its columns; None finds it.
        class_names: names and order of the classes, as `name_classes` takes them.
        validation_ids: a table whose `image_column` names the validation images, or a list without a header, with a
            name in each line, or None.
        test_ids: the same for the test images.
        val_fraction: share of the training images to draw for validation, or None if `validation_ids` names them.
        test_fraction: share of all images to draw for testing, or None if `test_ids` names them.
        group_column: the column of groups whose images must lie in one split, such as patients, or None.
        unlabelled: which images without a label are used.

    Returns:
        The data set, its rows sorted by id.

    Raises:
        MissingError: a table, a folder or an image is missing.
        DamagedError: a table or the file of class names cannot be read.
        UnusableError: the columns or fields of a table cannot be used.
        ParameterError: `label_column` is one of several one-hot columns.
        MismatchError: a label has no name, or a named image has no row.
    """
    labels_key = "label_column" if label_columns is None else "label_columns"
    remedy = f"Name its columns in split.image_column and split.{labels_key}. It needs"
    columns = [str(label_column)] if label_columns is None else [*label_columns]
    read = partial(read_table, data, separator=separator, header=header)
    group_columns = [] if group_column is None else [group_column]
    table = read(annotations, (image_column, *columns, *group_columns), key="annotations", remedy=remedy)
    folder = ImageFolder(data, images)
    names_and_files = folder.files_of(table, image_column)
    known = [] if label_columns is not None else labels_in(data, class_names)
    labelled = _labelled(table, columns, known, unlabelled)
    part = table.part(labelled)
    names = part.column(image_column)
    if label_columns is None:
        if len(known) != 2:  # with two names, a column of 0 and 1 is meant as the labels
            refuse_column_of_one_hot(part, columns[0], names)
        labels, place = read_labels(part, columns[0], names, known), f"the column {columns[0]!r}"
    else:
        labels, place = read_one_hot(part, columns, names), "split.label_columns"
    stated = label_columns or ()
    names_of_classes, order = name_classes(
        labels, class_names, data=data, source=table.path, place=place, stated=stated
    )
    classes = _of_all_rows(table, labelled, names_of_classes)
    ids: dict[TableKey, Path | None] = {"validation_ids": validation_ids, "test_ids": test_ids}
    remedy = "It needs the column split.image_column"
    tables: dict[TableKey, Table] = {}
    for key, name in ids.items():
        if name is not None:
            listed = read_list(data, name, image_column, key=key, is_name=folder.knows)
            tables[key] = listed or read(name, (image_column,), key=key, remedy=remedy)
    partitions = _partitions(tables, image_column, folder, [file for _, file in names_and_files], table.path)
    image_ids = ids_of([name for name, _ in names_and_files])
    rows = [
        Annotation(
            name, class_name, partitions.get(file, "train"), None, folder.place(file), file_name=copied_as(name, file)
        )
        for name, (_, file), class_name in zip(image_ids, names_and_files, classes, strict=True)
    ]
    if group_column is not None:
        rows = grouped(rows, table.column(group_column), table.path, group_column)
    return _data_set(data, folder, table, rows, shares_to_draw(val_fraction, test_fraction), order, unlabelled)


def _labelled(table: Table, columns: Sequence[str], known: Sequence[str], unlabelled: Unlabelled) -> Sequence[int]:
    """The rows whose label is read: all, or those that have one if others are expected."""
    return range(len(table.rows)) if unlabelled.rows is None else with_label(table, columns, known)


def _of_all_rows(table: Table, labelled: Sequence[int], classes: Sequence[str]) -> list[str]:
    """The class of each row of the table, "" for one without a label, from those of the labelled rows."""
    class_of = dict(zip(labelled, classes, strict=True))
    return [class_of.get(row, "") for row in range(len(table.rows))]


def _data_set(
    data: Path,
    folder: ImageFolder,
    table: Table,
    rows: Sequence[Annotation],
    drawn: Mapping[SplitName, float],
    order: Sequence[str],
    unlabelled: Unlabelled,
) -> DataSet:
    refuse_outside_training(rows, table.path)
    kept, hints = used(rows, unlabelled)
    more, no_images = read_folder(data, unlabelled.folder, rows)
    if no_images:
        hints.append(f"{len(no_images)} file(s) of split.unlabelled.folder are no images: {all_named(no_images)}")
    if more and any(row.group is not None for row in kept):
        hints.append(
            f"The {len(more):,} images of split.unlabelled.folder have no group. Make sure that none of them belongs "
            "to a group of validation or test images."
        )
    taken = {row.image for row in [*rows, *more]} | {table.path.as_posix()}
    others = [file for file in folder.files if folder.place(file) not in taken]
    every = sorted([*kept, *more], key=lambda row: row.id)
    return DataSet(table.path, every, drawn, others, f"no row names these files of {folder.folder}", order, hints)


def _refuse_partitions_and_votes(table: Table) -> None:
    unknown = sorted(set(table.column(PARTITION)) - set(PARTITIONS))
    if unknown:
        raise UnusableError(
            f"{table.path} has the partition(s) {quoted(unknown)}; known are {quoted(PARTITIONS)}. "
            f"Correct the column {PARTITION!r}."
        )
    votes = sorted({value for value in table.column(VOTES) if value and not re.fullmatch("[0-7]", value)})
    if votes:
        raise UnusableError(
            f"{table.path} has votes that are not whole numbers from 0 to 7: {all_named([*map(repr, votes)])}. "
            f"Write a count, or leave the field empty, in the column {VOTES!r}."
        )


def _partitions(
    tables: Mapping[TableKey, Table], column: str, folder: ImageFolder, files: Sequence[str], source: Path
) -> dict[str, SplitName]:
    """The split of each file that a table of ids names; the key of the table says which split that is."""
    partitions: dict[str, SplitName] = {}
    annotated = set(files)
    for key, table in tables.items():
        candidates = [annotated.intersection(folder.find(name)) for name in folder.names(table, column)]
        unknown = [row for row, matches in enumerate(candidates) if len(matches) != 1]
        if unknown:
            name = table.column(column)[unknown[0]]
            near = nearest_file(name, files)
            is_header = unknown == [0] and not table.has_header and column.isdecimal()
            raise MismatchError(
                f"{table.path} names {len(unknown)} image(s) that {source} does not: "
                f"{table.places(unknown, table.column(column))}. "
                + (f"The name nearest to {name!r} there is {near!r}. " if near else "")
                + ("If that line is a header, remove it, as split.image_column is a number. " if is_header else "")
                + f"Write the names in split.{key} as {source} has them, or add rows for these images there."
            )
        named = {file for matches in candidates for file in matches}
        both = [repr(file) for file in sorted(named & set(partitions))]
        if both:
            raise UnusableError(
                f"{len(both)} image(s) are in split.validation_ids and in split.test_ids: {all_named(both)}. "
                "An image can be in one split only: remove them from one of the two files."
            )
        partitions |= dict.fromkeys(named, LISTED[key])
    return partitions
