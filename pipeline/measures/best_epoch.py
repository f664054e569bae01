"""The rule that chooses the best epoch of a training, for the model that is kept and for the report."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

SelectBy = Literal["accuracy", "balanced_accuracy", "auc", "cross_entropy"]
"""What is measured on the validation images: their accuracy; the mean of the accuracies of each class; the area under
the ROC curve, with more than two classes the mean of each against the rest; or the cross-entropy with their labels."""

COLUMNS: dict[SelectBy, str] = {
    "accuracy": "val_accuracy",
    "balanced_accuracy": "val_balanced_accuracy",
    "auc": "val_auc",
    "cross_entropy": "val_cross_entropy",
}
"""Where a history has each."""

Row = TypeVar("Row", bound=Mapping[Any, Any])


def score(row: Mapping[Any, Any], select_by: SelectBy) -> float:
    """What a row of a history reached, larger for a better epoch."""
    value = float(row[COLUMNS[select_by]])
    return -value if select_by == "cross_entropy" else value


def best_epoch(history: Sequence[Row], select_by: SelectBy = "accuracy") -> Row:
    """The row of the best epoch: the best by `select_by` on the validation images, then the lowest cross-entropy.

    Among equal epochs it is the first. Accuracy alone would have many ties on a few hundred validation images.

    Args:
        history: a row for each epoch, with the column of `select_by` and `val_cross_entropy` (nats).
        select_by: the measure.
    """
    return max(history, key=lambda row: (score(row, select_by), -row["val_cross_entropy"]))
