"""What this machine computes on."""

import platform


def numerics() -> list[str]:
    """What the last bits of a model's results depend on beside its inputs: libraries and devices."""
    import keras
    import tensorflow as tf

    return [keras.__version__, tf.__version__, platform.machine(), *device_names()]


def device_names() -> list[str]:
    """The GPUs by name, or the CPU."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    names = [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus]
    return names or ["CPU"]
