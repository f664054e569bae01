"""The distillation loss: hard and soft labels in one Keras loss."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from pipeline.distillation import soft_losses
from pipeline.distillation.descriptions import (
    AnySoftLoss,
    CrossEntropy,
    Decoupled,
    JensenShannon,
    Kl,
    Needs,
    Relations,
    Softened,
    SquaredError,
    Standardised,
    TeachersChoice,
    of,
)
from pipeline.runtime.temperatures import Temperature
from pipeline.training.hard_loss import HardLoss, of_phase
from pipeline.training.recipe import Phase


@keras.saving.register_keras_serializable(package="softlabel")
class DistillationLoss(keras.losses.Loss):
    """Weighs the hard-label loss against a loss of the teacher's soft labels (Hinton et al., arXiv:1503.02531).

        w CE(y, softmax(z)) + (1 - w) s L(p, z / T)

    with student logits z, one-hot labels y and the teacher's softened probabilities p = softmax(v / T). L is one of
    `soft_losses`, of which KL(p || softmax(z / T)) is Hinton's. The student may have a temperature of its own.

    The scale s is the square of the student's temperature, or 1. The gradient of a divergence of softened probabilities
    falls with 1 / T^2, and T^2 keeps it as large as the hard term's. Losses without temperature, and correlations, have
    gradients that do not fall, so s is 1 for them (`is_scaled` of their descriptions).

    A row without a label, whose y is 0, has the soft term alone: its hard term and that term's gradient are 0.
    `HardLoss` has the hard term, with label smoothing; class weights multiply both terms of a row that has a label.

    Args:
        temperature: T > 0, the temperature of the soft labels p; with `last_temperature`, that of the first epoch.
        hard_label_weight: w, 0 to 1.
        scale_by_temperature_squared: whether s may be other than 1.
        soft_loss: which L, and its parameters. Its own hard_label_weight is not used here: w is what counts.
        label_smoothing: of the hard term, as in `HardLoss`.
        class_weights: of both terms, as in `HardLoss`.
        last_temperature: T of the last epoch, to which it goes in equal steps (`at_epoch`); None: T does not change.
        name: the name of the loss.
        **base: `reduction` and `dtype` of `keras.losses.Loss`.

    Call arguments:
        y_true: (B, 2C), the one-hot labels y (0 without a label) beside what the loss `needs`.
        y_pred: (B, C), the logits z.

    Returns:
        (B,) losses in nats, or their mean, as `reduction` says. Sample weights apply to both terms.

    Attributes:
        parts: functions of `y_true` and `y_pred`, by name, that a training reports beside the loss.
        course: the temperature from the first to the last epoch.
    """

    def __init__(
        self,
        temperature: float,
        hard_label_weight: float,
        scale_by_temperature_squared: bool = True,
        soft_loss: AnySoftLoss = Kl(),  # noqa: B008 - frozen
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
        last_temperature: float | None = None,
        name: str = "distillation_loss",
        **base: Any,
    ) -> None:
        super().__init__(name=name, **base)
        self.course = Temperature(temperature, temperature if last_temperature is None else last_temperature)
        self.hard_label_weight = hard_label_weight
        self.scale_by_temperature_squared = scale_by_temperature_squared
        self.soft_loss = soft_loss
        self.hard = HardLoss(label_smoothing, class_weights)
        self.parts = {"soft_loss": self.soft_term}
        # A variable, or a compiled step would keep the temperature of the epoch in which it was traced.
        self._changing = keras.Variable(temperature, trainable=False, dtype="float32") if self.course.changes else None

    @property
    def temperature(self) -> float:
        """The temperature of the soft-target file: T, or the larger one if it changes."""
        return self.course.largest

    @property
    def needs(self) -> Needs:
        """What the teacher's half of the targets must be: the soft labels p, or the logits v less their mean."""
        return "logits" if self.course.changes else self.soft_loss.needs

    @property
    def compares_rows(self) -> bool:
        """Whether the loss of a row depends on the other rows of its batch."""
        return isinstance(self.soft_loss, Relations) and self.soft_loss.gamma > 0

    @property
    def without_tail(self) -> str:
        """Why the loss cannot be computed from a file of the k largest logits; empty if it can."""
        if self.soft_loss.without_tail or not self.course.changes:
            return self.soft_loss.without_tail
        return f"the share of all other classes is known at T = {self.course.largest:g} alone, and T changes"

    def at_epoch(self, epoch: int, epochs: int) -> None:
        """Sets a temperature that changes to that of one of some epochs, counted from 0.

        On TensorFlow, compiled steps follow; on JAX, a model must be compiled again.
        """
        if self._changing is not None:
            self._changing.assign(self.course.at(epoch, epochs))

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of each row: (B,)."""
        hard = self.hard.call(y_true, y_pred)
        return self.hard_label_weight * hard + (1.0 - self.hard_label_weight) * self.soft_term(y_true, y_pred)

    def soft_term(self, y_true: Any, y_pred: Any) -> Any:
        """The soft-label loss of each row, scaled by s and by the weight of its class: (B,)."""
        of_student = self._of_student()
        scale = of_student**2 if self.scale_by_temperature_squared and self.soft_loss.is_scaled else 1.0
        rows = scale * self._distance(y_true, y_pred, y_pred / of_student)
        return rows if self.hard.class_weights is None else self.hard.row_weights(y_true, y_pred.shape[-1]) * rows

    def _of_teacher(self) -> Any:
        """T, now."""
        return self.course.first if self._changing is None else self._changing

    def _of_student(self) -> Any:
        """The student's temperature, now."""
        own = self.soft_loss.student_temperature if isinstance(self.soft_loss, Softened) else None
        return self._of_teacher() if own is None else own

    def _distance(self, y_true: Any, z: Any, u: Any) -> Any:
        """L of each row, of the logits z, and u = z divided by the student's temperature: (B,)."""
        soft, y, told = self.soft_loss, y_true[:, : z.shape[-1]], y_true[:, z.shape[-1] :]
        p = told if self.needs == "probabilities" else ops.softmax(told / self._of_teacher(), axis=-1)
        match soft:
            case Kl():
                return soft_losses.kl_divergence(p, u)
            case CrossEntropy():
                return soft_losses.cross_entropy(p, u)
            case JensenShannon():
                return soft_losses.jensen_shannon(p, u)
            case SquaredError():
                return soft_losses.squared_error(told, z)
            case Decoupled():
                return soft_losses.decoupled(told / self._of_teacher(), u, y, soft.alpha, soft.beta)
            case Relations():
                return soft_losses.relations(p, u, soft.beta, soft.gamma)
            case Standardised():
                v = soft_losses.standardised(told) / self._of_teacher()
                u = soft_losses.standardised(z) / self._of_student()
                if soft.before == "kl":
                    return soft_losses.kl_divergence(ops.softmax(v, axis=-1), u)
                return soft_losses.decoupled(v, u, y, *soft.weights)
            case TeachersChoice():
                return soft_losses.teachers_choice(p, z)

    def for_phase(self, phase: Phase) -> "DistillationLoss":
        """The same loss with what a phase says of the hard labels; a temperature that changes is that of this loss."""
        loss = self.from_config(self.get_config() | of_phase(phase))
        loss._changing = self._changing
        return loss

    def get_config(self) -> dict[str, Any]:
        """The arguments from which Keras makes this loss again."""
        return {
            **super().get_config(),
            "temperature": self.course.first,
            "hard_label_weight": self.hard_label_weight,
            "scale_by_temperature_squared": self.scale_by_temperature_squared,
            "soft_loss": self.soft_loss.as_json(),
            "label_smoothing": self.hard.label_smoothing,
            "class_weights": self.hard.class_weights,
            "last_temperature": self.course.last if self.course.changes else None,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "DistillationLoss":
        """The loss that `get_config` describes."""
        return cls(**config | {"soft_loss": of(config["soft_loss"])})
