"""Training of a student's whole graph: frozen layers run in every step. On hard labels alone, or with a teacher in it.

Model, views, batches, epochs and validation are those of the stages, and the weights of the best epoch are kept.
Decoded images stay in memory, as `tf.data.Dataset.cache` would keep them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from benchmarks.variants import distiller, plain
from pipeline.cli import arguments
from pipeline.images.augmentation import Augmentation
from pipeline.images.index import Index, SplitName, read_index
from pipeline.images.views import Views
from pipeline.models import architectures, keras_files
from pipeline.params.reading import read_params
from pipeline.params.sections import Params
from pipeline.training.input_pipeline import (
    Examples,
    HardLabels,
    steps_of_a_pass,
    training_batches,
    validation_batches,
)
from pipeline.training.recipe import Phase, Recipe


class BestWeights(keras.callbacks.Callback):
    """Ends a phase with the student's weights of its best epoch by validation accuracy.

    Args:
        student: the model, which may be a part of the one that is trained.
    """

    def __init__(self, student: Any) -> None:
        super().__init__()
        self.student, self.best = student, -1.0
        self.weights: list[Any] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Keeps the weights of an epoch that is better than all before."""
        accuracy = (logs or {})["val_accuracy"]
        if accuracy > self.best:
            self.best, self.weights = accuracy, self.student.get_weights()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Takes the best weights."""
        self.student.set_weights(self.weights)


def trained(variant: str, seed: int, temperature: str) -> Any:
    """Trains a student of the project in the current folder.

    Args:
        variant: "plain", or "distiller" for Keras' Distiller with the teacher of the project.
        seed: of the training.
        temperature: T of the Distiller.

    Returns:
        The student.
    """
    tf.config.experimental.enable_op_determinism()  # as the stages do
    params, data = read_params(), read_index(Path("data/index.csv"))
    untouched = Views(1, 0, Augmentation())
    train_on, validate_on = (
        examples_of(params, data, "train", params.views),
        examples_of(params, data, "val", untouched),
    )
    student = params.student.model.build(classes=len(data.class_names), seed=seed)
    compiled = plain if variant == "plain" else with_teacher(params, temperature)
    fit_phases(student, train_on, validate_on, arguments.recipe(params.student, seed), compiled)
    return student


def examples_of(params: Params, data: Index, split: SplitName, views: Views) -> Examples:
    """Images with hard labels and sampled views, at the student's size."""
    images = data.split(split)
    ids = [image.id for image in images]
    labels = HardLabels(ids, data.one_hot(images), views.augmentation, views.seed, views.count)
    return Examples.of(images, params.student.model.input_shape, labels, params.images.resize)


def with_teacher(params: Params, temperature: str) -> Callable[[Any, Phase], Any]:
    """Compiles a student with Keras' Distiller, as `variants.plain` compiles it without a teacher."""
    teacher = keras_files.load(Path("models/teacher.keras"))
    teacher.trainable = False
    loss = arguments.loss(params.distill, params.distill.losses[0], temperature)
    return lambda student, phase: distiller(student, phase, teacher, loss)


def fit_phases(
    student: Any, train_on: Examples, validate_on: Examples, recipe: Recipe, compiled: Callable[[Any, Phase], Any]
) -> None:
    """Trains a student through all phases, each of whole passes over the images.

    Args:
        student: a model of `Model.build`, which ends with the weights of the last phase's best epoch.
        train_on: the training examples.
        validate_on: the validation examples.
        recipe: how to train.
        compiled: from the student, wired for a phase, and that phase to what is fitted.
    """
    steps, first = steps_of_a_pass(train_on, recipe.batch_size), 0
    for phase in recipe.phases:
        within = architectures.for_phase(student, phase.trainable_from, phase.backbone_in_inference_mode)
        last = first + phase.epochs * steps
        compiled(within, phase).fit(
            training_batches(train_on, recipe.batch_size, recipe.seed, range(first, last)),
            validation_data=validation_batches(validate_on, recipe.batch_size),
            steps_per_epoch=steps,
            epochs=phase.epochs,
            shuffle=False,
            verbose=0,
            callbacks=[BestWeights(within)],
        )
        first = last
