"""Stage `cifar10`: downloads CIFAR-10 by Krizhevsky (https://www.cs.toronto.edu/~kriz/cifar.html) with Keras."""

from pathlib import Path

import keras
import numpy as np

from pipeline.runtime.errors import MissingError
from pipeline.runtime.publish import publish


def run(*, data: Path) -> None:
    """Downloads the 50,000 training and 10,000 test images, and writes them under Keras' names.

    Args:
        data: the .npz file to write.

    Raises:
        MissingError: the download failed.
    """
    try:
        (x_train, y_train), (x_test, y_test) = keras.datasets.cifar10.load_data()
    except Exception as error:  # without a network, Keras raises no narrower class
        raise MissingError(
            f"CIFAR-10 cannot be downloaded: {error}. If you have it as an .npz file of x_train, y_train, x_test and "
            f"y_test, put that file in another place than {data}, which this stage writes, and set split.data to it."
        ) from None
    arrays = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
    with publish(data) as partial, partial.open("xb") as file:
        np.savez(file, **arrays)  # it writes no time of day, so that the same images give the same bytes
    print(f"wrote {len(x_train)} training and {len(x_test)} test images to {data}")
