"""The teacher's pass over all views that have no logits yet."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from pipeline.images.index import Index, SplitName
from pipeline.images.views import Views
from pipeline.inference.forward import Ints
from pipeline.models.ensembles import Teacher
from pipeline.runtime.errors import UnusableError, all_named
from pipeline.runtime.progress import Progress
from pipeline.soft_labels.logit_storage import Columns
from pipeline.soft_labels.writing import rows_of_split
from pipeline.teacher_pass.earlier_logits import EarlierLogits, EarlierRows
from pipeline.teacher_pass.labellers import Answer, Labeller, Labellers, SplitOfViews, in_order
from pipeline.teacher_pass.precision import difference
from pipeline.teacher_pass.unfinished_logits import UnfinishedLogits
from pipeline.teacher_pass.validation_answers import judge

WRITING_SHARE = 0.02
"""Batches are gathered until writing them, and waiting for the disk, takes at most this share of the time."""

LONGEST_BLOCK_SECONDS = 10.0
"""A kill loses at most this many seconds of work plus one batch."""

LARGEST_BLOCK_BYTES = 64 * 2**20
"""Gathered batches take at most this much memory plus one batch."""

VIEWS_AT_ONCE = 2**21
"""Views whose numbers a labeller gets in one call: 32 MB, and a few times as much to plan their batches."""

Encoded = tuple[slice, Columns]
"""Which of R views were labelled, and their logits as they are stored."""

RETRAIN = (
    "Train it again, with a lower learning rate: `dvc repro --single-item --force train_teacher`, then `dvc repro`."
)
OTHER_PRECISION = (
    "It computes in mixed precision, and a float16 holds no number above 65504. Set precompute.precision to "
    "mixed_bfloat16 or float32."
)

ORDER: tuple[SplitName, ...] = ("val", "test", "train")
"""Validation images come first, since they show whether the teacher can be trusted at all."""


class TeacherPass:
    """One pass of a teacher, which refuses logits that cannot be right.

    Args:
        data: the index.
        teacher: the teacher.
        labellers: what gives its logits.
        batch_size: images in one forward pass.
        unfinished: the file to fill, open.
        views: the views of the training images.
        largest_temperature: the largest T at which the logits will be softened.
    """

    def __init__(
        self,
        data: Index,
        teacher: Teacher,
        labellers: Labellers,
        batch_size: int,
        unfinished: UnfinishedLogits,
        views: Views,
        largest_temperature: float = 1.0,
    ) -> None:
        self.data, self.unfinished = data, unfinished
        self.largest_temperature = largest_temperature
        self.labeller, self.in_full, self.batch_size = labellers.usual, labellers.in_full, batch_size
        self.teacher, self.record = teacher.described, teacher.record
        self.splits = {split: self._split(split, views.of_split(split)) for split in ORDER}

    def _split(self, split: SplitName, views: Views) -> SplitOfViews:
        transforms = self.unfinished.transforms(split)
        return SplitOfViews(split, rows_of_split(self.data, split), views.augmentation, transforms)

    def run(self, earlier: EarlierLogits | None) -> None:
        """Takes the rows that an interrupted run and an earlier file have, and computes all others."""
        self._tell_unused_places()
        self._forget_rows_that_differ_now()
        self._tell_what_is_done()
        if earlier is not None and self.labeller.is_steady:
            self._take(earlier)
        if self.in_full is not None and self.unfinished.missing("val").any():
            self._compare_precisions(self.in_full)
        missing = {split: int(self.unfinished.missing(split).sum()) for split in ORDER}
        with Progress("precompute", sum(missing.values()), "views") as progress:
            for split in ORDER:
                self._compute(self.splits[split], progress)
                if split == "val":
                    judge(self.unfinished, self.data, self.teacher, self.record, self.largest_temperature)

    def _tell_unused_places(self) -> None:
        """Says how many places of a batch stay empty, or that logits depend on the rest of their batch."""
        if not self.labeller.is_steady:
            print(
                f"warning: the logits that {self.teacher} gives for an image depend on the other images of its batch, "
                "or on chance. So they are never mixed with those of another run: none are taken from an earlier file, "
                "and after an interruption all are computed again. Another precompute.batch_size may help.",
                file=sys.stderr,
            )
        elif unused := self.labeller.unused_places:
            print(
                f"{unused} of {self.batch_size} places in a batch round differently here, and stay empty",
                file=sys.stderr,
            )

    def _forget_rows_that_differ_now(self) -> None:
        """Leaves aside the rows of an interrupted run if the teacher does not give them again, bit for bit."""
        started = [split for split in ORDER if not self.unfinished.missing(split).all()]
        if not started or (self.labeller.is_steady and self._gives_again(self.splits[started[0]])):
            return
        print(
            "the rows of an interrupted run are left aside: the teacher gives other logits now (another processor, "
            "device or library?)",
            file=sys.stderr,
        )
        self.unfinished.forget()

    def _gives_again(self, split: SplitOfViews) -> bool:
        """Whether the teacher gives one batch of finished rows again, bit for bit."""
        views, rows = np.nonzero(~self.unfinished.missing(split.name))
        few = np.unique(np.linspace(0, len(rows) - 1, self.labeller.at_once).astype(np.intp))
        few = few[np.lexsort((views[few], rows[few]))]  # ascending rows, as the forward pass wants them
        now = self.unfinished.encode(in_order(self._logits(split, views[few], rows[few])))
        then = self.unfinished.columns(split.name, views[few], rows[few])
        return _same(now, then)

    def _tell_what_is_done(self) -> None:
        """Says how many views an interrupted run has finished."""
        missing = [self.unfinished.missing(split) for split in ORDER]
        total, left = sum(marks.size for marks in missing), sum(int(marks.sum()) for marks in missing)
        if left < total:
            print(f"precompute: continuing after {total - left} of {total} views", file=sys.stderr, flush=True)

    def _take(self, earlier: EarlierLogits) -> None:
        """Copies rows of an earlier file, if the teacher still gives them."""
        stretches: list[EarlierRows] = []
        for split in self.splits.values():
            missing = self.unfinished.missing(split.name)
            stretches += earlier.find(split.name, split.rows, split.transforms, missing)
        if not self._all_hold(earlier, stretches):
            print(
                "an earlier file is left aside: the teacher gives other logits now (another processor, "
                "device or library?)"
            )
            return
        for rows in stretches:
            for part in rows.parts():
                self.unfinished.put(part.split, np.full(len(part.rows), part.view), part.rows, earlier.read(part))
        if stretches:
            print(f"{sum(len(rows.rows) for rows in stretches)} views are taken from the earlier file")

    def _all_hold(self, earlier: EarlierLogits, stretches: list[EarlierRows]) -> bool:
        """Whether the teacher gives one batch of each view again, bit for bit."""
        with Progress("test of earlier rows", len(stretches), "batches", short_is_silent=True) as progress:
            for rows in stretches:
                few = rows.sample(self.labeller.at_once)
                logits = in_order(self._logits(self.splits[few.split], np.full(len(few.rows), few.view), few.rows))
                if not _same(self.unfinished.encode(logits), earlier.read(few)):
                    return False
                progress.advance(1)
        return True

    def _compare_precisions(self, in_full: Labeller) -> None:
        """Says how the logits of one batch of validation images differ from those in float32."""
        split = self.splits["val"]
        rows = np.arange(min(self.batch_size, len(split.rows.ids)))
        first_views = np.zeros_like(rows)
        full = in_order(in_full.logits(split, first_views, rows))
        lowered = in_order(self._logits(split, first_views, rows))
        print(f"{self.teacher} in mixed precision: {difference(lowered, full)}", file=sys.stderr)

    def _compute(self, split: SplitOfViews, progress: Progress) -> None:
        missing = self.unfinished.missing(split.name).T  # each image is decoded once for all its views
        at_once = max(1, VIEWS_AT_ONCE // missing.shape[1])
        for start in range(0, len(missing), at_once):
            rows, views = np.nonzero(missing[start : start + at_once])
            rows += start
            answers = self._logits(split, views, rows)
            for places, block in blocks((part, self.unfinished.encode(logits)) for part, logits in answers):
                self.unfinished.put(split.name, views[places], rows[places], block)
                progress.advance(len(places))

    def _logits(self, split: SplitOfViews, views: Ints, rows: Ints) -> Iterator[Answer]:
        """The teacher's logits of some views, in batches and in any order.

        Raises:
            UnusableError: some are not finite.
        """
        for part, logits in self.labeller.logits(split, views, rows):
            bad = ~np.isfinite(logits).all(axis=1)
            if bad.any():
                names = [split.rows.ids[row] for row in rows[part][bad]]
                raise UnusableError(
                    f"{self.teacher} gives logits that are not finite for {len(names)} view(s) of a batch: "
                    f"{all_named(names)}. {RETRAIN if self.in_full is None else OTHER_PRECISION}"
                )
            yield part, logits


def _same(now: Columns, then: Columns) -> bool:
    return all(np.array_equal(now[name], then[name]) for name in now)


def blocks(batches: Iterator[Encoded], clock: Callable[[], float] = time.monotonic) -> Iterator[tuple[Ints, Columns]]:
    """Joins batches into blocks, so large that writing a block takes little time compared with computing it.

    Args:
        batches: which of the views a batch labels, and its columns, (B, ...) each.
        clock: the time in seconds.

    Yields:
        Which of the views a block labels, (R,), and its columns, (R, ...) each.
    """
    gathered: list[Encoded] = []
    start, shortest = clock(), 0.0
    for part, columns in batches:
        gathered.append((part, columns))
        size = len(gathered) * sum(values.nbytes for values in columns.values())
        if clock() - start >= shortest or size >= LARGEST_BLOCK_BYTES:
            computed = clock()
            yield _joined(gathered)
            gathered, start = [], clock()
            shortest = min((start - computed) / WRITING_SHARE, LONGEST_BLOCK_SECONDS)
    if gathered:
        yield _joined(gathered)


def _joined(batches: Sequence[Encoded]) -> tuple[Ints, Columns]:
    places = np.concatenate([np.arange(part.start, part.stop) for part, _ in batches])
    return places, {name: np.concatenate([columns[name] for _, columns in batches]) for name in batches[0][1]}
