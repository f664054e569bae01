"""An ONNX graph as a layer of Keras: ONNX Runtime computes it, and a `.keras` file carries it."""

import importlib.util
import mmap
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt

from pipeline.models.onnx_session import CPU, opened, refuse_harmful, without_prefix
from pipeline.runtime.devices import device_names, device_number, share_gpus
from pipeline.runtime.errors import DamagedError, MissingError, UnusableError
from pipeline.runtime.extras import how_to_install
from pipeline.runtime.own_surroundings import onnx_runtime

GRAPH = "graph.onnx"
"""The name of the graph among the layer's files; the others hold its external data."""

Layout = Literal["NCHW", "NHWC"]
Dtype = Literal["float16", "float32", "float64", "uint8"]
CUDA = "CUDAExecutionProvider"
FIRST_SAFE = (1, 24)
"""The first version of ONNX Runtime that refuses external data outside of a graph's folder."""

Pixels = npt.NDArray[np.float32]


def refuse_without(*packages: str) -> None:
    """Checks that packages of the extra `onnx` are installed.

    Raises:
        MissingError: one of them is not.
    """
    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        raise MissingError(
            f"a teacher in ONNX needs the package {' and '.join(missing)}, which is not installed: "
            f"{how_to_install('onnx')}."
        )


REGISTERED_NAME = "softlabel>OnnxGraph"
"""What a `.keras` file calls the layer."""


@keras.saving.register_keras_serializable("softlabel")
class OnnxGraph(keras.layers.Layer):
    """Maps (B, height, width, channels) pixels to the (B, C) outputs of an ONNX graph, both float32.

    The layer has no weights of Keras'; no gradient flows through it. It computes after `load_assets`, which Keras calls
    when it loads a `.keras` file.

    Args:
        graph_input: the name of the graph's input.
        graph_dtype: the type of that input. Pixels are rounded to whole numbers, 0 to 255, for uint8.
        layout: the order of its axes.
        batch_size: the number of images that the graph takes, no more and no less; None: any number.
        outputs: C.
        graph_parameters: how many floating-point numbers the graph holds.
    """

    def __init__(
        self,
        *,
        graph_input: str,
        graph_dtype: Dtype,
        layout: Layout,
        batch_size: int | None,
        outputs: int,
        graph_parameters: int,
        **keras_options: Any,
    ) -> None:
        super().__init__(**{"dtype": "float32", "trainable": False} | keras_options)
        self.graph_input, self.graph_dtype, self.layout = graph_input, graph_dtype, layout
        self.batch_size, self.outputs, self.graph_parameters = batch_size, outputs, graph_parameters
        self.session: Any = None
        self.fault = "it was built from its description"
        self._files: _Files | None = None

    def get_config(self) -> dict[str, Any]:
        """The arguments, and those of every layer."""
        config: dict[str, Any] = super().get_config()
        names = ("graph_input", "graph_dtype", "layout", "batch_size", "outputs", "graph_parameters")
        return config | {name: getattr(self, name) for name in names}

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, int]:
        """(B, C)."""
        return input_shape[0], self.outputs

    def attach(self, session: Any, folder: Path) -> None:
        """Gives the layer its graph: a session of ONNX Runtime, and the folder of its files, which may be removed."""
        self.session, self._files = session, _Files(folder)

    def load_assets(self, folder: str) -> None:
        """As `attach`, for a folder with the graph; if that cannot be computed, `fault` says why."""
        session, self.fault = session_of(Path(folder, GRAPH))
        self.attach(session, Path(folder))

    def save_assets(self, folder: str) -> None:
        """Writes the graph and its external data to a folder."""
        if self._files is not None:
            self._files.write(Path(folder))

    def call(self, pixels: Any) -> Any:
        """The graph's outputs."""
        import tensorflow as tf

        if self.session is None:
            raise UnusableError(f"the layer {self.name!r} has no graph: {self.fault}. Load its `.keras` file.")
        run = partial(self.run, session=self._session_on(device_number()))
        outputs = tf.numpy_function(run, [pixels], tf.float32)
        return tf.ensure_shape(outputs, (pixels.shape[0], self.outputs))

    def _session_on(self, device: int) -> Any:
        """The layer's own session, or on another GPU than the first a new one there.

        Raises:
            UnusableError: that GPU cannot take the graph.
        """
        if device == 0 or self._files is None or CUDA not in self.session.get_providers():
            return self.session
        with tempfile.TemporaryDirectory() as folder:
            self._files.write(Path(folder))
            session, fault = session_of(Path(folder, GRAPH), device)
        if session is None:
            raise UnusableError(f"GPU {device} cannot take the graph of {self.name!r}: {fault}. Hide it from this run.")
        return session

    def run(self, pixels: Pixels, session: Any = None) -> npt.NDArray[np.float32]:
        """The outputs for an array of pixels; the last of several fixed batches is filled up with its last image.

        Args:
            pixels: (B, height, width, channels).
            session: what computes them; None: the layer's own session.
        """
        session = self.session if session is None else session
        values = pixels.transpose(0, 3, 1, 2) if self.layout == "NCHW" else pixels
        values = (np.rint(values).clip(0, 255) if self.graph_dtype == "uint8" else values).astype(self.graph_dtype)
        size = self.batch_size or len(values)
        blocks = []
        for start in range(0, len(values), size):
            block = values[start : start + size]
            filled = np.concatenate([block, *[block[-1:]] * (size - len(block))])
            (outputs,) = session.run(None, {self.graph_input: filled})
            blocks.append(outputs[: len(block)])
        return np.concatenate(blocks).astype(np.float32)


