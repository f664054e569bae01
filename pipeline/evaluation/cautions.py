"""What to bear in mind of the numbers of `metrics.json`: intervals that say nothing, trainings that had not ended.

The interval of a difference says nothing where it reaches from far better to far worse than the model that is compared
with: by half of what that one lacks to be perfect, on both sides. Of accuracy, it then holds half as many errors and
half as many more.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import special

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


def model_name(key: str) -> str:
    """How people call a group of models of `metrics.json`."""
    return key.replace("_T", " T=")


def says_nothing(ends: Sequence[float], lack: float) -> bool:
    """Whether the interval of a difference says nothing.

    Args:
        ends: the lower and the upper one.
        lack: how far the metric of the model that is compared with is from a perfect model's.
    """
    return lack > 0 and ends[0] <= -lack / 2 and ends[1] >= lack / 2


def seeds_needed(differences: Sequence[float], lack: float) -> float:
    """The fewest seeds of which the interval could say something.

    Those of which Student's interval of the mean difference, with the spread of these, reaches no further than half the
    lack. The images add to that, so that it is the least.

    Args:
        differences: of S seeds, from the other model.
        lack: as above.

    Returns:
        S where it is not for the seeds, or where one says nothing of others; infinity for more than a hundred.
    """
    seeds = len(differences)
    if seeds < 2:
        return seeds
    deviation = float(np.std(differences, ddof=1))
    reaches = {n: special.stdtrit(n - 1, QUANTILE) * deviation / math.sqrt(n) for n in range(seeds, MOST_SEEDS + 1)}
    return next((n for n, reach in reaches.items() if reach <= lack / 2), math.inf)


def what_would_help(seeds: int, needed: float) -> str:
    """A sentence: more seeds, or more test images where it is not for the seeds."""
    if needed <= seeds:
        return "More test images would help."
    return f"{seeds} seeds are too few: {f'at least {needed}' if needed <= MOST_SEEDS else 'hundreds'} would help."


def _on_gains(models: Models) -> Iterator[str]:
    """On the metrics of which it is not known what students gain from their teacher."""
    names, told, needed = PERFECT_AT_1 | PERFECT_AT_0, [], [0.0]
    for group, report in models.items():
        ends = report.get("intervals", {}).get("gain", {})
        empty = {name: lack for name, lack in _lacks(models).items() if name in ends and says_nothing(ends[name], lack)}
        if empty:
            of_metrics = (f"{names[name]} ({ends[name][0]:+.3f} to {ends[name][1]:+.3f})" for name in empty)
            told.append(f"{model_name(group)}: {', '.join(of_metrics)}")
            needed += [seeds_needed(gains(group, models, name), lack) for name, lack in empty.items()]
    if told:
        yield (
            "These 95 % intervals of the difference from the baseline say nothing, since each holds a great gain as "
            f"well as a great loss: {'; '.join(told)}. {what_would_help(len(models['baseline']['seeds']), max(needed))}"
        )


def _lacks(models: Models) -> dict[str, float]:
    """How far each metric of the baseline is from a perfect model's."""
    found = models["baseline"]["quality"] if "baseline" in models else {}
    lacks = {name: 1 - found[name]["mean"] for name in PERFECT_AT_1 if name in found}
    return lacks | {name: found[name]["mean"] for name in PERFECT_AT_0 if name in found}


def gains(group: str, models: Models, metric: str) -> list[float]:
    """A metric of students less that of the baselines, seed by seed."""
    of_baseline = models["baseline"]["seeds"]
    return [quality[metric] - of_baseline[seed][metric] for seed, quality in models[group]["seeds"].items()]


def _on_trainings(models: Models) -> Iterator[str]:
    """On those whose best epoch was their last one."""
    told = []
    for group, report in models.items():
        epochs = report.get("best_epochs", {})
        open_ended = [name for name, (best, last) in epochs.items() if best == last]
        if open_ended:
            which = ", ".join(re.sub(r"(\d+)$", r" \1", name.removeprefix(f"{group}_")) for name in open_ended)
            told.append(model_name(group) + (f" ({which})" if len(epochs) > 1 else ""))
    if told:
        yield (
            f"Training had not ended, since the best epoch on the validation images was the last one, of: "
            f"{'; '.join(told)}. More epochs may make them better."
        )
