"""The two soft-label files, as `docs/format.md` lays them down. Needs h5py and NumPy only.

`teacher_logits.h5` keeps what the teacher said of every view of every image; `soft_targets_T<T>.h5` keeps
the probabilities softened at one temperature beside the one-hot labels.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from pipeline.checked_hdf5 import (
    CLASS_NAMES,
    DIGEST,
    create,
    empty_dataset,
    open_checked,
    seal,
    slabs,
    strings,
    texts,
    write_dataset,
)
from pipeline.index import SPLITS

LOGITS_FORMAT = "teacher-logits"
TARGETS_FORMAT = "soft-targets"


@dataclass(frozen=True)
class Provenance:
    """What made a `teacher_logits.h5`.

    Attributes:
        class_names: C names, in the order of the class axis.
        teacher: name of the teacher's architecture.
        teacher_sha256: SHA-256 of the teacher's weights (`model_files.weights_sha256`).
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
    with create(path, LOGITS_FORMAT) as file:
        attributes = asdict(provenance)
        write_dataset(file, CLASS_NAMES, strings(attributes.pop("class_names")))
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
    views, count, classes = affines.shape[0], len(ids), len(file[CLASS_NAMES])
    if len(labels) != count or affines.shape != (views, count, 6):
        raise ValueError(f"{count} ids, but {len(labels)} labels and transforms of shape {affines.shape}")
    group = file.create_group(split)
    write_dataset(group, "id", strings(ids))
    write_dataset(group, "label", np.asarray(labels, np.int32))
    write_dataset(group, "affine", affines)
    logits = empty_dataset(group, "logits", (views, count, classes), np.float32)
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
    seal(group)


def soften_file(logits_path: Path, targets_path: Path, temperature: float) -> None:
    """Writes `soft_targets_T<T>.h5` from `teacher_logits.h5`, a block of rows at a time.

    Raises:
        PipelineError: the logits file is missing, of another format, or damaged.
    """
    with (
        open_checked(logits_path, LOGITS_FORMAT, "precompute") as source,
        create(targets_path, TARGETS_FORMAT) as target,
    ):
        target.attrs["temperature"] = float(temperature)
        target.attrs["logits"] = source.attrs[DIGEST]
        target.attrs["dataset"] = source.attrs["dataset"]
        write_dataset(target, CLASS_NAMES, source[CLASS_NAMES][:])
        for split in SPLITS:
            group, logits = target.create_group(split), source[split]["logits"]
            write_dataset(group, "id", source[split]["id"][:])
            labels, classes = source[split]["label"], np.arange(logits.shape[2])
            hard = empty_dataset(group, "hard", logits.shape[1:], np.uint8)
            soft = empty_dataset(group, "soft", logits.shape, np.float32)
            for view, rows in slabs(logits):
                hard[rows] = labels[rows][:, None] == classes
                soft[view, rows] = softmax(logits[view, rows], temperature)
            seal(group)


def softmax(logits: npt.NDArray[Any], temperature: float) -> npt.NDArray[np.float32]:
    """softmax(v / T) along the last axis, computed in float64, rounded once to float32."""
    below_largest = np.asarray(logits, np.float64) - np.max(logits, axis=-1, keepdims=True)
    with np.errstate(over="ignore"):  # at a tiny temperature all but the largest become 0
        powers = np.exp(below_largest / temperature)
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), np.float32)


def read_soft_targets(path: Path, split: str) -> SoftTargets:
    """Reads one split of `soft_targets_T<T>.h5`.

    Raises:
        PipelineError: the file is missing, of another format, or damaged.
    """
    with open_checked(path, TARGETS_FORMAT, "soften") as file:
        group = file[split]
        return SoftTargets(
            temperature=float(file.attrs["temperature"]),
            dataset=str(file.attrs["dataset"]),
            class_names=texts(file[CLASS_NAMES][:]),
            ids=texts(group["id"][:]),
            hard=group["hard"][:],
            soft=group["soft"][:],
        )


def read_logits(path: Path, split: str) -> tuple[tuple[str, ...], npt.NDArray[np.float32]]:
    """Reads the ids (N) and the logits (V, N, C) of one split of `teacher_logits.h5`.

    Raises:
        PipelineError: the file is missing, of another format, or damaged.
    """
    with open_checked(path, LOGITS_FORMAT, "precompute") as file:
        return texts(file[split]["id"][:]), file[split]["logits"][:]


def read_provenance(path: Path) -> Provenance:
    """Reads what made a `teacher_logits.h5`.

    Raises:
        PipelineError: the file is missing, of another format, or damaged.
    """
    with open_checked(path, LOGITS_FORMAT, "precompute") as file:
        attributes = file.attrs
        return Provenance(
            class_names=texts(file[CLASS_NAMES][:]),
            teacher=str(attributes["teacher"]),
            teacher_sha256=str(attributes["teacher_sha256"]),
            dataset=str(attributes["dataset"]),
            preprocessing=json.loads(attributes["preprocessing"]),
            views=json.loads(attributes["views"]),
        )
