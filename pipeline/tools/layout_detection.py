"""Finds out which layout a folder or file of data has, and the values of the section `split` that fit it.

What fits is decided by the layouts' own readers: a section is proposed only if its reader takes the data.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.datasets.class_folders import USUAL_NAMES
from pipeline.datasets.csv_tables import COLUMNS as MHIST_COLUMNS
from pipeline.datasets.folders import IMAGE_EXTENSIONS, files_below, is_left_by_a_system
from pipeline.datasets.labelled import DataSet
from pipeline.datasets.layouts import LAYOUTS, Layout
from pipeline.datasets.table_files import Table, read_table
from pipeline.runtime.errors import MissingError, PipelineError, UnusableError, quoted

VAL_FRACTION, TEST_FRACTION = 0.15, 0.2
"""The shares that are drawn where the data name no such images."""

TABLES = {".csv", ".tsv", ".txt", ".tab"}
SEPARATORS = (",", ";", "\t", "|")
LABEL_NAMES = {"label", "labels", "class", "class_name", "category", "target", "diagnosis", "dx", "species", "y"}
GROUP_NAMES = {"patient", "patient_id", "case", "case_id", "slide", "slide_id", "subject", "subject_id", "lesion_id"}
"""Usual names of these columns, in lower case."""

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
    for section, notes in _candidates(data, columns):
        try:
            data_set = LAYOUTS[section["layout"]](**settings_of(section))
        except PipelineError as error:
            refusals.append(f"  as {section['layout']}: {str(error).splitlines()[0]}")
            continue
        return Detected(section, data_set, notes)
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


def _candidates(data: Path, columns: Columns) -> Iterator[tuple[dict[str, Any], list[str]]]:
    if data.is_file():
        yield from _arrays(data)
        return
    entries = sorted(entry for entry in data.iterdir() if not is_left_by_a_system(entry.name))
    tables = [entry for entry in entries if entry.is_file() and entry.suffix.lower() in TABLES]
    folders = [entry.name for entry in entries if entry.is_dir() and _has_images(entry)]
    if any(entry.is_file() and entry.suffix.lower() in IMAGE_EXTENSIONS for entry in entries):
        folders.append(".")
    for table, images in itertools.product(tables, folders):
        yield from _tables(data, table, images, [other for other in tables if other != table], columns)
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


def _tables(
    data: Path, path: Path, images: str, others: Sequence[Path], columns: Columns
) -> Iterator[tuple[dict[str, Any], list[str]]]:
    table = _read(data, path)
    if table is None:
        return
    common = {"data": str(data), "annotations": path.name, "images": images}
    if set(MHIST_COLUMNS) <= set(table.columns):
        yield {"layout": "mhist", **common, "val_fraction": VAL_FRACTION}, []
        return
    image, share = _image_column(table, data / images, columns.image)
    if image is None or (share < 0.9 and columns.image is None):
        return
    notes = [f"column {image!r} names the images"]
    labels = _labels(table, image, columns, notes)
    group = columns.group or next((name for name in table.columns if name.lower() in GROUP_NAMES), None)
    if group is not None:
        notes.append(f"all images of one {group!r} stay in one split")
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
                "class_names": names,
                "validation_ids": lists["val"],
                "test_ids": lists["test"],
                "val_fraction": VAL_FRACTION if lists["val"] is None else None,
                "test_fraction": TEST_FRACTION if lists["test"] is None else None,
            },
            notes + [f"{names} names the classes"] * (names is not None),
        )


def _read(data: Path, path: Path) -> Table | None:
    """A table with the separator that gives most columns; None if it is none."""
    tables = []
    for separator in SEPARATORS:
        try:
            tables.append(
                read_table(data, Path(path.name), [], key="annotations", remedy="", separator=separator, header=True)
            )
        except PipelineError:
            continue
    return max(tables, key=lambda table: len(table.columns), default=None)


def _image_column(table: Table, folder: Path, stated: str | None) -> tuple[str | None, float]:
    """The column whose values most often name a file of the folder, and how often."""
    files = files_below(folder)
    known = {form for file in files for form in (file, Path(file).name, Path(file).stem, file.rpartition(".")[0])}
    shares = {
        name: sum(value.strip() in known for value in table.column(name)) / len(table.rows)
        for name in ([stated] if stated else dict.fromkeys(table.columns))
        if name in table.columns
    }
    best = max(shares, key=lambda name: shares[name], default=None)
    return best, shares.get(best, 0.0) if best is not None else 0.0


def _labels(table: Table, image: str, columns: Columns, notes: list[str]) -> dict[str, Any]:
    """The settings `label_column` and `label_columns`."""
    others = [name for name in table.columns if name not in (image, columns.group)]
    values = {name: {value.strip() for value in table.column(name)} for name in others}
    if columns.label is not None:
        return {"label_column": columns.label, "label_columns": None}
    binary = [name for name in others if values[name] <= {"0", "1", "0.0", "1.0"}]
    if len(binary) > 1 and all(
        sum(float(row) for row in rows) == 1 for rows in zip(*(table.column(name) for name in binary), strict=True)
    ):
        notes.append(f"columns {quoted(binary)} are one class each")
        return {"label_column": None, "label_columns": binary}
    possible = [name for name in others if 2 <= len(values[name]) <= max(2, len(table.rows) // 3)]
    named = [name for name in possible if name.lower() in LABEL_NAMES]
    chosen = named if len(named) == 1 else [name for name in possible if name.lower() not in GROUP_NAMES]
    if len(chosen) != 1:
        which = f"it may be {quoted(chosen)}" if chosen else f"its other columns are {quoted(others)}"
        raise UnusableError(
            f"it cannot be told which column of {table.path} has the labels: {which}. Name it: --label-column NAME."
        )
    notes.append(f"column {chosen[0]!r} has the labels")
    return {"label_column": chosen[0], "label_columns": None}


def _names_a_split(file: Path, usual: set[str]) -> bool:
    return any(part in usual for part in file.stem.lower().replace("-", "_").split("_"))
