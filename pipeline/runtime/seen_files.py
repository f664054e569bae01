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
    """What was seen of a file.

    Attributes:
        place: its path, or the place of an image in it.
        state: `settled_state_of` the file before it was read.
        sha256: the digest of the bytes, as 64 hexadecimal digits.
    """

    place: str
    state: str | None
    sha256: str


def state_of(file: str | Path) -> str | None:
    """Size, times of change and inode of a file; None if there is none."""
    try:
        found = os.stat(file)
    except OSError:
        return None
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"


def settled_state_of(file: str | Path) -> str | None:
    """`state_of` a file; None of one that has changed a moment ago, whose further changes might not be seen."""
    state = state_of(file)
    changed = max(map(int, state.split()[1:3])) if state else 0
    return state if time.time_ns() - changed > SETTLED_SECONDS * 1e9 else None


def differing(
    expected: Iterable[tuple[str, str]], *, file_of: Callable[[str], Path], digest_of: Callable[[str], str]
) -> Iterator[str]:
    """The places whose files are missing or have another digest, in the given order.

    Args:
        expected: (place, SHA-256) of each.
        file_of: gives the file that holds a place.
        digest_of: reads the bytes of a place and gives their SHA-256.
    """

    def read(part: Sequence[tuple[str, str]]) -> Iterator[Seen]:
        for place, _ in part:
            file = file_of(place)
            state = settled_state_of(file)
            yield Seen(place, state, digest_of(place) if file.is_file() else "")

    rest = iter(expected)
    with opened_record() as record:
        while part := list(islice(rest, AT_ONCE)):
            noted = record.digests([place for place, _ in part], lambda place: state_of(file_of(place)))
            unknown = [pair for pair, sha256 in zip(part, noted, strict=True) if sha256 != pair[1]]
            found = list(in_threads(read, unknown))
            record.note(found)
            yield from (place for (place, wanted), new in zip(unknown, found, strict=True) if new.sha256 != wanted)


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
        self._new: list[Seen] = []
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
        """Notes what was seen, at the latest by `close`. A file that had just changed is left out.

        An experiment in a copy of the repository notes nothing, since its copy is removed.
        """
        self._new += [one for one in new if one.state is not None]
        if len(self._new) >= AT_ONCE:
            self._write()

    def _write(self) -> None:
        with self._at_no_cost():
            if self._new and self._connection is not None and not in_a_copy():
                rows = [(_key(place), state, sha256) for place, state, sha256 in self._new]
                with self._connection:
                    self._connection.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?, ?)", rows)
        self._new.clear()

    def close(self) -> None:
        """Writes what is left, and closes the file."""
        self._write()
        self._close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def _at_no_cost(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.DatabaseError, OSError) as error:
            self._close()
            # Else another process writes, the disk is full, or not for writing.
            is_damaged = not isinstance(error, sqlite3.OperationalError | OSError)
            if is_damaged or getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR:  # another table
                with suppress(OSError):
                    self._path.unlink()


def _key(place: str) -> bytes:
    return os.fsencode(os.path.join(os.getcwd(), place))
