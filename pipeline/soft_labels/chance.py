"""Whether a teacher's answers are better than chance: exact tests that accept a teacher in case of doubt."""

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, betaincinv

from pipeline.soft_labels.answers import Answers, Ints, sample_of

ABOVE_CHANCE = 0.1
"""An accuracy is above chance if chance reaches it with a smaller probability than this. With 0.01, half of the weak
teachers (a kappa of 0.1 on 100 images) would be refused."""

SLIGHT_AGREEMENT = 0.2
"""Cohen's kappa of a teacher that knows next to nothing. A teacher can be refused only if its kappa is smaller with
99 % confidence. So with few images, only a teacher that is wrong on nearly all of them is refused."""

FEWEST = 20
"""With fewer images there is no warning."""


def as_good_as(right: Ints | int, images: Ints | int, probability: float) -> npt.NDArray[np.float64]:
    """The exact P(X >= right) for a binomial X of `images` draws, each right with `probability`.

    It is a regularised incomplete beta function (Abramowitz and Stegun, 26.5.24).
    """
    right, images = np.asarray(right), np.asarray(images)
    tail = betainc(np.maximum(right, 1), images - right + 1, probability)  # not defined for right = 0
    return np.asarray(np.where(right == 0, 1.0, tail))


def highest_accuracy(right: int, images: int) -> float:
    """The one-sided upper limit of an accuracy, with 99 % confidence (Clopper and Pearson, 1934)."""
    return 1.0 if right == images else float(betaincinv(right + 1, images - right, 0.99))


def chance(labels: Ints, predictions: Ints) -> float:
    """The accuracy that (N,) labels and predictions would have if they were independent.

    It is sum_c p_label(c) p_prediction(c) (Cohen, 1960). So a teacher that always names the same class is right by
    chance alone, even if that class is common.
    """
    classes = max(labels.max(), predictions.max()) + 1
    counts = np.bincount(labels, minlength=classes) @ np.bincount(predictions, minlength=classes)
    return float(counts / len(labels) ** 2)


def is_no_better_than_chance(labels: Ints, predictions: Ints) -> bool:
    """Whether (N,) predictions are right no more often than by chance, and N is large enough to tell."""
    right, by_chance = int(np.sum(labels == predictions)), chance(labels, predictions)
    if as_good_as(right, len(labels), by_chance) < ABOVE_CHANCE:
        return False
    return highest_accuracy(right, len(labels)) - by_chance < SLIGHT_AGREEMENT * (1 - by_chance)


def knows_nothing(answers: Answers) -> bool:
    """Whether answers are no better than chance.

    If one class has more than half of the images, a sound teacher may always name it. Then what it knows shows in its
    logits minus the mean logit of each class, and these must be no better than chance as well.
    """
    if not is_no_better_than_chance(answers.labels, answers.predictions):
        return False
    if np.bincount(answers.labels).max() <= len(answers.labels) / 2:
        return True
    centered = answers.logits - answers.logits.mean(axis=0, dtype=np.float64)
    return is_no_better_than_chance(answers.labels[sample_of(len(answers.labels))], centered.argmax(axis=1))
