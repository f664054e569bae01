"""The distillation loss: hard and soft labels in one Keras loss."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="softlabel")
class DistillationLoss(keras.losses.Loss):
    """Weighs the hard-label loss against the soft-label loss of Hinton et al. (arXiv:1503.02531).

        w CE(y, softmax(z)) + (1 - w) s KL(p || softmax(z / T))

    with student logits z, one-hot labels y, the teacher's softened probabilities p = softmax(v / T), and
    s = T^2 (which keeps the soft term's gradient as large as the hard term's) or 1.

    Args:
        temperature: T > 0, the temperature that made p.
        hard_label_weight: w, 0 to 1.
        scale_by_temperature_squared: whether s is T^2.
        name: of the loss.
        **base: `reduction` and `dtype` of `keras.losses.Loss`.

    Call arguments:
        y_true: (B, 2C), the one-hot labels y beside the soft labels p.
        y_pred: (B, C), the logits z.

    Returns:
        (B,) losses in nats, or their mean, as `reduction` says. Sample weights reach both terms.
    """

    def __init__(
        self,
        temperature: float,
        hard_label_weight: float,
        scale_by_temperature_squared: bool = True,
        name: str = "distillation_loss",
        **base: Any,
    ) -> None:
        super().__init__(name=name, **base)
        self.temperature = temperature
        self.hard_label_weight = hard_label_weight
        self.scale_by_temperature_squared = scale_by_temperature_squared

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of each row: (B,)."""
        hard, soft = ops.split(y_true, 2, axis=-1)
        scale = self.temperature**2 if self.scale_by_temperature_squared else 1.0
        hard_loss = ops.categorical_crossentropy(hard, y_pred, from_logits=True)
        soft_loss = kl_divergence(soft, y_pred / self.temperature)
        return self.hard_label_weight * hard_loss + (1.0 - self.hard_label_weight) * scale * soft_loss

    def get_config(self) -> dict[str, Any]:
        """The arguments that make this loss again."""
        return {
            **super().get_config(),
            "temperature": self.temperature,
            "hard_label_weight": self.hard_label_weight,
            "scale_by_temperature_squared": self.scale_by_temperature_squared,
        }


def kl_divergence(probabilities: Any, logits: Any) -> Any:
    """KL(p || softmax(z)) of each row in nats: (B, C) and (B, C) become (B,).

    Computed from log-softmax, so that it stays exact where Keras' own clips probabilities at 1e-7.
    """
    log_probabilities = ops.log(ops.where(probabilities > 0.0, probabilities, 1.0))
    return ops.sum(probabilities * (log_probabilities - ops.log_softmax(logits, axis=-1)), axis=-1)
