"""Metrics of the hard labels, of the rows that have one."""

from typing import Any

import keras
from keras import ops


def hard_label_accuracy(y_true: Any, y_pred: Any) -> Any:
    """Whether the largest logit is that of the labelled class: (B, C or 2C) and (B, C) become (B,)."""
    hard = y_true[:, : y_pred.shape[-1]]
    return ops.cast(ops.argmax(hard, axis=-1) == ops.argmax(y_pred, axis=-1), "float32")


def hard_label_cross_entropy(y_true: Any, y_pred: Any) -> Any:
    """Cross-entropy against the one-hot half of the targets, in nats: (B,)."""
    return ops.categorical_crossentropy(y_true[:, : y_pred.shape[-1]], y_pred, from_logits=True)


class MeanOverLabelled(keras.metrics.MeanMetricWrapper):
    """The mean of a function of targets and logits over the rows that have a label; 0 if none has one."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds B rows: (B, C or 2C) targets and (B, C) logits. A row's weight is 1 with a label and 0 without."""
        labelled = ops.sum(y_true[:, : y_pred.shape[-1]], axis=-1)
        super().update_state(y_true, y_pred, labelled if sample_weight is None else labelled * sample_weight)
