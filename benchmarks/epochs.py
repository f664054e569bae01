"""Epochs of a student's training on made data, and the parts that make its batches, each as a function to be timed."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.made_data import index_of, write_images, write_soft_targets
from benchmarks.variants import DISTILLER, OURS, PLAIN, TEMPERATURE, Pair
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
        content: id and SHA-256 of each image file.
    """

    images: Mapping[str, DecodedImages]
    supervision: Mapping[str, Supervision]
    content: Sequence[tuple[str, str]]

    def examples(self, place: str, variant: str) -> Examples:
        """The training data of a variant."""
        return Examples(self.content, self.images[place], self.supervision[variant])


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
                [(image.id, image.sha256) for image in to_train],
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
