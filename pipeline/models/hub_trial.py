"""What keras_hub builds is built once in a process of its own before it is built here, and answers one image there.

Models of keras_hub make tables and loops as large as their settings say, beside weights that can be counted. So nobody
can tell from the settings what they take. A preset in a folder, and a `.keras` file with layers of keras_hub, may come
from others: each content must have been built in a process that may be ended (`tried_files`).
"""

import json
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
import psutil

from pipeline.models import hub
from pipeline.models.given_weights import read_whole
from pipeline.models.json_members import CONFIG, member_if_any
from pipeline.models.keras_archive import refuse_layers
from pipeline.runtime.digests import fingerprint, sha256_file
from pipeline.runtime.errors import DamagedError, first_few, one_line
from pipeline.runtime.separate_process import MEMORY
from pipeline.runtime.text_files import read_json
from pipeline.runtime.tried_files import note_as_ours, try_once_in_a_project
from pipeline.runtime.workspace import work_folder

NAMES = ("keras_hub", "keras_nlp", "keras_cv")
"""The package and its earlier names, of which one stands in the configuration of each of its layers."""

START = 2 * MEMORY
"""Bytes of addresses for TensorFlow and keras_hub themselves, which take a third of it."""

COPIES = 10
"""Bytes of memory for each byte of weights: weights in half precision grow to float32, and are there several times."""

SECONDS = 60
"""Seconds of computing: five to ten for the start of TensorFlow and keras_hub, the rest for a large model."""

REMEDY = "Save it again, with `save_to_preset(FOLDER)`."


def refuse_costly(folder: Path) -> int:
    """Looks at the files of a preset that keras_hub reads.

    Args:
        folder: the preset.

    Returns:
        The bytes of its weights, and a model has no more weights than these; 0 where those of the backbone are missing.

    Raises:
        DamagedError: a file is none, or a document cannot be read, is beyond a limit, or names what is not there.
        UnusableError: the layers would take too much memory or time.
    """
    files = sorted(file for file in folder.iterdir() if hub.is_read(file.name))
    if strange := [file.name for file in files if not file.is_file()]:
        raise DamagedError(
            f"the preset of keras_hub in {folder} has what is no file, but a pipe, a device or a broken link: "
            f"{first_few(strange)}. {REMEDY}"
        )
    for file in files:
        if file.name in hub.DOCUMENTS:
            _refuse_document(file)
    sizes = {file.name: file.stat().st_size for file in files if file.name.endswith(hub.OF_WEIGHTS)}
    return sum(sizes.values()) if sizes.keys() - {hub.OF_THE_HEAD} else 0


def _refuse_document(file: Path) -> None:
    document = read_json(file, REMEDY)
    try:
        if not isinstance(document, dict):
            raise ValueError("it is no map")
        refuse_layers(document, file)
        if file.name in hub.SHARDS:
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
            if Path(name).name != name or not name.endswith(hub.OF_WEIGHTS) or not (folder / name).is_file():
                raise ValueError(f"{one_line(repr(name))} is no file of weights in the folder")


def try_preset(preset: str, built: str, *settings: Any) -> None:
    """Lets a process of its own build a preset that lies in a folder, unless its content is known.

    Args:
        preset: its name, address or folder; of the first two, nothing is tried.
        built: which function of `hub_models` builds it.
        *settings: its further arguments, JSON-serialisable.

    Raises:
        PipelineError: it cannot be built, or takes too much time or memory.
    """
    if (folder := hub.folder_of(preset)) is None:
        return
    size = refuse_costly(folder)
    key = _key(str(hub.digest_of(preset)), built, *settings)
    _try(build_preset, folder, built, *settings, key=key, size=size, remedy=REMEDY)


def build_preset(preset: str, built: str, *settings: Any) -> None:
    """What the process does for a preset.

    Raises:
        PipelineError: it cannot be built.
    """
    _use_little()
    from pipeline.models import hub_models

    read_weights(preset)
    _answer(getattr(hub_models, built)(preset, *settings))


def read_weights(preset: str) -> None:
    """Reads the HDF5 files of a preset in a folder.

    Raises:
        DamagedError: one cannot be read, or a part of it lies elsewhere.
    """
    for file in hub.files_of(preset):
        if file.suffix == ".h5":
            read_whole(str(file), REMEDY)


def is_of_hub(path: Path) -> bool:
    """Whether a `.keras` file has layers of keras_hub."""
    return any(name in json.dumps(member_if_any(path, CONFIG)) for name in NAMES)


def try_file(path: Path, remedy: str) -> None:
    """As `try_preset`, for a `.keras` file with layers of keras_hub; of another one, nothing is tried.

    Args:
        path: the file.
        remedy: what to do if it cannot be loaded, as a sentence.

    Raises:
        PipelineError: it cannot be loaded, or takes too much time or memory.
    """
    if is_of_hub(path):
        _try(load_file, path, remedy, key=_key(sha256_file(path)), size=path.stat().st_size, remedy=remedy)


def note_as_written_here(path: Path) -> None:
    """Notes that this program has written a `.keras` file, so that it need not be tried."""
    if work_folder().is_dir() and is_of_hub(path):
        note_as_ours(load_file, _key(sha256_file(path)))


def load_file(path: str, remedy: str) -> None:
    """What the process does for a `.keras` file.

    Raises:
        PipelineError: it cannot be loaded.
    """
    _use_little()
    from pipeline.models import keras_files

    _answer(keras_files.load_untried(Path(path), remedy))


def _try(reader: Any, path: Path, *settings: Any, key: str, size: int, remedy: str) -> None:
    memory = START + min(COPIES * size, psutil.virtual_memory().total)
    limits = {"memory": memory, "seconds": SECONDS, "size": size}
    try_once_in_a_project(reader, path, *settings, sha256=key, remedy=remedy, **limits)


def _key(content: str, *settings: Any) -> str:
    """What decides how something is built."""
    versions = [keras.__version__, hub.version() if hub.is_installed() else None]
    return fingerprint(content=content, settings=[*settings], versions=versions)


def _answer(model: Any) -> None:
    """Lets a model answer a black image, if it says for which size it was made."""
    shape = getattr(model, "input_shape", None)
    if isinstance(shape, tuple) and None not in shape[1:]:
        model(np.zeros((1, *shape[1:]), np.float32))


def _use_little() -> None:
    """Keeps TensorFlow to one thread and away from GPUs, which take more addresses than the process may have."""
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
