"""How near the teacher's pass comes to its bare forward pass, and what a reduced precision of it costs in accuracy.

    python -m benchmarks.precompute [--quick] [--views N]

`stage` is `TeacherPass.run` over image files: reading, decoding, rendering the views, the forward pass, the checks, and
writing to the disk. `bare` is the same compiled forward pass over as many float32 tensors that lie in memory. Both run
in turns in one process. What the stage does once (starting Python, loading and tracing the model, comparing the image
files with the index) is timed apart, since its share depends on how many images there are. The images are PNG files of
smoothed random fields with noise; they have the model's size, so none is resized. Validation and test images are marked
as done beforehand, so every batch is a full one of training views.

Goal: images/s of the stage / images/s of the bare pass at least 0.95 at batch sizes 1, 32 and 128, with one view and
with four of each image. If forward pass and decoding share the processor cores, decoding cannot hide behind the forward
pass. For that case the table also gives the ratio that would be left if the times of both were simply added; decoding
and views are timed alone on all cores. On a GPU the cores are free for them, and a round of 256 views is over at once:

    CUDA_VISIBLE_DEVICES=0 python -m benchmarks.precompute --views 8192

There, stage / bare at batch 128 is the share of the bare forward pass that the stage reaches. With several GPUs visible
the stage uses all of them, and the bare pass the first one: the ratio should be near their number.

Takes four minutes with ResNet50V2 at 224x224 on two cores; `--quick`, a CNN at 64x64, half a minute.
"""

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from benchmarks.paired import interleaved, ratios, seconds_of, spread
from benchmarks.process import quiet
from benchmarks.record import Record, arguments
from pipeline.cli.tensorflow_start import start_tensorflow

STARTED = time.perf_counter()
start_tensorflow()

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from benchmarks.made_data import index_of, provenance_of, write_images  # noqa: E402
from benchmarks.mixed_precision import measure_precisions  # noqa: E402
from pipeline.images.augmentation import Augmentation  # noqa: E402
from pipeline.images.decoded_images import DecodedImages  # noqa: E402
from pipeline.images.index import Index, refuse_changed  # noqa: E402
from pipeline.images.resize import DEFAULT_RESIZE  # noqa: E402
from pipeline.images.transforms import Transforms  # noqa: E402
from pipeline.images.views import Views  # noqa: E402
from pipeline.inference.forward import Forward, Ints  # noqa: E402
from pipeline.models import keras_files  # noqa: E402
from pipeline.models.descriptions import Application, Cnn, Model  # noqa: E402
from pipeline.models.ensembles import Teacher, load_teacher  # noqa: E402
from pipeline.runtime.devices import device_names  # noqa: E402
from pipeline.soft_labels.writing import rows_of_index  # noqa: E402
from pipeline.teacher_pass.labellers import Labellers, ModelLabeller  # noqa: E402
from pipeline.teacher_pass.labelling import TeacherPass  # noqa: E402
from pipeline.teacher_pass.unfinished_logits import UnfinishedLogits  # noqa: E402

CLASSES = 2
VIEWS = {1: Views(1, 1, Augmentation()), 4: Views(4, 1, Augmentation(horizontal_flip=True, rotation=0.2))}
"""By their number; the augmentation is that of presets/mhist.yaml."""


@dataclass(frozen=True)
class Size:
    """One size of the benchmark.

    Attributes:
        model: the teacher.
        views: how many views are computed in a round, for each batch size.
        rounds: counted rounds.
        lowered: models whose logits are compared in mixed precision, by name.
        images: how many images they are compared on.
    """

    model: Model
    views: dict[int, int]
    rounds: int
    lowered: dict[str, Model]
    images: int


