"""Rows of an earlier `teacher_logits.h5` that hold for the new one, so that only what is new is computed.

A row holds if the teacher, the preprocessing, the batch size, the image's content and the view's transforms
are the same, and its storage is the same or dense float32, from which every storage follows.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.images.index import SPLITS, SplitName
from pipeline.images.views import IDENTITY, Floats16, Views
from pipeline.runtime.errors import DamagedError, MissingError
from pipeline.soft_labels import logit_storage
from pipeline.soft_labels.reading import Provenance, Rows, SoftLabelFile, open_logits, slabs

Ints = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Found:
    """Rows of one view that an earlier file has.

    Attributes:
        split: of the new file.
        view: the number of the view, in both files.
        rows: R row numbers in the new file.
        old_split: of the earlier file.
        old_rows: R row numbers in the earlier file.
    """

    split: SplitName
    view: int
    rows: Ints
    old_split: SplitName
    old_rows: Ints

    def sample(self, count: int) -> "Found":
        """At most `count` of them, evenly spread."""
        chosen = np.unique(np.linspace(0, len(self.rows) - 1, count).astype(np.intp))
        return replace(self, rows=self.rows[chosen], old_rows=self.old_rows[chosen])

    def parts(self) -> Iterator["Found"]:
        """The same in parts of few rows, so that memory stays flat."""
        for part in slabs(len(self.rows)):
            yield replace(self, rows=self.rows[part], old_rows=self.old_rows[part])


@contextmanager
def open_earlier(candidates: Sequence[Path], provenance: Provenance) -> Iterator["EarlierLogits | None"]:
    """Opens the first of some earlier files that fits.

    Args:
        candidates: earlier files; a damaged or removed one is no loss, its rows are computed again.
        provenance: of the new file.
    """
    with ExitStack() as stack:
        for path in candidates:
            try:
                file = stack.enter_context(open_logits(path))
            except (MissingError, DamagedError) as error:
                print(f"an earlier file is left aside: {error}", file=sys.stderr)
                continue
            may_differ = {name: getattr(provenance, name) for name in ("dataset", "views", "storage")}
            same_teacher = replace(file.provenance, **may_differ) == provenance
            if same_teacher and file.storage in (logit_storage.of(provenance.storage), logit_storage.Dense("float32")):
                yield EarlierLogits(file, provenance)
                return
        yield None


class EarlierLogits:
    """The rows of an earlier file, found by content.

    Args:
        file: the earlier file.
        provenance: of the new file.
    """

    def __init__(self, file: SoftLabelFile, provenance: Provenance) -> None:
        self._file, self._wanted = file, logit_storage.of(provenance.storage)
        fill_mode = Views.from_json(provenance.views).augmentation.fill_mode
        self._same_fill = file.views("train").augmentation.fill_mode == fill_mode

    def find(
        self, split: SplitName, rows: Rows, affines: Floats16, colors: Floats16, missing: npt.NDArray[np.bool_]
    ) -> Iterator[Found]:
        """Finds what it has of the missing rows of one split.

        Args:
            split: "train", "val" or "test" of the new file.
            rows: the images of the split.
            affines: (V, N, 6), of the new file.
            colors: (V, N, 6), of the new file.
            missing: (V, N), which rows are wanted.
        """
        wanted = missing.copy()
        for old_split in SPLITS:
            new, old = self._same_images(old_split, rows)
            for view in range(min(len(missing), self._file.views(old_split).count)):
                old_affines, old_colors = self._file.transforms(old_split, view)
                same = (old_affines[old] == affines[view, new]).all(1) & (old_colors[old] == colors[view, new]).all(1)
                if not self._same_fill:
                    same &= (affines[view, new] == IDENTITY).all(1)
                same &= wanted[view, new]
                wanted[view, new[same]] = False
                if same.any():
                    yield Found(split, view, new[same], old_split, old[same])

    def _same_images(self, old_split: SplitName, rows: Rows) -> tuple[Ints, Ints]:
        """The row numbers of the images that both have, in the new and in the old file."""
        names = zip(self._file.image_sha256(old_split), self._file.ids(old_split), strict=True)
        by_content: dict[str | tuple[str, str], int] = {}
        for number, (content, image_id) in enumerate(names):
            by_content[content] = by_content[content, image_id] = number
        pairs = [
            (row, by_content.get((content, image_id), by_content.get(content, -1)))
            for row, (content, image_id) in enumerate(zip(rows.image_sha256, rows.ids, strict=True))
        ]
        new, old = np.array(pairs, np.intp).reshape(-1, 2).T
        return new[old >= 0], old[old >= 0]

    def read(self, found: Found) -> logit_storage.Columns:
        """The columns of found rows, in the new file's storage."""
        first = found.old_rows.min()
        stretch = self._file.columns(found.old_split, found.view, slice(first, found.old_rows.max() + 1))
        columns = {name: values[found.old_rows - first] for name, values in stretch.items()}
        if self._file.storage == self._wanted:
            return columns
        return self._wanted.encode(columns["logits"])
