"""The images that arguments of a command name: files, folders, and patterns such as `photos/**/*.jpg`."""

import glob
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.datasets.folders import IMAGE_EXTENSIONS, files_below, is_left_by_a_system
from pipeline.runtime.errors import MissingError, ParameterError, UnusableError, quoted
from pipeline.runtime.plain_names import is_formula

SHARDS = (".tar", ".parquet")

COMMANDS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
"""Characters that a terminal may take for a command; line ends are none, which a CSV file has in quotes."""


def named_images(names: Sequence[str], may_be_missing: bool = False) -> list[str]:
    """The paths of images, in the order of the names.

    Args:
        names: each is a folder, which stands for all images below it; a pattern, which stands for all images that it
            matches, where `**` is any number of folders; or the path of a file, whatever its ending. What a folder or a
            pattern stands for is sorted, and begins with ./ where it would be a formula of a spreadsheet. Neither a
            folder nor `**` enters links to folders.
        may_be_missing: whether a file that is named need not exist.

    Raises:
        MissingError: a folder holds no image, or a file is a shard, a pattern matches none, or there is no such file.
        ParameterError: a name is empty.
        UnusableError: a name that nobody gave could be a command to a terminal.
    """
    return [path for name in names for path in _images_of(name, may_be_missing)]


def _images_of(name: str, may_be_missing: bool) -> list[str]:
    if not name:
        raise ParameterError("the name of an image is empty. Name a file, a folder or a pattern; . is this folder.")
    if Path(name).is_dir():
        found = _harmless([Path(name, file).as_posix() for file in files_below(Path(name)) if _is_image(file)])
    elif Path(name).exists():
        found = [] if Path(name).suffix.lower() in SHARDS else [name]
    elif glob.has_magic(name):
        found = _harmless(sorted({path for path in _matches(name) if _is_image(path) and Path(path).is_file()}))
    elif may_be_missing:
        found = [name]
    else:
        raise MissingError(f"there is no image {name}. Correct the name, or skip such files with --keep-going.")
    if not found:
        endings = ", ".join(sorted(IMAGE_EXTENSIONS))
        raise MissingError(
            f"{name} names no image: no file there ends in one of {endings}. Name another folder. Images in shards "
            f"({', '.join(SHARDS)}) cannot be named: unpack them."
        )
    return found


def _harmless(paths: Sequence[str]) -> list[str]:
    commands = [path for path in paths if COMMANDS.search(path)]
    if commands:
        raise UnusableError(
            f"{len(commands)} image(s) have control characters in their names: {quoted(commands)}. Rename them, or "
            "name each of the images yourself."
        )
    return [f"./{path}" if is_formula(path) else path for path in paths]


def _matches(pattern: str) -> Iterator[str]:
    """As `glob.iglob`, whose `**` would enter links, also to a folder above."""
    before, *behind = re.split(r"(?:(?<=/)|^)\*\*(?:/+|$)", pattern, maxsplit=1)
    if not behind:
        yield from glob.iglob(pattern)
        return
    for top in glob.iglob(before) if before else [""]:
        for folder, inner, _ in os.walk(top or "."):
            inner[:] = [name for name in inner if not is_left_by_a_system(name)]
            below = folder if top else folder[2:]  # of "./photos"
            yield from _matches(os.path.join(glob.escape(below), behind[0] or "*"))


def _is_image(path: str) -> bool:
    return Path(path).suffix.lower() in IMAGE_EXTENSIONS
