"""Judges the teacher's answers to the validation images, before the hours of its pass begin."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.images.index import Image, Index, fingerprint_of
from pipeline.models import keras_files
from pipeline.models.records import are_stored
from pipeline.runtime.errors import MismatchError, UnusableError
from pipeline.soft_labels.answers import Answers, sample_of
from pipeline.soft_labels.softness import doubt
from pipeline.teacher_pass.teacher_checks import refuse_unsound
from pipeline.teacher_pass.unfinished_logits import UnfinishedLogits

ROUNDING = 5e-3
"""The sum of probabilities that were stored as float16 may differ from 1 by this much."""

Record = Mapping[str, Any] | None


def judge(
    unfinished: UnfinishedLogits, data: Index, described: str, record: Record, largest_temperature: float
) -> None:
    """Refuses a teacher whose answers to the validation images cannot be right, and warns of doubtful ones.

    It reads the stored answers, so a pass that goes on after an interruption is judged as well.

    Args:
        unfinished: the file, in which the split "val" is complete.
        data: the index.
        described: the name of the teacher in messages.
        record: the record in its file, as `read_record` returns it.
        largest_temperature: the largest T at which the logits will be softened.

    Raises:
        UnusableError: it gives no logits, or `refuse_unsound` refuses it.
        MismatchError: it is less accurate than when it was trained, or `refuse_unsound` refuses it.
    """
    images = data.split("val")
    labels = np.asarray(data.labels(images))
    logits = unfinished.logits("val", sample_of(len(labels)))
    answers = Answers(labels, unfinished.predictions("val"), logits)
    _refuse_probabilities(unfinished, described, record)
    _refuse_less_accurate(answers, images, described, record)
    if hard_labels := doubt(answers, largest_temperature):
        print(f"warning: {described}: {hard_labels}", file=sys.stderr)
    refuse_unsound(answers, described, data.class_names, record)


def _refuse_probabilities(unfinished: UnfinishedLogits, described: str, record: Record) -> None:
    smallest, largest, sums = unfinished.outputs("val")
    if smallest.min() < 0 or largest.max() > 1 + ROUNDING:
        return
    if are_stored(record):
        raise UnusableError(
            f"all numbers that {described} has for the validation images lie between 0 and 1, so they seem to be "
            "probabilities that were given as logits. Say in the table that they are probabilities (docs/guide.md); if "
            "they are logits nevertheless, subtract 1 from all: this changes no probability."
        )
    if np.allclose(sums, 1, rtol=0, atol=ROUNDING):
        raise UnusableError(f"{described} {keras_files.NO_LOGITS}")
    finding = f"all outputs of {described} for the validation images lie between 0 and 1"
    if record is None or "given" in record:
        raise UnusableError(
            f"{finding}, as those of a sigmoid or another activation do. Logits are the numbers before it: save the "
            "model with activation=None in its last layer. If the outputs are logits nevertheless, subtract 1 from "
            "each bias of that layer: this changes no probability."
        )
    print(f"warning: {finding}. Are they logits?", file=sys.stderr)


def _refuse_less_accurate(answers: Answers, images: Sequence[Image], described: str, record: Record) -> None:
    """Compares the teacher's accuracy on its validation images with the one recorded in its file."""
    accuracy = answers.accuracy
    recorded = None if record is None else record.get("validation")
    if recorded is None or recorded["images"] != fingerprint_of(images):
        then = "not recorded" if recorded is None else f"{recorded['accuracy']:.4f}, on other images"
        print(f"validation accuracy of {described}: {accuracy:.4f} (when it was trained: {then})", file=sys.stderr)
        return
    then = recorded["accuracy"]
    # One image, or one in 200, may differ: its two largest logits may be so close that rounding decides.
    if abs(accuracy - then) > max(1, len(images) / 200) / len(images) + 1e-6:
        raise MismatchError(
            f"{described} is right on {accuracy:.4f} of its {len(images)} validation images, but was right on "
            f"{then:.4f} when it was trained. Its file, the images or the libraries have changed. Train it again "
            "with `dvc repro --single-item --force train_teacher`, then `dvc repro`."
        )
