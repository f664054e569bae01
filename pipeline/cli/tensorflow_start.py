"""Loads TensorFlow without its start-up messages, and prints one line with its version and device.

If the start fails, the messages are shown, even if TensorFlow ends the process: see `_native_stderr_held_back`.
"""

import faulthandler
import gc
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.runtime.devices import device_names
from pipeline.runtime.publish import refuse_full_disk

WATCHER = """
import os
verdict = os.read(0, 1)
if verdict != b"k":
    said, start = os.pread(1, 65536, 0), 0
    while said:
        start += os.write(2, said)
        said = os.pread(1, 65536, start)
if not verdict:
    os.write(2, b"The process ended while TensorFlow was loading; all that it printed stands above. If that says "
        b"nothing, the system may have killed it for want of memory.\\n")
"""
"""The program of the watcher. It reads a verdict from descriptor 0: k keeps back what descriptor 1 holds, s shows it.
If the process died, there is no verdict, and the watcher shows it too."""


NOT_NEEDED_BY_KERAS = ("sklearn", "matplotlib")
"""Keras imports these, where they are installed, for wrappers and galleries that nothing here uses. Without them
TensorFlow loads in three quarters of the time."""


TEMPORARY_BYTES = 2**20
"""How much room TensorFlow is given for the functions that it writes as temporary files. Where it cannot write them, it
computes others, and fails with an error that nobody understands."""


def start_tensorflow(threads: int | None = None) -> None:
    """Imports TensorFlow, finds its devices, and prints its version and device to stderr.

    Args:
        threads: how many threads compute one operation; None: one for each core.

    Raises:
        OSError: the disk of temporary files is full.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    refuse_full_disk(Path(tempfile.gettempdir(), "temporary files"), TEMPORARY_BYTES)
    with _native_stderr_held_back(), _hidden(NOT_NEEDED_BY_KERAS), _not_collected():
        import tensorflow as tf

        if threads is not None:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.get_logger().setLevel("ERROR")
        names = device_names()
    print(f"TensorFlow {tf.__version__} on {', '.join(names)}", file=sys.stderr, flush=True)


@contextmanager
def _hidden(packages: Iterable[str]) -> Iterator[None]:
    """Lets an import of these packages fail, as if they were not installed; those that are loaded stay visible."""
    hidden = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None is what makes an import fail
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextmanager
def _not_collected() -> Iterator[None]:
    """Keeps the garbage collector off what is imported, now and later: it lives as long as the process."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def _native_stderr_held_back() -> Iterator[None]:
    """Holds back what is written to descriptor 2, also by native code, and shows it if the block fails.

    A process that dies by a signal, `abort` or `_exit` can show nothing any more. So a second process, the watcher,
    holds the file with the messages. Its pipe closes when this process ends, whatever ended it; if it has heard no
    verdict by then, it shows the messages. They include where Python was when a signal came (`faulthandler`).
    """
    sys.stderr.flush()
    real = os.dup(2)
    if not faulthandler.is_enabled():
        faulthandler.enable(2)
    verdict = b"s"
    with tempfile.TemporaryFile() as held, _watcher(held.fileno()) as watcher:
        os.dup2(held.fileno(), 2)
        try:
            yield
            verdict = b"k"
        except KeyboardInterrupt:
            verdict = b"k"
            raise
        finally:
            sys.stderr.flush()
            os.dup2(real, 2)
            os.close(real)
            watcher.communicate(verdict)


def _watcher(held: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-I", "-S", "-c", WATCHER]
    # In a session of its own, so that Ctrl-C and other signals of the terminal do not end it too early.
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=held, start_new_session=True)
