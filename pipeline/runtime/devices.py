"""The devices on which this machine computes."""

import os
import platform
from contextlib import suppress


def numerics() -> list[str]:
    """Libraries and devices: besides the inputs, the last bits of a model's results depend on them."""
    # Imported here: a command without TensorFlow must not wait for its import.
    import keras
    import tensorflow as tf

    return [keras.__version__, tf.__version__, platform.machine(), *device_names()]


def processor() -> str:
    """The processor, without a look at GPUs: "2 CPU cores (x86_64)"."""
    return f"{os.cpu_count()} CPU cores ({platform.machine()})"


def device_names() -> list[str]:
    """The names of the GPUs, or "CPU"."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    names = [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus]
    return names or ["CPU"]


def hide_gpus() -> None:
    """Leaves the GPUs of this machine to other processes, unless this one computes on them already."""
    import tensorflow as tf

    with suppress(RuntimeError):  # it computes already
        tf.config.set_visible_devices([], "GPU")


def share_gpus() -> None:
    """Lets TensorFlow take GPU memory as it needs it; by default, it leaves none to others."""
    import tensorflow as tf

    with suppress(RuntimeError):  # it computes already, and has what it has
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
