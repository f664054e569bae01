"""How near the teacher's pass comes to its bare forward pass, and what a reduced precision of it costs in accuracy.

`stage` is `TeacherPass.run` over image files: reading, decoding, showing the views, the forward pass, the refusals, and
writing to the disk. `bare` is the same compiled forward pass over as many float32 tensors that lie in memory. Both run
in turns in one process. What the stage does once (starting Python, loading and tracing the model, comparing the image
files with the index, sealing the file) is timed apart, since its share depends on how many images there are. The
images are PNG files of smoothed random fields with noise; they have the model's size, so none is resized. Validation
and test images are marked as done beforehand, so that every batch is a full one of training views.

Goal: images/s of the stage / images/s of the bare pass at least 0.95 at batch sizes 1, 32 and 128, with one view and
with four of each image. Where forward pass and decoding share the processor cores, nothing can hide behind the forward
pass: the table gives the ratio that is left if both are simply added, from decoding and views timed alone on all cores.
On a GPU the cores are free for them.

Mixed precision: the largest and the mean absolute error of the logits against float32, in how many images the largest
class changes, and the ratio of the times. The logits are those of a random layer of ten classes. MobileNetV2
below it has ImageNet's weights if Keras finds them (KERAS_HOME), else random ones.

Takes four minutes with ResNet50V2 at 224x224 on two cores; `--quick`, a CNN at 64x64, half a minute.
"""

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any, get_args

from benchmarks.paired import interleaved, ratios, spread
from benchmarks.process import quiet
from benchmarks.record import Record, arguments
from pipeline.cli.tensorflow_start import start_tensorflow

STARTED = time.perf_counter()
start_tensorflow()

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from benchmarks.made_data import index_of, write_images  # noqa: E402
from pipeline.images.decoding import DecodedImages  # noqa: E402
from pipeline.images.index import Index, refuse_changed  # noqa: E402
from pipeline.images.views import Augmentation, Views  # noqa: E402
from pipeline.inference.forward import Forward  # noqa: E402
from pipeline.models import keras_files  # noqa: E402
from pipeline.models.descriptions import Application, Cnn, MobileNetV2, Model  # noqa: E402
from pipeline.models.ensembles import Teacher, load_teacher  # noqa: E402
from pipeline.runtime.errors import MissingError  # noqa: E402
from pipeline.soft_labels import logit_storage  # noqa: E402
from pipeline.soft_labels.reading import MixedPrecision, Provenance  # noqa: E402
from pipeline.teacher_pass.labelling import TeacherPass, rows_of_index  # noqa: E402
from pipeline.teacher_pass.precision import lower  # noqa: E402
from pipeline.teacher_pass.unfinished_logits import UnfinishedLogits  # noqa: E402

AUGMENTATION = Augmentation(horizontal_flip=True, rotation=0.2)
"""That of presets/mhist.yaml."""

CLASSES = 2
VIEWS_EACH = (1, 4)
CLASSES_OF_PRECISION = 10


