"""Arrays from NumPy files (`.npz`): nothing in them is run, and each fault is told as an error.

Before an array is read, the directory of the zip file and the array's header must agree about its size, and all arrays
must fit in memory. So neither a header that lies nor a small file that unpacks to a large one takes memory.
"""

import math
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from pipeline.runtime.bounded_reads import BoundedReads
from pipeline.runtime.errors import DamagedError, UnusableError, one_line, quoted

COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""What `numpy.savez` and `numpy.savez_compressed` write."""

DIRECTORY_BYTES = 4 * 2**20
"""That of a zip file of 40,000 arrays."""

LARGEST_RATIO = 100
SMALL = 2**30
"""Bytes to which every file may unpack, in some seconds; a larger one only to so many times its size."""

MAGIC = b"\x93NUMPY"
HEADERS: dict[tuple[int, ...], Callable[..., Any]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
"""What reads the header of an array of each version; 3.0 is for names of fields, which no array here has."""


def read_npz(path: Path, *, example: str, plain: str) -> dict[str, npt.NDArray[Any]]:
    """Reads all arrays of an .npz file, which exists.

    Args:
        path: the file.
        example: the arguments of `numpy.savez` for such a file, for messages.
        plain: how to store its arrays without Python objects, for messages.

    Returns:
        The arrays by name. An element of an array takes at least one byte, so an array is no larger than its data.

    Raises:
        DamagedError: it is no .npz file, or cannot be read.
        UnusableError: it holds Python objects, or does not fit in memory.
    """
    try:
        if not (path.is_file() and zipfile.is_zipfile(path)):  # a pipe would wait for ever
            raise DamagedError(f"{path} is no .npz file. Write one with numpy.savez(file, {example}).")
        with BoundedReads(path, DIRECTORY_BYTES) as content, zipfile.ZipFile(content) as archive:
            entries = _entries(path, archive)
            return {name: _array(archive, entry) for name, entry in entries.items()}
    except (DamagedError, UnusableError):
        raise
    except _ObjectsError:
        raise UnusableError(
            f"{path} holds an array of Python objects, which could run any code when they are read. Store {plain}."
        ) from None
    except Exception as error:  # zip, compression and NumPy's header: each has errors of its own
        raise DamagedError(f"{path} cannot be read: {one_line(error)}. Write it again, it may be damaged.") from None


class _ObjectsError(Exception):
    """An array holds Python objects."""


def _entries(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The entry of each array by the array's name."""
    listed = archive.infolist()
    names = [entry.filename.removesuffix(".npy") for entry in listed]
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"it holds {quoted(repeated)} more than once")
    if other := [entry.filename for entry in listed if entry.compress_type not in COMPRESSIONS or entry.flag_bits & 1]:
        raise ValueError(f"{quoted(other)} are encrypted, or compressed in a way that numpy.savez does not know")
    size, free = sum(entry.file_size for entry in listed), psutil.virtual_memory().available
    if size > free:
        raise UnusableError(
            f"{path} holds {size / 2**30:.1f} GiB of arrays, and {free / 2**30:.1f} GiB of memory are free. "
            "Store less in it, or use a machine with more memory."
        )
    if size > max(SMALL, LARGEST_RATIO * path.stat().st_size):
        raise UnusableError(
            f"{path} would unpack to {size / 2**30:.1f} GiB, more than {LARGEST_RATIO} times its size. If its arrays "
            "are meant to be so, write them with numpy.savez, which does not compress."
        )
    return dict(zip(names, listed, strict=True))


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> npt.NDArray[Any]:
    with archive.open(entry) as content:
        magic, version = content.read(len(MAGIC)), tuple(content.read(2))
        if magic != MAGIC or version not in HEADERS:
            raise ValueError(f"{entry.filename!r} is no array, or one of another version")
        shape, _, dtype = HEADERS[version](content)
        if dtype.hasobject:
            raise _ObjectsError
        if dtype.itemsize == 0:
            raise ValueError(f"an array of type {dtype} has elements of no size")
        size = content.tell() + math.prod(shape) * dtype.itemsize
        if size != entry.file_size or min(shape, default=0) < 0:
            raise ValueError(
                f"{entry.filename!r} has {entry.file_size:,} bytes, and its header announces {dtype} of shape {shape}"
            )
    with archive.open(entry) as content:
        array = np.lib.format.read_array(content, allow_pickle=False)
        content.read(1)  # the end, at which the checksum is compared
    return np.asarray(array)
