"""HDF5 files that are complete, reproducible and checked: what both soft-label formats have in common.

The last 128 bytes of a file are its seal: they name the SHA-256 and the length of all bytes before them. So a damaged
file is refused before the HDF5 library, which a flipped bit can crash, reads it. The HDF5 content ends before the seal,
and its superblock names that end. See `docs/format.md`.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, cast

import h5py
import numpy as np
import numpy.typing as npt

from pipeline.runtime.disk_errors import named
from pipeline.runtime.errors import DamagedError, MissingError, one_line, quoted, shortened
from pipeline.runtime.progress import Progress
from pipeline.runtime.publish import publish

VERSION = 2
CLASS_NAMES = "class_names"
SEAL_BYTES = 128
SEAL = re.compile(rb"softlabel sha256 ([0-9a-f]{64}) of (\d{1,18}) bytes\n\Z")
NO_DIGEST = "is damaged, or no soft-label file: it does not end with its digest"
BEGIN_OF_VERSION_1 = b"softlabel sha256 "
OF_VERSION_1 = f"is of version 1, which has its digest at the beginning; expected version {VERSION}"
BLOCK_BYTES = 2**20

FormatName = Literal["teacher-logits", "soft-targets"]

Column = tuple[tuple[int, ...], npt.DTypeLike]
"""Shape and dtype of a dataset."""


@contextmanager
def create(path: Path, format_name: FormatName) -> Iterator[h5py.File]:
    """Opens a new file, which is sealed and published if the block raises nothing."""
    with full_disk_as_os_error(path), publish(path) as partial:
        with new_file(partial, format_name) as file:
            yield file
        seal(partial)


def new_file(path: Path, format_name: FormatName) -> h5py.File:
    """A new file, open and unsealed, with its format and version."""
    file = h5py.File(path, "x")
    file.attrs["format"] = format_name
    file.attrs["version"] = VERSION
    return file


@contextmanager
def full_disk_as_os_error(path: Path) -> Iterator[None]:
    """Turns the RuntimeError that h5py raises if the disk is full into an OSError."""
    try:
        yield
    except RuntimeError as error:
        if "write failed" not in str(error):
            raise
        raise OSError(f"{path} could not be written: {error}") from None


def empty_dataset(group: h5py.Group, name: str, column: Column) -> h5py.Dataset:
    """An unwritten dataset: one run of bytes, whose place in the file is fixed from now on.

    So the file's bytes depend neither on the order in which rows are written nor on interruptions, and one view of a
    dataset (V, N, ...) is one run of bytes as well.
    """
    shape, dtype = column
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_obj_track_times(False)  # a time would make the bytes of each run differ
    plan.set_layout(h5py.h5d.CONTIGUOUS)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)  # zeros would be written, then overwritten
    kind = h5py.h5t.py_create(np.dtype(dtype), logical=True)
    h5py.h5d.create(group.id, name.encode(), kind, h5py.h5s.create_simple(shape), plan)
    return group[name]


def write_dataset(group: h5py.Group, name: str, values: npt.NDArray[Any]) -> None:
    """A dataset that holds `values`."""
    empty_dataset(group, name, (values.shape, values.dtype))[...] = values


def seal(path: Path) -> None:
    """Writes the digest and the length of a complete, closed file at its end."""
    with path.open("r+b") as file:
        end = int.from_bytes(file.read(48)[40:], "little")  # HDF5's own end, as its superblock (version 0) names it
        file.truncate(end)  # removes a seal that an interrupted run has written, or begun
        file.seek(end)
        file.write(_seal_of(_sha256_of_first(path, end), end))


def sealed_sha256(path: Path) -> str:
    """The digest in a file's seal, which identifies its content.

    Raises:
        DamagedError: the file has no seal.
    """
    sealed = SEAL.search(_last_bytes(path))
    if sealed is None:
        raise DamagedError(f"{path} {NO_DIGEST}. {remedy('')}")
    return sealed[1].decode()


def digest_if_sound(path: Path, makers: Mapping[FormatName, str]) -> str:
    """The digest of a file's content, which is compared with its seal.

    Args:
        path: the file.
        makers: the formats that are expected, and the stage that makes files of each.

    Raises:
        MissingError: there is no such file.
        DamagedError: its bytes are not those that were sealed.
    """
    if not path.is_file():
        raise MissingError(f"there is no file {path}. Make it with `{f'dvc repro {_only(makers)}'.strip()}`.")
    if problem := damage(path):
        raise DamagedError(f"{path} {problem}. {remedy(_only(makers))}")
    return sealed_sha256(path)


@contextmanager
def opened(path: Path, makers: Mapping[FormatName, str]) -> Iterator[h5py.File]:
    """Opens a file whose digest was compared, and compares its format and version.

    Args:
        path: the file.
        makers: as for `digest_if_sound`.

    Raises:
        DamagedError: it is of another format or version, or no HDF5 file.
    """
    stage = _only(makers)
    with ExitStack() as stack:
        try:
            file = stack.enter_context(h5py.File(path, "r"))
            format_name, version = cast(FormatName, str(file.attrs["format"])), int(file.attrs["version"])
        except (OSError, LookupError, TypeError, ValueError) as error:
            raise DamagedError(
                f"{path} is no HDF5 file with a format and a version: {one_line(error)}. {remedy(stage)}"
            ) from None
        if format_name not in makers:
            expected = " or ".join(map(repr, makers))
            raise DamagedError(
                f"{path} is of format {shortened(repr(format_name), 60)}, expected {expected}. {remedy(stage)}"
            )
        if version != VERSION:
            raise DamagedError(
                f"{path} is of version {version} of the format {format_name!r}, expected version {VERSION}. "
                f"If the file is newer, update softlabel. {remedy(makers[format_name])}"
            )
        yield file


def _only(makers: Mapping[FormatName, str]) -> str:
    """The stage that makes the file; empty if several might."""
    return "".join(makers.values()) if len(makers) == 1 else ""


def remedy(stage: str) -> str:
    """How to make a file again, as a sentence; `stage` is empty if it is not known."""
    return f"Make it again with `dvc repro{f' --single-item --force {stage}' if stage else ''}`."


def damage(path: Path) -> str | None:
    """What is wrong with a file's bytes, in words; None if nothing is."""
    last = _last_bytes(path)
    sealed = SEAL.search(last)
    if sealed is None:
        with path.open("rb") as file:
            is_older = file.read(len(BEGIN_OF_VERSION_1)) == BEGIN_OF_VERSION_1
        return OF_VERSION_1 if is_older else NO_DIGEST
    length, expected = path.stat().st_size - SEAL_BYTES, int(sealed[2])
    if length != expected:
        return f"is damaged: {length} bytes lie before its digest, expected {expected}"
    if last != _seal_of(_sha256_of_first(path, length), length):
        return "is damaged: its bytes do not match their digest"
    return None


