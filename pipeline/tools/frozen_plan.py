"""What `plan` says of frozen layers: which numbers are kept in place of running them again, and what that saves."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any

import numpy as np

from pipeline.evaluation.text_table import aligned
from pipeline.inference import cost
from pipeline.models import architectures
from pipeline.models.frozen_part import NOTHING_IS_FROZEN, Cut, cut
from pipeline.runtime.workspace import work_folder
from pipeline.tools.step_speed import images_a_second_in_phase
from pipeline.training.feature_batches import room_for
from pipeline.training.kept_features import Choice, FrozenCache, Room, Shown, choose
from pipeline.training.recipe import Recipe


@dataclass(frozen=True)
class Trainings:
    """Trainings that show the same images.

    Attributes:
        count: how many there are.
        images: how many training images each of them shows.
        cache: how each keeps features.
    """

    count: int
    images: int
    cache: FrozenCache


@dataclass(frozen=True)
class FrozenPhase:
    """The frozen layers of one phase, in all trainings together.

    Attributes:
        number: the number of the phase, from 1.
        reason: why nothing is kept of training images; "" if something is.
        cut: the student, cut in two; None if it is not cut.
        place: where features are kept, in words; "none" if they are not.
        views: how many views of a training image are shown.
        size: the bytes of all that is kept.
        flops: FLOPs of the frozen layers for one image.
        passes: how many images run through the frozen layers.
        passes_if_not_kept: the same if nothing were kept.
        trained: how many images the rest is trained on.
    """

    number: int
    reason: str = ""
    cut: Cut | None = field(default=None, compare=False)
    place: str = "none"
    views: int = 0
    size: int = 0
    flops: int = 0
    passes: int = 0
    passes_if_not_kept: int = 0
    trained: int = 0

    @property
    def flops_saved(self) -> int:
        """In all trainings together, the passes that fill what is kept subtracted."""
        return (self.passes_if_not_kept - self.passes) * self.flops

    def hours(self, speed: Mapping[str, float], passes: int) -> float:
        """The time of so many passes through the frozen layers, and of the rest's training steps.

        Args:
            speed: images per second of "frozen" (forward pass) and "rest" (training step).
            passes: images that run through the frozen layers.
        """
        return (passes / speed["frozen"] + self.trained / speed["rest"]) / 3600


def frozen_layers(
    model: Any, recipe: Recipe, trainings: Sequence[Trainings], *, views: int, validation: int, measure: bool
) -> str:
    """What is kept, in words; "" if no phase has frozen layers.

    Args:
        model: the student; some of its layers are frozen afterwards.
        recipe: how it is trained.
        trainings: those of students and baselines.
        views: V, the number of views of a training image.
        validation: the number of validation images, of which the recipe may use some.
        measure: whether the parts of the student are timed, to tell hours.
    """
    if recipe.validation_steps is not None:
        validation = min(validation, recipe.validation_steps * recipe.batch_size)
    room = room_for(work_folder())
    phases = frozen_phases(model, recipe, trainings, views=views, validation=validation, room=room)
    speeds = {}
    for phase in phases:
        if measure and phase.cut is not None and phase.place != "none":
            architectures.set_trainable(model, recipe.phases[phase.number - 1].trainable_from)  # not the last phase's
            speeds[phase.number] = images_a_second_in_phase(phase.cut, recipe.batch_size, f"phase {phase.number}")
    return as_text(phases, trainings, speeds)


def frozen_phases(
    model: Any, recipe: Recipe, trainings: Sequence[Trainings], *, views: int, validation: int, room: Room
) -> list[FrozenPhase]:
    """What is kept in each phase that has frozen layers; the model's layers are then frozen as in the last phase.

    Whether the frozen layers give an image the same numbers in every batch is not tested here.

    Args:
        model: the student.
        recipe: how it is trained.
        trainings: those of students and baselines.
        views: V, the number of views of a training image.
        validation: the number of validation images.
        room: the bytes that are free.
    """
    found, trained_earlier = [], set[int]()
    for number, phase in enumerate(recipe.phases, 1):
        parts = cut(model, phase.trainable_from, phase.backbone_in_inference_mode)
        if isinstance(parts, Cut):
            are_alike = trained_earlier.isdisjoint(map(id, parts.frozen.weights))
            value_bytes = parts.values * np.dtype(phase.features_dtype).itemsize
            training, validating = [], []
            for one in trainings:
                alike = one.cache.trainings if are_alike else 1
                different, passes, shown = _views_passes_and_images(recipe, number, one.images, views)
                of_training = Shown(one.images, different, passes, alike)
                of_validation = Shown(validation, 1, phase.epochs, alike)
                training.append(_kept(one, of_training, shown, value_bytes, room))
                validating.append(_kept(one, of_validation, validation * phase.epochs, value_bytes, room))
            found.append(_together(number, parts, training, validating))
        elif parts.reason != NOTHING_IS_FROZEN:
            found.append(FrozenPhase(number, parts.reason))
        trained_earlier |= set(map(id, model.trainable_variables))
    return found


def _views_passes_and_images(recipe: Recipe, number: int, images: int, views: int) -> tuple[int, float, int]:
    """How many views of an image the phase of a number shows, in how many passes over how many images in all."""
    in_pass = -(-images // recipe.batch_size)
    *before, steps = [phase.epochs * (phase.steps_per_epoch or in_pass) for phase in recipe.phases[:number]]
    start, end = sum(before), sum(before) + steps
    up_to_start, up_to_end = (step // in_pass * images + step % in_pass * recipe.batch_size for step in (start, end))
    return min(views, (end - 1) // in_pass - start // in_pass + 1), steps / in_pass, up_to_end - up_to_start


@dataclass(frozen=True)
class _Kept:
    """What some trainings keep of the views that each of them shows; `shown` counts the views that all show."""

    choice: Choice
    views: int
    size: float
    passes: float
    shown: float


def _kept(trainings: Trainings, shown: Shown, images_of_one: int, value_bytes: int, room: Room) -> _Kept:
    size = shown.size(value_bytes, 1)
    choice = choose(trainings.cache.setting, shown, size, room)
    in_all = trainings.count * images_of_one
    if choice.place == "none":
        return _Kept(choice, shown.views, 0, in_all, in_all)
    files = trainings.count / shown.trainings  # less than one where other trainings share them
    fillings = files if choice.place == "disk" else trainings.count
    kept_at_once = files if choice.place == "disk" else 1
    return _Kept(choice, shown.views, kept_at_once * size, fillings * shown.images * shown.views, in_all)


def _together(number: int, parts: Cut, training: Sequence[_Kept], validating: Sequence[_Kept]) -> FrozenPhase:
    (place, reason), of_validation = astuple(training[0].choice), validating[0].choice.place
    if place == "none" and of_validation != "none":
        place = f"{of_validation}, of validation images"
    every = [*training, *validating]
    return FrozenPhase(
        number,
        reason,
        parts,
        place=place,
        views=training[0].views,
        size=round(_size(training) + _size(validating)),
        flops=cost.forward_flops(parts.frozen),
        passes=round(sum(one.passes for one in every)),
        passes_if_not_kept=round(sum(one.shown for one in every)),
        trained=round(sum(one.shown for one in training)),
    )


def _size(kept: Sequence[_Kept]) -> float:
    """The bytes of files together; of memory, those of one training."""
    sizes = [one.size for one in kept]
    return max(sizes) if kept[0].choice.place == "memory" else sum(sizes)


def as_text(
    phases: Sequence[FrozenPhase], trainings: Sequence[Trainings], speeds: Mapping[int, Mapping[str, float]]
) -> str:
    """What is kept, as a table, and why nothing is, in sentences; "" if no phase has frozen layers.

    Args:
        phases: of `frozen_phases`.
        trainings: those of students and baselines.
        speeds: those of each phase with kept features, as `FrozenPhase.hours` takes them; empty if not measured.
    """
    rows, notes, count = [], [], sum(one.count for one in trainings)
    for phase in phases:
        if phase.reason:
            of_training = phase.place != "none"
            what = "nothing of training images" if of_training else "nothing"
            notes.append(f"phase {phase.number}: {what} is kept of frozen layers: {phase.reason}")
        if phase.cut is not None and phase.place != "none":
            rows.append(_row(phase, phase.cut, count, speeds.get(phase.number)))
    if rows:
        header = ["frozen layers", "kept", "numbers", "views", "MB", "in", "TFLOPs saved by one", f"by all {count}"]
        table = aligned([header + (["hours", "if not kept"] if speeds else []), *rows], str.rjust)
        setting = trainings[0].cache.setting
        last = f"They run once for each view, and what leaves them is kept (student.cache_frozen: {setting})."
        notes = [*table, *notes, last]
    return "\n".join(notes)


def _row(phase: FrozenPhase, parts: Cut, trainings: int, speed: Mapping[str, float] | None) -> list[str]:
    first, *others = parts.tensors
    row = [
        f"phase {phase.number}",
        first + (f" and {len(others)} more" if others else ""),
        f"{parts.values:,}",
        str(phase.views),
        f"{phase.size / 1e6:,.1f}",
        phase.place,
        f"{phase.flops_saved / trainings / 1e12:,.4g}",
        f"{phase.flops_saved / 1e12:,.4g}",
    ]
    if speed is None:
        return row
    return [*row, *(f"{phase.hours(speed, passes):,.2f}" for passes in (phase.passes, phase.passes_if_not_kept))]
