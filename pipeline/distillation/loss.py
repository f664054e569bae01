"""The distillation loss: hard and soft labels in one Keras loss."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras
from keras import ops

from pipeline.training.hard_loss import HardLoss, of_phase
from pipeline.training.recipe import Phase

SoftLoss = Literal["kl_divergence", "cross_entropy"]


@keras.saving.register_keras_serializable(package="softlabel")
class DistillationLoss(keras.losses.Loss):
    """Weighs the hard-label loss against the soft-label loss of Hinton et al. (arXiv:1503.02531).

        w CE(y, softmax(z)) + (1 - w) s KL(p || softmax(z / T))

    with student logits z, one-hot labels y and the teacher's softened probabilities p = softmax(v / T). The scale s is
    T^2, which keeps the soft term's gradient as large as the hard term's, or 1. The soft term may also be the
    cross-entropy instead of the KL divergence: it is larger by the entropy of p, and has the same gradient.

    A row without a label, whose y is 0, has the soft term alone: its hard term and that term's gradient are 0.
    `HardLoss` has the hard term, with label smoothing; class weights multiply both terms of a row that has a label.

    Args:
        temperature: T > 0, the temperature of the soft labels p.
        hard_label_weight: w, 0 to 1.
        scale_by_temperature_squared: whether s is T^2.
        soft_loss: "kl_divergence" or "cross_entropy".
        label_smoothing: of the hard term, as in `HardLoss`.
        class_weights: of both terms, as in `HardLoss`.
        name: the name of the loss.
        **base: `reduction` and `dtype` of `keras.losses.Loss`.

    Call arguments:
        y_true: (B, 2C), the one-hot labels y (0 without a label) beside the soft labels p.
        y_pred: (B, C), the logits z.

    Returns:
        (B,) losses in nats, or their mean, as `reduction` says. Sample weights apply to both terms.

    Attributes:
        parts: functions of `y_true` and `y_pred`, by name, that a training reports beside the loss.

    Raises:
        ValueError: `soft_loss` has another value.
    """

    def __init__(
        self,
        temperature: float,
        hard_label_weight: float,
        scale_by_temperature_squared: bool = True,
        soft_loss: SoftLoss = "kl_divergence",
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
        name: str = "distillation_loss",
        **base: Any,
    ) -> None:
        super().__init__(name=name, **base)
        self.temperature = temperature
        self.hard_label_weight = hard_label_weight
        self.scale_by_temperature_squared = scale_by_temperature_squared
        if soft_loss not in SOFT_LOSSES:
            raise ValueError(f"soft_loss is {soft_loss!r}; expected one of {sorted(SOFT_LOSSES)}")
        self.soft_loss = soft_loss
        self.hard = HardLoss(label_smoothing, class_weights)
        self.parts = {"soft_loss": self.soft_term}

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of each row: (B,)."""
        hard = self.hard.call(y_true, y_pred)
        return self.hard_label_weight * hard + (1.0 - self.hard_label_weight) * self.soft_term(y_true, y_pred)

    def soft_term(self, y_true: Any, y_pred: Any) -> Any:
        """The soft-label loss of each row, scaled by s and by the weight of its class: (B,)."""
        scale = self.temperature**2 if self.scale_by_temperature_squared else 1.0
        rows = scale * SOFT_LOSSES[self.soft_loss](y_true[:, y_pred.shape[-1] :], y_pred / self.temperature)
        return rows if self.hard.class_weights is None else self.hard.row_weights(y_true, y_pred.shape[-1]) * rows

    def for_phase(self, phase: Phase) -> "DistillationLoss":
        """The same loss with what a phase says of the hard labels."""
        return DistillationLoss(**(self.get_config() | of_phase(phase)))

    def get_config(self) -> dict[str, Any]:
        """The arguments from which Keras makes this loss again."""
        return {
            **super().get_config(),
            "temperature": self.temperature,
            "hard_label_weight": self.hard_label_weight,
            "scale_by_temperature_squared": self.scale_by_temperature_squared,
            "soft_loss": self.soft_loss,
            "label_smoothing": self.hard.label_smoothing,
            "class_weights": self.hard.class_weights,
        }


def kl_divergence(probabilities: Any, logits: Any) -> Any:
    """KL(p || softmax(z)) of each row in nats: (B, C) and (B, C) become (B,).

    It is computed from log-softmax, and so stays exact where Keras' own loss clips probabilities at 1e-7.
    """
    # p log p is 0 for p = 0; the logarithm of 0 would make it NaN.
    log_probabilities = ops.log(ops.where(probabilities > 0.0, probabilities, 1.0))
    return ops.sum(probabilities * (log_probabilities - ops.log_softmax(logits, axis=-1)), axis=-1)


def cross_entropy(probabilities: Any, logits: Any) -> Any:
    """-sum p log softmax(z) of each row in nats: (B, C) and (B, C) become (B,)."""
    return -ops.sum(probabilities * ops.log_softmax(logits, axis=-1), axis=-1)


SOFT_LOSSES: dict[SoftLoss, Callable[[Any, Any], Any]] = {
    "kl_divergence": kl_divergence,
    "cross_entropy": cross_entropy,
}
