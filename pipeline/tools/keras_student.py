"""A student's `.keras` file as a model to label images with. Needs TensorFlow."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from pipeline.deployed.metadata import Metadata
from pipeline.images.resize import Resize, preprocessing
from pipeline.inference.forward import Forward
from pipeline.models import keras_files
from pipeline.models.records import read_record
from pipeline.runtime.digests import sha256_file
from pipeline.runtime.errors import MissingError, UnusableError
from pipeline.tools.student_resize import exported_from


class KerasStudent:
    """A `.keras` file that is ready to answer, as `deployed.files.Exported`.

    Args:
        path: the file.
        resize: how its images are resized.
        batch_size: images in one forward pass.
        exports: the folder of exported files, one of which tells the temperature; None: that is not needed, and 1.

    Raises:
        MissingError: there is no such file, or no exported file tells the temperature.
        DamagedError: it is not a whole `.keras` file, or what an export tells cannot be read.
        UnusableError: it does not say which classes it knows, or classifies no images.
    """

    def __init__(self, path: Path, resize: Resize, batch_size: int, exports: Path | None) -> None:
        model, record = keras_files.load(path), read_record(path)
        if record is None:
            raise UnusableError(
                f"{path} does not say which classes its outputs are: no stage of this program wrote it. Name a file in "
                "models/students or models/baselines, or an exported one."
            )
        keras_files.refuse_unfit(model, path, record["class_names"])
        sha256 = sha256_file(path)
        self._forward = Forward(model, batch_size)
        self.metadata = Metadata(
            student=path.stem,
            sha256=sha256,
            class_names=tuple(record["class_names"]),
            preprocessing=preprocessing(model.input_shape[1:], resize),
            output="logits",
            precision="float32",
            temperature=1.0 if exports is None else _temperature(path, sha256, exports),
        )

    def logits(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """(N, C) logits of (N, height, width, channels) pixels."""
        return np.concatenate([*self._forward([tf.cast(pixels, tf.float32)])])


def _temperature(path: Path, sha256: str, exports: Path) -> float:
    for file in sorted(exports.glob("*/export.json")):
        told = exported_from(file)
        if told["sha256"] == sha256:
            return float(told["temperature"])
    raise MissingError(
        f"no file in {exports} was made from {path}, and these tell a student's temperature. Name the student in "
        "export.students of params.yaml and run `dvc repro export`, or leave --calibrated out."
    )
