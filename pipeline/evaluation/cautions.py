"""Cautions about the numbers of `metrics.json`.

They are about images without a label, intervals that say nothing, and trainings that had not ended.

The interval of a difference between two models says nothing if it reaches from far better to far worse. Far is half of
what the second model lacks to be perfect. For accuracy, such an interval contains both a model with half as many errors
and one with half as many more.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import special

from pipeline.evaluation.metrics import METRICS, MetricName
from pipeline.evaluation.names import Group, parsed

QUANTILE = 0.975
"""At the upper end of a two-sided 95 % interval."""
MOST_SEEDS = 100
"""If more are needed, the message says "hundreds"."""

Models = Mapping[str, Any]


def about_unlabelled(document: Mapping[str, Any]) -> list[str]:
    """A text on the images without a label, from which students learned and baselines did not; none without any.

    Args:
        document: the content of `metrics.json`.
    """
    if "training_images" not in document:
        return []
    labelled, unlabelled = (document["training_images"][kind] for kind in ("labelled", "unlabelled"))
    return [
        f"The students learned from {labelled:,} labelled images and, through the teacher's answers alone, from "
        f"{unlabelled:,} images without a label; the baseline from the {labelled:,} labelled ones. So the gain over "
        "the baseline is that of the soft labels and of these images together."
    ]


def cautions(models: Models) -> list[str]:
    """At most two texts: one on students whose gain is unknown, and one on trainings that had not ended.

    Args:
        models: as `metrics.json` has them.
    """
    return [*_on_gains(models), *_on_trainings(models)]


def says_nothing(ends: Sequence[float], lack: float) -> bool:
    """Whether the interval of a difference between two models says nothing.

    Args:
        ends: the lower and the upper end of the interval.
        lack: how far the second model's metric is from that of a perfect model.
    """
    return lack > 0 and ends[0] <= -lack / 2 and ends[1] >= lack / 2


def seeds_needed(differences: Sequence[float], lack: float) -> float:
    """The smallest number of seeds with which the interval could say something.

    With that many seeds, if they spread as these do, Student's interval of the mean difference reaches at most half of
    `lack` to each side. The test images widen the interval, so more seeds may be needed.

    Args:
        differences: between two models, one for each of S seeds.
        lack: as in `says_nothing`.

    Returns:
        S if more seeds would not help, or if S is 1, since one seed does not show how seeds differ; infinity if more
        than `MOST_SEEDS` are needed.
    """
    seeds = len(differences)
    if seeds < 2:
        return seeds
    deviation = float(np.std(differences, ddof=1))
    reaches = {n: special.stdtrit(n - 1, QUANTILE) * deviation / math.sqrt(n) for n in range(seeds, MOST_SEEDS + 1)}
    return next((n for n, reach in reaches.items() if reach <= lack / 2), math.inf)


def what_would_help(seeds: int, needed: float) -> str:
    """A sentence that asks for more seeds, or for more test images if more seeds would not help."""
    if needed <= seeds:
        return "More test images would help."
    return f"{seeds} seeds are too few: {f'at least {needed}' if needed <= MOST_SEEDS else 'hundreds'} would help."


def _on_gains(models: Models) -> Iterator[str]:
    """Names the metrics whose interval of the students' gain over the baseline says nothing."""
    lacks, empty_intervals, needed = _lacks(models), [], [0.0]
    for key, report in models.items():
        ends = report.get("intervals", {}).get("gain", {})
        empty = {name: ends[name] for name, lack in lacks.items() if name in ends and says_nothing(ends[name], lack)}
        if empty:
            group = parsed(key)[0]
            of_metrics = (f"{METRICS[name].title} ({low:+.3f} to {high:+.3f})" for name, (low, high) in empty.items())
            empty_intervals.append(f"{group.words}: {', '.join(of_metrics)}")
            needed += [seeds_needed(gains(group, models, name), lacks[name]) for name in empty]
    if empty_intervals:
        yield (
            "These 95 % intervals of the difference from the baseline say nothing, since each includes a large gain "
            f"and a large loss: {'; '.join(empty_intervals)}. "
            f"{what_would_help(len(models['baseline']['seeds']), max(needed))}"
        )


def _lacks(models: Models) -> dict[MetricName, float]:
    """How far each metric of the baseline is from that of a perfect model."""
    quality = models["baseline"]["quality"] if "baseline" in models else {}
    # Metrics whose best value is 1 come first, then those whose best value is 0.
    names = sorted((name for name in METRICS if name in quality), key=lambda name: not METRICS[name].larger_is_better)
    means = {name: quality[name]["mean"] for name in names}
    return {name: 1 - mean if METRICS[name].larger_is_better else mean for name, mean in means.items()}


def gains(students: Group, models: Models, metric: MetricName) -> list[float]:
    """The metric of each student minus that of the baseline of the same seed."""
    baselines = models["baseline"]["seeds"]
    return [quality[metric] - baselines[seed][metric] for seed, quality in models[students.key]["seeds"].items()]


def _on_trainings(models: Models) -> Iterator[str]:
    """Names the trainings whose best epoch was their last one."""
    unfinished = []
    for key, report in models.items():
        epochs = report.get("best_epochs", {})
        members = [parsed(name)[1] for name, (best, last) in epochs.items() if best == last]
        if members:
            unfinished.append(parsed(key)[0].words + (f" ({', '.join(members)})" if len(epochs) > 1 else ""))
    if unfinished:
        yield (
            "These trainings had not ended, since their best epoch on the validation images was the last one: "
            f"{'; '.join(unfinished)}. More epochs may make the models better."
        )
