"""The two soft-label files, as `docs/format.md` lays them down. Needs h5py and NumPy only.

`teacher_logits.h5` keeps what the teacher said of every view of every image; `soft_targets_T<T>.h5` keeps
the probabilities softened at one temperature beside the one-hot labels.
"""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import h5py
import numpy as np
import numpy.typing as npt

from pipeline.images.index import SPLITS, SplitName
from pipeline.images.views import SAME_COLOR, Floats16, Views
from pipeline.runtime.errors import DamagedError
from pipeline.soft_labels import logit_storage
from pipeline.soft_labels.hdf5 import (
    CLASS_NAMES,
    Column,
    open_checked,
    refuse_other_structure,
    remedy,
    sealed_sha256,
    texts,
)

LOGITS_FORMAT = "teacher-logits"
TARGETS_FORMAT = "soft-targets"
MAKERS = {LOGITS_FORMAT: "precompute", TARGETS_FORMAT: "soften"}
MixedPrecision = Literal["mixed_float16", "mixed_bfloat16"]
Precision = Literal["float32", MixedPrecision]
SLAB_ROWS = 4096


@dataclass(frozen=True)
class Provenance:
    """What made a soft-label file.

    Attributes:
        class_names: C names, in the order of the class axis.
        teacher: name of the teacher's architecture.
        teacher_sha256: SHA-256 of the teacher's `.keras` file.
        dataset: fingerprint of the images and labels (`Index.fingerprint`).
        preprocessing: how an image file becomes the teacher's input; JSON-serialisable.
        batch_size: images in one forward pass of the teacher, on which the rounding of its logits depends.
        views: `Views.as_json` of the training images.
        storage: `as_json` of a class in `logit_storage`.
        ensemble: None, or of an ensemble its "average" ("logits" or "probabilities") and its "members", a list of
            {"teacher": name of the architecture, "teacher_sha256": SHA-256 of the member's `.keras` file}.
        precision: None for the teacher's own (mostly float32), or the mixed precision in which it computed
            ("mixed_float16" or "mixed_bfloat16").
    """

    class_names: tuple[str, ...]
    teacher: str
    teacher_sha256: str
    dataset: str
    preprocessing: dict[str, Any]
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
        labels: N class indices.
        image_sha256: SHA-256 of each image file, in hexadecimal digits.
    """

    ids: Sequence[str]
    labels: Sequence[int]
    image_sha256: Sequence[str]


class SoftLabelFile:
    """A soft-label file of either format, checked, and open for reading.

    Args:
        path: where it lies.
        file: the open file, whose digest, format and version were compared.

    Attributes:
        format: `LOGITS_FORMAT` or `TARGETS_FORMAT`.
        sha256: names its content.
        provenance: what made it.
        temperature: T of soft targets; None of logits.
        logits_sha256: of the logits that soft targets were made from; None of logits.
        storage: how the rows are stored.
        classes: C.
        stage: which makes such files.
        remedy: the command that makes it again, as a sentence.

    Raises:
        DamagedError: what it holds is not what its attributes announce.
    """

    def __init__(self, path: Path, file: h5py.File) -> None:
        self.path, self.file = path, file
        self.format = str(file.attrs["format"])
        self.stage = MAKERS[self.format]
        self.sha256 = sealed_sha256(path)
        self.remedy = remedy(self.stage)
        try:
            self.provenance = _read_provenance(file)
            self._views = Views.from_json(self.provenance.views)
            self.storage = logit_storage.of(self.provenance.storage)
            self.temperature = _temperature(file) if self.format == TARGETS_FORMAT else None
            self.logits_sha256 = str(file.attrs["logits"]) if self.format == TARGETS_FORMAT else None
            self.classes = len(self.provenance.class_names)
            if len(set(self.provenance.class_names)) < self.classes:
                raise ValueError(f"its class names are {list(self.provenance.class_names)}")
            self._refuse_other_structure()
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise DamagedError(f"{path} lacks what its format demands: {error!r}. {self.remedy}") from None

    def count(self, split: SplitName) -> int:
        """N, the number of images."""
        return len(self.file[split]["id"])

    def views(self, split: SplitName) -> Views:
        """The views of one split's images."""
        return self._views.of_split(split)

    def ids(self, split: SplitName) -> tuple[str, ...]:
        """The N image ids."""
        return texts(self.file[split]["id"][:])

    def image_sha256(self, split: SplitName) -> tuple[str, ...]:
        """SHA-256 of the N image files."""
        return texts(self.file[split]["image_sha256"][:])

    def labels(self, split: SplitName) -> npt.NDArray[np.int64]:
        """The N class indices."""
        group = self.file[split]
        if "hard" in group:
            return np.concatenate([group["hard"][rows].argmax(1) for rows in slabs(self.count(split))])
        return np.asarray(group["label"][:], np.int64)

    def transforms(self, split: SplitName, view: int) -> tuple[Floats16, Floats16]:
        """The affine and the color transforms of one view, (N, 6) each."""
        return stored_transforms(self.file[split], view)

    def columns(self, split: SplitName, view: int, rows: slice = slice(None)) -> logit_storage.Columns:
        """The columns of one view, as `self.storage` names them, of some rows."""
        names = self._row_columns()
        return {name: self.file[split][name][view, rows] for name in names}

    def _row_columns(self) -> logit_storage.RowColumns:
        is_logits = self.format == LOGITS_FORMAT
        return self.storage.columns(self.classes) if is_logits else self.storage.soft_columns(self.classes)

    def _refuse_other_structure(self) -> None:
        if sorted(self.file) != sorted([CLASS_NAMES, *SPLITS]):
            raise ValueError(f"it holds {sorted(self.file)}, expected {sorted([CLASS_NAMES, *SPLITS])}")
        for split in SPLITS:
            group = self.file[split]
            count = self.count(split)
            if min(count, self.views(split).count) < 1:
                raise ValueError(f"/{split} holds no rows")
            expected = columns_of_split(self.views(split), count, self._row_columns())
            expected["id"] = ((count,), h5py.string_dtype("utf-8", group["id"].dtype.itemsize))
            expected |= _label_column(self.format, count, self.classes, self.storage)
            refuse_other_structure(group, expected, self.path, self.remedy)
            _ = self.ids(split), self.image_sha256(split)  # refuses what is no UTF-8


