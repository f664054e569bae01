"""The measured speed of the models: the file `results/speed.json`."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Self

from pydantic import model_validator

from pipeline.evaluation.result_files import Count, Form, NotNegative, checked_json, reading
from pipeline.runtime.publish import publish


@dataclass(frozen=True)
class Speed:
    """Times of forward passes on pixels in memory.

    Attributes:
        device: the processor or GPU that computed.
        date: the day of the measurement in UTC, YYYY-MM-DD.
        batch_sizes: images in a pass.
        images_per_second: for "student", and for "teacher" if it is a network of Keras' layers, a number for each of
            `batch_sizes`.
    """

    device: str
    date: str
    batch_sizes: list[int]
    images_per_second: dict[str, list[float]]


def write_speed(speed: Speed, path: Path) -> None:
    """Writes a JSON file, in one step."""
    with publish(path) as partial:
        partial.write_text(json.dumps(asdict(speed), indent=1) + "\n", encoding="utf-8")


def read_speed(path: Path) -> Speed:
    """Reads what `write_speed` wrote.

    Raises:
        MissingError: there is no such file.
        DamagedError: it is damaged.
    """
    remedy = "Measure again with `dvc repro --single-item --force measure_speed`."
    with reading(path, "speeds", remedy):
        document = checked_json(path, _Form, remedy)
        return Speed(**{entry.name: document[entry.name] for entry in fields(Speed)})


class _Rates(Form):
    student: list[NotNegative]
    teacher: list[NotNegative] | None = None


class _Form(Form):
    device: str
    date: str
    batch_sizes: list[Count]
    images_per_second: _Rates

    @model_validator(mode="after")
    def _has_a_rate_for_each_size(self) -> Self:
        for rates in (self.images_per_second.student, self.images_per_second.teacher):
            if rates is not None and len(rates) != len(self.batch_sizes):
                raise ValueError("images_per_second has other lengths than batch_sizes")
        return self
