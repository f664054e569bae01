"""Command `parity`: compares a student's first steps from the file with the same steps with the teacher in the loop.

Offline, the steps are those of stage `train_student`. Online, they are those of `keras.distillation.Distiller`, with
the same initial weights and on the same batches; a loss that Keras does not have is computed there from the logits that
the teacher gives in the loop. A third run measures the effect of rounding alone: the Distiller runs
again, with each pixel and each initial weight moved by one unit in its last place. The rounding errors of the two
online runs are unrelated, so the runs drift apart as any two equivalent methods do in float32.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.distillation.descriptions import CrossEntropy, Kl
from pipeline.distillation.loss import DistillationLoss
from pipeline.distillation.targets import HardAndSoftLabels
from pipeline.distillation.teacher_answers import answers_for
from pipeline.evaluation.text_table import aligned
from pipeline.images.index import read_index
from pipeline.images.resize import DEFAULT_RESIZE, Resize
from pipeline.images.views import Views
from pipeline.models.descriptions import Model
from pipeline.models.ensembles import load_teacher
from pipeline.runtime.digests import sha256_file
from pipeline.runtime.errors import MissingError, ParameterError, UnusableError, first_few
from pipeline.soft_labels.hdf5 import sealed_sha256
from pipeline.soft_labels.identity import Expected, refuse_other
from pipeline.soft_labels.logit_storage import Dense
from pipeline.soft_labels.reading import open_soft_targets
from pipeline.tools.distiller_steps import LAST_PLACE, Steps, offline_steps, online_steps
from pipeline.tools.live_teacher import is_keras_own
from pipeline.training.class_weights import with_class_weights
from pipeline.training.input_pipeline import Examples
from pipeline.training.recipe import Recipe

MARGIN = 10.0
"""Equivalent methods may differ by this many times the distance of two runs that differ only by rounding. Both are the
largest of a few random numbers of one size, so one is rarely more than a few times the other."""

TELLING = 0.1
"""If rounding alone may change more than this share of what is compared, equality would mean nothing."""

EXACT = Dense("float32").as_json()
"""The storage that keeps the teacher's logits as they are."""


@dataclass(frozen=True)
class Parity:
    """The same steps of three trainings.

    Attributes:
        offline: the one from the file.
        online: the one with the teacher in the loop.
        rounded: as `online`, with other rounding errors.
        phases: the number of each step's phase, from 1.
        loss: the student's loss.
        classes: C.
        held_as: how the file holds the teacher's logits: the `as_json` of the storage, and the teacher's precision if
            it is mixed.
    """

    offline: Steps
    online: Steps
    rounded: Steps
    phases: list[int]
    loss: DistillationLoss
    classes: int
    held_as: dict[str, Any]


