"""The sections of `params.yaml` that describe a model and how it is trained."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.section import Section

Flag = Annotated[bool, Field(strict=True)]
Positive = Annotated[int, Field(ge=1, strict=True)]
Rate = Annotated[float, Field(gt=0, strict=True)]
Fraction = Annotated[float, Field(ge=0, lt=1, strict=True)]
Channels = Literal[1, 3]


class _Model(Section):
    input_shape: tuple[Positive, Positive, Channels]
    weights: str | None
    preprocessing: Literal["own", "none", "unit", "symmetric", "caffe"] = "own"
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
