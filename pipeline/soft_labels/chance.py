"""Whether a teacher's answers are better than chance: exact tests that err on the teacher's side."""

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, betaincinv

from pipeline.soft_labels.answers import Answers, Ints, sample_of

ABOVE_CHANCE = 0.1
"""An accuracy that chance reaches less often than that is above chance: weak teachers shall not be refused."""

SLIGHT_AGREEMENT = 0.2
"""Cohen's kappa of a teacher that knows next to nothing. Only one whose kappa is below it with 99 % confidence can be
refused: a few images show that of none but one that is wrong on nearly all of them."""

FEWEST = 20
"""Images that a warning is worth."""


def as_good_as(right: Ints | int, images: Ints | int, probability: float) -> npt.NDArray[np.float64]:
    """P(X >= right) for X from the binomial distribution of `images` draws: exact, one-sided.

    The tail is a regularised incomplete beta function (Abramowitz and Stegun, 26.5.24).
    """
    right, images = np.asarray(right), np.asarray(images)
    tail = betainc(np.maximum(right, 1), images - right + 1, probability)
    return np.asarray(np.where(right == 0, 1.0, tail))


def highest_accuracy(right: int, images: int) -> float:
    """The upper limit of 99 % confidence of an accuracy, one-sided (Clopper and Pearson, 1934)."""
    return 1.0 if right == images else float(betaincinv(right + 1, images - right, 0.99))


def chance(labels: Ints, predictions: Ints) -> float:
    """The accuracy if (N,) labels and predictions had nothing to do with each other.

    It is sum_c p_label(c) p_prediction(c) (Cohen, 1960): a teacher that names one class only, however common that
    class is, is right by chance.
    """
    classes = max(labels.max(), predictions.max()) + 1
    counts = np.bincount(labels, minlength=classes) @ np.bincount(predictions, minlength=classes)
    return float(counts / len(labels) ** 2)


def is_no_better_than_chance(labels: Ints, predictions: Ints) -> bool:
    """Whether (N,) predictions are right no more often than by chance, on images enough to tell."""
    right, by_chance = int(np.sum(labels == predictions)), chance(labels, predictions)
    if as_good_as(right, len(labels), by_chance) < ABOVE_CHANCE:
        return False
    return highest_accuracy(right, len(labels)) - by_chance < SLIGHT_AGREEMENT * (1 - by_chance)


def knows_nothing(answers: Answers) -> bool:
    """Whether answers are no better than chance.

    Where one class has more than half of the images, naming it always may be all that a sound teacher can do. What
    it knows shows in what it says beyond its mean logit of each class, so that counts as well there.
    """
    if not is_no_better_than_chance(answers.labels, answers.predictions):
        return False
    if np.bincount(answers.labels).max() <= len(answers.labels) / 2:
        return True
    beyond = answers.logits - answers.logits.mean(axis=0, dtype=np.float64)
    return is_no_better_than_chance(answers.labels[sample_of(len(answers.labels))], beyond.argmax(axis=1))
