"""The forward pass of a trained model over many images.

Every batch has the same number of images (the last is filled up), because the rounding of a logit depends
on the shape of the batch. So the logits of an image depend on nothing but the image, the model and the
batch size: not on its neighbours, not on how many there are.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from pipeline.data_flow import ahead, mapped, planned
from pipeline.images import Images
from pipeline.progress import Progress
from pipeline.rendering import render
from pipeline.views import Augmentation, Floats16

Ints = npt.NDArray[np.intp]

PORTION_VIEWS = 16
"""About as many views are rendered in one step: enough to outweigh the step, few enough for the memory."""


class Forward:
    """The forward pass in inference mode, at one batch size.

    Args:
        model: from (B, height, width, channels) pixels, 0 to 255, to (B, C) logits.
        batch_size: B.
    """

    def __init__(self, model: Any, batch_size: int) -> None:
        tf.config.experimental.enable_op_determinism()
        self.batch_size, self.input_shape = batch_size, tuple(model.input_shape[1:])
        signature = tf.TensorSpec((batch_size, *self.input_shape), tf.float32)
        self._forward = tf.function(lambda pixels: model(pixels, training=False), input_signature=[signature])

    def __call__(self, batches: Any) -> Iterator[npt.NDArray[np.float32]]:
        """The logits of each batch of a `tf.data.Dataset` of float32 pixels."""
        for pixels in batches:
            count = len(pixels)
            if count < self.batch_size:
                pixels = tf.repeat(pixels, [*[1] * (count - 1), self.batch_size - count + 1], axis=0)
            yield self._forward(pixels).numpy()[:count].astype(np.float32)

    def of_views(
        self, images: Images, views: Ints, rows: Ints, affines: Floats16, colours: Floats16, augmentation: Augmentation
    ) -> Iterator[npt.NDArray[np.float32]]:
        """The logits of R views, in batches; each image is decoded once for every `PORTION_VIEWS` of its views.

        Args:
            images: N images.
            views: the number of each view (R,).
            rows: the image of each view (R,), ascending.
            affines: (V, N, 6).
            colours: (V, N, 6).
            augmentation: as `render` takes it.
        """
        if not len(rows):
            return
        cuts = [*_portions(rows), len(rows)]

        def plan(portion: int) -> tuple[Any, ...]:
            part = slice(cuts[portion], cuts[portion + 1])
            of_views, of_rows = views[part], rows[part]
            distinct, copies = np.unique(of_rows, return_inverse=True)
            transforms = affines[of_views, of_rows], colours[of_views, of_rows]
            return distinct, copies, *(numbers.astype(np.float32) for numbers in transforms)

        def show(distinct: Any, copies: Any, of_affines: Any, of_colours: Any) -> Any:
            return render(tf.gather(images.rows(distinct), copies), of_affines, of_colours, augmentation)

        numbers, transforms = tf.TensorSpec((None,), tf.int64), tf.TensorSpec((None, 6), tf.float32)
        signature = (numbers, numbers, transforms, transforms)
        portions = planned(range(len(cuts) - 1), plan, signature)
        plain = tf.autograph.experimental.do_not_convert(show)  # to look for loops in it takes a third of a second
        yield from self(ahead(mapped(portions, plain).rebatch(self.batch_size)))


def _portions(rows: Ints) -> Ints:
    """Where to cut (R,) ascending rows: before an image, or within one that has very many views."""
    new_image = np.diff(rows, prepend=-1) != 0
    of_image = np.arange(len(rows)) - np.flatnonzero(new_image)[np.cumsum(new_image) - 1]
    starts = np.flatnonzero(of_image % PORTION_VIEWS == 0)
    return starts[np.flatnonzero(np.diff(starts // PORTION_VIEWS, prepend=-1))]


def all_logits(model: Any, images: Images, batch_size: int, title: str) -> npt.NDArray[np.float32]:
    """The model's outputs for the untouched images: (N, C) float32."""
    blocks = []
    with Progress(title, len(images), "images") as progress:
        for logits in Forward(model, batch_size)(images.batches(batch_size)):
            progress.advance(len(logits))
            blocks.append(logits)
    return np.concatenate(blocks)
