"""Decoded pixels in a file, for trainings on more images than memory holds.

A file's name is a fingerprint of the images' content and order, their size, how they are resized and what decodes them.
So teacher, students, baselines and seeds with the same images at the same size share one (`runtime.kept_files`).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL
import tensorflow as tf

from pipeline.images import decoding, image_files
from pipeline.images.decoded_images import DecodedImages
from pipeline.images.index import Image
from pipeline.images.resize import DEFAULT_RESIZE, Resize
from pipeline.images.unchanged import Unchanged
from pipeline.runtime.digests import fingerprint, sha256_file
from pipeline.runtime.kept_files import is_sound, is_there, write_kept
from pipeline.runtime.progress import Progress


def pixels_on_disk(
    images: Sequence[Image], input_shape: Sequence[int], folder: Path, resize: Resize = DEFAULT_RESIZE
) -> npt.NDArray[np.uint8]:
    """The pixels of N images in a file, which is made first if no earlier run has made it.

    Args:
        images: rows of the index.
        input_shape: (height, width, channels) in pixels.
        folder: the folder of such files; each takes N x height x width x channels bytes.
        resize: how images are resized.

    Returns:
        A read-only memory-mapped (N, height, width, channels) array.

    Raises:
        MismatchError: image files are missing or changed, also while they were decoded.
        OSError: the disk has too little room.
    """
    files = DecodedImages([image.path for image in images], input_shape, resize, keep=False)
    name = fingerprint(
        images=[image.sha256 for image in images],
        preprocessing=files.preprocessing,
        decoder=[
            tf.__version__,
            PIL.__version__,
            *map(sha256_file, map(Path, (decoding.__file__, image_files.__file__))),
        ],
    )
    final = folder / f"{name}.uint8"
    if not (is_there(final, files.size) and is_sound(final, files.size)):
        write_kept(final, files.size, _decoded(files, images))
    return np.memmap(final, np.uint8, "r", shape=(len(files), *files.input_shape))


def _decoded(files: DecodedImages, images: Sequence[Image]) -> Iterator[npt.NDArray[np.uint8]]:
    unchanged = Unchanged(images)
    with Progress("decode", len(files), "images") as progress:
        for image in files.decoded().as_numpy_iterator():
            yield image
            progress.advance(1)
    unchanged.refuse_changed()
