"""Finds out which table beside a folder of images has their names and labels, and in which of its columns."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.datasets.class_folders import USUAL_NAMES
from pipeline.datasets.csv_tables import COLUMNS as MHIST_COLUMNS
from pipeline.datasets.csv_tables import LABEL as MHIST_LABEL
from pipeline.datasets.folders import files_below
from pipeline.datasets.table_files import Table, read_table
from pipeline.datasets.table_labels import is_missing
from pipeline.runtime.errors import DamagedError, UnusableError, quoted

VAL_FRACTION, TEST_FRACTION = 0.15, 0.2
"""The shares that are drawn where the data name no such images."""

SEPARATORS = (",", ";", "\t", "|")
LABEL_NAMES = {"label", "labels", "class", "class_name", "category", "target", "diagnosis", "dx", "species", "y"}
GROUP_NAMES = (
    *("patient", "patient_id", "subject", "subject_id", "case", "case_id"),
    *("lesion", "lesion_id", "slide", "slide_id"),
)
"""Usual names of these columns, in lower case; a patient may have several cases, and a case several slides."""

LEAST_SHARE = 0.9
"""A table is one of images if at least this share of its rows names an image."""


LEAST_WITHOUT_LABEL = 0.1
"""Rows without a label are meant to have none if they are at least this share of the table; fewer are a mistake."""


@dataclass(frozen=True)
class Columns:
    """What the user says of a table's columns; None is to be found out.

    Attributes:
        image: the column of the images' names.
        label: the column of labels.
        group: the column whose equal values stay in one split.
    """

    image: str | None = None
    label: str | None = None
    group: str | None = None


UNKNOWN = Columns()
"""Nothing is said of the columns."""


@dataclass(frozen=True)
class TableMatch:
    """A table beside a folder of images.

    Attributes:
        file: its file.
        images: the folder, relative to the data set.
        table: the table.
        image_column: the column whose fields most often name a file of the folder; None if there is no column.
        share: the share of its rows that do, 0 to 1.
    """

    file: Path
    images: str
    table: Table
    image_column: str | None
    share: float

    @property
    def rows(self) -> int:
        """How many rows name a file."""
        return round(self.share * len(self.table.rows))

    @property
    def is_mhist(self) -> bool:
        """Whether it has MHIST's columns."""
        return set(MHIST_COLUMNS) <= set(self.table.columns)


def match_table(data: Path, file: Path, images: str, columns: Columns) -> TableMatch | None:
    """Looks for the column that names the images of a folder.

    Args:
        data: the folder of the data set.
        file: the table, in `data`.
        images: the folder of images, relative to `data`.
        columns: what is known of the table's columns.

    Returns:
        The match, however few rows name an image; None if the file is no table.
    """
    files = files_below(data / images)
    known = {form for name in files for form in (name, Path(name).name, Path(name).stem, name.rpartition(".")[0])}

    def names_a_file(field: str) -> bool:
        return field.strip().replace("\\", "/").removeprefix("./").removeprefix(f"{images}/") in known

    table = _read(data, file, names_a_file)
    if table is None:
        return None
    chosen = [columns.image] if columns.image else dict.fromkeys(table.columns)
    naming = {name: list(filter(names_a_file, table.column(name))) for name in chosen if name in table.columns}
    # Not the most fields, but the most images: labels 0 and 1 are also the names of 0.png and 1.png.
    best = max(naming, key=lambda name: len(set(naming[name])), default=None)
    return TableMatch(file, images, table, best, len(naming[best]) / len(table.rows) if best is not None else 0.0)


def why_unused(matched: Sequence[TableMatch]) -> str:
    """Why a table was taken for none of images, from its matches with every folder."""
    best = max(matched, key=lambda one: one.share, default=None)
    if best is None or best.image_column is None:
        return "it cannot be read as a table with the column of images"
    return f"its column {best.image_column!r} names an image in {best.rows} of {len(best.table.rows)} rows"


def sections_of(
    data: Path, match: TableMatch, others: Sequence[Path], columns: Columns
) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """The sections `split` that may fit a table of images, each with notes on what was taken for what.

    Args:
        data: the folder of the data set.
        match: the table and its folder.
        others: the other tables there, which may list validation or test images.
        columns: what is known of the table's columns.

    Raises:
        UnusableError: it cannot be told which column has the labels.
    """
    table, image = match.table, match.image_column
    common = {"data": str(data), "annotations": match.file.name, "images": match.images}
    if match.is_mhist:
        notes: list[str] = []
        rows = _rows_without_label(table, [MHIST_LABEL], notes)
        yield {"layout": "mhist", **common, **rows, "val_fraction": VAL_FRACTION}, notes
        return
    notes = [f"column {image!r} of {match.file.name} names the images"]
    group = columns.group or _first_of(GROUP_NAMES, table.columns)
    labels = _labels(table, str(image), group, columns, notes)
    of_labels = labels["label_columns"] or [labels["label_column"]]
    rows = _rows_without_label(table, of_labels, notes)
    if group is not None:
        notes.append(f"all images of one {group!r} stay in one split")
    if (split := _first_of(("split", "partition", "fold", "subset"), table.columns)) is not None:
        notes.append(f"column {split!r} is not used: splits are drawn anew, or named by lists of images")
    lists = {
        split: next((other.name for other in others if names_a_split(other, usual)), None)
        for split, usual in USUAL_NAMES.items()
    }
    for names in [*(file.name for file in sorted(data.glob("*.json"))), None]:
        yield (
            {
                "layout": "csv",
                **common,
                "image_column": image,
                **labels,
                "group_column": group,
                "header": None if table.has_header else False,
                "class_names": names,
                **rows,
                "validation_ids": lists["val"],
                "test_ids": lists["test"],
                "val_fraction": VAL_FRACTION if lists["val"] is None else None,
                "test_fraction": TEST_FRACTION if lists["test"] is None else None,
            },
            notes + [f"{names} names the classes"] * (names is not None),
        )


