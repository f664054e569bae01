"""One training step of a student: without a teacher, from soft labels, and with the teacher in the loop.

    python -m benchmarks.student_step [--quick]

A fixed batch lies in memory, so no input pipeline is measured. Every variant runs its compiled step as the stages run
theirs, several in one call of TensorFlow where they are short, and all take turns in one process. "plain" is measured
twice, as "plain" and as "plain, again": the ratio of the two shows how far the machine's noise moves a ratio.

The gain is at most 1 + F_teacher / F_student: an online step runs the teacher's forward pass and the student's step, an
offline step only the latter. Both are measured, the teacher by its bare forward pass.

Goals: ours / plain at most 1.02; Keras' Distiller / ours at least 0.95 of the bound. Four minutes; --quick 40 seconds.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.paired import interleaved, interval_of_median, ratios, spread
from benchmarks.record import Record, arguments
from benchmarks.variants import BY_HAND, DISTILLER, OURS, PLAIN, Pair
from pipeline.soft_labels.logit_storage import softmax
from pipeline.training.recipe import Phase
from pipeline.training.steps_in_one_call import StepsInOneCall

AGAIN, TEACHER = "plain, again", "teacher's forward pass"

PHASES = ("frozen", "fine-tuned from layer 100")

Step = Callable[[], object]


def fixed_batch(pair: Pair, size: int, seed: int = 0) -> dict[str, tuple[Any, Any]]:
    """Pixels and the targets of each variant: one-hot labels, and for ours also the teacher's soft labels."""
    noise = np.random.default_rng(seed)
    pixels = tf.constant(noise.uniform(0, 255, (size, *pair.teacher.input_shape[1:])), tf.float32)
    hard = np.eye(pair.classes, dtype=np.float32)[noise.integers(0, pair.classes, size)]
    soft = softmax(pair.teacher.predict_on_batch(pixels), pair.loss.temperature)
    batches = dict.fromkeys((PLAIN, AGAIN, DISTILLER, BY_HAND), (pixels, tf.constant(hard)))
    return batches | {OURS: (pixels, tf.constant(np.concatenate([hard, soft], axis=1)))}


def steps_of(model: Any, batch: tuple[Any, Any], count: int) -> Step:
    """`count` training steps on one batch, with the function that `fit` calls in a stage."""
    iterator = iter(tf.data.Dataset.from_tensors(batch).repeat())
    return partial(StepsInOneCall(model, model.train_step, count), iterator)


def forward_of(teacher: Any, pixels: Any, count: int) -> Step:
    """`count` forward passes of a model on pixels in memory."""
    forward = tf.function(partial(teacher, training=False))

    def run() -> None:
        for _ in range(count):
            logits = forward(pixels)
        logits.numpy()  # waits for the device

    return run


def bound(teacher: list[float], student: list[float]) -> list[float]:
    """Round by round: an online step takes at least this many times as long as a student's step."""
    return [1 + ratio for ratio in ratios(teacher, student)]


def measure(pair: Pair, phase: Phase, batch_size: int, rounds: int, steps: int, online: int) -> dict[str, list[float]]:
    """Seconds a step of every variant, round by round.

    Args:
        pair: the models.
        phase: how the student is trained.
        batch_size: images a step.
        rounds: counted rounds.
        steps: how many steps a variant without a teacher does in a round.
        online: how many steps a variant with a teacher does in a round.
    """
    batches, models = fixed_batch(pair, batch_size), pair.variants(phase)
    counts = dict.fromkeys((PLAIN, OURS, AGAIN), steps) | dict.fromkeys((DISTILLER, BY_HAND, TEACHER), online)
    variants = {name: steps_of(models[name], batches[name], counts[name]) for name in (PLAIN, OURS)}
    variants[AGAIN] = steps_of(models[PLAIN], batches[PLAIN], steps)
    variants |= {name: steps_of(models[name], batches[name], online) for name in (DISTILLER, BY_HAND)}
    variants[TEACHER] = forward_of(pair.teacher, batches[PLAIN][0], online)
    taken = interleaved(variants, rounds)
    return {name: [seconds / counts[name] for seconds in taken[name]] for name in variants}


def report(record: Record, title: str, batch_size: int, seconds: dict[str, list[float]]) -> None:
    """Adds the tables of one measurement."""
    rows = []
    for name, of_variant in seconds.items():
        of_plain = ratios(of_variant, seconds[PLAIN])
        milliseconds, speed = [1000 * value for value in of_variant], [batch_size / value for value in of_variant]
        rows.append([name, spread(milliseconds), spread(speed), spread(of_plain, 4), interval_of_median(of_plain)])
    header = ["variant", "ms a step", "images/s", "of plain", "its median, 95 %"]
    record.table(f"{title}: a step", header, rows)
    limit = bound(seconds[TEACHER], seconds[OURS])
    rows = []
    for name in (DISTILLER, BY_HAND):
        gained = ratios(seconds[name], seconds[OURS])
        rows.append([name, spread(gained), spread(limit), spread(ratios(gained, limit))])
    record.table(f"{title}: what offline gains", ["variant", "of ours", "bound", "share of the bound"], rows)
    record.keep(**{title: seconds})


def title_of(pair: Pair, phase: str) -> str:
    """The name of a measurement of system 1's pair."""
    return f"ResNet50V2 -> MobileNetV2, batch {pair.recipe.batch_size}, {phase}"


def main() -> None:
    """Measures both pairs."""
    options = arguments(__doc__)
    tf.config.experimental.enable_op_determinism()  # as the stages do
    record = Record("student_step", options)
    pair = Pair("presets/mhist.yaml", classes=2)
    phases = dict(zip(PHASES, pair.recipe.phases, strict=True))
    if options.quick:
        del phases[PHASES[0]]
    size = {"rounds": 2, "steps": 1, "online": 1} if options.quick else {"rounds": 14, "steps": 3, "online": 1}
    for name, phase in phases.items():
        seconds = measure(pair, phase, pair.recipe.batch_size, **size)
        report(record, title_of(pair, name), pair.recipe.batch_size, seconds)
    pair = Pair("params.yaml", classes=10)
    size = {"rounds": 10, "steps": 20, "online": 5} if options.quick else {"rounds": 120, "steps": 20, "online": 5}
    seconds = measure(pair, pair.recipe.phases[0], pair.recipe.batch_size, **size)
    report(record, f"CNN -> small CNN, batch {pair.recipe.batch_size}", pair.recipe.batch_size, seconds)
    record.write()


if __name__ == "__main__":
    main()
