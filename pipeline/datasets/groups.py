"""Images that must lie in one split, such as all of one patient or slide."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.datasets.class_names import whole_number
from pipeline.datasets.labelled import Annotation, composed
from pipeline.runtime.errors import UnusableError, all_named


def grouped(rows: Sequence[Annotation], groups: Sequence[str], path: Path, column: str) -> list[Annotation]:
    """Gives each image the group that it shares a split with.

    A group is one however it is written: in either Unicode form, with outer blanks, a whole number as 7 or 7.0.

    Args:
        rows: the images.
        groups: of each, the field of the table.
        path: the table.
        column: its column of groups.

    Raises:
        UnusableError: a field is empty, or the data put images of one group into different splits.
    """
    empty = [row.id for row, group in zip(rows, groups, strict=True) if not group.strip()]
    if empty:
        raise UnusableError(
            f"{path} has {len(empty)} empty field(s) in the column {column!r} (split.group_column), first of: "
            f"{all_named(empty)}. Fill in the group, or a name of its own for an "
            "image that belongs to none."
        )
    groups = [_name(group) for group in groups]
    splits: dict[str, set[str]] = {}
    for row, group in zip(rows, groups, strict=True):
        splits.setdefault(group, set()).add(row.partition)
    torn = [repr(group) for group, found in splits.items() if len(found) > 1]
    if torn:
        raise UnusableError(
            f"{len(torn)} group(s) of the column {column!r} have images in several splits: "
            f"{all_named(torn)}. Name all images of a group in the same one of "
            "split.validation_ids and split.test_ids, or none of them."
        )
    return [replace(row, group=group) for row, group in zip(rows, groups, strict=True)]


def _name(field: str) -> str:
    name = composed(field.strip())
    return str(whole_number(name)) if "." in name and whole_number(name) is not None else name
