"""A program: forward passes and trainings on three virtual CPU devices in the place of GPUs, and on one.

`test_several_devices` runs it, as a process takes its devices once and for all. Prints what came out as JSON; messages
go to stderr.
"""

import json
import os
import re
import sys
import tempfile
from contextlib import redirect_stderr, suppress
from dataclasses import replace
from functools import cache, partial
from io import StringIO
from pathlib import Path

import numpy as np
from conftest import write_data_set

from pipeline.cli.tensorflow_start import start_tensorflow

start_tensorflow()

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 3
)

from pipeline.distillation.loss import DistillationLoss  # noqa: E402
from pipeline.images.augmentation import Augmentation  # noqa: E402
from pipeline.images.decoded_images import DecodedImages  # noqa: E402
from pipeline.images.index import Image, Index  # noqa: E402
from pipeline.inference import forward as forward_module  # noqa: E402
from pipeline.inference.forward import Forward  # noqa: E402
from pipeline.models import keras_files  # noqa: E402
from pipeline.models.descriptions import Cnn, Mlp, OwnNetwork  # noqa: E402
from pipeline.models.ensembles import combined  # noqa: E402
from pipeline.runtime.digests import sha256_file  # noqa: E402
from pipeline.training import replicas as replicas_module  # noqa: E402
from pipeline.training.callbacks import Reseed  # noqa: E402
from pipeline.training.fit import train, trained  # noqa: E402
from pipeline.training.hard_loss import HardLoss  # noqa: E402
from pipeline.training.input_pipeline import Examples, HardLabels  # noqa: E402
from pipeline.training.recipe import Phase, Recipe  # noqa: E402
from pipeline.training.replicas import Replicas  # noqa: E402
from pipeline.training.state import TrainingState  # noqa: E402

DEVICES = [f"/device:CPU:{number}" for number in range(3)]
SIZE = (12, 12, 3)
HEAD = {"input_shape": SIZE, "weights": None, "pooling": "flatten"}
WITHOUT_CHANCE = Cnn(**HEAD, filters=[4], downsampling="stride", batch_normalization=False, dropout=0.0)
WITH_CHANCE = replace(WITHOUT_CHANCE, batch_normalization=True, dropout=0.3)
DENSE = Mlp(**HEAD, hidden_units=[9], batch_normalization=True, dropout=0.3)
NONE, SHIFTS = Augmentation(), Augmentation(translation=0.2, horizontal_flip=True)


def see(devices):
    """Lets the program see these devices as GPUs."""
    for module in (forward_module, replicas_module):
        module.accelerators = lambda: devices


def said_by(function):
    """What a function returns, and the lines that it printed to stderr."""
    with redirect_stderr(StringIO()) as said:
        result = function()
    return result, said.getvalue().splitlines()


# Forward passes


class OtherRounding(forward_module.OnDevice):
    """Rounds otherwise on the last device."""

    def __call__(self, pixels):
        logits = super().__call__(pixels)
        return logits + 1e-6 if self.device == DEVICES[2] else logits


class Chance:
    """A model with logits by chance."""

    input_shape = (None, *SIZE)

    def __call__(self, pixels, training):
        return tf.random.uniform((len(pixels), 2))


def forward_passes():
    """The logits of 41 images in batches of 4, on one and on three devices, and which are used beside the first."""
    pixels = np.random.default_rng(3).uniform(0, 255, (41, *SIZE)).astype(np.float32)
    several = [model.build(classes=2, seed=1) for model in (WITH_CHANCE, DENSE)]

    def logits(model, devices):
        see(devices)
        forward, batches = Forward(model, 4), tf.data.Dataset.from_tensor_slices(pixels).batch(7)
        rows, said = said_by(lambda: np.concatenate([*forward(batches)]))
        return rows, [other.device for other in forward._others], said

    found = {}
    for name, model in {"cnn": several[0], "ensemble": combined(several, "probabilities")}.items():
        (one, _, _), (three, used, said) = logits(model, []), logits(model, DEVICES)
        found[name] = {"same": one.tobytes() == three.tobytes(), "used": used, "said": said}
    forward_module.OnDevice, kept = OtherRounding, forward_module.OnDevice
    (one, _, _), (two, used, said) = logits(several[0], []), logits(several[0], DEVICES)
    found["other rounding"] = {"same": one.tobytes() == two.tobytes(), "used": used, "said": said}
    forward_module.OnDevice = kept
    _, used, said = logits(Chance(), DEVICES)
    return found | {"chance": {"used": used, "said": said}}


