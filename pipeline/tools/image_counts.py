"""How many images each split of the data set has, before anything has run."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.datasets.duplicates import Duplicates
from pipeline.datasets.layouts import LAYOUTS, Layout
from pipeline.datasets.split_drawing import draw, refuse_empty_splits
from pipeline.images.index import SPLITS, SplitName, read_index
from pipeline.runtime.errors import UnusableError


@dataclass(frozen=True)
class ImageCounts:
    """The numbers of images in the data set.

    Attributes:
        source: the file that they come from.
        counts: how many images each split has.
        class_names: C names, in the order of the class axis.
        id_bytes: the length of the longest id of each split.
        unlabelled: how many of the training images have no label.
        unused: how many images without a label are left out.
    """

    source: Path
    counts: Mapping[SplitName, int]
    class_names: Sequence[str]
    id_bytes: Mapping[SplitName, int]
    unlabelled: int = 0
    unused: int = 0

    @property
    def classes(self) -> int:
        """C."""
        return len(self.class_names)


def count_images(
    index: Path,
    layout: Layout,
    settings: Mapping[str, Any],
    duplicates: Duplicates = "warn",
    limit: int | None = None,
    use_unlabelled: bool = True,
) -> ImageCounts:
    """Counts the images in the raw data; if these are not there, in the index.

    Args:
        index: the index, which may be missing.
        layout: one of `layouts.LAYOUTS`.
        settings: the arguments of that layout's reader.
        duplicates: as in `split.run`.
        limit: as in `split.run`.
        use_unlabelled: as in `split.run`.

    Raises:
        PipelineError: neither can be read, or a split has no images.
    """
    if settings["data"].exists() or not index.is_file():
        data_set = LAYOUTS[layout](**settings)
        drawn = draw(
            data_set,
            keep_copies_in_train=duplicates == "keep_in_train",
            limit=limit,
            use_unlabelled=use_unlabelled,
        )
        refuse_empty_splits(drawn, data_set)
        source, class_names = data_set.source, data_set.class_names
        unused = drawn.unused + len(drawn.copied) + len(drawn.in_groups)
        rows = [(split, row.id, row.is_labelled) for split, row in zip(drawn.splits, drawn.rows, strict=True)]
    else:
        listed = read_index(index)
        source, class_names, unused = index, listed.class_names, 0
        rows = [(image.split, image.id, image.is_labelled) for image in listed.images]
    id_bytes = {split: max((len(row[1].encode()) for row in rows if row[0] == split), default=0) for split in SPLITS}
    empty = [split for split in SPLITS if not id_bytes[split]]
    if empty:
        raise UnusableError(
            f"{source} gives no images for the split(s) {', '.join(empty)}. "
            "Add images, or change split.val_fraction and split.test_fraction."
        )
    unlabelled = sum(not row[2] for row in rows)
    return ImageCounts(source, Counter(row[0] for row in rows), class_names, id_bytes, unlabelled, unused)
