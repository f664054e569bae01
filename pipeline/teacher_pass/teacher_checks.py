"""Refuses a teacher whose answers to the validation images cannot be right, before the hours of its pass begin."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.models.records import are_stored
from pipeline.runtime.errors import MismatchError, UnusableError, first_few
from pipeline.soft_labels.answers import Answers
from pipeline.soft_labels.chance import ABOVE_CHANCE, FEWEST, as_good_as, chance, knows_nothing
from pipeline.teacher_pass.class_order import OtherOrder, other_order

SIGNIFICANT = 1e-3
"""The probability with which a teacher that is as good as stated may be refused."""

TOLERATED = 0.02
"""An accuracy may differ by this much from the one that was stated, which is rounded and comes from other images."""

NEARLY_ALL = 0.95
"""A warning names the class that has at least this share of a teacher's answers."""

LONGEST_LIST = 1000
"""Characters; a message shows no longer list of classes."""

TRAINED_HERE = (
    "It was trained by this program on these classes. Check that validation and training images are labelled in the "
    "same way, then train it again, longer or with other settings."
)
OF_A_TABLE = (
    "Likely causes: its classes are in another order (`classes`); its rows stand under the ids of other images; the "
    "program that made it scaled or resized the images in another way than in its teacher's training."
)
OF_A_MODEL = (
    "Likely causes: its classes are in another order (`classes`); its pixels are scaled in another way than in its "
    "training, or twice, by the model itself and by `preprocessing` in train_teacher; they are resized in another way "
    "(`images.resize`)."
)


def refuse_unsound(
    answers: Answers, described: str, class_names: Sequence[str], record: Mapping[str, Any] | None
) -> None:
    """Compares a teacher's answers with other orders of the classes, with its stated accuracy, and with chance.

    Args:
        answers: the answers to the validation images.
        described: the name of the teacher in messages.
        class_names: C names.
        record: the record in its file, as `read_record` returns it.

    Raises:
        MismatchError: it is clearly better under another order of the classes, or clearly less accurate than stated.
        UnusableError: it is no better than chance, and no accuracy is stated.
    """
    given = {} if record is None else record.get("given") or {}
    is_ours = record is not None and "given" not in record and not are_stored(record)
    causes = OF_A_TABLE if are_stored(record) else OF_A_MODEL
    in_doubt = TRAINED_HERE if is_ours else causes
    stated, right = given.get("accuracy"), f"right on {answers.accuracy:.4f} of {len(answers.labels)} validation images"
    other = other_order(answers.labels, answers.predictions, len(class_names))
    if other is not None:
        remedy = TRAINED_HERE if is_ours else _order_to_state(other, class_names, given)
        raise MismatchError(f"{described} is {right}, {in_words(other, class_names)}. {remedy}")
    if stated is not None and reaches(answers, stated):
        _warn_of_chance(answers, described, class_names, in_doubt)
        if exceeds(answers, stated):
            print(
                f"warning: {described} is {right}, and train_teacher.accuracy says {stated:g}. Was it trained on some "
                "of them?",
                file=sys.stderr,
            )
        return
    if stated is not None:
        raise MismatchError(
            f"{described} is {right}, but train_teacher.accuracy says {stated:g}. {causes} If these images are harder, "
            "state the lower accuracy."
        )
    if knows_nothing(answers):
        remedy = f"{causes} If it was no better elsewhere, state in train_teacher the `accuracy` that it had there."
        raise UnusableError(
            f"{described} is {right}, no more than by chance ({chance(answers.labels, answers.predictions):.4f}). "
            f"{TRAINED_HERE if is_ours else remedy}"
        )
    _warn_of_chance(answers, described, class_names, in_doubt)


def _warn_of_chance(answers: Answers, described: str, class_names: Sequence[str], remedy: str) -> None:
    if doubt := may_be_chance(answers, class_names):
        print(
            f"warning: {described}: of the validation images, {doubt}. It may know nothing. {remedy}", file=sys.stderr
        )


def suggests_other_order(answers: Answers, class_names: Sequence[str]) -> str | None:
    """How answers suggest another order of the classes, in words; None if they do not."""
    other = other_order(answers.labels, answers.predictions, len(class_names))
    return None if other is None else f"the teacher is right on {answers.accuracy:.4f}, {in_words(other, class_names)}"


def suggests_chance(answers: Answers) -> str | None:
    """How answers suggest that the teacher knows nothing, in words; None if they are better than chance, or too few."""
    if not knows_nothing(answers):
        return None
    by_chance = chance(answers.labels, answers.predictions)
    return f"the teacher is right on {answers.accuracy:.4f}, no more than by chance ({by_chance:.4f})"


def may_be_chance(answers: Answers, class_names: Sequence[str]) -> str | None:
    """Why a teacher may be no better than chance, even if that is too uncertain to refuse it; None if it is better."""
    images, right = len(answers.labels), int(np.sum(answers.labels == answers.predictions))
    by_chance = chance(answers.labels, answers.predictions)
    if images < FEWEST or right == images or as_good_as(right, images, by_chance) < ABOVE_CHANCE:
        return None
    counts = np.bincount(answers.predictions)
    if (most := counts.max()) < NEARLY_ALL * images:
        return f"{right} of {images} answers are right; chance alone gives about {by_chance * images:.1f}"
    name, count = class_names[int(counts.argmax())], int(np.sum(answers.labels == counts.argmax()))
    share = f"all {images}" if most == images else f"{most} of {images}"
    return f"the teacher answers {name} for {share} images, but {count} belong to {name}"


def in_words(other: OtherOrder, class_names: Sequence[str]) -> str:
    """The accuracy under another order in words, and the classes that move."""
    moved = [f"{output} means {name}" for output, name in other.meanings(class_names).items() if output != name]
    return f"but on {other.accuracy:.4f} if its outputs were in another order: {first_few(moved)}"


def _order_to_state(other: OtherOrder, class_names: Sequence[str], given: Mapping[str, Any]) -> str:
    """What to write in `train_teacher.classes`, as a list or a map, whichever stands there now."""
    meanings, stated = other.meanings(class_names), given.get("classes") or list(class_names)
    renamed = [meanings.get(name, name) for name in stated]
    classes = dict(zip(renamed, stated.values(), strict=True)) if isinstance(stated, dict) else renamed
    listed = json.dumps(classes, ensure_ascii=False)
    if len(listed) > LONGEST_LIST:
        return "State the order of its outputs, as it was trained, in train_teacher.classes."
    return f"State the order of its outputs, as it was trained, in train_teacher. This one fits: `classes: {listed}`"


def reaches(answers: Answers, stated: float) -> bool:
    """Whether answers are as accurate as stated, up to `TOLERATED` and bad luck (an exact one-sided test)."""
    count, wrong = len(answers.labels), int(np.sum(answers.labels != answers.predictions))
    return bool(as_good_as(wrong, count, 1 - max(stated - TOLERATED, 0.0)) >= SIGNIFICANT)


def exceeds(answers: Answers, stated: float) -> bool:
    """Whether answers are clearly more accurate than stated (an exact one-sided test)."""
    count, right = len(answers.labels), int(np.sum(answers.labels == answers.predictions))
    return bool(as_good_as(right, count, min(stated + TOLERATED, 1.0)) < SIGNIFICANT)
