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
    classes = student.output_shape[-1]
    # The numbers of the loss and the targets do not matter: they change no operation.
    student.compile(optimizer=keras.optimizers.Adam(), loss=DistillationLoss(4.0, 0.5, True), jit_compile=False)
    pixels = random_pixels(student, student_batch)
    targets = np.full((student_batch, 2 * classes), 1 / classes, np.float32)
    print(f"timing training steps of the student, {student_batch} images each", file=sys.stderr, flush=True)
    step_seconds = _seconds(lambda: student.train_on_batch(pixels, targets))
    return speeds | {"student": student_batch / step_seconds}


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
