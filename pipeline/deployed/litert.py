"""Runs a LiteRT file (`.tflite`) with the package ai-edge-litert."""

from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.deployed.answers import SMALLEST, as_logits, refuse_other_input, refuse_other_pixels
from pipeline.deployed.metadata import Metadata
from pipeline.runtime.cores import usable_threads
from pipeline.runtime.errors import DamagedError, MissingError, one_line
from pipeline.runtime.extras import how_to_install
from pipeline.runtime.native_stderr import native_stderr_closed


class LiteRtFile:
    """A LiteRT file that is ready to answer, as `files.Exported`.

    Args:
        content: the bytes of the file.
        metadata: what it says of itself.
        threads: how many threads may compute; None: one for each core.

    Raises:
        MissingError: the package ai-edge-litert is not installed.
        DamagedError: LiteRT refuses the bytes, or they take other images than the metadata say.
    """

    def __init__(self, content: bytes, metadata: Metadata, threads: int | None) -> None:
        self.metadata = metadata
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ModuleNotFoundError:
            raise MissingError(
                f"a .tflite file needs the package ai-edge-litert, which is not installed: {how_to_install('runtime')}."
            ) from None
        try:
            with native_stderr_closed():
                self._interpreter = Interpreter(model_content=content, num_threads=threads or usable_threads())
                refuse_other_input(*_shape_and_type(self._interpreter), metadata)
                self._allocate(1)
        except (ValueError, RuntimeError) as error:
            raise DamagedError(f"LiteRT cannot run the file: {one_line(error)}. Export the student again.") from None

    def logits(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """(N, C) logits of (N, height, width, channels) pixels; see `files.Exported`."""
        refuse_other_pixels(pixels, self.metadata)
        if len(pixels) != self._images:
            with native_stderr_closed():
                self._allocate(len(pixels))
        self._interpreter.set_tensor(self._input, pixels)
        self._interpreter.invoke()
        answers = self._interpreter.get_tensor(self._output["index"])
        scale, zero = self._output["quantization"]
        if not scale:
            return as_logits(answers, self.metadata.output, SMALLEST)
        return as_logits((answers.astype(np.float32) - zero) * scale, self.metadata.output, scale / 2)

    def _allocate(self, images: int) -> None:
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._interpreter.resize_tensor_input(self._input, (images, *self.metadata.input_shape))
        self._interpreter.allocate_tensors()
        self._output: dict[str, Any] = self._interpreter.get_output_details()[0]
        self._images = images


def _shape_and_type(interpreter: Any) -> tuple[list[int], str]:
    """Of the first input; the shape is without the number of images."""
    told = interpreter.get_input_details()[0]
    return told["shape"].tolist()[1:], told["dtype"].__name__
