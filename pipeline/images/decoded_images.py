"""The pixels of many image files, decoded when they are asked for, or kept in memory or in a file.

As every model sees the same pixels (`decoding`), those that were kept equal those that are decoded again.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import tensorflow as tf

from pipeline.images import decoding
from pipeline.images.places import is_in_shard, read_bytes
from pipeline.images.resize import DEFAULT_RESIZE, Resize, preprocessing
from pipeline.images.tf_data import mapped, mapped_in_turn, prefetched
from pipeline.images.unchanged import Unchanged
from pipeline.runtime.kept_files import MEMORY_SHARE

LAST_DECODED: dict[tuple[Any, ...], Any] = {}
"""The pixels of the two sets of images that were kept last, by what they are made of. A process that trains several
models shows all of them the same training and validation images."""

ALIGNMENT = 64
"""TensorFlow copies memory that does not start at a multiple of this many bytes."""

PLACES_AT_ONCE = 1024
"""How many places are given to TensorFlow at a time."""


class DecodedImages:
    """The pixels of a list of image files, by row number.

    Args:
        paths: where the image files lie (`places`).
        input_shape: (height, width, channels) of the model that will see them.
        resize: how the images are brought to that size.
        keep: whether the pixels are kept in memory, if they fit; True where they are read more than once.
        on_disk: the pixels, if they are decoded already: a memory-mapped (N, *input_shape) array.
        at_once: whether pixels that are kept in memory are decoded now; if not, when `load` is called.
        unchanged: the files, to compare them with the index again; None: they are never compared.

    Attributes:
        in_memory: whether the pixels are kept in memory.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        input_shape: Sequence[int],
        resize: Resize = DEFAULT_RESIZE,
        *,
        keep: bool,
        on_disk: npt.NDArray[np.uint8] | None = None,
        at_once: bool = True,
        unchanged: Unchanged | None = None,
    ) -> None:
        self.input_shape, self.resize = tuple(input_shape), resize
        self._places = paths
        self._are_files = not any(map(is_in_shard, paths))
        self._on_disk, self._unchanged = on_disk, unchanged
        self._name = (unchanged.contents_sha256, *self.input_shape, resize) if keep and unchanged is not None else None
        self.in_memory = keep and self._fits_in_memory()
        self._pixels: Any = None
        if at_once:
            self.load()

    def _fits_in_memory(self) -> bool:
        """Whether there is room for the pixels; those of earlier trainings make room for them."""
        if self._name is not None and self._name in LAST_DECODED:
            return True
        if self.size > MEMORY_SHARE * psutil.virtual_memory().available:
            LAST_DECODED.clear()
        return bool(self.size <= MEMORY_SHARE * psutil.virtual_memory().available)

    def load(self) -> None:
        """Decodes the pixels that are kept in memory, if that is not done yet; until then, files are read again.

        Raises:
            MismatchError: files have changed since they were first compared with the index.
        """
        if self.in_memory and self._pixels is None:
            self._pixels = self._last_or_decoded()

    def refuse_changed(self) -> None:
        """Compares the files with the index again, unless all pixels were kept, and compared when they were decoded.

        Raises:
            MismatchError: as `Unchanged.refuse_changed`.
        """
        if self._unchanged is not None and self._on_disk is None and self._pixels is None:
            self._unchanged.refuse_changed()

    def __len__(self) -> int:
        """The number of images."""
        return len(self._places)

    @property
    def size(self) -> int:
        """The size of all pixels in bytes."""
        return len(self) * int(np.prod(self.input_shape))

    @property
    def preprocessing(self) -> dict[str, Any]:
        """How the files become these pixels, as soft-label files note it."""
        return preprocessing(self.input_shape, self.resize)

    def rows(self, rows: Any) -> Any:
        """The images of some row numbers: (B,) integers become (B, height, width, channels) uint8."""
        if self._pixels is not None:
            return tf.gather(self._pixels, rows)
        if self._on_disk is not None:
            # With TensorFlow's determinism on, a stateful function would run for one batch at a time.
            pixels = tf.numpy_function(self._on_disk.__getitem__, [rows], tf.uint8, stateful=False)
            return tf.ensure_shape(pixels, (None, *self.input_shape))
        signature = tf.TensorSpec(self.input_shape, tf.uint8)
        return tf.map_fn(self._read, self._texts(rows), fn_output_signature=signature)

    def batches(self, batch_size: int) -> Any:
        """A `tf.data.Dataset` of all images in order, in float32 batches of values 0 to 255."""
        if self._on_disk is not None:
            batches = mapped_in_turn(tf.data.Dataset.range(len(self)).batch(batch_size), self.rows)
        else:
            images = tf.data.Dataset.from_tensor_slices(self._pixels) if self._pixels is not None else self.decoded()
            batches = images.batch(batch_size)
        return prefetched(mapped_in_turn(batches, lambda pixels: tf.cast(pixels, tf.float32)))

    def decoded(self) -> Any:
        """A `tf.data.Dataset` of all images in order, decoded from their files in parallel."""
        places = mapped_in_turn(tf.data.Dataset.range(len(self)).batch(PLACES_AT_ONCE), self._texts)
        return prefetched(mapped(places.unbatch(), self._read))

    def _texts(self, rows: Any) -> Any:
        """The places of some row numbers as (B,) strings: as one tensor, millions take 100 bytes each."""

        def of(numbers: Any) -> Any:
            return np.array([os.fsencode(self._places[number]) for number in numbers], object)

        return tf.ensure_shape(tf.numpy_function(of, [rows], tf.string, stateful=False), (None,))

    def _read(self, path: Any) -> Any:
        content = tf.io.read_file(path) if self._are_files else _read_bytes(path)
        return decoding.decode(content, self.input_shape, self.resize)

    def _last_or_decoded(self) -> Any:
        """All images in one tensor: (N, *input_shape) uint8."""
        pixels = None if self._name is None else LAST_DECODED.pop(self._name, None)
        for older in [*LAST_DECODED][:-1]:
            del LAST_DECODED[older]
        if pixels is None:
            pixels = self._decode_all()
            self.refuse_changed()
        if self._name is not None:
            LAST_DECODED[self._name] = pixels
        return pixels

    def _decode_all(self) -> Any:
        """Decodes all images into one tensor.

        By DLPack the array becomes the tensor's own memory; `tf.constant` would hold them three times for a while.
        """
        memory = np.empty(self.size + ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % ALIGNMENT
        pixels = memory[start : start + self.size].reshape(len(self), *self.input_shape)
        for row, image in enumerate(self.decoded().as_numpy_iterator()):
            pixels[row] = image
        return tf.experimental.dlpack.from_dlpack(pixels.__dlpack__())


def _read_bytes(place: Any) -> Any:
    """As `places.read_bytes`, for scalar string tensors."""

    def read(scalar: Any) -> bytes:
        return read_bytes(os.fsdecode(np.asarray(scalar, object).item()))

    as_it_is = tf.autograph.experimental.do_not_convert(read)  # else AutoGraph rewrites pyarrow's functions
    return tf.ensure_shape(tf.numpy_function(as_it_is, [place], tf.string, stateful=False), ())
