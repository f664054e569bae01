"""The digest in an exported file, which shows damage anywhere in it.

The file's JSON object (`metadata`) has the entry `"digest"`: the SHA-256 of the whole file in which these 64 characters
are zeros. Of a folder it is the SHA-256 of all its files, by name. A runtime that is handed damaged bytes may crash, so
the digest is compared before a runtime sees them. It is no signature: who changes a file on purpose can compute it
anew.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from pipeline.deployed.metadata import NO_DIGEST, REMEDY, Metadata, from_json
from pipeline.runtime.errors import DamagedError, MissingError, UnusableError

DIGEST = re.compile(rb'(?<="digest": ")[0-9a-f]{64}(?=")')
"""The digest in JSON; a class name cannot hold this text, because quotation marks in it are escaped."""

FIRST_KEY = b'{"class_names": ['
"""How the JSON object begins: its keys are sorted."""

LARGEST_OBJECT = 2**24
"""A JSON object ends within so many bytes."""

IN_FOLDER = Path("assets.extra", "softlabel.json")
"""The file of a folder that holds the JSON object."""


class _Digest(Protocol):
    def update(self, content: bytes | memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...


def sealed(content: bytes) -> bytes:
    """The same bytes with their digest in the place of `NO_DIGEST`.

    Raises:
        ValueError: the content does not hold one digest, or it is there already.
    """
    (place,) = DIGEST.finditer(content)
    if place[0] != NO_DIGEST.encode():
        raise ValueError(f"the content is sealed already: {place[0]!r}")
    digest = _without(content, place, hashlib.sha256())
    return content[: place.start()] + digest.encode() + content[place.end() :]


def unsealed(content: bytes, file: Path) -> Metadata:
    """What an exported file says of itself, if its bytes are those that were written.

    Args:
        content: the bytes of the file.
        file: its name, for messages.

    Raises:
        UnusableError: it is no file of the stage `export`.
        DamagedError: its bytes have changed.
        MismatchError: another version of this program wrote it.
    """
    places = list(DIGEST.finditer(content))
    if not places:
        raise UnusableError(
            f"{file} is no file of the stage export, or it is damaged: it does not say which classes, which size and "
            f"which resizing it was made for. {REMEDY}"
        )
    if len(places) > 1 or _without(content, places[0], hashlib.sha256()) != places[0][0].decode():
        raise DamagedError(_changed(file))
    return from_json(_object_around(content, places[0], file), file)


def seal_folder(folder: Path) -> None:
    """Writes the digest of all files in a folder into its `IN_FOLDER`.

    Raises:
        ValueError: as `sealed`.
    """
    file = folder / IN_FOLDER
    content = file.read_bytes()
    (place,) = DIGEST.finditer(content)
    digest = _of_folder(folder, place)
    file.write_bytes(content[: place.start()] + digest.encode() + content[place.end() :])


def unsealed_folder(folder: Path) -> Metadata:
    """As `unsealed`, of a folder.

    Raises:
        MissingError: there is no such folder, or it does not say what it is.
        UnusableError, DamagedError, MismatchError: as `unsealed`.
    """
    file = folder / IN_FOLDER
    if not file.is_file():
        raise MissingError(f"there is no {file}, which an exported folder has. {REMEDY}")
    content = file.read_bytes()
    places = list(DIGEST.finditer(content))
    if len(places) != 1 or _of_folder(folder, places[0]) != places[0][0].decode():
        raise DamagedError(_changed(folder))
    return from_json(content.decode("ascii"), file)


def _changed(file: Path) -> str:
    return f"{file} is damaged: its bytes are not those that were written. {REMEDY}"


def _without(content: bytes, place: re.Match[bytes], digest: _Digest) -> str:
    """The hexadecimal digest of the content with zeros in a place."""
    whole = memoryview(content)
    digest.update(whole[: place.start()])
    digest.update(NO_DIGEST.encode())
    digest.update(whole[place.end() :])
    return digest.hexdigest()


def _of_folder(folder: Path, place: re.Match[bytes]) -> str:
    digest = hashlib.sha256()
    for name, content in _files(folder).items():
        digest.update(f"{name}\0{len(content)}\0".encode())
        if name == IN_FOLDER.as_posix():
            _without(content, place, digest)
        else:
            digest.update(content)
    return digest.hexdigest()


def _files(folder: Path) -> Mapping[str, bytes]:
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {name: (folder / name).read_bytes() for name in names}


def _object_around(content: bytes, place: re.Match[bytes], file: Path) -> str:
    """The text of the JSON object around the digest."""
    start = content.rfind(FIRST_KEY, 0, place.start())
    end = content.find(b"}", content.find(b'"version": ', place.end()))
    if not 0 <= start < place.start() < end < start + LARGEST_OBJECT:
        raise DamagedError(_changed(file))
    return content[start : end + 1].decode("latin-1")
