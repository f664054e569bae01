"""How a model is trained: phases of epochs, batches, seeds."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras

from pipeline.images.index import Image, Index
from pipeline.images.views import Augmentation


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs with one optimizer (fresh at its start) and one set of trained layers.

    Attributes:
        epochs: how many.
        learning_rate: of the optimizer.
        trainable_from: as in `models.for_phase`.
        steps_per_epoch: batches in an epoch, which go on through the images where the epoch before ended; None for as
            many as show every image once.
        optimizer: one of `OPTIMIZERS`.
        momentum: of sgd or rmsprop, 0 to below 1.
        backbone_in_inference_mode: as `inference_mode` in `models.for_phase`.
    """

    epochs: int
    learning_rate: float
    trainable_from: str | int | None
    steps_per_epoch: int | None = None
    optimizer: str = "adam"
    momentum: float = 0.0
    backbone_in_inference_mode: bool = False

    def new_optimizer(self) -> Any:
        """The Keras optimizer, fresh."""
        momentum = {"momentum": self.momentum} if self.momentum else {}
        return OPTIMIZERS[self.optimizer](self.learning_rate, **momentum)


OPTIMIZERS = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "rmsprop": keras.optimizers.RMSprop,
    "sgd": keras.optimizers.SGD,
}


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    Attributes:
        phases: one after another.
        batch_size: images a step.
        seed: of the initial weights, the order and the dropout.
        validation_steps: batches of validation images, the same after every epoch; None for all.
    """

    phases: Sequence[Phase]
    batch_size: int
    seed: int
    validation_steps: int | None = None

    def validation_images(self, data: Index) -> list[Image]:
        """The validation images that are used, sorted by id; which ones depends on nothing but the ids."""
        images = data.split("val")
        if self.validation_steps is None:
            return images
        by_hash = sorted(images, key=lambda image: hashlib.sha256(image.id.encode()).digest())
        return sorted(by_hash[: self.validation_steps * self.batch_size], key=lambda image: image.id)


@dataclass(frozen=True)
class TeacherToTrain:
    """A teacher to be trained, each pass over the images in new views.

    Attributes:
        model: the arguments of `models.build`, apart from `classes` and `seed`.
        recipe: how to train; its seed is also that of the views.
        augmentation: the ranges of the views.
    """

    model: dict[str, Any]
    recipe: Recipe
    augmentation: Augmentation
