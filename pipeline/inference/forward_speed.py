"""How fast models run forward on this machine."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from pipeline.inference.forward import Forward

BATCH_SIZES = (1, 32)
"""The batch sizes at which the speed is measured."""

ROUNDS = 5
ROUND_SECONDS = 0.2


def forward_speeds(models: Mapping[str, Any], batch_size: int) -> dict[str, float]:
    """Measures the speed of forward passes on pixels in memory.

    Args:
        models: Keras models from pixels to logits, by name.
        batch_size: images in one forward pass.

    Returns:
        Images a second of each model: the median over rounds.
    """
    passes = {}
    for name, model in models.items():
        forward, pixels = Forward(model, batch_size), [random_pixels(model, batch_size)]
        passes[name] = lambda forward=forward, pixels=pixels: list(forward(pixels))
        passes[name]()  # the first call traces the graph
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(ROUNDS):  # the models take turns, because the speed of a machine drifts
        for name, forward_pass in passes.items():
            seconds[name].append(_mean_seconds(forward_pass))
    return {name: batch_size / float(np.median(times)) for name, times in seconds.items()}


def _mean_seconds(step: Callable[[], Any]) -> float:
    """The mean time of one call, over a round of at least `ROUND_SECONDS`."""
    start, calls = time.perf_counter(), 0
    while time.perf_counter() - start < ROUND_SECONDS or not calls:
        step()
        calls += 1
    return (time.perf_counter() - start) / calls


def random_pixels(model: Any, batch_size: int) -> Any:
    """(batch_size, height, width, channels) pixels of a model's input shape, 0 to 255, the same at every call."""
    values = np.random.default_rng(0).uniform(0, 255, (batch_size, *model.input_shape[1:]))
    return keras.ops.convert_to_tensor(values, "float32")
