"""Where an image lies: in a file of its own, or inside of a shard, which is read in place. Needs no TensorFlow.

A place is a text. That of a file is its path. That of an image in a shard is `<shard>//bytes=<offset>+<length>` (a tar
file) or `<shard>//row=<row>` (a Parquet file, with `&column=<name>` for another column than `image`). A normalised path
holds no `//` behind its start, so no place can mean both.
"""

import hashlib
import re
import stat
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.images.parquet_rows import read_row
from pipeline.images.shard_bytes import read_range
from pipeline.runtime.digests import sha256_file
from pipeline.runtime.disk_errors import named
from pipeline.runtime.errors import MissingError, UnusableError
from pipeline.runtime.limits import limits, raised_by

IMAGE_COLUMN = "image"
"""The column of a Parquet file that a place need not name."""

IN_SHARD = re.compile(
    r"(?P<file>.+?)//"
    r"(?:bytes=(?P<offset>\d{1,18})\+(?P<length>\d{1,18})|row=(?P<row>\d{1,18})(?:&column=(?P<column>.+))?)",
    re.S,
)


def place_in_tar(shard: Path, offset: int, length: int) -> str:
    """The place of an image that takes `length` bytes from byte `offset` of a tar file."""
    return f"{shard.as_posix()}//bytes={offset}+{length}"


def place_in_parquet(shard: Path, row: int, column: str = IMAGE_COLUMN) -> str:
    """The place of an image in a row, counted from 0, of a Parquet file."""
    return f"{shard.as_posix()}//row={row}" + (f"&column={column}" if column != IMAGE_COLUMN else "")


def is_in_shard(place: str | Path) -> bool:
    """Whether an image lies inside of a shard."""
    return _in_shard(place) is not None


def file_of(place: str | Path) -> Path:
    """The file or shard that holds the image."""
    found = _in_shard(place)
    return Path(place) if found is None else Path(found["file"])


def read_bytes(place: str | Path) -> bytes:
    """The bytes of an image file, wherever it lies.

    Raises:
        MissingError: there is no such file or shard, or the package is missing that reads it.
        DamagedError: the shard has no such bytes or row; the message names the shard.
        UnusableError: the image has more bytes than an image may have.
    """
    found = _in_shard(place)
    try:
        if found is None:
            return whole_file(Path(place))
        _refuse_larger(int(found["length"] or 0), place)
        if found["row"] is None:
            return read_range(Path(found["file"]), int(found["offset"]), int(found["length"]))
        return read_row(Path(found["file"]), found["column"] or IMAGE_COLUMN, int(found["row"]))
    except FileNotFoundError:
        raise MissingError(
            f"there is no file {file_of(place)}, which holds an image. Put it back, or remove its row from the data."
        ) from None


def whole_file(path: Path) -> bytes:
    """The bytes of an image in a file of its own.

    Raises:
        OSError: it cannot be read.
        UnusableError: it has more bytes than an image may have, or is a pipe or a device, which may never end.
    """
    told = path.stat()
    if not stat.S_ISREG(told.st_mode) and not stat.S_ISDIR(told.st_mode):
        raise UnusableError(f"{path} is no file but a pipe or a device. Replace it by a file.")
    _refuse_larger(told.st_size, path)
    with named(path):
        return path.read_bytes()


def _refuse_larger(size: int, place: str | Path) -> None:
    most = limits().image_bytes
    if size > most:
        raise UnusableError(
            f"{place} has {size:,} bytes, more than the {most:,} that an image may have. {raised_by('image_bytes')}"
        )


def sha256_of(place: str | Path) -> str:
    """SHA-256 of the bytes of an image file, wherever it lies, as 64 hexadecimal digits; raises as `read_bytes`."""
    return hashlib.sha256(read_bytes(place)).hexdigest() if is_in_shard(place) else sha256_file(Path(place))


def size_of(place: str | Path) -> int | None:
    """The number of bytes of an image file; None where it must be read to know that.

    Raises:
        FileNotFoundError: there is no such file.
    """
    found = _in_shard(place)
    if found is None:
        return Path(place).stat().st_size
    return int(found["length"]) if found["row"] is None else None


def reading_order(places: Iterable[str | Path | Any]) -> npt.NDArray[np.int64]:
    """The numbers of N images in an order in which each shard is read once, from its start to its end: (N,).

    Images in files, and arrays of pixels, stay in their order.
    """
    files, positions, number_of = array("q"), array("q"), {"": 0}
    for number, place in enumerate(places):
        found = _in_shard(place)
        file, position = ("", number) if found is None else (found["file"], int(found["row"] or found["offset"]))
        files.append(number_of.setdefault(file, len(number_of)))
        positions.append(position)
    rank = np.argsort(sorted(range(len(number_of)), key=[*number_of].__getitem__))
    return np.lexsort([positions, rank[np.asarray(files)]])


def _in_shard(place: Any) -> re.Match[str] | None:
    return IN_SHARD.fullmatch(place) if isinstance(place, str) and "//" in place else None  # mostly a plain path
