"""What is timed: an exported file in its own runtime, or the teacher in Keras."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.runtime.errors import MissingError

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Opened:
    """A model that is ready to answer.

    Attributes:
        run: answers (N, height, width, channels) pixels, 0 to 255.
        input_shape: (height, width, channels), in pixels.
        digest: that of the file; None of the teacher.
    """

    run: Callable[[Pixels], Any]
    input_shape: tuple[int, ...]
    digest: str | None = None


@dataclass(frozen=True)
class Subject:
    """Something to be timed.

    Attributes:
        path: a `.tflite` or `.onnx` file, the folder of a SavedModel, or a teacher's description (`.json`).
        digest: the one that the file must have; None: any.
    """

    path: Path
    digest: str | None = None

    @property
    def needs_tensorflow(self) -> bool:
        """Whether TensorFlow runs it; the number of its threads can be set but once in a process."""
        return self.path.suffix not in (".tflite", ".onnx")

    def opened(self, threads: int) -> Opened:
        """Opens it for a number of threads.

        Raises:
            PipelineError: it is missing or damaged, or its runtime is not installed.
        """
        if not self.needs_tensorflow:
            return _of_file(self.path, threads)
        _limit_tensorflow(threads)
        return _of_teacher(self.path) if self.path.suffix == ".json" else _of_saved_model(self.path)


def _of_file(path: Path, threads: int) -> Opened:
    from pipeline.deployed.files import open_exported

    exported = open_exported(path, threads)
    return Opened(exported.logits, exported.metadata.input_shape, exported.metadata.digest)


def _of_saved_model(path: Path) -> Opened:
    from pipeline.exports.quality import SavedModelFolder

    exported = SavedModelFolder(path)
    return Opened(exported.logits, exported.metadata.input_shape, exported.metadata.digest)


def _of_teacher(path: Path) -> Opened:
    """The teacher's network with random weights: speed and memory do not depend on them."""
    import tensorflow as tf

    from pipeline.evaluation.description import read_description
    from pipeline.inference.cost import untrained

    description = read_description(path)
    if description.architecture is None:
        raise MissingError(f"{path} tells of no network of Keras' layers, so there is none to time.")
    model = untrained(description.architecture)
    forward = tf.function(lambda pixels: model(tf.cast(pixels, tf.float32), training=False))
    return Opened(lambda pixels: forward(tf.constant(pixels)).numpy(), tuple(model.input_shape[1:]))


def _limit_tensorflow(threads: int) -> None:
    """Lets TensorFlow compute on the processor alone, where exported files run, with a number of threads."""
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
