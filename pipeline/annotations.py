"""Reads the table that names the images and their labels.

One layout so far, MHIST's own (https://bmirds.github.io/MHIST): a CSV file with the four columns below
beside one folder of images.
"""

import os
import re
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline.errors import PipelineError, first_few

NAME = "Image Name"
LABEL = "Majority Vote Label"
VOTES = "Number of Annotators who Selected SSA (Out of 7)"
PARTITION = "Partition"
COLUMNS = (NAME, LABEL, VOTES, PARTITION)
PARTITIONS = ("train", "test")
CONTROL_CHARACTERS = {chr(code) for code in (*range(32), 127)}


@dataclass(frozen=True)
class Annotation:
    """One labelled image, before it is assigned to a split.

    Attributes:
        id: the image's file name, unique in the data set.
        label: the name of its class.
        partition: "train" or "test".
        votes: how many annotators chose the positive class, or None where nobody voted.
        file: the image.
    """

    id: str
    label: str
    partition: str
    votes: int | None
    file: Path


def read_mhist(annotations: Path, images: Path) -> list[Annotation]:
    """Reads and checks MHIST's `annotations.csv` and its folder of images.

    Returns:
        The annotations, sorted by id.

    Raises:
        PipelineError: the table or a name in it cannot be used; nothing was read beyond it.
    """
    table = _read_table(annotations)
    _refuse_bad_values(table, annotations)
    rows = [
        Annotation(name, label, partition, int(votes) if votes else None, images / name)
        for name, label, votes, partition in zip(*(table[column] for column in COLUMNS), strict=True)
    ]
    _refuse_escapes(rows, images)
    _refuse_missing(rows, images)
    return sorted(rows, key=lambda row: row.id)


def unnamed_images(rows: list[Annotation], images: Path) -> list[str]:
    """Names of the files in the image folder that no annotation names, sorted."""
    named = {row.id for row in rows}
    return sorted(entry.name for entry in images.iterdir() if entry.is_file() and entry.name not in named)


def _read_table(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise PipelineError(
            f"there is no annotations file at {path}. Put it there, or set split.annotations in params.yaml."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a row with too many fields
            table = pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False, encoding="utf-8-sig")
    except (ValueError, pd.errors.ParserWarning) as error:
        raise PipelineError(f"{path} cannot be read as a CSV file in UTF-8: {error}") from None
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing:
        raise PipelineError(
            f"{path} lacks the column{'s' if len(missing) > 1 else ''} {_quoted(missing)}; "
            f"it has {_quoted(list(table.columns))}. Rename its columns to MHIST's: {_quoted(list(COLUMNS))}."
        )
    if table.empty:
        raise PipelineError(f"{path} has its header but no rows. It must name at least two classes of images.")
    return table


def _refuse_bad_values(table: pd.DataFrame, path: Path) -> None:
    twice = sorted(name for name, count in Counter(table[NAME]).items() if count > 1)
    if twice:
        raise PipelineError(
            f"{path} names {len(twice)} image(s) more than once: {first_few(twice)}. "
            "An image may have one row only: remove the others."
        )
    unknown = sorted(set(table[PARTITION]) - set(PARTITIONS))
    if unknown:
        raise PipelineError(
            f"{path} has the partition(s) {_quoted(unknown)}; known are {_quoted(list(PARTITIONS))}. "
            f"Correct the column {PARTITION!r}."
        )
    votes = sorted({value for value in table[VOTES] if value and not re.fullmatch("[0-9]{1,4}", value)})
    if votes:
        raise PipelineError(
            f"{path} has votes that are no whole numbers: {first_few(votes)}. "
            f"Write a count, or leave the field empty, in the column {VOTES!r}."
        )
    labels = sorted(set(table[LABEL]))
    unsafe = [label for label in labels if not _is_plain_name(label) or label != label.strip()]
    if unsafe:
        raise PipelineError(
            f"{path} has labels that cannot name a folder: {_quoted(unsafe)}. "
            f"Use names without separators and outer blanks in the column {LABEL!r}."
        )
    if len(labels) < 2:
        raise PipelineError(
            f"{path} has only the class {_quoted(labels)}; a classifier needs at least two. "
            f"Add images of another class to the column {LABEL!r}."
        )


def _refuse_escapes(rows: list[Annotation], images: Path) -> None:
    inside = images.resolve()
    bad = [row.id for row in rows if not _is_plain_name(row.id) or not _lies_in(row.file, inside)]
    if bad:
        raise PipelineError(
            f"{len(bad)} image name(s) lead outside the image folder {images}: {_quoted(bad[:5])}. "
            "A name must be a plain file name in that folder, and no link that leaves it "
            "(no separators, no control characters)."
        )


def _is_plain_name(name: str) -> bool:
    return (
        not CONTROL_CHARACTERS & set(name)
        and name not in {"", ".", ".."}
        and not set(name) & set("/\\")
        and not os.path.isabs(name)
    )


def _lies_in(file: Path, folder: Path) -> bool:
    try:
        return file.resolve().parent == folder
    except (OSError, RuntimeError):  # a loop of links, a name that the system refuses
        return False


def _refuse_missing(rows: list[Annotation], images: Path) -> None:
    missing = [row.id for row in rows if not row.file.is_file()]
    if missing:
        raise PipelineError(
            f"{len(missing)} of {len(rows)} annotated images are not in {images}: {first_few(missing)}. "
            "Copy them there, or remove their rows."
        )


def _quoted(names: list[str]) -> str:
    return ", ".join(repr(name) for name in names)
