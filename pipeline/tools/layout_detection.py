"""Finds out which layout a folder or file of data has, and the values of the section `split` that fit it.

What fits is decided by the layouts' own readers: a section is proposed only if its reader takes the data.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.datasets.class_folders import USUAL_NAMES
from pipeline.datasets.csv_tables import COLUMNS as MHIST_COLUMNS
from pipeline.datasets.folders import IMAGE_EXTENSIONS, files_below, is_left_by_a_system
from pipeline.datasets.labelled import DataSet
from pipeline.datasets.layouts import LAYOUTS, Layout
from pipeline.datasets.table_files import Table, read_table
from pipeline.runtime.errors import (
    DamagedError,
    MismatchError,
    MissingError,
    ParameterError,
    UnusableError,
    quoted,
)

VAL_FRACTION, TEST_FRACTION = 0.15, 0.2
"""The shares that are drawn where the data name no such images."""

TABLES = {".csv", ".tsv", ".txt", ".tab"}
SEPARATORS = (",", ";", "\t", "|")
LABEL_NAMES = {"label", "labels", "class", "class_name", "category", "target", "diagnosis", "dx", "species", "y"}
GROUP_NAMES = (
    *("patient", "patient_id", "subject", "subject_id", "case", "case_id"),
    *("lesion", "lesion_id", "slide", "slide_id"),
)
"""Usual names of these columns, in lower case; a patient may have several cases, and a case several slides."""

REFUSALS = (MissingError, DamagedError, MismatchError, ParameterError, UnusableError)
"""The errors with which readers refuse data."""

LEAST_SHARE = 0.9
"""A table is one of images if at least this share of its rows names an image."""

PATHS = ("data", "annotations", "images", "validation_ids", "test_ids", "train", "val", "test")
"""The settings of readers that are paths."""


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


@dataclass(frozen=True)
class Detected:
    """A layout that fits.

    Attributes:
        section: the section `split` of params.yaml, with `layout`; paths are text.
        data_set: the data as the layout's reader gives them.
        notes: what was taken for what, one sentence each.
    """

    section: dict[str, Any]
    data_set: DataSet
    notes: list[str]

    @property
    def layout(self) -> Layout:
        """Its name."""
        layout: Layout = self.section["layout"]
        return layout


def detect(data: Path, columns: Columns = Columns()) -> Detected:
    """Finds the layout of a folder or an .npz file.

    Args:
        data: the folder or file.
        columns: what is known of a table's columns.

    Raises:
        MissingError: there is nothing.
        UnusableError: no layout fits, or it cannot be told which column is which.
    """
    if not data.exists():
        raise MissingError(f"there is nothing at {data}. Name the folder, or the .npz file, that holds your images.")
    if data.is_absolute() and data.is_relative_to(Path.cwd()):
        data = data.relative_to(Path.cwd())  # so that params.yaml holds in every clone
    refusals: list[str] = []
    unused: list[str] = []
    for section, notes in _candidates(data, columns, unused):
        try:
            data_set = LAYOUTS[section["layout"]](**settings_of(section))
        except REFUSALS as error:
            refusals.append(f"  as {section['layout']}: {error}")
            continue
        return Detected(section, data_set, [*notes, *unused])
    refusals += [f"  {reason}" for reason in unused]
    reasons = "\n".join(dict.fromkeys(refusals))
    raise UnusableError(
        f"{data} has none of the five layouts:\n{reasons}\n"
        "docs/data.md shows each layout. Arrange the data as one of them, or write the section `split` by hand."
    )


def settings_of(section: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a layout's reader from a section `split`."""
    given = {key: value for key, value in section.items() if key != "layout"}
    return given | {key: Path(given[key]) for key in PATHS if given.get(key) is not None} | _class_names(given)


def _class_names(given: Mapping[str, Any]) -> dict[str, Any]:
    names = given.get("class_names")
    return {"class_names": Path(names)} if isinstance(names, str) else {}


def _candidates(data: Path, columns: Columns, unused: list[str]) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """The sections that may fit, the likeliest first; `unused` gets the reason for each table that none uses."""
    if data.is_file():
        yield from _arrays(data)
        return
    entries = sorted(entry for entry in data.iterdir() if not is_left_by_a_system(entry.name))
    tables = [entry for entry in entries if entry.is_file() and entry.suffix.lower() in TABLES]
    folders = [entry.name for entry in entries if entry.is_dir() and _has_images(entry)]
    if any(entry.is_file() and entry.suffix.lower() in IMAGE_EXTENSIONS for entry in entries):
        folders.append(".")
    matched = [
        one for table, images in itertools.product(tables, folders) if (one := _match(data, table, images, columns))
    ]
    fitting = [one for one in matched if one.is_mhist or one.share >= LEAST_SHARE]
    # A table of the test images must not be taken for the table of all.
    fitting.sort(key=lambda one: (any(_names_a_split(one.file, usual) for usual in USUAL_NAMES.values()), -one.rows))
    for one in fitting:
        if one.file != fitting[0].file:
            continue  # no other table makes up for what is wrong with this one
        yield from _tables(data, one, [other for other in tables if other != one.file], columns)
    if fitting:
        return  # what is wrong with a table must be mended: folders beside it are no classes
    unused += [f"{file} is not used: " + _why_unused([one for one in matched if one.file == file]) for file in tables]
    if columns != Columns():
        return
    yield from _folders(data, [name for name in folders if name != "."])
    for entry in entries:
        if entry.suffix.lower() == ".npz":
            yield from _arrays(entry)


