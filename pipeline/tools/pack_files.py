"""The files of a pack of soft labels: their names, the table of its images, and the checksums."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from pipeline.images.index import SPLITS, Image, Index, SplitName
from pipeline.runtime.csv_rows import csv_row, csv_rows, read_rows
from pipeline.runtime.digests import sha256_file
from pipeline.runtime.errors import DamagedError, MissingError, quoted
from pipeline.runtime.text_files import read_bytes

LOGITS, INDEX, CARD, CHECKSUMS = "teacher_logits.h5", "index.csv", "README.md", "checksums.sha256"
TARGETS = re.compile(r"soft_targets_T[0-9.eE+-]+(to[0-9.eE+-]+)?\.h5")
COLUMNS = ("id", "split", "label", "class_name", "sha256")
AGAIN = "Get the pack again from where it came."


def soft_label_files(folder: Path) -> list[Path]:
    """The soft-label files of a pack: that of the logits, then those of the soft labels by name."""
    names = [path for path in sorted(folder.iterdir()) if TARGETS.fullmatch(path.name) and path.is_file()]
    return [folder / LOGITS, *names]


def is_part(name: str) -> bool:
    """Whether a pack has a file of this name."""
    return name in (LOGITS, INDEX, CARD, CHECKSUMS) or TARGETS.fullmatch(name) is not None


def write_pack_index(path: Path, index: Index) -> None:
    """Writes the images as CSV: of each its id, split, label, class and the digest of its file, and nothing else."""
    labels = index.labels(index.images)
    with path.open("x", newline="", encoding="utf-8") as file:
        file.write(csv_row(COLUMNS))
        file.writelines(
            csv_rows(
                (image.id, image.split, label if image.is_labelled else "", image.class_name, image.sha256)
                for image, label in zip(index.images, labels, strict=True)
            )
        )


def read_pack_index(path: Path, class_names: Sequence[str]) -> Index:
    """Reads the table that `write_pack_index` wrote; paths and votes of its images are empty.

    Args:
        path: the table.
        class_names: the C classes in the order of the class axis, as a soft-label file names them.

    Raises:
        MissingError: there is no such file.
        DamagedError: it has other columns, or rows that are no images of these classes.
    """
    if not path.is_file():
        raise MissingError(f"there is no {path}. {AGAIN}")
    name_of = {"": "", **{str(number): name for number, name in enumerate(class_names)}}
    images, bad = list[Image](), list[list[str]]()
    for row in read_rows(path, COLUMNS, AGAIN):
        if len(row) != len(COLUMNS) or row[1] not in SPLITS or name_of.get(row[2]) != row[3]:
            bad.append(row)
        else:
            images.append(Image(row[0], "", name_of[row[2]], cast(SplitName, sys.intern(row[1])), "", row[4]))
    if bad:
        raise DamagedError(
            f"{path} has {len(bad)} row(s) that are no images of the classes, such as {quoted(bad[0], len(COLUMNS))}. "
            f"Expected one of the splits {', '.join(SPLITS)}, and the number and the name of one class. {AGAIN}"
        )
    if len({image.id for image in images}) < len(images):
        raise DamagedError(f"{path} names an image more than once. {AGAIN}")
    return Index(images, class_names)


def write_checksums(folder: Path) -> None:
    """Writes the SHA-256 of each file but the card, in the form of `sha256sum`.

    The card has fields to fill in, so it may change.
    """
    names = sorted(path.name for path in folder.iterdir() if path.name != CARD)
    lines = [f"{sha256_file(folder / name)}  {name}\n" for name in names]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8", newline="\n")


def read_checksums(path: Path) -> dict[str, str]:
    """The SHA-256 of each file, by name.

    Raises:
        MissingError: there is no such file.
        DamagedError: a line is no checksum of a file of a pack.
    """
    if not path.is_file():
        raise MissingError(f"there is no {path}, so it is no whole pack. {AGAIN}")
    lines = read_bytes(path, AGAIN).decode("utf-8", "backslashreplace").splitlines()
    parts = [re.fullmatch(r"([0-9a-f]{64})  (.+)", line) for line in lines]
    bad = [line for line, part in zip(lines, parts, strict=True) if part is None or not is_part(part[2])]
    if bad or not lines:
        shown = f"such as {quoted(bad, 1)}" if bad else "it is empty"
        raise DamagedError(f"{path} has lines that are no checksums of a pack's files: {shown}. {AGAIN}")
    return {part[2]: part[1] for part in parts if part is not None}