def _rows_without_label(table: Table, columns: Sequence[str], notes: list[str]) -> dict[str, Any]:
    """The setting `unlabelled`, if so many rows have nothing in the columns of labels that it is no mistake.

    A word such as none may be a class, so only empty fields count, and nothing is decided where there are such words.
    """
    if not set(columns) <= set(table.columns):
        return {}
    fields = list(zip(*map(table.column, columns), strict=True))
    empty = sum(not any(field.strip() for field in of_row) for of_row in fields)
    if any(field.strip() and is_missing(field) for of_row in fields for field in of_row):
        return {}
    if not LEAST_WITHOUT_LABEL * len(fields) <= empty < len(fields) or not empty:
        return {}
    notes.append(f"{empty:,} of {len(fields):,} rows have no label: students learn from these images, too")
    return {"unlabelled": {"use": True, "rows": True}}


def _first_of(usual: Sequence[str], columns: Sequence[str]) -> str | None:
    """The column that has one of some usual names, the first of these names before the others."""
    by_name = {name.lower(): name for name in reversed(columns)}
    return next((by_name[name] for name in usual if name in by_name), None)


def _read(data: Path, file: Path, names_a_file: Callable[[str], bool]) -> Table | None:
    """A table with the separator that gives most columns; None if it is none. An image's name is no column's name."""
    tables = []
    for separator in SEPARATORS:
        try:
            table = read_table(
                data, Path(file.name), [], key="annotations", remedy="", separator=separator, header=True
            )
            if any(map(names_a_file, table.columns)):
                table = read_table(
                    data, Path(file.name), [], key="annotations", remedy="", separator=separator, header=False
                )
        except (DamagedError, UnusableError):
            continue
        tables.append(table)
    return max(tables, key=lambda table: len(table.columns), default=None)


def _labels(table: Table, image: str, group: str | None, columns: Columns, notes: list[str]) -> dict[str, Any]:
    """The settings `label_column` and `label_columns`."""
    if columns.label is not None:
        return {"label_column": columns.label, "label_columns": None}
    others = [name for name in dict.fromkeys(table.columns) if name not in (image, group)]
    values = {name: {value.strip() for value in table.column(name)} - {""} for name in others}
    possible = [name for name in others if _may_be_labels(values[name], len(table.rows))]
    named = [name for name in possible if name.lower() in LABEL_NAMES]
    bits = {name: {value for value in values[name] if not is_missing(value)} for name in others}
    binary = [name for name in others if bits[name] and bits[name] <= {"0", "1", "0.0", "1.0"}]
    if (
        not named
        and len(binary) > 1
        and all(
            sum(float(field) for field in fields if not is_missing(field)) == 1
            for fields in zip(*(table.column(name) for name in binary), strict=True)
            if not all(map(is_missing, fields))
        )
    ):
        notes.append(f"columns {quoted(binary)} are one class each")
        return {"label_column": None, "label_columns": binary}
    chosen = named or [name for name in possible if name.lower() not in GROUP_NAMES]
    if len(chosen) != 1:
        which = f"it may be {quoted(chosen)}" if chosen else f"its columns are {quoted(table.columns, 12)}"
        raise UnusableError(
            f"it cannot be told which column of {table.path} has the labels: {which}. Name it: --label-column NAME."
        )
    notes.append(f"column {chosen[0]!r} has the labels")
    return {"label_column": chosen[0], "label_columns": None}


def _may_be_labels(values: set[str], rows: int) -> bool:
    """Whether there are few enough different values; of numbers, such as ages, there must be fewer."""
    are_numbers = all(value.replace(".", "", 1).isdecimal() for value in values)
    return 2 <= len(values) <= max(2, min(rows // 3, 10 if are_numbers else rows))


def names_a_split(file: Path, usual: set[str]) -> bool:
    """Whether a part of a file's name is one of the usual names of a split."""
    return any(part in usual for part in file.stem.lower().replace("-", "_").split("_"))
