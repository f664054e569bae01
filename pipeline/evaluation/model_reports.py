"""What `metrics.json` says of each model, from their logits on the test images."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.evaluation.metrics import Floats, Ints, over_seeds, summarise
from pipeline.evaluation.temperatures import STUDENT
from pipeline.evaluation.uncertainty import Contributions, contributions, interval_of, interval_of_difference
from pipeline.evaluation.votes import Votes, report_over_seeds, vote_report

Report = dict[str, Any]
Intervals = dict[str, list[float]]


def model_reports(
    teacher: Floats, groups: Mapping[str, Mapping[int, Floats]], labels: Ints, votes: Votes | None
) -> dict[str, Report]:
    """Quality of all models, and what students gain over the baselines.

    Args:
        teacher: its logits of the test images, (N, C).
        groups: for "baseline" and each "student_T<T>" the logits of each seed.
        labels: (N,) class indices.
        votes: of annotators, if there are any.

    Returns:
        For the teacher and each group "quality" (the metrics; of groups their mean and std over seeds), "seeds" (the
        metrics of each), "gain" (of students: less the baseline, seed by seed), "votes", and "intervals" (95 %, two
        ends, of metrics that have one): of "quality", of "gain", and of students "less_teacher".
    """
    judge = _Judge(labels, teacher, votes)
    of_temperatures = [group.removeprefix(STUDENT) for group in groups if group.startswith(STUDENT)]
    reports = {"teacher": judge.teacher(of_temperatures)}
    parts = {name: [contributions(one, labels, teacher) for one in seeds.values()] for name, seeds in groups.items()}
    of_teacher = contributions(teacher, labels, teacher)
    reports["teacher"]["intervals"] = {"quality": _without_itself(_intervals([of_teacher], labels))}
    for group, seeds in groups.items():
        own = [group.removeprefix(STUDENT)] if group.startswith(STUDENT) else []
        reports[group] = judge.group({str(seed): logits for seed, logits in seeds.items()}, own)
        reports[group]["intervals"] = {"quality": _intervals(parts[group], labels)}
        if own:
            reports[group]["gain"] = _gain(reports[group]["seeds"], reports["baseline"]["seeds"])
            reports[group]["intervals"]["gain"] = _of_differences(parts[group], parts["baseline"], labels)
            less_teacher = _of_differences(parts[group], [of_teacher] * len(seeds), labels)
            reports[group]["intervals"]["less_teacher"] = _without_itself(less_teacher)
    return reports


class _Judge:
    """Turns logits on the test images into reports."""

    def __init__(self, labels: Ints, of_teacher: Floats, votes: Votes | None) -> None:
        self.labels, self.of_teacher, self.votes = labels, of_teacher, votes

    def teacher(self, temperatures: Sequence[str]) -> Report:
        report: Report = {"quality": summarise(self.of_teacher, self.labels, self.of_teacher)}
        if self.votes:
            report["votes"] = vote_report(self.of_teacher, self.votes, temperatures)
        return report

    def group(self, by_seed: Mapping[str, Floats], temperatures: Sequence[str]) -> Report:
        seeds = {seed: summarise(logits, self.labels, self.of_teacher) for seed, logits in by_seed.items()}
        report: Report = {"quality": over_seeds(seeds), "seeds": seeds}
        if self.votes:
            of_seeds = {seed: vote_report(logits, self.votes, temperatures) for seed, logits in by_seed.items()}
            report["votes"] = report_over_seeds(of_seeds)
        return report


def _gain(student: Report, baseline: Report) -> Report:
    """Student less baseline, seed by seed."""
    return over_seeds(
        {
            seed: {name: value - baseline[seed][name] for name, value in quality.items()}
            for seed, quality in student.items()
        }
    )


def _intervals(of_seeds: Sequence[Contributions], labels: Ints) -> Intervals:
    """The interval of each metric's mean over seeds."""
    found = {
        metric: interval_of(metric, np.stack([parts[metric] for parts in of_seeds]), labels) for metric in of_seeds[0]
    }
    return {metric: ends for metric, ends in found.items() if ends is not None}


def _of_differences(first: Sequence[Contributions], second: Sequence[Contributions], labels: Ints) -> Intervals:
    """The interval of each metric's mean difference, paired by seed and by image."""
    pairs = [*zip(first, second, strict=True)]
    found = {
        metric: interval_of_difference(metric, np.stack([a[metric] - b[metric] for a, b in pairs]), labels)
        for metric in first[0]
    }
    return {metric: ends for metric, ends in found.items() if ends is not None}


def _without_itself(intervals: Intervals) -> Intervals:
    """Without the teacher's closeness to itself."""
    return {metric: ends for metric, ends in intervals.items() if not metric.startswith("teacher_")}
