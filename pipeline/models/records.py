"""What this program notes in a `.keras` file beside the model: a member of the archive that Keras ignores."""

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.models.json_members import read_member, refuse_expanding
from pipeline.runtime.errors import DamagedError, one_line
from pipeline.runtime.limits import Limits, limits
from pipeline.runtime.ranges import Share

RECORD = "softlabel.json"
"""The name of that member."""


class _Part(BaseModel):
    """What a record must be like to be used; it may hold more."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Validation(_Part):
    images: str
    accuracy: float


class _Given(_Part):
    sha256: str | None = None
    accuracy: Share | None = None
    classes: list[str | None] | dict[str, int] | None = None


class _Answers(_Part):
    ids: list[str]
    views: list[int] | None
    rendering: dict[str, Any] | None


class _Record(_Part):
    class_names: list[str] = Field(min_length=2)
    validation: _Validation | None = None
    given: _Given | None = None
    files: list[str] = []
    frozen: dict[str, list[str]] = {}
    answers: _Answers | None = None
    average: Literal["logits", "probabilities"] = "logits"
    members: "list[_Member]" = Field(default=[], min_length=1)

    @model_validator(mode="after")
    def _is_of_an_ensemble_or_of_none(self) -> "_Record":
        if len(self.model_fields_set & {"average", "members"}) == 1:
            raise ValueError("an ensemble has members and what is averaged of them")
        return self


class _Member(_Part):
    name: str
    sha256: str
    record: _Record | None


def read_record(path: Path) -> dict[str, Any] | None:
    """What `keras_files.save` recorded in a `.keras` file; None in a file that it did not write.

    Raises:
        DamagedError: the record cannot be read, or is none of this program's.
    """
    try:
        if not zipfile.is_zipfile(path):
            return None
        with zipfile.ZipFile(path) as archive:
            if RECORD not in archive.namelist():
                return None
            refuse_expanding(archive.getinfo(RECORD))
            record: dict[str, Any] = read_member(archive, RECORD, _within(path.stat().st_size))
        _Record.model_validate(record)
    except Exception as error:  # zip and its decompressors have many
        told = _first_fault(error) if isinstance(error, ValidationError) else one_line(error)
        raise DamagedError(
            f"{path}: what this program noted in it ({RECORD}) cannot be read: {told}. Make the file again with "
            "`dvc repro`, or copy it again."
        ) from None
    return record


def _within(size: int) -> Limits:
    """The limits of a record in a file of `size` bytes: it may name each of the images whose logits the file holds."""
    usual = limits()
    return replace(usual, text_bytes=max(usual.text_bytes, size), items=max(usual.items, size // 8))


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_input=False, include_url=False)[0]
    return one_line(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}")


def are_stored(record: Mapping[str, Any] | None) -> bool:
    """Whether the record of a teacher's file says that it holds stored answers (`stored_answers`)."""
    return record is not None and "answers" in record


def given_in(record: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """What is recorded of each given teacher: the file's own, or those of an ensemble's members."""
    for of_one in [record or {}, *(member["record"] or {} for member in (record or {}).get("members", []))]:
        if of_one.get("given"):
            yield of_one["given"]
