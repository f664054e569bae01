"""Class folders of links to images that are not copied, for other programs that expect such folders."""

import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.datasets.copying import place_of, taken_twice
from pipeline.datasets.labelled import Annotation
from pipeline.images.index import SplitName
from pipeline.runtime.errors import MismatchError
from pipeline.runtime.publish import publish


def write_links(rows: Sequence[Annotation], splits: Sequence[SplitName], folder: Path) -> None:
    """Makes a link to each image file: `<folder>/<split>/<class>/<image>`.

    A link to a relative path is relative, so it outlives a move of the repository.

    Args:
        rows: the images; those in shards and arrays get no link.
        splits: the split of each.
        folder: the folder of links, which is replaced; `refuse_others` has found nothing else in it.

    Raises:
        UnusableError: two images have one name.
    """
    with publish(folder) as partial:
        partial.mkdir()
        real = folder.parent.resolve() / folder.name
        for row, split in zip(rows, splits, strict=True):
            if isinstance(row.image, Path):
                place = place_of(row, split)
                (partial / place).parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.symlink(_target(row.image, real / place), partial / place)
                except FileExistsError:
                    raise taken_twice(row.id, partial / place) from None


def refuse_others(folder: Path) -> None:
    """Refuses a folder that this program has not made.

    Raises:
        MismatchError: it holds other things than links and folders.
    """
    for above, _, names in os.walk(folder):
        other = next((name for name in names if not os.path.islink(os.path.join(above, name))), None)
        if other is not None:
            raise MismatchError(
                f"{folder} is the folder of links to images, and holds {Path(above, other)}, which is none. Nothing "
                "was changed: move what is yours out of this folder, then run again."
            )


def _target(image: Path, link: Path) -> str:
    return os.fspath(image) if image.is_absolute() else os.path.relpath(Path.cwd() / image, link.parent)
