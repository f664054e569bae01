"""HDF5 files that are complete, reproducible and checked: what both soft-label files have in common.

The first 512 bytes (HDF5's user block) name the SHA-256 and the length of the file, so a damaged file is
refused before the HDF5 library reads a byte of it. See `docs/format.md`.
"""

import hashlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from pipeline.artifacts import publish
from pipeline.errors import PipelineError

VERSION = 1
USER_BLOCK_BYTES = 512
LARGE_BYTES = 2**30
CLASS_NAMES = "class_names"
HEADER = re.compile(rb"softlabel sha256 ([0-9a-f]{64}) of (\d{1,18}) bytes\n")
NO_DIGEST = "is no soft-label file: it does not begin with its digest"

Column = tuple[tuple[int, ...], npt.DTypeLike]
"""Shape and dtype of a dataset."""


@contextmanager
def create(path: Path, format_name: str) -> Iterator[h5py.File]:
    """Opens a new file; it is sealed and published when the block ends well."""
    with full_disk_as_os_error(path), publish(path) as partial:
        with new_file(partial, format_name) as file:
            yield file
        seal(partial)


def new_file(path: Path, format_name: str) -> h5py.File:
    """A new, open, unsealed file with its format and version."""
    file = h5py.File(path, "x", userblock_size=USER_BLOCK_BYTES)
    file.attrs["format"] = format_name
    file.attrs["version"] = VERSION
    return file


@contextmanager
def full_disk_as_os_error(path: Path) -> Iterator[None]:
    """Turns HDF5's way to tell of a full disk into Python's."""
    try:
        yield
    except RuntimeError as error:
        if "write failed" not in str(error):
            raise
        raise OSError(f"{path} could not be written: {error}") from None


def empty_dataset(group: h5py.Group, name: str, column: Column) -> h5py.Dataset:
    """An unwritten dataset that is one run of bytes at a place that is fixed from now on.

    So the file's bytes depend neither on the order in which rows are written nor on how often the writing
    was interrupted, and a view of (V, N, ...) reads as one run.
    """
    shape, dtype = column
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_obj_track_times(False)
    plan.set_layout(h5py.h5d.CONTIGUOUS)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    kind = h5py.h5t.py_create(np.dtype(dtype), logical=True)
    h5py.h5d.create(group.id, name.encode(), kind, h5py.h5s.create_simple(shape), plan)
    return group[name]


def write_dataset(group: h5py.Group, name: str, values: npt.NDArray[Any]) -> None:
    """A dataset that holds `values`."""
    empty_dataset(group, name, (values.shape, values.dtype))[...] = values


def seal(path: Path) -> None:
    """Writes the digest and the length of a complete, closed file into its user block."""
    size = path.stat().st_size
    header = _header(_sha256_of_body(path, size), size)
    with path.open("r+b") as file:
        file.write(header)


def sealed_sha256(path: Path) -> str:
    """The digest that a sealed file names: the identity of its content.

    Raises:
        PipelineError: the file names none.
    """
    with path.open("rb") as file:
        named = HEADER.match(file.read(USER_BLOCK_BYTES))
    if named is None:
        raise PipelineError(f"{path} {NO_DIGEST}. {remedy('')}")
    return named[1].decode()


@contextmanager
def open_checked(path: Path, makers: Mapping[str, str]) -> Iterator[h5py.File]:
    """Opens a file for reading, after its digest, format and version were compared.

    Args:
        path: the file.
        makers: the formats that are expected, and the stage that makes each.

    Raises:
        PipelineError: names what is wrong and the command that mends it.
    """
    stage = "".join(makers.values()) if len(makers) == 1 else ""
    if not path.is_file():
        raise PipelineError(f"there is no file {path}. Make it with `{f'dvc repro {stage}'.strip()}`.")
    problem = damage(path)
    if problem:
        raise PipelineError(f"{path} {problem}. {remedy(stage)}")
    with ExitStack() as stack:
        try:
            file = stack.enter_context(h5py.File(path, "r"))
            found, version = str(file.attrs["format"]), int(file.attrs["version"])
        except (OSError, LookupError, TypeError, ValueError) as error:
            raise PipelineError(
                f"{path} is no HDF5 file with a format and a version: {error}. {remedy(stage)}"
            ) from None
        if found not in makers:
            expected = " or ".join(map(repr, makers))
            raise PipelineError(f"{path} is of format {found!r}, expected {expected}. {remedy(stage)}")
        if version != VERSION:
            raise PipelineError(
                f"{path} is of version {version} of the format {found!r}, and this softlabel knows version {VERSION}. "
                f"If the file is newer, update softlabel. {remedy(makers[found])}"
            )
        yield file


def remedy(stage: str) -> str:
    """How to make a file again, as a sentence; `stage` may be empty if it is not known."""
    return f"Make it again with `dvc repro{f' --single-item --force {stage}' if stage else ''}`."


def damage(path: Path) -> str | None:
    """What is wrong with a file's bytes, or None."""
    size = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(USER_BLOCK_BYTES)
    named = HEADER.match(header)
    if named is None:
        return NO_DIGEST
    if int(named[2]) != size:
        return f"is damaged: it is {size} bytes long, expected {int(named[2])}"
    if header != _header(_sha256_of_body(path, size), size):
        return "is damaged: its bytes do not match their digest"
    return None


def refuse_other_structure(group: h5py.Group, expected: Mapping[str, Column], path: Path, remedy: str) -> None:
    """Compares a group's datasets with what the file's attributes announce.

    Raises:
        PipelineError: a dataset is missing, unknown, or of another shape or dtype; says which.
    """
    if sorted(group) != sorted(expected):
        raise PipelineError(f"{path} holds {sorted(group)} in {group.name}, expected {sorted(expected)}. {remedy}")
    for name, (shape, dtype) in expected.items():
        dataset = group[name]
        if (dataset.shape, dataset.dtype) != (shape, np.dtype(dtype)):
            raise PipelineError(
                f"{path} holds {dataset.name} as {dataset.dtype} of shape {dataset.shape}, "
                f"expected {np.dtype(dtype)} of shape {shape}. {remedy}"
            )
        if dataset.chunks is not None:
            raise PipelineError(f"{path} holds {dataset.name} in chunks, expected in one run of bytes. {remedy}")


def strings(texts: Sequence[str]) -> npt.NDArray[Any]:
    """Texts as fixed-length UTF-8 strings, which HDF5 stores as plain bytes."""
    if not "".join(texts).isascii():
        texts = [text.encode().decode("latin-1") for text in texts]  # a character for each byte
    width = max(1, *map(len, texts))
    padded = "".join([text.ljust(width, "\0") for text in texts]).encode("latin-1")
    return np.frombuffer(padded, h5py.string_dtype("utf-8", width))


def texts(values: Any) -> tuple[str, ...]:
    """Fixed-length UTF-8 strings as texts."""
    return tuple(value.decode() for value in values)


def _header(sha256: str, size: int) -> bytes:
    return f"softlabel sha256 {sha256} of {size} bytes\n".encode().ljust(USER_BLOCK_BYTES, b"\0")


def _sha256_of_body(path: Path, size: int) -> str:
    """SHA-256 of everything behind the user block."""
    if size >= LARGE_BYTES:
        print(f"reading the {size / 2**30:.1f} GiB of {path.name} for their digest", file=sys.stderr, flush=True)
    with path.open("rb") as file:
        file.seek(USER_BLOCK_BYTES)
        return hashlib.file_digest(file, "sha256").hexdigest()
