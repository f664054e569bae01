"""Which files have the content that is expected, without reading each again in every stage.

A record in `.work/` says with which size, times and inode a file had which SHA-256. As long as the system still gives
these, the file is not read. git trusts its index in the same way. Damage of the record costs time, and nothing else: a
file is read before it is said to differ.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from pipeline.runtime.parallel import in_threads
from pipeline.runtime.workspace import in_a_copy, work_folder

RECORD = "digests.sqlite"
"""The name of the record in the work folder. Without it, every file is read again."""

AT_ONCE = 4096
"""How many files are looked up, read and noted at a time."""

SETTLED_SECONDS = 2.0
"""How long ago a file must have changed before its digest is noted: some file systems count time in steps of up to two
seconds, and a further change in the same step could leave the times as they were."""

WAIT_SECONDS = 5.0
"""How long to wait for another process that writes the record."""

TABLE = "CREATE TABLE IF NOT EXISTS digests (place BLOB PRIMARY KEY, state TEXT, sha256 TEXT) WITHOUT ROWID"
ONE = "SELECT state, sha256 FROM digests WHERE place = ?"


class Seen(NamedTuple):
    """What is noted of a file.

    Attributes:
        place: its path, or the place of an image in it.
        state: `state_of` the file when it was read.
        sha256: the digest of the bytes, as 64 hexadecimal digits.
    """

    place: str
    state: str
    sha256: str


def state_of(file: Path) -> str | None:
    """Size, times of change and inode of a file; None if there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"


def seen(place: str, file: Path, read: Callable[[], str]) -> tuple[str, Seen | None]:
    """Reads the digest of a place.

    Args:
        place: what is read.
        file: the file that holds it.
        read: reads it and gives its SHA-256.

    Returns:
        The digest, and what may be noted: None of a file that has changed a moment ago or changed meanwhile.
    """
    before = state_of(file)
    is_settled = before is not None and time.time_ns() - max(map(int, before.split()[1:3])) > SETTLED_SECONDS * 1e9
    sha256 = read()
    if before is None or not is_settled or before != state_of(file):
        return sha256, None
    return sha256, Seen(place, before, sha256)


def differing(
    expected: Iterable[tuple[str, str]], *, file_of: Callable[[str], Path], digest_of: Callable[[str], str]
) -> Iterator[str]:
    """The places whose files are missing or have another digest, in the given order.

    Args:
        expected: (place, SHA-256) of each.
        file_of: gives the file that holds a place.
        digest_of: reads the bytes of a place and gives their SHA-256.
    """

    def read(part: Sequence[tuple[str, str]]) -> Iterator[tuple[str, Seen | None]]:
        for place, _ in part:
            file = file_of(place)
            yield seen(place, file, partial(digest_of, place)) if file.is_file() else ("", None)

    rest = iter(expected)
    with opened_record() as record:
        while part := list(islice(rest, AT_ONCE)):
            noted = record.digests([place for place, _ in part], lambda place: state_of(file_of(place)))
            unknown = [pair for pair, sha256 in zip(part, noted, strict=True) if sha256 != pair[1]]
            found = list(in_threads(read, unknown))
            record.note(new for _, new in found if new is not None)
            yield from (place for (place, wanted), (sha256, _) in zip(unknown, found, strict=True) if sha256 != wanted)


@contextmanager
def opened_record() -> Iterator["SeenFiles"]:
    """The record of this repository, which several processes may use at the same time."""
    record = SeenFiles(work_folder() / RECORD)
    try:
        yield record
    finally:
        record.close()


class SeenFiles:
    """The record. Where it cannot be read or written, nothing is known and nothing noted.

    Args:
        path: the SQLite file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        with self._at_no_cost():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=WAIT_SECONDS, isolation_level="IMMEDIATE")
            self._connection.execute("PRAGMA synchronous = OFF")  # a lost note costs time only
            self._connection.execute(TABLE)

    def digests(self, places: Sequence[str], state: Callable[[str], str | None]) -> list[str | None]:
        """The SHA-256 that was noted of each place in the state that it has; None for the others."""
        found: list[str | None] = []
        with self._at_no_cost():
            if (connection := self._connection) is not None:
                for place in places:
                    row = connection.execute(ONE, [_key(place)]).fetchone()
                    found.append(row[1] if row is not None and row[0] == state(place) else None)
        return found + [None] * (len(places) - len(found))

    def note(self, new: Iterable[Seen]) -> None:
        """Notes what was seen. An experiment in a copy of the repository notes nothing, since its copy is removed."""
        rows = [(_key(place), state, sha256) for place, state, sha256 in new]
        with self._at_no_cost():
            if rows and self._connection is not None and not in_a_copy():
                with self._connection:
                    self._connection.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?, ?)", rows)

    def close(self) -> None:
        """Closes the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def _at_no_cost(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.OperationalError, OSError):  # another process writes, the disk is full, or not for writing
            self.close()
        except sqlite3.DatabaseError:  # damaged
            self.close()
            with suppress(OSError):
                self._path.unlink()


def _key(place: str) -> bytes:
    return os.fsencode(os.path.join(os.getcwd(), place))
