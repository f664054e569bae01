"""Runs an exported ONNX file with the package onnxruntime."""

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.deployed.answers import SMALLEST, End, as_logits, refuse_other_ends, refuse_other_pixels
from pipeline.deployed.metadata import Metadata
from pipeline.runtime.errors import DamagedError, MissingError
from pipeline.runtime.extras import how_to_install
from pipeline.runtime.native_stderr import native_stderr_closed
from pipeline.runtime.onnx_errors import LACKS_MEMORY, without_prefix
from pipeline.runtime.own_surroundings import onnx_runtime

NAMES = {"float": "float32"}
"""NumPy's names of types, where ONNX Runtime has others."""


OTHER_FILES = "session.model_external_initializers_file_folder_path"
"""Where ONNX Runtime looks for weights outside of the bytes; without it, in the current folder."""


class OnnxFile:
    """An ONNX file that is ready to answer, as `files.Exported`.

    Args:
        content: the bytes of the file.
        metadata: what it says of itself.
        threads: how many threads may compute; None: one for each core.

    Raises:
        MissingError: the package onnxruntime is not installed.
        DamagedError: ONNX Runtime refuses the bytes, or they take or give something else than the metadata say.
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
        options.log_severity_level = 4  # what fails is raised
        options.add_session_config_entry(OTHER_FILES, os.devnull)
        try:
            with native_stderr_closed():
                self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            taken, given = self._session.get_inputs(), self._session.get_outputs()
            ends = [_end(end) for end in taken], [_end(end) for end in given]
        except Exception as error:  # its classes of exceptions have no other common parent
            raise _refusal(error) from None
        refuse_other_ends(*ends, metadata)
        self._input = taken[0].name

    def logits(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """(N, C) logits of (N, height, width, channels) pixels; see `files.Exported`."""
        refuse_other_pixels(pixels, self.metadata)
        try:
            (answers,) = self._session.run(None, {self._input: pixels})
        except Exception as error:  # as above
            raise _refusal(error) from None
        return as_logits(answers, self.metadata.output, SMALLEST)


def _end(end: Any) -> End:
    kind = end.type.removeprefix("tensor(").removesuffix(")")
    return tuple(end.shape), NAMES.get(kind, kind)


def _refusal(error: Exception) -> Exception:
    if LACKS_MEMORY.search(str(error)):
        return MemoryError("ONNX Runtime cannot allocate what the file asks for")
    return DamagedError(f"ONNX Runtime cannot run the file: {without_prefix(error)}. Export the student again.")