@dataclass(frozen=True)
class Size:
    """One size of the benchmark.

    Attributes:
        model: the teacher.
        views: how many views are computed in a round, for each batch size.
        rounds: counted ones.
        lowered: models whose logits are compared in mixed precision, by name.
        images: how many for that.
    """

    model: Model
    views: dict[int, int]
    rounds: int
    lowered: dict[str, Model]
    images: int

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Of the model."""
        return self.model.input_shape


COMMON = {"weights": None, "pooling": "avg", "batch_normalization": False, "dropout": 0.2}
RESNET = Application(**COMMON, architecture="resnet50v2", input_shape=(224, 224, 3))
MOBILENET = MobileNetV2(**COMMON, input_shape=(224, 224, 3), alpha=1.0)
CNN = Cnn(**COMMON, input_shape=(64, 64, 3), filters=[64, 128, 256], downsampling="max_pooling")
LOWERED = {"MobileNetV2": replace(MOBILENET, weights="imagenet"), "ResNet50V2": RESNET}
FULL = Size(RESNET, {1: 96, 32: 256, 128: 256}, 3, LOWERED, images=16)
QUICK = Size(CNN, {1: 256, 32: 512, 128: 768}, 3, {"CNN": CNN}, images=32)


def make_data(count: int, size: tuple[int, int, int]) -> Index:
    """An index of new images in the current folder: `count` to train on, four for validation, one for the test."""
    return index_of(write_images(Path("raw"), count + 5, size), CLASSES, validation=4)


class Stage:
    """The teacher's pass over some of the images, which can be run several times.

    Args:
        data: the index.
        teacher: the only member of what `load_teacher` returns.
        forward: its forward pass.
        count: training views.
        views_each: V.
        runs: how often it will be run.
        opened: closes the files.
    """

    def __init__(
        self,
        data: Index,
        teacher: Teacher,
        forward: Forward,
        *,
        count: int,
        views_each: int,
        runs: int,
        opened: contextlib.ExitStack,
    ) -> None:
        chosen = Index([*data.split("train")[: count // views_each], *data.split("val"), *data.split("test")])
        views = Views(views_each, 1, AUGMENTATION if views_each > 1 else Augmentation())
        provenance = provenance_of(chosen, teacher, forward.batch_size, views)
        folders = [Path(f"work/{forward.batch_size}_{views_each}_{run}") for run in range(runs)]
        self._files = []
        for folder in folders:
            folder.mkdir(parents=True)
            file = opened.enter_context(UnfinishedLogits(folder, provenance, rows_of_index(chosen)))
            for split_name in ("val", "test"):
                rows = np.arange(file.missing(split_name).shape[1])
                logits = np.tile(np.array([[-1.0, 2.0]], np.float32), (len(rows), 1))
                file.put(split_name, np.zeros_like(rows), rows, file.encode(logits))
            self._files.append(file)
        self._pass = TeacherPass(chosen, teacher, forward.batch_size, self._files[0], views)
        self._pass.forward = forward

    def run(self) -> None:
        """Fills one more file."""
        self._pass.unfinished = self._files.pop()
        with quiet():
            self._pass.run(None)
        if self._pass.unfinished.missing("train").any():
            raise AssertionError("views are missing")


def provenance_of(data: Index, teacher: Teacher, batch_size: int, views: Views) -> Provenance:
    """As `precompute.run` writes it."""
    return Provenance(
        class_names=tuple(data.class_names),
        teacher=teacher.name,
        teacher_sha256=teacher.sha256,
        dataset=data.fingerprint(),
        preprocessing={"input_shape": list(teacher.model.input_shape[1:])},
        batch_size=batch_size,
        views=views.as_json(),
        storage=logit_storage.Dense("float32").as_json(),
    )


def bare_pass(teacher: Teacher, batch_size: int, count: int) -> Callable[[], list[Any]]:
    """The forward pass alone, over `count` float32 images in batches that lie in memory."""
    shape = (batch_size, *teacher.model.input_shape[1:])
    forward = tf.function(lambda pixels: teacher.model(pixels, training=False), input_signature=[tf.TensorSpec(shape)])
    random = np.random.default_rng(1)
    batches = [tf.constant(random.uniform(0, 255, shape), tf.float32) for _ in range(min(4, count // batch_size))]
    forward(batches[0])
    return lambda: [forward(pixels).numpy() for pixels in islice(cycle(batches), count // batch_size)]


def preparing_pass(data: Index, forward: Forward, count: int, views_each: int) -> float:
    """Seconds to read, decode, resize and show `count` views alone, on all cores."""
    images = data.split("train")[: count // views_each]
    views = Views(views_each, 1, AUGMENTATION if views_each > 1 else Augmentation())
    draws = [views.sample([image.id for image in images], view) for view in range(views_each)]
    affines, colors = (np.stack(transforms) for transforms in zip(*draws, strict=True))
    rows, numbers = np.nonzero(np.ones((len(images), views_each)))
    pixels = DecodedImages([image.path for image in images], forward.input_shape, keep=False)
    alone = NoModel(forward)
    start = time.perf_counter()
    for _ in alone.of_views(pixels, numbers, rows, affines, colors, views.augmentation):
        pass
    return time.perf_counter() - start


class NoModel(Forward):
    """Takes the batches and says nothing of them."""

    def __init__(self, like: Forward) -> None:
        self.batch_size, self.input_shape = like.batch_size, like.input_shape

    def __call__(self, batches: Any) -> Iterator[Any]:
        """One number for each image."""
        for pixels in batches:
            yield np.zeros((len(pixels), 1), np.float32)


def measure_passes(size: Size, data: Index, teacher: Teacher, record: Record) -> None:
    """The stage against the bare pass."""
    rows, measured = [], []
    with contextlib.ExitStack() as opened:
        for batch_size, count in size.views.items():
            forward = Forward(teacher.model, batch_size)
            list(forward([tf.zeros((batch_size, *size.input_shape))]))
            bare = bare_pass(teacher, batch_size, count)
            options = {"count": count, "runs": size.rounds, "opened": opened}
            variants = {"bare": bare}
            variants |= {
                f"V = {each}": Stage(data, teacher, forward, views_each=each, **options).run for each in VIEWS_EACH
            }
            seconds = interleaved(variants, size.rounds, warm_up=0)
            for each in VIEWS_EACH:
                preparing = min(preparing_pass(data, forward, count, each) for _ in range(2))
                share = preparing / float(np.median(seconds["bare"]))
                found = ratios(seconds["bare"], seconds[f"V = {each}"])
                measured.append({"batch": batch_size, "V": each, "seconds": seconds, "preparing": preparing})
                rows.append(
                    [
                        str(batch_size),
                        str(each),
                        str(count),
                        spread([count / value for value in seconds["bare"]]),
                        spread([count / value for value in seconds[f"V = {each}"]]),
                        spread(found),
                        f"{count / preparing:,.0f}",
                        f"{1 / (1 + share):.3f}",
                    ]
                )
    record.keep(passes=measured)
    header = ["batch", "V", "views", "bare/s", "stage/s", "stage / bare", "decoding alone/s", "if added"]
    record.table("Views a second; goal: stage / bare at least 0.95", header, rows)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that it takes, and what it returns."""
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


