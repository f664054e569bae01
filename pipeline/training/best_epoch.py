"""The rule that chooses the best epoch of a training, for the model that is kept and for the report."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

Row = TypeVar("Row", bound=Mapping[Any, Any])


def best_epoch(history: Sequence[Row]) -> Row:
    """The row of the best epoch: the highest accuracy on the validation images, then the lowest cross-entropy.

    Among equal epochs it is the first. Accuracy alone would have many ties on a few hundred validation images.

    Args:
        history: a row for each epoch, with `val_accuracy` and `val_cross_entropy` (nats).
    """
    return max(history, key=lambda row: (row["val_accuracy"], -row["val_cross_entropy"]))
