"""The teacher's half of the targets: soft labels as the file has them, or the logits that follow from them.

From p = softmax(v / T) follow the logits up to a constant, v - c = T log p, and a constant means nothing to a loss.
Where float32 holds too little of p, they are read from the `teacher_logits.h5` from which the soft labels were made.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pipeline.distillation.descriptions import refuse_too_few_classes
from pipeline.distillation.loss import DistillationLoss
from pipeline.images.index import SplitName
from pipeline.runtime.errors import MissingError, ParameterError
from pipeline.soft_labels.identity import rows_of
from pipeline.soft_labels.logit_storage import Columns, TopK
from pipeline.soft_labels.reading import SoftLabelFile, open_logits, slabs

Floats32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

SMALLEST = float(np.finfo(np.float32).tiny)
"""Below this number, float32 loses digits, and then all of it."""

HIGHEST_TEMPERATURE = 1000.0
"""T log p has T times the rounding error of a float32's logarithm, 6e-8: above this temperature too much."""


LEARNED_FROM: tuple[SplitName, ...] = ("train", "val")
"""The splits whose soft labels a training reads."""


class Answers(Protocol):
    """What the teacher's half of a batch holds."""

    def of(self, split: SplitName, view: int, soft: Columns, rows: Ints) -> Floats32:
        """Some rows of one view: (R, C).

        Args:
            split: their split.
            view: the number of the view.
            soft: their soft labels, in the columns of the file's storage.
            rows: their R numbers in the file.
        """


@contextmanager
def answers_for(loss: DistillationLoss, file: SoftLabelFile, logits: Path) -> Iterator[Answers]:
    """What a loss needs of the soft-target file.

    Args:
        loss: the loss.
        file: the open file of soft labels.
        logits: the `teacher_logits.h5` from which they were made. It is opened when it is needed, if ever.

    Raises:
        ParameterError: the loss cannot be computed from a file of the k largest logits, or of so few classes.
        MissingError: the logits are needed, and are not here.
    """
    refuse_too_few_classes(loss.soft_loss, file.classes)
    if isinstance(file.storage, TopK) and loss.without_tail:
        raise ParameterError(
            f"the loss {loss.soft_loss.kind!r} of distill.loss cannot be computed from {file.path}, which keeps the "
            f"{file.storage.k} largest logits: {loss.without_tail}. Set precompute.storage to {{kind: dense, dtype: "
            "float16}, or name another loss; docs/guide.md says what each needs."
        )
    if loss.needs == "probabilities":
        yield Probabilities(file)
        return
    with ExitStack() as opened:
        answers = Logits(file, logits, opened)
        if not logits.is_file():
            answers.refuse_lost_rows()
        yield answers


class Probabilities:
    """The soft labels, as the file has them."""

    def __init__(self, file: SoftLabelFile) -> None:
        self._file = file

    def of(self, split: SplitName, view: int, soft: Columns, rows: Ints) -> Floats32:
        """The arguments are those of `Answers.of`; the rows are probabilities."""
        return self._file.storage.probabilities(soft, self._file.classes)


class Logits:
    """The logits v less their mean: T log p, computed in float64 and rounded once to float32.

    A row of which float32 holds too little (`lost`) is read from the file of logits, always: what a student learns does
    not depend on whether that file is here.

    Args:
        file: the open file of soft labels.
        logits: the file of logits.
        opened: where the file of logits is held open.
    """

    def __init__(self, file: SoftLabelFile, logits: Path, opened: ExitStack) -> None:
        self._file, self._path, self._opened = file, logits, opened
        self._temperature = file.temperature or 1.0
        self._source = cache(self._open)
        self._rows_there = cache(self._rows_in_source)

    def of(self, split: SplitName, view: int, soft: Columns, rows: Ints) -> Floats32:
        """The arguments are those of `Answers.of`; each row is centred."""
        probabilities = self._file.storage.probabilities(soft, self._file.classes)
        logits = logits_of(probabilities, self._temperature)
        without = lost(probabilities, self._temperature)
        if without.any():
            logits[without] = self._read(split, view, rows[without])
        return centred(logits).astype(np.float32)

    def refuse_lost_rows(self) -> None:
        """Looks through the soft labels.

        Raises:
            MissingError: a row has to be read from the file of logits.
        """
        for split in LEARNED_FROM:
            for view in range(self._file.views(split).count):
                for rows in slabs(self._file.count(split)):
                    found = lost(self._file.soft_labels(split, view, rows), self._temperature)
                    if found.any():
                        image_id = self._file.ids(split)[rows.start + int(np.argmax(found))]
                        raise MissingError(
                            f"the loss needs the teacher's logits, and {self._file.path} does not tell those of "
                            f"{image_id}: at T = {self._temperature:g}, float32 holds too little of its soft labels. "
                            f"{self._path} has them, and is not here. Bring it with `dvc pull precompute`, make it "
                            "with `dvc repro precompute`, or choose another loss or temperature."
                        )

    def _read(self, split: SplitName, view: int, rows: Ints) -> npt.NDArray[np.float64]:
        source = self._source()
        ordered, places = np.unique(self._rows_there(split)[rows], return_inverse=True)  # as HDF5 reads them
        columns = source.columns(split, view, ordered)
        return source.storage.logits(columns, source.classes, self._temperature).astype(np.float64)[places]

    def _open(self) -> SoftLabelFile:
        return self._opened.enter_context(open_logits(self._path))

    def _rows_in_source(self, split: SplitName) -> Ints:
        return rows_of(self._source(), split, self._file.ids(split))


def logits_of(probabilities: Floats32, temperature: float) -> npt.NDArray[np.float64]:
    """T log p: (R, C), of probabilities that are not `lost`."""
    with np.errstate(divide="ignore"):
        return np.asarray(temperature * np.log(probabilities.astype(np.float64)))


def lost(probabilities: Floats32, temperature: float) -> npt.NDArray[np.bool_]:
    """The rows whose logits do not follow from their probabilities (R, C) in float32: (R,)."""
    if temperature > HIGHEST_TEMPERATURE:
        return np.ones(len(probabilities), np.bool_)
    return np.asarray((probabilities < SMALLEST).any(axis=1))


def centred(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Logits less the mean of their row: (R, C)."""
    return np.asarray(logits - logits.mean(axis=1, keepdims=True))
