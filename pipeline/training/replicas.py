"""One training on several devices: each holds a copy of the weights, a replica, and takes its part of every batch.

A step does what it does on one device with the same batch: the gradient is that of the mean loss over all rows. Its
bits differ, as sums have another order; dropout draws another mask on each device, and batch normalisation takes the
statistics of the rows of its device.
"""

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from pipeline.runtime.devices import accelerators, device_names
from pipeline.training.recipe import Phase

Step = Callable[[Any], Any]
"""A step of training or validation, of a batch (inputs, targets)."""


class Replicas:
    """The N devices that train one model together, by `tf.distribute.MirroredStrategy`; one needs no strategy.

    Args:
        devices: their names, as `tf.device` takes them; none or one: TensorFlow's default device.

    Attributes:
        count: N.
    """

    def __init__(self, devices: Sequence[str] = ()) -> None:
        self.count = max(1, len(devices))
        self._strategy = _strategy(tuple(devices)) if self.count > 1 else None

    def scope(self) -> AbstractContextManager[Any]:
        """Around the creation of an optimizer and of metrics, which a step changes."""
        return nullcontext() if self._strategy is None else self._strategy.scope()

    def mirror(self, model: Any) -> None:
        """Gives every variable of a model a copy on each device; it need not be built in the scope, which a model's
        `build` would end by clearing Keras' session.
        """
        with self.scope():
            for variable in model.variables if self.count > 1 else ():
                variable._initialize(variable.numpy())

    @property
    def numerics(self) -> list[str]:
        """What `devices.numerics` does not name: the number of devices, on which the bits of a training depend."""
        return [] if self._strategy is None else [f"{self.count} devices", *device_names()]

    def of_each(self, variable: Any) -> tuple[Any, ...]:
        """The variables, one on each device, of which a variable consists."""
        return (variable,) if self._strategy is None else self._strategy.experimental_local_results(variable)

    def agree(self, model: Any) -> None:
        """Sets what each device has found out by itself, the statistics of batch normalisations, to the mean."""
        for variable in model.non_trainable_weights:
            values = [of_one.numpy() for of_one in self.of_each(variable.value)]
            if any((value != values[0]).any() for value in values):
                variable.assign(np.mean(values, axis=0, dtype=np.float64))

    def phase(self, phase: Phase) -> Phase:
        """The phase for the optimizer, which gets the N-th part of a gradient that is clipped (`_train_step`)."""
        return phase if phase.clip_norm is None else replace(phase, clip_norm=phase.clip_norm / self.count)

    def train_step(self, model: Any, phase: Phase) -> Step:
        """The step that trains a compiled model in a phase."""
        strategy = self._strategy
        if strategy is None:
            return model.train_step  # type: ignore[no-any-return]
        step = partial(_train_step, model, phase.clip_norm is not None)
        return lambda data: strategy.run(step, args=(data,))

    def test_step(self, model: Any, keepers: Sequence[Any] = ()) -> Step:
        """The step that validates a compiled model.

        Args:
            model: the model.
            keepers: metrics that see whole batches in order; on several devices the model must not have them itself.
        """
        strategy = self._strategy
        if strategy is None:
            return model.test_step  # type: ignore[no-any-return]

        def step(data: Any) -> None:
            logits = tf.concat(self.of_each(strategy.run(partial(_test_step, model), args=(data,))), axis=0)
            for keeper in keepers:
                keeper.update_state(data[1], logits)

        return step


@cache
def _strategy(devices: tuple[str, ...]) -> Any:
    """One strategy for a process: two would give their reductions the same keys, and TensorFlow takes them for one."""
    return tf.distribute.MirroredStrategy([*devices])


ONE_DEVICE = Replicas()


def replicas_for(batch_size: int, loss: Any) -> Replicas:
    """All visible GPUs, if a training can use them; one line says why it cannot.

    Args:
        batch_size: the rows of a batch.
        loss: a loss; `compares_rows` says whether that of a row depends on the other rows.
    """
    devices = accelerators()
    if len(devices) < 2:
        return ONE_DEVICE
    reason = ""
    if batch_size % len(devices):
        reason = f"batch_size is {batch_size}, no multiple of {len(devices)}"
    elif getattr(loss, "compares_rows", False):
        reason = "the loss compares the images of a batch with each other"
    if reason:
        print(f"trained on one of {len(devices)} GPUs: {reason}", file=sys.stderr)
        return ONE_DEVICE
    part = batch_size // len(devices)
    print(f"trained on {len(devices)} GPUs, each with {part} of the {batch_size} images of a batch", file=sys.stderr)
    return Replicas(devices)


class _Part(NamedTuple):
    """What one of N replicas takes of a batch of B rows: its N-th part in order, so that together they have all.

    Attributes:
        inputs: (R or 1, ...); a replica whose part is empty computes with one row, which counts nothing.
        targets: of these rows.
        count: R; the parts of a batch that N does not divide differ by one row.
        share: N R / B, the weight of the mean of these rows in the mean over the replicas.
    """

    inputs: Any
    targets: Any
    count: Any
    share: Any


def _part(data: tuple[Any, Any]) -> _Part:
    replica = tf.distribute.get_replica_context()
    number, of = replica.replica_id_in_sync_group, replica.num_replicas_in_sync
    rows = tf.shape(data[1])[0]
    start, end = number * rows // of, (number + 1) * rows // of
    count = end - start
    with tf.device("CPU:0"):  # where batches are made: a device is sent its own rows alone
        inputs, targets = (whole[tf.minimum(start, rows - 1) : tf.maximum(end, start + 1)] for whole in data)
    return _Part(inputs, targets, count, tf.cast(of * count, tf.float32) / tf.cast(rows, tf.float32))


def _train_step(model: Any, is_clipped: bool, data: tuple[Any, Any]) -> None:
    """What one replica does in a step; as Keras' own `train_step`, for parts of different size."""
    part = _part(data)
    with tf.GradientTape() as tape:
        logits = model(part.inputs, training=True)
        # Keras divides the mean over the rows by N, as the optimizer adds the gradients of N replicas.
        loss = model.compute_loss(part.inputs, part.targets, logits, training=True)
        scaled = model.optimizer.scale_loss(part.share * loss)
    gradients = tape.gradient(scaled, model.trainable_variables)
    if is_clipped:  # the optimizer clips what a replica gives it before it adds them: so each gives an N-th of the sum
        replica = tf.distribute.get_replica_context()
        together = replica.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        gradients = [gradient / replica.num_replicas_in_sync for gradient in together]
    model.optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    _measure(model, part, logits, loss)


def _test_step(model: Any, data: tuple[Any, Any]) -> Any:
    """What one replica does in a step of validation; returns the logits of its R rows."""
    part = _part(data)
    logits = model(part.inputs, training=False)
    _measure(model, part, logits, model.compute_loss(part.inputs, part.targets, logits, training=False))
    return logits[: part.count]


def _measure(model: Any, part: _Part, logits: Any, loss: Any) -> None:
    """Adds R rows to the model's metrics, whose sums are those of all replicas."""
    mean_loss = next(metric for metric in model.metrics if metric.name == "loss")
    mean_loss.update_state(loss * tf.distribute.get_replica_context().num_replicas_in_sync, sample_weight=part.count)
    model.compute_metrics(part.inputs[: part.count], part.targets[: part.count], logits[: part.count])
