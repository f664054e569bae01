"""The devices on which this machine computes."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar

_NUMBER: ContextVar[int] = ContextVar("device_number", default=0)


def accelerators() -> list[str]:
    """TensorFlow's names of the GPUs that this process sees, as `tf.device` takes them; empty without a GPU.

    All code that uses several devices takes them from here.
    """
    # Imported here: a command without TensorFlow must not wait for its import.
    import tensorflow as tf

    return [device.name for device in tf.config.list_logical_devices("GPU")]


@contextmanager
def traced_for(number: int) -> Iterator[None]:
    """Tells layers that compute outside of TensorFlow for which of `accelerators` their function is traced."""
    token = _NUMBER.set(number)
    try:
        yield
    finally:
        _NUMBER.reset(token)


def device_number() -> int:
    """The place among `accelerators` for which a function is traced now; 0 if nothing says it."""
    return _NUMBER.get()


def numerics() -> list[str]:
    """Libraries and device: besides the inputs, the last bits of a model's results depend on them.

    Of several GPUs the first is named: the others compute what it computes, bit for bit, or are not used.
    """
    import keras
    import tensorflow as tf

    return [keras.__version__, tf.__version__, platform.machine(), device_names()[0]]


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
