"""What came out, in a sentence with its uncertainty."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.evaluation.cautions import gains, model_name, says_nothing, seeds_needed, what_would_help
from pipeline.evaluation.curves import Curves
from pipeline.evaluation.temperatures import STUDENT

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
    """One sentence, and another where its interval says nothing.

    Args:
        models: as `metrics.json` has them.
        student: the key of the group of students that it is about.
        test_images: N.
    """
    report, teacher = models[student], models["teacher"]
    accuracy = report["quality"]["accuracy"]["mean"]
    alone = models["baseline"]["quality"]["accuracy"]["mean"]
    gain = _compared(report["gain"]["accuracy"]["mean"], report["intervals"]["gain"]["accuracy"])
    behind = _compared(accuracy - teacher["quality"]["accuracy"], report["intervals"]["less_teacher"]["accuracy"])
    size = _size(teacher["parameters"]["total"] / report["parameters"]["total"])
    seeds = len(report["seeds"])
    over = f"over {seeds} seeds and the test images" if seeds > 1 else "over the test images, of one seed"
    return (
        f"The {model_name(student)}, {size} its teacher, is right on {100 * accuracy:.1f} % of the {test_images:,} "
        f"test images: {gain[0]} the same model trained without a teacher ({100 * alone:.1f} %; 95 % interval of the "
        f"difference {gain[1]} points, {over}), and {behind[0]} its teacher ({behind[1]})."
        f"{_if_it_says_nothing(models, student)}"
    )


def _if_it_says_nothing(models: Models, student: str) -> str:
    """A second sentence where it is not known whether the teacher helped."""
    errors = 1 - models["baseline"]["quality"]["accuracy"]["mean"]
    if not says_nothing(models[student]["intervals"]["gain"]["accuracy"], errors):
        return ""
    of_seeds = gains(student, models, "accuracy")
    return (
        " Whether the teacher helped is not known: the interval says nothing, since it holds half as many errors as "
        f"well as half as many more. {what_would_help(len(of_seeds), seeds_needed(of_seeds, errors))}"
    )


def _compared(difference: float, ends: Sequence[float]) -> tuple[str, str]:
    """Whether it is more, fewer, or not clear; and the two ends in points, with as many digits as they need."""
    low, high = (100 * end for end in ends)
    widest = max(abs(low), abs(high))
    digits = 1 if widest >= 0.2 else 2 if widest >= 0.02 else 3
    interval = " to ".join(f"{round(end, digits) + 0.0:+.{digits}f}" for end in (low, high))
    if low <= 0 <= high:
        return "no clear difference from", interval
    return f"{abs(100 * difference):.{digits}f} points {'more' if difference > 0 else 'fewer'} than", interval


def _size(times: float) -> str:
    """How much smaller or larger, in numbers of parameters."""
    if 0.95 < times < 1.05:
        return "as large as"
    factor, word = (times, "smaller") if times > 1 else (1 / times, "larger")
    return f"{factor:,.0f} times {word} than" if factor >= 10 else f"{factor:.1f} times {word} than"
