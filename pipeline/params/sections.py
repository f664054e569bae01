"""The sections of `params.yaml`: their names, types and ranges."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag

from pipeline.images.resize import Resize
from pipeline.images.views import Augmentation, Views
from pipeline.models.descriptions import NETWORK, Model, OwnNetwork
from pipeline.models.teacher_file import Average, GivenTeacher
from pipeline.params.section import Section
from pipeline.params.split import Split
from pipeline.runtime.ranges import Flag, Number, Positive, Seed, Share
from pipeline.soft_labels.logit_storage import Dense, Storage
from pipeline.soft_labels.reading import Precision
from pipeline.training.recipe import Cache, Phase

DESCRIBED, FILE, ENSEMBLE = "$described", "$file", "$ensemble"
"""Tags for the forms of a teacher. No key of params.yaml begins with $, so none is taken for a tag."""


TEMPERATURES = "a temperature from 0.000001 to 1000000"
"""What is expected of a temperature, in words."""


def fits_float32(temperature: float) -> bool:
    """Whether a temperature T lies in the range beyond which logits / T or T^2 can overflow or vanish in float32."""
    return 1e-6 <= temperature <= 1e6


def _temperature(value: float) -> float:
    if not fits_float32(value):
        raise ValueError(f"expected {TEMPERATURES}")
    return value


def _distinct(values: list[Any]) -> list[Any]:
    if len(set(values)) < len(values):
        raise ValueError("expected values that all differ")
    return values


Temperature = Annotated[Annotated[int, Field(strict=True)] | Number, AfterValidator(_temperature)]


# `Views` and `Resize` also describe existing soft-label files, so these two checks apply to params.yaml alone.


def _more_views_need_an_augmentation(views: Views) -> Views:
    if views.count > 1 and views.augmentation.is_identity:
        raise ValueError("without an augmentation all views are equal: set count: 1, or name an augmentation")
    return views


def _antialiased_if_possible(resize: Resize) -> Resize:
    if resize.antialias and resize.method in ("nearest", "area"):
        raise ValueError(f"the method {resize.method} has no antialiasing: set antialias: false")
    return resize


Phases = Annotated[list[Phase], Field(min_length=1)]


class TrainedTeacher(Section):
    """A teacher that this program trains."""

    model: Model
    seed: Seed = 1
    batch_size: Positive = 32
    validation_steps: Positive | None = None
    augmentation: Augmentation = Augmentation()
    phases: Phases


def _kind_of_teacher(value: Any) -> str:
    model = value.get("model") if isinstance(value, dict) else getattr(value, "model", None)
    return FILE if isinstance(model, str) else DESCRIBED


Teacher = Annotated[
    Annotated[TrainedTeacher, Tag(DESCRIBED)] | Annotated[GivenTeacher, Tag(FILE)], Discriminator(_kind_of_teacher)
]
Members = Annotated[list[Teacher], Field(min_length=2)]


class Ensemble(Section):
    """Several teachers that act as one: it answers with the mean of their logits or probabilities."""

    average: Average
    members: Members


def _form_of_teacher(value: Any) -> str:
    if isinstance(value, list):
        return "$list"
    return ENSEMBLE if isinstance(value, Ensemble) or (isinstance(value, dict) and "members" in value) else "$one"


TrainTeacher = Annotated[
    Annotated[Teacher, Tag("$one")] | Annotated[Members, Tag("$list")] | Annotated[Ensemble, Tag(ENSEMBLE)],
    Discriminator(_form_of_teacher),
]
BY_FORM = {DESCRIBED: TrainedTeacher, FILE: GivenTeacher, ENSEMBLE: Ensemble, NETWORK: OwnNetwork}


class Precompute(Section):
    """The teacher's one pass."""

    batch_size: Positive = 128
    precision: Precision = "float32"
    storage: Annotated[Storage, Field(discriminator="kind")] = Dense("float32")


class Distill(Section):
    """The soft labels and the loss."""

    temperatures: Annotated[list[Temperature], Field(min_length=1), AfterValidator(_distinct)]
    hard_label_weight: Share
    soft_loss: Literal["kl_divergence", "cross_entropy"]
    scale_by_temperature_squared: Flag


class Student(Section):
    """The student and its training, with and without soft labels."""

    model: Model
    seeds: Annotated[list[Seed], Field(min_length=1), AfterValidator(_distinct)]
    batch_size: Positive
    validation_steps: Positive | None
    phases: Phases


class Evaluate(Section):
    """The comparison on the test images."""

    batch_size: Positive = 128


class Images(Section):
    """How image files are read."""

    cache: Cache = "memory"
    resize: Annotated[Resize, AfterValidator(_antialiased_if_possible)]


class Sample(Section):
    """Where `dvc repro` writes the sample data; `data/sample/dvc.yaml` reads this section."""

    mnist: Literal["data/raw/mnist"]


class Cifar10Download(Section):
    """Where `dvc repro` downloads CIFAR-10; `data/cifar10/dvc.yaml` reads this section."""

    images: Literal["data/raw/cifar10/cifar10.npz"]


class Params(Section):
    """The whole of params.yaml."""

    images: Images
    sample: Sample | None = None
    cifar10: Cifar10Download | None = None
    split: Split
    train_teacher: TrainTeacher
    views: Annotated[Views, AfterValidator(_more_views_need_an_augmentation)]
    precompute: Precompute
    distill: Distill
    student: Student
    evaluate: Evaluate
