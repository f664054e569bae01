"""Training by plain `compile` and `fit`: the same code for teacher, student and baseline.

Everything random is a function of (seed, epoch): the order of the images, their views and the dropout masks. The whole
state is kept after each epoch. So a killed training continues with the epoch in which it was killed, and ends with the
weights of a training that was never interrupted.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras
import pandas as pd
import tensorflow as tf

from pipeline.images.changed_while_read import named_if_changed
from pipeline.images.index import Index, fingerprint_of
from pipeline.models import architectures, keras_files
from pipeline.models.descriptions import Model
from pipeline.runtime.devices import numerics
from pipeline.runtime.digests import sha256_file
from pipeline.runtime.publish import publish_copy, replace_whole
from pipeline.runtime.workspace import leave_note, workspace
from pipeline.training.callbacks import Agree, Report, Reseed, TellEpoch, Watch, Watched
from pipeline.training.class_weights import with_class_weights
from pipeline.training.feature_batches import FeatureBatches
from pipeline.training.frozen_features import split_for
from pipeline.training.hard_metrics import MeanOverLabelled, hard_label_accuracy, hard_label_cross_entropy
from pipeline.training.input_pipeline import Examples, PixelBatches, steps_of_a_pass
from pipeline.training.kept_features import ALONE, FrozenCache
from pipeline.training.optimizers import Averaging, learning_rates, new_optimizer
from pipeline.training.recipe import Phase, Recipe
from pipeline.training.replicas import ONE_DEVICE, Replicas, replicas_for
from pipeline.training.state import KeepState, TrainingState
from pipeline.training.steps_in_one_call import StepsInOneCall
from pipeline.training.validation_logits import measured_on_all, refuse_one_class

PACKAGES = ("images", "inference", "measures", "models", "runtime", "training")
"""The packages whose code decides what a model learns from hard labels."""


@dataclass(frozen=True)
class Trained:
    """The result of a training, in its work folder.

    Attributes:
        model: the `.keras` file of the best epoch.
        curves: the CSV file with a row for each epoch: epoch, phase, learning_rate, then loss, accuracy, cross_entropy,
            the `parts` of the loss, and the same on the validation images (`val_`); and the measure of `select_by`. The
            learning rate is that of the epoch's last step.
    """

    model: Path
    curves: Path

    def publish(self, output: Path, history: Path, note: str | None = None) -> None:
        """Copies the model to `output` and the curves to `history`; with a note, leaves both here with it."""
        if note is not None:
            leave_note(self.model.parent, note)
            return
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
    cache_frozen: FrozenCache = ALONE,
    watch: Watch | None = None,
) -> Iterator[Trained]:
    """Builds and trains a model; an earlier training of the same inputs is continued, or used if it is finished.

    Args:
        model: the description of the model.
        data: the index, which names the classes.
        train_on: the training examples.
        validate_on: the validation examples, untouched.
        loss: `HardLoss` or `DistillationLoss`, to which each phase adds label smoothing and class weights.
        recipe: how to train.
        output: the `.keras` file for which the model is trained; it names the work folder.
        code: the code that decides what the model learns, as in `workspace`.
        cache_frozen: how what leaves frozen layers is kept; changes no result.
        watch: is called after each epoch.

    Raises:
        MissingError: the model's pretrained weights are missing.
        MismatchError: the weights belong to another model; or image files are missing or have changed since they were
            compared with the index.
        ParameterError: the model cannot be built, the training diverged, or the recipe does not fit the classes.
        BusyError: another process is writing `output`.
    """
    recipe, validation_images = with_class_weights(recipe, data), recipe.validation_images(data)
    refuse_one_class(recipe.select_by, validation_images)
    files = [sha256_file(file) for file in model.files]
    replicas = replicas_for(recipe.batch_size, loss)
    with workspace(
        output,
        code=code,
        model=asdict(model),
        classes=data.class_names,
        files=files,
        examples=[
            [examples.content_sha256, examples.images.preprocessing, examples.supervision.fingerprint]
            for examples in (train_on, validate_on)
        ],
        loss=[type(loss).__name__, loss.get_config()],
        recipe=asdict(recipe),
        numerics=[*numerics(), *replicas.numerics],
    ) as work:
        finished, curves, state_file = work / "finished.keras", work / "finished.csv", work / "state.npz"
        if finished.is_file() and curves.is_file():
            print(f"{output}: already trained, taken from {work}", file=sys.stderr, flush=True)
        else:
            state = TrainingState(state_file, recipe.select_by)
            if state.history:
                message = f"{output}: continuing after epoch {len(state.history)} of {recipe.epochs}"
                print(message, file=sys.stderr, flush=True)
            with named_if_changed([*data.split("train"), *validation_images]):
                built = model.build(classes=len(data.class_names), seed=recipe.seed)
                best = train(built, train_on, validate_on, loss, recipe, state, cache_frozen, watch, replicas)
            with replace_whole(curves) as partial:
                pd.DataFrame(state.history).to_csv(partial, index=False, mode="x", lineterminator="\n")
            # Of a teacher, `precompute` compares this accuracy with its own, and so notices other images or libraries.
            images, accuracy = fingerprint_of(validation_images), state.best()["val_accuracy"]
            record = {"class_names": data.class_names, "validation": {"images": images, "accuracy": accuracy}}
            keras_files.save(best, finished, record | ({"files": files} if files else {}))
        state_file.unlink(missing_ok=True)  # also that of a run that was killed before it came here
        yield Trained(finished, curves)


def train(
    model: Any,
    train_on: Examples,
    validate_on: Examples,
    loss: Any,
    recipe: Recipe,
    state: TrainingState,
    cache_frozen: FrozenCache = ALONE,
    watch: Watch | None = None,
    replicas: Replicas = ONE_DEVICE,
) -> Any:
    """Trains `model` from the epoch of `state` to the end, and returns it with the weights of its best epoch.

    In a phase with frozen layers, what is trained is the rest of the model, over the features that leave them.
    """
    tf.config.experimental.enable_op_determinism()  # or a continued training would end with other bits
    replicas.mirror(model)
    for phase in recipe.phases:  # a wrong `trainable_from` is found before the first epoch
        architectures.for_phase(model, phase.trainable_from)
    steps_in_pass = steps_of_a_pass(train_on, recipe.batch_size)
    so_far: set[int] = set()
    steps_of_epoch = [phase.steps_per_epoch or steps_in_pass for phase in recipe.phases]
    for number, (phase, steps_per_epoch) in enumerate(zip(recipe.phases, steps_of_epoch, strict=True), 1):
        before = [row for row in state.history if row["phase"] < number]  # an earlier phase may have ended early
        start, end = len(before), len(before) + phase.epochs
        steps_before = sum(steps_of_epoch[row["phase"] - 1] for row in before)
        whole = architectures.for_phase(model, phase.trainable_from, phase.backbone_in_inference_mode)
        trained_earlier, so_far = so_far, so_far | _ids(whole.trainable_variables)
        epochs = range(len(state.history), end)
        if not epochs or state.phase > number or state.has_lost_patience(number, phase.patience):
            continue
        state.restore_weights(whole)
        part = split_for(model, phase, recipe.batch_size, f"phase {number}")
        measuring = measured_on_all(state.select_by, len(validate_on.images), model.output_shape[-1])
        keepers = [callback.kept for callback in measuring]
        with replicas.scope():
            fitted = compiled(
                whole if part is None else part.cut.rest,
                replicas.phase(phase),
                loss.for_phase(phase),
                steps_per_epoch,
                keepers if replicas.count == 1 else (),
            )
        state.restore_optimizer(fitted.optimizer, number)
        rates = learning_rates(phase, steps_per_epoch)[steps_per_epoch - 1 :: steps_per_epoch].tolist()
        # Counted over the whole training: epochs of a fixed number of steps go on through the images.
        steps = range(
            steps_before + (epochs.start - start) * steps_per_epoch, steps_before + phase.epochs * steps_per_epoch
        )
        report = Report(len(train_on.images) * steps_per_epoch // steps_in_pass, steps_per_epoch, recipe.epochs)
        fitted.train_function = StepsInOneCall(
            fitted, replicas.train_step(fitted, phase), steps_per_epoch, report.advance
        )
        validation_steps = steps_of_a_pass(validate_on, recipe.batch_size)
        fitted.test_function = StepsInOneCall(fitted, replicas.test_step(fitted, keepers), validation_steps)
        pixels = PixelBatches(train_on, validate_on, recipe, steps)
        batches: PixelBatches | FeatureBatches = pixels
        if part is not None:
            is_shared = trained_earlier.isdisjoint(_ids(part.cut.frozen.weights))
            cache = cache_frozen if is_shared else replace(cache_frozen, trainings=1)
            batches = FeatureBatches(pixels, part, steps_per_epoch, cache, f"phase {number}")
        with batches.in_use():
            fitted.fit(
                batches.training(),
                validation_data=batches.validation().repeat(),
                steps_per_epoch=1,  # one call of these functions
                validation_steps=1,
                initial_epoch=epochs.start,
                epochs=epochs.stop,
                shuffle=False,  # the batches have their own order
                verbose=0,  # `Report` prints
                callbacks=[
                    *batches.callbacks(),
                    Reseed(whole, recipe.seed, replicas),
                    *measuring,
                    report,
                    KeepState(state, whole, number, rates[epochs.start - start :], phase.patience),
                    *([Agree(whole, replicas)] if replicas.count > 1 else []),
                    *([TellEpoch(loss, recipe.epochs)] if hasattr(loss, "at_epoch") else []),
                    *([Averaging()] if phase.ema is not None else []),
                    *([Watched(watch, recipe.epochs)] if watch is not None else []),
                ],
            )
    state.restore_best(model)
    return model


def _ids(variables: Sequence[Any]) -> set[int]:
    return {id(variable) for variable in variables}


def compiled(model: Any, phase: Phase, loss: Any, steps_per_epoch: int, metrics: Sequence[Any] = ()) -> Any:
    """Compiles a model for `fit`, with a new optimizer and the metrics of a training; returns the model.

    Args:
        model: the model of the phase.
        phase: the phase.
        loss: a Keras loss, in the phase.
        steps_per_epoch: the number of batches in an epoch of the phase.
        metrics: more metrics.
    """
    parts = getattr(loss, "parts", {})
    model.compile(
        optimizer=new_optimizer(phase, steps_per_epoch, model.trainable_variables),
        loss=loss,
        metrics=[
            MeanOverLabelled(hard_label_accuracy, name="accuracy"),
            MeanOverLabelled(hard_label_cross_entropy, name="cross_entropy"),
            *(keras.metrics.MeanMetricWrapper(function, name=name) for name, function in parts.items()),
            *metrics,
        ],
        jit_compile=False,  # XLA is slower here: 15 times for MobileNetV2 on a CPU
    )
    model.optimizer.build(model.trainable_variables)  # before its variables can be restored
    return model
