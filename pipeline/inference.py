"""The forward pass of a trained model over many images."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from pipeline.images import Images
from pipeline.progress import Progress


def logits_in_blocks(
    model: Any, images: Images, batch_size: int, progress: Progress
) -> Iterator[npt.NDArray[np.float32]]:
    """The model's outputs for the untouched images, in order, in blocks (B, C) of one batch each."""
    signature = tf.TensorSpec((None, *images.input_shape), tf.float32)
    forward = tf.function(lambda pixels: model(pixels, training=False), input_signature=[signature])
    for pixels in images.batches(batch_size):
        logits = forward(pixels).numpy()
        progress.advance(len(logits))
        yield logits


def all_logits(model: Any, images: Images, batch_size: int, title: str) -> npt.NDArray[np.float32]:
    """The model's outputs for the untouched images: (N, C) float32."""
    with Progress(title, len(images), "images") as progress:
        return np.concatenate(list(logits_in_blocks(model, images, batch_size, progress)))
