"""What this program notes in a `.keras` file beside the model: a member of the archive that Keras ignores."""

import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

RECORD = "softlabel.json"
"""The name of that member."""


def read_record(path: Path) -> dict[str, Any] | None:
    """What `keras_files.save` recorded in a `.keras` file; None in a file that it did not write."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        if RECORD not in archive.namelist():
            return None
        record: dict[str, Any] = json.loads(archive.read(RECORD))
    return record


def are_stored(record: Mapping[str, Any] | None) -> bool:
    """Whether the record of a teacher's file says that it holds stored answers (`stored_answers`)."""
    return record is not None and "answers" in record


def given_in(record: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """What is recorded of each given teacher: the file's own, or those of an ensemble's members."""
    for of_one in [record or {}, *(member["record"] or {} for member in (record or {}).get("members", []))]:
        if of_one.get("given"):
            yield of_one["given"]