def _arrays(file: Path) -> Iterator[tuple[dict[str, Any], list[str]]]:
    for val, test in itertools.product((None, VAL_FRACTION), (None, TEST_FRACTION)):
        yield {"layout": "arrays", "data": str(file), "val_fraction": val, "test_fraction": test}, []


# Folders


def _has_images(folder: Path) -> bool:
    return any(Path(name).suffix.lower() in IMAGE_EXTENSIONS for name in files_below(folder))


def _folders(data: Path, names: Sequence[str]) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Folders of splits, by usual names or names that contain "train"; else the folders of classes themselves."""
    of_split: dict[str, str] = {}
    for name in names:
        for split, usual in {"train": {"train", "training"}, **USUAL_NAMES}.items():
            if name.lower() in usual or name.lower().replace("-", "_").rpartition("_")[2] in usual:
                of_split.setdefault(split, _inner(data, name))
    if "train" in of_split:
        val, test = of_split.get("val"), of_split.get("test")
        yield _of_folders(data, of_split["train"], val, test), []
    yield _of_folders(data, ".", None, None), []


def _inner(data: Path, name: str) -> str:
    """A folder, or the only one within it that holds folders: archives often repeat a folder's name."""
    inside = [entry.name for entry in (data / name).iterdir() if not is_left_by_a_system(entry.name)]
    return f"{name}/{inside[0]}" if len(inside) == 1 and (data / name / inside[0]).is_dir() else name


def _of_folders(data: Path, train: str, val: str | None, test: str | None) -> dict[str, Any]:
    return {
        "layout": "folders",
        "data": str(data),
        "train": train,
        "val": val,
        "test": test,
        "val_fraction": VAL_FRACTION if val is None else None,
        "test_fraction": TEST_FRACTION if test is None else None,
    }


# Tables


@dataclass(frozen=True)
class _Match:
    """A table beside a folder of images.

    Attributes:
        file: its file.
        images: the folder, relative to the data set.
        table: the table.
        image_column: the column whose fields most often name a file of the folder; None if there is no column.
        share: how often they do.
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


def _match(data: Path, file: Path, images: str, columns: Columns) -> _Match | None:
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
    return _Match(file, images, table, best, len(naming[best]) / len(table.rows) if best is not None else 0.0)


def _why_unused(matched: Sequence[_Match]) -> str:
    best = max(matched, key=lambda one: one.share, default=None)
    if best is None or best.image_column is None:
        return "it cannot be read as a table with the column of images"
    return f"its column {best.image_column!r} names an image in {best.rows} of {len(best.table.rows)} rows"


def _tables(
    data: Path, match: _Match, others: Sequence[Path], columns: Columns
) -> Iterator[tuple[dict[str, Any], list[str]]]:
    table, image = match.table, match.image_column
    common = {"data": str(data), "annotations": match.file.name, "images": match.images}
    if match.is_mhist:
        yield {"layout": "mhist", **common, "val_fraction": VAL_FRACTION}, []
        return
    notes = [f"column {image!r} of {match.file.name} names the images"]
    group = columns.group or _first_of(GROUP_NAMES, table.columns)
    labels = _labels(table, str(image), group, columns, notes)
    if group is not None:
        notes.append(f"all images of one {group!r} stay in one split")
    if (split := _first_of(("split", "partition", "fold", "subset"), table.columns)) is not None:
        notes.append(f"column {split!r} is not used: splits are drawn anew, or named by lists of images")
    lists = {
        split: next((other.name for other in others if _names_a_split(other, usual)), None)
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
                "validation_ids": lists["val"],
                "test_ids": lists["test"],
                "val_fraction": VAL_FRACTION if lists["val"] is None else None,
                "test_fraction": TEST_FRACTION if lists["test"] is None else None,
            },
            notes + [f"{names} names the classes"] * (names is not None),
        )


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
    values = {name: {value.strip() for value in table.column(name)} for name in others}
    possible = [name for name in others if _may_be_labels(values[name], len(table.rows))]
    named = [name for name in possible if name.lower() in LABEL_NAMES]
    binary = [name for name in others if values[name] <= {"0", "1", "0.0", "1.0"}]
    if (
        not named
        and len(binary) > 1
        and all(sum(map(float, fields)) == 1 for fields in zip(*(table.column(name) for name in binary), strict=True))
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


def _names_a_split(file: Path, usual: set[str]) -> bool:
    return any(part in usual for part in file.stem.lower().replace("-", "_").split("_"))
