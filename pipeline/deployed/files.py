"""Opens an exported file for the runtime that it is made for."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pipeline.deployed import litert, onnx
from pipeline.deployed.metadata import Metadata
from pipeline.deployed.seal import unsealed
from pipeline.runtime.errors import DamagedError, MissingError, UnusableError


class Exported(Protocol):
    """An exported file that is ready to answer.

    Attributes:
        metadata: what the file says of itself.
    """

    metadata: Metadata

    def logits(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Runs the file.

        Args:
            pixels: (N, height, width, channels), 0 to 255, as `metadata.preprocessing` says.

        Returns:
            (N, C) logits up to a constant; logarithms of the probabilities where `metadata.output` is these.
        """
        ...


def is_litert(content: bytes) -> bool:
    """Whether bytes begin as a LiteRT file does: with FlatBuffers' identifier."""
    return content[4:8] == b"TFL3"


def is_onnx(content: bytes) -> bool:
    """Whether bytes begin as an ONNX file does: protobuf's field 1, the version, which is below 128."""
    return content[:1] == b"\x08" and content[1:2].isascii()


KINDS: dict[str, tuple[Callable[[bytes], bool], Callable[[bytes, Metadata, int | None], Exported]]] = {
    ".tflite": (is_litert, litert.LiteRtFile),
    ".onnx": (is_onnx, onnx.OnnxFile),
}
"""By the ending of a file: how its content is recognised, and what runs it."""


def open_exported(path: Path, threads: int | None = None) -> Exported:
    """Opens a `.tflite` or `.onnx` file of the stage `export`, after a comparison of its digest.

    Args:
        path: the file.
        threads: how many threads may compute; None: one for each core.

    Raises:
        MissingError: there is no such file, or its runtime is not installed.
        UnusableError: it has another ending, or the stage `export` did not write it.
        DamagedError: its bytes have changed, or its content is that of another kind of file than its ending says.
        MismatchError: another version of this program wrote it.
    """
    ending = path.suffix.lower()
    if ending not in KINDS:
        raise UnusableError(f"{path} ends in {ending or 'nothing'}; expected a file that ends in {' or '.join(KINDS)}.")
    if not path.is_file():
        raise MissingError(f"there is no file {path}. Make it with `dvc repro export`, or name another file.")
    content = path.read_bytes()
    is_of_kind, run = KINDS[ending]
    if not is_of_kind(content):
        found = [other for other, (is_of_other, _) in KINDS.items() if is_of_other(content)]
        raise DamagedError(
            f"{path} is named as a {ending} file, but its content is that of {found[0] if found else 'none'}. "
            "Give it its name back, or copy it again."
        )
    return run(content, unsealed(content, path), threads)
