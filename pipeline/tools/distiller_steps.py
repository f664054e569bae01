"""The same training steps of a student twice: as our stage takes them, and with `keras.distillation.Distiller`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from keras import ops

from pipeline.distillation.loss import DistillationLoss
from pipeline.models import architectures
from pipeline.runtime.progress import Progress
from pipeline.tools.live_teacher import distiller_of, hard_loss
from pipeline.training.callbacks import Reseed
from pipeline.training.fit import compiled
from pipeline.training.hard_loss import of_phase
from pipeline.training.input_pipeline import Examples, steps_of_a_pass, training_batches
from pipeline.training.optimizers import new_optimizer
from pipeline.training.recipe import Phase, Recipe

LAST_PLACE = 2.0**-23
"""One unit in the last place of a float32, as a share of the number."""

LAST_PLACE_OF_TF32 = 2.0**-10
"""The same for TensorFloat-32, in which a GPU's tensor cores multiply if TensorFlow lets them."""

UNCLIPPED = 1e-37
"""About the smallest normal float32. It replaces Keras' epsilon of 1e-7, at which `keras.losses.KLDivergence` clips
probabilities."""


@dataclass(frozen=True)
class Steps:
    """Some steps of one training.

    Attributes:
        losses: the loss of each step, before the step changed the weights.
        weights: all weights after the last step.
    """

    losses: list[float]
    weights: list[npt.NDArray[Any]]


@dataclass
class _Run:
    """One training among those that share a compiled model.

    Attributes:
        batches: gives the batches of a range of steps.
        weights: all weights: those to begin with, and later those after the last step.
        losses: the loss of each step so far.
    """

    batches: Callable[[range], Any]
    weights: list[npt.NDArray[Any]]
    losses: list[float] = field(default_factory=list)


def offline_steps(student: Any, examples: Examples, loss: DistillationLoss, recipe: Recipe, count: int) -> Steps:
    """Trains a student as stage `train_student` does, for the first steps of each phase, without validation.

    Args:
        student: a model of `Description.build`.
        examples: images with `HardAndSoftLabels`.
        loss: the student's loss.
        recipe: how to train, with the weight of every class where a phase has class weights.
        count: the number of steps of each phase.
    """

    def batches(steps: range) -> Any:
        return training_batches(examples, recipe.batch_size, recipe.seed, steps)

    run = _Run(batches, student.get_weights())

    def ready(within: Any, phase: Phase) -> Any:
        return compiled(within, phase, loss.for_phase(phase), _steps_per_epoch(phase, examples, recipe))

    (steps,) = _steps("offline", student, recipe, count, ready, [run], loss)
    return steps


def _steps_per_epoch(phase: Phase, examples: Examples, recipe: Recipe) -> int:
    return phase.steps_per_epoch or steps_of_a_pass(examples, recipe.batch_size)


