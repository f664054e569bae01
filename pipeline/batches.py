"""Batches of images and targets, in an order and in views that are functions of (seed, epoch)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from pipeline.images import Images
from pipeline.index import Image, refuse_changed
from pipeline.views import Augmentation, apply_affines, draw_affines, philox_words


@dataclass(frozen=True)
class Examples:
    """Images and what is to be learned from them.

    Attributes:
        ids: N image ids.
        content: SHA-256 of each image file.
        images: their N rows of pixels.
        targets: (N, C) one-hot labels, or (N, 2C) one-hot labels beside soft labels; float32.
    """

    ids: Sequence[str]
    content: Sequence[str]
    images: Images
    targets: npt.NDArray[np.float32]

    @classmethod
    def of(cls, images: Sequence[Image], input_shape: Sequence[int], targets: npt.NDArray[np.float32]) -> "Examples":
        """The examples of N rows of the index, at a model's input size.

        Raises:
            PipelineError: image files are missing or changed.
        """
        refuse_changed(images)
        pixels = Images([image.path for image in images], input_shape, keep=True)
        return cls([image.id for image in images], [image.sha256 for image in images], pixels, targets)


def training_batches(examples: Examples, batch_size: int, seed: int, epochs: range, augmentation: Augmentation) -> Any:
    """A `tf.data.Dataset` of (float32 images, targets) for all `epochs`, one after another.

    Each epoch holds every image once, in an order drawn from (seed, epoch), in views drawn from
    (seed, id, epoch). Its last batch may be smaller.
    """
    count = len(examples.ids)
    ids = np.array(examples.ids)

    def plan() -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
        for epoch in epochs:
            order = np.argsort(philox_words(count, "order", seed, epoch), kind="stable")
            for start in range(0, count, batch_size):
                rows = order[start : start + batch_size]
                yield rows, draw_affines(augmentation, seed, ids[rows].tolist(), epoch).astype(np.float32)

    targets = tf.constant(examples.targets)

    def load(rows: Any, affines: Any) -> tuple[Any, Any]:
        pixels = tf.cast(examples.images.rows(rows), tf.float32)
        if not augmentation.is_identity:
            pixels = apply_affines(pixels, affines, augmentation.fill_mode)
            pixels.set_shape((None, *examples.images.input_shape))
        return pixels, tf.gather(targets, rows)

    signature = (tf.TensorSpec((None,), tf.int64), tf.TensorSpec((None, 6), tf.float32))
    batches = tf.data.Dataset.from_generator(plan, output_signature=signature)
    return batches.map(load, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def validation_batches(examples: Examples, batch_size: int) -> Any:
    """A `tf.data.Dataset` of (float32 images, targets), untouched and in order."""
    targets = tf.data.Dataset.from_tensor_slices(examples.targets).batch(batch_size)
    return tf.data.Dataset.zip(examples.images.batches(batch_size), targets)
