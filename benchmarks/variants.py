"""Four ways to train one student: on hard labels alone, from soft labels, and with the teacher in the loop (twice).

TensorFlow is imported where a variant is compiled: the models of a `Pair` are built on any backend of Keras.
"""

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
from keras import ops

from pipeline.cli import arguments
from pipeline.distillation.loss import DistillationLoss
from pipeline.images.views import Views
from pipeline.models import architectures
from pipeline.models.descriptions import Model
from pipeline.params.reading import read_params
from pipeline.params.sections import Params, TrainedTeacher
from pipeline.training.hard_metrics import hard_label_accuracy, hard_label_cross_entropy
from pipeline.training.recipe import Phase, Recipe

ROOT = Path(__file__).parents[1]
TEMPERATURE = 4.0

PLAIN, OURS, DISTILLER, BY_HAND = "plain", "ours", "keras Distiller", "train_step by hand"
VARIANTS = (PLAIN, OURS, DISTILLER, BY_HAND)


class Pair:
    """The models of a params.yaml, without pretrained weights, and how the student is trained.

    Args:
        params: the path of the file, relative to this repository's root.
        classes: C, the number of classes.
        weights: a file of weights of the student's backbone; None: random ones.

    Attributes:
        params: the content of the file.
        classes: C.
        recipe: how the student is trained.
        views: the views of the training images.
        loss: the student's loss at `TEMPERATURE`.
    """

    def __init__(self, params: str, classes: int, weights: Path | None = None) -> None:
        self.params: Params = read_params(ROOT / params)
        self.classes = classes
        self.weights: Any = None if weights is None else str(weights.resolve())
        self.recipe: Recipe = arguments.recipe(self.params.student, seed=1)
        self.views: Views = self.params.views
        distill = self.params.distill
        self.loss: DistillationLoss = arguments.loss(distill, distill.losses[0], str(TEMPERATURE))

    @cached_property
    def teacher(self) -> Any:
        """The teacher's Keras model, built when it is first used."""
        described = self.params.train_teacher
        if not isinstance(described, TrainedTeacher):
            raise ValueError("a pair has one teacher, whose model params.yaml describes")
        teacher = described.model.untrained(self.classes)
        teacher.trainable = False
        return teacher

    @property
    def described_student(self) -> Model:
        """The student, with the weights of the pair."""
        return replace(self.params.student.model, weights=self.weights)

    def new_student(self) -> Any:
        """A new student, always with the same weights."""
        return self.described_student.build(classes=self.classes, seed=self.recipe.seed)

    def student(self, phase: Phase) -> Any:
        """A new student, wired for one phase of its training."""
        return architectures.for_phase(self.new_student(), phase.trainable_from, phase.backbone_in_inference_mode)

    def variant(self, name: str, phase: Phase) -> Any:
        """One of `VARIANTS`, compiled, with a student of its own and, if it has a teacher in the loop, this teacher."""
        student = self.student(phase)
        if name == PLAIN:
            return plain(student, phase)
        if name == OURS:
            from pipeline.training import fit

            return fit.compiled(student, phase, self.loss, 1)
        return (distiller if name == DISTILLER else by_hand)(student, phase, self.teacher, self.loss)

    def variants(self, phase: Phase) -> dict[str, Any]:
        """All `VARIANTS`."""
        return {name: self.variant(name, phase) for name in VARIANTS}


def cross_entropy() -> Any:
    """The loss of hard labels alone."""
    return keras.losses.CategoricalCrossentropy(from_logits=True)


def plain(student: Any, phase: Phase) -> Any:
    """Training on hard labels alone, compiled as the baseline's stage compiles it."""
    from pipeline.training import fit

    return fit.compiled(student, phase, cross_entropy(), 1)


def distiller(student: Any, phase: Phase, teacher: Any, loss: DistillationLoss) -> Any:
    """Keras' own distiller, with our loss: its default loss is another one."""
    return _compiled_alike(online(student, teacher, loss), student, phase, loss=cross_entropy())


def online(student: Any, teacher: Any, loss: DistillationLoss) -> Any:
    """Keras' distiller, not compiled."""
    soft = keras.distillation.LogitsDistillation(temperature=loss.temperature, loss=keras.losses.KLDivergence())
    return keras.distillation.Distiller(teacher, student, soft, student_loss_weight=loss.hard_label_weight)


def by_hand(student: Any, phase: Phase, teacher: Any, loss: DistillationLoss) -> Any:
    """`Distilled`, compiled as the others are."""
    return _compiled_alike(Distilled(teacher, student, loss.temperature, loss.hard_label_weight), student, phase)


def _compiled_alike(online: Any, student: Any, phase: Phase, **loss: Any) -> Any:
    """Gives a model with a teacher in it the optimizer and the metrics that a stage gives a student."""
    metrics = {"accuracy": hard_label_accuracy, "cross_entropy": hard_label_cross_entropy}
    online.compile(
        optimizer=plain(student, phase).optimizer,
        metrics=[keras.metrics.MeanMetricWrapper(function, name=name) for name, function in metrics.items()],
        jit_compile=False,
        **loss,
    )
    return online


class Distilled(keras.Model):
    """A distiller as tutorials write it: one `train_step` that calls both models.

    Args:
        teacher: a model from pixels to logits (B, C).
        student: another one.
        temperature: T.
        hard_label_weight: w.
    """

    def __init__(self, teacher: Any, student: Any, temperature: float, hard_label_weight: float) -> None:
        super().__init__()
        self.teacher, self.student = teacher, student
        self.teacher.trainable = False
        self.temperature, self.weight = temperature, hard_label_weight
        self.hard_loss, self.soft_loss = cross_entropy(), keras.losses.KLDivergence()
        self.loss_tracker = keras.metrics.Mean(name="loss")

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The student's logits."""
        return self.student(inputs, training=training)

    def train_step(self, data: Any) -> dict[str, Any]:
        """One forward pass of the teacher, one step of the student."""
        import tensorflow as tf

        pixels, labels = data[:2]
        soft_labels = ops.softmax(self.teacher(pixels, training=False) / self.temperature)
        with tf.GradientTape() as tape:
            logits = self.student(pixels, training=True)
            soft = self.soft_loss(soft_labels, ops.softmax(logits / self.temperature)) * self.temperature**2
            loss = self.weight * self.hard_loss(labels, logits) + (1 - self.weight) * soft
        weights = self.student.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        self.loss_tracker.update_state(loss)
        metrics: dict[str, Any] = self.compute_metrics(pixels, labels, logits)
        return metrics
