"""CIFAR-10 by Krizhevsky (https://www.cs.toronto.edu/~kriz/cifar.html), as Keras downloads it."""

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
    except Exception as error:  # Keras raises no narrower class where there is no network
        raise MissingError(
            f"CIFAR-10 cannot be downloaded: {error}. If you have it as an .npz file of x_train, y_train, x_test and "
            f"y_test, put that in another place than {data}, and name it in split.data."
        ) from None
    arrays = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
    with publish(data) as partial, partial.open("xb") as file:
        np.savez(file, **arrays)  # uncompressed, with no time in it: the same images give the same bytes
    print(f"wrote {len(x_train)} training and {len(x_test)} test images to {data}")
