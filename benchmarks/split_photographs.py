"""The stage `split` on photographs, compared with a plain copy of the files and one parallel decode of each.

    python -m benchmarks.split_photographs [--quick] [--folder FOLDER]

As `benchmarks.split`, for photograph-like JPEG files of 224x224 pixels. Takes a minute; `--quick` a quarter of it.
"""

import tensorflow as tf

from benchmarks.made_data import write_images
from benchmarks.split import CLASSES, RAW, compare

COUNTS = {False: [2_000], True: [200]}


def write_photographs(count: int) -> None:
    """JPEG files of 224x224 pixels in the folders of ten classes."""
    for number in range(CLASSES):
        for file in write_images(RAW / f"class {number}", count // CLASSES, (224, 224, 3)):
            pixels = tf.io.decode_png(file.read_bytes())
            file.with_suffix(".jpg").write_bytes(tf.io.encode_jpeg(pixels, quality=90).numpy())
            file.unlink()


def main() -> None:
    """One size: a photograph costs what its pixels cost, however many there are."""
    compare("split_photographs", __doc__, "JPEG, 224 px", write_photographs, COUNTS)


if __name__ == "__main__":
    main()
