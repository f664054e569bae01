"""Which epoch of a training is the best one: the rule by which a model is kept, and by which it is told of."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

Row = TypeVar("Row", bound=Mapping[Any, Any])


def best_epoch(history: Sequence[Row]) -> Row:
    """The row of the best epoch: the highest accuracy on the validation images, then the lowest cross-entropy.

    Among equals the first.

    Args:
        history: a row for each epoch, with `val_accuracy` and `val_cross_entropy` (nats).
    """
    return max(history, key=lambda row: (row["val_accuracy"], -row["val_cross_entropy"]))
