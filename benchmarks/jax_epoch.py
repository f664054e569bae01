"""An epoch of a student on Keras' JAX backend: plain, from soft labels, and with the teacher in the loop.

    KERAS_BACKEND=jax python -m benchmarks.jax_epoch [--quick] [--images N]

It needs no TensorFlow: images lie in memory, and models, loss and Keras' `fit` are used as docs/reading.md shows. The
pair is system 1's, ResNet50V2 -> MobileNetV2, with random weights, on whatever device JAX takes. Variants take turns
in one process; "plain" is measured twice, which shows the noise. The losses of the first steps are compared, too: ours
are those of the Distiller up to rounding.

Two minutes on a GPU; --quick ten minutes on two cores.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from benchmarks.paired import interleaved, interval_of_median, ratios, seconds_of, spread
from benchmarks.record import Record, arguments
from benchmarks.variants import DISTILLER, OURS, PLAIN, Pair, cross_entropy, online
from pipeline.soft_labels.logit_storage import softmax
from pipeline.training.recipe import Phase

AGAIN = "plain, again"

Arrays = tuple[npt.NDArray[Any], npt.NDArray[np.float32]]
"""Pixels and targets."""


def made_images(pair: Pair, count: int, seed: int = 0) -> Arrays:
    """Pixels of noise, (N, height, width, channels) from 0 to 255, and one-hot labels, (N, C)."""
    noise = np.random.default_rng(seed)
    pixels = noise.integers(0, 256, (count, *pair.teacher.input_shape[1:]), np.uint8)
    return pixels, np.eye(pair.classes, dtype=np.float32)[noise.integers(0, pair.classes, count)]


def compiled(model: Any, phase: Phase, loss: Any) -> Any:
    """A model with the phase's optimizer, whose accuracy is not measured."""
    model.compile(keras.optimizers.Adam(phase.learning_rate), loss)
    return model


def variants(pair: Pair, phase: Phase) -> dict[str, Any]:
    """The models that take turns."""
    return {
        PLAIN: compiled(pair.student(phase), phase, cross_entropy()),
        OURS: compiled(pair.student(phase), phase, pair.loss),
        DISTILLER: compiled(online(pair.student(phase), pair.teacher, pair.loss), phase, cross_entropy()),
    }


def targets_of(pair: Pair, data: Arrays) -> tuple[npt.NDArray[np.float32], float]:
    """Hard labels beside the teacher's soft labels, (N, 2C), and how many seconds the teacher's pass took."""
    (pixels, hard), teacher, batch = data, pair.teacher, pair.recipe.batch_size
    teacher.predict(pixels[:batch], batch_size=batch, verbose=0)  # compiles
    logits: list[Any] = []
    taken = seconds_of(lambda: logits.append(teacher.predict(pixels, batch_size=batch, verbose=0)))
    return np.concatenate([hard, softmax(logits[0], pair.loss.temperature)], axis=1), taken


def epoch_of(model: Any, data: Arrays, batch: int) -> Callable[[], object]:
    """One pass of `fit` over images in memory."""
    return partial(model.fit, *data, batch_size=batch, epochs=1, shuffle=False, verbose=0)


def losses_of(model: Any, data: Arrays, batch: int, steps: int) -> list[float]:
    """The loss of each of the first steps."""
    parts = [tuple(part[batch * step : batch * (step + 1)] for part in data) for step in range(steps)]
    return [float(model.train_on_batch(*part, return_dict=True)["loss"]) for part in parts]


def main() -> None:
    """Measures both phases."""
    options = arguments(
        __doc__, ("--images", {"type": int, "default": 2048, "metavar": "N", "help": "[default: 2048]"})
    )
    if keras.config.backend() != "jax":
        raise SystemExit("this is of Keras' JAX backend: set KERAS_BACKEND=jax")
    import jax

    record = Record("jax_epoch", options)
    record.document["command"] = f"KERAS_BACKEND=jax {record.document['command']}"
    images, rounds = (64, 2) if options.quick else (options.images, 10)
    device = f"{jax.devices()[0].device_kind}, JAX {jax.__version__}"
    pair = Pair("presets/mhist.yaml", classes=2)
    batch = pair.recipe.batch_size
    data = made_images(pair, images)
    targets, pass_taken = targets_of(pair, data)
    given = {PLAIN: data, OURS: (data[0], targets), DISTILLER: data}
    for name, phase in zip(("frozen", "fine-tuned from layer 100"), pair.recipe.phases, strict=True):
        title = f"ResNet50V2 -> MobileNetV2, batch {batch}, {name}, on {device}"
        models = variants(pair, phase)
        losses = {each: losses_of(models[each], given[each], batch, images // batch) for each in (OURS, DISTILLER)}
        work = {each: epoch_of(models[each], given[each], batch) for each in models}
        taken = interleaved(work | {AGAIN: work[PLAIN]}, rounds)
        seconds = {each: taken[each] for each in (PLAIN, OURS, AGAIN, DISTILLER)}
        record.table(f"{title}: an epoch of {images:,} images", *table_of(images, pass_taken, seconds))
        record.table(f"{title}: the loss of each step", *compared(losses[OURS], losses[DISTILLER]))
        record.keep(**{title: {"seconds": seconds, "losses": losses}})
    record.write()


def table_of(images: int, pass_taken: float, seconds: dict[str, list[float]]) -> tuple[list[str], list[list[str]]]:
    """What an epoch of each variant takes, beside the teacher's pass."""
    rows = [["the teacher's pass", f"{1000 * pass_taken:,.0f}", f"{images / pass_taken:,.0f}", "-", "-"]]
    for name, of_variant in seconds.items():
        of_plain = ratios(of_variant, seconds[PLAIN])
        milliseconds, speed = [1000 * value for value in of_variant], [images / value for value in of_variant]
        rows.append([name, spread(milliseconds), spread(speed), spread(of_plain, 4), interval_of_median(of_plain)])
    return ["", "ms", "images/s", "of plain", "its median, 95 %"], rows


def compared(ours: list[float], online: list[float]) -> tuple[list[str], list[list[str]]]:
    """How far the losses of the first steps are apart."""
    apart = max(abs(a - b) / b for a, b in zip(ours, online, strict=True))
    header = ["steps", "first, ours", "the Distiller's", "last, ours", "the Distiller's", "largest relative difference"]
    ends = [f"{of_one[place]:.6f}" for place in (0, -1) for of_one in (ours, online)]
    return header, [[str(len(ours)), *ends, f"{apart:.1e}"]]


if __name__ == "__main__":
    main()
