"""SHA-256 digests of files and of JSON-serialisable values."""

import hashlib
import json
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.runtime.disk_errors import named

WORDS_AT_ONCE = 4096
"""Words of JSON that are joined at a time."""


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with named(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_bytes(content: bytes) -> str:
    """SHA-256 of bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def fingerprint(**inputs: Any) -> str:
    """SHA-256 over named JSON-serialisable inputs; their order does not matter."""
    encoder, digest = json.JSONEncoder(sort_keys=True, ensure_ascii=False, allow_nan=False), hashlib.sha256()
    words = encoder.iterencode(inputs)  # one by one: of millions of images the text would take hundreds of megabytes
    while some := "".join(islice(words, WORDS_AT_ONCE)):
        digest.update(some.encode())
    return digest.hexdigest()
