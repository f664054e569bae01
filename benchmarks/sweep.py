"""A temperature curve, offline and online: how often the teacher runs, and how long everything takes.

    python -m benchmarks.sweep [--quick] [--steps benchmarks/results/student_step.json]

First, computed: six students of system 1 (ResNet50V2 -> MobileNetV2, 2,175 training images of 224x224, 10 epochs
frozen and 25 fine-tuned). The times of their steps are measured here, or read from a result of `student_step`.
Offline, the teacher labels 35 views of each image, one for each epoch, and the 977 test images; online, it labels every
batch of every student. Validation, decoding and starting up are left out of both.

Then, measured in full: six students of the default pair on made images, from the same initial weights on the same
batches, with validation after every epoch. Offline, the stages `precompute`, `soften` and `train_student` run; online,
Keras' Distiller.

Four minutes; --quick 50 seconds.
"""

import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import chdir
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.made_data import index_of, write_images
from benchmarks.paired import ratios, spread
from benchmarks.process import quiet
from benchmarks.record import Record, arguments
from benchmarks.student_step import PHASES, TEACHER, measure, title_of
from benchmarks.variants import DISTILLER, OURS, Pair, distiller
from pipeline.cli.arguments import loss as loss_of
from pipeline.images.augmentation import Augmentation
from pipeline.images.index import Index, SplitName, write_index
from pipeline.images.views import UNTOUCHED, Views
from pipeline.models import keras_files
from pipeline.soft_labels import logit_storage
from pipeline.stages import precompute, soften, train_student
from pipeline.tools.image_counts import ImageCounts
from pipeline.tools.plan import Plan, make_plan
from pipeline.training.input_pipeline import (
    Examples,
    HardLabels,
    steps_of_a_pass,
    training_batches,
    validation_batches,
)
from pipeline.training.recipe import Recipe

TEMPERATURES = (1, 2, 4, 16, 32, 64)
SYSTEM_1 = ImageCounts(
    Path("MHIST"), {"train": 2175, "val": 0, "test": 977}, ["HP", "SSA"], {"train": 13, "val": 0, "test": 13}
)


def plan_of(pair: Pair, images: ImageCounts, views: Views, recipe: Recipe, temperatures: int) -> Plan:
    """The plan of a curve with one student for each temperature."""
    student = pair.student(recipe.phases[0])
    counted = {"teacher": pair.teacher, "student": student, "recipe": recipe}
    return make_plan(images, views, logit_storage.Dense("float32"), **counted, temperatures=temperatures, seeds=1)


@dataclass(frozen=True)
class Seconds:
    """Measured seconds.

    Attributes:
        ours: of a student's step, for each phase.
        online: of a step with the teacher in the loop, for each phase.
        forward: of one forward pass of the teacher, a batch.
    """

    ours: Sequence[float]
    online: Sequence[float]
    forward: float


def seconds_offline(plan: Plan, steps: Sequence[int], seconds: Seconds, batch_size: int) -> float:
    """The teacher's one pass, and all students' steps.

    Args:
        plan: the counts.
        steps: of one student in each phase.
        seconds: as measured.
        batch_size: images a step, and in a forward pass.
    """
    students = sum(count * each for count, each in zip(steps, seconds.ours, strict=True))
    return plan.offline_passes / batch_size * seconds.forward + plan.students * students


def seconds_online(plan: Plan, steps: Sequence[int], seconds: Seconds) -> float:
    """All students' steps, each with the teacher in it."""
    return plan.students * sum(count * each for count, each in zip(steps, seconds.online, strict=True))


def read_seconds(pair: Pair, result: Path | None, rounds: int) -> Seconds:
    """Medians of a result of `student_step`, or measured now."""
    phases: list[dict[str, list[float]]] = []
    for name, phase in zip(PHASES, pair.recipe.phases, strict=True):
        if result is not None:
            phases.append(json.loads(result.read_text(encoding="utf-8"))["measured"][title_of(pair, name)])
        else:
            phases.append(measure(pair, phase, pair.recipe.batch_size, rounds, steps=2, online=1))
    ours, online, forward = ([float(np.median(of[name])) for of in phases] for name in (OURS, DISTILLER, TEACHER))
    return Seconds(ours, online, float(np.mean(forward)))