def run(
    *,
    index: Path,
    teacher: Path,
    soft_targets: Path,
    logits: Path,
    views: Views,
    loss: DistillationLoss,
    model: Model,
    recipe: Recipe,
    resize: Resize = DEFAULT_RESIZE,
    steps: int,
) -> Parity:
    """Trains a student for the first `steps` steps of each phase, offline and online; writes nothing.

    Args:
        index: `data/index.csv`.
        teacher: the `.keras` file of the teacher.
        soft_targets: the `soft_targets_T<T>.h5` to learn from.
        logits: the `teacher_logits.h5` from which they should be made; compared if it exists.
        views: the views that the file must have.
        loss: the student's loss.
        model: the student.
        recipe: how to train.
        resize: how images are resized; the file must have been made with it.
        steps: the number of steps of each phase.

    Raises:
        MissingError: the index, the teacher or the soft labels are missing.
        DamagedError: the index or the soft labels are damaged.
        MismatchError: they do not belong together.
        ParameterError: the student diverged, or the loss cannot be computed from the soft labels.
        UnusableError: the teacher cannot be used.
    """
    loss = _comparable(loss)
    data = read_index(index)
    if not teacher.is_file():
        raise MissingError(f"there is no teacher at {teacher}. Make it with `dvc repro train_teacher`.")
    with ExitStack() as opened:
        file = opened.enter_context(open_soft_targets(soft_targets))
        expected = Expected(
            splits=("train",),
            views=views,
            resize=resize,
            teacher_sha256=sha256_file(teacher),
            logits_sha256=sealed_sha256(logits) if logits.is_file() else None,
            temperature=loss.temperature,
        )
        refuse_other(file, data, expected)
        answers = opened.enter_context(answers_for(loss, file, logits))
        images, precision = data.split("train"), file.provenance.precision
        labels = HardAndSoftLabels(file, "train", images, data.one_hot(images), answers)
        teacher_model = teacher_in_the_loop(teacher, data.class_names)
        examples = Examples.of(images, model.input_shape, labels, resize, cache="none")
        seen_by_teacher = None
        if teacher_model.input_shape[1:] != tuple(model.input_shape):
            seen_by_teacher = Examples.of(images, teacher_model.input_shape[1:], labels, resize, cache="none")
        weighted = with_class_weights(recipe, data)

        def student() -> Any:
            return model.build(classes=len(data.class_names), seed=recipe.seed)

        offline = _finite(offline_steps(student(), examples, loss, weighted, steps))
        online, rounded = online_steps(student(), examples, loss, weighted, steps, teacher_model, seen_by_teacher)
        return Parity(
            offline=offline,
            online=_finite(online),
            rounded=_finite(rounded),
            phases=[number for number in range(1, len(recipe.phases) + 1) for _ in range(steps)],
            loss=loss,
            classes=len(data.class_names),
            held_as=file.storage.as_json() | ({"precision": precision} if precision else {}),
        )


def teacher_in_the_loop(teacher: Path, class_names: Sequence[str]) -> Any:
    """The teacher's model; the arguments and other errors are those of `load_teacher`.

    Raises:
        UnusableError: it is no model.
    """
    loaded = load_teacher(teacher, class_names)
    if loaded.model is None:
        answers = [member for member in loaded.members if member.answers is not None]
        what = "holds given answers"
        if loaded.average is not None:
            named = first_few([member.described for member in answers])
            what = (
                f"is an ensemble of which {len(answers)} of {len(loaded.members)} members are given answers ({named})"
            )
        raise UnusableError(
            f"{teacher} {what}, so no model can be put into the student's loop. `softlabel parity` needs a "
            "teacher that is a model; `softlabel verify` checks the soft labels."
        )
    return loaded.model


def _comparable(loss: DistillationLoss) -> DistillationLoss:
    """The same loss with the KL divergence in place of the cross-entropy, which has the same gradient.

    Keras has the divergence alone.
    """
    if not isinstance(loss.soft_loss, CrossEntropy):
        return loss
    divergence = Kl(student_temperature=loss.soft_loss.student_temperature)
    return DistillationLoss.from_config(loss.get_config() | {"soft_loss": divergence.as_json()})


def _finite(steps: Steps) -> Steps:
    if not all(np.isfinite(values).all() for values in (np.array(steps.losses), *steps.weights)):
        raise ParameterError(
            f"the student diverged: its losses were {first_few([f'{loss:.3g}' for loss in steps.losses])}. "
            "Lower the learning_rate of student.phases, or compare fewer steps."
        )
    return steps


@dataclass(frozen=True)
class Distance:
    """How far two trainings are from the one with the teacher in the loop.

    Attributes:
        offline: the distance of the offline training.
        rounding: the distance of the training with other rounding errors, but at least one unit in the last place.
        size: the size of the numbers that were compared.
    """

    offline: float
    rounding: float
    size: float

    @property
    def is_rounding(self) -> bool:
        """Whether rounding explains the offline distance."""
        return self.offline <= MARGIN * self.rounding

    @property
    def is_telling(self) -> bool:
        """Whether rounding is small enough for a difference to be seen."""
        return MARGIN * self.rounding <= TELLING * self.size


