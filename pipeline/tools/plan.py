"""Command `plan`: the cost of a run, and how many students make offline cheaper than online distillation.

Online distillation runs the teacher on every training image in every epoch of every student. Offline, the teacher runs
once on each view of the training images, and once on the validation and test images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.evaluation.text_table import aligned
from pipeline.images.index import SPLITS
from pipeline.images.views import Views
from pipeline.inference import cost
from pipeline.models.ensembles import combined, refuse_other_sizes
from pipeline.models.given_teacher import completed
from pipeline.models.teacher_file import Average, GivenTeacher, NotTrainedHere
from pipeline.soft_labels import logit_storage
from pipeline.soft_labels.layout import LOGITS_FORMAT, TARGETS_FORMAT, bytes_of_split
from pipeline.tools.image_counts import ImageCounts
from pipeline.training.recipe import Phase, Recipe, TeacherToTrain

PASSES_A_STEP = 3
"""A training step costs about three forward passes: one forward, and twice that backward."""


@dataclass(frozen=True)
class Plan:
    """The cost of a run.

    Attributes:
        images: the data set.
        views: how many views of each training image there are.
        students: how many students will be trained from soft labels.
        epochs: how many epochs each of them is trained, or could be where a phase may end early.
        ends_early: whether a phase may end early.
        images_seen: how many training images each of them sees in all epochs together.
        has_teacher_model: False if the teacher's logits are given, so that no teacher runs.
        teacher_flops: FLOPs of the teacher's forward pass of one image; None if they are not known.
        student_flops: FLOPs of the student's.
        logits_bytes: the size of `teacher_logits.h5`.
        targets_bytes: the size of one `soft_targets_T<T>.h5`.
        temperatures: how many of these files there are.
    """

    images: ImageCounts
    views: int
    students: int
    epochs: int
    ends_early: bool
    images_seen: int
    has_teacher_model: bool
    teacher_flops: int | None
    student_flops: int
    logits_bytes: int
    targets_bytes: int
    temperatures: int

    @property
    def offline_passes(self) -> int:
        """Forward passes of the teacher, one image each."""
        counts = self.images.counts
        return counts["train"] * self.views + counts["val"] + counts["test"]

    @property
    def student_passes(self) -> int:
        """The images that all students see in their training steps."""
        return self.images_seen * self.students

    @property
    def online_passes(self) -> int:
        """Forward passes of the teacher in the students' loops: one for each image that a student sees."""
        return self.student_passes

    @property
    def pays_off_from(self) -> int:
        """The smallest number of students for which the teacher runs less often offline."""
        return self.offline_passes // self.images_seen + 1

    @property
    def views_never_seen(self) -> int:
        """How many of the views no student ever sees."""
        return max(0, self.views - -(-self.images_seen // self.images.counts["train"]))


def make_plan(
    images: ImageCounts,
    views: Views,
    stored_as: logit_storage.Storage,
    *,
    teacher: Any,
    student: Any,
    recipe: Recipe,
    losses: int = 1,
    temperatures: int,
    seeds: int,
) -> Plan:
    """Counts what a run will cost.

    Args:
        images: the data set.
        views: the views of the training images.
        stored_as: how logits are stored.
        teacher: its Keras model; None if its logits are given.
        student: its Keras model.
        recipe: how each student is trained.
        losses: how many losses there are.
        temperatures: how many temperatures there are.
        seeds: how many students are trained for each loss and temperature.
    """
    logits_bytes, targets_bytes = (
        sum(
            bytes_of_split(kind, views.of_split(split), count, images.classes, images.id_bytes[split], stored_as)
            for split, count in images.counts.items()
        )
        for kind in (LOGITS_FORMAT, TARGETS_FORMAT)
    )
    return Plan(
        images=images,
        views=views.count,
        students=losses * temperatures * seeds,
        epochs=recipe.epochs,
        ends_early=any(phase.patience is not None for phase in recipe.phases),
        images_seen=sum(_images_seen(phase, recipe.batch_size, images.counts["train"]) for phase in recipe.phases),
        has_teacher_model=teacher is not None,
        teacher_flops=None if teacher is None or cost.graph_parameters(teacher) else cost.forward_flops(teacher),
        student_flops=cost.forward_flops(student),
        logits_bytes=logits_bytes,
        targets_bytes=targets_bytes,
        temperatures=temperatures,
    )


def _images_seen(phase: Phase, batch_size: int, count: int) -> int:
    """How many images a student sees in all epochs of a phase, of a training set of `count` images."""
    in_an_epoch = count if phase.steps_per_epoch is None else phase.steps_per_epoch * batch_size
    return phase.epochs * in_an_epoch


def teacher_model(
    teachers: Sequence[TeacherToTrain | NotTrainedHere], average: Average, class_names: Sequence[str]
) -> Any:
    """The teacher's Keras model, loaded from a given file or untrained; for several teachers, their ensemble.

    Given logits and votes are left out; the result is None if nothing else is there.

    Raises:
        PipelineError: a given file is missing or cannot be used, or the members of an ensemble do not fit together.
    """
    models = []
    for teacher in teachers:
        if isinstance(teacher, TeacherToTrain):
            models.append(teacher.model.untrained(len(class_names)))
        elif not isinstance(teacher, GivenTeacher):
            continue
        elif teacher.weights_of is not None:
            models.append(teacher.weights_of.untrained(len(class_names)))
        else:
            models.append(completed(teacher, class_names).model)
    if not models:
        return None
    refuse_other_sizes([model.input_shape[1:] for model in models])
    return models[0] if len(models) == 1 else combined(models, average)


def as_text(plan: Plan, speed: Mapping[str, float] | None) -> str:
    """The plan as tables.

    Args:
        plan: the plan.
        speed: images per second of "teacher" (forward pass) and "student" (training step), if they were measured.
    """
    counts = plan.images.counts
    of_each = ", ".join(f"{counts[split]:,} {split}" for split in SPLITS)
    lines = [
        f"{sum(counts.values()):,} images in {plan.images.classes} classes: {of_each} ({plan.images.source})",
        *_about_unlabelled(plan.images),
        f"{plan.views} view(s) of each training image, one of every other: {plan.offline_passes:,} views",
        f"{plan.students} student(s), {'at most ' if plan.ends_early else ''}{plan.epochs} epochs each"
        + (f": they would never see {plan.views_never_seen} of the views" if plan.views_never_seen else ""),
        "",
        *aligned(_files(plan), str.rjust),
        "",
        *aligned(_costs(plan, speed), str.rjust),
        "",
        _against_online(plan),
        "A multiply-add counts as two FLOPs, a training step as three forward passes.",
        "Training the teacher and the baselines is the same either way and not counted.",
    ]
    if speed is not None:
        through_teacher = f"{speed['teacher']:,.0f} images/s through the teacher, " if "teacher" in speed else ""
        lines += [
            f"Hours at the speed measured here: {through_teacher}{speed['student']:,.0f} images/s through",
            "the student's training step, without decoding, validation and the other work of an epoch.",
        ]
    return "\n".join(lines)


def _against_online(plan: Plan) -> str:
    if not plan.has_teacher_model:
        return "No teacher runs: its logits are given, and read from their file."
    return (
        f"Online runs the teacher {plan.online_passes / plan.offline_passes:,.1f} times as often. "
        f"Offline pays off from {plan.pays_off_from} student(s) on."
    )


def _about_unlabelled(images: ImageCounts) -> list[str]:
    """Lines on the images without a label, if there are any."""
    unused = f"{images.unused:,} images without a label are left out; `split` will say why"
    lines = [unused] if images.unused else []
    if not images.unlabelled:
        return lines
    labelled = images.counts["train"] - images.unlabelled
    return [
        *lines,
        f"{images.unlabelled:,} of the training images have no label: they are counted below, as the teacher labels",
        f"them and students learn from them; the teacher and the baselines are trained on the other {labelled:,}",
    ]


def _files(plan: Plan) -> list[list[str]]:
    files = {
        "teacher_logits.h5": (plan.logits_bytes, 1),
        "soft_targets_T<T>.h5": (plan.targets_bytes, plan.temperatures),
    }
    rows = [
        [name, f"{plan.offline_passes:,}", f"{size / 1e6:,.2f}", str(count), f"{count * size / 1e6:,.2f}"]
        for name, (size, count) in files.items()
    ]
    return [["file", "views", "MB each", "files", "MB"], *rows]


def _costs(plan: Plan, speed: Mapping[str, float] | None) -> list[list[str]]:
    students = plan.student_passes * plan.student_flops * PASSES_A_STEP
    rows = [["", "teacher passes", "TFLOPs of teacher", "with students"]]
    ways = {"offline": plan.offline_passes, "online": plan.online_passes} if plan.has_teacher_model else {"students": 0}
    for name, passes in ways.items():
        teacher = 0 if not passes else None if plan.teacher_flops is None else passes * plan.teacher_flops
        total = None if teacher is None else teacher + students
        rows.append([name, f"{passes:,}", _teraflops(teacher), _teraflops(total)])
        if speed is not None:
            seconds = (passes / speed["teacher"] if passes else 0.0) + plan.student_passes / speed["student"]
            rows[-1].append(f"{seconds / 3600:,.2f}")
    if speed is not None:
        rows[0].append("hours")
    return rows


def _teraflops(operations: int | None) -> str:
    if operations is None:
        return "not known"
    number = operations / 1e12
    return f"{number:,.0f}" if number >= 1000 else f"{number:.4g}"
