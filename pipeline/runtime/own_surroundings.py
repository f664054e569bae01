"""What libraries do beside their work: they report to their makers, and write outside of the project."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def keep_to_the_project() -> None:
    """Lets Matplotlib keep its list of fonts in `.work/`, unless the user has named a folder for it.

    By default, it lies in the folder of the user, as do settings there that would change the pictures.
    """
    os.environ.setdefault("MPLCONFIGDIR", os.path.abspath(Path(os.environ.get("DVC_ROOT", "."), ".work/matplotlib")))


@contextmanager
def own_temporary_folder() -> Iterator[None]:
    """Lets this process, and those that it starts, have their temporary files in a folder that goes with the block.

    Keras and TensorFlow leave files behind where a disk is full, and so does every process that is killed. Where no
    folder can be written, what needs one fails when it asks for it.

    Raises:
        OSError: the disk of temporary files is full.
    """
    before = tempfile.tempdir, os.environ.get("TMPDIR")
    if not _can_have_temporary_files():
        yield
        return
    with tempfile.TemporaryDirectory(prefix="softlabel-", ignore_cleanup_errors=True) as folder:
        tempfile.tempdir = os.environ["TMPDIR"] = folder
        try:
            yield
        finally:
            tempfile.tempdir = before[0]
            del os.environ["TMPDIR"]
            os.environ.update({} if before[1] is None else {"TMPDIR": before[1]})


def _can_have_temporary_files() -> bool:
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        return False
    return True


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
