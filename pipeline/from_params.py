"""From sections of params.yaml to what the stages take."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline import params_schema as sections
    from pipeline.storage import Storage
    from pipeline.training import Recipe
    from pipeline.views import Augmentation, Views


def recipe(section: "sections.TrainTeacher | sections.Student", seed: int) -> "Recipe":
    """How a model is trained."""
    from pipeline.training import Phase, Recipe

    phases = [Phase(**phase.model_dump()) for phase in section.phases]
    return Recipe(phases=phases, batch_size=section.batch_size, seed=seed)


def views(section: "sections.Views") -> "Views":
    """The views of the training images."""
    from pipeline.views import Views

    return Views(section.count, section.seed, augmentation(section.augmentation))


def augmentation(section: "sections.Augmentation") -> "Augmentation":
    """The ranges of the views."""
    from pipeline.views import Augmentation

    return Augmentation(**section.model_dump())


def stored_as(section: "sections.Precompute") -> "Storage":
    """How logits are stored."""
    from pipeline import storage

    return storage.of(section.storage.model_dump())
