"""The image classifiers of `keras.applications`, as the installed package lists them.

Their names are read from the package's files: that takes a few milliseconds, an import of Keras two seconds.
"""

import ast
import importlib
import os
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from pipeline.models.parts import Preprocessing, PreprocessingName, Standardization
from pipeline.runtime.errors import ParameterError

IMAGENET = Standardization([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
"""Mean and standard deviation of the channels of ImageNet; Keras calls this preprocessing "torch"."""


Part = Literal["whole", "backbone"]
"""What a file of weights holds: the model with its 1,000 classes of ImageNet, or the model without its head."""


@dataclass(frozen=True)
class KerasApplication:
    """An image classifier of `keras.applications`.

    Attributes:
        module: the name of its module there, which has the preprocessing of its weights, too.
        function: the name of the function that builds it.
    """

    module: str
    function: str

    @property
    def constructor(self) -> Any:
        """The function that builds it."""
        return getattr(importlib.import_module("keras.applications"), self.function)

    @cached_property
    def has_width(self) -> bool:
        """Whether the function takes `alpha`, the width of the network, as those of MobileNet do."""
        source = ast.parse((_folder().parent / f"src/applications/{self.module}.py").read_text(encoding="utf-8"))
        functions = {node.name: node.args for node in source.body if isinstance(node, ast.FunctionDef)}
        arguments = functions[self.function]
        return any(argument.arg == "alpha" for argument in (*arguments.args, *arguments.kwonlyargs))

    def preprocessing(self) -> Preprocessing:
        """What its ImageNet weights expect, found by comparison with the `preprocess_input` of its module.

        Raises:
            ParameterError: it is none that this program has.
        """
        from pipeline.models.architectures import preprocessing_layers

        pixels = np.array([[[[0, 0, 0], [255, 128, 64], [3, 90, 200]]]], np.float32)
        module = importlib.import_module(f"keras.applications.{self.module}")
        expected = np.asarray(module.preprocess_input(pixels.copy()))
        kinds: tuple[Preprocessing, ...] = (*get_args(PreprocessingName), IMAGENET)
        for kind in kinds:
            preprocessed: Any = pixels
            for layer in preprocessing_layers(kind):
                preprocessed = layer(preprocessed)
            if np.allclose(preprocessed, expected, rtol=0, atol=1e-3):
                return kind
        raise ParameterError(
            f"keras.applications.{self.module} preprocesses pixels in a way that this program does not have. "
            "Set `preprocessing` of the model in params.yaml to what its weights expect."
        )


@cache
def applications() -> dict[str, KerasApplication]:
    """All of them, by the name of their function in small letters."""
    by_name = {}
    for node in ast.parse((_folder() / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("keras.src.applications."):
            for imported in node.names:
                module = str(node.module).rsplit(".", 1)[-1]
                by_name[imported.name.lower()] = KerasApplication(module, imported.name)
    return by_name


def weights_folder() -> Path:
    """Where Keras keeps the weights that it downloads: in the home of Keras, or in /tmp if that is not writable."""
    home = os.path.expanduser(os.environ.get("KERAS_HOME", "~/.keras"))
    writable = home if os.path.exists(home) else os.path.dirname(home)  # Keras makes the folder
    return Path(home if os.access(writable, os.W_OK) else "/tmp/.keras") / "models"  # noqa: S108  # as Keras does


def weights_in(folder: Path) -> dict[str, set[Part]]:
    """Which architectures have a file of ImageNet weights in Keras' folder, and of which part.

    Keras' names of these files follow no rule but this: without marks, they contain the architecture's name, and those
    of a backbone "notop".
    """
    parts: dict[str, set[Part]] = {}
    for file in folder.glob("*.h5"):
        plain = "".join(filter(str.isalnum, file.name.lower()))
        if named := max((name for name in applications() if name in plain), key=len, default=None):
            parts.setdefault(named, set()).add("backbone" if "notop" in plain else "whole")
    return parts


def _folder() -> Path:
    """The folder of `keras.applications`."""
    package = find_spec("keras")
    if package is None or not package.submodule_search_locations:
        raise ImportError("Keras is not installed. Install this program's dependencies again.")
    return Path(package.submodule_search_locations[0]) / "applications"
