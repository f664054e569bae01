"""Opens an exported file for the runtime that it is made for."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pipeline.deployed import litert, onnx
from pipeline.deployed.metadata import REMEDY, Metadata
from pipeline.deployed.seal import unsealed
from pipeline.runtime.errors import DamagedError, MissingError, UnusableError
from pipeline.runtime.separate_process import MEMORY
from pipeline.runtime.tried_files import try_once_in_a_project

COPIES = 4
"""How often the numbers of a file may lie in memory while it is tried."""


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
        UnusableError: it has another ending, the stage `export` did not write it, or it takes too much time or memory.
        DamagedError: its bytes have changed, its content is that of another kind of file than its ending says, or its
            runtime cannot run it.
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
    metadata = unsealed(content, path)
    refuse_harmful(path, content)
    return run(content, metadata, threads)


def refuse_harmful(path: Path, content: bytes) -> None:
    """Lets a file answer one black image in a process of its own, which may hang, crash or want all memory.

    In a project, each content is tried once. Elsewhere nothing is noted, and each call tries it.

    Args:
        path: the file.
        content: its bytes.

    Raises:
        PipelineError: as `open_exported`, and where the process ended.
    """
    memory = MEMORY + COPIES * len(content)
    sha256 = hashlib.sha256(content).hexdigest()
    try_once_in_a_project(answer_one_image, path, sha256=sha256, remedy=REMEDY, memory=memory)


def answer_one_image(path: str) -> None:
    """Opens a file whose digest is right, and lets it answer one black image."""
    file = Path(path)
    content = file.read_bytes()
    metadata = unsealed(content, file)
    _, run = KINDS[file.suffix.lower()]
    run(content, metadata, 1).logits(np.zeros((1, *metadata.input_shape), np.uint8))
