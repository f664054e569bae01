"""The optimizer of a phase: its learning rate at each step, weight decay, clipping and the average of the weights."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from pipeline.training.recipe import Phase, StepSchedule

CLASSES = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "rmsprop": keras.optimizers.RMSprop,
    "sgd": keras.optimizers.SGD,
}


def learning_rates(phase: Phase, steps_per_epoch: int) -> npt.NDArray[np.float64]:
    """The learning rate r(s) at each step s = 0 .. S - 1 of a phase of S steps: (S,).

        warm-up of W steps    r (s + 1) / W                                   for s < W, and after it
        constant              r
        cosine                r (1 + cos(pi (s - W) / (S - W))) / 2
        steps                 r f^k, with the k epochs of `after_epochs` that are over

    Args:
        phase: the phase.
        steps_per_epoch: the number of batches in each of its epochs.
    """
    step, warmup = np.arange(phase.epochs * steps_per_epoch), phase.warmup * steps_per_epoch
    shares = np.ones(len(step))
    if phase.schedule == "cosine":
        shares = (1 + np.cos(np.pi * (step - warmup) / (len(step) - warmup))) / 2
    elif isinstance(phase.schedule, StepSchedule):
        ends = np.array(phase.schedule.after_epochs) * steps_per_epoch
        shares = phase.schedule.factor ** np.searchsorted(ends, step, side="right").astype(np.float64)
    shares[:warmup] = (step[:warmup] + 1) / max(warmup, 1)
    return phase.learning_rate * shares


def is_constant(phase: Phase) -> bool:
    """Whether every step of a phase has the same learning rate."""
    return phase.schedule == "constant" and not phase.warmup


class StepByStep(keras.optimizers.schedules.LearningRateSchedule):
    """Gives an optimizer the learning rate of each of its steps; later steps have the last one.

    Args:
        rates: the learning rates, (S,).
    """

    def __init__(self, rates: npt.NDArray[np.float64]) -> None:
        self.rates = rates.astype(np.float32)

    def __call__(self, step: Any) -> Any:
        """The learning rate of the step with this number, from 0."""
        return ops.take(self.rates, ops.minimum(ops.cast(step, "int32"), len(self.rates) - 1))


def new_optimizer(phase: Phase, steps_per_epoch: int, trained: Sequence[Any]) -> Any:
    """A new Keras optimizer for a phase.

    Args:
        phase: the phase.
        steps_per_epoch: the number of batches in each of its epochs.
        trained: the variables that will be trained.
    """
    rate = phase.learning_rate if is_constant(phase) else StepByStep(learning_rates(phase, steps_per_epoch))
    options: dict[str, Any] = {"momentum": phase.momentum} if phase.momentum else {}  # Adam has no such argument
    if phase.weight_decay is not None:  # AdamW has a default of its own
        options["weight_decay"] = phase.weight_decay
    if phase.ema is not None:
        options |= {"use_ema": True, "ema_momentum": phase.ema}
    optimizer = CLASSES[phase.optimizer](rate, global_clipnorm=phase.clip_norm, **options)
    if phase.weight_decay is not None:
        optimizer.exclude_from_weight_decay([variable for variable in trained if _is_spared(variable)])
    return optimizer


def _is_spared(variable: Any) -> bool:
    """Whether weight decay leaves a variable as it is: a bias (that of attention has two dimensions), or a scale."""
    return len(variable.shape) < 2 or variable.name in ("bias", "beta", "gamma")


class Averaging(keras.callbacks.Callback):
    """Puts the averaged weights into the model, from its validation until the epoch is kept.

    Meanwhile the optimizer holds the weights themselves, where it has the average else. So the state that is kept has
    the averaged weights as the model's, and a training can still go on with the others. Only trained weights are
    averaged. The statistics of batch normalisations, averages over steps in themselves, are used as they are.

    It stands behind the callback that keeps the state.
    """

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Takes the weights themselves back from the optimizer of a phase that goes on."""
        if int(ops.convert_to_numpy(self.model.optimizer.iterations)):
            self._swap()

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Puts the averaged weights in."""
        self._swap()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Takes the weights themselves back."""
        self._swap()

    def _swap(self) -> None:
        averages = self.model.optimizer._model_variables_moving_average
        for variable, average in zip(self.model.trainable_variables, averages, strict=True):
            value = np.array(ops.convert_to_numpy(variable))  # not by sums, as Keras' own callback: they would round
            variable.assign(average)
            average.assign(value)