def distances(parity: Parity) -> dict[str, Distance]:
    """The largest distance of the loss of a step, and that of a weight at the end."""
    offline, online, rounded = parity.offline, parity.online, parity.rounded
    # The KL divergence is the difference of two cross-entropies, and keeps their rounding errors.
    is_scaled = parity.loss.scale_by_temperature_squared and parity.loss.soft_loss.is_scaled
    scale = parity.loss.temperature**2 if is_scaled else 1.0
    subtracted = (1.0 - parity.loss.hard_label_weight) * scale * math.log(parity.classes)
    losses = ([np.array(steps.losses)] for steps in (offline, online, rounded))
    return {
        "the loss of a step": _distance(2.0 * subtracted, *losses),
        "a weight at the end": _distance(0.0, offline.weights, online.weights, rounded.weights),
    }


def _distance(subtracted: float, offline: list[Any], online: list[Any], rounded: list[Any]) -> Distance:
    size = subtracted + _furthest(online, [np.zeros_like(values) for values in online])
    return Distance(_furthest(offline, online), max(_furthest(rounded, online), LAST_PLACE * size), size)


def _furthest(some: list[Any], others: list[Any]) -> float:
    return max(float(np.max(np.abs(a - b), initial=0.0)) for a, b in zip(some, others, strict=True))


def is_equal(parity: Parity) -> bool | None:
    """Whether offline equals online.

    Returns:
        None if the file holds rounded logits, or if rounding alone moves the student too far to tell.
    """
    measured = distances(parity).values()
    if parity.held_as != EXACT or not all(distance.is_telling for distance in measured):
        return None
    return all(distance.is_rounding for distance in measured)


def as_text(parity: Parity) -> str:
    """Both loss curves, the largest differences, and what they mean."""
    measured = distances(parity)
    largest = [
        [f"largest difference of {name}", f"{distance.offline:.1e}", f"{distance.rounding:.1e}"]
        for name, distance in measured.items()
    ]
    return "\n".join(
        [
            f"The student at {_temperature(parity.loss)}: the loss of each step, before it changes the weights.",
            "",
            *aligned([["phase", "step", "offline", "online", "difference"], *_curves(parity)], str.rjust),
            "",
            *aligned([["", "offline from online", "rounding alone"], *largest], str.rjust),
            "",
            f"Online: keras.distillation.Distiller{_strategy(parity.loss)}.",
            "Rounding alone: the same, with pixels and initial weights moved by one unit in the last place.",
            "",
            _verdict(parity, measured),
        ]
    )


def _temperature(loss: DistillationLoss) -> str:
    course = loss.course
    return f"T = {course.first:g}" + (f" to {course.last:g}, from step to step" if course.changes else "")


def _strategy(loss: DistillationLoss) -> str:
    return "" if is_keras_own(loss) else f", with the loss {loss.soft_loss.kind} of the logits that its teacher gives"


def _curves(parity: Parity) -> Iterator[list[str]]:
    step = 0
    rows = zip(parity.phases, parity.offline.losses, parity.online.losses, strict=True)
    for before, (phase, offline, online) in zip([0, *parity.phases], rows, strict=False):
        step = step + 1 if phase == before else 1
        yield [str(phase), str(step), f"{offline:#.9g}", f"{online:#.9g}", f"{offline - online:+.1e}"]


def _verdict(parity: Parity, measured: dict[str, Distance]) -> str:
    if parity.held_as != EXACT:
        rounded = ", ".join(f"{name} {value}" for name, value in parity.held_as.items())
        return f"The file holds the logits rounded ({rounded}): this is how far the student drifts."
    if not all(distance.is_telling for distance in measured.values()):
        return (
            "Nothing can be told: rounding alone moves the student too far. Compare fewer steps, or lower the "
            "learning_rate of student.phases."
        )
    if not is_equal(parity):
        worst = max(distance.offline / distance.rounding for distance in measured.values())
        return f"Offline is not online: they differ by {worst:.0f} times what rounding does; {MARGIN:.0f} is the limit."
    if parity.loss.hard_label_weight == 1.0:
        return "They are equal, but soft labels have no part in it: distill.hard_label_weight is 1."
    return "Offline equals online: they differ by no more than rounding."
