"""Groups of images that must lie in one split, such as all images of a patient or slide."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.datasets.class_names import whole_number
from pipeline.datasets.labelled import Annotation, composed
from pipeline.images.index import SplitName
from pipeline.runtime.errors import UnusableError, all_named


def grouped(rows: Sequence[Annotation], groups: Sequence[str], path: Path, column: str) -> list[Annotation]:
    """Gives each image its group.

    Different spellings mean the same group: either Unicode form, outer blanks, 7 and 7.0.

    Args:
        rows: the images.
        groups: the group of each image, as the table writes it.
        path: the table.
        column: the table's column of groups.

    Raises:
        UnusableError: a field is empty, or the data put images of one group into different splits.
    """
    empty = [row.id for row, group in zip(rows, groups, strict=True) if not group.strip()]
    if empty:
        raise UnusableError(
            f"{path} has no group in the column {column!r} (split.group_column) for {len(empty)} image(s): "
            f"{all_named(empty)}. Fill in the group; an image that belongs to no group gets a name of its own there."
        )
    groups = [_name(group) for group in groups]
    splits: dict[str, set[SplitName]] = {}
    for row, group in zip(rows, groups, strict=True):
        if row.is_labelled:  # the others follow: none is used if its group has validation or test images
            splits.setdefault(group, set()).add(row.partition)
    torn = [repr(group) for group, of_group in splits.items() if len(of_group) > 1]
    if torn:
        raise UnusableError(
            f"{len(torn)} group(s) of the column {column!r} have images in several splits: {all_named(torn)}. "
            "Name all images of a group in split.validation_ids, or all in split.test_ids, or none."
        )
    return [replace(row, group=group) for row, group in zip(rows, groups, strict=True)]


def _name(field: str) -> str:
    name = composed(field.strip())
    return str(whole_number(name)) if "." in name and whole_number(name) is not None else name
