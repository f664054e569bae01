"""A program: the logits of images in several orders and batch sizes, which must not differ in a single bit.

`test_processors` runs it with other instruction sets and numbers of threads, which a process takes once and for all.
Prints how many pairs of a model and a batch size it tried, those at which an image's logits were not its own although
they should have been, those at which nothing is promised, and the logits. Its argument is the number of threads, 0 for
TensorFlow's own choice.
"""

import json
import sys

import numpy as np

from pipeline.cli.tensorflow_start import start_tensorflow

start_tensorflow()

import tensorflow as tf  # noqa: E402

from pipeline.inference.forward import Forward  # noqa: E402
from pipeline.models.descriptions import Application, Cnn, Mlp  # noqa: E402

HEAD = {"weights": None, "batch_normalization": False, "dropout": 0.0}
MODELS = {
    "cnn": Cnn(**HEAD, input_shape=(16, 16, 3), pooling="flatten", downsampling="stride", filters=[8, 64]),
    "mlp": Mlp(**HEAD, input_shape=(16, 16, 3), pooling="flatten", hidden_units=[33]),
    "mobilenetv2": Application(**HEAD, architecture="mobilenetv2", input_shape=(32, 32, 3), alpha=0.35, pooling="avg"),
}
BATCH_SIZES = {"cnn": (1, 5, 7, 13, 32), "mlp": (1, 5, 7, 13, 32), "mobilenetv2": (7, 32)}
IMAGES = 40


def logits_of(forward: Forward, pixels: np.ndarray) -> np.ndarray:
    batches = tf.data.Dataset.from_tensor_slices(pixels).batch(len(forward.places))
    return np.concatenate(list(forward(batches)))


def main(threads: int) -> None:
    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    random = np.random.default_rng(2)
    not_their_own, unsteady, logits = [], [], {}
    for name, model in MODELS.items():
        pixels = random.uniform(0, 255, (IMAGES, *model.input_shape)).astype(np.float32)
        built = model.build(classes=5, seed=1)
        for batch_size in BATCH_SIZES[name]:
            forward = Forward(built, batch_size)
            whole = logits_of(forward, pixels)
            orders = [random.permutation(IMAGES)[:count] for count in (1, 3, 17, IMAGES)]
            if not forward.is_steady:
                unsteady.append([name, batch_size])
            elif any((logits_of(forward, pixels[order]) != whole[order]).any() for order in orders):
                not_their_own.append([name, batch_size])
        logits[name] = whole.tolist()
    tried = sum(map(len, BATCH_SIZES.values()))
    print(json.dumps({"tried": tried, "not their own": not_their_own, "unsteady": unsteady, "logits": logits}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
