"""`data/index.csv`: the images of the data set, the class of each, and the split to which it belongs."""

import gc
import hashlib
import re
import sys
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple, cast, get_args

from pipeline.images.image_files import digest_of
from pipeline.images.one_hot import OneHot
from pipeline.images.places import file_of, reading_order
from pipeline.runtime.csv_rows import csv_row, csv_rows, read_rows
from pipeline.runtime.errors import DamagedError, MismatchError, MissingError, all_named, first_few, quoted
from pipeline.runtime.seen_files import differing

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)


class Image(NamedTuple):
    """One row of the index: a tuple, because there may be millions of them.

    Attributes:
        id: unique name of the image.
        path: the image file, or its place in a shard (`places`), relative to the repository's root, with forward
            slashes.
        class_name: the name of its class; "" for an image without a label, which is a training image.
        split: "train", "val" or "test".
        votes: how many annotators chose the positive class, or "" without votes.
        sha256: the digest of the image file's bytes.
    """

    id: str
    path: str
    class_name: str
    split: SplitName
    votes: str
    sha256: str

    @property
    def is_labelled(self) -> bool:
        """Whether its class is known."""
        return self.class_name != ""


NO_LABEL = -1
"""In place of the label of an image without one."""

VOTES = re.compile("[0-9]{1,4}")
"""How many annotators chose the positive class."""

REMEDY = "Make it again with `dvc repro --single-item --force split`."
COLUMNS = (*Image._fields, "label")


