"""Compares three ways to decode the images of a folder.

    python -m benchmarks.decoders FOLDER HEIGHT WIDTH CHANNELS

"ours" is what the stages do: TensorFlow's kernels where they give Pillow's pixels, Pillow for everything else. "Pillow"
decodes everything with Pillow. "before" is TensorFlow's `decode_image`, whose JPEG pixels are not Pillow's. Each goes
over all files in parallel (`decoded`, as the teacher's pass and the first epoch do) and in batches of 32 (`rows`, as
an epoch does if decoded pixels are not kept). Processor time is measured, because other work on the machine changes it
little. docs/decisions.md has numbers. Half a minute for a thousand images.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import tensorflow as tf

from benchmarks.paired import ratios, spread
from pipeline.images import decoding
from pipeline.images.decoded_images import DecodedImages
from pipeline.images.tf_data import mapped, prefetched

BATCH, ROUNDS = 32, 9
OURS = decoding._decoded


def as_before(content: Any) -> Any:
    """Decodes PNG, JPEG, BMP and GIF."""
    image = tf.io.decode_image(content, channels=3, expand_animations=False)
    image.set_shape((None, None, 3))
    return image


def seconds_of_a_pass(decoded: Callable[[Any], Any], images: DecodedImages, in_batches: bool) -> float:
    """The processor seconds, of all threads, of one pass over all images."""
    start = time.process_time()
    with patch.object(decoding, "_decoded", decoded):
        if in_batches:
            flow = prefetched(mapped(tf.data.Dataset.range(len(images)).batch(BATCH), images.rows))
        else:
            flow = images.decoded()
        for _ in flow:
            pass
    return time.process_time() - start


def main() -> None:
    """Prints a line for each decoder and each way."""
    folder, *shape = sys.argv[1:]
    files = sorted(path for path in Path(folder).iterdir() if path.is_file())
    tf.config.experimental.enable_op_determinism()  # as the stages do
    images = DecodedImages(files, tuple(map(int, shape)), keep=False)
    decoders = {"before": as_before, "ours": OURS, "Pillow": decoding._by_pillow}
    for way in ("decoded", "rows"):
        seconds: dict[str, list[float]] = {name: [] for name in decoders}
        for number in range(ROUNDS):
            for name in np.random.default_rng(number).permutation(list(decoders)):
                seconds[name].append(seconds_of_a_pass(decoders[name], images, way == "rows"))
        for name, (_, *taken) in seconds.items():  # the first round warms up
            ratio = spread(ratios(taken, seconds["before"][1:]))
            print(f"{way:<8} {name:<7} {spread([1e3 * s / len(files) for s in taken])} ms an image, {ratio} of before")


if __name__ == "__main__":
    main()
