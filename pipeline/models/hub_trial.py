"""What keras_hub builds is built once in a process of its own before it is built here, and answers one image there.

Models of keras_hub make tables and loops as large as their settings say, beside weights that can be counted. So nobody
can tell from the settings what they take. A preset in a folder, and a `.keras` file with layers of keras_hub, may come
from others: each content must have been built in a process that may be ended (`tried_files`).
"""

import os
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.models import hub
from pipeline.models.given_weights import read_whole
from pipeline.models.keras_archive import refuse_layers
from pipeline.runtime.digests import fingerprint, sha256_file
from pipeline.runtime.errors import DamagedError, first_few, one_line
from pipeline.runtime.separate_process import MEMORY
from pipeline.runtime.text_files import read_json
from pipeline.runtime.tried_files import note_as_ours, try_once

KERAS_HUB = "keras_hub"
"""What stands in the configuration of every layer of keras_hub."""

START = 2 * MEMORY
"""Bytes of addresses for TensorFlow and keras_hub themselves, which take a third of it."""

COPIES = 10
"""Bytes of memory for each byte of weights: weights in half precision grow to float32, and are there several times."""

SECONDS = 60
"""Seconds of computing: five to ten for the start of TensorFlow and keras_hub, the rest for a large model."""

OF_WEIGHTS = (".h5", ".safetensors")
SHARDS = {"model.weights.json", "model.safetensors.index.json"}
"""Documents of a preset that name further files of weights."""

DOCUMENTS = SHARDS | {
    *("config.json", "image_converter.json", "metadata.json", "preprocessor.json", "preprocessor_config.json"),
    "task.json",
}
"""The documents of a preset that keras_hub reads."""

REMEDY = "Save it again, with `save_to_preset(FOLDER)`."


def refuse_costly(folder: Path) -> int:
    """Looks at the files of a preset.

    Args:
        folder: the preset.

    Returns:
        The most weights that its model may have: each takes at least a byte of the folder's files.

    Raises:
        DamagedError: a file is none, or a document cannot be read, is beyond a limit, or names what is not there.
        UnusableError: the layers would take too much memory or time.
    """
    files = [file for file in folder.rglob("*") if not file.is_dir()]
    if strange := sorted(str(file.relative_to(folder)) for file in files if not file.is_file()):
        raise DamagedError(
            f"the preset of keras_hub in {folder} has what is no file, but a pipe, a device or a broken link: "
            f"{first_few(strange)}. {REMEDY}"
        )
    for file in sorted(folder.glob("*.json")):
        if file.name in DOCUMENTS:
            _refuse_document(file)
    return sum(file.stat().st_size for file in files if file.suffix in OF_WEIGHTS)


def _refuse_document(file: Path) -> None:
    document = read_json(file, REMEDY)
    try:
        if not isinstance(document, dict):
            raise ValueError("it is no map")
        refuse_layers(document, file)
        if file.name in SHARDS:
            _refuse_elsewhere(document["weight_map"], file.parent)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise DamagedError(f"{file} is no document of keras_hub: {one_line(error)}. {REMEDY}") from None


def _refuse_elsewhere(weight_map: dict[str, str | list[str]], folder: Path) -> None:
    """Refuses names of files of weights that do not lie in the folder itself.

    Raises:
        ValueError: there is one.
    """
    for names in weight_map.values():
        for name in [names] if isinstance(names, str) else names:
            if Path(name).name != name or not (folder / name).is_file():
                raise ValueError(f"{one_line(repr(name))} is no file of weights in the folder")


def try_preset(preset: str, kind: str, *, with_weights: bool) -> None:
    """Lets a process of its own load a preset that lies in a folder, unless its content is known.

    Args:
        preset: the folder.
        kind: the class of `keras_hub.models` that loads it.
        with_weights: whether it gets the preset's weights.

    Raises:
        PipelineError: it cannot be loaded, or takes too much time or memory.
    """
    sizes = sum(file.stat().st_size for file in hub.files_of(preset) if file.suffix in OF_WEIGHTS)
    decides = {"content": hub.digest_of(preset), "keras_hub": hub.version(), "kind": kind, "weights": with_weights}
    try_once(
        load_preset,
        Path(preset),
        kind,
        with_weights,
        sha256=fingerprint(**decides),
        remedy=REMEDY,
        memory=START + COPIES * sizes,
        seconds=SECONDS,
    )


def load_preset(preset: str, kind: str, with_weights: bool) -> None:
    """What the process does for a preset: it loads it as it will be loaded, for one image.

    Raises:
        PipelineError: it cannot be loaded.
    """
    _use_little()
    from pipeline.models import hub_models

    if with_weights:
        for file in sorted(Path(preset).glob("*.h5")):
            read_whole(str(file))
    _answer(hub_models.loaded(preset, kind, with_weights=with_weights))


def try_file(path: Path, remedy: str) -> None:
    """As `try_preset`, for a `.keras` file.

    Args:
        path: the file.
        remedy: what to do if it cannot be loaded, as a sentence.

    Raises:
        PipelineError: it cannot be loaded, or takes too much time or memory.
    """
    memory = START + COPIES * path.stat().st_size
    try_once(load_file, path, remedy, sha256=sha256_file(path), remedy=remedy, memory=memory, seconds=SECONDS)


def note_file_as_ours(path: Path) -> None:
    """Notes that this program has written a `.keras` file, so that it need not be tried."""
    note_as_ours(load_file, sha256_file(path))


def load_file(path: str, remedy: str) -> None:
    """What the process does for a `.keras` file.

    Raises:
        PipelineError: it cannot be loaded.
    """
    _use_little()
    from pipeline.models import keras_files

    _answer(keras_files.load_untried(Path(path), remedy))


def _answer(model: Any) -> None:
    """Lets a model answer a black image, if it says for which size it was made."""
    shape = model.input_shape
    if isinstance(shape, tuple) and None not in shape[1:]:
        model(np.zeros((1, *shape[1:]), np.float32))


def _use_little() -> None:
    """Keeps TensorFlow to one thread and away from GPUs, which take more addresses than the process may have."""
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
