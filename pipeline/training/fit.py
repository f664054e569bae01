"""Training by plain `compile` and `fit`: the same code for teacher, student and baseline.

Everything random is a function of (seed, epoch): the order of the images, their views and the dropout masks. The whole
state is kept after each epoch. So a killed training continues with the epoch in which it was killed, and ends with the
weights of a training that was never interrupted.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from keras import ops

from pipeline.images.index import Index, fingerprint_of
from pipeline.images.random_words import philox_words
from pipeline.models import architectures, keras_files
from pipeline.models.descriptions import Model
from pipeline.runtime.devices import numerics
from pipeline.runtime.digests import sha256_file
from pipeline.runtime.progress import Progress
from pipeline.runtime.publish import publish_copy, replace_whole
from pipeline.runtime.workspace import workspace
from pipeline.training.input_pipeline import Examples, steps_of_a_pass, training_batches, validation_batches
from pipeline.training.recipe import Phase, Recipe
from pipeline.training.state import KeepState, TrainingState

PACKAGES = ("images", "models", "runtime", "training")
"""The packages whose code decides what a model learns from hard labels."""


@dataclass(frozen=True)
class Trained:
    """The result of a training, in its work folder.

    Attributes:
        model: the `.keras` file of the best epoch.
        curves: the CSV file with a row for each epoch: epoch, phase, learning_rate, then loss, accuracy, cross_entropy,
            the `parts` of the loss, and the same on the validation images (`val_`).
    """

    model: Path
    curves: Path

    def publish(self, output: Path, history: Path) -> None:
        """Copies the model to `output` and the curves to `history`."""
        publish_copy(self.curves, history)
        publish_copy(self.model, output)
        print(f"wrote {output} and {history}")


@contextmanager
def trained(
    model: Model,
    data: Index,
    train_on: Examples,
    validate_on: Examples,
    *,
    loss: Any,
    recipe: Recipe,
    output: Path,
    code: Sequence[str],
) -> Iterator[Trained]:
    """Builds and trains a model; an earlier training of the same inputs is continued, or used if it is finished.

    Args:
        model: the description of the model.
        data: the index, which names the classes.
        train_on: the training examples.
        validate_on: the validation examples, untouched.
        loss: a Keras loss of targets and logits.
        recipe: how to train.
        output: the `.keras` file for which the model is trained; it names the work folder.
        code: the code that decides what the model learns, as in `workspace`.

    Raises:
        MissingError: the model's pretrained weights are missing.
        MismatchError: the weights belong to another model.
        ParameterError: the model cannot be built, or the training diverged.
        BusyError: another process is writing `output`.
    """
    files = [sha256_file(file) for file in model.files]
    with workspace(
        output,
        code=code,
        model=asdict(model),
        classes=data.class_names,
        files=files,
        examples=[
            [list(examples.content), examples.images.preprocessing, examples.supervision.fingerprint]
            for examples in (train_on, validate_on)
        ],
        loss=[type(loss).__name__, loss.get_config()],
        recipe=asdict(recipe),
        numerics=numerics(),
    ) as work:
        finished, curves, state_file = work / "finished.keras", work / "finished.csv", work / "state.npz"
        if finished.is_file() and curves.is_file():
            print(f"{output}: already trained, taken from {work}", file=sys.stderr, flush=True)
        else:
            state = TrainingState(state_file)
            if state.history:
                message = f"{output}: continuing after epoch {len(state.history)} of {recipe.epochs}"
                print(message, file=sys.stderr, flush=True)
            built = model.build(classes=len(data.class_names), seed=recipe.seed)
            best = train(built, train_on, validate_on, loss, recipe, state)
            with replace_whole(curves) as partial:
                pd.DataFrame(state.history).to_csv(partial, index=False, mode="x", lineterminator="\n")
            # Of a teacher, `precompute` compares this accuracy with its own, and so notices other images or libraries.
            images, accuracy = fingerprint_of(recipe.validation_images(data)), state.best()["val_accuracy"]
            record = {"class_names": data.class_names, "validation": {"images": images, "accuracy": accuracy}}
            keras_files.save(best, finished, record | ({"files": files} if files else {}))
            state_file.unlink()
        yield Trained(finished, curves)


def train(
    model: Any, train_on: Examples, validate_on: Examples, loss: Any, recipe: Recipe, state: TrainingState
) -> Any:
    """Trains `model` from the epoch of `state` to the end, and returns it with the weights of its best epoch."""
    tf.config.experimental.enable_op_determinism()  # or a continued training would end with other bits
    for phase in recipe.phases:  # a wrong `trainable_from` is found before the first epoch
        architectures.for_phase(model, phase.trainable_from)
    steps_in_pass = steps_of_a_pass(train_on, recipe.batch_size)
    end = last_step = 0
    for number, phase in enumerate(recipe.phases, 1):
        steps_per_epoch = phase.steps_per_epoch or steps_in_pass
        start, end = end, end + phase.epochs
        last_step += phase.epochs * steps_per_epoch
        fitted = compiled(
            architectures.for_phase(model, phase.trainable_from, phase.backbone_in_inference_mode), phase, loss
        )
        epochs = range(max(start, state.restore(fitted, number)), end)
        if not epochs:
            continue
        # Counted over the whole training: epochs of a fixed number of steps go on through the images.
        steps = range(last_step - len(epochs) * steps_per_epoch, last_step)
        fitted.fit(
            training_batches(train_on, recipe.batch_size, recipe.seed, steps),
            validation_data=validation_batches(validate_on, recipe.batch_size),
            steps_per_epoch=steps_per_epoch,
            initial_epoch=epochs.start,
            epochs=epochs.stop,
            shuffle=False,  # the batches have their own order
            verbose=0,  # `_Report` prints
            callbacks=[
                Reseed(fitted, recipe.seed),
                _Report(len(train_on.images) * steps_per_epoch // steps_in_pass, recipe.epochs),
                KeepState(state, number, phase.learning_rate),
            ],
        )
    state.restore_best(model)
    return model


def hard_label_accuracy(y_true: Any, y_pred: Any) -> Any:
    """Whether the largest logit is that of the labelled class: (B, C or 2C) and (B, C) become (B,)."""
    hard = y_true[:, : y_pred.shape[-1]]
    return ops.cast(ops.argmax(hard, axis=-1) == ops.argmax(y_pred, axis=-1), "float32")


def hard_label_cross_entropy(y_true: Any, y_pred: Any) -> Any:
    """Cross-entropy against the one-hot half of the targets, in nats: (B,)."""
    return ops.categorical_crossentropy(y_true[:, : y_pred.shape[-1]], y_pred, from_logits=True)


class MeanOverLabelled(keras.metrics.MeanMetricWrapper):
    """The mean of a function of targets and logits over the rows that have a label; 0 if none has one."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds B rows: (B, C or 2C) targets and (B, C) logits. A row's weight is 1 with a label and 0 without."""
        labelled = ops.sum(y_true[:, : y_pred.shape[-1]], axis=-1)
        super().update_state(y_true, y_pred, labelled if sample_weight is None else labelled * sample_weight)


