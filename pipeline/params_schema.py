"""The sections of `params.yaml`: their names, types and ranges."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from pipeline.errors import PipelineError

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


class Section(BaseModel):
    """A part of params.yaml: unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def __getattr__(self, name: str) -> Any:
        """Explains why a declared field is not there: `restrict` has taken it away."""
        if name in type(self).model_fields:
            raise PipelineError(
                f"this stage reads the parameter {name!r} of {type(self).__name__}, but dvc.yaml does not declare "
                "it for the stage. Add it to the stage's params, so that DVC knows when to run it again."
            )
        raise AttributeError(name)


class Split(Section):
    """Where the data set lies, and how it is divided."""

    layout: Literal["mhist"]
    annotations: Path
    images: Path
    val_fraction: Annotated[float, Field(gt=0, lt=1, strict=True)]


class _Model(Section):
    input_shape: tuple[Positive, Positive, Channels]
    weights: str | None
    preprocessing: Literal["own", "none", "unit", "symmetric", "caffe"] = "own"
    pooling: Literal["avg", "max", "flatten"]
    batch_normalization: Flag
    dense: list[Positive] = []
    dropout: Fraction

    @model_validator(mode="after")
    def _imagenet_has_three_channels(self) -> "_Model":
        if self.input_shape[2] != 3 and (self.weights is not None or self.preprocessing == "caffe"):
            what = "pretrained weights" if self.weights is not None else "the preprocessing caffe"
            raise ValueError(f"{what} need images of 3 channels: set input_shape: [height, width, 3]")
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


class TrainedTeacher(Section):
    """A teacher, and how it is trained."""

    tag: ClassVar = "$described"

    model: Model
    seed: Seed
    batch_size: Positive
    validation_steps: Positive | None
    augmentation: Augmentation
    phases: Phases


class GivenTeacher(Section):
    """A teacher that is already trained: a `.keras` file, or the weights of a model that is described."""

    tag: ClassVar = "$file"

    model: Annotated[str, Field(min_length=1)]
    weights_of: Model | None = None

    @model_validator(mode="after")
    def _described_if_weights(self) -> "GivenTeacher":
        is_weights = self.model.endswith(".weights.h5")
        if not is_weights and not self.model.endswith(".keras"):
            raise ValueError("the file of a trained teacher ends in .keras, or in .weights.h5 for weights alone")
        if is_weights != (self.weights_of is not None):
            raise ValueError(
                "weights_of describes the model of a .weights.h5 file, and of no other: "
                + ("add it, with the keys of a model" if is_weights else "leave it out")
            )
        return self


def _kind_of_teacher(value: Any) -> str:
    model = value.get("model") if isinstance(value, dict) else getattr(value, "model", None)
    return GivenTeacher.tag if isinstance(model, str) else TrainedTeacher.tag


Teacher = Annotated[
    Annotated[TrainedTeacher, Tag("$described")] | Annotated[GivenTeacher, Tag("$file")],
    Discriminator(_kind_of_teacher),
]
Members = Annotated[list[Teacher], Field(min_length=2)]


class Ensemble(Section):
    """Several teachers that are one: the mean of their logits, or of their probabilities."""

    tag: ClassVar = "$ensemble"

    average: Literal["logits", "probabilities"]
    members: Members


def _form_of_teacher(value: Any) -> str:
    if isinstance(value, list):
        return "$list"
    return Ensemble.tag if isinstance(value, Ensemble) or (isinstance(value, dict) and "members" in value) else "$one"


TrainTeacher = Annotated[
    Annotated[Teacher, Tag("$one")] | Annotated[Members, Tag("$list")] | Annotated[Ensemble, Tag("$ensemble")],
    Discriminator(_form_of_teacher),
]


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
    soft_loss: Literal["kl_divergence", "cross_entropy"]
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
    validation_steps: Positive | None
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