class _Files:
    """The content of a folder's files, mapped to memory: it can be read after they are removed, and takes no copy."""

    def __init__(self, folder: Path) -> None:
        self.content: dict[str, mmap.mmap | bytes] = {}
        for path in sorted(folder.iterdir()):
            with path.open("rb") as file:  # an empty file cannot be mapped
                is_empty = path.stat().st_size == 0
                self.content[path.name] = b"" if is_empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def write(self, folder: Path) -> None:
        for name, content in self.content.items():
            (folder / name).write_bytes(content)


def session_of(graph: Path, device: int = 0) -> tuple[Any, str]:
    """Opens an ONNX file; operators from libraries beside ONNX Runtime are never loaded.

    Args:
        graph: the file.
        device: the number of the GPU that computes it, if there is one.

    Returns:
        ONNX Runtime's session, or None; and why it cannot compute the graph, the rest of a sentence.
    """
    onnxruntime = onnx_runtime()

    runtime = f"ONNX Runtime {onnxruntime.__version__}"
    if tuple(map(int, onnxruntime.__version__.split(".")[:2])) < FIRST_SAFE:
        return None, f"{runtime} is too old: it may read files outside of a graph's folder; expected 1.24 or later"
    providers = _providers(onnxruntime.get_available_providers(), device)
    try:
        refuse_harmful(graph)
        session = opened(graph, providers)
    except (DamagedError, UnusableError) as error:
        return None, f"{runtime} cannot compute it: {error}"
    except Exception as error:  # it has many, without a common class
        return None, f"{runtime} cannot compute it: {without_prefix(error)}"
    if len(providers) > 1 and CUDA not in session.get_providers():
        print("warning: ONNX Runtime lacks a library of CUDA, and computes on the CPU", file=sys.stderr)
    return session, ""


def _providers(available: Sequence[str], device: int = 0) -> list[Any]:
    """CUDA on one GPU if ONNX Runtime has it and there is a GPU, and the CPU for what CUDA lacks."""
    if CUDA not in available or device_names() == ["CPU"]:
        return [CPU]
    share_gpus()
    # By default, ONNX Runtime takes the algorithm that was fastest in this process, which another one rounds otherwise.
    of_cuda = {"cudnn_conv_algo_search": "HEURISTIC"} | ({"device_id": str(device)} if device else {})
    return [(CUDA, of_cuda), CPU]


def graphs_in(model: Any) -> list[OnnxGraph]:
    """The ONNX graphs among all layers of a Keras model."""
    return [layer for layer in model._flatten_layers() if isinstance(layer, OnnxGraph)]


def runtimes(model: Any) -> list[str]:
    """What computes the ONNX graphs of a Keras model, with its version: the last bits of the outputs depend on it."""
    if model is None or not graphs_in(model):
        return []
    onnxruntime = onnx_runtime()

    return [f"onnxruntime {onnxruntime.__version__} {name}" for name in onnxruntime.get_available_providers()]
