"""Whether a soft-label file belongs to the data set and the teacher with which it is used; if not, what differs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.images.index import SPLITS, Index, SplitName
from pipeline.images.resize import Resize, other_pixels
from pipeline.images.views import Views
from pipeline.runtime.errors import MismatchError, all_named
from pipeline.soft_labels.reading import SoftLabelFile, slabs


@dataclass(frozen=True)
class Expected:
    """What a soft-label file should have been made from; a value of None is not compared.

    Attributes:
        splits: the splits whose images will be used.
        views: the views of the training images.
        resize: how images are resized.
        teacher_sha256: the digest of the teacher's file.
        logits_sha256: the digest of the logits from which soft targets should be made.
        temperature: T.
    """

    splits: Sequence[SplitName] = SPLITS
    views: Views | None = None
    resize: Resize | None = None
    teacher_sha256: str | None = None
    logits_sha256: str | None = None
    temperature: float | None = None


ANY = Expected()


def refuse_other(file: SoftLabelFile, index: Index, expected: Expected = ANY) -> None:
    """Refuses a file that does not belong to a data set, or differs from what is expected, before it is used.

    Raises:
        MismatchError: something differs; the message names the first difference.
    """
    different = differences(file, index, expected)
    if different:
        raise MismatchError(f"{file.path} {different[0]}. Bring it up to date with `dvc repro {file.stage}`.")


def differences(file: SoftLabelFile, index: Index, expected: Expected = ANY) -> list[str]:
    """Everything that differs, in words that follow the file's name; what helps the user most comes first."""
    origin = file.provenance
    if list(origin.class_names) != index.class_names:
        return [f"has the classes {list(origin.class_names)}, the index has {index.class_names}"]
    different = [difference for split in expected.splits for difference in _other_images(file, index, split)]
    # The splits that are used may agree while another one differs.
    if not different and origin.dataset != index.fingerprint():
        different.append(
            f"was made from another data set: its fingerprint is {origin.dataset[:12]}, "
            f"the index has {index.fingerprint()[:12]}"
        )
    if expected.teacher_sha256 not in (None, origin.teacher_sha256):
        different.append(
            f"was made from another teacher: its fingerprint is {origin.teacher_sha256[:12]}, "
            f"expected {str(expected.teacher_sha256)[:12]}"
        )
    if expected.logits_sha256 not in (None, file.logits_sha256):
        logits = str(expected.logits_sha256)
        different.append(f"was softened from other logits, {str(file.logits_sha256)[:12]}, expected {logits[:12]}")
    if expected.views is not None and origin.views != expected.views.as_json():
        different.append(other_views(origin.views, expected.views.as_json()))
    if expected.resize is not None and origin.preprocessing is not None:
        different += other_pixels(origin.preprocessing, expected.resize)
    if expected.temperature not in (None, file.temperature):
        different.append(f"was softened at temperature {file.temperature:g}, expected {expected.temperature:g}")
    return different


def _other_images(file: SoftLabelFile, index: Index, split: SplitName) -> list[str]:
    """How the images and labels of one split differ from those of the index, in words."""
    if _are_row_by_row(file, split, index):
        return []
    images = {image.id: image for image in index.split(split)}
    row_of = {image_id: row for row, image_id in enumerate(file.ids(split))}
    shared = [image_id for image_id in images if image_id in row_of]
    content, labels = file.image_sha256(split), file.labels(split)
    label_of = dict(zip(images, index.labels(images.values()), strict=True))
    cases = [
        ("has no soft labels for", [image_id for image_id in images if image_id not in row_of]),
        ("has soft labels that the index does not know, for", [name for name in row_of if name not in images]),
        ("was made from other content of", [name for name in shared if content[row_of[name]] != images[name].sha256]),
        (
            "has other labels than the index for",
            [name for name in shared if labels[row_of[name]] != label_of[name]],
        ),
    ]
    return [
        f"{what} {len(names)} {split} image(s): {all_named(names, f'names-{split}-{number}')}"
        for number, (what, names) in enumerate(cases, 1)
        if names
    ]


def _are_row_by_row(file: SoftLabelFile, split: SplitName, index: Index) -> bool:
    """Whether the rows of a split are the images of the index in the index's own order.

    The stages write them so; then no tables of millions of names are needed.
    """
    images, labels = index.split(split), file.labels(split)
    return (
        len(images) == file.count(split)
        and np.array_equal(labels, index.labels(images))
        and all(
            file.ids(split, rows) == tuple(image.id for image in images[rows])
            and file.image_sha256(split, rows) == tuple(image.sha256 for image in images[rows])
            for rows in slabs(len(images))
        )
    )


def other_views(actual: dict[str, Any], expected: dict[str, Any]) -> str:
    """How two descriptions of views (`Views.as_json`) differ, in words."""
    return f"holds other views: {', '.join(_unequal(actual, expected, ''))}"


def _unequal(actual: Mapping[str, Any], expected: Mapping[str, Any], path: str) -> Iterator[str]:
    """The values that differ, with their paths."""
    for name in sorted(actual.keys() | expected.keys()):
        have, want = actual.get(name), expected.get(name)
        if isinstance(have, dict) and isinstance(want, dict):
            yield from _unequal(have, want, f"{path}{name}.")
        elif have != want:
            yield f"{path}{name} {have}, expected {want}"


def rows_of(file: SoftLabelFile, split: SplitName, ids: Sequence[str]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The row of each image: soft labels are joined to images by id, never by position."""
    parts = slabs(file.count(split))
    if len(ids) == file.count(split) and all(file.ids(split, rows) == tuple(ids[rows]) for rows in parts):
        return np.arange(len(ids))
    row_of: dict[str, int | None] = dict.fromkeys(ids)
    for rows in slabs(file.count(split)):
        row_of |= {name: row for row, name in enumerate(file.ids(split, rows), rows.start) if name in row_of}
    return np.array([row_of[image_id] for image_id in ids], np.int64)
