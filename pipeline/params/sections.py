"""The sections of `params.yaml`: their names, types and ranges."""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from pipeline.images.resize import Fit, Method
from pipeline.models.other_formats import conversion_of
from pipeline.params.models import Flag, Model, Phases, Positive, Preprocessing, Share
from pipeline.params.section import Section
from pipeline.params.split import Split

Seed = Annotated[int, Field(ge=0, lt=2**32, strict=True)]
Number = Annotated[int, Field(strict=True)] | Annotated[float, Field(strict=True)]
Range = tuple[Annotated[float, Field(strict=True)], Annotated[float, Field(strict=True)]]
Distinct = TypeVar("Distinct", int, float)


def _within(lowest: float, highest: float) -> Callable[[Range], Range]:
    def check(value: Range) -> Range:
        if not lowest <= value[0] <= value[1] <= highest:
            raise ValueError(f"expected two numbers from {lowest:g} to {highest:g}, the smaller first")
        return value

    return check


def _in_float32(temperature: Number) -> Number:
    """Beyond this range, logits over T or T^2 have no room in float32."""
    if not 1e-6 <= temperature <= 1e6:
        raise ValueError("expected a temperature above 0, from 0.000001 to 1000000")
    return temperature


Temperature = Annotated[Number, AfterValidator(_in_float32)]


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


def _as_text(name: Any) -> Any:
    """A class that is called by a whole number is written without quotes."""
    return str(name) if isinstance(name, int) and not isinstance(name, bool) else name


ClassName = Annotated[str, BeforeValidator(_as_text), Field(min_length=1)]
OutputNames = Annotated[list[ClassName | None], Field(min_length=2)]


def _by_name(named: Any) -> Any:
    """The numbers of outputs by name, also where the names are stated by number: {0: HP, 1: SSA}."""
    if not isinstance(named, dict) or not any(isinstance(name, str) for name in named.values()):
        return named
    is_by_number = all(type(number) is int for number in named)
    if not is_by_number or not all(name is None or isinstance(name, str) for name in named.values()):
        raise ValueError("a map goes from each class to the number of its output, {HP: 0}, or back, {0: HP}; not both")
    names = [name for name in named.values() if name is not None]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"each class has one output of its own, but {', '.join(repeated)} is there twice")
    return {name: number for number, name in named.items() if name is not None}


OutputNumbers = Annotated[
    dict[ClassName, Annotated[int, Field(ge=0, strict=True)]], BeforeValidator(_by_name), Field(min_length=2)
]


def _form_of_classes(value: Any) -> str:
    return "$map" if isinstance(value, dict) else "$list"


class GivenTeacher(Section):
    """A teacher that is already trained: a `.keras` file, or the weights of a model that is described."""

    tag: ClassVar = "$file"

    model: Annotated[str, Field(min_length=1)]
    weights_of: Model | None = None
    preprocessing: Preprocessing = "none"
    classes: (
        Annotated[
            Annotated[OutputNames, Tag("$list")] | Annotated[OutputNumbers, Tag("$map")],
            Discriminator(_form_of_classes),
        ]
        | None
    ) = None
    accuracy: Share | None = None

    @model_validator(mode="after")
    def _described_if_weights(self) -> "GivenTeacher":
        is_weights = self.model.endswith(".weights.h5")
        if not is_weights and not self.model.endswith(".keras"):
            raise ValueError(
                "the file of a trained teacher ends in .keras, or in .weights.h5 for weights alone; "
                f"{self.model} {conversion_of(self.model)}"
            )
        if is_weights != (self.weights_of is not None):
            raise ValueError(
                "weights_of describes the model of a .weights.h5 file, and of no other: "
                + ("add it, with the keys of a model" if is_weights else "leave it out")
            )
        if is_weights and self.preprocessing != "none":
            raise ValueError("weights_of has a preprocessing of its own: state it there, and leave it out here")
        if is_weights and isinstance(self.classes, dict):
            raise ValueError("beside weights_of, classes is a list: one name for each of the model's outputs")
        return self

    @model_validator(mode="after")
    def _each_class_has_one_output(self) -> "GivenTeacher":
        named: list[Any] = [*self.classes.values()] if isinstance(self.classes, dict) else self.classes or []
        repeated = sorted({str(one) for one in named if one is not None and named.count(one) > 1})
        if repeated:
            raise ValueError(f"each class has one output of its own, but {', '.join(repeated)} is there twice")
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
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
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


class Resize(Section):
    """How images are brought to the input size of teacher and student alike."""

    method: Method
    antialias: Flag
    fit: Fit

    @model_validator(mode="after")
    def _antialiased_if_possible(self) -> "Resize":
        if self.antialias and self.method in ("nearest", "area"):
            raise ValueError(f"the method {self.method} knows no antialiasing: set antialias: false")
        return self


class Images(Section):
    """How image files are read."""

    cache: Literal["none", "memory", "disk"] = "memory"
    resize: Resize


class Sample(Section):
    """The embedded data, where `dvc repro` is to write them; `data/sample/dvc.yaml` reads it."""

    mnist: Literal["data/raw/mnist"]


class Cifar10(Section):
    """CIFAR-10, where `dvc repro` is to download it; `data/cifar10/dvc.yaml` reads it."""

    images: Literal["data/raw/cifar10/cifar10.npz"]


class Params(Section):
    """The whole of params.yaml."""

    images: Images
    sample: Sample | None = None
    cifar10: Cifar10 | None = None
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
