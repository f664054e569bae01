"""Draws validation and test images, if the data do not name them.

An image is drawn by numbers from the SHA-256 of its name. They depend neither on its class nor on other images. So a
corrected label moves no image, and added images move only those that fill up a small class.

Images without a label are not drawn: they are training images, or left out if that would let a model see what it is
tested on.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pipeline.datasets.duplicates import copies, digests_of, equal_to_any
from pipeline.datasets.labelled import Annotation, DataSet, composed
from pipeline.images.index import SPLITS, SplitName
from pipeline.runtime.errors import ParameterError, UnusableError, all_named

Purpose = Literal["val", "test", "limit"]
BYTES: dict[Purpose, slice] = {"val": slice(0, 8), "test": slice(8, 16), "limit": slice(16, 24)}
"""Where each number lies in the SHA-256."""
IN_TURN: tuple[Literal["test", "val"], ...] = ("test", "val")
"""The order in which the splits are drawn."""

NEVER = 2**64
"""A number that no share reaches. Images that must stay in training get it."""


@dataclass(frozen=True)
class Drawn:
    """The split of every image that is used.

    Attributes:
        rows: the images, in the order of the data set.
        splits: the split of each image.
        filled: for each drawn split, the classes to which the share gave no image, so that they were filled up.
        enough: for each drawn split, the share, 0 to 1, above which every class that is large enough for all splits
            gets an image.
        kept: how many images stay in training because of their copies.
        copied: ids of images without a label that are left out, since they are equal to a validation or test image.
        in_groups: ids of those that are left out, since their group has validation or test images.
        unused: how many images without a label are left out, since none is used.
    """

    rows: Sequence[Annotation]
    splits: Sequence[SplitName]
    filled: Mapping[SplitName, Sequence[str]]
    enough: Mapping[SplitName, float]
    kept: int = 0
    copied: Sequence[str] = ()
    in_groups: Sequence[str] = ()
    unused: int = 0


def draw(
    data_set: DataSet,
    *,
    keep_copies_in_train: bool = False,
    limit: int | None = None,
    use_unlabelled: bool = True,
) -> Drawn:
    """Gives every image of a data set its split.

    Args:
        data_set: the images.
        keep_copies_in_train: whether equal pictures that would lie in several splits stay in training, with all
            images of their groups. This reads every file. (Images without a label are compared in any case.)
        limit: how many images are used at most; None uses all.
        use_unlabelled: whether images without a label are used. The labelled images are the same in either case.

    Raises:
        ParameterError: the limit leaves some class without an image in one of its splits.
    """
    drawn = assign_splits([row for row in data_set.rows if row.is_labelled], data_set.drawn)
    if keep_copies_in_train:
        drawn = _with_copies_in_train(data_set, drawn)
    drawn = _with_unlabelled(drawn, [row for row in data_set.rows if not row.is_labelled])
    drawn = drawn if limit is None else _limited(drawn, limit)
    return drawn if use_unlabelled else _without_unlabelled(drawn, data_set)


def number(name: str, purpose: Purpose) -> int:
    """One of the numbers by which a name is drawn, 0 to 2^64 - 1: eight bytes of its SHA-256 in NFC, big-endian."""
    return int.from_bytes(hashlib.sha256(composed(name).encode()).digest()[BYTES[purpose]], "big")


def assign_splits(
    rows: Sequence[Annotation], shares: Mapping[SplitName, float], in_train: Collection[str] = ()
) -> Drawn:
    """Draws the splits that the data do not name.

    An image that the data name a validation or test image stays one. Of the others, test images are those whose number
    for "test" lies below share * 2^64. Of the rest, validation images are those whose number for "val" does. Every
    class that has images enough for all splits is filled up: if the share gives it no image for a split, its image
    with the smallest number is taken; if the share takes all, the images with the largest numbers are left for the
    other splits. The images of a group count as one.

    Args:
        rows: the images, all with a label.
        shares: the share, 0 to 1, of each split that the data do not name.
        in_train: the units (`Annotation.unit`) that stay in training, even if the data name them otherwise.
    """
    free = {row.unit: row.name for row in rows if row.partition == "train" or row.unit in in_train}
    classes = _classes_to_fill(rows, free, len(shares) + 1)
    taken: dict[str, SplitName] = {}
    filled: dict[SplitName, list[str]] = {}
    enough: dict[SplitName, float] = {}
    for split in [name for name in IN_TURN if name in shares]:
        spared = 2 if split == "test" and "val" in shares else 1  # units that must be left for the other splits
        numbers = {
            unit: NEVER if unit in in_train else number(name, split) for unit, name in free.items() if unit not in taken
        }
        units, filled[split], enough[split] = _units_of_split(numbers, classes, shares[split], spared)
        taken |= dict.fromkeys(units, split)
        del numbers  # of millions of units, two of them take hundreds of megabytes
    splits = [taken.get(row.unit, "train") if row.unit in free else row.partition for row in rows]
    return Drawn(rows, splits, filled, enough)


def _units_of_split(
    numbers: Mapping[str, int], classes: Mapping[str, Collection[str]], share: float, spared: int
) -> tuple[set[str], list[str], float]:
    """The units of one split, by their numbers; the classes that were filled up; and the share that would be enough.

    Args:
        numbers: of the units that are in no split yet.
        classes: the units of each class.
        share: the share of the split, 0 to 1.
        spared: how many units of a class are left for the other splits.
    """
    ranked = {
        name: sorted((unit for unit in units if unit in numbers), key=numbers.__getitem__)
        for name, units in classes.items()
    }
    ranked = {name: units for name, units in ranked.items() if len(units) > spared}
    # A threshold, not a quota: with a quota, an added image would move another one across the border.
    below = {unit for unit, drawn in numbers.items() if drawn < share * 2**64}
    first = {name: units[0] for name, units in ranked.items() if numbers[units[0]] < NEVER}
    filled = [name for name in first if below.isdisjoint(ranked[name])]
    enough = max((numbers[unit] / 2**64 for unit in first.values()), default=0.0)
    stay = {unit for units in ranked.values() for unit in units[-spared:]}
    return (below | {first[name] for name in filled}) - stay, filled, enough


def _classes_to_fill(rows: Sequence[Annotation], free: Collection[str], fewest: int) -> dict[str, list[str]]:
    """The free units of each class that has at least `fewest` of them."""
    classes: dict[str, list[str]] = {}
    for row in rows:
        if row.unit in free:
            classes.setdefault(row.class_name, []).append(row.unit)
    for class_name, units in classes.items():
        classes[class_name] = [*dict.fromkeys(units)]  # a group has several images
    return {class_name: units for class_name, units in classes.items() if len(units) >= fewest}


def _with_copies_in_train(data_set: DataSet, first: Drawn) -> Drawn:
    """Draws again until no equal pictures lie in different splits. Each time, more units stay in training."""
    rows = first.rows
    same = copies(digests_of([row.image for row in rows]))
    in_train: set[str] = set()
    drawn = first
    # Repeated, because a group goes into training as a whole, which can tear other copies apart.
    while torn := {
        rows[place].unit for places in same if len({drawn.splits[place] for place in places}) > 1 for place in places
    }:
        in_train |= torn
        drawn = assign_splits(rows, data_set.drawn, in_train)
    before = zip(rows, first.splits, strict=True)
    return replace(drawn, kept=sum(row.unit in in_train and split != "train" for row, split in before))


def _with_unlabelled(drawn: Drawn, rows: Sequence[Annotation]) -> Drawn:
    """Adds images without a label to training, if no validation or test image is equal or of the same group."""
    if not rows:
        return drawn
    held_out = [row for row, split in zip(drawn.rows, drawn.splits, strict=True) if split != "train"]
    groups = {row.group for row in held_out if row.group is not None}
    in_groups = [row.id for row in rows if row.group in groups]
    others = [row for row in rows if row.group not in groups]
    are_copies = equal_to_any([row.image for row in others], [row.image for row in held_out])
    copied = [row.id for row, is_copy in zip(others, are_copies, strict=True) if is_copy]
    left_out = {*in_groups, *copied}
    pairs = [*zip(drawn.rows, drawn.splits, strict=True), *((row, "train") for row in rows if row.id not in left_out)]
    pairs.sort(key=lambda pair: pair[0].id)
    return replace(
        drawn,
        rows=[row for row, _ in pairs],
        splits=[split for _, split in pairs],
        copied=copied,
        in_groups=in_groups,
    )


def _without_unlabelled(drawn: Drawn, data_set: DataSet) -> Drawn:
    """Leaves them out at the very end, so that no limit chooses other labelled images."""
    pairs = [pair for pair in zip(drawn.rows, drawn.splits, strict=True) if pair[0].is_labelled]
    return replace(
        drawn,
        rows=[row for row, _ in pairs],
        splits=[split for _, split in pairs],
        copied=(),
        in_groups=(),
        unused=sum(not row.is_labelled for row in data_set.rows),
    )


def _limited(drawn: Drawn, limit: int) -> Drawn:
    """Takes the same share of each class in each split, at least one image.

    The images of a class in a split are ranked by their number for "limit". So a larger limit only adds images.
    """
    if limit >= len(drawn.rows):
        return drawn
    cells: dict[tuple[SplitName, str], list[tuple[int, str, int]]] = {}
    for place, (row, split) in enumerate(zip(drawn.rows, drawn.splits, strict=True)):
        cells.setdefault((split, row.class_name), []).append((number(row.own_name, "limit"), row.id, place))
    if limit < len(cells):
        raise ParameterError(
            f"split.limit is {limit}, but {len(cells)} images are needed: one of each class in each split"
            f"{' and one without a label' if ('train', '') in cells else ''}. "
            f"Set it to {len(cells)} or more, or to null for all images."
        )
    ranks = [(rank / len(cell), *entry) for cell in cells.values() for rank, entry in enumerate(sorted(cell))]
    chosen = sorted(place for *_, place in sorted(ranks)[:limit])
    return replace(
        drawn, rows=[drawn.rows[place] for place in chosen], splits=[drawn.splits[place] for place in chosen]
    )


def refuse_empty_splits(drawn: Drawn, data_set: DataSet) -> str | None:
    """Refuses a class without training or test images, and a data set without validation images.

    A single class may lack validation images, since training needs only some.

    Returns:
        A line about the classes that lack them, or None.

    Raises:
        UnusableError: a split has no image of a class.
    """
    filled = set(zip(drawn.splits, (row.class_name for row in drawn.rows), strict=True))
    empty = [f"{split}/{name}" for split in SPLITS for name in data_set.class_names if (split, name) not in filled]
    needed = [name for name in empty if not name.startswith("val/")]
    if needed:
        change = "".join(f", or change split.{split}_fraction" for split in data_set.drawn)
        raise UnusableError(
            f"{len(needed)} split(s) would have no image of a class: {all_named(needed)}. "
            f"Every class needs training and test images: add images{change}.{_what_is_enough(drawn, data_set)}"
        )
    remedy = "Raise split.val_fraction, or add training images" if "val" in data_set.drawn else "Add some to the data"
    if "val" not in drawn.splits:
        raise UnusableError(f"no image would be a validation image. {remedy}.")
    return f"{len(empty)} class(es) have no validation image: {all_named(empty)}. {remedy}." if empty else None


def _what_is_enough(drawn: Drawn, data_set: DataSet) -> str:
    """How many images a class needs for one in each split, and whether copies have been moved to training."""
    units = "groups" if data_set.is_grouped else "images"
    splits = len(data_set.drawn) + 1
    text = f" A class with {splits} {units} whose split the data do not name gets one in each." if splits > 1 else ""
    if drawn.kept:
        text += f" split.duplicates: keep_in_train has put {drawn.kept} image(s) into training; remove their copies."
    return text