# What a replica takes of a batch


def parts_of_batches():
    """Of batches of 1 to 7 rows, the rows and the share of each of three replicas."""
    strategy, found = replicas_module._strategy(tuple(DEVICES)), []
    for count in range(1, 8):
        rows = tf.range(count)
        parts = strategy.run(lambda rows: replicas_module._part((rows, 10 * rows)), args=(rows,))
        of_each = [
            [inputs[:count].tolist(), targets[:count].tolist(), len(inputs), float(share)]
            for inputs, targets, count, share in zip(
                *([value.numpy() for value in strategy.experimental_local_results(field)] for field in parts),
                strict=True,
            )
        ]
        found.append(of_each)
    return found


# Trainings


class Noted(HardLabels):
    """Notes of which rows of which view it was asked the targets, one after another."""

    def targets(self, view, rows):
        self.__dict__.setdefault("asked", []).append([view, rows.tolist()])
        return super().targets(view, rows)


@cache
def examples(rows, augmentation, soft):
    """Some of 40 images, with soft labels or without."""
    names = [f"MHIST_{number:03d}.png" for number in rows]
    files = [Path("raw/images", name) for name in names]
    targets = np.eye(2, dtype=np.float32)[[number % 2 for number in rows]]
    if soft:
        logits = np.random.default_rng(len(rows)).normal(0, 3, (len(rows), 2))
        targets = np.concatenate([targets, logits - logits.mean(axis=1, keepdims=True)], axis=1).astype(np.float32)
    content = [(name, sha256_file(file)) for name, file in zip(names, files, strict=True)]
    return Examples(content, DecodedImages(files, SIZE, keep=True), Noted(names, targets, augmentation, 5, None))


class Kept(TrainingState):
    """Keeps the state file of every epoch."""

    def keep(self, model, optimizer, row):
        super().keep(model, optimizer, row)
        self.__dict__.setdefault("files", []).append(self.path.read_bytes())


def run(model, loss, recipe, devices, start=None, soft=True):
    """Trains on some devices; returns the state and the trained model."""
    path = Path(tempfile.mkdtemp(), "state.npz")
    if start is not None:
        path.write_bytes(start)
    state, shown = (
        Kept(path, recipe.select_by),
        [examples(range(26), SHIFTS, soft), examples(range(26, 40), NONE, soft)],
    )
    state.model = train(model.build(classes=2, seed=5), *shown, loss, recipe, state, replicas=Replicas(devices))
    return state


def compared(model, loss, recipe, soft=True):
    """The same training on one device and on three: what each epoch told, which rows were asked for, the weights."""
    found = {}
    for name, some in {"one": [], "three": DEVICES}.items():
        asked = examples(range(26), SHIFTS, soft).supervision.asked = []
        state = run(model, loss, recipe, some, soft=soft)
        found[name] = {"history": state.history, "asked": asked}
        found[name]["weights"] = np.concatenate([weight.flatten() for weight in state.model.get_weights()]).tolist()
    return found


