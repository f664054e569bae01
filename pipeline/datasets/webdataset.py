"""Layout `webdataset`: tar files of samples, as the library WebDataset writes and reads them.

The members of a tar file whose names are equal up to the first dot of the last part are the fields of one sample:
`0001.jpg` and `0001.cls` (https://github.com/webdataset/webdataset).
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.datasets.class_names import ClassNames
from pipeline.datasets.folders import IMAGE_EXTENSIONS, is_left_by_a_system
from pipeline.datasets.labelled import DataSet
from pipeline.datasets.shard_patterns import shards_of
from pipeline.datasets.shards import Columns, Found, Sample, data_set_of, id_in, one_by_one, written
from pipeline.datasets.tar_members import Member, members_of
from pipeline.datasets.unlabelled import NONE_EXPECTED, Unlabelled
from pipeline.images.index import SplitName
from pipeline.images.places import place_in_tar
from pipeline.images.shard_bytes import read_range
from pipeline.runtime.errors import MissingError, UnusableError, all_named, quoted
from pipeline.runtime.text_files import parsed_json

KEY_AND_FIELD = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)", re.DOTALL)
LARGEST_IMAGE = 2**31 - 1
"""Bytes; TensorFlow decodes no larger file, and to read one would take as much memory."""

LARGEST_FIELD = 2**20
"""Bytes; a larger field is no label."""

Fields = dict[str, Member]
"""The fields of a sample by name, in lower case."""


def read_webdataset(
    *,
    data: Path,
    train: Sequence[str],
    val: Sequence[str] | None,
    test: Sequence[str] | None,
    val_fraction: float | None,
    test_fraction: float | None,
    image_column: str | None = None,
    label_column: str,
    group_column: str | None = None,
    class_names: ClassNames = None,
    unlabelled: Unlabelled = NONE_EXPECTED,
) -> DataSet:
    """Reads and checks tar files: their headers, labels and groups.

    An image's id is `<shard without .tar>/<member>`, such as `train-000/0001.jpg`.

    Args:
        data: the folder of the data set; every other path is relative to it.
        train: patterns of the shards of all images that `val` and `test` do not hold (`shards_of`).
        val: those of the validation images, or None.
        test: those of the test images, or None.
        val_fraction: share of the training images to draw for validation, or None if `val` names shards.
        test_fraction: share of the images of `train` to draw for testing, or None if `test` names shards.
        image_column: the field of the image, such as `jpg`; None is a usual extension of images.
        label_column: the field of the label, such as `cls` or `txt`, or `json:KEY` for a key in a field of JSON.
        group_column: the same of the group, such as the patient; None is no group.
        class_names: names and order of the classes, as `name_classes` takes them.
        unlabelled: what happens to samples without a label.

    Returns:
        The data set, its rows sorted by id.

    Raises:
        MissingError: a shard is missing, or holds no image.
        DamagedError: a shard or a field of JSON cannot be read.
        UnusableError: a shard or a name, label or group in it cannot be used.
        MismatchError: a label has no name.
    """
    columns = Columns(image_column, label_column, group_column)
    shards = shards_of(data, {"train": train, "val": val, "test": test}, ".tar")
    found = Found()
    for split, shard in one_by_one(shards):
        _read_shard(data, shard, split, columns, found)
    if not found.samples:
        extension = "a usual extension of images" if image_column is None else f"the extension {image_column!r}"
        others = all_named([quoted([name]) for name in found.left_out]) or "they are empty"
        raise MissingError(
            f"no sample in the shards of {data} has an image: {others}. Expected members with {extension} "
            "(split.image_column); a field is what stands behind the first dot of a name. Correct it, or name other "
            "shards."
        )
    return data_set_of(
        found,
        data=data,
        columns=columns,
        shards=shards,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        class_names=class_names,
        unlabelled=unlabelled,
    )


def _read_shard(data: Path, shard: Path, split: SplitName, columns: Columns, found: Found) -> None:
    name_of_shard = shard.relative_to(data).as_posix()
    for key, fields in _samples(shard, name_of_shard, found.left_out).items():
        image = _image_of(shard, key, fields, columns.image)
        if image is None:
            field, member = next(iter(fields.items()))
            found.left_out.append(f"{name_of_shard}: {member.name} (field {field!r} of a sample without an image)")
            continue
        if image.size > LARGEST_IMAGE:
            raise UnusableError(
                f"{image.shown} in {shard} has {image.size:,} bytes, more than any image that can be decoded "
                f"({LARGEST_IMAGE:,}). Correct split.image_column, or write this shard without it."
            )
        place = place_in_tar(shard, image.offset, image.size)
        label = _text(shard, key, fields, columns.label)
        group = None if columns.group is None else _text(shard, key, fields, columns.group)
        found.samples.append(Sample(id_in(data, shard, image.name), place, split, label, group))


def _samples(shard: Path, name_of_shard: str, left_out: list[str]) -> dict[str, Fields]:
    """The fields of each sample; members that are no fields are added to `left_out`."""
    samples: dict[str, Fields] = {}
    repeated = []
    for member in members_of(shard):
        match = KEY_AND_FIELD.fullmatch(member.name)
        if match is None or not member.is_file or is_left_by_a_system(member.name.rpartition("/")[2]):
            left_out.append(f"{name_of_shard}: {member.name}{'' if member.is_file else ' (a link or no plain file)'}")
            continue
        fields = samples.setdefault(match[1], {})
        if fields.setdefault(match[2].lower(), member) is not member:
            repeated.append(member.shown)
    if repeated:
        raise UnusableError(
            f"{shard} holds {len(repeated)} member(s) more than once: {all_named(repeated)}. It cannot be told which "
            "one is meant: write this shard again."
        )
    return samples


def _image_of(shard: Path, key: str, fields: Fields, named: str | None) -> Member | None:
    images = [field for field in fields if (field == _field(named) if named else f".{field}" in IMAGE_EXTENSIONS)]
    if len(images) > 1:
        raise UnusableError(
            f"the sample {quoted([key])} of {shard} has several images: {', '.join(images)}. Name the one that "
            "is meant in split.image_column."
        )
    return fields[images[0]] if images else None


def _field(column: str) -> str:
    """A field by the name that params.yaml gives it, which may have a dot before it."""
    return column.lower().removeprefix(".")


def _text(shard: Path, key: str, fields: Fields, column: str) -> str:
    """What a field says, or a key in a field of JSON; "" if the sample lacks the field or the key."""
    name, _, json_key = column.partition(":")
    member = fields.get(_field(name))
    if member is None:
        return ""
    if member.size > LARGEST_FIELD:
        raise UnusableError(
            f"{member.shown} in {shard} has {member.size:,} bytes, too many for a label or group. Correct "
            "split.label_column or split.group_column."
        )
    content = read_range(shard, member.offset, member.size)
    try:
        value: Any = content.decode("utf-8-sig")
        if json_key:
            value = parsed_json(value).get(json_key)
    except (ValueError, AttributeError):
        raise UnusableError(
            f"{member.shown} in {shard} is not {'a JSON object' if json_key else 'text in UTF-8'}. Correct it, or "
            "name another field in split.label_column or split.group_column."
        ) from None
    text = written(value)
    if text is None:
        raise UnusableError(
            f"{member.shown} in {shard} has {type(value).__name__} under {json_key!r}; expected one text or number. "
            "Correct split.label_column or split.group_column."
        )
    return text
