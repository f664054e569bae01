"""Decoded pixels in a file, for trainings on more images than memory holds.

A file is named by the content of its images, their order, their size, how they are resized and what decodes them. So
teacher, students, baselines and seeds that train on the same images at the same size share one, and it never has to be
found stale. Nothing removes it: the folder may be removed when nothing trains.
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

from pipeline.images import decoding as decoder
from pipeline.images.decoding import DecodedImages
from pipeline.images.index import Image
from pipeline.images.resize import DEFAULT_RESIZE, Resize
from pipeline.runtime.digests import fingerprint, sha256_file
from pipeline.runtime.progress import Progress
from pipeline.runtime.publish import reserve


def pixels_on_disk(
    images: Sequence[Image], input_shape: Sequence[int], folder: Path, resize: Resize = DEFAULT_RESIZE
) -> npt.NDArray[np.uint8]:
    """The pixels of N images, read from the disk as they are used; decoded first where no earlier run has done so.

    Args:
        images: rows of the index.
        input_shape: (height, width, channels) in pixels.
        folder: where the files of pixels lie; the file takes N x height x width x channels bytes.
        resize: how images are resized.

    Returns:
        A read-only memory-mapped (N, height, width, channels) array.

    Raises:
        OSError: there is no room on the disk.
    """
    files = DecodedImages([image.path for image in images], input_shape, resize, keep=False)
    name = fingerprint(
        images=[image.sha256 for image in images],
        preprocessing=files.preprocessing,
        decoder=[tf.__version__, PIL.__version__, sha256_file(Path(decoder.__file__))],
    )
    final = folder / f"{name}.uint8"
    if not final.is_file() or final.stat().st_size != files.size:
        _write(files, final)
    return np.memmap(final, np.uint8, "r", shape=(len(files), *files.input_shape))


def _write(files: DecodedImages, final: Path) -> None:
    """Decodes into a file of this process's own: of two processes at once, each gives `final` the same bytes."""
    final.parent.mkdir(parents=True, exist_ok=True)
    _remove_what_killed_runs_left(final.parent)
    partial = final.with_suffix(f".{uuid.uuid4().hex}.{os.getpid()}.partial")
    try:
        with partial.open("xb") as file, Progress("decode", len(files), "images") as progress:
            reserve(file, files.size)
            for image in files.decoded().as_numpy_iterator():
                file.write(image.tobytes())
                progress.advance(1)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(final)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _remove_what_killed_runs_left(folder: Path) -> None:
    for partial in folder.glob("*.*.[0-9]*.partial"):
        maker = int(partial.name.split(".")[-2])
        if maker == os.getpid() or not psutil.pid_exists(maker):
            with suppress(FileNotFoundError):  # another process removed it just now
                partial.unlink()
