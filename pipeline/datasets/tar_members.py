"""The members of a tar file and where their bytes lie; nothing is unpacked, and no link is followed."""

import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from pipeline.runtime.bounded_reads import BoundedReads
from pipeline.runtime.errors import DamagedError, UnusableError, one_line, quoted

COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
"""How compressed files start."""

BLOCK = 512
"""Bytes; a tar file consists of blocks."""

READ_AT_ONCE = 2**20
"""Bytes; no header is larger."""

DIGITS = re.compile(rb"\d{200}")
"""Python before 3.11.10 takes time with the square of their number (CVE-2024-6232)."""

REMEDY = "Write or fetch this shard again."


class Member(NamedTuple):
    """A member of a tar file.

    Attributes:
        name: its name there, without `./` before it.
        offset: the first byte of its content in the tar file.
        size: the bytes of its content.
        is_file: whether it is a file of its own; links, devices and files with holes are not.
    """

    name: str
    offset: int
    size: int
    is_file: bool

    @property
    def shown(self) -> str:
        """Its name for a message, in quotes and not long."""
        return quoted([self.name])


def members_of(shard: Path) -> Iterator[Member]:
    """The members of a tar file (ustar, GNU or PAX) in its order, without folders.

    Raises:
        DamagedError: it is no tar file, or damaged, or it ends before its end mark or goes on behind that.
        UnusableError: it is compressed.
    """
    with _Headers(shard, READ_AT_ONCE) as content:
        _refuse_compressed(shard, content)
        end = 0
        for member in _headers(shard, content):
            if member.offset < end or member.size < 0:
                raise DamagedError(
                    f"{shard} has members that lie over each other, such as {quoted([member.name])}. {REMEDY}"
                )
            end = member.offset_data
            if not member.isdir():
                is_file = member.isreg() and not member.issparse()
                yield Member(member.name.removeprefix("./"), member.offset_data, member.size, is_file)


class _Headers(BoundedReads):
    """A file of which a header is read only if Python's reader is done with it in time."""

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(size)
        if len(content) > BLOCK and DIGITS.search(content):
            raise ValueError("a header of digits alone")
        return content


def _headers(shard: Path, content: IO[bytes]) -> Iterator[tarfile.TarInfo]:
    try:
        with tarfile.open(fileobj=content, mode="r:", encoding="utf-8") as file:
            length = os.fstat(content.fileno()).st_size
            while (member := file.next()) is not None:
                vars(file)["members"].clear()  # else it keeps a description of every member
                if file.offset > length:
                    raise DamagedError(
                        f"{shard} is cut off: its member {quoted([member.name])} has {member.size:,} bytes, "
                        f"and the file has {length:,}. {REMEDY}"
                    )
                yield member
            end = file.offset
        _refuse_other_end(shard, content, end)
    except (tarfile.TarError, ValueError, IndexError, OverflowError, EOFError, RecursionError) as error:
        raise DamagedError(
            f"{shard} cannot be read as a tar file: {one_line(error)}. It is cut off, damaged, or something else. "
            f"{REMEDY}"
        ) from None


def _refuse_compressed(shard: Path, content: IO[bytes]) -> None:
    start = content.read(8)
    content.seek(0)
    for magic, name in COMPRESSIONS.items():
        if start.startswith(magic):
            raise UnusableError(
                f"{shard} is compressed by {name}, so no image in it has a place from which it could be read. Unpack "
                "its compression alone, such as by gunzip, and name the .tar file. Images are compressed already."
            )


def _refuse_other_end(shard: Path, content: IO[bytes], end: int) -> None:
    """A tar file ends in blocks of zeros. Python's reader also ends at a damaged header, and where the file is cut."""
    content.seek(end)
    rest = content.read(READ_AT_ONCE)
    if len(rest) < BLOCK:
        raise DamagedError(f"{shard} is cut off: it has no end mark behind byte {end:,}. {REMEDY}")
    while rest:
        if rest.strip(b"\0"):
            raise DamagedError(
                f"{shard} goes on behind byte {end:,} with something that is no member: a damaged header, or another "
                f"tar file. {REMEDY}"
            )
        rest = content.read(READ_AT_ONCE)
