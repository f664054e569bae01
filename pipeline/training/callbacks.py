"""What happens before and after each epoch, beside the keeping of the state."""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from pipeline.images.decoded_images import DecodedImages
from pipeline.images.random_words import philox_words
from pipeline.runtime.progress import Progress
from pipeline.training.replicas import ONE_DEVICE, Replicas

Watch = Callable[[int], object]
"""It is called after each epoch of a training with the number of epochs that are to come."""


class Reseed(keras.callbacks.Callback):
    """Makes the dropout of each epoch a function of (seed, epoch).

    Args:
        fitted: a model of `architectures.for_phase`.
        seed: the seed of the training.
        replicas: the devices, of which each draws masks of its own; the first one those of one device.
    """

    def __init__(self, fitted: Any, seed: int, replicas: Replicas = ONE_DEVICE) -> None:
        super().__init__()
        self.fitted, self.seed, self.replicas = fitted, seed, replicas

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Sets the state of every layer's generator of random numbers."""
        layers = [inner for layer in self.fitted.layers for inner in (layer, *getattr(layer, "layers", ()))]
        generators = [layer.seed_generator for layer in layers if hasattr(layer, "seed_generator")]
        for number, generator in enumerate(generators):
            for replica, state in enumerate(self.replicas.of_each(generator.state.value)):
                words = philox_words(2, "dropout", self.seed, epoch, number, *([replica] if replica else []))
                # 31 bits fit the integer types of all of Keras' backends.
                state.assign((words >> np.uint64(33)).astype(generator.state.dtype))


class RefuseChanged(keras.callbacks.Callback):
    """Compares image files that are read in every epoch with the index again, before the state of the epoch is kept.

    Args:
        images: those that the epochs read.
    """

    def __init__(self, images: Sequence[DecodedImages]) -> None:
        super().__init__()
        self.images = images

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """After the validation.

        Raises:
            MismatchError: files have changed since they were first compared with the index.
        """
        for images in self.images:
            images.refuse_changed()


class Agree(keras.callbacks.Callback):
    """Lets the devices agree on the statistics of batch normalisations, before they are validated and kept.

    Args:
        whole: the model whose weights are kept.
        replicas: the devices.
    """

    def __init__(self, whole: Any, replicas: Replicas) -> None:
        super().__init__()
        self.whole, self.replicas = whole, replicas

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """After the last step of an epoch."""
        self.replicas.agree(self.whole)


class TellEpoch(keras.callbacks.Callback):
    """Tells a loss that changes over the epochs which of them begins.

    Args:
        loss: the loss, with a method `at_epoch`.
        epochs: the number of epochs that there can be.
    """

    def __init__(self, loss: Any, epochs: int) -> None:
        super().__init__()
        self.loss, self.epochs = loss, epochs

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts epochs from 0."""
        self.loss.at_epoch(epoch, self.epochs)


class Watched(keras.callbacks.Callback):
    """Tells how many epochs are to come, after each.

    Args:
        watch: the function that is told.
        epochs: the number of epochs that there can be.
    """

    def __init__(self, watch: Watch, epochs: int) -> None:
        super().__init__()
        self.watch, self.epochs = watch, epochs

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts epochs from 0."""
        self.watch(self.epochs - epoch - 1)


class Report(keras.callbacks.Callback):
    """Prints the progress and the result of each epoch, with the speed of its training steps.

    Args:
        images: the number of images that an epoch shows.
        steps: the number of its steps.
        last_epoch: the number of the last epoch that there can be.
    """

    def __init__(self, images: int, steps: int, last_epoch: int) -> None:
        super().__init__()
        self.images, self.steps, self.last_epoch = images, steps, last_epoch

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Begins a line of progress."""
        self.progress = Progress(f"epoch {epoch + 1}/{self.last_epoch}", self.steps, "steps")
        self.start = time.monotonic()

    def advance(self, steps: int) -> None:
        """Advances it by some steps."""
        self.progress.advance(steps)

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Notes the time that training took."""
        self.seconds = time.monotonic() - self.start  # the time of validation does not count

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Prints the result."""
        self.progress.close()
        values = "  ".join(f"{name} {value:.4f}" for name, value in (logs or {}).items())
        speed = self.images / self.seconds
        print(f"epoch {epoch + 1}/{self.last_epoch}  {values}  {speed:.0f} images/s", file=sys.stderr)
