"""The result in one sentence, with its uncertainty."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.evaluation.cautions import gains, says_nothing, seeds_needed, what_would_help
from pipeline.evaluation.curves import Curves
from pipeline.evaluation.exports import Export
from pipeline.evaluation.names import BASELINE, TEACHER, Group
from pipeline.evaluation.temperatures import students_of
from pipeline.evaluation.uncertainty import share_interval_of_counts
from pipeline.measures.best_epoch import COLUMNS, SelectBy, score
from pipeline.runtime.errors import MismatchError

Models = Mapping[str, Any]


def chosen_student(models: Models, curves: Sequence[Curves], select_by: SelectBy = "accuracy") -> Group:
    """The students that the report is about: those of the loss and temperature that are best on the validation images.

    If the test images chose them, they would no longer be an honest test of it.

    Args:
        models: as `metrics.json` has them; it names the best epoch of each training.
        curves: those of all trainings.
        select_by: what chose the best epoch of each student.

    Returns:
        The first group that is best by `select_by` at the best epoch, as the mean over seeds.
    """
    scores = {
        group: [_at_best_epoch(one, report, select_by) for one in curves if one.group == group]
        for group, report in students_of(models).items()
    }
    return max(scores, key=lambda group: sum(scores[group]) / max(len(scores[group]), 1))


def _at_best_epoch(curves: Curves, report: Mapping[str, Any], select_by: SelectBy) -> float:
    """What a training reached on the validation images at the epoch whose weights were kept."""
    best, _ = report.get("best_epochs", {}).get(curves.name, (0, 0))
    rows = curves.table[curves.table["epoch"] == best]
    if len(rows) != 1 or COLUMNS[select_by] not in rows:
        raise MismatchError(
            f"the training curves of {curves.name} lack the epoch or the measure by which metrics.json has chosen its "
            "best epoch: they are of another training. Bring both up to date with `dvc repro evaluate`."
        )
    return score(rows.iloc[0], select_by)


def verdict(models: Models, student: Group, test_images: int, labelled_alone: int | None = None) -> str:
    """One sentence, and a second one if the interval of the gain says nothing.

    Args:
        models: as `metrics.json` has them.
        student: the group of students that the sentence is about.
        test_images: N.
        labelled_alone: the number of training images of the baseline, if the students had others without a label.
    """
    report, teacher = models[student.key], models[TEACHER.key]
    accuracy, of_baseline, of_teacher = (
        models[group.key]["quality"]["accuracy"]["mean"] for group in (student, BASELINE, TEACHER)
    )
    ends = {name: report["intervals"][name]["accuracy"] for name in ("gain", "less_teacher")}
    gain = _compared(report["gain"]["accuracy"]["mean"], ends["gain"])
    less_teacher = _compared(accuracy - of_teacher, ends["less_teacher"])
    size = ""
    if "parameters" in teacher:
        size = f", {_size(teacher['parameters']['total'] / report['parameters']['total'])} its teacher,"
    seeds = len(report["seeds"])
    on = "" if labelled_alone is None else f", on the {labelled_alone:,} labelled images alone"
    over = f"over {seeds} seeds and the test images" if seeds > 1 else "over the test images, of one seed"
    return (
        f"The {student.words}{size} is right on {100 * accuracy:.1f} % of the {test_images:,} "
        f"test images: {gain[0]} the same model trained without a teacher{on} ({100 * of_baseline:.1f} %; 95 % "
        f"interval of the difference {gain[1]} points, {over}), and {less_teacher[0]} its teacher ({less_teacher[1]})."
        f"{_if_it_says_nothing(models, student)}"
    )


def own_accuracy(export: Export) -> str:
    """The accuracy of an exported student itself, in one sentence; its interval is over other test images alone."""
    right = round(export.keras["accuracy"] * export.test_images)
    low, high = (100 * end for end in share_interval_of_counts(right, export.test_images))
    return (
        f"The {export.words}, is right on {100 * export.keras['accuracy']:.1f} % of the {export.test_images:,} test "
        f"images (95 % interval {low:.1f} to {high:.1f} %)."
    )


def _if_it_says_nothing(models: Models, student: Group) -> str:
    """A second sentence if it is unknown whether the teacher helped; otherwise an empty text."""
    errors = 1 - models[BASELINE.key]["quality"]["accuracy"]["mean"]
    if not says_nothing(models[student.key]["intervals"]["gain"]["accuracy"], errors):
        return ""
    gain_of_seeds = gains(student, models, "accuracy")
    return (
        " Whether the teacher helped is not known: the interval says nothing, since it ranges from half as many errors "
        f"to half as many more. {what_would_help(len(gain_of_seeds), seeds_needed(gain_of_seeds, errors))}"
    )


def _compared(difference: float, ends: Sequence[float]) -> tuple[str, str]:
    """A difference in words, with its sign if it is clear; its interval in points, with the digits that it needs."""
    low, high = (100 * end for end in ends)
    widest = max(abs(low), abs(high))
    digits = 1 if widest >= 0.2 else 2 if widest >= 0.02 else 3
    interval = " to ".join(f"{round(end, digits) + 0.0:+.{digits}f}" for end in (low, high))  # + 0.0: no "-0.0"
    if low <= 0 <= high:
        return "no clear difference from", interval
    return f"{abs(100 * difference):.{digits}f} points {'more' if difference > 0 else 'fewer'} than", interval


def _size(times: float) -> str:
    """The student's size in words; its teacher has `times` as many parameters."""
    if 0.95 < times < 1.05:
        return "as large as"
    factor, word = (times, "smaller") if times > 1 else (1 / times, "larger")
    return f"{factor:,.0f} times {word} than" if factor >= 10 else f"{factor:.1f} times {word} than"