def compiled(model: Any, phase: Phase, loss: Any) -> Any:
    """Compiles a model for `fit`, with a new optimizer and the metrics of a training; returns the model."""
    parts = getattr(loss, "parts", {})
    model.compile(
        optimizer=new_optimizer(phase),
        loss=loss,
        metrics=[
            MeanOverLabelled(hard_label_accuracy, name="accuracy"),
            MeanOverLabelled(hard_label_cross_entropy, name="cross_entropy"),
            *(keras.metrics.MeanMetricWrapper(function, name=name) for name, function in parts.items()),
        ],
        jit_compile=False,  # XLA is slower here: 15 times for MobileNetV2 on a CPU
    )
    model.optimizer.build(model.trainable_variables)  # before its variables can be restored
    return model


def new_optimizer(phase: Phase) -> Any:
    """A new Keras optimizer for a phase."""
    momentum = {"momentum": phase.momentum} if phase.momentum else {}  # Adam has no such argument
    config = {"learning_rate": phase.learning_rate, **momentum}
    return keras.optimizers.get({"class_name": phase.optimizer, "config": config})


class Reseed(keras.callbacks.Callback):
    """Makes the dropout of each epoch a function of (seed, epoch).

    Args:
        fitted: a model of `architectures.for_phase`.
        seed: the seed of the training.
    """

    def __init__(self, fitted: Any, seed: int) -> None:
        super().__init__()
        self.fitted, self.seed = fitted, seed

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Sets the state of every layer's generator of random numbers."""
        layers = [inner for layer in self.fitted.layers for inner in (layer, *getattr(layer, "layers", ()))]
        generators = [layer.seed_generator for layer in layers if hasattr(layer, "seed_generator")]
        for number, generator in enumerate(generators):
            words = philox_words(2, "dropout", self.seed, epoch, number)
            # 31 bits fit the integer types of all of Keras' backends.
            generator.state.assign((words >> np.uint64(33)).astype(generator.state.dtype))


class _Report(keras.callbacks.Callback):
    """Prints the progress and the result of each epoch, with the speed of its training steps."""

    def __init__(self, images: int, last_epoch: int) -> None:
        super().__init__()
        self.images, self.last_epoch = images, last_epoch

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.progress = Progress(f"epoch {epoch + 1}/{self.last_epoch}", self.params["steps"], "steps")
        self.start = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.progress.advance(1)

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.seconds = time.monotonic() - self.start  # the time of validation does not count

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.progress.close()
        values = "  ".join(f"{name} {value:.4f}" for name, value in (logs or {}).items())
        speed = self.images / self.seconds
        print(f"epoch {epoch + 1}/{self.last_epoch}  {values}  {speed:.0f} images/s", file=sys.stderr)
