"""The same picture, byte for byte, more than once in a data set."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.images.index import Image
from pipeline.runtime.digests import sha256_file
from pipeline.runtime.errors import UnusableError, first_few, in_a_file

SHOWN = 3
"""Copies of one picture, and pictures, that a message names."""


def digest_of(image: Path | Any) -> str:
    """SHA-256 of an image file, or of pixels and their shape: equal where the same file would be written."""
    if isinstance(image, Path):
        return sha256_file(image)
    pixels = np.ascontiguousarray(image.reshape(*image.shape[:2], -1))
    return hashlib.sha256(f"{pixels.shape}\0".encode() + pixels.tobytes()).hexdigest()


def copies(digests: Sequence[str]) -> list[list[int]]:
    """The places of each digest that occurs more than once."""
    places: dict[str, list[int]] = {}
    for place, digest in enumerate(digests):
        places.setdefault(digest, []).append(place)
    return [found for found in places.values() if len(found) > 1]


def tell_copies(images: Sequence[Image], refuse: bool) -> None:
    """Warns of equal pictures in several splits, and of equal pictures in several classes.

    Args:
        images: those of the index.
        refuse: whether this is an error.

    Raises:
        UnusableError: there are such pictures, and they are refused.
    """
    found = [[images[place] for place in places] for places in copies([image.sha256 for image in images])]
    in_splits = [same for same in found if len({image.split for image in same}) > 1]
    in_classes = [same for same in found if len({image.class_name for image in same}) > 1]
    told = []
    if in_splits:
        told.append(
            f"{len(in_splits)} picture(s) lie in more than one split, which makes results look better than they are: "
            f"{_named(in_splits, 'copies-in-splits')}."
        )
    if in_classes:
        told.append(
            f"{len(in_classes)} picture(s) have more than one class, so that a label is wrong: "
            f"{_named(in_classes, 'copies-in-classes')}."
        )
    if told and refuse:
        raise UnusableError(" ".join([*told, "Remove the copies and correct the labels, or set split.duplicates."]))
    for line in told:
        print(f"Warning: {line}")
    if in_splits:
        print("  Remove the copies, or set split.duplicates: keep_in_train, or refuse (docs/data.md).")


def _named(found: Sequence[Sequence[Image]], file: str) -> str:
    """The first pictures by the names of their copies; all of them, a line each, are in a file."""
    every = [[f"{image.id} ({image.split}/{image.class_name})" for image in same] for same in found]
    shown = first_few([" = ".join(names[:SHOWN]) + " = …" * (len(names) > SHOWN) for names in every], SHOWN)
    more = len(every) > SHOWN or any(len(names) > SHOWN for names in every)
    return shown + (in_a_file([" = ".join(names) for names in every], file) if more else "")
