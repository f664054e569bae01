"""How fast models run here, for `plan --measure`."""

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
WARM_UP = 2
TELL_FROM_SECONDS = 0.5


def images_a_second(teacher: Any, student: Any, *, teacher_batch: int, student_batch: int) -> dict[str, float]:
    """Times the teacher's forward pass and the student's training step on pixels in memory.

    Args:
        teacher: a model from pixels to (B, C) logits.
        student: the same.
        teacher_batch: images in one forward pass.
        student_batch: images in one training step.

    Returns:
        Images a second of "teacher" and "student".
    """
    print(f"timing forward passes of the teacher, {teacher_batch} images each", file=sys.stderr, flush=True)
    forward = Forward(teacher, teacher_batch)
    classes = student.output_shape[-1]
    student.compile(optimizer=keras.optimizers.Adam(), loss=DistillationLoss(4.0, 0.5, True), jit_compile=False)
    pixels = random_pixels(student, student_batch)
    targets = np.full((student_batch, 2 * classes), 1 / classes, np.float32)
    seen = [random_pixels(teacher, teacher_batch)]
    of_teacher = _seconds(lambda: list(forward(seen)))
    print(f"timing training steps of the student, {student_batch} images each", file=sys.stderr, flush=True)
    of_student = _seconds(lambda: student.train_on_batch(pixels, targets))
    return {"teacher": teacher_batch / of_teacher, "student": student_batch / of_student}


def _seconds(step: Callable[[], Any]) -> float:
    """The median time of one call, after two that warm up; says how long those took that took long."""
    times: list[float] = []
    while len(times) < WARM_UP or sum(times[WARM_UP:]) < LEAST_SECONDS:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
        if times[-1] >= TELL_FROM_SECONDS:
            what = "to warm up" if len(times) <= WARM_UP else "timed"
            print(f"  {times[-1]:.1f} s, {what}", file=sys.stderr, flush=True)
    return float(np.median(times[WARM_UP:]))
