"""Finds out which layout a folder or file of data has, and the values of the section `split` that fit it.

What fits is decided by the layouts' own readers: a section is proposed only if its reader takes the data.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.datasets.class_folders import USUAL_NAMES
from pipeline.datasets.folders import IMAGE_EXTENSIONS, files_below, is_left_by_a_system
from pipeline.datasets.labelled import DataSet
from pipeline.datasets.layouts import LAYOUTS, Layout
from pipeline.datasets.unlabelled import IF_MEANT, Unlabelled
from pipeline.datasets.unlabelled import USUAL_NAMES as UNLABELLED_NAMES
from pipeline.runtime.errors import DamagedError, MismatchError, MissingError, ParameterError, UnusableError
from pipeline.tools.shard_detection import shard_sections
from pipeline.tools.table_detection import (
    LEAST_SHARE,
    TEST_FRACTION,
    UNKNOWN,
    VAL_FRACTION,
    Columns,
    match_table,
    names_a_split,
    sections_of,
    why_unused,
)

TABLES = {".csv", ".tsv", ".txt", ".tab"}
REFUSALS = (MissingError, DamagedError, MismatchError, ParameterError, UnusableError)
"""The errors with which readers refuse data."""

WITH_FLAG = "If they are meant to have none, add --unlabelled: the teacher labels them, and students learn from them."
"""What `init` says in place of `IF_MEANT`: there is no params.yaml yet."""

PATHS = ("data", "annotations", "images", "validation_ids", "test_ids", "train", "val", "test")
"""The settings of readers that are paths, if they are texts; patterns of shards are lists."""


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


def detect(data: Path, columns: Columns = UNKNOWN, *, unlabelled: bool = False) -> Detected:
    """Finds the layout of a folder or an .npz file.

    Args:
        data: the folder or file.
        columns: what is known of a table's columns.
        unlabelled: whether rows of a table, or images of an array, may lack a label; otherwise they may if a table has
            many empty fields.

    Raises:
        MissingError: there is nothing.
        UnusableError: no layout fits, or it cannot be told which column is which.
    """
    if not (data.is_dir() or data.is_file()):
        raise MissingError(
            f"there is no folder and no file at {data}. Name the folder, or the .npz file, that holds your images."
        )
    if data.is_absolute() and data.is_relative_to(Path.cwd()):
        data = data.relative_to(Path.cwd())  # so that params.yaml holds in every clone
    refusals: list[str] = []
    unused: list[str] = []
    for one, found in _with_unlabelled_folder(data, _candidates(data, columns, unused)):
        section, notes = _with_unlabelled_rows(one, found) if unlabelled else (one, found)
        try:
            data_set = LAYOUTS[section["layout"]](**settings_of(section))
        except REFUSALS as error:
            refusals.append(f"  as {section['layout']}: {str(error).replace(IF_MEANT, WITH_FLAG)}")
            continue
        return Detected(section, data_set, [*notes, *unused])
    refusals += [f"  {reason}" for reason in unused]
    reasons = "\n".join(dict.fromkeys(refusals))
    raise UnusableError(
        f"{data} has none of the layouts:\n{reasons}\n"
        "docs/data.md shows each layout. Arrange the data as one of them, or write the section `split` by hand."
    )


def _with_unlabelled_folder(
    data: Path, candidates: Iterator[tuple[dict[str, Any], list[str]]]
) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Adds the folder of images without a label to sections that may have one, if there is one."""
    for section, notes in candidates:
        has_folder = section["layout"] in ("mhist", "csv", "folders")
        of_classes = [section[split] for split in ("train", "val", "test") if section.get(split) and has_folder]
        name = _unlabelled_folder(data, of_classes) if has_folder else None
        if name is None:
            yield section, notes
            continue
        unlabelled = {"use": True, **section.get("unlabelled", {}), "folder": name}
        yield {**section, "unlabelled": unlabelled}, [*notes, f"{name} has images without a label: students see them"]


def _with_unlabelled_rows(section: dict[str, Any], notes: list[str]) -> tuple[dict[str, Any], list[str]]:
    if section["layout"] == "folders":
        is_named = "unlabelled" in section
        return section, notes if is_named else [*notes, "no folder is called unlabelled: every image has a label"]
    note = "rows without a label are images from which students learn, too (--unlabelled)"
    unlabelled = {"use": True, **section.get("unlabelled", {}), "rows": True}
    return {**section, "unlabelled": unlabelled}, [*notes, note]


def _unlabelled_folder(data: Path, of_classes: Sequence[str] = ()) -> str | None:
    """The folder of images without a label, beside folders of classes or in `data`; relative to `data`."""
    if data.is_file():
        return None
    folders = [*(data / name for name in of_classes), data]
    found = [entry for folder in folders for entry in sorted(folder.iterdir()) if entry.is_dir()]
    names = [entry.relative_to(data).as_posix() for entry in found if entry.name.lower() in UNLABELLED_NAMES]
    return next((name for name in names if _has_images(data / name)), None)


def settings_of(section: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a layout's reader from a section `split`."""
    given = {key: value for key, value in section.items() if key != "layout"}
    paths = {key: Path(given[key]) for key in PATHS if isinstance(given.get(key), str)}
    return given | paths | _class_names(given) | _unlabelled(given)


def _unlabelled(given: Mapping[str, Any]) -> dict[str, Any]:
    stated = given.get("unlabelled") or {}
    folder = stated.get("folder")
    return {"unlabelled": Unlabelled(stated.get("rows"), None if folder is None else Path(folder))}


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
    unlabelled = _unlabelled_folder(data)
    folders = [entry.name for entry in entries if entry.is_dir() and entry.name != unlabelled and _has_images(entry)]
    if any(entry.is_file() and entry.suffix.lower() in IMAGE_EXTENSIONS for entry in entries):
        folders.append(".")
    pairs = itertools.product(tables, folders)
    matched = [one for table, images in pairs if (one := match_table(data, table, images, columns))]
    fitting = [one for one in matched if one.is_mhist or one.share >= LEAST_SHARE]
    # A table of the test images must not be taken for the table of all.
    fitting.sort(key=lambda one: (any(names_a_split(one.file, usual) for usual in USUAL_NAMES.values()), -one.rows))
    # No other table makes up for what is wrong with the first one.
    for one in (one for one in fitting if one.file == fitting[0].file):
        yield from sections_of(data, one, [other for other in tables if other != one.file], columns)
    if fitting:
        return  # what is wrong with a table must be mended: folders beside it are no classes
    unused += [f"{file} is not used: " + why_unused([one for one in matched if one.file == file]) for file in tables]
    yield from shard_sections(data, columns, unused)
    if columns != UNKNOWN:
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
