"""The distillation loss: hard and soft labels in one Keras loss."""

from typing import Any

import keras
from keras import ops

from pipeline.distillation import soft_losses
from pipeline.distillation.descriptions import AnySoftLoss, CrossEntropy, Kl, of


@keras.saving.register_keras_serializable(package="softlabel")
class DistillationLoss(keras.losses.Loss):
    """Weighs the hard-label loss against a loss of the teacher's soft labels (Hinton et al., arXiv:1503.02531).

        w CE(y, softmax(z)) + (1 - w) s L(p, z / T)

    with student logits z, one-hot labels y and the teacher's softened probabilities p = softmax(v / T). L is one of
    `soft_losses`, of which KL(p || softmax(z / T)) is Hinton's. The scale s is T^2, which keeps the soft term's
    gradient as large as the hard term's, or 1.

    A row without a label, whose y is 0, has the soft term alone: its hard term and that term's gradient are 0.

    Args:
        temperature: T > 0, the temperature of the soft labels p.
        hard_label_weight: w, 0 to 1.
        scale_by_temperature_squared: whether s is T^2.
        soft_loss: which L, and its parameters. Its own hard_label_weight is not used here: w is what counts.
        name: the name of the loss.
        **base: `reduction` and `dtype` of `keras.losses.Loss`.

    Call arguments:
        y_true: (B, 2C), the one-hot labels y (0 without a label) beside the soft labels p.
        y_pred: (B, C), the logits z.

    Returns:
        (B,) losses in nats, or their mean, as `reduction` says. Sample weights apply to both terms.

    Attributes:
        parts: functions of `y_true` and `y_pred`, by name, that a training reports beside the loss.
    """

    def __init__(
        self,
        temperature: float,
        hard_label_weight: float,
        scale_by_temperature_squared: bool = True,
        soft_loss: AnySoftLoss = Kl(),  # noqa: B008 - frozen
        name: str = "distillation_loss",
        **base: Any,
    ) -> None:
        super().__init__(name=name, **base)
        self.temperature = temperature
        self.hard_label_weight = hard_label_weight
        self.scale_by_temperature_squared = scale_by_temperature_squared
        self.soft_loss = soft_loss
        self.parts = {"soft_loss": self.soft_term}

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of each row: (B,)."""
        hard = y_true[:, : y_pred.shape[-1]]
        # Times 0 without a label: the gradient of TensorFlow's kernel, which is used unless operations are made
        # deterministic, is softmax(z) - y for any y.
        hard_loss = ops.sum(hard, axis=-1) * ops.categorical_crossentropy(hard, y_pred, from_logits=True)
        return self.hard_label_weight * hard_loss + (1.0 - self.hard_label_weight) * self.soft_term(y_true, y_pred)

    def soft_term(self, y_true: Any, y_pred: Any) -> Any:
        """The soft-label loss of each row, scaled by s: (B,)."""
        of_student = self.soft_loss.student_temperature or self.temperature
        scale = of_student**2 if self.scale_by_temperature_squared else 1.0
        p, u = y_true[:, y_pred.shape[-1] :], y_pred / of_student
        match self.soft_loss:
            case Kl():
                return scale * soft_losses.kl_divergence(p, u)
            case CrossEntropy():
                return scale * soft_losses.cross_entropy(p, u)

    def get_config(self) -> dict[str, Any]:
        """The arguments from which Keras makes this loss again."""
        return {
            **super().get_config(),
            "temperature": self.temperature,
            "hard_label_weight": self.hard_label_weight,
            "scale_by_temperature_squared": self.scale_by_temperature_squared,
            "soft_loss": self.soft_loss.as_json(),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "DistillationLoss":
        """The loss that `get_config` describes."""
        return cls(**config | {"soft_loss": of(config["soft_loss"])})
