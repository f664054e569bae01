"""A whole epoch of a student's training from image files: decode, show a view, join with the labels, train.

    python -m benchmarks.student_epoch [--quick] [--images FOLDER]

Every variant runs `fit` on `training_batches`, as the stages do, several steps in one call of TensorFlow where they are
short, and all take turns in one process. "plain" is the baseline's training with the student's views; "untouched" is
the same without views. Images are made (PNG files of smooth colors with a little noise), or taken from your own folder.
They are kept in memory, decoded in every epoch (`images.cache: none`, and data sets that do not fit into memory), or
read from a file of pixels (`images.cache: disk`) that the system still has in its memory. The student's backbone is
frozen: the faster a step, the more its input matters.

The last tables time the input alone: the batches of a training, and the parts that make them.

One call of `fit` runs one epoch of system 1's pair, and ten of the default pair, whose epochs are short.

Goal: ours / plain at most 1.03. Four minutes; --quick 40 seconds.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, product
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.made_data import index_of, write_images, write_soft_targets
from benchmarks.paired import interleaved, interval_of_median, ratios, spread
from benchmarks.record import Record, arguments
from benchmarks.variants import DISTILLER, OURS, PLAIN, TEMPERATURE, Pair, plain
from pipeline.distillation.targets import HardAndSoftLabels
from pipeline.images.augmentation import Augmentation
from pipeline.images.decoded_files import pixels_on_disk
from pipeline.images.decoded_images import DecodedImages
from pipeline.images.rendering import render_pictures
from pipeline.images.transforms import Pictures
from pipeline.soft_labels.reading import open_soft_targets
from pipeline.training.input_pipeline import Examples, HardLabels, Supervision, steps_of_a_pass, training_batches
from pipeline.training.steps_in_one_call import StepsInOneCall

UNTOUCHED = "untouched"
MEMORY, FILES, DISK = "from memory", "from files", "from disk"
SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png"}

Epoch = Callable[[], object]


@dataclass(frozen=True)
class Data:
    """One data set in every form that a variant needs.

    Attributes:
        images: the pixels, by the place from which they are read.
        supervision: the views and targets, by variant.
    """

    images: Mapping[str, DecodedImages]
    supervision: Mapping[str, Supervision]

    def examples(self, place: str, variant: str) -> Examples:
        """The training data of a variant."""
        return Examples([], self.images[place], self.supervision[variant])


@contextmanager
def data_of(pair: Pair, images: Path | None, number: int) -> Iterator[Data]:
    """Makes a data set of `number` training images in a temporary folder, from the files of `images` if it is given."""
    with tempfile.TemporaryDirectory() as name:
        folder, shape = Path(name), pair.described_student.input_shape
        needed = number + 2  # one validation and one test image
        if images is None:
            files = write_images(folder / "images", needed, shape)
        else:
            files = sorted(path for path in images.iterdir() if path.suffix.lower() in SUFFIXES)[:needed]
        if len(files) < needed:
            raise SystemExit(f"{images} has {len(files)} images, and {needed} are needed.")
        data = index_of(files, pair.classes)
        views, to_train = pair.views, data.split("train")
        ids, one_hot = [image.id for image in to_train], data.one_hot(to_train)
        with open_soft_targets(write_soft_targets(folder, data, views, TEMPERATURE)) as file:
            varied = HardLabels(ids, one_hot, views.augmentation, views.seed, views.count)
            paths = [image.path for image in to_train]
            yield Data(
                {
                    MEMORY: DecodedImages(paths, shape, keep=True),
                    FILES: DecodedImages(paths, shape, keep=False),
                    DISK: DecodedImages(
                        paths, shape, keep=False, on_disk=pixels_on_disk(to_train, shape, folder / "pixels")
                    ),
                },
                {
                    UNTOUCHED: HardLabels(ids, one_hot, Augmentation(), 0, 1),
                    PLAIN: varied,
                    OURS: HardAndSoftLabels(file, "train", to_train, one_hot),
                    DISTILLER: varied,
                },
            )


def epochs_of(model: Any, examples: Examples, batch_size: int, epochs: int = 1) -> Epoch:
    """One call of `fit`: the next epochs of a training, each a pass over the images."""
    steps, passes = steps_of_a_pass(examples, batch_size), count(0, epochs)
    model.train_function = StepsInOneCall(model, model.train_step, steps)

    def run() -> None:
        first = next(passes)
        batches = training_batches(examples, batch_size, 1, range(first * steps, (first + epochs) * steps))
        model.fit(batches, epochs=epochs, steps_per_epoch=1, shuffle=False, verbose=0)

    return run


def batches_of(examples: Examples, batch_size: int) -> Epoch:
    """As `epochs_of`, without a model."""
    steps, passes = steps_of_a_pass(examples, batch_size), count()

    def run() -> None:
        number = next(passes)
        for _ in training_batches(examples, batch_size, 1, range(number * steps, (number + 1) * steps)):
            pass

    return run


def parts_of(data: Data, batch_size: int) -> dict[str, Epoch]:
    """The parts that make the batches of one pass, each alone, one batch after another."""
    total = len(data.images[MEMORY])
    rows = [np.arange(start, min(start + batch_size, total)) for start in range(0, total, batch_size)]
    varied, passes = data.supervision[PLAIN], count()
    augmentation = varied.augmentation
    arrays = [Pictures.of(varied.transforms(0), of_batch).arrays(augmentation) for of_batch in rows]
    pixels = [data.images[MEMORY].rows(of_batch) for of_batch in rows]
    decoded = tf.function(data.images[FILES].rows)
    rendered = tf.function(lambda images, partner, *of_batch: render_pictures(images, partner, augmentation, *of_batch))

    def take(supervision: Supervision) -> None:
        view = supervision.view(next(passes))
        for of_batch in rows:
            Pictures.of(supervision.transforms(view), of_batch).arrays(augmentation)
            supervision.targets(view, of_batch)

    def render_all() -> None:
        for images, of_batch in zip(pixels, arrays, strict=True):
            rendered(images, *of_batch)

    return {
        "decode": lambda: [decoded(tf.constant(of_batch)) for of_batch in rows],
        "render": render_all,
        "draw views, one-hot labels (plain)": lambda: take(varied),
        "read views, join labels (ours)": lambda: take(data.supervision[OURS]),
    }


def measure_epochs(pair: Pair, data: Data, rounds: int, epochs: int, online: bool) -> dict[str, list[float]]:
    """Seconds of an epoch of every variant.

    Args:
        pair: the models.
        data: the data set.
        rounds: counted rounds.
        epochs: of one call of `fit`.
        online: whether Keras' Distiller is one of the variants.

    Returns:
        Seconds of one epoch in each round, by variant and place.
    """
    phase, batch_size = pair.recipe.phases[0], pair.recipe.batch_size
    chosen = [(MEMORY, UNTOUCHED), (MEMORY, PLAIN), (MEMORY, OURS), (FILES, PLAIN), (FILES, OURS), (DISK, OURS)]
    if online:
        chosen.append((MEMORY, DISTILLER))
    models = {UNTOUCHED: plain(pair.student(phase), phase)}
    models |= {name: pair.variant(name, phase) for name in dict.fromkeys(name for _, name in chosen[1:])}
    variants = {
        f"{variant}, {place}": epochs_of(models[variant], data.examples(place, variant), batch_size, epochs)
        for place, variant in chosen
    }
    return {name: [each / epochs for each in taken] for name, taken in interleaved(variants, rounds).items()}


def report(record: Record, title: str, pair: Pair, data: Data, *, rounds: int, epochs: int, online: bool) -> None:
    """Measures one pair as `measure_epochs` does, and adds its tables."""
    number = len(data.images[MEMORY])
    seconds, rows = measure_epochs(pair, data, rounds, epochs, online), []
    for name, taken in seconds.items():
        speed = spread([number / value for value in taken])
        compared = ["", ""]
        if not name.endswith(DISK):
            of_plain = ratios(taken, seconds[f"{PLAIN}, {FILES if name.endswith(FILES) else MEMORY}"])
            compared = [spread(of_plain, 4), interval_of_median(of_plain)]
        rows.append([name, spread(taken), speed, *compared])
    header = ["variant", "s an epoch", "images/s", "of plain there", "its median, 95 %"]
    record.table(f"{title}: an epoch of {number} images", header, rows)
    rows = [
        [f"{name}, {place}", spread(ratios(seconds[f"{name}, {place}"], seconds[f"{name}, {MEMORY}"]))]
        for name, place in ((PLAIN, FILES), (OURS, FILES), (OURS, DISK))
    ]
    record.table(f"{title}: what pixels that are not in memory cost", ["variant", "of the same from memory"], rows)
    alone = measure_input(pair, data, rounds)
    rows = [
        [name, spread([number / value for value in taken]), spread([1000 * value / number for value in taken])]
        for name, taken in alone.items()
    ]
    record.table(f"{title}: input alone", ["what", "images/s", "ms an image"], rows)
    record.keep(**{title: {"epochs": seconds, "input": alone}})


def measure_input(pair: Pair, data: Data, rounds: int) -> dict[str, list[float]]:
    """Seconds for the batches of one pass without a model, and for the parts that make them."""
    batch_size = pair.recipe.batch_size
    variants = {
        f"batches, {variant}, {place}": batches_of(data.examples(place, variant), batch_size)
        for place, variant in [*product((MEMORY, FILES), (UNTOUCHED, PLAIN, OURS)), (DISK, UNTOUCHED), (DISK, OURS)]
    }
    return interleaved(variants | parts_of(data, batch_size), rounds)


def main() -> None:
    """Measures both pairs."""
    images = ("--images", {"type": Path, "metavar": "FOLDER", "help": "Image files.  [default: made ones]"})
    options = arguments(__doc__, images)
    tf.config.experimental.enable_op_determinism()  # as the stages do
    record, quick = Record("student_epoch", options), options.quick
    pair = Pair("presets/mhist.yaml", classes=2)
    with data_of(pair, options.images, 64 if quick else 192) as data:
        title, rounds = "ResNet50V2 -> MobileNetV2, frozen", 2 if quick else 6
        report(record, title, pair, data, rounds=rounds, epochs=1, online=not quick)
    pair = Pair("params.yaml", classes=10)
    with data_of(pair, None, 640 if quick else 1280) as data:
        rounds, epochs = (4, 1) if quick else (10, 10)
        report(record, "CNN -> small CNN", pair, data, rounds=rounds, epochs=epochs, online=True)
    record.write()


if __name__ == "__main__":
    main()
