"""Reading the two soft-label files, whose format is in `docs/format.md`. Imports no TensorFlow.

`teacher_logits.h5` holds the teacher's logits of every view of every image. `soft_targets_T<T>.h5` holds the
probabilities softened at one temperature, beside the labels.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast, get_args

import h5py
import numpy as np
import numpy.typing as npt

from pipeline.images.index import NO_LABEL, SPLITS, SplitName
from pipeline.images.transforms import FIELD_OF, NOT_MIXED, Transforms
from pipeline.images.views import Views
from pipeline.runtime.errors import DamagedError, first_few, one_line, quoted
from pipeline.runtime.text_files import parsed_json
from pipeline.runtime.tried_files import try_once
from pipeline.soft_labels import logit_storage
from pipeline.soft_labels.hdf5 import (
    CLASS_NAMES,
    FormatName,
    digest_if_sound,
    opened,
    refuse_elsewhere,
    refuse_other_structure,
    remedy,
    sealed_sha256,
    texts,
)
from pipeline.soft_labels.layout import LOGITS_FORMAT, MAKERS, TARGETS_FORMAT, all_columns, columns_of_row

MixedPrecision = Literal["mixed_float16", "mixed_bfloat16"]
Precision = Literal["float32", MixedPrecision]
SLAB_ROWS = 4096
"""Rows that are in memory at a time: 16 MB of float32 logits of 1,000 classes."""


@dataclass(frozen=True)
class Provenance:
    """What a soft-label file was made from, and how.

    Attributes:
        class_names: C names, in the order of the class axis.
        teacher: name of the teacher's architecture.
        teacher_sha256: SHA-256 of the teacher's `.keras` file.
        dataset: fingerprint of the images and labels (`Index.fingerprint`).
        preprocessing: how an image file becomes the teacher's input; JSON-serialisable. None: not known, since another
            program or people looked at the images.
        batch_size: images in one forward pass of the teacher, on which the rounding of its logits depends.
        views: `Views.as_json` of the training images.
        storage: `as_json` of a class in `logit_storage`.
        ensemble: None for a single teacher. For an ensemble, its "average" ("logits" or "probabilities") and its
            "members", a list of {"teacher": name of the architecture, "teacher_sha256": SHA-256 of the `.keras` file}.
        precision: the mixed precision in which the teacher computed; None for its own precision (mostly float32).
    """

    class_names: tuple[str, ...]
    teacher: str
    teacher_sha256: str
    dataset: str
    preprocessing: dict[str, Any] | None
    batch_size: int
    views: dict[str, Any]
    storage: dict[str, Any]
    ensemble: dict[str, Any] | None = None
    precision: MixedPrecision | None = None


@dataclass(frozen=True)
class Rows:
    """The images of one split.

    Attributes:
        ids: N image ids.
        labels: N class indices, `NO_LABEL` for an image without a label.
        image_sha256: SHA-256 of each image file, in hexadecimal digits.
    """

    ids: Sequence[str]
    labels: Sequence[int]
    image_sha256: Sequence[str]


class SoftLabelFile:
    """A soft-label file of either format, checked and open for reading.

    Args:
        path: its path.
        file: the open file, whose digest, format and version have been compared.

    Attributes:
        format: `LOGITS_FORMAT` or `TARGETS_FORMAT`.
        sha256: the digest of its content.
        provenance: what it was made from.
        temperature: T of soft targets; None for logits.
        logits_sha256: the digest of the logits from which soft targets were made; None for logits.
        storage: how the rows are stored.
        classes: C.
        row_columns: the columns of its rows, by the shape and dtype of one row.
        stage: the stage that makes such files.
        remedy: the command that makes the file again, as a sentence.

    Raises:
        DamagedError: its content is not what its attributes announce.
    """

    def __init__(self, path: Path, file: h5py.File) -> None:
        self.path, self.file = path, file
        self.format = cast(FormatName, str(file.attrs["format"]))
        self.stage = MAKERS[self.format]
        self.sha256 = sealed_sha256(path)
        self.remedy = remedy(self.stage)
        try:
            refuse_elsewhere(file)
            self.provenance = _read_provenance(file)
            self._views = Views.from_json(self.provenance.views)
            self.storage = logit_storage.of(self.provenance.storage)
            self.temperature = _temperature(file) if self.format == TARGETS_FORMAT else None
            self.logits_sha256 = str(file.attrs["logits"]) if self.format == TARGETS_FORMAT else None
            self.classes = len(self.provenance.class_names)
            self.row_columns = columns_of_row(self.format, self.storage, self.classes)
            if len(set(self.provenance.class_names)) < self.classes:
                raise ValueError(f"its class names are {list(self.provenance.class_names)}")
            self._refuse_other_structure()
        except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, OSError, RuntimeError) as error:
            told = one_line(repr(error), 500)
            raise DamagedError(f"{path} lacks what its format demands: {told}. {self.remedy}") from None

    def count(self, split: SplitName) -> int:
        """N, the number of images."""
        return len(self.file[split]["id"])

    def views(self, split: SplitName) -> Views:
        """The views of one split's images."""
        return self._views.of_split(split)

    def ids(self, split: SplitName, rows: slice = slice(None)) -> tuple[str, ...]:
        """The ids of some of the N images, or of all."""
        return texts(self.file[split]["id"][rows])

    def image_sha256(self, split: SplitName, rows: slice = slice(None)) -> tuple[str, ...]:
        """SHA-256 of some of the N image files, or of all."""
        return texts(self.file[split]["image_sha256"][rows])

    def labels(self, split: SplitName) -> npt.NDArray[np.int64]:
        """The N class indices, `NO_LABEL` for an image without a label."""
        group = self.file[split]
        if "hard" in group:
            parts = (group["hard"][rows] for rows in slabs(self.count(split)))
            return np.concatenate([np.where(hard.any(1), hard.argmax(1), NO_LABEL) for hard in parts])
        return np.asarray(group["label"][:], np.int64)

    def transforms(self, split: SplitName, view: int) -> Transforms:
        """The transforms of one view, (N, ...).

        Raises:
            DamagedError: a partner is no row.
        """
        transforms = stored_transforms(self.file[split], view)
        wrong = (transforms.partner < NOT_MIXED) | (transforms.partner >= self.count(split))
        if wrong.any():
            named = first_few([str(row) for row in transforms.partner[wrong]])
            raise DamagedError(f"{self.path} names partners that are no rows of {split}: {named}. {self.remedy}")
        return transforms

    def unmixed_labels(self, split: SplitName, view: int) -> npt.NDArray[np.int64]:
        """The N class indices; `NO_LABEL` also for an image that this view shows mixed with another."""
        return np.where(self.transforms(split, view).partner == NOT_MIXED, self.labels(split), NO_LABEL)

    def columns(
        self, split: SplitName, view: int, rows: slice | npt.NDArray[np.int64] = slice(None)
    ) -> logit_storage.Columns:
        """Some rows of one view, in the columns of `self.storage`; row numbers must ascend."""
        return {name: self.file[split][name][view, rows] for name in self.row_columns}

    def soft_labels(
        self, split: SplitName, view: int, rows: slice, temperature: float = 1.0
    ) -> npt.NDArray[np.float32]:
        """The soft labels of some rows of one view, (R, C); only logits are softened at `temperature`."""
        columns = self.columns(split, view, rows)
        if self.format == LOGITS_FORMAT:
            columns = self.storage.soften(columns, temperature, self.classes)
        return self.storage.probabilities(columns, self.classes)

    def _refuse_other_structure(self) -> None:
        if sorted(self.file) != sorted([CLASS_NAMES, *SPLITS]):
            raise ValueError(f"it holds [{quoted(self.file, 12)}], expected {sorted([CLASS_NAMES, *SPLITS])}")
        for split in SPLITS:
            group, views, count = self.file[split], self.views(split), self.count(split)
            if min(count, views.count) < 1:
                raise ValueError(f"/{split} holds no rows")
            id_bytes = group["id"].dtype.itemsize
            expected = all_columns(self.format, views, count, self.classes, id_bytes, self.storage)
            refuse_other_structure(group, expected, self.path, self.remedy)
            for rows in slabs(count):
                _ = self.ids(split, rows), self.image_sha256(split, rows)  # refuses what is no UTF-8


