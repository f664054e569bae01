"""What lies in folders of images, without what systems leave there."""

import os
from pathlib import Path

LEFT_BY_SYSTEMS = {"__macosx", "thumbs.db", "desktop.ini"}
"""Names, in lower case, of what macOS and Windows leave in folders."""

IMAGE_EXTENSIONS = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp"}


def is_left_by_a_system(name: str) -> bool:
    """Whether a file or folder is hidden or left behind by macOS or Windows, and so neither an image nor a class."""
    return name.startswith(".") or name.lower() in LEFT_BY_SYSTEMS


def files_below(folder: Path) -> list[str]:
    """The files below a folder, relative to it, sorted; without those that systems leave behind or links lead to."""
    files = []
    for above, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not is_left_by_a_system(name)]
        before = "" if above == os.fspath(folder) else f"{Path(above).relative_to(folder).as_posix()}/"
        kept = [name for name in names if not is_left_by_a_system(name) and os.path.isfile(os.path.join(above, name))]
        files += [before + name for name in kept]
    return sorted(files)
