"""What `benchmarks.student_epoch` says of features that are kept: their bytes, and what rounding them does."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.epochs import MEMORY, Data, epochs_of
from benchmarks.kept_epochs import NOT_KEPT, OverFeatures
from benchmarks.variants import OURS, Pair
from pipeline.training.frozen_features import FrozenPart
from pipeline.training.recipe import FeaturesDtype, Phase

EPOCHS_COMPARED = 5
MHIST = 1849
"""Training images of MHIST."""

KEPT_HEADER = ["phase", "what", "numbers an image", "bytes", "as float16", f"GB for {MHIST:,} images", "as float16"]
ROUNDING_HEADER = ["phase", "training", "largest difference", "mean", "std of logits", "other largest class"]

Logits = npt.NDArray[np.float32]


def rows_of_bytes(phase: str, part: FrozenPart, epochs: int) -> list[list[str]]:
    """What leaves the frozen layers of a phase, and its bytes.

    Args:
        phase: its name.
        part: the frozen layers.
        epochs: the number of views that the phase shows.
    """
    what = ", ".join(f"{name} {' x '.join(map(str, shape))}" for name, shape in part.cut.tensors.items())
    sizes = [4 * part.values, 2 * part.values]
    total = [f"{size * epochs * MHIST / 1e9:.2f}" for size in sizes]
    return [[phase, what, f"{part.values:,}", *(f"{size:,}" for size in sizes), *total]]


def rows_of_rounding(name: str, pair: Pair, phase: Phase, data: Data) -> list[list[str]]:
    """The logits of the same short training of the whole graph and over float16, against those over float32."""
    phase = replace(phase, epochs=EPOCHS_COMPARED)
    logits: dict[str, Logits] = {}
    dtypes: dict[str, FeaturesDtype] = {"float32": "float32", "over float16": "float16"}
    for training, dtype in dtypes.items():
        over = OverFeatures(pair, phase, data)
        over.train(over.batches(NOT_KEPT, EPOCHS_COMPARED, dtype=dtype), EPOCHS_COMPARED)
        logits[training] = logits_of(over.student, data)
    whole = pair.variant(OURS, phase)
    epochs_of(whole, data.examples(MEMORY, OURS), pair.recipe.batch_size, EPOCHS_COMPARED)()
    logits["whole graph"] = logits_of(whole, data)
    reference = logits.pop("float32")
    return [[name, training, *difference(reference, of_training)] for training, of_training in logits.items()]


def logits_of(model: Any, data: Data) -> Logits:
    """The logits of the untouched training images, (N, C)."""
    pixels = np.asarray(data.images[MEMORY].rows(np.arange(len(data.images[MEMORY]))), np.float32)
    return np.asarray(model.predict(pixels, batch_size=32, verbose=0))


def difference(reference: Logits, other: Logits) -> Sequence[str]:
    """How far two models' logits (N, C) of the same images are apart: cells of `ROUNDING_HEADER`."""
    apart = np.abs(other - reference)
    classes = int((other.argmax(axis=1) != reference.argmax(axis=1)).sum())
    sizes = [f"{value:.2g}" for value in (apart.max(), apart.mean(), reference.std())]
    return [*sizes, f"{classes} of {len(reference)}"]
