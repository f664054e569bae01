"""What mixed precision changes in a teacher's logits and in the time of its pass; a part of `benchmarks.precompute`.

Reported are the largest and the mean absolute error of the logits against float32, the number of images whose largest
class changes, and the ratio of the times. The logits are those of a random layer of ten classes. The backbone has
ImageNet's weights if its description asks for them and Keras finds them (KERAS_HOME), else random ones.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, get_args

import numpy as np

from benchmarks.paired import interleaved, ratios, spread
from benchmarks.record import Record
from pipeline.images.decoded_images import DecodedImages
from pipeline.images.index import Index
from pipeline.inference.forward import Forward
from pipeline.models.descriptions import Model
from pipeline.runtime.errors import MissingError
from pipeline.soft_labels.reading import MixedPrecision
from pipeline.teacher_pass.precision import lower

CLASSES = 10


def measure_precisions(models: Mapping[str, Model], data: Index, images: int, rounds: int, record: Record) -> None:
    """Compares mixed precision with float32 on one full batch.

    Args:
        models: by the name that the table gives them.
        data: an index; its first training images are used.
        images: how many of them.
        rounds: counted rounds.
        record: gets the table.
    """
    rows, measured = [], {}
    paths = [image.path for image in data.split("train")[:images]]
    for name, description in models.items():
        batches = [next(iter(DecodedImages(paths, description.input_shape, keep=True).batches(images)))]
        model, weights = built(description)
        full = Forward(model, images)
        (logits,) = full(batches)
        for precision in get_args(MixedPrecision):
            model, _ = built(description)
            lower(model, precision)
            mixed = Forward(model, images)
            (lowered,) = mixed(batches)
            errors = np.abs(lowered - logits)
            changed = (lowered.argmax(1) != logits.argmax(1)).sum()
            passes = {"float32": partial(run_through, full, batches), precision: partial(run_through, mixed, batches)}
            seconds = interleaved(passes, rounds)
            times = ratios(seconds[precision], seconds["float32"])
            largest, mean = float(errors.max()), float(errors.mean())
            measured[f"{name}, {precision}"] = {"largest": largest, "mean": mean, "times": times}
            sizes = [f"{logits.std():.3g}", f"{largest:.2g}", f"{mean:.2g}", f"{changed} of {len(logits)}"]
            rows.append([f"{name} ({weights})", precision, *sizes, spread(times)])
    record.keep(precision=measured)
    header = ["model", "precision", "std of logits", "largest error", "mean", "other largest class", "time / float32"]
    record.table("Logits in mixed precision against float32", header, rows)


def run_through(forward: Forward, batches: Any) -> list[Any]:
    """The logits of all batches."""
    return list(forward(batches))


def built(description: Model) -> tuple[Any, str]:
    """The model, and whose weights it has: random ones if those that it asks for are missing."""
    try:
        return description.build(classes=CLASSES, seed=1), description.weights or "random"
    except MissingError:
        return replace(description, weights=None).build(classes=CLASSES, seed=1), "random"
