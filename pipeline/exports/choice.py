"""Which student is exported."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.evaluation.curves import best_row, read_curves
from pipeline.evaluation.names import parsed
from pipeline.measures.best_epoch import SelectBy, score

WORDS: dict[SelectBy, str] = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "auc": "AUC",
    "cross_entropy": "cross-entropy",
}


def best_of(history: Path, names: Sequence[str], select_by: SelectBy) -> tuple[str, str]:
    """The student whose best epoch is the best on the validation images.

    Among equal ones it is that of the lowest cross-entropy, then that of the first name.

    Args:
        history: the folder of training curves.
        names: the students' names, "student_kl_T4_seed1".
        select_by: the measure that also chose their epochs.

    Returns:
        Its name, and in words why.

    Raises:
        MissingError: a student has no curves.
        DamagedError: its curves cannot be read.
        MismatchError: it was trained with another `select_by`.
    """
    curves = [one for name in names for one in read_curves(history, {parsed(name)[0]: [name]})]
    rows = {training.name: best_row(training, select_by) for training in curves}
    best = min(rows, key=lambda name: (-score(rows[name], select_by), rows[name]["val_cross_entropy"], name))
    among = f"the best of {len(rows)} students" if len(rows) > 1 else "the only student"
    return best, f"{among} by validation {WORDS[select_by]} ({abs(score(rows[best], select_by)):.3f})"
