"""Measures the speed of models on this machine, for `plan --measure`."""

import sys
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from pipeline.distillation.loss import DistillationLoss
from pipeline.inference.forward import Forward
from pipeline.inference.forward_speed import random_pixels
from pipeline.models.frozen_part import Cut

LEAST_SECONDS = 2.0
"""A step is repeated until the repetitions together have taken this long."""
WARM_UP = 2
"""The first repetitions are not counted: TensorFlow compiles in them."""
TELL_FROM_SECONDS = 0.5
"""A step that takes at least this long is reported, so that a slow measurement shows that it goes on."""


def images_a_second(teacher: Any, student: Any, *, teacher_batch: int, student_batch: int) -> dict[str, float]:
    """Times the teacher's forward pass and the student's training step on pixels in memory.

    Args:
        teacher: a model from pixels to (B, C) logits; None if no teacher runs.
        student: a model of the same kind.
        teacher_batch: images in one forward pass.
        student_batch: images in one training step.

    Returns:
        Images per second of "teacher", if there is one, and of "student".
    """
    speeds = {}
    if teacher is not None:
        print(f"timing forward passes of the teacher, {teacher_batch} images each", file=sys.stderr, flush=True)
        forward, batches = Forward(teacher, teacher_batch), [random_pixels(teacher, teacher_batch)]
        speeds["teacher"] = teacher_batch / _seconds(lambda: list(forward(batches)))
    return speeds | {"student": _steps_a_second(student, random_pixels(student, student_batch), "the student")}


def images_a_second_in_phase(cut: Cut, batch_size: int, title: str) -> dict[str, float]:
    """Times the frozen layers' forward pass and the rest's training step on numbers in memory.

    Args:
        cut: the student, cut in two.
        batch_size: images in one training step.
        title: the name of the phase, for messages.

    Returns:
        Images per second of "frozen" and "rest".
    """
    print(f"timing the frozen layers of {title}, {batch_size} images each", file=sys.stderr, flush=True)
    forward, pixels = Forward(cut.frozen, batch_size), random_pixels(cut.frozen, batch_size)
    frozen = batch_size / _seconds(lambda: list(forward([pixels])))
    features = cut.frozen(pixels, training=False)
    return {"frozen": frozen, "rest": _steps_a_second(cut.rest, features, f"the rest of {title}")}


def _steps_a_second(model: Any, inputs: Any, title: str) -> float:
    """Images per second of a model's training steps on B inputs."""
    count, classes = len(inputs), model.output_shape[-1]
    # The numbers of the loss and the targets do not matter: they change no operation.
    model.compile(optimizer=keras.optimizers.Adam(), loss=DistillationLoss(4.0, 0.5, True), jit_compile=False)
    targets = np.full((count, 2 * classes), 1 / classes, np.float32)
    print(f"timing training steps of {title}, {count} images each", file=sys.stderr, flush=True)
    return count / _seconds(lambda: model.train_on_batch(inputs, targets))


def _seconds(step: Callable[[], Any]) -> float:
    """The median time of one call."""
    times: list[float] = []
    while len(times) < WARM_UP or sum(times[WARM_UP:]) < LEAST_SECONDS:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
        if times[-1] >= TELL_FROM_SECONDS:
            what = "to warm up" if len(times) <= WARM_UP else "timed"
            print(f"  {times[-1]:.1f} s, {what}", file=sys.stderr, flush=True)
    return float(np.median(times[WARM_UP:]))
