"""Rows of an earlier `teacher_logits.h5` that the new file can take, so that only new rows are computed.

A row can be taken if the teacher, the preprocessing, the batch size, the image's content and the view's transforms are
the same. Its storage must be the same as well, or dense float32, from which every other storage can be computed.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.images.index import SPLITS, SplitName
from pipeline.images.transforms import IDENTITY, NOT_MIXED, Transforms
from pipeline.images.views import Views
from pipeline.runtime.errors import DamagedError, MissingError, UnusableError
from pipeline.soft_labels import logit_storage
from pipeline.soft_labels.reading import Provenance, Rows, SoftLabelFile, open_logits, slabs

Ints = npt.NDArray[np.intp]


@dataclass(frozen=True)
class EarlierRows:
    """Rows of one view that an earlier file has.

    Attributes:
        split: the split in the new file.
        view: the number of the view in both files.
        rows: R row numbers in the new file.
        old_split: the split in the earlier file.
        old_rows: R row numbers in the earlier file.
    """

    split: SplitName
    view: int
    rows: Ints
    old_split: SplitName
    old_rows: Ints

    def sample(self, count: int) -> "EarlierRows":
        """At most `count` of the rows, evenly spaced."""
        chosen = np.unique(np.linspace(0, len(self.rows) - 1, count).astype(np.intp))
        return replace(self, rows=self.rows[chosen], old_rows=self.old_rows[chosen])

    def parts(self) -> Iterator["EarlierRows"]:
        """The same rows in parts, so that memory stays flat."""
        for part in slabs(len(self.rows)):
            yield replace(self, rows=self.rows[part], old_rows=self.old_rows[part])


@contextmanager
def open_earlier(candidates: Sequence[Path], provenance: Provenance) -> Iterator["EarlierLogits | None"]:
    """Opens the first earlier file whose rows can be taken; None if there is none.

    Args:
        candidates: earlier files. A missing or damaged one is left aside, since its rows can be computed again.
        provenance: the new file's.
    """
    with ExitStack() as stack:
        for path in candidates:
            try:
                file = stack.enter_context(open_logits(path))
            except (MissingError, DamagedError, UnusableError) as error:
                print(f"an earlier file is left aside: {error}", file=sys.stderr)
                continue
            may_differ = {name: getattr(provenance, name) for name in ("dataset", "views", "storage")}
            same_teacher = replace(file.provenance, **may_differ) == provenance
            if same_teacher and file.storage in (logit_storage.of(provenance.storage), logit_storage.Dense("float32")):
                yield EarlierLogits(file, provenance)
                return
        yield None


class EarlierLogits:
    """The rows of an earlier file, which are found by the content of their images.

    Args:
        file: the earlier file.
        provenance: the new file's.
    """

    def __init__(self, file: SoftLabelFile, provenance: Provenance) -> None:
        self._file, self._storage = file, logit_storage.of(provenance.storage)
        fill_mode = Views.from_json(provenance.views).augmentation.fill_mode
        self._same_fill = file.views("train").augmentation.fill_mode == fill_mode

    def find(
        self, split: SplitName, rows: Rows, transforms: Transforms, missing: npt.NDArray[np.bool_]
    ) -> Iterator[EarlierRows]:
        """Finds those of a split's missing rows that the earlier file has.

        Args:
            split: "train", "val" or "test" of the new file.
            rows: the images of the split.
            transforms: (V, N, ...), the new file's.
            missing: (V, N), whether each row is missing.
        """
        missing = missing.copy()
        for old_split in SPLITS:
            new, old = self._same_images(old_split, rows)
            for view in range(min(len(missing), self._file.views(old_split).count)):
                same = self._same_views(transforms[view], self._file.transforms(old_split, view), new, old)
                same &= missing[view, new]
                missing[view, new[same]] = False
                if same.any():
                    yield EarlierRows(split, view, new[same], old_split, old[same])

    def _same_views(self, now: Transforms, then: Transforms, new: Ints, old: Ints) -> npt.NDArray[np.bool_]:
        """Whether each of S images, in the rows `new` and `old`, has the same view in both files: (S,).

        Both (N, ...) are the transforms of one view. A mixed view has the same partner if that is one of the images
        that both files have, with the same picture.
        """
        same_picture = self._same_pictures(now[new], then[old])
        partner, earlier_partner = now.partner[new], then.partner[old]
        is_mixed = partner != NOT_MIXED
        same = np.asarray(same_picture & (is_mixed == (earlier_partner != NOT_MIXED)))
        if not is_mixed.any():
            return same
        place = np.full(max(len(now), 1), NOT_MIXED)
        place[new] = np.arange(len(new))
        at = place[partner]  # where the partner stands among the S images
        same_partner = (at != NOT_MIXED) & (old[at] == earlier_partner) & same_picture[at]
        same_mix = (now.own_share[new] == then.own_share[old]) & (now.box[new] == then.box[old]).all(1)
        return np.asarray(same & (~is_mixed | (same_partner & same_mix)))

    def _same_pictures(self, now: Transforms, then: Transforms) -> npt.NDArray[np.bool_]:
        same = now.equal_pictures(then)
        # With another fill mode, only an untouched image has no pixels that were filled in.
        return same if self._same_fill else np.asarray(same & (now.affine == IDENTITY).all(-1))

    def _same_images(self, old_split: SplitName, rows: Rows) -> tuple[Ints, Ints]:
        """The row numbers of the images that both files have, in the new and in the old file."""
        names = zip(self._file.image_sha256(old_split), self._file.ids(old_split), strict=True)
        # Among copies of one image, the id decides; otherwise the content alone, so that an image may be renamed.
        by_content: dict[str | tuple[str, str], int] = {}
        for number, (content, image_id) in enumerate(names):
            by_content[content] = by_content[content, image_id] = number
        pairs = [
            (row, by_content.get((content, image_id), by_content.get(content, -1)))
            for row, (content, image_id) in enumerate(zip(rows.image_sha256, rows.ids, strict=True))
        ]
        new, old = np.array(pairs, np.intp).reshape(-1, 2).T
        return new[old >= 0], old[old >= 0]

    def read(self, rows: EarlierRows) -> logit_storage.Columns:
        """The columns of rows that were found, in the new file's storage."""
        # One slice, then a choice in memory: h5py is slow at reading a list of rows.
        first = rows.old_rows.min()
        stretch = self._file.columns(rows.old_split, rows.view, slice(first, rows.old_rows.max() + 1))
        columns = {name: values[rows.old_rows - first] for name, values in stretch.items()}
        if self._file.storage == self._storage:
            return columns
        return self._storage.encode(columns["logits"])
