"""Measures of all validation images together, where the mean over batches will not do."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from pipeline.images.index import Image
from pipeline.measures.best_epoch import COLUMNS, SelectBy
from pipeline.measures.unequal_classes import Floats, Ints, area_under_roc_curve, balanced_accuracy
from pipeline.runtime.errors import ParameterError, quoted

OF_ALL_IMAGES: dict[SelectBy, Callable[[Floats, Ints], float]] = {
    "auc": area_under_roc_curve,
    "balanced_accuracy": balanced_accuracy,
}
"""Functions of logits (N, C) and labels (N,)."""

NAME = "kept_logits"


class ValidationLogits(keras.metrics.Metric):
    """Keeps the logits of the first N images since the last reset; its own value is always 0.

    Keras computes a metric's value after each batch, so the measure is taken from here by `MeasureValidation`.

    Args:
        images: N, the number of validation images.
        classes: C, the number of classes.
    """

    def __init__(self, images: int, classes: int) -> None:
        super().__init__(name=NAME)
        self.images = images
        self._rows = self.add_variable((images, classes + 1), "zeros", dtype="float32", name="rows")
        self._count = self.add_variable((), "zeros", dtype="int64", name="count")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Keeps B rows: (B, C or more) targets, whose first C columns are the hard label, and (B, C) logits."""
        hard = y_true[:, : y_pred.shape[-1]]
        rows = ops.concatenate([ops.cast(ops.argmax(hard, axis=-1), "float32")[:, None], y_pred], axis=-1)
        start = self._count.value
        end = ops.minimum(start + ops.cast(ops.shape(rows)[0], "int64"), self.images)
        self._rows.value[start:end].assign(rows[: end - start])  # in place: a functional update would copy all rows
        self._count.assign(end)

    def reset_state(self) -> None:
        """Forgets the rows."""
        self._count.assign(0)

    def result(self) -> Any:
        """Nothing."""
        return ops.zeros(())

    def of_all(self) -> tuple[Floats, Ints]:
        """The logits (N, C) and the labels (N,)."""
        rows = ops.convert_to_numpy(self._rows)
        return rows[:, 1:], rows[:, 0].astype(np.int64)


class MeasureValidation(keras.callbacks.Callback):
    """Adds the measure of `select_by` to what an epoch tells. It stands before the callbacks that use it.

    Args:
        kept: the metric of the model that is trained.
        select_by: one of `OF_ALL_IMAGES`.
    """

    def __init__(self, kept: ValidationLogits, select_by: SelectBy) -> None:
        super().__init__()
        self.kept, self.select_by = kept, select_by

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Forgets the last epoch, as the model does with its own metrics; on several devices this is none of them."""
        self.kept.reset_state()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Replaces the metric's empty values by the measure; NaN if a logit is not finite."""
        told = {} if logs is None else logs
        for name in (NAME, f"val_{NAME}"):
            told.pop(name, None)
        logits, labels = self.kept.of_all()
        is_finite = bool(np.isfinite(logits).all())
        told[COLUMNS[self.select_by]] = OF_ALL_IMAGES[self.select_by](logits, labels) if is_finite else math.nan


def measured_on_all(select_by: SelectBy, images: int, classes: int) -> list[MeasureValidation]:
    """The callback that measures `select_by`, with its metric; none if Keras' own metrics have it.

    Args:
        select_by: the measure.
        images: N, the number of validation images.
        classes: C, the number of classes.
    """
    return [MeasureValidation(ValidationLogits(images, classes), select_by)] if select_by in OF_ALL_IMAGES else []


def refuse_one_class(select_by: SelectBy, images: Sequence[Image]) -> None:
    """Refuses validation images on which the measure is not defined.

    Raises:
        ParameterError: they are of one class, of which there is no area under the ROC curve.
    """
    names = {image.class_name for image in images}
    if select_by == "auc" and len(names) < 2:
        raise ParameterError(
            f"select_by is auc, and the {len(images)} validation images that are used are all of the class "
            f"{quoted(sorted(names))}. Expected two classes or more: raise validation_steps or split.val_fraction, or "
            "select by another measure."
        )
