"""From an image file to the pixels that a model sees.

Every model sees the same pixels: decoded as Pillow decodes them, resized to the model's input size, and rounded to
uint8. All that decides them is in this module and `image_files`: if their code changes, `decoded_files` decodes again.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from pipeline.images.headers import JPEG, PNG
from pipeline.images.image_files import LUMA_THOUSANDTHS, read_pixels
from pipeline.images.resize import DEFAULT_RESIZE, Resize

COMPONENTS = (1, 3)
"""The numbers of components of a JPEG file that TensorFlow decodes."""


def decode(content: Any, input_shape: Sequence[int], resize: Resize = DEFAULT_RESIZE) -> Any:
    """Decodes one image file and resizes it.

    Args:
        content: the file's bytes, a scalar string tensor. `checks.problems_of` must have found none in it.
        input_shape: (height, width, channels) in pixels; channels is 1 or 3.
        resize: how the image is resized.

    Returns:
        A uint8 tensor of `input_shape`.
    """
    return resized(_decoded(content), input_shape, resize)


def resized(image: Any, input_shape: Sequence[int], resize: Resize) -> Any:
    """Resizes one image, (height, width, 3) uint8, as `decode` does.

    In a graph, as of `tf.data`, the height and width of `image` must not be part of its static shape: TensorFlow builds
    both branches, and that of an image of the right size has another shape.
    """
    *size, channels = input_shape
    if channels == 1:
        image = tf.tensordot(tf.cast(image, tf.float32), LUMA_THOUSANDTHS, axes=1)[..., None] / 1000.0

    def in_other_size() -> Any:
        values = tf.cast(FITS[resize.fit](image, size, resize), tf.float32)
        # Clipped, because bicubic and Lanczos interpolation go beyond 0 and 255.
        return tf.ensure_shape(tf.cast(tf.clip_by_value(tf.round(values), 0.0, 255.0), tf.uint8), input_shape)

    def as_it_is() -> Any:  # equals `in_other_size()`, in half the time
        return tf.ensure_shape(tf.cast(tf.round(image), tf.uint8), input_shape)

    return tf.cond(tf.reduce_all(tf.shape(image)[:2] == size), as_it_is, in_other_size)


def _decoded(content: Any) -> Any:
    """Pillow's pixels, (height, width, 3) uint8.

    For PNG files, and JPEG files of one or three components, TensorFlow decodes the same pixels in less time. Pillow
    converts JPEG files of four components, which are made for printing, in its own way.
    """
    is_read_by_tensorflow = tf.cond(
        tf.strings.substr(content, 0, 3) == JPEG,
        lambda: tf.reduce_any(tf.image.extract_jpeg_shape(content)[2] == COMPONENTS),
        lambda: tf.strings.substr(content, 0, 4) == PNG,
    )
    return tf.cond(is_read_by_tensorflow, lambda: _of_any_size(by_tensorflow(content)), lambda: _by_pillow(content))


def by_tensorflow(content: Any) -> Any:
    """TensorFlow's pixels of a PNG or JPEG file: (height, width, 3) uint8, from a scalar string tensor or bytes."""
    # `decode_jpeg` reads PNG files too. Its default, a faster inverse DCT, gives other pixels than every other library.
    return tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE")


def _of_any_size(image: Any) -> Any:
    image.set_shape((None, None, 3))
    return image


def _by_pillow(content: Any) -> Any:
    def read(scalar: Any) -> npt.NDArray[np.uint8]:
        # TensorFlow passes bytes in a graph, and an array of one object outside of a graph.
        return read_pixels(np.asarray(scalar, object).item())

    return tf.ensure_shape(tf.numpy_function(read, [content], tf.uint8, stateful=False), (None, None, 3))


def _stretched(image: Any, size: Any, resize: Resize) -> Any:
    return tf.image.resize(image, size, resize.method, antialias=resize.antialias)


def _cropped(image: Any, size: Sequence[int], resize: Resize) -> Any:
    """The largest centred part with the aspect ratio of `size`, resized; rounded as Keras' `crop_to_aspect_ratio`."""
    height, width = tf.unstack(tf.shape(image)[:2])
    height_for_width = tf.cast(tf.cast(width * size[0], tf.float32) / size[1], tf.int32)
    width_for_height = tf.cast(tf.cast(height * size[1], tf.float32) / size[0], tf.int32)
    part = tf.maximum(tf.minimum([height_for_width, width_for_height], [height, width]), 1)
    top, left = tf.unstack(([height, width] - part) // 2)
    return _stretched(image[top : top + part[0], left : left + part[1]], size, resize)


def _padded(image: Any, size: Sequence[int], resize: Resize) -> Any:
    """The whole image, resized, centred on black; rounded as Keras' `pad_to_aspect_ratio`."""
    sides, target = tf.cast(tf.shape(image)[:2], tf.float32), tf.constant(size, tf.float32)
    within = sides / tf.reduce_max(sides / target)
    inner = tf.maximum(tf.cast(tf.floor(within), tf.int32), 1)  # an image of one line keeps its line
    top, left = tf.unstack(tf.cast((target - within) / 2.0, tf.int32))
    return tf.image.pad_to_bounding_box(_stretched(image, inner, resize), top, left, *size)


FITS = {"stretch": _stretched, "crop": _cropped, "pad": _padded}
