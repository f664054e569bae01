"""The part of `metrics.json` on each model, from its logits on the test images."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.evaluation.class_recalls import class_recalls
from pipeline.evaluation.contributions import Contributions, contributions
from pipeline.evaluation.metrics import Estimate, Floats, Ints, over_seeds, summarise
from pipeline.evaluation.names import BASELINE, TEACHER, Group
from pipeline.evaluation.uncertainty import interval_of, interval_of_difference
from pipeline.evaluation.votes import Votes, report_over_seeds, vote_report
from pipeline.runtime.temperatures import last_of

Report = dict[str, Any]
Intervals = dict[str, list[float]]


def model_reports(
    teacher: Floats,
    groups: Mapping[Group, Mapping[int, Floats]],
    labels: Ints,
    class_names: Sequence[str],
    votes: Votes | None,
) -> dict[Group, Report]:
    """The quality of all models, and what students gain over the baselines.

    Args:
        teacher: its logits of the test images, (N, C).
        groups: the logits (N, C) of each seed, for the baselines and for the students of each loss and temperature.
        labels: (N,) class indices.
        class_names: C names.
        votes: those of annotators, if there are any.

    Returns:
        A report for the teacher and for each group, with the entries
        "quality": the `metrics.Estimate` of each metric;
        "seeds": the metrics of each seed (not of the teacher);
        "recall": the `class_recalls`;
        "gain": as "quality", of students alone: student minus baseline, seed by seed;
        "votes": the `votes.report_over_seeds`, if there are votes;
        "intervals": the two ends of the 95 % intervals of "quality", of "gain", and of "less_teacher", which is
        student minus teacher; a metric without an interval is left out.
    """

    def report_on(seeds: Mapping[Any, Floats], temperatures: Sequence[str]) -> Report:
        quality = {str(seed): summarise(logits, labels, teacher) for seed, logits in seeds.items()}
        report: Report = {"quality": over_seeds(quality.values()), "seeds": quality}
        report["recall"] = class_recalls(seeds.values(), labels, class_names)
        if votes:
            of_seeds = [vote_report(logits, votes, temperatures) for logits in seeds.values()]
            report["votes"] = report_over_seeds(of_seeds)
        return report

    temperatures = list(dict.fromkeys(last_of(group.temperature) for group in groups if group.temperature))
    parts = {
        group: [contributions(logits, labels, teacher) for logits in seeds.values()] for group, seeds in groups.items()
    }
    of_teacher = contributions(teacher, labels, teacher)
    reports = {TEACHER: report_on({"": teacher}, temperatures)}
    del reports[TEACHER]["seeds"]
    reports[TEACHER]["intervals"] = {"quality": _without_itself(_intervals([of_teacher], labels))}
    for group, seeds in groups.items():
        own_temperature = [last_of(group.temperature)] if group.temperature else []
        report = report_on(seeds, own_temperature)
        report["intervals"] = {"quality": _intervals(parts[group], labels)}
        if group.role == "student":
            report["gain"] = _gain(report["seeds"], reports[BASELINE]["seeds"])
            report["intervals"]["gain"] = _of_differences(parts[group], parts[BASELINE], labels)
            less_teacher = _of_differences(parts[group], [of_teacher] * len(seeds), labels)
            report["intervals"]["less_teacher"] = _without_itself(less_teacher)
        reports[group] = report
    return reports


def _gain(student: Report, baseline: Report) -> dict[str, Estimate]:
    """Student minus baseline, seed by seed."""
    return over_seeds(
        {name: value - baseline[seed][name] for name, value in quality.items()} for seed, quality in student.items()
    )


def _intervals(of_seeds: Sequence[Contributions], labels: Ints) -> Intervals:
    """The interval of each metric's mean over seeds."""
    stacked = {metric: np.stack([parts[metric] for parts in of_seeds]) for metric in of_seeds[0]}
    return _defined({metric: interval_of(metric, values, labels) for metric, values in stacked.items()})


def _of_differences(first: Sequence[Contributions], second: Sequence[Contributions], labels: Ints) -> Intervals:
    """The interval of each metric's mean difference, paired by seed and by image."""
    pairs = [*zip(first, second, strict=True)]
    stacked = {metric: np.stack([a[metric] - b[metric] for a, b in pairs]) for metric in first[0]}
    return _defined({metric: interval_of_difference(metric, values, labels) for metric, values in stacked.items()})


def _defined(intervals: Mapping[str, list[float] | None]) -> Intervals:
    return {metric: ends for metric, ends in intervals.items() if ends is not None}


def _without_itself(intervals: Intervals) -> Intervals:
    """Leaves out how close the teacher is to itself, which says nothing."""
    return {metric: ends for metric, ends in intervals.items() if not metric.startswith("teacher_")}