def refuse_elsewhere(file: h5py.File) -> None:
    """Refuses a file of which a part lies elsewhere: in another file, behind a link, or nowhere.

    Two levels are looked at, as many as the formats have; nothing is followed.

    Raises:
        ValueError: it has such a part; the text begins with its name.
    """
    top = _members(file)
    end = file.id.get_filesize()
    for item in (*top, *(below for group in top if isinstance(group, h5py.Group) for below in _members(group))):
        if isinstance(item, h5py.Dataset):
            start = item.id.get_offset()  # none of chunks, and of data that lie in other datasets or files
            if start is None or start + item.nbytes > end:
                raise ValueError(f"{shortened(item.name, 60)} does not lie in one run of the file's bytes")


def _members(group: h5py.Group) -> list[Any]:
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{shortened(name, 60)} is a link to another place or file")
    return [*group.values()]


def refuse_other_structure(group: h5py.Group, expected: Mapping[str, Column], path: Path, remedy: str) -> None:
    """Compares a group's datasets with those that the file's attributes announce.

    Raises:
        DamagedError: a dataset is missing, unknown, or of another shape or dtype.
    """
    if sorted(group) != sorted(expected):
        held = quoted(sorted(group), 12)
        raise DamagedError(f"{path} holds [{held}] in {group.name}, expected {sorted(expected)}. {remedy}")
    for name, (shape, dtype) in expected.items():
        dataset = group[name]
        if (dataset.shape, dataset.dtype) != (shape, np.dtype(dtype)):
            raise DamagedError(
                f"{path} holds {dataset.name} as {one_line(dataset.dtype)} of shape {dataset.shape}, "
                f"expected {np.dtype(dtype)} of shape {shape}. {remedy}"
            )


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


def _seal_of(sha256: str, length: int) -> bytes:
    """The seal: line feeds, then the line that ends the file."""
    return f"softlabel sha256 {sha256} of {length} bytes\n".encode().rjust(SEAL_BYTES, b"\n")


def _last_bytes(path: Path) -> bytes:
    with named(path), path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - SEAL_BYTES))
        return file.read()


def _sha256_of_first(path: Path, length: int) -> str:
    """SHA-256 of the first `length` bytes."""
    digest = hashlib.sha256()
    shown = Progress(f"digest of {path.name}", length >> 20, "MiB", short_is_silent=True)
    with named(path), path.open("rb", buffering=0) as file, shown as progress:
        for start in range(0, length, BLOCK_BYTES):
            block = file.read(min(BLOCK_BYTES, length - start))
            digest.update(block)
            progress.advance(len(block) >> 20)
    return digest.hexdigest()
