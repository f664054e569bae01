"""From image files to batches of pixels.

Every model sees the same pixels: decoded, resized (bilinear, antialiased) to the model's input size, and
rounded to uint8, so that it makes no difference whether they are read from memory or from the files.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import tensorflow as tf

from pipeline.data_flow import ahead, mapped
from pipeline.errors import PipelineError, all_named

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601)."""

PNG = b"\x89PNG\r\n\x1a\n"

MEMORY_SHARE = 0.25
"""Of the memory that is available: pixels that fit in this are decoded once and kept there, where that is asked for."""

ALIGNMENT = 64
"""Bytes: TensorFlow copies memory that does not start at a multiple of this."""


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
        on_disk: the pixels, if they are decoded already: a memory-mapped (N, *input_shape) array.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        input_shape: Sequence[int],
        *,
        keep: bool,
        on_disk: npt.NDArray[np.uint8] | None = None,
    ) -> None:
        self.input_shape = tuple(input_shape)
        self._paths = tf.constant([str(path) for path in paths])
        self._on_disk = on_disk
        in_memory = self.size <= MEMORY_SHARE * psutil.virtual_memory().available
        self._pixels = self._decode_all() if keep and in_memory else None

    def __len__(self) -> int:
        """How many images there are."""
        return int(self._paths.shape[0])

    @property
    def size(self) -> int:
        """Bytes of all pixels."""
        return len(self) * int(np.prod(self.input_shape))

    @property
    def in_memory(self) -> bool:
        """Whether the pixels are kept in memory."""
        return self._pixels is not None

    def rows(self, rows: Any) -> Any:
        """The images of the given row numbers: (B,) integers become (B, height, width, channels) uint8."""
        if self._pixels is not None:
            return tf.gather(self._pixels, rows)
        if self._on_disk is not None:
            # Were it said to be stateful, TensorFlow's determinism would have it run one batch at a time.
            pixels = tf.numpy_function(self._on_disk.__getitem__, [rows], tf.uint8, stateful=False)
            return tf.ensure_shape(pixels, (None, *self.input_shape))
        signature = tf.TensorSpec(self.input_shape, tf.uint8)
        return tf.map_fn(self._read, tf.gather(self._paths, rows), fn_output_signature=signature)

    def batches(self, batch_size: int) -> Any:
        """A `tf.data.Dataset` of all images in order, in float32 batches of values 0 to 255."""
        if self._on_disk is not None:
            batches = tf.data.Dataset.range(len(self)).batch(batch_size).map(self.rows)
        else:
            kept = self._pixels is not None
            images = tf.data.Dataset.from_tensor_slices(self._pixels) if kept else self.decoded()
            batches = images.batch(batch_size)
        return ahead(batches.map(lambda pixels: tf.cast(pixels, tf.float32)))

    def decoded(self) -> Any:
        """A `tf.data.Dataset` of all images in order, decoded from their files in parallel."""
        files = tf.data.Dataset.from_tensor_slices(self._paths)
        return ahead(mapped(files, self._read))

    def _read(self, path: Any) -> Any:
        return decode(tf.io.read_file(path), self.input_shape)

    def _decode_all(self) -> Any:
        """Decodes into what becomes the tensor's own memory; `tf.constant` would need twice as much for a while."""
        memory = np.empty(self.size + ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % ALIGNMENT
        pixels = memory[start : start + self.size].reshape(len(self), *self.input_shape)
        for row, image in enumerate(self.decoded().as_numpy_iterator()):
            pixels[row] = image
        return tf.experimental.dlpack.from_dlpack(pixels.__dlpack__())


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
            f"{all_named(bad)}. Replace them with intact images, or remove them from the data set."
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