RESNET = Application(
    architecture="resnet50v2",
    input_shape=(224, 224, 3),
    weights=None,
    pooling="avg",
    batch_normalization=False,
    dropout=0.2,
)
MOBILENET = Application(
    architecture="mobilenetv2",
    input_shape=(224, 224, 3),
    weights="imagenet",
    pooling="avg",
    batch_normalization=False,
    dropout=0.2,
    alpha=1.0,
)
CNN = Cnn(
    input_shape=(64, 64, 3),
    weights=None,
    filters=[64, 128, 256],
    downsampling="max_pooling",
    pooling="avg",
    batch_normalization=False,
    dropout=0.2,
)
FULL = Size(RESNET, {1: 96, 32: 256, 128: 256}, 3, {"MobileNetV2": MOBILENET, "ResNet50V2": RESNET}, images=16)
QUICK = Size(CNN, {1: 256, 32: 512, 128: 768}, 3, {"CNN": CNN}, images=32)


def stage_pass(
    data: Index, teacher: Teacher, forward: Forward, views: Views, count: int, runs: int, opened: contextlib.ExitStack
) -> Callable[[], None]:
    """The teacher's pass over some of the images, which can be called several times.

    Args:
        data: the index.
        teacher: the teacher.
        forward: its forward pass.
        views: of each training image.
        count: how many training views are computed.
        runs: how often the pass will be called; each call fills a file of its own.
        opened: closes the files.
    """
    chosen = Index([*data.split("train")[: count // views.count], *data.split("val"), *data.split("test")])
    provenance = replace(
        provenance_of(chosen, views),
        teacher=teacher.name,
        teacher_sha256=teacher.sha256,
        preprocessing={"input_shape": list(forward.input_shape)},
        batch_size=forward.batch_size,
    )
    files = []
    for run in range(runs):
        folder = Path(f"work/{forward.batch_size}_{views.count}_{run}")
        folder.mkdir(parents=True)
        file = opened.enter_context(UnfinishedLogits(folder, provenance, rows_of_index(chosen)))
        for split in ("val", "test"):
            rows = np.arange(file.missing(split).shape[1])
            logits = np.tile(np.array([[-1.0, 2.0]], np.float32), (len(rows), 1))
            file.put(split, np.zeros_like(rows), rows, file.encode(logits))
        files.append(file)
    # Traced before, as that of the bare pass is.
    labellers = Labellers(ModelLabeller(forward, chosen, DEFAULT_RESIZE), None)
    teacher_pass = TeacherPass(chosen, teacher, labellers, forward.batch_size, files[0], views)

    def run_once() -> None:
        teacher_pass.unfinished = files.pop()
        with quiet():
            teacher_pass.run(None)
        if teacher_pass.unfinished.missing("train").any():
            raise AssertionError("views are missing")

    return run_once


def bare_pass(teacher: Teacher, batch_size: int, count: int) -> Callable[[], list[Any]]:
    """The forward pass alone, over `count` float32 images in batches that lie in memory."""
    shape = (batch_size, *teacher.model.input_shape[1:])
    forward = tf.function(lambda pixels: teacher.model(pixels, training=False), input_signature=[tf.TensorSpec(shape)])
    random = np.random.default_rng(1)
    batches = [tf.constant(random.uniform(0, 255, shape), tf.float32) for _ in range(min(4, count // batch_size))]
    forward(batches[0])
    return lambda: [forward(pixels).numpy() for pixels in islice(cycle(batches), count // batch_size)]


class NoModel(Forward):
    """Takes the batches and computes nothing."""

    def __init__(self, like: Forward) -> None:
        self.batch_size, self.input_shape = like.batch_size, like.input_shape

    @property
    def places(self) -> Ints:
        """All places of a batch: there is no model that could round differently in some."""
        return np.arange(self.batch_size)

    def __call__(self, batches: Any) -> Iterator[Any]:
        """One number for each image."""
        for pixels in batches:
            yield np.zeros((len(pixels), 1), np.float32)


def preparing_pass(data: Index, forward: Forward, views: Views, count: int) -> Callable[[], list[Any]]:
    """Reads, decodes and renders `count` views alone, on all cores."""
    images = data.split("train")[: count // views.count]
    ids = [image.id for image in images]
    transforms = Transforms.joined([views.sample(ids, view)[None] for view in range(views.count)])
    rows, numbers = np.nonzero(np.ones((len(images), views.count)))
    pixels = DecodedImages([image.path for image in images], forward.input_shape, keep=False)
    alone = NoModel(forward)
    return lambda: list(alone.of_views(pixels, numbers, rows, transforms, views.augmentation))


def measure_passes(size: Size, data: Index, teacher: Teacher, record: Record) -> None:
    """The stage against the bare pass."""
    rows, measured = [], []
    with contextlib.ExitStack() as opened:
        for batch_size, count in size.views.items():
            forward = Forward(teacher.model, batch_size)
            list(forward([tf.zeros((batch_size, *size.model.input_shape))]))
            passes: dict[str, Callable[[], object]] = {"bare": bare_pass(teacher, batch_size, count)}
            for number, views in VIEWS.items():
                passes[f"V = {number}"] = stage_pass(data, teacher, forward, views, count, size.rounds, opened)
            seconds = interleaved(passes, size.rounds, warm_up=0)
            bare = [count / value for value in seconds["bare"]]
            for number, views in VIEWS.items():
                of_stage = seconds[f"V = {number}"]
                preparing = min(seconds_of(preparing_pass(data, forward, views, count)) for _ in range(2))
                share = preparing / float(np.median(seconds["bare"]))
                measured.append({"batch": batch_size, "V": number, "seconds": seconds, "preparing": preparing})
                speeds = [spread(bare), spread([count / value for value in of_stage])]
                ratio = spread(ratios(seconds["bare"], of_stage))
                alone, added = f"{count / preparing:,.0f}", f"{1 / (1 + share):.3f}"
                rows.append([str(batch_size), str(number), str(count), *speeds, ratio, alone, added])
    record.keep(passes=measured)
    header = ["batch", "V", "views", "bare/s", "stage/s", "stage / bare", "decoding alone/s", "if added"]
    record.table("Views a second; goal: stage / bare at least 0.95", header, rows)


def measure_fixed_costs(size: Size, data: Index, starting: float, record: Record) -> Teacher:
    """What the stage does once; returns the teacher."""
    path = Path("teacher.keras")
    keras_files.save(size.model.build(classes=CLASSES, seed=1), path)
    start = time.perf_counter()
    _, (teacher,), _ = load_teacher(path, data.class_names)
    loading = time.perf_counter() - start
    comparing = seconds_of(lambda: refuse_changed(data.images))
    forward = Forward(teacher.model, 1)
    tracing = seconds_of(lambda: list(forward([tf.zeros((1, *size.model.input_shape))])))
    in_bytes = sum(Path(image.path).stat().st_size for image in data.images)
    speed = f"{1e3 * comparing / len(data.images):.2f} ms an image, {in_bytes / comparing / 1e6:,.0f} MB/s"
    rows = [
        ["starting Python, TensorFlow and Keras", f"{starting:.2f} s"],
        ["loading the model", f"{loading:.2f} s"],
        ["tracing its forward pass", f"{tracing:.2f} s"],
        [f"comparing {len(data.images)} image files with the index (SHA-256)", speed],
    ]
    record.table("Once a run, not in the table of passes", ["what", "time"], rows)
    return teacher


def main() -> None:
    """Measures and writes the record."""
    options = arguments(
        __doc__, ("--views", {"type": int, "metavar": "N", "help": "Views in a round at batch sizes above 1."})
    )
    size = QUICK if options.quick else FULL
    if options.views is not None:
        count = -(-options.views // max(size.views)) * max(size.views)  # whole batches
        size = replace(size, views={batch: count if batch > 1 else views for batch, views in size.views.items()})
    record, starting = Record("precompute", options), time.perf_counter() - STARTED
    record.keep(devices=device_names())
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        images = write_images(Path("raw"), max(size.views.values()) + 5, size.model.input_shape)
        data = index_of(images, CLASSES, validation=4)
        teacher = measure_fixed_costs(size, data, starting, record)
        measure_passes(size, data, teacher, record)
        measure_precisions(size.lowered, data, size.images, size.rounds, record)
    record.write()


if __name__ == "__main__":
    main()
