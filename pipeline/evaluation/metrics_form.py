"""The form of `metrics.json`: which values of which kind it holds, and which belong together.

A key with a default may be missing. The defaults themselves are not used: the content stays what the file holds.
"""

import re
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from pipeline.evaluation.names import BASELINE, TEACHER, Group, parsed
from pipeline.evaluation.result_files import Count, Ends, Form, Number, Some
from pipeline.runtime.errors import MismatchError
from pipeline.runtime.temperatures import Temperature

OLDER_NAME = re.compile(r"student_T[^_]+")
"""The key of a group of students in an earlier version, which had one loss."""

Pair = Annotated[list[Count], Field(min_length=2, max_length=2)]
One = Annotated[list[str], Field(min_length=1, max_length=1)]
Line = Annotated[str, Field(pattern=": ")]


class _Estimate(Form):
    mean: Number
    std: Number = 0


class _Recall(Form):
    name: str = Field(alias="class")
    images: Count
    mean: Number = 0
    interval: Ends = Field(default=[0, 0])


class _Intervals(Form):
    quality: dict[str, Ends]
    gain: dict[str, Ends] = Field(default_factory=dict)
    less_teacher: dict[str, Ends] = Field(default_factory=dict)


class _Level(Form):
    images: Count
    accuracy: _Estimate


class _Votes(Form):
    levels: dict[str, _Level]
    correlation: dict[str, dict[str, _Estimate]]


class _Parameters(Form):
    total: Some
    trainable: Count = 0


class _Report(Form):
    quality: dict[str, _Estimate]
    gain: dict[str, _Estimate] = Field(default_factory=dict)
    seeds: dict[str, dict[str, Number]] = Field(default_factory=dict)
    recall: list[_Recall] = Field(default_factory=list)
    intervals: _Intervals = _Intervals(quality={})
    votes: _Votes = _Votes(levels={}, correlation={})
    best_epochs: dict[str, Pair] = Field(default_factory=dict)
    parameters: _Parameters = _Parameters(total=1)
    flops: Count = 0
    file_bytes: Count = 0


class MadeFrom(Form):
    """What the numbers say of their origin."""

    dataset: One
    teacher: One
    params: list[Line]
    files: list[str] = Field(default_factory=list)


class _TrainingImages(Form):
    labelled: Count
    unlabelled: Count


class Metrics(Form):
    """What the readers of `metrics.json` need; other keys may be there."""

    test_images: Some
    models: Annotated[dict[str, _Report], Field(min_length=1)]
    training_images: _TrainingImages = _TrainingImages(labelled=0, unlabelled=0)

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        reports = self.models.values()
        measured = {name for report in reports for name in report.quality}
        levels = {name for report in reports for name in report.votes.levels}
        for key, report in self.models.items():
            _refuse_other(f"{key}.quality", report.quality, measured)
            if "gain" in report.model_fields_set:
                _refuse_other(f"{key}.gain", report.gain, measured)
            if "votes" in report.model_fields_set:
                _refuse_other(f"{key}.votes.levels", report.votes.levels, levels)
            group = _group(key)
            _refuse_no_seeds(group, report.seeds)
            if other := [name for name in report.best_epochs if parsed(name)[0] != group]:
                raise ValueError(f"{key}.best_epochs has those of {other[0]!r}")
            if report.intervals.gain:
                self._refuse_gains_without_seeds(key, report)
        return self

    def _refuse_gains_without_seeds(self, key: str, report: _Report) -> None:
        baselines = self.models[BASELINE.key].seeds if BASELINE.key in self.models else {}
        _refuse_other(f"{key}.seeds", report.seeds, baselines)
        for of_seed in [*report.seeds.values(), *baselines.values()]:
            _refuse_other(f"{key}.intervals.gain", set(report.intervals.gain) - set(of_seed), ())


def _group(key: str) -> Group:
    if OLDER_NAME.fullmatch(key):
        raise MismatchError(
            "metrics.json names students without their loss: an earlier version of this program wrote it. "
            "Make it again with `dvc repro`."
        )
    group, part = parsed(key)
    if part:
        raise ValueError(f"{key!r} is the name of one model, not of a group")
    if group.temperature:
        course = Temperature.parsed(group.temperature)
        if not 0 < min(course.first, course.last) <= course.largest < float("inf"):
            raise ValueError(f"{key!r} has no temperature above 0")
    return group


def _refuse_no_seeds(group: Group, seeds: Any) -> None:
    if group != TEACHER and not (seeds and all(re.fullmatch("[0-9]{1,10}", seed) for seed in seeds)):
        raise ValueError(f"{group.key}.seeds are no whole numbers")


def _refuse_other(place: str, names: Any, expected: Any) -> None:
    if set(names) != set(expected):
        raise ValueError(f"{place} has other entries than the models beside it")
