"""Decoded pixels in a file, for trainings on more images than memory holds.

A file's name is a fingerprint of the images' content and order, their size, how they are resized and what decodes them.
So a file never becomes stale, and teacher, students, baselines and seeds with the same images at the same size share
one. Nothing removes these files; a user may remove the folder when no training runs.
"""

import os
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL
import psutil
import tensorflow as tf

from pipeline.images import decoding
from pipeline.images.decoded_images import DecodedImages
from pipeline.images.index import Image
from pipeline.images.resize import DEFAULT_RESIZE, Resize
from pipeline.runtime.digests import fingerprint, sha256_file
from pipeline.runtime.progress import Progress
from pipeline.runtime.publish import reserve


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
        OSError: the disk has too little room.
    """
    files = DecodedImages([image.path for image in images], input_shape, resize, keep=False)
    name = fingerprint(
        images=[image.sha256 for image in images],
        preprocessing=files.preprocessing,
        decoder=[tf.__version__, PIL.__version__, sha256_file(Path(decoding.__file__))],
    )
    final = folder / f"{name}.uint8"
    if not final.is_file() or final.stat().st_size != files.size:
        _write(files, final)
    return np.memmap(final, np.uint8, "r", shape=(len(files), *files.input_shape))


def _write(files: DecodedImages, final: Path) -> None:
    """Decodes all images into `final`.

    Two processes may do so at the same time without a lock: each writes a file of its own and renames it to `final`,
    and both files have the same bytes.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    _remove_partial_files_of_killed_runs(final.parent)
    partial = final.with_suffix(f".{uuid.uuid4().hex}.{os.getpid()}.partial")
    try:
        with partial.open("xb") as file, Progress("decode", len(files), "images") as progress:
            reserve(file, files.size)  # a full disk is noticed before an image is decoded
            for image in files.decoded().as_numpy_iterator():
                file.write(image.tobytes())
                progress.advance(1)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(final)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _remove_partial_files_of_killed_runs(folder: Path) -> None:
    for partial in folder.glob("*.*.[0-9]*.partial"):
        writer = int(partial.name.split(".")[-2])
        # This process has not created its file yet, so a partial file with its id is that of a dead process with the
        # same id.
        if writer == os.getpid() or not psutil.pid_exists(writer):
            with suppress(FileNotFoundError):  # another process has just removed it
                partial.unlink()
