"""Files of others that a library in C may read here, because it has read them in a process of its own before.

A library that hangs, crashes or takes all memory at some content does so each time. So each content is tried once on a
machine; the record of `seen_files` notes its digest.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.runtime.seen_files import Seen, opened_record
from pipeline.runtime.separate_process import MEMORY, SECONDS, run_separately
from pipeline.runtime.workspace import work_folder

SOUND = "sound"

BYTES_PER_SECOND = 10 * 2**20
"""How much more of a file must be read in a further second of computing."""


def try_once(reader: Callable[..., None], path: Path, *more: Any, sha256: str, **limits: Any) -> None:
    """As `try_now`, unless the content is known to be read without harm.

    Args:
        reader: as that of `try_now`.
        path: the file.
        more: further arguments of the reader.
        sha256: the digest of its content, or of what decides how it is read.
        **limits: the other arguments of `try_now`.

    Raises:
        PipelineError: as `run_separately`.
    """
    with opened_record() as record:
        place = _place(reader, sha256)
        if record.digests([place], lambda _: SOUND) == [sha256]:
            return
        try_now(reader, path, *more, **limits)
        record.note([Seen(place, SOUND, sha256)])


def try_once_in_a_project(reader: Callable[..., None], path: Path, *more: Any, sha256: str, **limits: Any) -> None:
    """As `try_once` where there is `.work/`. Elsewhere nothing is written, and each call tries the file."""
    if work_folder().is_dir():
        try_once(reader, path, *more, sha256=sha256, **limits)
    else:
        try_now(reader, path, *more, **limits)


def try_now(
    reader: Callable[..., None],
    path: Path,
    *more: Any,
    remedy: str,
    memory: int = MEMORY,
    seconds: int | None = None,
    size: int | None = None,
) -> None:
    """Reads a file in a process of its own.

    Args:
        reader: reads the file, whose path it is given as a text, as it will be read here.
        path: the file.
        more: further arguments of the reader.
        remedy: what the user can do if it cannot be read, as a sentence.
        memory: bytes that the process may have.
        seconds: seconds that it may compute, beside those for the bytes that it reads; None: `SECONDS`.
        size: how many bytes it reads; None: those of the file.

    Raises:
        PipelineError: as `run_separately`.
    """
    size = path.stat().st_size if size is None else size
    seconds = (SECONDS if seconds is None else seconds) + size // BYTES_PER_SECOND
    run_separately(reader, path, *more, path=path, remedy=remedy, memory=memory, seconds=seconds)


def note_as_ours(reader: Callable[..., Any], sha256: str) -> None:
    """Notes that this program has written the content, so that it need not be tried."""
    with opened_record() as record:
        record.note([Seen(_place(reader, sha256), SOUND, sha256)])


def _place(reader: Callable[..., Any], sha256: str) -> str:
    return f"/read by {reader.__module__}.{reader.__qualname__}/{sha256}"
