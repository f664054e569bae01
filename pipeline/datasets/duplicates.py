"""Pictures that are in a data set more than once, equal byte for byte."""

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from pipeline.images.index import Image
from pipeline.images.places import reading_order, sha256_of, size_of
from pipeline.runtime.errors import UnusableError, all_named, first_few, in_a_file
from pipeline.runtime.parallel import in_threads

Duplicates = Literal["warn", "refuse", "keep_in_train"]
"""What to do about equal pictures in several splits."""

SHOWN = 3
"""How many pictures a message names, and how many copies of each."""


def digest_of(image: str | Any) -> str:
    """SHA-256 of an image file, wherever it lies, or of pixels and their shape.

    Images from which equal files are written have one digest.
    """
    if isinstance(image, str):
        return sha256_of(image)
    pixels = np.ascontiguousarray(image.reshape(*image.shape[:2], -1))
    return hashlib.sha256(f"{pixels.shape}\0".encode() + pixels.tobytes()).hexdigest()


def digests_of(images: Sequence[str | Any]) -> list[str]:
    """`digest_of` each image, read by several threads, each shard from its start to its end."""
    order = reading_order(images)
    found = in_threads(lambda part: map(digest_of, part), (images[number] for number in order))
    digests = [""] * len(images)
    for number, digest in zip(order, found, strict=True):
        digests[number] = digest
    return digests


def copies(digests: Sequence[str]) -> list[list[int]]:
    """The places of each digest that occurs more than once."""
    once, more_often = set[str](), set[str]()
    for digest in digests:
        (more_often if digest in once else once).add(digest)
    places: dict[str, list[int]] = {}
    for place, digest in enumerate(digests):
        if digest in more_often:
            places.setdefault(digest, []).append(place)
    return [*places.values()]


def equal_to_any(images: Sequence[str | Any], others: Sequence[str | Any]) -> list[bool]:
    """Which images are equal to one of the others. A file is read only if one of the others has its size."""
    sizes, other_sizes = list(map(_bytes_of, images)), list(map(_bytes_of, others))
    common = {*sizes} & {*other_sizes}
    known = {*digests_of([image for image, size in zip(others, other_sizes, strict=True) if size in common])}
    found = iter(digests_of([image for image, size in zip(images, sizes, strict=True) if size in common]))
    return [size in common and next(found) in known for size in sizes]


def _bytes_of(image: str | Any) -> int | None:
    """The size of an image; None for all rows of Parquet files, which are compared by their digests alone."""
    return size_of(image) if isinstance(image, str) else int(image.nbytes)


def report_copies(images: Sequence[Image], refuse: bool) -> None:
    """Warns of equal pictures in several splits or in several classes, and tells those with and without a label.

    Args:
        images: the images of the index.
        refuse: whether such pictures are an error.

    Raises:
        UnusableError: there are such pictures, and `refuse` is true.
    """
    copied = [[images[place] for place in places] for places in copies([image.sha256 for image in images])]
    in_splits = [same for same in copied if len({image.split for image in same}) > 1]
    in_classes = [same for same in copied if len({image.class_name for image in same if image.is_labelled}) > 1]
    warnings = []
    if in_splits:
        warnings.append(
            f"{len(in_splits)} picture(s) lie in more than one split, which makes results look better than they are: "
            f"{_named(in_splits, 'copies-in-splits')}."
        )
    if in_classes:
        warnings.append(
            f"{len(in_classes)} picture(s) have more than one class, so some of their labels are wrong: "
            f"{_named(in_classes, 'copies-in-classes')}."
        )
    if warnings and refuse:
        raise UnusableError(" ".join([*warnings, "Remove the copies and correct the labels, or set split.duplicates."]))
    for warning in warnings:
        print(f"Warning: {warning}")
    if in_splits:
        print("  Remove the copies, or set split.duplicates: keep_in_train, or refuse (docs/data.md).")
    pairs = [
        f"{image.id} = {labelled[0].id} ({labelled[0].split}/{labelled[0].class_name})"
        for same in copied
        if (labelled := [image for image in same if image.is_labelled])
        for image in same
        if not image.is_labelled
    ]
    if pairs:
        print(
            f"{len(pairs)} image(s) without a label are equal to labelled training images, so students see these "
            f"pictures more often: {all_named(pairs, 'copies-without-label')}. Remove the copies if that is not meant."
        )


def _named(copied: Sequence[Sequence[Image]], file: str) -> str:
    """The first pictures, each by the names of its copies; a file gets all of them, one picture a line."""
    every = [
        [f"{image.id} ({image.split}/{image.class_name})" for image in same if image.is_labelled] for same in copied
    ]
    shown = first_few([" = ".join(names[:SHOWN]) + " = …" * (len(names) > SHOWN) for names in every], SHOWN)
    more = len(every) > SHOWN or any(len(names) > SHOWN for names in every)
    return shown + (in_a_file([" = ".join(names) for names in every], file) if more else "")
