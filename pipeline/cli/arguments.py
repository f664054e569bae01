"""The arguments of the stages and tools, made from params.yaml and its sections."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.runtime.errors import ParameterError, PipelineError, first_few
from pipeline.runtime.limits import DEFAULT, use
from pipeline.runtime.text_files import read_bytes

if TYPE_CHECKING:
    from pipeline.distillation.loss import DistillationLoss
    from pipeline.evaluation.names import Group
    from pipeline.measures.best_epoch import SelectBy
    from pipeline.models.descriptions import Model
    from pipeline.models.teacher_file import Average, NotTrainedHere
    from pipeline.params import sections
    from pipeline.params.distill import Distill
    from pipeline.params.split import DataSection
    from pipeline.tools.verify import Parameters
    from pipeline.training.kept_features import FrozenCache
    from pipeline.training.recipe import Recipe, TeacherToTrain


OF_COPIES = {"copy", "links"}
"""The keys of `split` that do not say which images there are."""


def all_params() -> "sections.Params":
    """The whole of params.yaml, whose limits are in force from here on."""
    from pipeline.params.reading import read_params

    return _limited(read_params())


def params_of(stage: str, **item: str) -> "sections.Params":
    """The parameters that a stage may see, or one item of its matrix. From here on the stage ends when `dvc` ends."""
    from pipeline.cli.kept_lock import keep_copy
    from pipeline.cli.orphan import stop_with_dvc
    from pipeline.params.reading import load_params

    stop_with_dvc()
    keep_copy()
    return _limited(load_params(stage, item=item))


def limits_of_params() -> None:
    """Puts the limits of a params.yaml in force, also for commands that read nothing else of it, or of a broken one."""
    file = Path("params.yaml")
    with suppress(OSError, PipelineError, ValueError):  # what reads all of it says so
        if not file.is_file() or b"limits" not in read_bytes(file, "", "params_bytes"):
            return
        from pipeline.params.limits import LimitsSection
        from pipeline.params.reading import read_yaml

        use(LimitsSection.model_validate(read_yaml(file, ParameterError).get("limits")).in_force)


def _limited(params: "sections.Params") -> "sections.Params":
    use(DEFAULT if params.limits is None else params.limits.in_force)
    return params


def data_set(section: "DataSection") -> dict[str, Any]:
    """The arguments of `split.run` that say where the images come from."""
    from pipeline.datasets.unlabelled import NONE_EXPECTED, Unlabelled

    own = {"layout", "duplicates", "limit"}
    settings = section.model_dump(exclude={*own, *OF_COPIES})
    unlabelled = settings["unlabelled"] or {}
    use = unlabelled.pop("use", True)
    settings["unlabelled"] = Unlabelled(**unlabelled) if unlabelled else NONE_EXPECTED
    return {**section.model_dump(include=own), "settings": settings, "use_unlabelled": use}


def copies(section: "DataSection") -> dict[str, Any]:
    """The arguments of `split.run` that say whether images are copied; none of layouts without image files."""
    return section.model_dump(include=OF_COPIES)


def recipe(section: "sections.TrainedTeacher | sections.Student", seed: int) -> "Recipe":
    """How a model is trained."""
    from pipeline.training.recipe import Recipe

    return Recipe(section.phases, section.batch_size, seed, section.validation_steps, section.select_by)


def teachers(section: "sections.TrainTeacher") -> "tuple[list[TeacherToTrain | NotTrainedHere], Average]":
    """The teachers, one or several, and what is averaged if there are several."""
    from pipeline.params.sections import Ensemble

    if isinstance(section, Ensemble):
        return [_teacher(member) for member in section.members], section.average
    members = section if isinstance(section, list) else [section]
    return [_teacher(member) for member in members], "logits"


def _teacher(section: "sections.TrainedTeacher | NotTrainedHere") -> "TeacherToTrain | NotTrainedHere":
    from pipeline.params.sections import TrainedTeacher
    from pipeline.training.recipe import TeacherToTrain

    if not isinstance(section, TrainedTeacher):
        return section
    return TeacherToTrain(section.model, recipe(section, section.seed), section.augmentation)


def refuse_other_classes(params: "sections.Params", class_names: "Sequence[str]") -> None:
    """Compares what params.yaml says of classes with those of the data set.

    Raises:
        ParameterError: a `class_weight` names other classes, or a loss says nothing of so few.
    """
    from pipeline.distillation.descriptions import refuse_too_few_classes
    from pipeline.training.class_weights import refuse_other_names
    from pipeline.training.recipe import TeacherToTrain

    members, _ = teachers(params.train_teacher)
    phases = [phase for member in members if isinstance(member, TeacherToTrain) for phase in member.recipe.phases]
    for phase in (*phases, *params.student.phases):
        if isinstance(phase.class_weight, dict):
            refuse_other_names(phase.class_weight, class_names)
    for name in params.distill.losses:
        refuse_too_few_classes(params.distill.loss[name], len(class_names))


def not_trained_here(teachers: "Sequence[TeacherToTrain | NotTrainedHere]") -> "list[NotTrainedHere]":
    """Those of some teachers that are given."""
    from pipeline.training.recipe import TeacherToTrain

    return [teacher for teacher in teachers if not isinstance(teacher, TeacherToTrain)]


def teachers_select_by(section: "sections.TrainTeacher") -> "list[SelectBy]":
    """What chooses the best epoch of each teacher; of one that is given, it does not matter."""
    from pipeline.training.recipe import TeacherToTrain

    members, _ = teachers(section)
    return [member.recipe.select_by if isinstance(member, TeacherToTrain) else "accuracy" for member in members]


def of_precompute(params: "sections.Params") -> dict[str, Any]:
    """The arguments of `precompute.run` that params.yaml decides."""
    return {
        "views": params.views,
        "stored_as": params.precompute.storage,
        "batch_size": params.precompute.batch_size,
        "precision": params.precompute.precision,
        "resize": params.images.resize,
        "cluster": params.precompute.ray if params.precompute.engine == "ray" else None,
        # The temperatures only word a warning. dvc.yaml does not declare them for this stage, since a new temperature
        # must not run the teacher again; so they are read from the whole file.
        "largest_temperature": largest_temperature(all_params().distill),
    }


def of_soft_labels(params: "sections.Params") -> "Parameters":
    """What params.yaml says that soft-label files should agree with."""
    from pipeline.tools.verify import Parameters

    members, _ = teachers(params.train_teacher)
    storage, precision = params.precompute.storage, params.precompute.precision
    return Parameters(params.views, storage, precision, params.images.resize, not_trained_here(members))


def size_of_views(params: "sections.Params") -> tuple[int, int, int]:
    """(height, width, channels) of the teacher's model, if params.yaml describes one and no other, or the student's."""
    from pipeline.training.recipe import TeacherToTrain

    members, _ = teachers(params.train_teacher)
    models = [member.model if isinstance(member, TeacherToTrain) else _weights_of(member) for member in members]
    shapes = {None if model is None else model.input_shape for model in models}
    (shape,) = shapes if len(shapes) == 1 else (None,)
    return shape or params.student.model.input_shape


def _weights_of(teacher: "NotTrainedHere") -> "Model | None":
    from pipeline.models.teacher_file import GivenTeacher

    return teacher.weights_of if isinstance(teacher, GivenTeacher) else None


def frozen_cache(params: "sections.Params", *, labelled_only: bool) -> "FrozenCache":
    """How a training of a student or baseline keeps what leaves frozen layers.

    Students of all losses and temperatures show the same views to the same weights; so do those of other seeds unless
    their weights are random. Baselines join them if there are no images without a label.

    Args:
        params: the whole of params.yaml; what is read of it changes no result.
        labelled_only: whether it is a baseline.
    """
    from pipeline.training.kept_features import FrozenCache

    seeds = 1 if params.student.model.weights is None else len(params.student.seeds)
    groups = len(students(params.distill))
    unlabelled = params.split.unlabelled
    has_own_images = unlabelled is not None and unlabelled.use
    alike = groups + 1 if not has_own_images else 1 if labelled_only else groups
    return FrozenCache(params.student.cache_frozen, seeds * alike)


def frozen_cache_of_teacher(section: "sections.Student") -> "FrozenCache":
    """How the training of a teacher does, which shares with no other."""
    from pipeline.training.kept_features import FrozenCache

    return FrozenCache(section.cache_frozen)


def largest_temperature(section: "Distill") -> float:
    """The largest temperature at which logits are softened."""
    from pipeline.runtime.temperatures import softened_at

    return max(softened_at(str(temperature)) for temperature in section.temperatures)


def students(section: "Distill") -> "list[Group]":
    """The groups of students: one for each loss and temperature."""
    from pipeline.evaluation.names import student

    return [student(name, str(temperature)) for name in section.losses for temperature in section.temperatures]


def exported(params: "sections.Params", name: str) -> dict[str, Any]:
    """The arguments of `export.run` that `export` decides, for one of `export.students`.

    Raises:
        ParameterError: no such student is trained.
    """
    from pipeline.cli.paths import model_file
    from pipeline.evaluation.names import BASELINE
    from pipeline.params.export import BEST

    groups = students(params.distill)
    known = {
        group.model(seed): model_file(group, seed) for group in (*groups, BASELINE) for seed in params.student.seeds
    }
    if name != BEST and name not in known:
        raise ParameterError(
            f"there is no student {name!r}. Expected {BEST}, or one of those that params.yaml has trained: "
            f"{first_few(list(known))}."
        )
    of_students = {other: file for other, file in known.items() if not other.startswith(BASELINE.key)}
    return {
        "students": of_students if name == BEST else {name: known[name]},
        "select_by": params.student.select_by if name == BEST else None,
        "formats": params.export.formats,
        "softmax": params.export.softmax,
        "calibration_count": params.export.calibration_images,
        "max_accuracy_drop": params.export.max_accuracy_drop,
    }


def loss(section: "Distill", name: str, temperature: str) -> "DistillationLoss":
    """The loss of a student.

    Raises:
        ParameterError: `distill.loss` has no entry of this name.
    """
    from pipeline.distillation.loss import DistillationLoss
    from pipeline.runtime.temperatures import Temperature

    if name not in section.loss:
        raise ParameterError(f"params.yaml has no distill.loss.{name}. Add it, or name an entry that is there.")
    soft_loss = section.loss[name]
    weight = soft_loss.hard_label_weight
    course = Temperature.parsed(temperature)
    return DistillationLoss(
        course.first,
        section.hard_label_weight if weight is None else weight,
        section.scale_by_temperature_squared,
        soft_loss,
        last_temperature=course.last if course.changes else None,
    )
