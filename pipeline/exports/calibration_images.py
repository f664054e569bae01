"""The training images on which the ranges of an int8 file are measured."""

import hashlib
from collections.abc import Sequence
from itertools import chain, zip_longest

import numpy as np
import numpy.typing as npt

from pipeline.images.decoded_images import DecodedImages
from pipeline.images.index import Image, Index
from pipeline.images.resize import Resize


def chosen(data: Index, count: int) -> list[Image]:
    """At most `count` training images with a label, as many of each class as possible; the choice depends on ids alone.

    Of each class, those come first whose ids have the smallest SHA-256.
    """
    by_class: dict[str, list[Image]] = {name: [] for name in data.class_names}
    for image in data.labelled("train"):
        by_class[image.class_name].append(image)
    for of_class in by_class.values():
        of_class.sort(key=lambda image: hashlib.sha256(image.id.encode()).digest())
    in_turn = chain.from_iterable(zip_longest(*by_class.values()))
    return [image for image in in_turn if image is not None][:count]


def pixels(images: Sequence[Image], input_shape: Sequence[int], resize: Resize) -> npt.NDArray[np.uint8]:
    """The untouched images as the student sees them: (N, height, width, channels) uint8."""
    decoded = DecodedImages([image.path for image in images], input_shape, resize, keep=False)
    return np.stack([*decoded.decoded().as_numpy_iterator()])
