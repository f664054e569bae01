"""HDF5 files that are complete, reproducible and checked: what both soft-label files have in common.

One group a split, a digest on each group and on the file; see `docs/format.md`.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from pipeline.artifacts import publish
from pipeline.errors import PipelineError
from pipeline.index import SPLITS

VERSION = 1
CHUNK_BYTES = 2**20
DIGEST = "sha256"
CLASS_NAMES = "class_names"
DAMAGE = (OSError, RuntimeError, LookupError, TypeError, AttributeError, ValueError)
"""What h5py raises on damaged files."""


@contextmanager
def open_checked(path: Path, expected_format: str, stage: str) -> Iterator[h5py.File]:
    """Opens a file for reading, after its format and every digest were compared.

    Args:
        path: the file.
        expected_format: as `create` was told.
        stage: which makes it, for messages.

    Raises:
        PipelineError: names what is wrong and the command that mends it.
    """
    if not path.is_file():
        raise PipelineError(f"there is no file {path}. Make it with `dvc repro {stage}`.")
    try:
        with h5py.File(path, "r") as file:
            problem = _problem(file, expected_format)
    except DAMAGE as error:
        problem = f"is damaged or no HDF5 file: {error}"
    if problem:
        raise PipelineError(f"{path} {problem}. Make it again with `dvc repro --single-item --force {stage}`.")
    with h5py.File(path, "r") as file:
        yield file


def _problem(file: h5py.File, expected_format: str) -> str | None:
    """What is wrong with an open file, or None."""
    found = file.attrs.get("format"), file.attrs.get("version")
    if found != (expected_format, VERSION):
        return f"is of format {found[0]!r}, version {found[1]}; expected {expected_format!r}, version {VERSION}"
    if sorted(file) != sorted([CLASS_NAMES, *SPLITS]):
        return f"is damaged: it holds {sorted(file)}, expected {sorted([CLASS_NAMES, *SPLITS])}"
    for name in SPLITS:
        if file[name].attrs.get(DIGEST) != _group_digest(file[name]):
            return f"is damaged: /{name} does not match its digest"
    if file.attrs.get(DIGEST) != _file_digest(file):
        return "is damaged: its attributes do not match their digest"
    return None


@contextmanager
def create(path: Path, format_name: str) -> Iterator[h5py.File]:
    """Opens a new file; it gets its digest and is published when the block ends well."""
    try:
        with publish(path) as partial, h5py.File(partial, "x") as file:
            file.attrs["format"] = format_name
            file.attrs["version"] = VERSION
            yield file
            file.attrs[DIGEST] = _file_digest(file)
    except RuntimeError as error:
        if "write failed" not in str(error):
            raise
        raise OSError(f"{path} could not be written: {error}") from None  # HDF5's way to tell of a full disk


def empty_dataset(group: h5py.Group, name: str, shape: tuple[int, ...], dtype: Any) -> h5py.Dataset:
    """An unwritten dataset whose chunks lie along the row axis, so that a view reads as one slab."""
    row_bytes = np.dtype(dtype).itemsize * (shape[-1] if len(shape) > 1 else 1)
    rows_axis = 1 if len(shape) == 3 else 0
    rows = max(1, min(shape[rows_axis], CHUNK_BYTES // row_bytes))
    chunks = {1: (rows,), 2: (rows, shape[-1]), 3: (1, rows, shape[-1])}[len(shape)]
    fill = np.nan if np.issubdtype(dtype, np.floating) else None
    return group.create_dataset(name, shape, dtype, chunks=chunks, fletcher32=True, fillvalue=fill)


def write_dataset(group: h5py.Group, name: str, values: npt.NDArray[Any]) -> None:
    """A dataset that holds `values`."""
    empty_dataset(group, name, values.shape, values.dtype)[...] = values


def slabs(dataset: h5py.Dataset) -> Iterator[tuple[int, slice]]:
    """Steps through (V, N, C) a chunk at a time, in the order of the bytes."""
    views, count = dataset.shape[:2]
    rows = dataset.chunks[1]
    for view in range(views):
        for start in range(0, count, rows):
            yield view, slice(start, min(start + rows, count))


def seal(group: h5py.Group) -> None:
    """Puts its digest on a group whose datasets are complete."""
    group.attrs[DIGEST] = _group_digest(group)


def _group_digest(group: h5py.Group) -> str:
    """SHA-256 over name, dtype, shape and bytes of each dataset, in the order of the names."""
    digest = hashlib.sha256()
    for name, dataset in sorted(group.items()):
        digest.update(f"{name} {dataset.dtype.str} {dataset.shape}\0".encode())
        if dataset.ndim == 3:
            for slab in slabs(dataset):
                digest.update(dataset[slab].tobytes())
        else:
            digest.update(dataset[:].tobytes())
    return digest.hexdigest()


def _file_digest(file: h5py.File) -> str:
    """SHA-256 over the other root attributes and the groups' digests, as JSON: names the file's content."""
    content = {name: _plain(value) for name, value in file.attrs.items() if name != DIGEST}
    content |= {f"/{name}": file[name].attrs[DIGEST] for name in SPLITS if name in file}
    content[f"/{CLASS_NAMES}"] = list(texts(file[CLASS_NAMES][:]))
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """An attribute's value as JSON knows it: text, a number, or a list of them."""
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.decode() if isinstance(value, bytes) else value


def strings(texts: Sequence[str]) -> npt.NDArray[Any]:
    """Texts as fixed-length UTF-8 strings, which HDF5 stores as plain bytes."""
    encoded = [text.encode() for text in texts]
    return np.array(encoded, h5py.string_dtype("utf-8", max(map(len, encoded))))


def texts(values: Any) -> tuple[str, ...]:
    """Fixed-length UTF-8 strings as texts."""
    return tuple(value.decode() for value in values)
