"""How a model is trained: its phases, batch size, seed and validation images."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from pipeline.images.augmentation import Augmentation
from pipeline.images.index import Image, Index
from pipeline.measures.best_epoch import SelectBy
from pipeline.models.descriptions import Model
from pipeline.models.teacher_file import ClassName
from pipeline.runtime.ranges import Between, Count, Flag, Fraction, NotNegative, Positive, Rate

Cache = Literal["none", "memory", "disk"]
"""Where decoded pixels are kept for the next pass: nowhere, in memory if they fit, or in a file in `.work/`."""
CacheFrozen = Literal["auto", "memory", "disk", "none"]
"""Where is kept what leaves the frozen layers of a phase; auto: where it pays."""

FeaturesDtype = Literal["float32", "float16"]
"""The type of what leaves the frozen layers of a phase."""

Optimizer = Literal["adam", "adamw", "rmsprop", "sgd"]
TrainableFrom = Annotated[int, Field(ge=0, strict=True)] | str | None
WORD, MAP = "$word", "$map"


def _form(value: Any) -> str:
    return MAP if isinstance(value, dict | StepSchedule) else WORD


def _one_of(words: Sequence[str], otherwise: str) -> BeforeValidator:
    """Names what is expected where neither one of some words nor a map is given."""

    def checked(value: Any) -> Any:
        if value not in words:
            raise ValueError(f"expected {', '.join(words)}, or {otherwise}")
        return value

    return BeforeValidator(checked)


@dataclass(frozen=True)
class StepSchedule:
    """A learning rate that falls in steps.

    Attributes:
        factor: what each step multiplies the learning rate by.
        after_epochs: the epochs of the phase, counted from 1, after which a step follows.
    """

    factor: Between
    after_epochs: Annotated[list[Positive], Field(min_length=1)]

    def __post_init__(self) -> None:
        """Refuses epochs that are not in their order."""
        if self.after_epochs != sorted(set(self.after_epochs)):
            raise ValueError(f"after_epochs are {self.after_epochs}; expected each epoch once, the smallest first")


Schedule = Annotated[
    Annotated[
        Literal["constant", "cosine"],
        _one_of(("constant", "cosine"), "steps down: {factor: 0.1, after_epochs: [20, 30]}"),
        Tag(WORD),
    ]
    | Annotated[StepSchedule, Tag(MAP)],
    Discriminator(_form),
]


def _each_once(value: Any) -> Any:
    """Refuses a class that is named twice, as a number and as a text."""
    if isinstance(value, dict) and len({str(name) for name in value}) < len(value):
        raise ValueError(f"names a class twice, as a number and as a text: {', '.join(map(repr, value))}")
    return value


ClassWeight = Annotated[
    Annotated[Literal["balanced"], _one_of(("balanced",), "a number above 0 for each class: {NAME: 1, …}"), Tag(WORD)]
    | Annotated[dict[ClassName, Rate], Field(min_length=2), BeforeValidator(_each_once), Tag(MAP)],
    Discriminator(_form),
]


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
        schedule: the course of the learning rate over the phase, after the warm-up: "constant"; "cosine", which falls
            to 0 along half a cosine (Loshchilov & Hutter, arXiv:1608.03983); or steps down.
        warmup: the number of epochs at the phase's beginning in which the learning rate rises in a straight line, step
            by step (Goyal et al., arXiv:1706.02677).
        weight_decay: the share of each trained kernel that a step takes away, times the learning rate (decoupled:
            Loshchilov & Hutter, arXiv:1711.05101); biases and the scales and offsets of normalisations are left alone.
            None: no decay, but for adamw Keras' own, 0.004 of every weight.
        clip_norm: the largest norm of the gradient of all weights together; a longer one is shortened to it.
        label_smoothing: the share e of the hard label that is spread evenly over all C classes (Szegedy et al.,
            arXiv:1512.00567): (1 - e) y + e / C.
        ema: the momentum m of the average of the trained weights over the steps, a <- m a + (1 - m) w. The averaged
            weights are validated, kept and passed on to the next phase. None: no average.
        patience: the phase ends after so many epochs that are no better than its best one. None: it runs all epochs.
        class_weight: the weight of each class in the whole loss, by name; "balanced": N / (C n), for a class with n of
            the N labelled training images. None: 1.
        features_dtype: where a phase has frozen layers and the model is split behind them, the type to which what
            leaves them is rounded: "float32", which rounds nothing, or "float16", half as large where it is kept.
    """

    epochs: Positive
    steps_per_epoch: Positive | None = field(default=None, kw_only=True)
    optimizer: Optimizer = field(default="adam", kw_only=True)
    learning_rate: Rate
    momentum: Fraction = field(default=0.0, kw_only=True)
    trainable_from: TrainableFrom
    backbone_in_inference_mode: Flag = field(default=False, kw_only=True)
    schedule: Schedule = field(default="constant", kw_only=True)
    warmup: Count = field(default=0, kw_only=True)
    weight_decay: NotNegative | None = field(default=None, kw_only=True)
    clip_norm: Rate | None = field(default=None, kw_only=True)
    label_smoothing: Fraction = field(default=0.0, kw_only=True)
    ema: Between | None = field(default=None, kw_only=True)
    patience: Positive | None = field(default=None, kw_only=True)
    class_weight: ClassWeight | None = field(default=None, kw_only=True)
    features_dtype: FeaturesDtype = field(default="float32", kw_only=True)

    def __post_init__(self) -> None:
        """Refuses what would have no effect.

        Raises:
            ValueError: says what to change.
        """
        if self.features_dtype != "float32" and self.trainable_from == "all":
            raise ValueError(
                f"features_dtype is {self.features_dtype}, and trainable_from is all: no layer is frozen that could "
                "give features. Leave features_dtype out."
            )
        if self.momentum and self.optimizer not in ("sgd", "rmsprop"):
            raise ValueError(f"momentum is for sgd and rmsprop; {self.optimizer} takes none: leave it out")
        if self.warmup >= self.epochs:
            raise ValueError(
                f"warmup is {self.warmup} epochs, and the phase has {self.epochs}: no epoch would be left at the full "
                "learning_rate. Expected fewer."
            )
        if isinstance(self.schedule, StepSchedule):
            first, last = self.schedule.after_epochs[0], self.schedule.after_epochs[-1]
            if last >= self.epochs:
                raise ValueError(
                    f"schedule.after_epochs has {last}, and the phase has {self.epochs} epochs: no epoch would follow "
                    f"that step. Expected epochs of the phase from 1 to {self.epochs - 1}."
                )
            if first < self.warmup:
                raise ValueError(
                    f"schedule.after_epochs has {first}, within the warmup of {self.warmup} epochs. Expected epochs "
                    "after it."
                )
        if self.patience is not None and self.patience >= self.epochs:
            raise ValueError(
                f"patience is {self.patience} epochs, and the phase has {self.epochs}: it could never end early. "
                "Expected fewer, or leave patience out."
            )


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    Attributes:
        phases: the phases in their order.
        batch_size: the number of images in a step.
        seed: the seed of the initial weights, the order of the images and the dropout.
        validation_steps: the number of batches of validation images, the same after every epoch. None: all images.
        select_by: the measure on the validation images that decides which epoch is the best.
    """

    phases: Sequence[Phase]
    batch_size: int
    seed: int
    validation_steps: int | None = None
    select_by: SelectBy = "accuracy"

    @property
    def epochs(self) -> int:
        """The number of epochs of all phases; with `patience`, the most that there can be."""
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
