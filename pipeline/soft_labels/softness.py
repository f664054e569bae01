"""Whether soft labels are soft: logits that are far too large give hard labels at any temperature."""

import numpy as np
from scipy import special

from pipeline.soft_labels.answers import Answers, Floats, answers_in
from pipeline.soft_labels.chance import FEWEST, highest_accuracy
from pipeline.soft_labels.logit_storage import softmax
from pipeline.soft_labels.reading import SoftLabelFile

NO_ENTROPY = 0.01
"""Nats. Soft labels of a smaller mean entropy are nearly hard. Those of sure teachers have more: one of MNIST that is
right on 0.98 has 0.04 at T = 1."""

UNHEARD_OF = 200.0
"""The size of logits (see `size`) above which they are too large. Trained teachers had 5 to 64."""

UNSURE_AT = 4.0
"""At this temperature a trained network's confidence is below its accuracy: one of 1 to 3 makes them equal (Guo and
others, 2017)."""

TOO_SURE = 0.15
"""A mean confidence is too high if it exceeds the accuracy by this much, and the accuracy's upper limit as well."""

FROM_0_TO_1 = (
    "the teacher was trained on pixels from 0 to 1 and gets 0 to 255 (then state `preprocessing: unit` in "
    "train_teacher)"
)


def doubt(answers: Answers, temperature: float) -> str | None:
    """What speaks against soft labels, with the likely cause, in words; None if nothing does.

    Args:
        answers: the answers to the validation images.
        temperature: the largest temperature at which they are softened. In place of one below 1, which sharpens on
            purpose, 1 is used.
    """
    logits, softened_at = answers.logits, max(temperature, 1.0)
    nats, distance, sure = entropy(logits, softened_at), size(logits), too_sure(answers, temperature)
    if nats >= NO_ENTROPY and distance <= UNHEARD_OF and sure is None:
        return None
    measured = (
        f"at T = {softened_at:g} the soft labels have a mean entropy of {nats:.4f} nats, of at most "
        f"{np.log(logits.shape[1]):.4f}; one logit in a hundred lies {distance:,.0f} or more from the mean of its row"
    )
    if sure is not None:
        return (
            f"{measured}; {sure}. Hardly any network is so sure and so often wrong. Likely causes: {FROM_0_TO_1}; its "
            "classes are in another order (`classes`); its last layer scales the logits; or it is over-fitted."
        )
    if distance <= UNHEARD_OF:
        return f"{measured}. They are nearly hard labels: the teacher is very sure. A larger temperature softens them."
    return (
        f"{measured}. Logits so large turn soft labels into hard ones. Likely causes: {FROM_0_TO_1}, or its last layer "
        "scales the logits."
    )


def too_sure(answers: Answers, temperature: float) -> str | None:
    """Says that a teacher's confidence is far above its accuracy even at `UNSURE_AT` or above; None if it is not.

    Logits that are too large show here at any scale if the teacher is wrong on some of the images.
    """
    softened_at, images = max(temperature, UNSURE_AT), len(answers.labels)
    confidence = float(softmax(answers.logits, softened_at).max(axis=1).mean(dtype=np.float64))
    right = int(np.sum(answers.labels == answers.predictions))
    if images < FEWEST or confidence < max(answers.accuracy + TOO_SURE, highest_accuracy(right, images)):
        return None
    return (
        f"even at T = {softened_at:g} its mean confidence is {confidence:.2f}, while it is right on "
        f"{answers.accuracy:.2f} of {images} validation images"
    )


def entropy(logits: Floats, temperature: float) -> float:
    """The mean entropy of softmax(v / T) over R rows of logits (R, C), in nats."""
    return float(special.entr(softmax(logits, temperature)).sum(axis=1, dtype=np.float64).mean())


def size(logits: Floats) -> float:
    """The distance from the mean of its row that one in a hundred logits (R, C) exceeds."""
    rows = logits.astype(np.float64)
    return float(np.quantile(np.abs(rows - rows.mean(axis=1, keepdims=True)), 0.99))


def doubt_about(file: SoftLabelFile, largest_temperature: float) -> str | None:
    """The `doubt` about a file's validation images; soft targets are judged at their own temperature."""
    temperature = largest_temperature if file.temperature is None else file.temperature
    return doubt(answers_in(file, "val"), temperature)
