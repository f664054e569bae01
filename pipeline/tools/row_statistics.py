"""The rows of a soft-label file: statistics of their probabilities, and rows that are impossible."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from pipeline.images.index import NO_LABEL, SplitName
from pipeline.images.transforms import NOT_MIXED
from pipeline.runtime.progress import Progress
from pipeline.soft_labels.layout import LOGITS_FORMAT
from pipeline.soft_labels.logit_storage import Columns, TopK
from pipeline.soft_labels.reading import SoftLabelFile, slabs

SUM_TOLERANCE = 1e-5
"""The sum of a few thousand probabilities, each rounded to float32, differs from 1 by less."""


@dataclass
class Statistics:
    """Sums over the rows of a file, to which some thousand rows are added at a time.

    Attributes:
        rows: how many rows.
        labelled: how many of them have a label.
        right: in how many rows the labelled class has the largest probability.
        confidence: the sum of the largest probabilities.
        entropy: the sum of the entropies, in nats.
        not_finite: how many rows have a value that is not finite.
        negative: how many rows have a negative probability.
        worst_sum: of the sums of a row's probabilities, the one that is furthest from 1.
    """

    rows: int = 0
    labelled: int = 0
    right: int = 0
    confidence: float = 0.0
    entropy: float = 0.0
    not_finite: int = 0
    negative: int = 0
    worst_sum: float = 1.0

    def add(self, probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> None:
        """Adds R rows: (R, C) probabilities and (R,) class indices, `NO_LABEL` for a row without a label."""
        finite = np.isfinite(probabilities).all(axis=1)
        sums = probabilities[finite].sum(axis=1, dtype=np.float64)
        self.not_finite += int((~finite).sum())
        self.negative += int((probabilities < 0).any(axis=1).sum())
        self.worst_sum = max([self.worst_sum, *sums], key=lambda total: abs(total - 1))
        self.rows += len(labels)
        self.labelled += int((labels != NO_LABEL).sum())
        self.right += int((probabilities.argmax(axis=1) == labels).sum())
        self.confidence += float(probabilities.max(axis=1).sum(dtype=np.float64))
        self.entropy += float(special.entr(np.maximum(probabilities, 0)).sum(dtype=np.float64))

    def problems(self) -> list[str]:
        """What is wrong with the rows, in words."""
        cases = [
            (self.not_finite > 0, f"{self.not_finite} row(s) are not finite"),
            (self.negative > 0, f"{self.negative} row(s) have negative soft labels"),
            (
                abs(self.worst_sum - 1) > SUM_TOLERANCE,
                f"soft labels do not sum to 1: one row sums to {self.worst_sum:.6f}",
            ),
        ]
        return [problem for wrong, problem in cases if wrong]


SomeRows = tuple[slice, npt.NDArray[np.float32], npt.NDArray[np.int64]]


def all_soft_labels(file: SoftLabelFile, split: SplitName) -> Iterator[SomeRows]:
    """The soft labels of all views, some thousand rows at a time.

    Yields:
        Which rows; the soft labels (R, C), of logits those at T = 1; the labels (R,), `NO_LABEL` for a mixed view.
    """
    count, views = file.count(split), file.views(split).count
    with Progress(f"values of {split}", views * count, "rows", short_is_silent=True) as progress:
        for view in range(views):
            labels = file.unmixed_labels(split, view)
            for rows in slabs(count):
                # Rows that are not finite are findings, not warnings of NumPy.
                with np.errstate(invalid="ignore", over="ignore"):
                    soft_labels = file.soft_labels(split, view, rows)
                yield rows, soft_labels, labels[rows]
                progress.advance(rows.stop - rows.start)


def impossible_rows(file: SoftLabelFile, split: SplitName) -> list[str]:
    """Labels, partners and kept classes that are impossible, in words; no statistics can be computed from such rows.

    Training images alone may have no label.
    """
    group, labels = file.file[split], file.labels(split)
    without = (labels == NO_LABEL) & (split == "train")
    counts = Counter({"label(s) are of no class": int((((labels < 0) | (labels >= file.classes)) & ~without).sum())})
    if "partner" in group:
        partner = group["partner"][...]
        counts["partner(s) are no rows"] = int(((partner < NOT_MIXED) | (partner >= len(labels))).sum())
    for rows in slabs(file.count(split)):
        if "hard" in group:
            hard = group["hard"][rows]
            one_hot = (hard.sum(1) == 1) & (hard.max(1) == 1)
            counts["hard label(s) are not one-hot"] += int((~one_hot & ~without[rows]).sum())
        for view in range(file.views(split).count if isinstance(file.storage, TopK) else 0):
            columns = file.columns(split, view, rows)
            counts["row(s) keep a class that does not exist, or one twice"] += int(
                _bad_index(columns, file.classes).sum()
            )
            if file.format == LOGITS_FORMAT:
                counts["row(s) do not keep their largest logits, the largest first"] += int(_bad_order(columns).sum())
    return [f"{count} {what}" for what, count in counts.items() if count]


def _bad_index(columns: Columns, classes: int) -> npt.NDArray[np.bool_]:
    ordered = np.sort(columns["index"].astype(np.int64), axis=1)
    return np.asarray((ordered[:, -1] >= classes) | (np.diff(ordered, axis=1) == 0).any(axis=1))


def _bad_order(columns: Columns) -> npt.NDArray[np.bool_]:
    """Which rows do not hold the largest logits, the largest first; a NaN counts as in order."""
    value = columns["value"].astype(np.float64)
    slack = 1e-3 * np.maximum(1.0, np.abs(value[:, -1]))  # kept logits may be float16, the mean is not
    return np.asarray((np.diff(value, axis=1) > 0).any(axis=1) | (columns["tail_mean"] > value[:, -1] + slack))
