"""What came out, in one sentence with its uncertainty."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.temperature_curves import STUDENT
from pipeline.training_curves import Curves

Models = Mapping[str, Any]


def chosen_student(models: Models, curves: Sequence[Curves]) -> str:
    """The group of students that the report is about: of several temperatures the best on the validation images.

    A choice by the test images would flatter it.

    Args:
        models: as `metrics.json` has them.
        curves: of all trainings.

    Returns:
        A key of `models`: that with the highest mean over seeds of the best epoch's validation accuracy; among equals
        the first.
    """
    groups = [group for group in models if group.startswith(STUDENT)]
    best = {group: [one.table["val_accuracy"].max() for one in curves if one.group == group] for group in groups}
    return max(groups, key=lambda group: sum(best[group]) / max(len(best[group]), 1))


def verdict(models: Models, student: str, test_images: int) -> str:
    """One sentence.

    Args:
        models: as `metrics.json` has them.
        student: the key of the group of students that it is about.
        test_images: N.
    """
    report, teacher = models[student], models["teacher"]
    accuracy, gain = report["quality"]["accuracy"]["mean"], report["gain"]["accuracy"]["mean"]
    alone = models["baseline"]["quality"]["accuracy"]["mean"]
    low, high = report["intervals"]["gain"]["accuracy"]
    seeds = len(report["seeds"])
    share = report["parameters"]["total"] / teacher["parameters"]["total"]
    if low > 0:
        judged = f"{_points(gain)} more than the same model trained without a teacher"
    elif high < 0:
        judged = f"{_points(-gain)} fewer than the same model trained without a teacher"
    else:
        judged = "no clear difference from the same model trained without a teacher"
    interval = f"95 % interval {100 * low:+.1f} to {100 * high:+.1f} points over {_over(seeds)}"
    behind = accuracy - teacher["quality"]["accuracy"]
    to_teacher = f"{_points(abs(behind))} {'fewer' if behind < 0 else 'more'} than its teacher"
    return (
        f"The student, with {_size(share)} of its teacher's parameters, is right on {100 * accuracy:.1f} % of the "
        f"{test_images:,} test images: {judged} ({100 * alone:.1f} %; {interval}), and {to_teacher}."
    )


def _points(difference: float) -> str:
    return f"{100 * difference:.1f} points"


def _size(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.01 else f"{100 * share:.1g} %"


def _over(seeds: int) -> str:
    return f"{seeds} seeds and the test images" if seeds > 1 else "the test images; one seed"
