"""Stage `precompute`: the teacher's one pass; its logits of every view of every image are kept in a file."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline import model_files, storage
from pipeline.artifacts import publish_copy, sha256_file, workspace
from pipeline.checked_hdf5 import damage
from pipeline.earlier_logits import EarlierLogits, Found, open_earlier
from pipeline.errors import PipelineError, first_few
from pipeline.images import Images
from pipeline.index import SPLITS, Index, fingerprint_of, read_index, refuse_changed
from pipeline.inference import Forward, Ints
from pipeline.progress import Progress
from pipeline.soft_labels import Provenance, Rows
from pipeline.tensorflow_start import numerics
from pipeline.unfinished_logits import UnfinishedLogits
from pipeline.views import Augmentation, Floats16, Views

BLOCK_BATCHES = 8
"""Batches between two writes: as much is computed again after a kill."""

ROUNDING = 5e-3
"""Of the sum of probabilities that were stored as float16."""

ORDER = ("val", "test", "train")
"""Validation images first: they show whether the teacher can be trusted at all."""


def run(
    *,
    index: Path,
    teacher: Path,
    views: Views,
    stored_as: storage.Storage,
    batch_size: int,
    previous: Sequence[Path],
    output: Path,
) -> None:
    """Writes `teacher_logits.h5`: V views of every training image, the untouched image of every other.

    Args:
        index: `data/index.csv`.
        teacher: the `.keras` file of the teacher.
        views: which views there are.
        stored_as: how the logits are stored.
        batch_size: images in one forward pass.
        previous: earlier versions of the output, whose rows are taken where they hold.
        output: the file to write.

    Raises:
        PipelineError: the index or the teacher is missing, the teacher knows other classes, gives no logits, or
            is less accurate than when it was trained.
    """
    data = read_index(index)
    model = model_files.load_classifier(teacher, data.class_names)
    model_files.refuse_probabilities(model, teacher)
    refuse_changed(data.images)
    if views.advice:
        print(views.advice, file=sys.stderr)
    provenance = Provenance(
        class_names=tuple(data.class_names),
        teacher=model.name,
        teacher_sha256=sha256_file(teacher),
        dataset=data.fingerprint(),
        preprocessing={"input_shape": list(model.input_shape[1:]), "resize": "bilinear, antialiased, rounded to uint8"},
        batch_size=batch_size,
        views=views.as_json(),
        storage=stored_as.as_json(),
    )
    stored_as.columns(len(data.class_names))  # refuses a k that is too large
    with workspace(output, provenance=asdict(provenance), numerics=numerics()) as folder:
        finished = folder / "finished.h5"
        if not finished.is_file() or damage(finished):
            unfinished = UnfinishedLogits(folder, provenance, {split: _rows(data, split) for split in SPLITS})
            with unfinished, open_earlier(previous, provenance) as before:
                _Pass(data, teacher, Forward(model, batch_size), unfinished, views).run(before)
            unfinished.finish(finished)
        publish_copy(finished, output)
    print(f"wrote {output}")


def _rows(data: Index, split: str) -> Rows:
    images = data.split(split)
    return Rows([image.id for image in images], data.labels(images), [image.sha256 for image in images])


class _Pass:
    """The teacher's pass over whatever rows are missing.

    Args:
        data: the index.
        teacher: where the teacher came from.
        forward: its forward pass.
        unfinished: the file to fill, open.
        views: of the training images.
    """

    def __init__(
        self, data: Index, teacher: Path, forward: Forward, unfinished: UnfinishedLogits, views: Views
    ) -> None:
        self.data, self.teacher, self.forward, self.unfinished = data, teacher, forward, unfinished
        self.splits = {split: self._split(split, views.of_split(split)) for split in ORDER}

    def _split(self, split: str, views: Views) -> "_Split":
        images = self.data.split(split)
        affines, colours = self.unfinished.transforms(split)
        pixels = Images([image.path for image in images], self.forward.input_shape, keep=False)
        return _Split(split, _rows(self.data, split), pixels, views.augmentation, affines, colours)

    def run(self, before: EarlierLogits | None) -> None:
        """Takes what earlier files have, and computes the rest."""
        if before is not None:
            self._take(before)
        missing = {split: int(self.unfinished.missing(split).sum()) for split in ORDER}
        with Progress("precompute", sum(missing.values()), "views") as progress:
            for split in ORDER:
                self._compute(self.splits[split], progress)
                if split == "val":
                    self._refuse_probabilities()
                    self._refuse_less_accurate()

    def _take(self, before: EarlierLogits) -> None:
        found = [rows for split in self.splits.values() for rows in self._find(before, split)]
        if not all(self._still_holds(before, rows) for rows in found):
            print("an earlier file is left aside: the teacher gives other logits now (another device or library?)")
            return
        for rows in found:
            for part in rows.parts():
                self.unfinished.put(part.split, np.full(len(part.rows), part.view), part.rows, before.read(part))
        if found:
            print(f"{sum(len(rows.rows) for rows in found)} views are taken from the earlier file")

    def _find(self, before: EarlierLogits, split: "_Split") -> Iterator[Found]:
        missing = self.unfinished.missing(split.name)
        return before.find(split.name, split.rows, split.affines, split.colours, missing)

    def _still_holds(self, before: EarlierLogits, found: Found) -> bool:
        """Compares, bit for bit, one batch of found rows with what the teacher says of them now."""
        few = found.sample(self.forward.batch_size)
        (logits,) = self._logits(self.splits[found.split], np.full(len(few.rows), few.view), few.rows)
        now, then = self.unfinished.encode(logits), before.read(few)
        return all(np.array_equal(now[name], then[name]) for name in now)

    def _compute(self, split: "_Split", progress: Progress) -> None:
        rows, views = np.nonzero(self.unfinished.missing(split.name).T)
        start = 0
        for block in _blocks(self._logits(split, views, rows)):
            part = slice(start, start + len(block))
            self.unfinished.put(split.name, views[part], rows[part], self.unfinished.encode(block))
            progress.advance(len(block))
            start = part.stop

    def _logits(self, split: "_Split", views: Ints, rows: Ints) -> Iterator[npt.NDArray[np.float32]]:
        """What the teacher says of some views, in batches.

        Raises:
            PipelineError: it is not finite.
        """
        start = 0
        batches = self.forward.of_views(split.images, views, rows, split.affines, split.colours, split.augmentation)
        for logits in batches:
            bad = ~np.isfinite(logits).all(axis=1)
            if bad.any():
                names = [split.rows.ids[row] for row in rows[start : start + len(logits)][bad]]
                raise PipelineError(
                    f"{self.teacher} gives logits that are not finite for {len(names)} view(s), such as of "
                    f"{first_few(names)}. Train it again, with a lower learning rate: "
                    "`dvc repro --single-item --force train_teacher`, then `dvc repro`."
                )
            start += len(logits)
            yield logits

    def _refuse_probabilities(self) -> None:
        smallest, largest, sums = self.unfinished.outputs("val")
        if smallest.min() < 0 or largest.max() > 1 + ROUNDING:
            return
        if np.allclose(sums, 1, rtol=0, atol=ROUNDING):
            raise PipelineError(f"{self.teacher} {model_files.NO_LOGITS}")
        print(f"warning: all outputs of {self.teacher} lie between 0 and 1. Are they logits?", file=sys.stderr)

    def _refuse_less_accurate(self) -> None:
        """Compares the teacher's accuracy on its validation images with the one recorded in its file."""
        record = model_files.read_record(self.teacher)
        images = self.data.split("val")
        accuracy = float(np.mean(self.unfinished.predictions("val") == self.data.labels(images)))
        if record is None or record["validation"]["images"] != fingerprint_of(images):
            then = "not recorded" if record is None else f"{record['validation']['accuracy']:.4f}, on other images"
            print(f"validation accuracy of the teacher: {accuracy:.4f} (when it was trained: {then})", file=sys.stderr)
            return
        then = record["validation"]["accuracy"]
        if abs(accuracy - then) > max(1, len(images) / 200) / len(images) + 1e-6:
            raise PipelineError(
                f"{self.teacher} is right on {accuracy:.4f} of its {len(images)} validation images, but it was on "
                f"{then:.4f} when it was trained. Its file, the images or the libraries have changed. Train it again "
                "with `dvc repro --single-item --force train_teacher`, then `dvc repro`."
            )


@dataclass(frozen=True)
class _Split:
    """The images of one split, and their views as stored: (V, N, 6) each."""

    name: str
    rows: Rows
    images: Images
    augmentation: Augmentation
    affines: Floats16
    colours: Floats16


def _blocks(batches: Iterator[npt.NDArray[np.float32]]) -> Iterator[npt.NDArray[np.float32]]:
    """Joins every `BLOCK_BATCHES` batches."""
    while block := list(islice(batches, BLOCK_BATCHES)):
        yield np.concatenate(block)
