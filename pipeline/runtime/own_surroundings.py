"""What libraries do beside their work: they report to their makers, and write into the folder of the user."""

import os
from pathlib import Path
from typing import Any


def keep_to_the_project() -> None:
    """Lets Matplotlib keep its list of fonts in `.work/`, unless the user has named a folder for it.

    By default, it lies in the folder of the user, as do settings there that would change the pictures.
    """
    os.environ.setdefault("MPLCONFIGDIR", os.path.abspath(Path(os.environ.get("DVC_ROOT", "."), ".work/matplotlib")))


def onnx_runtime() -> Any:
    """The package onnxruntime, which reports nothing.

    Its builds for Linux and macOS send what they run, with an identity of the machine that they keep
    in the folder of the user. Only this variable stops both, and only if it is set before the first import.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    return onnxruntime
