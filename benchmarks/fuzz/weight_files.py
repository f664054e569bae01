"""Files of weights (`.weights.h5`), which a teacher may be given as."""

import tempfile
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.fuzz.forks import try_in_a_fork
from benchmarks.fuzz.target import Target


@cache
def _model() -> Any:
    import keras
    from keras import layers

    return keras.Sequential([keras.Input((2, 2, 1)), layers.Flatten(), layers.Dense(2), layers.BatchNormalization()])


def seeds() -> list[bytes]:
    """The weights of a small model."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "seed.weights.h5")
        _model().save_weights(path)
        return [path.read_bytes()]


def run(path: Path) -> None:
    """Loads them into that model."""
    from pipeline.models.given_weights import load_weights

    with mock.patch("pipeline.models.given_weights.try_once", try_in_a_fork):
        load_weights(_model(), path)


TARGETS = {
    "hdf5_weights": Target(
        seeds=seeds, run=run, file="given.weights.h5", words=(b"TREE", b"SNOD", b"HEAP", b"\xff" * 8)
    )
}
