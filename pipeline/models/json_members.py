"""Members of a `.keras` file, which is a zip archive: how much they may unpack to, and those that are JSON."""

import errno
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.runtime.errors import shortened
from pipeline.runtime.limits import Limits, limits
from pipeline.runtime.text_files import parsed_json

CONFIG = "config.json"
"""The member that holds the layers, as Keras serializes them."""

NO_ARCHIVE = (None, errno.EINVAL, errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
"""Numbers of errors that say what a file is, not that it cannot be read: zip asks for a place before the first byte."""

MOST_EXPANSION = 100
"""How often a member may be larger than its compressed bytes; Keras and this program compress nothing."""


def refuse_expanding(member: zipfile.ZipInfo) -> None:
    """Checks how much a member says that it unpacks to.

    Raises:
        ValueError: it is too much.
    """
    if member.file_size > MOST_EXPANSION * max(member.compress_size, 1):
        raise ValueError(f"{shortened(member.filename, 60)!r} unpacks to {member.file_size:,} bytes")


def read_member(archive: zipfile.ZipFile, name: str, within: Limits | None = None) -> Any:
    """A document of an archive.

    Args:
        archive: the archive.
        name: the member.
        within: its limits; None for those in force.

    Raises:
        ValueError: it is no such document, or beyond a limit; says why in a few words.
        KeyError: there is no such member.
        OSError, zipfile.BadZipFile: it cannot be read.
    """
    within = within or limits()
    with archive.open(name) as file:  # what the archive says of the size need not be true
        content = file.read(within.text_bytes + 1)
    return parsed_json(content, within)


def member_if_any(path: Path, name: str) -> Any:
    """A document of a file that need not be a whole archive; None if the archive cannot be read.

    Raises:
        OSError: the disk fails.
    """
    return _of_archive(path, lambda archive: read_member(archive, name))


def names_if_any(path: Path) -> list[str]:
    """The names of the members of a file that need not be a whole archive; none if the archive cannot be read.

    Raises:
        OSError: the disk fails.
    """
    return _of_archive(path, zipfile.ZipFile.namelist) or []


def _of_archive(path: Path, read: Callable[[zipfile.ZipFile], Any]) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            return read(archive)
    except OSError as error:
        if error.errno not in NO_ARCHIVE:
            raise
        return None
    except Exception:  # zip and its decompressors have many, also where `zipfile.is_zipfile` says that the file is one
        return None
