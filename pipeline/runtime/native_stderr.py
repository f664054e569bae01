"""What native code of libraries prints to stderr, past Python's own streams."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO


@contextmanager
def native_stderr_closed() -> Iterator[None]:
    """Drops all that is printed to stderr while the block runs."""
    with open(os.devnull, "wb") as nowhere, _stderr_to(nowhere):
        yield


@contextmanager
def native_stderr_kept() -> Iterator[IO[bytes]]:
    """Writes all that is printed to stderr while the block runs to a nameless file."""
    with tempfile.TemporaryFile() as file, _stderr_to(file):
        yield file


@contextmanager
def _stderr_to(file: IO[bytes]) -> Iterator[None]:
    kept = os.dup(2)
    try:
        os.dup2(file.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
