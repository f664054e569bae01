"""How fast the two models run here, for `plan --measure`."""

import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from pipeline.inference import Forward
from pipeline.losses import DistillationLoss

LEAST_SECONDS = 2.0


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
    forward = Forward(teacher, teacher_batch)
    classes = student.output_shape[-1]
    student.compile(optimizer=keras.optimizers.Adam(), loss=DistillationLoss(4.0, 0.5, True), jit_compile=False)
    pixels = _pixels(student, student_batch)
    targets = np.full((student_batch, 2 * classes), 1 / classes, np.float32)
    seen = [_pixels(teacher, teacher_batch)]
    return {
        "teacher": teacher_batch / _seconds(lambda: list(forward(seen))),
        "student": student_batch / _seconds(lambda: student.train_on_batch(pixels, targets)),
    }


def _pixels(model: Any, batch_size: int) -> Any:
    values = np.random.default_rng(0).uniform(0, 255, (batch_size, *model.input_shape[1:]))
    return keras.ops.convert_to_tensor(values, "float32")


def _seconds(step: Callable[[], Any]) -> float:
    """The median time of one call, after two that warm up."""
    times: list[float] = []
    step()
    step()
    while sum(times) < LEAST_SECONDS:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return float(np.median(times))
