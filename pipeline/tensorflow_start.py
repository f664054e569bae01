"""Loads TensorFlow without its chatter, and says in one line what it runs on.

What goes wrong still reaches the user: TensorFlow raises it as an exception.
"""

import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


def start_tensorflow() -> None:
    """Imports TensorFlow, finds its devices, and prints its version and device to stderr."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _native_stderr_held_back():
        import tensorflow as tf

        tf.get_logger().setLevel("ERROR")
        names = _device_names()
    print(f"TensorFlow {tf.__version__} on {', '.join(names)}", file=sys.stderr)


def numerics() -> list[str]:
    """What the last bits of a model's results depend on beside its inputs: libraries and devices."""
    import keras
    import tensorflow as tf

    return [keras.__version__, tf.__version__, platform.machine(), *_device_names()]


def _device_names() -> list[str]:
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    names = [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus]
    return names or ["CPU"]


@contextmanager
def _native_stderr_held_back() -> Iterator[None]:
    """Holds back what native code writes to stderr; shows it after all if the block raises."""
    sys.stderr.flush()
    real = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(real, held.read())
            raise
        finally:
            os.dup2(real, 2)
            os.close(real)
