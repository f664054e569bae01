"""What the layouts of shards share: how the images of shards become rows.

An image in a shard is never copied or unpacked: its row names its place (`images.places`).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from pipeline.datasets.class_names import ClassNames, labels_in, name_classes, whole_number
from pipeline.datasets.folders import files_below
from pipeline.datasets.groups import grouped
from pipeline.datasets.labelled import (
    Annotation,
    DataSet,
    composed,
    ids_of,
    shares_to_draw,
)
from pipeline.datasets.table_labels import is_missing
from pipeline.datasets.unlabelled import IF_MEANT, Unlabelled, refuse_outside_training, used
from pipeline.images.index import NO_LABEL, SplitName
from pipeline.runtime.errors import UnusableError, all_named, quoted
from pipeline.runtime.plain_names import is_plain_name
from pipeline.runtime.progress import Progress


class Sample(NamedTuple):
    """An image of a shard, as its shard states it.

    Attributes:
        id: the name of its shard, without the extension, and its name or row there.
        place: where it lies (`images.places`).
        split: the split that holds its shard.
        label: its label; "" without one.
        group: what it has in common with others of its group, or None where no column states that.
    """

    id: str
    place: str
    split: SplitName
    label: str
    group: str | None


@dataclass
class Found:
    """What the shards of a data set hold.

    Attributes:
        samples: the images.
        class_names: the names of the labels 0, 1, ..., if the shards state them.
        left_out: what is no image, by name.
        hints: lines that tell the user more.
    """

    samples: list[Sample] = field(default_factory=list)
    class_names: list[str] | None = None
    left_out: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)


class Columns(NamedTuple):
    """The columns, or fields, in which the shards of a data set state something.

    Attributes:
        image: of the image.
        label: of the label.
        group: of the group, or None.
    """

    image: str | None
    label: str
    group: str | None


def one_by_one(shards: Mapping[SplitName, Sequence[Path]]) -> Iterator[tuple[SplitName, Path]]:
    """Each shard with its split; a bar shows how many have been read."""
    with Progress("read", sum(map(len, shards.values())), "shards", short_is_silent=True) as progress:
        for split, of_split in shards.items():
            for shard in of_split:
                yield split, shard
                progress.advance(1)


def id_in(data: Path, shard: Path, name: str) -> str:
    """The id of an image: the shard's path in `data`, without the extension, and the image's name in it."""
    return f"{shard.relative_to(data).with_suffix('').as_posix()}/{name}"


def written(value: object) -> str | None:
    """The text of a label or group that JSON or Parquet gives; "" for none, None for a value that cannot be one.

    A whole number has one text, whether it is written 7, 7.0 or "7".
    """
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        return str(value).lower() if isinstance(value, bool) else None
    text = composed(f"{value:f}" if isinstance(value, Decimal) else str(value).strip())
    number = whole_number(text)
    return text if number is None else str(number)


def data_set_of(
    found: Found,
    *,
    data: Path,
    columns: Columns,
    shards: Mapping[SplitName, Sequence[Path]],
    val_fraction: float | None,
    test_fraction: float | None,
    class_names: ClassNames,
    unlabelled: Unlabelled,
) -> DataSet:
    """The data set of the images of some shards.

    Args:
        found: what the shards hold; its samples are taken out.
        data: the folder of the data set.
        columns: the columns that were read.
        shards: the shards of each split.
        val_fraction: share of the training images to draw for validation, or None if shards hold them.
        test_fraction: share of the training images to draw for testing, or None if shards hold them.
        class_names: as `name_classes` takes them; None takes the names that the shards state.
        unlabelled: what happens to images without a label.

    Raises:
        UnusableError: a name, a label or a group cannot be used, or two images have one id.
        MissingError, DamagedError, MismatchError: as `name_classes`.
    """
    names = found.class_names if class_names is None else class_names
    known = labels_in(data, names)
    ids = _ids(found.samples, data)
    labels = ["" if _says_nothing(sample.label, known) else sample.label for sample in found.samples]
    if class_names is not None and _are_meant_by_name(known, found.class_names or []):
        labels = [_stated_name(label, found.class_names or []) for label in labels]
    _refuse_unlabelled(found.samples, labels, columns.label, data, unlabelled)
    classes, order = name_classes(
        [label for label in labels if label], names, data=data, source=data, place=f"the column {columns.label!r}"
    )
    in_turn = iter(classes)
    rows = [
        Annotation(image_id, next(in_turn) if label else "", sample.split, None, sample.place)
        for image_id, sample, label in zip(ids, found.samples, labels, strict=True)
    ]
    groups = [] if columns.group is None else [sample.group or "" for sample in found.samples]
    found.samples.clear()  # millions of them would take as much memory again
    if columns.group is not None:
        rows = grouped(rows, groups, data, columns.group)
    refuse_outside_training(rows, data)
    kept, hints = used(rows, unlabelled)
    return DataSet(
        source=data,
        rows=sorted(kept, key=lambda row: row.id),
        drawn=shares_to_draw(val_fraction, test_fraction),
        left_out=[*found.left_out, *_other_files(data, shards, class_names)],
        because=f"they are no shards that params.yaml names, or no images in shards, in {data}",
        class_names=order,
        hints=[*hints, *found.hints],
    )


def _says_nothing(label: str, known: Sequence[str]) -> bool:
    return is_missing(label, known) or (label == str(NO_LABEL) and label not in known)


def _are_meant_by_name(known: Sequence[str], stated: Sequence[str]) -> bool:
    """Whether names in params.yaml are meant for the classes that the shards state, and not for their numbers.

    They are if all are stated, or one is for another number: the same name must not come to mean other images.
    """
    numbers = {composed(name): number for number, name in enumerate(stated)}
    return numbers.keys() >= {*known} or any(numbers.get(name, number) != number for number, name in enumerate(known))


def _stated_name(label: str, stated: Sequence[str]) -> str:
    number = whole_number(label)
    return label if number is None or not 0 <= number < len(stated) else composed(stated[number])


def _ids(samples: Sequence[Sample], data: Path) -> list[str]:
    ids = ids_of([sample.id for sample in samples])
    bad = [image_id for image_id in ids if not all(map(is_plain_name, image_id.split("/")))]
    if bad:
        raise UnusableError(
            f"{len(bad)} image(s) in shards of {data} have a name that cannot be used: {quoted(bad)}. Expected "
            "relative names without '..', '\\', control characters and formulas of spreadsheets. Write these "
            "shards again."
        )
    repeated = [image_id for image_id, count in Counter(ids).items() if count > 1]
    if repeated:
        raise UnusableError(
            f"{len(repeated)} name(s) belong to more than one image in the shards of {data}: {all_named(repeated)}. "
            "Give every image a name of its own."
        )
    return ids


def _refuse_unlabelled(
    samples: Sequence[Sample], labels: Sequence[str], column: str, data: Path, unlabelled: Unlabelled
) -> None:
    empty = [sample.id for sample, label in zip(samples, labels, strict=True) if not label]
    if empty and (unlabelled.rows is None or len(empty) == len(labels)):
        raise UnusableError(
            f"{len(empty)} of {len(labels)} images in shards of {data} have no label in {column!r} "
            f"(split.label_column): {all_named(empty)}. Correct split.label_column, or write their labels."
            + (f" {IF_MEANT}" if unlabelled.rows is None else "")
        )


def _other_files(data: Path, shards: Mapping[SplitName, Sequence[Path]], class_names: ClassNames) -> list[str]:
    taken = {shard for of_split in shards.values() for shard in of_split}
    if isinstance(class_names, Path):
        taken.add(data / class_names)
    return [file for file in files_below(data) if data / file not in taken]