@contextmanager
def open_soft_labels(path: Path, formats: Sequence[FormatName] = tuple(MAKERS)) -> Iterator[SoftLabelFile]:
    """Opens a soft-label file for reading.

    Args:
        path: the file.
        formats: the formats that it may have.

    Raises:
        MissingError: there is no such file.
        DamagedError: it is of another format or version, or damaged.
    """
    makers = {name: MAKERS[name] for name in formats}
    sha256 = digest_if_sound(path, makers)
    try_once(read_structure, path, [*formats], sha256=sha256, remedy=remedy(""))
    with opened(path, makers) as file:
        yield SoftLabelFile(path, file)


def read_structure(path: str, formats: Sequence[FormatName]) -> None:
    """Reads all of a file but the numbers in its datasets, which HDF5 then reads as plain bytes."""
    with opened(Path(path), {name: MAKERS[name] for name in formats}) as file:
        SoftLabelFile(Path(path), file)


open_logits = partial(open_soft_labels, formats=[LOGITS_FORMAT])
"""Opens a `teacher_logits.h5`; otherwise as `open_soft_labels`."""

open_soft_targets = partial(open_soft_labels, formats=[TARGETS_FORMAT])
"""Opens a `soft_targets_T<T>.h5`; otherwise as `open_soft_labels`."""


