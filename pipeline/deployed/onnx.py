"""Runs an exported ONNX file with the package onnxruntime."""

import numpy as np
import numpy.typing as npt

from pipeline.deployed.answers import SMALLEST, as_logits, refuse_other_input, refuse_other_pixels
from pipeline.deployed.metadata import Metadata
from pipeline.runtime.errors import DamagedError, MissingError, one_line
from pipeline.runtime.extras import how_to_install
from pipeline.runtime.own_surroundings import onnx_runtime


class OnnxFile:
    """An ONNX file that is ready to answer, as `files.Exported`.

    Args:
        content: the bytes of the file.
        metadata: what it says of itself.
        threads: how many threads may compute; None: one for each core.

    Raises:
        MissingError: the package onnxruntime is not installed.
        DamagedError: ONNX Runtime refuses the bytes, or they take other images than the metadata say.
    """

    def __init__(self, content: bytes, metadata: Metadata, threads: int | None) -> None:
        self.metadata = metadata
        try:
            onnxruntime = onnx_runtime()
        except ModuleNotFoundError:
            raise MissingError(
                f"an .onnx file needs the package onnxruntime, which is not installed: {how_to_install('onnx')}."
            ) from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0  # 0: one for each core
        options.log_severity_level = 3  # errors only
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its classes of exceptions have no other common parent
            raise DamagedError(
                f"ONNX Runtime cannot run the file: {one_line(error)}. Export the student again."
            ) from None
        taken = self._session.get_inputs()[0]
        refuse_other_input(taken.shape[1:], taken.type.removeprefix("tensor(").removesuffix(")"), metadata)

    def logits(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """(N, C) logits of (N, height, width, channels) pixels; see `files.Exported`."""
        refuse_other_pixels(pixels, self.metadata)
        (answers,) = self._session.run(None, {self._session.get_inputs()[0].name: pixels})
        return as_logits(answers, self.metadata.output, SMALLEST)
