"""Finds out which shards of a folder hold which split, and in which of their columns the labels are."""

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.datasets.class_folders import USUAL_NAMES
from pipeline.datasets.folders import files_below
from pipeline.datasets.tar_members import members_of
from pipeline.datasets.webdataset import KEY_AND_FIELD
from pipeline.images.parquet_rows import bytes_of
from pipeline.images.shard_bytes import read_range
from pipeline.runtime.errors import quoted
from pipeline.runtime.parquet_files import or_damaged, parquet_reader
from pipeline.runtime.text_files import parsed_json
from pipeline.tools.table_detection import GROUP_NAMES, LABEL_NAMES, TEST_FRACTION, VAL_FRACTION, Columns

SPLIT_NAMES = {"train": {"train", "training"}, **USUAL_NAMES}
LOOKED_AT = 200
"""So many members of a tar file are looked at for its fields."""

Candidate = tuple[dict[str, Any], list[str]]
"""A section `split`, and what was taken for what."""


def shard_sections(data: Path, columns: Columns, unused: list[str]) -> Iterator[Candidate]:
    """The sections `split` of the shards in a folder; `unused` gets the reason for shards that no section names.

    Raises:
        MissingError: a package is missing that reads them.
        DamagedError: the first shard cannot be read.
    """
    files = files_below(data)
    for layout, extension, columns_of in (("webdataset", ".tar", _of_tar), ("parquet", ".parquet", _of_parquet)):
        shards = [file for file in files if file.endswith(extension)]
        if not shards:
            continue
        found, known = columns_of(data / shards[0], columns)
        if found["label_column"] is None:
            unused.append(
                f"{data / shards[0]} has no label that is known by its name; it has {quoted(known, 12)}. Name it: "
                "--label-column NAME."
            )
            continue
        of_split = _by_split(shards)
        fractions = {
            "val_fraction": None if "val" in of_split else VAL_FRACTION,
            "test_fraction": None if "test" in of_split else TEST_FRACTION,
        }
        patterns = {split: of_split.get(split) for split in ("train", "val", "test")}
        kept = {key: column for key, column in found.items() if column is not None}
        notes = [f"{key.replace('_', ' ')}: {column!r}" for key, column in kept.items()]
        yield {"layout": layout, "data": str(data), **patterns, **kept, **fractions}, notes


def _by_split(shards: Sequence[str]) -> dict[str, list[str]]:
    """Patterns for the shards of each split, by the words in their names; all are for training if none says so."""
    of_split: dict[str, list[str]] = {}
    for shard in shards:
        words = re.split(r"[^a-z]+", shard.lower())
        split = next((split for split, usual in SPLIT_NAMES.items() if usual & set(words)), "")
        pattern = re.sub(r"\d+", "*", shard)
        if pattern not in of_split.setdefault(split, []):
            of_split[split].append(pattern)
    if "train" not in of_split:
        return {"train": [pattern for patterns in of_split.values() for pattern in patterns]}
    of_split.pop("", None)
    return of_split


def _of_tar(shard: Path, columns: Columns) -> tuple[dict[str, str | None], list[str]]:
    """The fields of the label and the group, and all that there are."""
    fields: list[str] = []
    described: dict[str, list[str]] = {}
    for member in islice(members_of(shard), LOOKED_AT):
        match = KEY_AND_FIELD.fullmatch(member.name)
        name = match[2].lower() if match else ""
        if name.endswith("json") and name not in described:
            described[name] = _keys(read_range(shard, member.offset, member.size))
            fields += [f"{name}:{key}" for key in described[name]]
        if name and name not in fields:
            fields.append(name)
    likely = [field for field in fields if field.rpartition(":")[2].lower() in LABEL_NAMES]
    label = next((field for field in ("cls", *likely, "txt") if field in fields), None)
    group = next((field for name in GROUP_NAMES for field in fields if field.rpartition(":")[2].lower() == name), None)
    found = {"image_column": columns.image, "label_column": columns.label or label}
    return {**found, "group_column": columns.group or group}, fields


def _keys(content: bytes) -> list[str]:
    try:
        told = parsed_json(content)
    except ValueError:
        return []
    return [str(key) for key in told] if isinstance(told, dict) else []


def _of_parquet(shard: Path, columns: Columns) -> tuple[dict[str, str | None], list[str]]:
    """The columns of the image, the label and the group, and all that there are."""
    parquet = parquet_reader(shard)
    schema = or_damaged(shard, lambda: parquet.read_schema(shard))
    empty = schema.empty_table()
    names = list(dict.fromkeys(schema.names))
    images = [name for name in names if schema.names.count(name) == 1 and bytes_of(empty.column(name)) is not None]
    label = next((name for name in names if name.lower() in LABEL_NAMES), None)
    group = next((name for usual in GROUP_NAMES for name in names if name.lower() == usual), None)
    found = {"image_column": columns.image or next(iter(images), None), "label_column": columns.label or label}
    return {**found, "group_column": columns.group or group}, names
