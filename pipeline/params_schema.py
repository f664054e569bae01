"""The sections of `params.yaml`: their names, types and ranges."""

from collections.abc import Callable
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, model_validator

from pipeline.params_split import Split
from pipeline.section import Section as Section

Flag = Annotated[bool, Field(strict=True)]
Positive = Annotated[int, Field(ge=1, strict=True)]
Seed = Annotated[int, Field(ge=0, lt=2**32, strict=True)]
Temperature = Annotated[int, Field(gt=0, strict=True)] | Annotated[float, Field(gt=0, strict=True)]
Rate = Annotated[float, Field(gt=0, strict=True)]
Fraction = Annotated[float, Field(ge=0, lt=1, strict=True)]
Channels = Literal[1, 3]
Range = tuple[Annotated[float, Field(strict=True)], Annotated[float, Field(strict=True)]]
Distinct = TypeVar("Distinct", int, float)


def _within(lowest: float, highest: float) -> Callable[[Range], Range]:
    def check(value: Range) -> Range:
        if not lowest <= value[0] <= value[1] <= highest:
            raise ValueError(f"expected two numbers from {lowest:g} to {highest:g}, the smaller first")
        return value

    return check


class _Model(Section):
    input_shape: tuple[Positive, Positive, Channels]
    weights: str | None
    pooling: Literal["avg", "max", "flatten"]
    batch_normalization: Flag
    dropout: Fraction

    @model_validator(mode="after")
    def _imagenet_has_three_channels(self) -> "_Model":
        if self.weights is not None and self.input_shape[2] != 3:
            raise ValueError("pretrained weights need images of 3 channels: set input_shape: [height, width, 3]")
        return self


class Cnn(_Model):
    """A small convolutional network."""

    architecture: Literal["cnn"]
    weights: None
    filters: Annotated[list[Positive], Field(min_length=1)]
    downsampling: Literal["stride", "max_pooling"]


class MobileNetV2(_Model):
    """MobileNetV2 of a given width."""

    architecture: Literal["mobilenetv2"]
    alpha: Rate


class Application(_Model):
    """A backbone of keras.applications without options of its own."""

    architecture: Literal["resnet50v2", "resnet50", "resnet152", "efficientnetb0"]


Model = Annotated[Cnn | MobileNetV2 | Application, Field(discriminator="architecture")]


class Phase(Section):
    """Epochs with one learning rate and one set of trained layers."""

    epochs: Positive
    learning_rate: Rate
    trainable_from: Annotated[int, Field(ge=0, strict=True)] | str | None


Phases = Annotated[list[Phase], Field(min_length=1)]


class Augmentation(Section):
    """How far a view may depart from its image; what is not named is off."""

    horizontal_flip: Flag = False
    vertical_flip: Flag = False
    rotation: Annotated[float, Field(ge=0, le=0.5, strict=True)] = 0.0
    translation: Annotated[float, Field(ge=0, le=1, strict=True)] = 0.0
    shear: Annotated[float, Field(ge=0, le=60, strict=True)] = 0.0
    zoom: Annotated[float, Field(ge=0, le=0.9, strict=True)] = 0.0
    crop_area: Annotated[Range, AfterValidator(_within(0.01, 1.0))] = (1.0, 1.0)
    crop_aspect_ratio: Annotated[Range, AfterValidator(_within(0.1, 10.0))] = (1.0, 1.0)
    fill_mode: Literal["reflect", "nearest", "constant"] = "reflect"
    brightness: Annotated[float, Field(ge=0, le=1, strict=True)] = 0.0
    contrast: Annotated[float, Field(ge=0, le=1, strict=True)] = 0.0
    channel_gain: Annotated[float, Field(ge=0, le=1, strict=True)] = 0.0

    @property
    def is_identity(self) -> bool:
        """Whether everything but the fill mode is off."""
        return self == Augmentation(fill_mode=self.fill_mode)


class Views(Section):
    """The views of the training images that teacher and student see."""

    count: Annotated[int, Field(ge=1, le=65535, strict=True)]
    seed: Seed
    augmentation: Augmentation

    @model_validator(mode="after")
    def _more_views_need_an_augmentation(self) -> "Views":
        if self.count > 1 and self.augmentation.is_identity:
            raise ValueError("without an augmentation all views are equal: set count: 1, or name an augmentation")
        return self


class TrainTeacher(Section):
    """The teacher and its training."""

    model: Model
    seed: Seed
    batch_size: Positive
    augmentation: Augmentation
    phases: Phases


class Dense(Section):
    """Every logit of every view."""

    kind: Literal["dense"]
    dtype: Literal["float32", "float16"]


class TopK(Section):
    """The k largest logits of every view, and the mean and variance of the others."""

    kind: Literal["topk"]
    k: Positive
    dtype: Literal["float32", "float16"] = "float16"


class Precompute(Section):
    """The teacher's one pass."""

    batch_size: Positive
    storage: Annotated[Dense | TopK, Field(discriminator="kind")]


class Distill(Section):
    """The soft labels and the loss."""

    temperatures: Annotated[list[Temperature], Field(min_length=1)]
    hard_label_weight: Annotated[float, Field(ge=0, le=1, strict=True)]
    scale_by_temperature_squared: Flag

    @model_validator(mode="after")
    def _distinct(self) -> "Distill":
        _refuse_repeated("temperatures", self.temperatures)
        return self


class Student(Section):
    """The student and its training, with and without soft labels."""

    model: Model
    seeds: Annotated[list[Seed], Field(min_length=1)]
    batch_size: Positive
    phases: Phases

    @model_validator(mode="after")
    def _distinct(self) -> "Student":
        _refuse_repeated("seeds", self.seeds)
        return self


class Evaluate(Section):
    """The comparison on the test images."""

    batch_size: Positive


class Params(Section):
    """The whole of params.yaml."""

    split: Split
    train_teacher: TrainTeacher
    views: Views
    precompute: Precompute
    distill: Distill
    student: Student
    evaluate: Evaluate


def _refuse_repeated(name: str, values: list[Distinct]) -> None:
    if len(set(values)) < len(values):
        raise ValueError(f"{name} must differ from each other, got {values}")