def distilled():
    """26 images in batches of 8; the last batch has 2, fewer than devices."""
    weighted = {"class_weight": {"HP": 0.5, "SSA": 2.0}, "label_smoothing": 0.1}
    optimizer = {"optimizer": "adamw", "weight_decay": 0.1, "clip_norm": 0.5, "ema": 0.5, "schedule": "cosine"}
    recipe = Recipe([Phase(2, 0.003, "all", **weighted, **optimizer)], 8, 5, select_by="auc")
    return compared(WITHOUT_CHANCE, DistillationLoss(4.0, 0.3, last_temperature=2.0), recipe)


def network():
    keras.utils.set_random_seed(3)
    pixels = keras.Input(SIZE)
    x = keras.layers.Conv2D(4, 3, strides=2, name="first")(keras.layers.Rescaling(1 / 255)(pixels))
    x = keras.layers.Conv2D(6, 3, strides=2, activation="relu", name="second")(keras.layers.BatchNormalization()(x))
    x = keras.layers.GlobalAveragePooling2D(name="pooled")(keras.layers.Conv2D(6, 1, name="third")(x))
    keras.Model(pixels, keras.layers.Dense(2, name="answer")(x)).save("net.keras")
    return OwnNetwork(architecture="net.keras", weights="own")


def over_features():
    """A phase with frozen layers; their forward pass and the training of the others both use all devices."""
    recipe = Recipe([Phase(2, 0.05, "third")], 8, 5)
    see(DEVICES)
    return compared(network(), HardLoss(), recipe, soft=False)


def continued():
    """A training with chance, undisturbed, and continued as if it had been killed in its second epoch."""
    recipe = Recipe([Phase(3, 0.01, "all", ema=0.9)], 8, 5)
    again = partial(run, WITH_CHANCE, DistillationLoss(4.0, 0.3), recipe, DEVICES)
    whole = again()
    rest = again(whole.files[0])
    return {"epochs": len(rest.files), "same": rest.files == whole.files[1:]}


def masks():
    """The states from which each of three devices draws its dropout masks, and that of one device."""
    found = []
    for devices in (DEVICES[:1], DEVICES):
        replicas, model = Replicas(devices), WITH_CHANCE.build(classes=2, seed=5)
        replicas.mirror(model)
        Reseed(model, 7, replicas).on_epoch_begin(2)
        generator = model.get_layer("dropout").seed_generator
        found.append([state.numpy().tolist() for state in replicas.of_each(generator.state.value)])
    return found


def published(batch_size, devices, watch=None):
    """Trains as a stage does; what was said, and whether there is a model."""
    see(devices)
    images = []
    for number in range(40):
        path = f"raw/images/MHIST_{number:03d}.png"
        part = "train" if number < 26 else "val"
        images.append(Image(Path(path).name, path, ["HP", "SSA"][number % 2], part, "", sha256_file(Path(path))))
    given = {"train_on": examples(range(26), SHIFTS, False), "validate_on": examples(range(26, 40), NONE, False)}
    recipe, output = Recipe([Phase(2, 0.01, "all")], batch_size, 5), Path(f"{batch_size}.keras")

    def work():
        made = trained(
            WITH_CHANCE,
            Index(images),
            **given,
            loss=HardLoss(),
            recipe=recipe,
            output=output,
            code=["training"],
            watch=watch,
        )
        with suppress(KeyboardInterrupt), made as result:
            result.publish(output, Path("m.csv"))

    _, said = said_by(work)
    said = [line for line in said if re.search("GPU|continuing", line)]
    return {"said": said, "weights": len(keras_files.load(output).weights) if output.exists() else None}


def interrupt(_):
    raise KeyboardInterrupt


def stages():
    """The second of these finds the unfinished training of the first."""
    return [published(8, DEVICES, interrupt), published(8, []), published(9, [], interrupt), published(9, DEVICES)]


if __name__ == "__main__":
    sys.stdout, answer = sys.stderr, sys.stdout
    os.chdir(sys.argv[1])
    write_data_set(Path("raw"))
    parts = (forward_passes, parts_of_batches, distilled, over_features, continued, masks, stages)
    print(json.dumps({part.__name__: part() for part in parts}), file=answer)