def measure_fixed_costs(size: Size, data: Index, starting: float, record: Record) -> Teacher:
    """What the stage does once; returns the teacher."""
    path = Path("teacher.keras")
    keras_files.save(size.model.build(classes=CLASSES, seed=1), path)
    loading, (_, (teacher,), _) = timed(lambda: load_teacher(path, data.class_names))
    comparing, _ = timed(lambda: refuse_changed(data.images))
    forward = Forward(teacher.model, 1)
    tracing, _ = timed(lambda: list(forward([tf.zeros((1, *size.input_shape))])))
    in_bytes = sum(Path(image.path).stat().st_size for image in data.images)
    rows = [
        ["starting Python, TensorFlow and Keras", f"{starting:.2f} s"],
        ["loading the model", f"{loading:.2f} s"],
        ["tracing its forward pass", f"{tracing:.2f} s"],
        [
            f"comparing {len(data.images)} image files with the index (SHA-256)",
            f"{1e3 * comparing / len(data.images):.2f} ms an image, {in_bytes / comparing / 1e6:,.0f} MB/s",
        ],
    ]
    record.table("Once a run, not in the table of passes", ["what", "time"], rows)
    return teacher


def measure_precisions(size: Size, data: Index, record: Record) -> None:
    """Errors of the logits, and times, of mixed precision against float32, on full batches of the images."""
    rows, measured = [], {}
    for name, model in size.lowered.items():
        images = DecodedImages(
            [image.path for image in data.split("train")[: size.images]], model.input_shape, keep=True
        )
        pixels = [next(iter(images.batches(size.images)))]
        in_full, weights = with_weights(model)
        full = Forward(in_full, size.images)
        said = np.concatenate(list(full(pixels)))
        for precision in get_args(MixedPrecision):
            lowered, _ = with_weights(model)
            lower(lowered, precision)
            forward = Forward(lowered, size.images)
            errors = np.abs(np.concatenate(list(forward(pixels))) - said)
            changed = (np.concatenate(list(forward(pixels))).argmax(1) != said.argmax(1)).sum()
            works = {"float32": partial(run_through, full, pixels), precision: partial(run_through, forward, pixels)}
            seconds = interleaved(works, size.rounds)
            found = ratios(seconds[precision], seconds["float32"])
            largest, mean = float(errors.max()), float(errors.mean())
            measured[f"{name}, {precision}"] = {"largest": largest, "mean": mean, "times": found}
            rows.append(
                [
                    f"{name} ({weights})",
                    precision,
                    f"{said.std():.3g}",
                    f"{largest:.2g}",
                    f"{mean:.2g}",
                    f"{changed} of {len(said)}",
                    spread(found),
                ]
            )
    record.keep(precision=measured)
    header = ["model", "precision", "std of logits", "largest error", "mean", "other largest class", "time / float32"]
    record.table("Logits in mixed precision against float32", header, rows)


def run_through(forward: Forward, batches: Any) -> list[Any]:
    """The logits of all batches."""
    return list(forward(batches))


def with_weights(model: Model) -> tuple[Any, str]:
    """The model, and whose weights it has: random ones if those it asks for are not at hand."""
    try:
        return model.build(classes=CLASSES_OF_PRECISION, seed=1), model.weights or "random"
    except MissingError:
        return replace(model, weights=None).build(classes=CLASSES_OF_PRECISION, seed=1), "random"


def main() -> None:
    """Measures and writes the record."""
    given = arguments(__doc__)
    size = QUICK if given.quick else FULL
    record = Record("precompute", given)
    given_output, starting = Path.cwd(), time.perf_counter() - STARTED
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            data = make_data(max(size.views.values()), size.input_shape)
            teacher = measure_fixed_costs(size, data, starting, record)
            measure_passes(size, data, teacher, record)
            measure_precisions(size, data, record)
        finally:
            os.chdir(given_output)
    record.write()


if __name__ == "__main__":
    main()
