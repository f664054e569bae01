"""The trainings of `benchmarks.quality`: each leaves one file, and no two processes run the same one."""

import fcntl
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.process import quiet
from benchmarks.quality_set_ups import LOSSES, entry
from pipeline.evaluation.contributions import Contributions, contributions
from pipeline.evaluation.metrics import (
    Floats,
    Ints,
    accuracy,
    area_under_roc_curve,
    balanced_accuracy,
    negative_log_likelihood,
    summarise,
)
from pipeline.images.index import Image
from pipeline.training.best_epoch import best_epoch

RULES = ("accuracy", "balanced_accuracy", "auc", "cross_entropy")
"""The values of `select_by`."""


@dataclass(frozen=True)
class Training:
    """A student, or a baseline, of one set-up.

    Attributes:
        set_up: the set-up.
        loss: the loss of `quality_set_ups.LOSSES`; empty for a baseline.
        weight: the weight of the hard labels.
        seed: the seed of the training.
        views: the first V views are shown in turn; None: all that are stored.
        without_tail: whether the k largest probabilities of a top-k file are taken for all of them.
        each_epoch: whether the answers of the epoch that each of `RULES` chooses are kept.
    """

    set_up: str
    loss: str
    weight: float
    seed: int
    views: int | None = None
    without_tail: bool = False
    each_epoch: bool = False

    @property
    def name(self) -> str:
        """The name of its file."""
        loss = "".join(sign if sign.isalnum() else "_" for sign in self.loss)
        model = f"{loss}_weight{self.weight:g}" if self.loss else "baseline"
        options = [f"V{self.views}"] * (self.views is not None) + ["cut"] * self.without_tail
        return "_".join([model, *options, *["epochs"] * self.each_epoch, f"seed{self.seed}"])


@dataclass(frozen=True)
class Outcome:
    """What a training led to.

    Attributes:
        logits: the answers to the test images at the best epoch by accuracy, (N, C).
        chosen: the same at the epoch of each of `RULES`, if they were kept.
        epochs: the epochs of each of `RULES`, counted from 1.
        validation: `accuracy` and `cross_entropy` on the validation images at the best epoch.
        seconds: how long the training took.
    """

    logits: Floats
    chosen: dict[str, Floats]
    epochs: dict[str, int]
    validation: dict[str, float]
    seconds: float

    def save(self, path: Path) -> None:
        """Writes the file in one step."""
        partial = path.with_suffix(".partial")
        told = json.dumps({"epochs": self.epochs, "validation": self.validation, "seconds": self.seconds})
        with partial.open("wb") as file:
            np.savez(
                file, told=np.array(told), logits=self.logits, **{f"by_{rule}": z for rule, z in self.chosen.items()}
            )
        partial.replace(path)

    @classmethod
    def read(cls, path: Path) -> "Outcome":
        """Reads the file."""
        with np.load(path, allow_pickle=False) as file:
            chosen = {name.removeprefix("by_"): file[name] for name in file.files if name.startswith("by_")}
            return cls(file["logits"], chosen, **json.loads(str(file["told"])))


class Outcomes:
    """The outcomes of trainings, in the projects of a folder.

    Args:
        work: the folder.
    """

    def __init__(self, work: Path) -> None:
        self.work = work
        self._read: dict[Training, Outcome] = {}

    def path(self, training: Training) -> Path:
        """The file of a training."""
        return self.work / training.set_up / "trainings" / f"{training.name}.npz"

    def get(self, training: Training) -> Outcome | None:
        """The outcome; None if it is not there yet."""
        if training not in self._read:
            if not self.path(training).is_file():
                return None
            self._read[training] = Outcome.read(self.path(training))
        return self._read[training]

    def __getitem__(self, training: Training) -> Outcome:
        """The outcome of a training that has ended."""
        outcome = self.get(training)
        if outcome is None:
            raise KeyError(training.name)
        return outcome


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Whether no other process works on this file; the block may then make it. A kill ends the claim."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield not path.is_file()


