"""Arrays from a NumPy file (`.npz`) of another program: nothing in it is run, and each fault is told as an error."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from pipeline.runtime.errors import DamagedError, UnusableError, one_line


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
    if not zipfile.is_zipfile(path):
        raise DamagedError(f"{path} is no .npz file. Write one with numpy.savez(file, {example}).")
    try:
        _refuse_more_than_memory(path)
        # Opened here, because np.load leaves a damaged file open.
        with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
            if repeated := sorted({name for name in file.files if file.files.count(name) > 1}):
                raise ValueError(f"it holds {', '.join(repeated)} more than once")
            return {name: _with_elements(np.asarray(file[name])) for name in file.files}
    except UnusableError:
        raise
    except Exception as error:  # zip, four ways of compression and NumPy's header: each has errors of its own
        if "Object arrays" in str(error):
            raise UnusableError(
                f"{path} holds an array of Python objects, which could run any code when they are read. Store {plain}."
            ) from None
        raise DamagedError(f"{path} cannot be read: {one_line(error)}. Write it again, it may be damaged.") from None


def _refuse_more_than_memory(path: Path) -> None:
    """A small file may unpack to far more than its size."""
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    free = psutil.virtual_memory().available
    if size > free:
        raise UnusableError(
            f"{path} holds {size / 2**30:.1f} GiB of arrays, and {free / 2**30:.1f} GiB of memory are free. "
            "Store less in it, or use a machine with more memory."
        )


def _with_elements(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if array.dtype.itemsize == 0:
        raise ValueError(f"an array of type {array.dtype} has elements of no size")
    return array