@contextmanager
def open_logits(path: Path) -> Iterator[SoftLabelFile]:
    """Opens a `teacher_logits.h5` for reading.

    Raises:
        MissingError: there is no such file.
        DamagedError: it is of another format or a newer version, or damaged.
    """
    with open_checked(path, {LOGITS_FORMAT: MAKERS[LOGITS_FORMAT]}) as file:
        yield SoftLabelFile(path, file)


@contextmanager
def open_soft_targets(path: Path) -> Iterator[SoftLabelFile]:
    """Opens a `soft_targets_T<T>.h5` for reading.

    Raises:
        MissingError: there is no such file.
        DamagedError: it is of another format or a newer version, or damaged.
    """
    with open_checked(path, {TARGETS_FORMAT: MAKERS[TARGETS_FORMAT]}) as file:
        yield SoftLabelFile(path, file)


@contextmanager
def open_soft_labels(path: Path) -> Iterator[SoftLabelFile]:
    """Opens a file of either format for reading.

    Raises:
        MissingError: there is no such file.
        DamagedError: it is of another format or a newer version, or damaged.
    """
    with open_checked(path, MAKERS) as file:
        yield SoftLabelFile(path, file)


def columns_of_split(views: Views, count: int, row_columns: logit_storage.RowColumns) -> dict[str, Column]:
    """The datasets that both formats hold in the group of a split, but for `id` and the labels."""
    expected: dict[str, Column] = {"image_sha256": ((count,), h5py.string_dtype("utf-8", 64))}
    expected["affine"] = ((views.count, count, 6), "float16")
    if views.augmentation.recolors:
        expected["color"] = ((views.count, count, 6), "float16")
    for name, (shape, dtype) in row_columns.items():
        expected[name] = ((views.count, count, *shape), dtype)
    return expected


def bytes_of_split(
    format_name: str, views: Views, count: int, classes: int, id_bytes: int, stored_as: logit_storage.Storage
) -> int:
    """The bytes of all datasets of a split of `count` images; `id_bytes` is the length of the longest id."""
    is_logits = format_name == LOGITS_FORMAT
    columns = stored_as.columns(classes) if is_logits else stored_as.soft_columns(classes)
    expected = columns_of_split(views, count, columns)
    expected["id"] = ((count,), f"S{id_bytes}")
    expected |= _label_column(format_name, count, classes, stored_as)
    return sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in expected.values())


def _label_column(format_name: str, count: int, classes: int, stored_as: logit_storage.Storage) -> dict[str, Column]:
    """Labels are one-hot beside dense soft labels, and class indices where C numbers a row would be too many."""
    if format_name == TARGETS_FORMAT and isinstance(stored_as, logit_storage.Dense):
        return {"hard": ((count, classes), "uint8")}
    return {"label": ((count,), "int32")}


def slabs(count: int) -> Iterator[slice]:
    """Steps through `count` rows, so that memory stays flat."""
    for start in range(0, count, SLAB_ROWS):
        yield slice(start, min(start + SLAB_ROWS, count))


def stored_transforms(group: h5py.Group, views: Any) -> tuple[Floats16, Floats16]:
    """The affine and the color transforms of some views of a split, as indexing by `views` shapes them."""
    affines = group["affine"][views]
    colors = group["color"][views] if "color" in group else np.broadcast_to(SAME_COLOR, affines.shape)
    return affines, colors


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
        preprocessing=json.loads(attributes["preprocessing"]),
        batch_size=int(attributes["batch_size"]),
        views=json.loads(attributes["views"]),
        storage=json.loads(attributes["storage"]),
        ensemble=_ensemble(attributes),
        precision=_precision(attributes),
    )


def _precision(attributes: h5py.AttributeManager) -> MixedPrecision | None:
    if "precision" not in attributes:
        return None
    precision: Any = str(attributes["precision"])
    if precision not in get_args(MixedPrecision):
        raise ValueError(f"its precision is {precision!r}")
    mixed: MixedPrecision = precision
    return mixed


def _ensemble(attributes: h5py.AttributeManager) -> dict[str, Any] | None:
    if "ensemble" not in attributes:
        return None
    ensemble: dict[str, Any] = json.loads(attributes["ensemble"])
    if ensemble["average"] not in ("logits", "probabilities") or not ensemble["members"]:
        raise ValueError(f"its ensemble is {ensemble}")
    for member in ensemble["members"]:
        _ = member["teacher"] + member["teacher_sha256"]  # text, both
    return ensemble
