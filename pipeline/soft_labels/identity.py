"""Whether a soft-label file belongs to what it is used with; if not, what differs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.images.index import SPLITS, Index, SplitName
from pipeline.images.resize import Resize, other_pixels
from pipeline.images.views import Views
from pipeline.runtime.errors import MismatchError, all_named
from pipeline.soft_labels.reading import SoftLabelFile


@dataclass(frozen=True)
class Expected:
    """What a soft-label file should have been made from; None where it does not matter or is not at hand.

    Attributes:
        splits: whose images will be used.
        views: of the training images.
        resize: how images are resized.
        teacher_sha256: of the teacher's file.
        logits_sha256: of the logits that soft targets should be made from.
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
    """Compares a file with what it is going to be used with, before anything of it is used.

    Args:
        file: the file.
        index: the data set.
        expected: what else is known.

    Raises:
        MismatchError: names what differs and the command that mends it.
    """
    found = differences(file, index, expected)
    if found:
        raise MismatchError(f"{file.path} {found[0]}. Bring it up to date with `dvc repro {file.stage}`.")


def differences(file: SoftLabelFile, index: Index, expected: Expected = ANY) -> list[str]:
    """As `refuse_other`, but returns everything that differs, the most telling first."""
    made = file.provenance
    if list(made.class_names) != index.class_names:
        return [f"has the classes {list(made.class_names)}, the index has {index.class_names}"]
    found = [difference for split in expected.splits for difference in _other_images(file, index, split)]
    if not found and made.dataset != index.fingerprint():
        found.append(
            f"was made from another data set: its fingerprint is {made.dataset[:12]}, "
            f"the index has {index.fingerprint()[:12]}"
        )
    if expected.teacher_sha256 not in (None, made.teacher_sha256):
        found.append(
            f"was made from another teacher: its fingerprint is {made.teacher_sha256[:12]}, "
            f"expected {str(expected.teacher_sha256)[:12]}"
        )
    if expected.logits_sha256 not in (None, file.logits_sha256):
        logits = str(expected.logits_sha256)
        found.append(f"was softened from other logits, {str(file.logits_sha256)[:12]}, expected {logits[:12]}")
    if expected.views is not None and made.views != expected.views.as_json():
        found.append(other_views(made.views, expected.views.as_json()))
    if expected.resize is not None and (departure := other_pixels(made.preprocessing, expected.resize)):
        found.append(departure)
    if expected.temperature not in (None, file.temperature):
        found.append(f"was softened at temperature {file.temperature:g}, not {expected.temperature:g}")
    return found


def _other_images(file: SoftLabelFile, index: Index, split: SplitName) -> list[str]:
    """How the images and labels of one split differ from those of the index."""
    images = {image.id: image for image in index.split(split)}
    row_of = {image_id: row for row, image_id in enumerate(file.ids(split))}
    both = [image_id for image_id in images if image_id in row_of]
    content, labels = file.image_sha256(split), file.labels(split)
    position = {name: number for number, name in enumerate(index.class_names)}
    cases = [
        ("has no soft labels for", [image_id for image_id in images if image_id not in row_of]),
        ("has soft labels that the index does not know, for", [name for name in row_of if name not in images]),
        ("was made from other content of", [name for name in both if content[row_of[name]] != images[name].sha256]),
        (
            "has other labels than the index for",
            [name for name in both if labels[row_of[name]] != position[images[name].class_name]],
        ),
    ]
    return [
        f"{what} {len(names)} {split} image(s): {all_named(names, f'names-{split}-{number}')}"
        for number, (what, names) in enumerate(cases, 1)
        if names
    ]


def other_views(found: dict[str, Any], expected: dict[str, Any]) -> str:
    """How two descriptions of views (`Views.as_json`) differ, in words."""
    names = [name for name in sorted(found.keys() | expected.keys()) if found.get(name) != expected.get(name)]
    unequal = (f"{name} {found.get(name)}, expected {expected.get(name)}" for name in names)
    return f"holds other views: {', '.join(unequal)}"


def rows_of(file: SoftLabelFile, split: SplitName, ids: Sequence[str]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The row of each image: soft labels are joined to images by id, never by position."""
    row_of = {image_id: row for row, image_id in enumerate(file.ids(split))}
    return np.array([row_of[image_id] for image_id in ids], np.int64)
