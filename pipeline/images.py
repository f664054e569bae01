"""From image files to batches of pixels.

Every model sees the same pixels: decoded, resized (bilinear, antialiased) to the model's input size, and
rounded to uint8, so that it makes no difference whether they are read from memory or from the files.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from pipeline.errors import PipelineError, first_few

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601)."""

PNG = b"\x89PNG\r\n\x1a\n"

MEMORY_LIMIT_BYTES = 2 * 2**30
"""Pixels that fit in this are decoded once and kept in memory; larger sets are decoded as they are used."""


def decode(content: Any, input_shape: Sequence[int]) -> Any:
    """Decodes one 8-bit PNG, JPEG, 24-bit BMP or GIF (first frame) and resizes it.

    Transparency is dropped, and a camera's note of orientation (EXIF) is not followed.

    Args:
        content: the file's bytes, a scalar string tensor.
        input_shape: (height, width, channels) in pixels; channels is 1 or 3.

    Returns:
        A uint8 tensor of `input_shape`.
    """
    height, width, channels = input_shape
    image = tf.io.decode_image(content, channels=3, expand_animations=False)
    image.set_shape((None, None, 3))
    if channels == 1:
        image = tf.tensordot(tf.cast(image, tf.float32), LUMA, axes=1)[..., None]

    def resized() -> Any:
        of_size = tf.image.resize(image, (height, width), antialias=True)
        return tf.cast(tf.clip_by_value(tf.round(of_size), 0.0, 255.0), tf.uint8)

    def as_it_is() -> Any:  # what the resizer would give, in half of the time
        return tf.ensure_shape(tf.cast(tf.round(image), tf.uint8), input_shape)

    return tf.cond(tf.reduce_all(tf.shape(image)[:2] == (height, width)), as_it_is, resized)


class Images:
    """The pixels of a list of image files, by row number.

    Args:
        paths: the image files.
        input_shape: (height, width, channels) of the model that will see them.
        keep: whether they will be read more than once, and so are kept in memory if they fit.
    """

    def __init__(self, paths: Sequence[str | Path], input_shape: Sequence[int], *, keep: bool) -> None:
        self.input_shape = tuple(input_shape)
        self._paths = tf.constant([str(path) for path in paths])
        in_memory = len(paths) * int(np.prod(self.input_shape)) <= MEMORY_LIMIT_BYTES
        self._pixels = self._decode_all() if keep and in_memory else None

    def __len__(self) -> int:
        """How many images there are."""
        return int(self._paths.shape[0])

    def rows(self, rows: Any) -> Any:
        """The images of the given row numbers: (B,) integers become (B, height, width, channels) uint8."""
        if self._pixels is not None:
            return tf.gather(self._pixels, rows)
        signature = tf.TensorSpec(self.input_shape, tf.uint8)
        return tf.map_fn(self._read, tf.gather(self._paths, rows), fn_output_signature=signature)

    def batches(self, batch_size: int) -> Any:
        """A `tf.data.Dataset` of all images in order, in float32 batches of values 0 to 255."""
        kept = self._pixels is not None
        images = tf.data.Dataset.from_tensor_slices(self._pixels) if kept else self._decoded()
        batches = images.batch(batch_size)
        return batches.map(lambda pixels: tf.cast(pixels, tf.float32)).prefetch(tf.data.AUTOTUNE)

    def _read(self, path: Any) -> Any:
        return decode(tf.io.read_file(path), self.input_shape)

    def _decoded(self) -> Any:
        files = tf.data.Dataset.from_tensor_slices(self._paths)
        return files.map(self._read, num_parallel_calls=tf.data.AUTOTUNE)

    def _decode_all(self) -> Any:
        pixels = np.empty((len(self), *self.input_shape), np.uint8)
        for row, image in enumerate(self._decoded().as_numpy_iterator()):
            pixels[row] = image
        return tf.constant(pixels)


def refuse_undecodable(files: Mapping[str, Path]) -> None:
    """Decodes every file once.

    Args:
        files: the image files, by the name for messages.

    Raises:
        PipelineError: some are no images; says how many and names the first five.
    """
    bad = [name for name, path in files.items() if not _is_decodable(path)]
    if bad:
        raise PipelineError(
            f"{len(bad)} of {len(files)} image files cannot be decoded as PNG (8 bits), JPEG, BMP (24 bits) or GIF: "
            f"{first_few(bad)}. Replace them with intact images, or remove them from the data set."
        )


def _is_decodable(path: Path) -> bool:
    content = path.read_bytes()
    if content.startswith(PNG) and content[24:25] > b"\x08":
        return False  # 16 bits a channel: only the upper 8 would be read
    if content.startswith(b"BM") and int.from_bytes(content[28:30], "little") < 24:
        return False  # a palette: its indices would be read as grey values
    try:
        tf.io.decode_image(content, channels=3, expand_animations=False)
    except tf.errors.InvalidArgumentError:
        return False
    return True


def read_original(path: str | Path) -> npt.NDArray[np.uint8]:
    """The pixels of one image file in its own size: (height, width, 3), values 0 to 255."""
    pixels = tf.io.decode_image(Path(path).read_bytes(), channels=3, expand_animations=False)
    return np.asarray(pixels.numpy(), np.uint8)