def in_order(names: Iterable[str]) -> list[str]:
    """Class names in the order of the class axis, for data that state no order.

    If all names are numbers, they are sorted as numbers, else as text.
    """
    distinct = set(names)
    are_numbers = all(re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", name) for name in distinct)
    return sorted(distinct, key=lambda name: (Decimal(name), name)) if are_numbers else sorted(distinct)


class Index:
    """The images of the data set, sorted by id.

    Args:
        images: in any order.
        class_names: the classes in the order of the class axis; None sorts them by `in_order`.
    """

    def __init__(self, images: Iterable[Image], class_names: Sequence[str] | None = None) -> None:
        self.images = sorted(images, key=lambda image: image.id)
        self.class_names = (
            in_order({image.class_name for image in self.images if image.is_labelled})
            if class_names is None
            else [*class_names]
        )

    def find(self, image_id: str) -> Image | None:
        """The image of an id; None if there is none."""
        place = bisect_left(self.images, image_id, key=lambda image: image.id)
        found = self.images[place : place + 1]
        return found[0] if found and found[0].id == image_id else None

    def split(self, name: SplitName) -> list[Image]:
        """The images of one split, sorted by id; training images also without a label.

        Raises:
            DamagedError: the split has no images.
        """
        images = [image for image in self.images if image.split == name]
        if not images:
            raise DamagedError(f"the index has no images in the split {name!r}. {REMEDY}")
        return images

    def labelled(self, name: SplitName) -> list[Image]:
        """The images of one split that have a label, sorted by id.

        Raises:
            DamagedError: the split has no such images.
        """
        images = [image for image in self.split(name) if image.is_labelled]
        if not images:
            raise DamagedError(f"the index has no image with a label in the split {name!r}. {REMEDY}")
        return images

    def labels(self, images: Iterable[Image]) -> list[int]:
        """The label of each image: the position of its class in `class_names`, or `NO_LABEL`."""
        label = {name: number for number, name in enumerate(self.class_names)}
        return [label[image.class_name] if image.is_labelled else NO_LABEL for image in images]

    def one_hot(self, images: Iterable[Image]) -> OneHot:
        """One-hot labels of N images: (N, C) float32, with the classes in the order of `class_names`.

        The row of an image without a label is 0.
        """
        return OneHot(self.labels(images), len(self.class_names))

    def fingerprint(self) -> str:
        """`fingerprint_of` all images, in the order of their ids."""
        return fingerprint_of(self.images)


def apart(images: Iterable[Image]) -> list[Image]:
    """Copies of some rows. Memory is given back in whole blocks, so one row that is kept holds thousands of others."""
    return [image._replace(id=_copy(image.id), path=_copy(image.path), sha256=_copy(image.sha256)) for image in images]


def _copy(text: str) -> str:
    return text.encode().decode()


def fingerprint_of(images: Iterable[Image]) -> str:
    """SHA-256 over the id, split, class name and content of each image, in the given order."""
    digest = hashlib.sha256()
    for image in images:
        # With a separator: "a", "bc" and "ab", "c" are different images.
        digest.update(f"{image.id}\0{image.split}\0{image.class_name}\0{image.sha256}\0".encode())
    return digest.hexdigest()


def refuse_changed(images: Sequence[Image]) -> None:
    """Compares image files with the index. A file that was read before, and has not changed since, is not read again.

    Raises:
        MismatchError: files are missing or have other content; the message counts and names them.
        UnusableError: a file that is read would take a decoder too much memory or time.
    """
    in_order = (images[number] for number in reading_order(image.path for image in images))
    expected = ((image.path, image.sha256) for image in in_order)
    changed = list(differing(expected, file_of=file_of, digest_of=digest_of))
    if changed:
        raise MismatchError(
            f"{len(changed)} image file(s) are missing or not those of the index: {all_named(changed)}. Put back as "
            "they were those that lie in your own data (split.copy: false, or shards); if they were changed on "
            f"purpose, run `dvc repro split`. For copies in data/split: {REMEDY}"
        )


def write_index(path: Path, index: Index) -> None:
    """Writes the index as CSV: a header, then a line for each image.

    `label` keeps the order of the class axis. `class_name` and `label` of an image without a label are empty.
    """
    with path.open("x", newline="", encoding="utf-8") as file:
        file.write(csv_row(COLUMNS))
        labels = index.labels(index.images)
        file.writelines(
            csv_rows(
                (*image, label if image.is_labelled else "") for image, label in zip(index.images, labels, strict=True)
            )
        )


def read_index(path: Path) -> Index:
    """Reads `data/index.csv`.

    Raises:
        MissingError: there is no such file.
        DamagedError: the file has other columns, or rows that do not fit an index.
    """
    if not path.is_file():
        raise MissingError(f"there is no index at {path}. Make it with `dvc repro split`.")
    images, bad, half, numbers = list[Image](), list[list[str]](), list[list[str]](), set[tuple[str, str]]()
    with _no_search_for_cycles():
        for row in read_rows(path, COLUMNS, REMEDY):
            if len(row) != len(COLUMNS) or row[3] not in SPLITS or (row[4] and not VOTES.fullmatch(row[4])):
                bad.append(row)
                continue
            image, label = _image_of(row), row[6]
            if image.class_name:
                numbers.add((label, image.class_name))
            elif label or image.split != "train":
                half.append(row)
            images.append(image)
    if bad:
        raise DamagedError(
            f"{path} has {len(bad)} row(s) that do not fit an index, such as {quoted(bad[0], len(COLUMNS))}. "
            f"Expected {len(COLUMNS)} values and one of the splits {', '.join(SPLITS)}. {REMEDY}"
        )
    if half:
        raise DamagedError(
            f"{path} has {len(half)} row(s) without a class that have a label or are no training images, such as "
            f"{quoted(half[0], len(COLUMNS))}. {REMEDY}"
        )
    images.sort(key=lambda image: image.id)
    if any(one.id == other.id for one, other in pairwise(images)):
        raise DamagedError(f"{path} names an image more than once. {REMEDY}")
    return Index(images, _class_names(numbers, path))


def _image_of(row: Sequence[str]) -> Image:
    """The image of a row of an index; texts that many images have in common are held once."""
    image_id, place, class_name, split, votes, sha256, _ = row
    share = sys.intern
    return Image(image_id, place, share(class_name), cast(SplitName, share(split)), share(votes), sha256)


@contextmanager
def _no_search_for_cycles() -> Iterator[None]:
    """Python looks through all objects again and again while their number grows; rows hold texts, so no cycles."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _class_names(numbers: Iterable[tuple[str, str]], path: Path) -> list[str]:
    """The order of the class axis: each class has one label, and the labels are 0 to C - 1.

    Args:
        numbers: each label with its class.
        path: the file that has them.
    """
    pairs = sorted(numbers, key=lambda pair: (len(pair[0]), pair))  # "9" before "10"
    class_count = len({class_name for _, class_name in pairs})
    if [text for text, _ in pairs] != [str(number) for number in range(class_count)]:
        shown = first_few([f"{quoted([class_name])} has {quoted([text])}" for text, class_name in pairs])
        raise DamagedError(
            f"the labels in {path} do not number its {class_count} classes from 0 to {class_count - 1}: {shown}. "
            f"{REMEDY}"
        )
    return [class_name for _, class_name in pairs]
