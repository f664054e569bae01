"""How a model is trained: phases of epochs, batches, seeds."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from pipeline.images.index import Image, Index
from pipeline.images.views import Augmentation
from pipeline.models.descriptions import Model
from pipeline.runtime.ranges import Flag, Fraction, Positive, Rate

Cache = Literal["none", "memory", "disk"]
"""Where decoded pixels are kept for the next pass: nowhere, in memory if they fit, or in a file below `.work/`."""

Optimizer = Literal["adam", "adamw", "rmsprop", "sgd"]
TrainableFrom = Annotated[int, Field(ge=0, strict=True)] | str | None


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs with one optimizer (fresh at its start) and one set of trained layers.

    Attributes:
        epochs: how many.
        steps_per_epoch: batches in an epoch, which go on through the images where the epoch before ended; None for as
            many as show every image once.
        optimizer: by the name that Keras gives it.
        learning_rate: of the optimizer.
        momentum: of sgd or rmsprop, 0 to below 1.
        trainable_from: as in `architectures.for_phase`.
        backbone_in_inference_mode: as `inference_mode` in `architectures.for_phase`.
    """

    epochs: Positive
    steps_per_epoch: Positive | None = field(default=None, kw_only=True)
    optimizer: Optimizer = field(default="adam", kw_only=True)
    learning_rate: Rate
    momentum: Fraction = field(default=0.0, kw_only=True)
    trainable_from: TrainableFrom
    backbone_in_inference_mode: Flag = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        """Refuses a momentum that the optimizer would ignore."""
        if self.momentum and self.optimizer not in ("sgd", "rmsprop"):
            raise ValueError(f"momentum is for sgd and rmsprop; {self.optimizer} takes none: leave it out")


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
        model: what to train.
        recipe: how to train; its seed is also that of the views.
        augmentation: the ranges of the views.
    """

    model: Model
    recipe: Recipe
    augmentation: Augmentation
