"""Cautions about the numbers of `metrics.json`: intervals that say nothing, trainings that had not ended.

The interval of a difference between two models says nothing where it reaches from far better to far worse: on both
sides by at least half of what the second model lacks to be perfect. Of accuracy, such an interval holds half as many
errors as well as half as many more.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import special

from pipeline.evaluation.names import Group, parsed

QUANTILE = 0.975
"""Of the upper end of a 95 % interval."""
PERFECT_AT_1 = {"accuracy": "accuracy", "auc": "AUC", "teacher_agreement": "agreement"}
PERFECT_AT_0 = {"nll": "NLL", "brier": "Brier", "teacher_kl": "KL"}
MOST_SEEDS = 100

Models = Mapping[str, Any]


def cautions(models: Models) -> list[str]:
    """A text on students whose gain is not known, and one on trainings that had not ended, where there are any.

    Args:
        models: as `metrics.json` has them.
    """
    return [*_on_gains(models), *_on_trainings(models)]


def says_nothing(ends: Sequence[float], lack: float) -> bool:
    """Whether the interval of a difference between two models says nothing.

    Args:
        ends: the lower and the upper one.
        lack: how far the second model's metric is from that of a perfect model.
    """
    return lack > 0 and ends[0] <= -lack / 2 and ends[1] >= lack / 2


def seeds_needed(differences: Sequence[float], lack: float) -> float:
    """The fewest seeds with which the interval could say something.

    With so many, Student's interval of the mean difference, if it spreads as these do, reaches no further than half
    the lack. The test images widen the interval, so more seeds may be needed.

    Args:
        differences: between two models, one for each of S seeds.
        lack: as in `says_nothing`.

    Returns:
        S where more seeds would not help, or where one seed does not show how seeds differ; infinity if more than
        `MOST_SEEDS` are needed.
    """
    seeds = len(differences)
    if seeds < 2:
        return seeds
    deviation = float(np.std(differences, ddof=1))
    reaches = {n: special.stdtrit(n - 1, QUANTILE) * deviation / math.sqrt(n) for n in range(seeds, MOST_SEEDS + 1)}
    return next((n for n, reach in reaches.items() if reach <= lack / 2), math.inf)


def what_would_help(seeds: int, needed: float) -> str:
    """A sentence: more seeds, or more test images where more seeds would not help."""
    if needed <= seeds:
        return "More test images would help."
    return f"{seeds} seeds are too few: {f'at least {needed}' if needed <= MOST_SEEDS else 'hundreds'} would help."


def _on_gains(models: Models) -> Iterator[str]:
    """On the metrics in which it is not known what students gain over the baseline."""
    names, empty_intervals, needed = PERFECT_AT_1 | PERFECT_AT_0, [], [0.0]
    for key, report in models.items():
        ends = report.get("intervals", {}).get("gain", {})
        lacks = {name: lack for name, lack in _lacks(models).items() if name in ends and says_nothing(ends[name], lack)}
        if lacks:
            group = parsed(key)[0]
            of_metrics = (f"{names[name]} ({ends[name][0]:+.3f} to {ends[name][1]:+.3f})" for name in lacks)
            empty_intervals.append(f"{group.words}: {', '.join(of_metrics)}")
            needed += [seeds_needed(gains(group, models, name), lack) for name, lack in lacks.items()]
    if empty_intervals:
        yield (
            "These 95 % intervals of the difference from the baseline say nothing, since each holds a great gain as "
            f"well as a great loss: {'; '.join(empty_intervals)}. "
            f"{what_would_help(len(models['baseline']['seeds']), max(needed))}"
        )


def _lacks(models: Models) -> dict[str, float]:
    """How far each metric of the baseline is from that of a perfect model."""
    quality = models["baseline"]["quality"] if "baseline" in models else {}
    lacks = {name: 1 - quality[name]["mean"] for name in PERFECT_AT_1 if name in quality}
    return lacks | {name: quality[name]["mean"] for name in PERFECT_AT_0 if name in quality}


def gains(students: Group, models: Models, metric: str) -> list[float]:
    """A metric of students minus that of the baselines, one for each seed."""
    baselines = models["baseline"]["seeds"]
    return [quality[metric] - baselines[seed][metric] for seed, quality in models[students.key]["seeds"].items()]


def _on_trainings(models: Models) -> Iterator[str]:
    """On those whose best epoch was their last one."""
    unfinished = []
    for key, report in models.items():
        epochs = report.get("best_epochs", {})
        which = [parsed(name)[1] for name, (best, last) in epochs.items() if best == last]
        if which:
            unfinished.append(parsed(key)[0].words + (f" ({', '.join(which)})" if len(epochs) > 1 else ""))
    if unfinished:
        yield (
            "These trainings had not ended, since their best epoch on the validation images was the last one: "
            f"{'; '.join(unfinished)}. More epochs may make the models better."
        )
