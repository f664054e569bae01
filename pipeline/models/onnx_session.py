"""Sessions of ONNX Runtime. Needs neither Keras nor TensorFlow."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.runtime.digests import fingerprint, sha256_file
from pipeline.runtime.errors import DamagedError, UnusableError
from pipeline.runtime.onnx_errors import LACKS_MEMORY
from pipeline.runtime.own_surroundings import onnx_runtime
from pipeline.runtime.separate_process import MEMORY
from pipeline.runtime.tried_files import try_once

CPU = "CPUExecutionProvider"

FREE_SIDE = 64
"""Pixels of an image whose size a graph leaves open, where it is tried."""

COPIES = 4
"""How often the numbers of a graph may lie in memory while it is tried."""


def opened(graph: Path, providers: Sequence[Any]) -> Any:
    """A session that gives the same bits in each run; operators from libraries beside ONNX Runtime are never loaded.

    Raises:
        Exception: ONNX Runtime has many, without a common class.
    """
    onnxruntime = onnx_runtime()
    options = onnxruntime.SessionOptions()
    # What could give other bits in the next run is fixed: the rewriting of the graph and the choice of algorithms.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.use_deterministic_compute = True
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # TensorFlow decodes meanwhile
    options.log_severity_level = 4  # what fails is raised
    session = onnxruntime.InferenceSession(graph, options, providers=providers, enable_fallback=0)
    _ = [end.shape for end in (*session.get_inputs(), *session.get_outputs())]  # fails if a name is no text
    return session


def refuse_harmful(graph: Path) -> None:
    """Tries a graph in a process of its own, once for each content: one that hangs or takes all memory ends there.

    Args:
        graph: the file, in a folder that holds its external data and nothing else.

    Raises:
        DamagedError: ONNX Runtime crashes.
        UnusableError: it takes too much time or memory.
    """
    files = sorted(graph.parent.iterdir())
    sha256 = fingerprint(**{file.name: sha256_file(file) for file in files})
    memory = MEMORY + COPIES * sum(file.stat().st_size for file in files)
    try:
        try_once(answer_one_image, graph, sha256=sha256, remedy="", memory=memory)
    except (DamagedError, UnusableError) as error:
        raise type(error)(str(error).replace(os.fspath(graph), "it").strip()) from None


def answer_one_image(graph: str) -> None:
    """Lets a graph answer one black image. What it cannot compute is told where it is opened again."""
    try:
        session = opened(Path(graph), [CPU])
        session.run(None, {taken.name: _black(taken) for taken in session.get_inputs()})
    except Exception as error:
        if LACKS_MEMORY.search(str(error)):
            raise MemoryError from None


def _black(taken: Any) -> Any:
    kinds = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64"}
    sides = [1, *[side if isinstance(side, int) else FREE_SIDE for side in taken.shape[1:]]]
    first = taken.shape[0] if taken.shape and isinstance(taken.shape[0], int) else 1
    return np.zeros([first, *sides[1:]], kinds.get(taken.type, "uint8"))
