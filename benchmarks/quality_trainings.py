"""Runs the trainings of `benchmarks.quality`, in memory."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.process import quiet
from benchmarks.quality_outcomes import Outcome, Training
from benchmarks.quality_set_ups import LOSSES, RULES, entry
from pipeline.evaluation.metrics import Floats, Ints, accuracy, negative_log_likelihood
from pipeline.images.index import Image
from pipeline.measures.best_epoch import best_epoch
from pipeline.measures.unequal_classes import area_under_roc_curve, balanced_accuracy


class Changed:
    """Supervision that differs from another one in some of its methods.

    Args:
        supervision: the other one.
    """

    def __init__(self, supervision: Any) -> None:
        self._all = supervision

    def __getattr__(self, name: str) -> Any:
        """What the other one has."""
        return getattr(self._all, name)


class FirstViews(Changed):
    """Supervision that shows the first V views in turn.

    Args:
        supervision: that of more views.
        count: V.
    """

    def __init__(self, supervision: Any, count: int) -> None:
        super().__init__(supervision)
        self._count = count

    def view(self, number: int) -> int:
        """The view of a pass."""
        return number % self._count


class LargestAlone(Changed):
    """Supervision in which only the k largest soft labels of each row are left, with the sum 1.

    Args:
        supervision: that of hard and soft labels, (B, 2C).
        k: how many are left.
    """

    def __init__(self, supervision: Any, k: int) -> None:
        super().__init__(supervision)
        self._k = k

    def targets(self, view: int, rows: Any) -> Any:
        """The targets of some images in one view."""
        hard, soft = np.split(self._all.targets(view, rows), 2, axis=1)
        return np.concatenate([hard, largest_alone(soft, self._k)], axis=1)


def largest_alone(probabilities: Floats, k: int) -> Floats:
    """The k largest of each row (B, C) divided by their sum; the others are 0."""
    places = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    kept = np.zeros_like(probabilities)
    np.put_along_axis(kept, places, np.take_along_axis(probabilities, places, axis=1), axis=1)
    return np.asarray(kept / kept.sum(axis=1, keepdims=True), np.float32)


class Trainer:
    """Runs the trainings of the project in the current folder; its images are decoded once.

    Attributes:
        test_pixels: the test images, (N, height, width, channels) float32.
    """

    def __init__(self) -> None:
        from pipeline.images.decoded_images import DecodedImages
        from pipeline.images.index import read_index
        from pipeline.params.reading import read_params

        self.params, self.data = read_params(Path("params.yaml")), read_index(Path("data/index.csv"))
        self.model = self.params.student.model
        paths = [image.path for image in self.data.split("test")]
        images = DecodedImages(paths, self.model.input_shape, self.params.images.resize, keep=False)
        self.test_pixels: Floats = np.asarray(images.rows(np.arange(len(paths)))).astype(np.float32)
        self._decoded: dict[str, Any] = {}

    def run(self, training: Training) -> Outcome:
        """Trains a model, in memory."""
        from pipeline.cli import arguments
        from pipeline.training import fit

        recipe, state = arguments.recipe(self.params.student, training.seed), _in_memory()
        start = time.process_time()
        with self._examples(training) as (train_on, validate_on, loss), quiet():
            model = self.model.build(classes=len(self.data.class_names), seed=training.seed)
            fit.train(model, train_on, validate_on, loss, recipe, state)
            seconds = time.process_time() - start
            best = best_epoch(state.history, "accuracy")
            epochs = self._chosen(model, state, validate_on) if training.each_epoch else {}
        answers = {epoch: self._answers(model, state, epoch) for epoch in {best["epoch"], *epochs.values()}}
        return Outcome(
            answers[best["epoch"]],
            {rule: answers[epoch] for rule, epoch in epochs.items()},
            epochs,
            {name: best[f"val_{name}"] for name in ("accuracy", "cross_entropy")},
            seconds,
        )

    @contextmanager
    def _examples(self, training: Training) -> Iterator[tuple[Any, Any, Any]]:
        """Training and validation examples, and the loss."""
        from pipeline.images.augmentation import Augmentation
        from pipeline.training.hard_loss import HardLoss
        from pipeline.training.input_pipeline import HardLabels

        if training.loss:
            with self._of_student(training) as examples:
                yield examples
            return
        labelled, views = self.data.labelled("train"), self.params.views
        count = training.views or views.count
        ids = [image.id for image in labelled]
        shown = HardLabels(ids, self.data.one_hot(labelled), views.augmentation, views.seed, count)
        val = self.data.split("val")
        untouched = HardLabels([image.id for image in val], self.data.one_hot(val), Augmentation(), 0, 1)
        yield self._of("labelled", labelled, shown), self._of("val", val, untouched), HardLoss()

    @contextmanager
    def _of_student(self, training: Training) -> Iterator[tuple[Any, Any, Any]]:
        from pipeline.cli import arguments
        from pipeline.distillation.targets import HardAndSoftLabels
        from pipeline.distillation.teacher_answers import answers_for
        from pipeline.soft_labels.reading import open_soft_targets

        temperature, folder = LOSSES[training.loss].temperature, Path("data/soft_labels")
        loss = arguments.loss(self.params.distill, entry(training.loss, training.weight), temperature)
        with (
            open_soft_targets(folder / f"soft_targets_T{temperature}.h5") as file,
            answers_for(loss, file, folder / "teacher_logits.h5") as answers,
        ):
            train, val = self.data.split("train"), self.data.split("val")
            shown: Any = HardAndSoftLabels(file, "train", train, self.data.one_hot(train), answers)
            untouched = HardAndSoftLabels(file, "val", val, self.data.one_hot(val), answers)
            if training.largest:
                shown = LargestAlone(shown, training.largest)
            if training.views:
                shown = FirstViews(shown, training.views)
            yield self._of("train", train, shown), self._of("val", val, untouched), loss

    def _of(self, name: str, images: Sequence[Image], supervision: Any) -> Any:
        """Examples of images that are decoded once."""
        from pipeline.training.input_pipeline import Examples

        if name not in self._decoded:
            self._decoded[name] = Examples.of(images, self.model.input_shape, supervision, self.params.images.resize)
        return replace(self._decoded[name], supervision=supervision)

    def _chosen(self, model: Any, state: Any, validate_on: Any) -> dict[str, int]:
        """The epoch that each of `RULES` chooses on the validation images."""
        pixels = np.asarray(validate_on.images.rows(np.arange(len(validate_on.images)))).astype(np.float32)
        labels = np.array(self.data.labels(self.data.split("val")))
        rows = [
            row | validation_measures(predicted(model, weights, pixels), labels)
            for row, weights in zip(state.history, state.weights, strict=True)
        ]
        return {rule: int(best_epoch(rows, rule)["epoch"]) for rule in RULES}

    def _answers(self, model: Any, state: Any, epoch: int) -> Floats:
        """The logits of the test images with the weights of an epoch."""
        return predicted(model, state.weights[epoch - 1], self.test_pixels)


def validation_measures(logits: Floats, labels: Ints) -> dict[str, float]:
    """What `select_by` compares, as a training's history has it."""
    return {
        "val_accuracy": accuracy(logits, labels),
        "val_balanced_accuracy": balanced_accuracy(logits, labels),
        "val_auc": area_under_roc_curve(logits, labels),
        "val_cross_entropy": negative_log_likelihood(logits, labels),
    }


def predicted(model: Any, weights: Sequence[Any], pixels: Floats) -> Floats:
    """The logits (N, C) of a model with other weights."""
    model.set_weights(weights)
    return np.asarray(model.predict_on_batch(pixels))


def _in_memory() -> Any:
    """The state of a training that keeps the weights of each epoch, and writes nothing."""
    from pipeline.training.state import TrainingState

    class EpochsInMemory(TrainingState):
        def __init__(self) -> None:
            super().__init__(Path("nowhere"))
            self.weights: list[Any] = []

        def keep(self, model: Any, optimizer: Any, row: dict[str, Any]) -> None:
            del optimizer
            self.history.append(row)
            self.phase = row["phase"]
            self.weights.append(model.get_weights())

        def restore_best(self, model: Any) -> None:
            del model

    return EpochsInMemory()
