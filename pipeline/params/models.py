"""The sections of `params.yaml` that describe a model and how it is trained."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from pipeline.params.section import Section

Flag = Annotated[bool, Field(strict=True)]
Positive = Annotated[int, Field(ge=1, strict=True)]
Rate = Annotated[float, Field(gt=0, strict=True)]
Fraction = Annotated[float, Field(ge=0, lt=1, strict=True)]
Channels = Literal[1, 3]
Share = Annotated[float, Field(ge=0, le=1, strict=True)]


class Standardization(Section):
    """Pixels / 255, less a mean, over a standard deviation, both of each channel: torchvision's `Normalize`."""

    tag: ClassVar = "$numbers"

    mean: Annotated[list[Annotated[float, Field(strict=True)]], Field(min_length=1, max_length=3)]
    std: Annotated[list[Annotated[float, Field(strict=True)]], Field(min_length=1, max_length=3)]

    @model_validator(mode="after")
    def _of_pixels_from_0_to_1(self) -> "Standardization":
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean has {len(self.mean)} number(s), std {len(self.std)}: give one each for a channel")
        if not all(0 <= mean <= 1 for mean in self.mean) or not all(0 < std <= 1 for std in self.std):
            raise ValueError("mean and std are those of pixels from 0 to 1: divide what belongs to 0 to 255 by 255")
        return self


def _form_of_preprocessing(value: Any) -> str:
    return Standardization.tag if isinstance(value, dict | Standardization) else "$name"


Numbers = Annotated[Standardization, Tag("$numbers")]
Preprocessing = Annotated[
    Annotated[Literal["none", "unit", "symmetric", "caffe"], Tag("$name")] | Numbers,
    Discriminator(_form_of_preprocessing),
]
OwnOrOther = Annotated[
    Annotated[Literal["own", "none", "unit", "symmetric", "caffe"], Tag("$name")] | Numbers,
    Discriminator(_form_of_preprocessing),
]


class _Model(Section):
    input_shape: tuple[Positive, Positive, Channels]
    weights: str | None
    preprocessing: OwnOrOther = "own"
    pooling: Literal["avg", "max", "flatten"]
    batch_normalization: Flag
    dense: Annotated[list[Positive], Field(default_factory=list)]
    dropout: Fraction

    @model_validator(mode="after")
    def _imagenet_has_three_channels(self) -> "_Model":
        if self.input_shape[2] != 3 and (self.weights is not None or self.preprocessing == "caffe"):
            what = "pretrained weights need" if self.weights is not None else "the preprocessing caffe needs"
            raise ValueError(f"{what} images of 3 channels: set input_shape: [height, width, 3]")
        return self

    @model_validator(mode="after")
    def _a_mean_for_each_channel(self) -> "_Model":
        given = self.preprocessing
        if isinstance(given, Standardization) and len(given.mean) != self.input_shape[2]:
            raise ValueError(
                f"preprocessing has a mean of {len(given.mean)} channel(s), and input_shape has {self.input_shape[2]}"
            )
        return self


class Cnn(_Model):
    """A small convolutional network."""

    architecture: Literal["cnn"]
    weights: None
    filters: Annotated[list[Positive], Field(min_length=1)]
    kernel_size: Positive = 3
    padding: Literal["same", "valid"] = "same"
    downsampling: Literal["stride", "max_pooling"]
    factor: Positive | list[Positive] = 2

    @model_validator(mode="after")
    def _a_factor_for_each(self) -> "Cnn":
        if isinstance(self.factor, list) and len(self.factor) != len(self.filters):
            raise ValueError(
                f"factor has {len(self.factor)} numbers for {len(self.filters)} filters: give one number, or one each"
            )
        return self


class Mlp(_Model):
    """Dense layers on the pixels: those of the head, and nothing before them."""

    architecture: Literal["mlp"]
    weights: None
    pooling: Literal["flatten"]


class MobileNetV2(_Model):
    """MobileNetV2 of a given width."""

    architecture: Literal["mobilenetv2"]
    alpha: Rate


class Application(_Model):
    """A backbone of keras.applications without options of its own."""

    architecture: Literal["resnet50v2", "resnet50", "resnet152", "efficientnetb0"]


Model = Annotated[Cnn | Mlp | MobileNetV2 | Application, Field(discriminator="architecture")]


class Phase(Section):
    """Epochs with one optimizer, one learning rate and one set of trained layers."""

    epochs: Positive
    steps_per_epoch: Positive | None = None
    optimizer: Literal["adam", "adamw", "rmsprop", "sgd"] = "adam"
    learning_rate: Rate
    momentum: Fraction = 0.0
    trainable_from: Annotated[int, Field(ge=0, strict=True)] | str | None
    backbone_in_inference_mode: Flag = False

    @model_validator(mode="after")
    def _adam_has_no_momentum(self) -> "Phase":
        if self.momentum and self.optimizer not in ("sgd", "rmsprop"):
            raise ValueError(f"momentum is for sgd and rmsprop; {self.optimizer} takes none: leave it out")
        return self


Phases = Annotated[list[Phase], Field(min_length=1)]
