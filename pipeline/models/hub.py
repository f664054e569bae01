"""keras_hub as far as names go: where a preset lies, which there are, and what went wrong while one was loaded.

keras_hub is an extra of this package. It is imported only where a preset is built or listed.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline.runtime.digests import fingerprint, sha256_file
from pipeline.runtime.errors import (
    DamagedError,
    MissingError,
    ParameterError,
    PipelineError,
    UnusableError,
    is_of_memory,
    nearest,
    one_line,
)
from pipeline.runtime.extras import how_to_install

HUB = "keras_hub:"
"""What stands before a preset of keras_hub."""

OF_WEIGHTS = (".weights.h5", ".safetensors")
"""How the names of a preset's files of weights end."""

OF_THE_HEAD = "task.weights.h5"
"""The file with the weights of a classifier's head alone."""

SHARDS = {"model.weights.json", "model.safetensors.index.json"}
"""Documents of a preset that name further files of weights."""

DOCUMENTS = SHARDS | {
    *("config.json", "image_converter.json", "metadata.json", "preprocessor.json", "preprocessor_config.json"),
    "task.json",
}
"""The documents that keras_hub reads of a preset for images, its own or one of timm or Hugging Face."""

INSTALL = how_to_install("hub")


@dataclass(frozen=True)
class Preset:
    """A preset that keras_hub knows by name.

    Attributes:
        name: its name.
        parameters: the number of the backbone's weights.
        is_here: whether its weights are on this machine.
    """

    name: str
    parameters: int
    is_here: bool


def is_installed() -> bool:
    """Whether keras_hub is installed; it is not imported."""
    return find_spec("keras_hub") is not None


def keras_hub() -> Any:
    """The package keras_hub.

    Raises:
        MissingError: it is not installed.
    """
    if not is_installed():
        raise MissingError(f"models of keras_hub need that package, which is not installed: {INSTALL}")
    import keras_hub

    return keras_hub


def version() -> str:
    """The version of keras_hub, which decides what the name of a preset means."""
    return str(keras_hub().__version__)


def presets() -> list[Preset]:
    """The presets of image classifiers that the installed keras_hub knows by name, in the order of the alphabet."""
    cache = Path(os.environ.get("KAGGLEHUB_CACHE") or Path.home() / ".cache" / "kagglehub")
    return [
        Preset(name, about["metadata"]["params"], _is_in(cache, about["kaggle_handle"]))
        for name, about in sorted(keras_hub().models.ImageClassifier.presets.items())
    ]


def _is_in(cache: Path, handle: str) -> bool:
    folder = cache / "models" / handle.removeprefix("kaggle://")
    return (folder / "config.json").is_file() and any(folder.glob("model*.weights.h5"))


def folder_of(preset: str) -> Path | None:
    """The folder of a preset; None if it is a name or an address. A folder goes before a preset of the same name."""
    return Path(preset) if "://" not in preset and Path(preset).is_dir() else None


def files_of(preset: str) -> list[Path]:
    """The files in a preset's folder that keras_hub reads, sorted by name; none for a name or an address."""
    folder = folder_of(preset)
    return [] if folder is None else sorted(file for file in folder.iterdir() if is_read(file.name) and file.is_file())


def is_read(name: str) -> bool:
    """Whether keras_hub reads a file of this name in a preset's folder, where it makes a model for images."""
    return name in DOCUMENTS or name.endswith(OF_WEIGHTS)


def digest_of(preset: str) -> str | None:
    """SHA-256 over the names and bytes of `files_of` a preset; None for a name or an address."""
    if folder_of(preset) is None:
        return None
    return fingerprint(**{file.name: sha256_file(file) for file in files_of(preset)})


def model_name(preset: str) -> str:
    """A name for a Keras model, without the path: the last part of the preset that is not a version."""
    parts = [part for part in re.split(r"[/\\]+", preset) if not re.fullmatch(r"[\d.]*", part)]
    return re.sub(r"[^\w.-]", "_", parts[-1]) if parts else "keras_hub"


def place_of(preset: str) -> str:
    """A preset as keras_hub takes it: a folder by its whole path, which is no preset's name.

    Raises:
        MissingError: there is neither a preset nor a folder of that name.
    """
    if (folder := folder_of(preset)) is not None:
        return os.path.abspath(folder)
    if "://" not in preset and preset not in keras_hub().models.Backbone.presets:
        near = nearest(preset, keras_hub().models.ImageClassifier.presets)
        raise MissingError(
            f"keras_hub has no preset {preset!r}, and there is no folder of that name. `softlabel models keras_hub` "
            "lists the presets; a folder is one that `save_to_preset` wrote."
            + (f" Did you mean {near!r}?" if near else "")
        )
    return preset


@contextmanager
def errors_of(preset: str, without_converter: PipelineError | None = None) -> Iterator[None]:
    """Turns what keras_hub raises while it loads a preset into errors that say what to do.

    Args:
        preset: the preset.
        without_converter: the error where it has neither a classifier nor an image converter.
    """
    try:
        yield
    except (DamagedError, MissingError, ParameterError, UnusableError):
        raise
    except Exception as error:  # each place from which it downloads has errors of its own
        if is_of_memory(error):
            raise
        text = str(error)
        if without_converter and isinstance(error, FileNotFoundError) and "image_converter.json" in text:
            raise without_converter from None
        if isinstance(error, TypeError) and "missing 1 required positional argument: 'num_classes'" in text:
            raise no_head(preset) from None
        if (folder := folder_of(preset)) is not None:
            raise DamagedError(
                f"the preset of keras_hub in the folder {folder} cannot be loaded: {one_line(text).rstrip('.')}. "
                "Save it again, with `save_to_preset(FOLDER)`."
            ) from None
        raise MissingError(
            f"the preset {preset} of keras_hub cannot be loaded: {one_line(text).rstrip('.')}. Presets are downloaded "
            "when they are first used. Without a network, name a folder that `save_to_preset` wrote: keras_hub:FOLDER. "
            "`softlabel models keras_hub` lists the presets, and which of them are on this machine."
        ) from None


def no_head(preset: str) -> UnusableError:
    """The error of a preset that has no classifier."""
    return UnusableError(
        f"keras_hub:{preset} is a backbone without a classifier. To train one on it, describe the model: "
        f"train_teacher.model: {{architecture: 'keras_hub:{preset}', weights: own, …}}."
    )