class TestImages:
    """The labels of a set-up's test images, and the teacher's answers to them.

    Args:
        project: the folder of the set-up.
    """

    __test__ = False

    def __init__(self, project: Path) -> None:
        from pipeline.images.index import read_index
        from pipeline.soft_labels.identity import rows_of
        from pipeline.soft_labels.reading import open_logits

        data = read_index(project / "data/index.csv")
        images = data.split("test")
        self.class_names = data.class_names
        self.labels: Ints = np.array(data.labels(images))
        with open_logits(project / "data/soft_labels/teacher_logits.h5") as file:
            rows = rows_of(file, "test", [image.id for image in images])
            self.teacher: Floats = np.asarray(file.storage.logits(file.columns("test", 0), file.classes))[rows]

    def metrics(self, logits: Floats) -> dict[str, float]:
        """Every metric of answers (N, C)."""
        return summarise(logits, self.labels, self.teacher)

    def contributions(self, logits: Floats) -> Contributions:
        """What each image contributes to each of them."""
        return contributions(logits, self.labels, self.teacher)


class FirstViews:
    """Supervision that shows the first V views in turn.

    Args:
        supervision: that of more views.
        count: V.
    """

    def __init__(self, supervision: Any, count: int) -> None:
        self._all, self._count = supervision, count

    def __getattr__(self, name: str) -> Any:
        return getattr(self._all, name)

    def view(self, number: int) -> int:
        """The view of a pass."""
        return number % self._count


class WithoutTail:
    """Supervision in which only the k largest soft labels of each row are left, with the sum 1.

    Args:
        supervision: that of hard and soft labels, (B, 2C).
        k: how many are left.
    """

    def __init__(self, supervision: Any, k: int) -> None:
        self._all, self._k = supervision, k

    def __getattr__(self, name: str) -> Any:
        return getattr(self._all, name)

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
    """Runs the trainings of the project in the current folder; its images are decoded once."""

    def __init__(self) -> None:
        from pipeline.images.decoded_images import DecodedImages
        from pipeline.images.index import read_index
        from pipeline.params.reading import read_params

        self.params, self.data = read_params(Path("params.yaml")), read_index(Path("data/index.csv"))
        self.model = self.params.student.model
        paths = [image.path for image in self.data.split("test")]
        images = DecodedImages(paths, self.model.input_shape, self.params.images.resize)
        self._test: Floats = np.asarray(images.rows(np.arange(len(paths)))).astype(np.float32)
        self._decoded: dict[str, Any] = {}

    def run(self, training: Training) -> Outcome:
        """Trains a model, in memory."""
        from pipeline.cli import arguments
        from pipeline.training import fit

        recipe, state = arguments.recipe(self.params.student, training.seed), _in_memory()
        start = time.perf_counter()
        with self._examples(training) as (train_on, validate_on, loss), quiet():
            model = self.model.build(classes=len(self.data.class_names), seed=training.seed)
            fit.train(model, train_on, validate_on, loss, recipe, state)
            seconds = time.perf_counter() - start
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
            shown: dict[str, Any] = {}
            for split in ("train", "val"):
                images = self.data.split(split)
                shown[split] = HardAndSoftLabels(file, split, images, self.data.one_hot(images), answers)
            if training.without_tail:
                shown["train"] = WithoutTail(shown["train"], file.storage.k)
            if training.views:
                shown["train"] = FirstViews(shown["train"], training.views)
            train, val = (self._of(split, self.data.split(split), of) for split, of in shown.items())
            yield train, val, loss

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
        return predicted(model, state.weights[epoch - 1], self._test)


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

        def keep(self, model: Any, row: dict[str, Any]) -> None:
            self.history.append(row)
            self.phase = row["phase"]
            self.weights.append(model.get_weights())

        def restore_best(self, model: Any) -> None:
            del model

    return EpochsInMemory()
