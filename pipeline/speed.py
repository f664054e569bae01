"""How fast models run here, for `plan --measure` and the report."""

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from pipeline.inference import Forward
from pipeline.losses import DistillationLoss

LEAST_SECONDS = 2.0
WARM_UP = 2
TELL_FROM_SECONDS = 0.5
ROUNDS = 5
ROUND_SECONDS = 0.2


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
    pixels = _pixels(student, student_batch)
    targets = np.full((student_batch, 2 * classes), 1 / classes, np.float32)
    seen = [_pixels(teacher, teacher_batch)]
    of_teacher = _seconds(lambda: list(forward(seen)))
    print(f"timing training steps of the student, {student_batch} images each", file=sys.stderr, flush=True)
    of_student = _seconds(lambda: student.train_on_batch(pixels, targets))
    return {"teacher": teacher_batch / of_teacher, "student": student_batch / of_student}


def forward_speeds(models: Mapping[str, Any], batch_size: int) -> dict[str, float]:
    """Times forward passes on pixels in memory; the models take turns, so that a machine whose speed drifts is fair.

    Args:
        models: Keras models from pixels to logits, by name.
        batch_size: images in one forward pass.

    Returns:
        Images a second of each, the median over rounds.
    """
    passes = {}
    for name, model in models.items():
        forward, pixels = Forward(model, batch_size), [_pixels(model, batch_size)]
        passes[name] = lambda forward=forward, pixels=pixels: list(forward(pixels))
        passes[name]()
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(ROUNDS):
        for name, forward_pass in passes.items():
            seconds[name].append(_mean_seconds(forward_pass))
    return {name: batch_size / float(np.median(times)) for name, times in seconds.items()}


def _mean_seconds(step: Callable[[], Any]) -> float:
    """Of one call, in a round of them."""
    start, calls = time.perf_counter(), 0
    while time.perf_counter() - start < ROUND_SECONDS or not calls:
        step()
        calls += 1
    return (time.perf_counter() - start) / calls


def _pixels(model: Any, batch_size: int) -> Any:
    values = np.random.default_rng(0).uniform(0, 255, (batch_size, *model.input_shape[1:]))
    return keras.ops.convert_to_tensor(values, "float32")


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
