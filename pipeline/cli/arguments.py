"""From sections of params.yaml to what the stages take."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.distillation.loss import DistillationLoss
    from pipeline.images.resize import Resize
    from pipeline.images.views import Augmentation, Views
    from pipeline.models.given_teacher import GivenTeacher
    from pipeline.params import sections as sections
    from pipeline.params.split import DataSection
    from pipeline.soft_labels.logit_storage import Storage
    from pipeline.training.recipe import Recipe, TeacherToTrain


def data_set(section: "DataSection") -> dict[str, Any]:
    """Where the images come from: the arguments of `split.run` but for its outputs."""
    own = {"layout", "duplicates", "limit"}
    return {**section.model_dump(include=own), "settings": section.model_dump(exclude=own)}


def recipe(section: "sections.TrainedTeacher | sections.Student", seed: int) -> "Recipe":
    """How a model is trained."""
    from pipeline.training.recipe import Phase, Recipe

    phases = [Phase(**phase.model_dump()) for phase in section.phases]
    return Recipe(phases, section.batch_size, seed, section.validation_steps)


def teachers(section: "sections.TrainTeacher") -> "tuple[list[TeacherToTrain | GivenTeacher], str]":
    """The teachers, one or several, and what is averaged of several."""
    from pipeline.params.sections import Ensemble

    if isinstance(section, Ensemble):
        return [_teacher(member) for member in section.members], section.average
    members = section if isinstance(section, list) else [section]
    return [_teacher(member) for member in members], "logits"


def _teacher(section: "sections.TrainedTeacher | sections.GivenTeacher") -> "TeacherToTrain | GivenTeacher":
    from pipeline.models.given_teacher import GivenTeacher
    from pipeline.params import sections
    from pipeline.training.recipe import TeacherToTrain

    if isinstance(section, sections.GivenTeacher):
        return GivenTeacher(Path(section.model), **section.model_dump(exclude={"model"}))
    return TeacherToTrain(section.model.model_dump(), recipe(section, section.seed), augmentation(section.augmentation))


def views(section: "sections.Views") -> "Views":
    """The views of the training images."""
    from pipeline.images.views import Views

    return Views(section.count, section.seed, augmentation(section.augmentation))


def augmentation(section: "sections.Augmentation") -> "Augmentation":
    """The ranges of the views."""
    from pipeline.images.views import Augmentation

    return Augmentation(**section.model_dump())


def loss(section: "sections.Distill", temperature: float) -> "DistillationLoss":
    """The loss of a student."""
    from pipeline.distillation.loss import DistillationLoss

    return DistillationLoss(
        temperature, section.hard_label_weight, section.scale_by_temperature_squared, section.soft_loss
    )


def stored_as(section: "sections.Precompute") -> "Storage":
    """How logits are stored."""
    from pipeline.soft_labels import logit_storage

    return logit_storage.of(section.storage.model_dump())


def resize(section: "sections.Images") -> "Resize":
    """How images are resized."""
    from pipeline.images.resize import Resize

    return Resize(**section.resize.model_dump())
