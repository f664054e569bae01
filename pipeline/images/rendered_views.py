"""Views of many images, rendered in portions: each image is decoded once for all its views, or few times."""

from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from pipeline.images.augmentation import Augmentation
from pipeline.images.decoded_images import DecodedImages
from pipeline.images.rendering import render_pictures, signature
from pipeline.images.tf_data import mapped, planned
from pipeline.images.transforms import Pictures, Transforms

Ints = npt.NDArray[np.intp]

PORTION_VIEWS = 16
"""About this many views are rendered in one step: enough to outweigh the cost of a step, and few enough for memory."""


def rendered_views(
    images: DecodedImages, views: Ints, rows: Ints, transforms: Transforms, augmentation: Augmentation
) -> Any:
    """A `tf.data.Dataset` of R > 0 views, some at a time: (portion, height, width, channels) float32, 0 to 255.

    Args:
        images: N images.
        views: (R,) numbers of the views.
        rows: (R,) row numbers of their images, ascending.
        transforms: (V, N, ...).
        augmentation: as in `render_pictures`.
    """
    cuts = [*_portions(rows), len(rows)]

    def plan(portion: int) -> tuple[Any, ...]:
        part = slice(cuts[portion], cuts[portion + 1])
        pictures = Pictures.of(transforms, rows[part], views[part])
        image_rows, image_of_picture = np.unique(pictures.rows, return_inverse=True)
        return image_rows, image_of_picture, *pictures.arrays(augmentation)

    def render_portion(image_rows: Any, image_of_picture: Any, partner: Any, *arrays: Any) -> Any:
        pixels = tf.gather(images.rows(image_rows), image_of_picture)
        return render_pictures(pixels, partner, augmentation, *arrays)

    numbers = tf.TensorSpec((None,), tf.int64)
    portions = planned(range(len(cuts) - 1), plan, (numbers, numbers, *signature(augmentation)))
    return mapped(portions, render_portion)


def _portions(rows: Ints) -> Ints:
    """Where to cut (R,) ascending rows: between two images, or within an image that has very many views."""
    new_image = np.diff(rows, prepend=-1) != 0
    # The position of each row among the rows of its image: 0, 1, 2, ...
    position = np.arange(len(rows)) - np.flatnonzero(new_image)[np.cumsum(new_image) - 1]
    starts = np.flatnonzero(position % PORTION_VIEWS == 0)
    return starts[np.flatnonzero(np.diff(starts // PORTION_VIEWS, prepend=-1))]
