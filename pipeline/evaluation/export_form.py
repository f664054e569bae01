"""The forms of the files on exports: `results/exports/<item>.json`, and `results/export_speed.json`.

A key with a default may be missing. The defaults themselves are not used: the content stays what the file holds.
"""

from typing import Any, Self

from pydantic import field_validator, model_validator

from pipeline.evaluation.names import TEACHER, parsed
from pipeline.evaluation.result_files import Count, Form, NotNegative, Share, Some


class _Calibrated(Form):
    nll: NotNegative
    ece: Share


class _Quality(Form):
    bytes: Some
    accuracy: Share
    auc: Share = 0
    nll: NotNegative
    brier: NotNegative
    ece: Share
    calibrated: _Calibrated


class _File(_Quality):
    precision: str
    digest: str
    agreement: Share
    largest_logit_difference: NotNegative


class _Settings(Form):
    softmax: bool


class _MadeFrom(Form):
    dataset: str
    export: _Settings


class ExportForm(Form):
    """What the readers of an export's numbers need; other keys may be there."""

    student: str
    sha256: str
    chosen: str
    test_images: Some
    temperature: NotNegative
    temperature_note: str | None = None
    made_from: _MadeFrom | None = None
    keras: _Quality
    files: dict[str, _File]

    @field_validator("student")
    @classmethod
    def _is_a_student(cls, name: str) -> str:
        _, part = parsed(name)
        if not part.startswith("seed "):
            raise ValueError(f"{name!r} names no model of one seed")
        return name


class _Times(Form):
    median_ms: NotNegative
    p95_ms: NotNegative


class _Speed(Form):
    one_thread: _Times
    all_threads: _Times
    batch_images_per_second: NotNegative
    peak_memory_mb: NotNegative
    digest: Any = None


class ExportSpeedForm(Form):
    """What the readers of the exports' times need; other keys may be there."""

    device: str
    date: str
    cores: Count
    batch_size: Count
    models: dict[str, _Speed]

    @model_validator(mode="after")
    def _names_files(self) -> Self:
        for name, times in self.models.items():
            if name != TEACHER.key and not isinstance(times.digest, str):
                raise ValueError(f"models.{name} has no digest")
        return self