def slabs(count: int) -> Iterator[slice]:
    """Slices of `count` rows, a few thousand each, so that memory stays flat."""
    for start in range(0, count, SLAB_ROWS):
        yield slice(start, min(start + SLAB_ROWS, count))


def stored_transforms(group: h5py.Group, views: Any) -> Transforms:
    """The transforms of a split at the index `views` (a number, or `...` for all views)."""
    stored = {field: group[name][views] for name, field in FIELD_OF.items() if name in group}
    return Transforms.of(stored["affine"].shape[:-1], **stored)


def _temperature(file: h5py.File) -> float:
    temperature = float(file.attrs["temperature"])
    if not 0 < temperature < math.inf:
        raise ValueError(f"its temperature is {temperature}")
    return temperature


def _read_provenance(file: h5py.File) -> Provenance:
    attributes = file.attrs
    return Provenance(
        class_names=texts(file[CLASS_NAMES][:]),
        teacher=str(attributes["teacher"]),
        teacher_sha256=str(attributes["teacher_sha256"]),
        dataset=str(attributes["dataset"]),
        preprocessing=parsed_json(attributes["preprocessing"]),
        batch_size=int(attributes["batch_size"]),
        views=parsed_json(attributes["views"]),
        storage=parsed_json(attributes["storage"]),
        ensemble=_ensemble(attributes),
        precision=_precision(attributes),
    )


def _precision(attributes: h5py.AttributeManager) -> MixedPrecision | None:
    precision = attributes.get("precision")
    if precision not in (None, *get_args(MixedPrecision)):
        raise ValueError(f"its precision is {precision!r}")
    return cast(MixedPrecision | None, precision)


def _ensemble(attributes: h5py.AttributeManager) -> dict[str, Any] | None:
    if "ensemble" not in attributes:
        return None
    ensemble: dict[str, Any] = parsed_json(attributes["ensemble"])
    if ensemble["average"] not in ("logits", "probabilities") or not ensemble["members"]:
        raise ValueError(f"its ensemble is {ensemble}")
    for member in ensemble["members"]:
        _ = member["teacher"] + member["teacher_sha256"]  # refuses what is no text
    return ensemble
