"""The two soft-label files, as `docs/format.md` lays them down. Needs h5py and NumPy only.

`teacher_logits.h5` keeps what the teacher said of every view of every image; `soft_targets_T<T>.h5` keeps
the probabilities softened at one temperature beside the one-hot labels.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from pipeline.artifacts import publish
from pipeline.errors import PipelineError
from pipeline.index import SPLITS

LOGITS_FORMAT = "teacher-logits"
TARGETS_FORMAT = "soft-targets"
VERSION = 1
CHUNK_BYTES = 2**20
DIGEST = "sha256"
DAMAGE = (OSError, RuntimeError, LookupError, TypeError, AttributeError, ValueError)
"""What h5py raises on damaged files."""


@dataclass(frozen=True)
class Provenance:
    """What made a `teacher_logits.h5`.

    Attributes:
        class_names: C names, in the order of the class axis.
        teacher: name of the teacher's architecture.
        teacher_sha256: SHA-256 of the teacher's weights (`models.weights_sha256`).
        dataset: fingerprint of the images and labels (`Index.fingerprint`).
        preprocessing: how an image file becomes the teacher's input; JSON-serialisable.
        views: how the views were drawn; JSON-serialisable.
    """

    class_names: tuple[str, ...]
    teacher: str
    teacher_sha256: str
    dataset: str
    preprocessing: dict[str, Any]
    views: dict[str, Any]


@dataclass(frozen=True)
class SoftTargets:
    """One split of a `soft_targets_T<T>.h5`.

    Attributes:
        temperature: T.
        dataset: fingerprint of the images and labels.
        class_names: C names, in the order of the class axis.
        ids: N image ids.
        hard: (N, C) uint8, one-hot labels.
        soft: (V, N, C) float32, softmax(teacher logits / T) of each view.
    """

    temperature: float
    dataset: str
    class_names: tuple[str, ...]
    ids: tuple[str, ...]
    hard: npt.NDArray[np.uint8]
    soft: npt.NDArray[np.float32]


@contextmanager
def create_logits(path: Path, provenance: Provenance) -> Iterator[h5py.File]:
    """Opens a new `teacher_logits.h5` for `add_split`; it is published when the block ends well."""
    with _create(path, LOGITS_FORMAT) as file:
        attributes = asdict(provenance)
        file.attrs["class_names"] = _strings(attributes.pop("class_names"))
        for name, value in attributes.items():
            file.attrs[name] = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        file.attrs["storage"] = "dense"
        file.attrs["dtype"] = "float32"
        yield file


def add_split(
    file: h5py.File,
    split: str,
    ids: Sequence[str],
    labels: Sequence[int],
    affines: npt.NDArray[np.float16],
    blocks: Iterator[npt.NDArray[np.float32]],
) -> None:
    """Writes one split's rows as the teacher computes them; memory stays flat in N.

    Args:
        file: of `create_logits`.
        split: "train", "val" or "test".
        ids: N image ids.
        labels: N class indices.
        affines: (V, N, 6) float16, the transform of each view.
        blocks: for each view in turn, consecutive blocks (B, C) of its N rows.
    """
    views, count, classes = affines.shape[0], len(ids), len(file.attrs["class_names"])
    if len(labels) != count or affines.shape != (views, count, 6):
        raise ValueError(f"{count} ids, but {len(labels)} labels and transforms of shape {affines.shape}")
    group = file.create_group(split)
    _write(group, "id", _strings(ids))
    _write(group, "label", np.asarray(labels, np.int32))
    _write(group, "affine", affines)
    logits = _empty(group, "logits", (views, count, classes), np.float32)
    view = row = 0
    for block in blocks:
        if block.shape[1] != classes:
            raise ValueError(f"{block.shape[1]} logits for {classes} classes")
        logits[view, row : row + len(block)] = block
        row += len(block)
        if row == count:
            view, row = view + 1, 0
    if (view, row) != (views, 0):
        raise ValueError(f"expected {views} views of {count} rows, got {view} and {row} rows more")
    _seal(group)


def soften_file(logits_path: Path, targets_path: Path, temperature: float) -> None:
    """Writes `soft_targets_T<T>.h5` from `teacher_logits.h5`, a block of rows at a time.

    Raises:
        PipelineError: the logits file is missing, of another format, or damaged.
    """
    with open_verified(logits_path, LOGITS_FORMAT) as source, _create(targets_path, TARGETS_FORMAT) as target:
        target.attrs["temperature"] = float(temperature)
        target.attrs["logits"] = source.attrs[DIGEST]
        target.attrs["dataset"] = source.attrs["dataset"]
        target.attrs["class_names"] = source.attrs["class_names"]
        for split in source:
            group, logits = target.create_group(split), source[split]["logits"]
            _write(group, "id", source[split]["id"][:])
            one_hot = np.eye(logits.shape[2], dtype=np.uint8)[source[split]["label"][:]]
            _write(group, "hard", one_hot)
            soft = _empty(group, "soft", logits.shape, np.float32)
            for view, rows in _slabs(logits):
                soft[view, rows] = softmax(logits[view, rows], temperature)
            _seal(group)


def softmax(logits: npt.NDArray[Any], temperature: float) -> npt.NDArray[np.float32]:
    """softmax(v / T) along the last axis, computed in float64, rounded once to float32."""
    scaled = np.asarray(logits, np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), np.float32)


def read_soft_targets(path: Path, split: str) -> SoftTargets:
    """Reads one split of `soft_targets_T<T>.h5`.

    Raises:
        PipelineError: the file is missing, of another format, or damaged.
    """
    with open_verified(path, TARGETS_FORMAT) as file:
        group = file[split]
        return SoftTargets(
            temperature=float(file.attrs["temperature"]),
            dataset=str(file.attrs["dataset"]),
            class_names=_texts(file.attrs["class_names"]),
            ids=_texts(group["id"][:]),
            hard=group["hard"][:],
            soft=group["soft"][:],
        )


def read_logits(path: Path, split: str) -> tuple[tuple[str, ...], npt.NDArray[np.float32]]:
    """Reads the ids (N) and the logits (V, N, C) of one split of `teacher_logits.h5`.

    Raises:
        PipelineError: the file is missing, of another format, or damaged.
    """
    with open_verified(path, LOGITS_FORMAT) as file:
        return _texts(file[split]["id"][:]), file[split]["logits"][:]


def read_provenance(path: Path) -> Provenance:
    """Reads what made a `teacher_logits.h5`.

    Raises:
        PipelineError: the file is missing, of another format, or damaged.
    """
    with open_verified(path, LOGITS_FORMAT) as file:
        attributes = file.attrs
        return Provenance(
            class_names=_texts(attributes["class_names"]),
            teacher=str(attributes["teacher"]),
            teacher_sha256=str(attributes["teacher_sha256"]),
            dataset=str(attributes["dataset"]),
            preprocessing=json.loads(attributes["preprocessing"]),
            views=json.loads(attributes["views"]),
        )


@contextmanager
def open_verified(path: Path, expected_format: str) -> Iterator[h5py.File]:
    """Opens a soft-label file for reading, after its format and every digest were compared.

    Raises:
        PipelineError: names what is wrong and the command that mends it.
    """
    stage = "precompute" if expected_format == LOGITS_FORMAT else "soften"
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
    if sorted(file) != sorted(SPLITS):
        return f"is damaged: it has the groups {sorted(file)}, expected {sorted(SPLITS)}"
    for name, group in file.items():
        if group.attrs.get(DIGEST) != _group_digest(group):
            return f"is damaged: /{name} does not match its digest"
    if file.attrs.get(DIGEST) != _file_digest(file):
        return "is damaged: its attributes do not match their digest"
    return None


@contextmanager
def _create(path: Path, format_name: str) -> Iterator[h5py.File]:
    with publish(path) as partial, h5py.File(partial, "x") as file:
        file.attrs["format"] = format_name
        file.attrs["version"] = VERSION
        yield file
        file.attrs[DIGEST] = _file_digest(file)


def _empty(group: h5py.Group, name: str, shape: tuple[int, ...], dtype: Any) -> h5py.Dataset:
    """An unwritten dataset whose chunks lie along the row axis, so that a view reads as one slab."""
    row_bytes = np.dtype(dtype).itemsize * (shape[-1] if len(shape) > 1 else 1)
    rows_axis = 1 if len(shape) == 3 else 0
    rows = max(1, min(shape[rows_axis], CHUNK_BYTES // row_bytes))
    chunks = {1: (rows,), 2: (rows, shape[-1]), 3: (1, rows, shape[-1])}[len(shape)]
    fill = np.nan if np.issubdtype(dtype, np.floating) else None
    return group.create_dataset(name, shape, dtype, chunks=chunks, fletcher32=True, fillvalue=fill)


def _write(group: h5py.Group, name: str, values: npt.NDArray[Any]) -> None:
    _empty(group, name, values.shape, values.dtype)[...] = values


def _slabs(dataset: h5py.Dataset) -> Iterator[tuple[int, slice]]:
    """Steps through (V, N, C) a chunk at a time, in the order of the bytes."""
    views, count = dataset.shape[:2]
    rows = dataset.chunks[1]
    for view in range(views):
        for start in range(0, count, rows):
            yield view, slice(start, min(start + rows, count))


def _seal(group: h5py.Group) -> None:
    group.attrs[DIGEST] = _group_digest(group)


def _group_digest(group: h5py.Group) -> str:
    """SHA-256 over name, dtype, shape and bytes of each dataset, in the order of the names."""
    digest = hashlib.sha256()
    for name, dataset in sorted(group.items()):
        digest.update(f"{name} {dataset.dtype.str} {dataset.shape}\0".encode())
        if dataset.ndim == 3:
            for slab in _slabs(dataset):
                digest.update(dataset[slab].tobytes())
        else:
            digest.update(dataset[:].tobytes())
    return digest.hexdigest()


def _file_digest(file: h5py.File) -> str:
    """SHA-256 over the other root attributes and the groups' digests, as JSON: names the file's content."""
    content = {name: _plain(value) for name, value in file.attrs.items() if name != DIGEST}
    content |= {f"/{name}": group.attrs[DIGEST] for name, group in file.items()}
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """An attribute's value as JSON knows it: text, a number, or a list of them."""
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.decode() if isinstance(value, bytes) else value


def _strings(texts: Sequence[str]) -> npt.NDArray[Any]:
    encoded = [text.encode() for text in texts]
    return np.array(encoded, h5py.string_dtype("utf-8", max(map(len, encoded))))


def _texts(values: Any) -> tuple[str, ...]:
    return tuple(value.decode() for value in values)
