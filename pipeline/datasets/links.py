"""Class folders of links to images that are not copied, for other programs that expect such folders."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.datasets.copying import place_of, taken_twice
from pipeline.datasets.labelled import Annotation
from pipeline.images.index import SplitName
from pipeline.images.places import is_in_shard
from pipeline.runtime.errors import DamagedError, MismatchError
from pipeline.runtime.publish import publish, remove
from pipeline.runtime.text_files import read_json

LIST = "links.json"
"""The file in the folder of links that lists them, by which they are told from links of the user."""


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
        made: dict[str, str] = {}
        for row, split in zip(rows, splits, strict=True):
            if isinstance(row.image, str) and not is_in_shard(row.image):
                place = place_of(row, split)
                made[place] = _target(Path(row.image), real / place)
                (partial / place).parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.symlink(made[place], partial / place)
                except FileExistsError:
                    raise taken_twice(row.id, partial / place) from None
        (partial / LIST).write_text(json.dumps(made), encoding="utf-8")


def remove_links(folder: Path) -> None:
    """Removes a folder that `write_links` has made, and no other one."""
    if _made_in(folder) is not None:
        remove(folder)


def refuse_others(folder: Path, is_to_be_written: bool) -> None:
    """Refuses what this program has not made, where it would be replaced or removed.

    Raises:
        MismatchError: the folder of links holds other things, or another thing that is to be written has its name.
    """
    made = _made_in(folder)
    if made is not None:
        strange = (place for place in _entries(folder) if place != LIST and made.get(place) != _link_at(folder / place))
        other = next(strange, None)
        if other is not None:
            raise MismatchError(
                f"{folder} is the folder of links to images, and holds {folder / other}, which is none that split has "
                "made. Nothing was changed: move what is yours out of this folder, then run again."
            )
    elif is_to_be_written and os.path.lexists(folder):
        raise MismatchError(
            f"{folder} is where split.links writes links to images, and split has not made what is there. Nothing was "
            "changed: move it to another place, or set split.links: false, then run again."
        )


def _made_in(folder: Path) -> dict[str, str] | None:
    """The target of each link that `write_links` has made, by its place in the folder; None in another folder."""
    if folder.is_symlink():
        return None
    try:
        made = read_json(folder / LIST, "", "table_bytes")
    except (OSError, DamagedError):
        return None
    return made if isinstance(made, dict) else None


def _entries(folder: Path) -> Iterator[str]:
    """The places of all files and links in the folder."""
    for above, folders, names in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(above, name))]
        yield from (Path(above, name).relative_to(folder).as_posix() for name in [*names, *links])


def _link_at(path: Path) -> str:
    """Where a link leads; "" for what is none."""
    return os.readlink(path) if path.is_symlink() else ""


def _target(image: Path, link: Path) -> str:
    return os.fspath(image) if image.is_absolute() else os.path.relpath(Path.cwd() / image, link.parent)
