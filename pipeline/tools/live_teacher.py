"""`keras.distillation.Distiller` with the teacher in the student's loop, for a comparison with our loss."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from pipeline.distillation.descriptions import Kl
from pipeline.distillation.loss import DistillationLoss


def distiller_of(loss: DistillationLoss, teacher: Any, student: Any, shapes: list[tuple[int, ...]]) -> Any:
    """Keras' distiller, not compiled yet.

    Args:
        loss: the student's loss in a phase. Its soft term is Keras' own where Keras has it (`is_keras_own`); otherwise
            it is ours, of the logits that the teacher gives in the loop.
        teacher: a model from pixels to (B, C) logits; it is frozen.
        student: a model of the same kind.
        shapes: the shape of the pixels; or two, the student's first, if they differ.
    """
    strategy, weight = _OfLiveTeacher(loss), 1.0
    if is_keras_own(loss):
        strategy = keras.distillation.LogitsDistillation(loss.temperature, keras.losses.KLDivergence())
        # It always multiplies the KL divergence by T^2.
        weight = 1.0 if loss.scale_by_temperature_squared else loss.temperature**-2
    return _Distiller(
        teacher=_seeing(in_float32(teacher), shapes, -1),
        student=_seeing(student, shapes, 0),
        distillation_losses=[strategy],
        distillation_loss_weights=[weight],
        student_loss_weight=loss.hard_label_weight,
    )


def is_keras_own(loss: DistillationLoss) -> bool:
    """Whether Keras' LogitsDistillation has the soft term: the KL divergence, at one temperature, without weights."""
    is_plain = not loss.course.changes and loss.hard.class_weights is None
    return is_plain and loss.soft_loss == Kl(hard_label_weight=loss.soft_loss.hard_label_weight)


class _OfLiveTeacher(keras.distillation.DistillationLoss):
    """Our soft term, of the logits that the teacher gives in the loop.

    Args:
        loss: the loss.

    Attributes:
        labels: the hard labels of the batch, which the Distiller does not pass on.
    """

    def __init__(self, loss: DistillationLoss) -> None:
        self.loss = loss
        self.labels: Any = None

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **_others: Any) -> Any:
        """The mean over the batch: (B, C) logits of teacher and student become a number."""
        told = teacher_outputs - ops.mean(teacher_outputs, axis=-1, keepdims=True)
        if self.loss.needs == "probabilities":
            told = ops.softmax(teacher_outputs / self.loss.temperature, axis=-1)
        targets = ops.concatenate([self.labels, told], axis=-1)
        return ops.mean(self.loss.soft_term(targets, student_outputs))


class _Distiller(keras.distillation.Distiller):
    """Keras' own, which tells `_OfLiveTeacher` the labels."""

    def compute_loss(self, x: Any = None, y: Any = None, *others: Any, **named: Any) -> Any:
        """As Keras' own; it is called once for each tracing."""
        for strategy in self.distillation_losses:
            strategy.labels = y
        return super().compute_loss(x, y, *others, **named)


def hard_loss(
    y_true: Any, y_pred: Any, label_smoothing: float = 0.0, class_weights: Sequence[float] | None = None
) -> Any:
    """Keras' cross-entropy, in which a row has its label's mass as weight: 1, or that of its class, or 0 without one.

    The Distiller takes no sample weights itself.
    """
    cross_entropy = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=label_smoothing)
    mass = y_true if class_weights is None else y_true * ops.array(class_weights, "float32")
    return cross_entropy(y_true, y_pred, sample_weight=ops.sum(mass, axis=-1))


def in_float32(teacher: Any) -> Any:
    """A teacher of any kind as the Distiller needs it: a functional model from float32 pixels to float32 logits."""
    pixels, logits = teacher.inputs[0], teacher.outputs[0]
    if pixels.dtype != "float32":
        inner = keras.Model(pixels, logits)
        pixels = keras.Input(teacher.input_shape[1:], dtype="float32")
        logits = inner(ops.cast(pixels, teacher.inputs[0].dtype))
    return keras.Model(pixels, ops.cast(logits, "float32"), name="teacher_in_float32")


def _seeing(model: Any, shapes: list[tuple[int, ...]], which: int) -> Any:
    """The model behind one input for each shape, of which it takes one: the Distiller gives both models all inputs."""
    if len(shapes) == 1:
        return model
    inputs = [keras.Input(shape) for shape in shapes]
    return keras.Model(inputs, model(inputs[which]), name=f"seeing_{which}")
