"""Data to time with: image files, an index of them, and random soft labels."""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import tensorflow as tf
from scipy.ndimage import gaussian_filter

from pipeline.images.index import SPLITS, Image, Index, SplitName
from pipeline.images.views import Views
from pipeline.runtime.digests import sha256_file
from pipeline.soft_labels import logit_storage
from pipeline.soft_labels.hdf5 import seal
from pipeline.soft_labels.reading import Provenance
from pipeline.soft_labels.writing import create_logits, rows_of_index, soften_file

NOISE = 4.0
"""The deviation of the noise in an image, as a sensor adds it: so a file of 224x224 pixels has about 100 kB."""


def write_images(folder: Path, count: int, input_shape: Sequence[int]) -> list[Path]:
    """Writes PNG files of smooth random colors with a little noise, in the size that a model takes.

    Args:
        folder: a new folder.
        count: how many files.
        input_shape: (height, width, channels); with one channel, the files are grey.

    Returns:
        The files.
    """
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0)
    height, width, channels = input_shape
    field = gaussian_filter(noise.normal(size=(4 * height, 4 * width, channels)), (3, 3, 0))
    field *= 40 / field.std()
    files = []
    for number in range(count):
        top, left = noise.integers(0, 3 * height), noise.integers(0, 3 * width)
        pixels = 140 + field[top : top + height, left : left + width] + noise.normal(0, NOISE, input_shape)
        files.append(folder / f"{number:06d}.png")
        files[-1].write_bytes(tf.io.encode_png(np.clip(pixels, 0, 255).astype(np.uint8)).numpy())
    return files


def index_of(files: Sequence[Path], classes: int, validation: int = 1) -> Index:
    """An index of image files, whose classes take turns.

    Args:
        files: the first are validation images, the next one is the test image, the others are training images.
        classes: C, the number of classes.
        validation: how many validation images.
    """
    counts: dict[SplitName, int] = {"val": validation, "test": 1, "train": len(files) - validation - 1}
    splits = [split for split, count in counts.items() for _ in range(count)]
    return Index(
        Image(file.name, str(file), f"class {number % classes:04d}", split, "", sha256_file(file))
        for number, (file, split) in enumerate(zip(files, splits, strict=True))
    )


def provenance_of(data: Index, views: Views) -> Provenance:
    """The provenance of float32 logits that no teacher gave."""
    return Provenance(
        class_names=tuple(data.class_names),
        teacher="none",
        teacher_sha256="0" * 64,
        dataset=data.fingerprint(),
        preprocessing={},
        batch_size=1,
        views=views.as_json(),
        storage=logit_storage.Dense("float32").as_json(),
    )


def write_soft_targets(folder: Path, data: Index, views: Views, temperature: float) -> Path:
    """Writes random logits of every view with the pipeline's own writer, and softens them.

    Returns:
        The `soft_targets_T<T>.h5`.
    """
    logits, targets = folder / "teacher_logits.h5", folder / f"soft_targets_T{temperature:g}.h5"
    create_logits(logits, provenance_of(data, views), rows_of_index(data))
    noise = np.random.default_rng(1)
    with h5py.File(logits, "r+") as file:
        for split in SPLITS:
            file[split]["logits"][...] = noise.normal(0, 3, file[split]["logits"].shape)
    seal(logits)
    soften_file(logits, targets, temperature)
    return targets
