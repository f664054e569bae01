"""What TensorFlow and JAX both compute, from the same files: a test's process on one, a child of it on the other.

The child refuses to import TensorFlow, as if it were not installed, and takes warnings for errors.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

STEPS, LEARNING_RATE = 6, 0.002
ROOT = Path(__file__).parents[1]
REFUSE = """
import sys

class RefuseTensorFlow:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "tensorflow":
            raise ModuleNotFoundError(f"{name} is refused", name=name)

sys.meta_path.insert(0, RefuseTensorFlow())
"""
# As in pyproject.toml: Keras turns variables into arrays in NumPy's old way.
WARNINGS = ["-Werror", "-Wignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"]


def run_on_jax(code: str, cwd: Path) -> str:
    """Runs Python code on Keras' JAX backend without TensorFlow, and returns what it printed to stdout."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, *WARNINGS, "-c", REFUSE + code],
        cwd=cwd,
        env=os.environ
        | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "PYTHONPATH": paths}
        | {"XLA_FLAGS": "--xla_backend_optimization_level=0"},  # compiling takes most of the time
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def train_from_file(
    model, targets, index, pixels, loss, trainable_from="all", inference_mode=False, learning_rate=LEARNING_RATE
):
    """Trains a model by plain `compile` and `fit` with SGD on the rows of a soft-label file, all images a step.

    Args:
        model: of `Description.build`.
        targets: the `soft_targets_T<T>.h5`.
        index: of its images.
        pixels: (V, N, height, width, channels), what stands for the rendered views.
        loss: of targets and logits.
        trainable_from: as in `architectures.for_phase`.
        inference_mode: as in `architectures.for_phase`.
        learning_rate: of SGD; where the loss rises, rounding errors rise with it.

    Returns:
        The loss of each step, and the weights at the end, by path.
    """
    import keras

    from pipeline.distillation.targets import HardAndSoftLabels
    from pipeline.models.architectures import for_phase
    from pipeline.soft_labels.reading import open_soft_targets

    images = index.split("train")
    rows = np.arange(len(images))
    student = for_phase(model, trainable_from, inference_mode)
    student.compile(keras.optimizers.SGD(learning_rate), loss, jit_compile=False)
    losses = []
    with open_soft_targets(targets) as file:
        labels = HardAndSoftLabels(file, "train", images, index.one_hot(images))
        for step in range(STEPS):
            view = labels.view(step)
            of_view = labels.targets(view, rows)
            losses += student.fit(pixels[view], of_view, batch_size=len(rows), verbose=0).history["loss"]
    return np.array(losses), {weight.path: keras.ops.convert_to_numpy(weight.value) for weight in student.weights}
