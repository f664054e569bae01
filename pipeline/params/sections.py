"""The sections of `params.yaml`: their names, types and ranges."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from pipeline.images.resize import Resize
from pipeline.images.views import Augmentation, Views
from pipeline.models.descriptions import Model
from pipeline.models.other_formats import conversion_of
from pipeline.models.teacher_file import Average, GivenTeacher
from pipeline.params.section import Section
from pipeline.params.split import Split
from pipeline.runtime.ranges import Flag, Number, Positive, Seed, Share
from pipeline.soft_labels.logit_storage import Storage
from pipeline.soft_labels.reading import Precision
from pipeline.training.recipe import Cache, Phase

Distinct = TypeVar("Distinct", int, float)
DESCRIBED, FILE, ENSEMBLE = "$described", "$file", "$ensemble"
"""Names of the forms of a teacher, none of which is a key in the file."""


def _in_float32(temperature: float) -> float:
    """Beyond this range, logits over T or T^2 have no room in float32."""
    if not 1e-6 <= temperature <= 1e6:
        raise ValueError("expected a temperature above 0, from 0.000001 to 1000000")
    return temperature


Temperature = Annotated[Annotated[int, Field(strict=True)] | Number, AfterValidator(_in_float32)]


def _more_views_need_an_augmentation(views: Views) -> Views:
    if views.count > 1 and views.augmentation.is_identity:
        raise ValueError("without an augmentation all views are equal: set count: 1, or name an augmentation")
    return views


def _adam_has_no_momentum(phase: Phase) -> Phase:
    if phase.momentum and phase.optimizer not in ("sgd", "rmsprop"):
        raise ValueError(f"momentum is for sgd and rmsprop; {phase.optimizer} takes none: leave it out")
    return phase


def _antialiased_if_possible(resize: Resize) -> Resize:
    if resize.antialias and resize.method in ("nearest", "area"):
        raise ValueError(f"the method {resize.method} knows no antialiasing: set antialias: false")
    return resize


Phases = Annotated[list[Annotated[Phase, AfterValidator(_adam_has_no_momentum)]], Field(min_length=1)]


class TrainedTeacher(Section):
    """A teacher, and how it is trained."""

    model: Model
    seed: Seed
    batch_size: Positive
    validation_steps: Positive | None
    augmentation: Augmentation
    phases: Phases


def _described_if_weights(teacher: GivenTeacher) -> GivenTeacher:
    is_weights = teacher.model.endswith(".weights.h5")
    if not is_weights and not teacher.model.endswith(".keras"):
        raise ValueError(
            "the file of a trained teacher ends in .keras, or in .weights.h5 for weights alone; "
            f"{teacher.model} {conversion_of(teacher.model)}"
        )
    if is_weights != (teacher.weights_of is not None):
        raise ValueError(
            "weights_of describes the model of a .weights.h5 file, and of no other: "
            + ("add it, with the keys of a model" if is_weights else "leave it out")
        )
    if is_weights and teacher.preprocessing != "none":
        raise ValueError("weights_of has a preprocessing of its own: state it there, and leave it out here")
    if is_weights and isinstance(teacher.classes, dict):
        raise ValueError("beside weights_of, classes is a list: one name for each of the model's outputs")
    return teacher


def _each_class_has_one_output(teacher: GivenTeacher) -> GivenTeacher:
    named: list[Any] = [*teacher.classes.values()] if isinstance(teacher.classes, dict) else teacher.classes or []
    repeated = sorted({str(one) for one in named if one is not None and named.count(one) > 1})
    if repeated:
        raise ValueError(f"each class has one output of its own, but {', '.join(repeated)} is there twice")
    return teacher


def _kind_of_teacher(value: Any) -> str:
    model = value.get("model") if isinstance(value, dict) else getattr(value, "model", None)
    return FILE if isinstance(model, str) else DESCRIBED


Given = Annotated[GivenTeacher, AfterValidator(_described_if_weights), AfterValidator(_each_class_has_one_output)]
Teacher = Annotated[
    Annotated[TrainedTeacher, Tag(DESCRIBED)] | Annotated[Given, Tag(FILE)], Discriminator(_kind_of_teacher)
]
Members = Annotated[list[Teacher], Field(min_length=2)]


class Ensemble(Section):
    """Several teachers that are one: the mean of their logits, or of their probabilities."""

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
BY_FORM = {DESCRIBED: TrainedTeacher, FILE: GivenTeacher, ENSEMBLE: Ensemble}


class Precompute(Section):
    """The teacher's one pass."""

    batch_size: Positive
    precision: Precision = "float32"
    storage: Annotated[Storage, Field(discriminator="kind")]


class Distill(Section):
    """The soft labels and the loss."""

    temperatures: Annotated[list[Temperature], Field(min_length=1)]
    hard_label_weight: Share
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


class Images(Section):
    """How image files are read."""

    cache: Cache = "memory"
    resize: Annotated[Resize, AfterValidator(_antialiased_if_possible)]


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
    views: Annotated[Views, AfterValidator(_more_views_need_an_augmentation)]
    precompute: Precompute
    distill: Distill
    student: Student
    evaluate: Evaluate


def _refuse_repeated(name: str, values: list[Distinct]) -> None:
    if len(set(values)) < len(values):
        raise ValueError(f"{name} must differ from each other, got {values}")