def online_steps(
    student: Any,
    examples: Examples,
    loss: DistillationLoss,
    recipe: Recipe,
    count: int,
    teacher: Any,
    seen_by_teacher: Examples | None = None,
) -> tuple[Steps, Steps]:
    """Trains a student with `keras.distillation.Distiller`, twice; all else is as in `offline_steps`.

    Args:
        student: as in `offline_steps`.
        examples: as in `offline_steps`; their soft labels are not used.
        loss: the student's loss. Its soft term is Keras' own where Keras has it (`is_keras_own`); otherwise it is ours,
            of the logits that the teacher gives in the loop.
        recipe: as in `offline_steps`.
        count: as in `offline_steps`.
        teacher: a model from (B, height, width, channels) pixels to (B, C) logits; it is frozen.
        seen_by_teacher: the same examples in the teacher's size, if that differs from the student's.

    Returns:
        The steps as they are, and those with all pixels and initial weights moved by one unit in their last place.
    """

    takes_whole_numbers = not tf.as_dtype(teacher.inputs[0].dtype).is_floating
    if takes_whole_numbers and seen_by_teacher is None:
        seen_by_teacher = examples

    def batches(steps: range) -> Any:
        data = training_batches(examples, recipe.batch_size, recipe.seed, steps)
        data = data.map(lambda pixels, targets: (pixels, targets[:, : targets.shape[1] // 2]))
        if seen_by_teacher is not None:
            for_teacher = training_batches(seen_by_teacher, recipe.batch_size, recipe.seed, steps)
            data = tf.data.Dataset.zip(data, for_teacher).map(lambda one, other: ((one[0], other[0]), one[1]))
        return data

    def move(pixels: Any) -> Any:
        # A teacher of whole numbers keeps its pixels: it cuts off fractions, so a last place could become a whole 1.
        return (_moved(pixels[0]), pixels[1]) if takes_whole_numbers else tf.nest.map_structure(_moved, pixels)

    def distiller(within: Any, phase: Phase) -> Any:
        shapes = (
            [within.input_shape[1:]] if seen_by_teacher is None else [within.input_shape[1:], teacher.input_shape[1:]]
        )
        trained = distiller_of(loss.for_phase(phase), teacher, within, shapes)
        optimizer = new_optimizer(phase, _steps_per_epoch(phase, examples, recipe), within.trainable_variables)
        trained.compile(optimizer=optimizer, loss=partial(hard_loss, **of_phase(phase)), jit_compile=False)
        trained.optimizer.build(trained.trainable_variables)  # now: variables made in the first step trace it twice
        return trained

    as_it_is, signs = student.get_weights(), np.random.default_rng(0)
    moved = [
        values * (1.0 + last_place() * signs.choice([-1.0, 1.0], values.shape)).astype(np.float32)
        for values in as_it_is
    ]
    runs = [
        _Run(batches, as_it_is),
        _Run(lambda steps: batches(steps).map(lambda pixels, labels: (move(pixels), labels)), moved),
    ]
    with _unclipped():
        online, rounded = _steps("online", student, recipe, count, distiller, runs, loss)
    return online, rounded


def _steps(
    title: str,
    student: Any,
    recipe: Recipe,
    count: int,
    ready: Callable[[Any, Phase], Any],
    runs: Sequence[_Run],
    loss: DistillationLoss,
) -> list[Steps]:
    """Takes the steps of each run; the runs share the compiled model of a phase, since compiling takes longest.

    A temperature that changes over the epochs of a training changes here from step to step.
    """
    steps_of_run = count * len(recipe.phases)
    tf.config.experimental.enable_op_determinism()  # the runs must differ by nothing but the method
    with Progress(f"parity, {title}", len(runs) * steps_of_run, "steps") as progress:
        for number, phase in enumerate(recipe.phases):
            within = architectures.for_phase(student, phase.trainable_from, phase.backbone_in_inference_mode)
            model = ready(within, phase)
            new = [ops.convert_to_numpy(variable) for variable in model.optimizer.variables]
            for run in runs:
                student.set_weights(run.weights)
                for variable, value in zip(model.optimizer.variables, new, strict=True):
                    variable.assign(value)
                model.fit(
                    run.batches(range(number * count, (number + 1) * count)),
                    steps_per_epoch=count,
                    initial_epoch=number,
                    epochs=number + 1,
                    shuffle=False,  # the batches come in the recipe's order
                    verbose=0,
                    callbacks=[Reseed(within, recipe.seed), _Losses(run.losses, progress, loss, steps_of_run)],
                )
                run.weights = student.get_weights()
    return [Steps(run.losses, run.weights) for run in runs]


class _Losses(keras.callbacks.Callback):
    """Keeps the loss of every step. Keras reports the mean since the epoch's beginning, unless metrics are reset."""

    def __init__(self, values: list[float], progress: Progress, loss: DistillationLoss, steps: int) -> None:
        super().__init__()
        self.values, self.progress, self.loss, self.steps = values, progress, loss, steps

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.loss.at_epoch(len(self.values), self.steps)
        self.model.reset_metrics()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.values.append(float((logs or {})["loss"]))
        self.progress.advance(1)


def last_place() -> float:
    """One unit in the last place of the numbers that this machine's matrix products multiply, as a share of them."""
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    uses_tf32 = on_gpu and tf.config.experimental.tensor_float_32_execution_enabled()
    return LAST_PLACE_OF_TF32 if uses_tf32 else LAST_PLACE


def _moved(pixels: Any) -> Any:
    signs = tf.random.stateless_uniform(tf.shape(pixels), seed=(0, 0), minval=0, maxval=2, dtype=tf.int32) * 2 - 1
    return pixels * (1.0 + last_place() * tf.cast(signs, tf.float32))


@contextmanager
def _unclipped() -> Iterator[None]:
    """Lets `keras.losses.KLDivergence` see probabilities as they are."""
    before = keras.config.epsilon()
    keras.config.set_epsilon(UNCLIPPED)
    try:
        yield
    finally:
        keras.config.set_epsilon(before)
