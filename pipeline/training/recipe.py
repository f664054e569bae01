"""How a model is trained: its phases, batch size, seed and validation images."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from pipeline.images.augmentation import Augmentation
from pipeline.images.index import Image, Index
from pipeline.models.descriptions import Model
from pipeline.runtime.ranges import Flag, Fraction, Positive, Rate

Cache = Literal["none", "memory", "disk"]
"""Where decoded pixels are kept for the next pass: nowhere, in memory if they fit, or in a file in `.work/`."""

Optimizer = Literal["adam", "adamw", "rmsprop", "sgd"]
TrainableFrom = Annotated[int, Field(ge=0, strict=True)] | str | None


@dataclass(frozen=True)
class Phase:
    """Consecutive epochs with one optimizer, which is new at their start, and one set of trained layers.

    Attributes:
        epochs: the number of epochs.
        steps_per_epoch: the number of batches in an epoch, which goes on through the images where the last epoch
            ended. None: every image once.
        optimizer: the optimizer, by Keras' name.
        learning_rate: the optimizer's learning rate.
        momentum: the momentum of sgd or rmsprop, 0 to below 1.
        trainable_from: the layers that are trained: None, those of the head; "all", every layer; the number or name
            of a layer of the backbone, that layer and all above it.
        backbone_in_inference_mode: whether the backbone drops nothing and its batch normalisation keeps its statistics,
            also where its layers are trained.
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
        phases: the phases in their order.
        batch_size: the number of images in a step.
        seed: the seed of the initial weights, the order of the images and the dropout.
        validation_steps: the number of batches of validation images, the same after every epoch. None: all images.
    """

    phases: Sequence[Phase]
    batch_size: int
    seed: int
    validation_steps: int | None = None

    @property
    def epochs(self) -> int:
        """The number of epochs of all phases."""
        return sum(phase.epochs for phase in self.phases)

    def validation_images(self, data: Index) -> list[Image]:
        """The validation images that are used, sorted by id; the choice depends on the ids alone."""
        images = data.split("val")
        if self.validation_steps is None:
            return images
        # Always the same images: with others after each epoch, the best epoch would be a matter of luck.
        by_hash = sorted(images, key=lambda image: hashlib.sha256(image.id.encode()).digest())
        return sorted(by_hash[: self.validation_steps * self.batch_size], key=lambda image: image.id)


@dataclass(frozen=True)
class TeacherToTrain:
    """A teacher to be trained; each pass over the images shows new views.

    Attributes:
        model: the description of the model.
        recipe: how to train; its seed is also the seed of the views.
        augmentation: the ranges from which the views are sampled.
    """

    model: Model
    recipe: Recipe
    augmentation: Augmentation
