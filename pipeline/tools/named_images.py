"""The images that arguments of a command name: files, folders, and patterns such as `photos/**/*.jpg`."""

import glob
from collections.abc import Sequence
from pathlib import Path

from pipeline.datasets.folders import IMAGE_EXTENSIONS, files_below
from pipeline.runtime.errors import MissingError


def named_images(names: Sequence[str]) -> list[str]:
    """The paths of images, in the order of the names.

    Args:
        names: each is a folder, which stands for all images below it; a pattern, which stands for all images that it
            matches, where `**` is any number of folders; or the path of a file, whatever its ending. What a folder or a
            pattern stands for is sorted.

    Raises:
        MissingError: a folder holds no image, or a pattern matches none.
    """
    return [path for name in names for path in _images_of(name)]


def _images_of(name: str) -> list[str]:
    if Path(name).is_dir():
        found = [Path(name, file).as_posix() for file in files_below(Path(name)) if _is_image(file)]
    elif glob.has_magic(name) and not Path(name).exists():
        found = sorted(path for path in glob.iglob(name, recursive=True) if _is_image(path) and Path(path).is_file())
    else:
        found = [name]
    if not found:
        endings = ", ".join(sorted(IMAGE_EXTENSIONS))
        raise MissingError(f"{name} names no image: no file there ends in one of {endings}. Name another folder.")
    return found


def _is_image(path: str) -> bool:
    return Path(path).suffix.lower() in IMAGE_EXTENSIONS