def steps_of(recipe: Recipe, images: int) -> list[int]:
    """Steps of each phase of one student, whose epochs are passes over the images."""
    return [phase.epochs * -(-images // recipe.batch_size) for phase in recipe.phases]


def computed(record: Record, result: Path | None, rounds: int) -> None:
    """Computes system 1's curve."""
    pair = Pair("presets/mhist.yaml", classes=2)
    seconds = read_seconds(pair, result, rounds)
    steps, views = steps_of(pair.recipe, SYSTEM_1.counts["train"]), pair.views
    rows: list[tuple[str, int, float]] = []
    for name, labelled in ((f"offline, {views.count} views", views), ("offline, untouched", UNTOUCHED)):
        plan = plan_of(pair, SYSTEM_1, labelled, pair.recipe, len(TEMPERATURES))
        hours = seconds_offline(plan, steps, seconds, pair.recipe.batch_size) / 3600
        rows.append((name, plan.offline_passes, hours))
    online = seconds_online(plan, steps, seconds) / 3600
    rows.append(("online", plan.online_passes, online))
    as_text = [[name, f"{passes:,}", f"{hours:.2f}", f"{online / hours:.2f}"] for name, passes, hours in rows]
    title = f"System 1: {len(TEMPERATURES)} temperatures, 35 epochs (computed)"
    record.table(title, ["", "images through the teacher", "hours", "online takes, times as long"], as_text)
    record.keep(computed={"seconds": vars(seconds), "rows": rows})


def train_online(pair: Pair, data: Index, views: Views, recipe: Recipe, temperature: float) -> None:
    """Trains one student with Keras' Distiller, on the batches that a stage would use."""
    phase = recipe.phases[0]
    model = distiller(pair.student(phase), phase, pair.teacher, loss_at(pair, temperature))

    def examples_of(split: SplitName) -> Examples:
        images, of_split = data.split(split), views.of_split(split)
        ids = [image.id for image in images]
        labels = HardLabels(ids, data.one_hot(images), of_split.augmentation, of_split.seed, of_split.count)
        return Examples.of(images, pair.described_student.input_shape, labels)

    training = examples_of("train")
    steps = steps_of_a_pass(training, recipe.batch_size)
    model.fit(
        training_batches(training, recipe.batch_size, recipe.seed, range(phase.epochs * steps)),
        validation_data=validation_batches(examples_of("val"), recipe.batch_size),
        steps_per_epoch=steps,
        epochs=phase.epochs,
        shuffle=False,
        verbose=0,
    )


def loss_at(pair: Pair, temperature: float) -> Any:
    """The pair's loss at another temperature."""
    return loss_of(pair.params.distill, pair.params.distill.losses[0], str(temperature))


def run_offline(pair: Pair, index: Path, teacher: Path, views: Views, recipe: Recipe) -> dict[str, float]:
    """Runs the stages in the current folder, which must be new; returns the seconds of each."""
    seconds, logits = {}, Path("teacher_logits.h5")
    start = time.perf_counter()
    precompute.run(
        index=index,
        teacher=teacher,
        views=views,
        stored_as=logit_storage.Dense("float32"),
        batch_size=pair.params.precompute.batch_size,
        previous=[],
        output=logits,
    )
    seconds["precompute"] = time.perf_counter() - start
    start = time.perf_counter()
    for temperature in TEMPERATURES:
        soften.run(logits=logits, soft_targets=Path(f"T{temperature}.h5"), temperature=float(temperature))
    seconds["soften"] = time.perf_counter() - start
    start = time.perf_counter()
    for temperature in TEMPERATURES:
        train_student.run(
            index=index,
            soft_targets=Path(f"T{temperature}.h5"),
            logits=logits,
            views=views,
            loss=loss_at(pair, float(temperature)),
            model=pair.described_student,
            recipe=recipe,
            output=Path(f"T{temperature}.keras"),
            history=Path(f"T{temperature}.csv"),
        )
    seconds["students"] = time.perf_counter() - start
    return seconds


def measured(record: Record, number: int, epochs: int, rounds: int) -> None:
    """Measures the default pair's curve, in full."""
    pair = Pair("params.yaml", classes=10)
    recipe = replace(pair.recipe, phases=[replace(pair.recipe.phases[0], epochs=epochs)])
    views = Views(epochs, 1, Augmentation(horizontal_flip=True, rotation=0.2))
    offline, online = [], []
    with tempfile.TemporaryDirectory() as name:
        folder, validation = Path(name), number // 6
        files = write_images(folder / "images", number + validation + 1, pair.described_student.input_shape)
        data = index_of(files, pair.classes, validation)
        write_index(folder / "index.csv", data)
        # The stages refuse a teacher that is no better than chance, unless its file states that it is bad.
        untrained = {"class_names": data.class_names, "given": {"accuracy": 0.0}}
        keras_files.save(pair.teacher, folder / "teacher.keras", untrained)
        for turn in range(rounds):
            work = folder / f"round{turn}"
            work.mkdir()
            with chdir(work), quiet():
                offline.append(run_offline(pair, folder / "index.csv", folder / "teacher.keras", views, recipe))
            start = time.perf_counter()
            for temperature in TEMPERATURES:
                train_online(pair, data, views, recipe, float(temperature))
            online.append(time.perf_counter() - start)
    images = ImageCounts(
        folder, {"train": number, "val": validation, "test": 1}, [*"0123456789"], {"train": 10, "val": 10, "test": 10}
    )
    plan = plan_of(pair, images, views, recipe, len(TEMPERATURES))
    # Keras' Distiller runs the teacher in validation too.
    online_passes = plan.online_passes + len(TEMPERATURES) * epochs * validation
    totals = [sum(parts.values()) for parts in offline]
    rows = [[f"offline: {part}", "", spread([parts[part] for parts in offline]), ""] for part in offline[0]]
    rows.append(["offline, all", f"{plan.offline_passes:,}", spread(totals), spread(ratios(online, totals))])
    rows.append(["online", f"{online_passes:,}", spread(online), "1"])
    title = f"Default pair: {len(TEMPERATURES)} temperatures, {epochs} epochs of {number:,} images (measured)"
    record.table(title, ["", "images through the teacher", "seconds", "online takes, times as long"], rows)
    record.keep(measured={"offline": offline, "online": online})


def main() -> None:
    """Computes system 1's curve, and measures a small one."""
    steps: tuple[str, dict[str, Any]] = (
        "--steps",
        {"type": Path, "metavar": "FILE", "help": "A result of student_step.  [default: measure a few steps]"},
    )
    options = arguments(__doc__, steps)
    tf.config.experimental.enable_op_determinism()  # as the stages do
    record = Record("sweep", options)
    if options.steps is not None or not options.quick:
        computed(record, options.steps, rounds=3)
    size = {"number": 640, "epochs": 3, "rounds": 1} if options.quick else {"number": 2560, "epochs": 10, "rounds": 2}
    measured(record, **size)
    record.write()


if __name__ == "__main__":
    main()
