"""From sections of params.yaml to what the stages take."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.distillation.loss import DistillationLoss
    from pipeline.models.teacher_file import Average, GivenTeacher
    from pipeline.params import sections
    from pipeline.params.split import DataSection
    from pipeline.training.recipe import Recipe, TeacherToTrain


def data_set(section: "DataSection") -> dict[str, Any]:
    """Where the images come from: the arguments of `split.run` but for its outputs."""
    own = {"layout", "duplicates", "limit"}
    return {**section.model_dump(include=own), "settings": section.model_dump(exclude=own)}


def recipe(section: "sections.TrainedTeacher | sections.Student", seed: int) -> "Recipe":
    """How a model is trained."""
    from pipeline.training.recipe import Recipe

    return Recipe(section.phases, section.batch_size, seed, section.validation_steps)


def teachers(section: "sections.TrainTeacher") -> "tuple[list[TeacherToTrain | GivenTeacher], Average]":
    """The teachers, one or several, and what is averaged of several."""
    from pipeline.params.sections import Ensemble

    if isinstance(section, Ensemble):
        return [_teacher(member) for member in section.members], section.average
    members = section if isinstance(section, list) else [section]
    return [_teacher(member) for member in members], "logits"


def _teacher(section: "sections.TrainedTeacher | GivenTeacher") -> "TeacherToTrain | GivenTeacher":
    from pipeline.models.teacher_file import GivenTeacher
    from pipeline.training.recipe import TeacherToTrain

    if isinstance(section, GivenTeacher):
        return section
    return TeacherToTrain(section.model, recipe(section, section.seed), section.augmentation)


def loss(section: "sections.Distill", temperature: float) -> "DistillationLoss":
    """The loss of a student."""
    from pipeline.distillation.loss import DistillationLoss

    return DistillationLoss(
        temperature, section.hard_label_weight, section.scale_by_temperature_squared, section.soft_loss
    )
