"""The sections of `params.yaml`: their names, types and ranges."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from pipeline.cluster.settings import Cluster
from pipeline.evaluation.names import BASELINE, student
from pipeline.images.augmentation import Augmentation
from pipeline.images.resize import Resize
from pipeline.images.views import Views
from pipeline.measures.best_epoch import SelectBy
from pipeline.models.descriptions import NETWORK, PRESET, HubBackbone, Model, OwnNetwork
from pipeline.models.teacher_file import Annotators, Average, GivenLogits, GivenTeacher
from pipeline.params.card import Card
from pipeline.params.distill import Distill
from pipeline.params.export import BEST, Export
from pipeline.params.layouts import Split
from pipeline.params.limits import LimitsSection
from pipeline.params.section import Section, distinct
from pipeline.runtime.errors import nearest
from pipeline.runtime.publish import overlap
from pipeline.runtime.ranges import Positive, Seed
from pipeline.soft_labels.logit_storage import Storage, TopK
from pipeline.soft_labels.reading import Precision
from pipeline.training.recipe import Cache, CacheFrozen, Phase

DESCRIBED, FILE, ENSEMBLE, LOGITS, VOTES = "$described", "$file", "$ensemble", "$logits", "$votes"
"""Tags for the forms of a teacher. No key of params.yaml begins with $, so none is taken for a tag."""


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
    """A teacher that this program trains.

    Attributes:
        model: the model, by its architecture, or a `.keras` file with an untrained network.
        seed: the seed of the initial weights, the order of the images, their views and the dropout.
        batch_size: the number of images in a step.
        validation_steps: the number of batches of validation images after each epoch, always the same; null: all.
        select_by: what decides on the validation images which epoch is the best.
        augmentation: the random changes of the training images; a change that is not named is off.
        phases: the phases of the training, one after another, each with a new optimizer.
    """

    model: Model
    seed: Seed = 1
    batch_size: Positive = 32
    validation_steps: Positive | None = None
    select_by: SelectBy = "accuracy"
    augmentation: Augmentation = Augmentation()
    phases: Phases


def _kind_of_teacher(value: Any) -> str:
    values = value if isinstance(value, dict) else vars(value) if hasattr(value, "__dict__") else {}
    if "model" in values:
        return FILE if isinstance(values["model"], str) else DESCRIBED
    return LOGITS if "logits" in values else VOTES if "votes" in values else DESCRIBED


COPY = Path("models/teacher.keras")
"""What the stage `train_teacher` writes, and DVC removes before the stage runs."""


def _not_the_copy(teacher: GivenTeacher) -> GivenTeacher:
    if teacher.application is None and overlap(teacher.file, COPY):
        raise ValueError(
            f"{teacher.model} is where train_teacher writes its copy, so your file would be lost; expected another "
            f"place than {COPY}: move the file, for example to teacher.keras, and name it here"
        )
    return teacher


Teacher = Annotated[
    Annotated[TrainedTeacher, Tag(DESCRIBED)]
    | Annotated[GivenTeacher, AfterValidator(_not_the_copy), Tag(FILE)]
    | Annotated[GivenLogits, Tag(LOGITS)]
    | Annotated[Annotators, Tag(VOTES)],
    Discriminator(_kind_of_teacher),
]
Members = Annotated[list[Teacher], Field(min_length=2)]


class Ensemble(Section):
    """Several teachers that act as one: it answers with the mean of their logits or probabilities.

    Attributes:
        average: what is averaged.
        members: the teachers.
    """

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
BY_FORM = {
    DESCRIBED: TrainedTeacher,
    FILE: GivenTeacher,
    LOGITS: GivenLogits,
    VOTES: Annotators,
    ENSEMBLE: Ensemble,
    NETWORK: OwnNetwork,
    PRESET: HubBackbone,
}


class Precompute(Section):
    """The teacher's one pass.

    Attributes:
        batch_size: the number of images in one forward pass.
        precision: the precision of the forward pass; the mixed ones are faster on GPUs with tensor cores.
        storage: which logits are stored, and how.
        engine: what runs the teacher: this machine (local), or the workers of a Ray cluster; it changes no result.
        ray: the Ray cluster and its workers, for the engine ray; they change no result.
    """

    batch_size: Positive
    precision: Precision
    storage: Annotated[Storage, Field(discriminator="kind")]
    engine: Literal["local", "ray"] = "local"
    ray: Cluster = Cluster()


class Student(Section):
    """The student and its training, with and without soft labels.

    Attributes:
        model: the model, by its architecture, or a `.keras` file with a network of your own.
        seeds: the seeds; one student and one baseline for each.
        batch_size: the number of images in a step.
        validation_steps: the number of batches of validation images after each epoch, always the same; null: all.
        select_by: what decides on the validation images which epoch is the best, of students and baselines.
        phases: the phases of the training, one after another, each with a new optimizer.
        cache_frozen: where is kept what leaves the frozen layers of a phase, for students, baselines and the teacher:
            in memory, if it fits in a quarter of the free memory, in files in .work/, or nowhere; auto: where it pays.
            It changes no result.
        trainings_at_once: how many students and baselines `dvc repro` trains at the same time: auto, so many as this
            machine has room for; 1, one after another; it changes no result.
    """

    model: Model
    seeds: Annotated[list[Seed], Field(min_length=1), AfterValidator(distinct)]
    batch_size: Positive
    validation_steps: Positive | None
    select_by: SelectBy
    phases: Phases
    cache_frozen: CacheFrozen = "auto"
    trainings_at_once: Literal["auto"] | Positive = "auto"


class Evaluate(Section):
    """The comparison on the test images.

    Attributes:
        batch_size: the number of images in one forward pass.
    """

    batch_size: Positive = 128


class Images(Section):
    """How image files are read.

    Attributes:
        cache: where decoded pixels are kept: in memory, if they fit in a quarter of the free memory, in a file in
            .work/, or nowhere; it changes no result.
        resize: how images are brought to the models' size, for teacher and student alike.
    """

    cache: Cache = "memory"
    resize: Annotated[Resize, AfterValidator(_antialiased_if_possible)]


class Sample(Section):
    """Where `dvc repro` writes the sample data; `data/sample/dvc.yaml` reads this section.

    Attributes:
        mnist: the folder of 5,000 MNIST images.
    """

    mnist: Literal["data/raw/mnist"]


class Cifar10Download(Section):
    """Where `dvc repro` downloads CIFAR-10; `data/cifar10/dvc.yaml` reads this section.

    Attributes:
        images: the file of the images.
    """

    images: Literal["data/raw/cifar10/cifar10.npz"]


class Params(Section):
    """The whole of params.yaml.

    Attributes:
        images: how image files are read.
        sample: where `dvc repro` writes the sample data; leave it out with data of your own.
        cifar10: where `dvc repro` downloads CIFAR-10; leave it out with other data.
        split: the data set and its parts.
        train_teacher: the teacher, a list of teachers, or an ensemble.
        views: the views of each training image, for the teacher's labels, students and baselines.
        precompute: the teacher's one pass.
        distill: the soft labels and the loss.
        student: the student and its training, with and without soft labels.
        evaluate: the comparison on the test images.
        export: the files for phones, boards and servers.
        card: what the model card says and no file knows.
        limits: how large files may be before they are refused; leave it out for the defaults.
    """

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
    export: Export = Export()
    card: Card
    limits: LimitsSection | None = None

    @model_validator(mode="after")
    def _losses_have_what_they_need(self) -> "Params":
        """Refuses, before the teacher runs, what `train_student` would refuse after it."""
        named = {name: self.distill.loss[name] for name in self.distill.losses}
        if isinstance(self.precompute.storage, TopK):
            for name, loss in named.items():
                if loss.without_tail:
                    raise ValueError(
                        f"distill.losses names {name!r}, which cannot be computed from the largest logits alone: "
                        f"{loss.without_tail}. Expected precompute.storage {{kind: dense, dtype: float16}}, or "
                        "another loss"
                    )
            if changing := [value for value in self.distill.temperatures if isinstance(value, str)]:
                raise ValueError(
                    f"distill.temperatures has {changing[0]}, and precompute.storage keeps the largest logits alone: "
                    "the share of all other classes is known at one temperature. Expected {kind: dense, dtype: "
                    "float16}, or temperatures that do not change"
                )
        return self

    @model_validator(mode="after")
    def _exported_students_are_trained(self) -> "Params":
        """Refuses at once what `export` would refuse after all trainings."""
        groups = [student(name, str(value)) for name in self.distill.losses for value in self.distill.temperatures]
        known = [BEST, *(group.model(seed) for group in (*groups, BASELINE) for seed in self.student.seeds)]
        for name in self.export.students:
            if name not in known:
                near = nearest(name, known)
                raise ValueError(
                    f"export.students names {name!r}, and no such student is trained: expected {BEST}, or a name that "
                    f"follows from distill and student.seeds, such as {known[1]}"
                    + (f". Did you mean {near!r}?" if near else "")
                )
        return self
