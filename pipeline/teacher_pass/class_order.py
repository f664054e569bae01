"""Whether the order of a teacher's outputs differs from the order of the class axis.

With few images, the best of all orders looks better for any teacher. So an order is found on one half of the images and
judged on the other half. It counts only if many images become right under it and few become wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipeline.soft_labels.answers import Ints
from pipeline.soft_labels.chance import as_good_as

SIGNIFICANT = 1e-3
"""The probability with which an order that is no better may look better."""

CLEARLY = 3
"""For each image that becomes wrong, this many must become right. A weak teacher that confuses two classes may gain one
image for each that it loses; one whose outputs are in another order gains many."""

CONVINCING = 0.1
"""As `SIGNIFICANT`, for the classes of one cycle, once the order as a whole is significant."""

MOST_CLASSES = 2048
"""An order is looked for among at most this many classes, those with most errors: their counts take 32 MiB."""


@dataclass(frozen=True)
class OtherOrder:
    """An order of the classes under which a teacher is clearly better.

    Attributes:
        output_of: (C,), the number of the output that stands for each class.
        accuracy: the teacher's accuracy under this order.
    """

    output_of: Ints
    accuracy: float

    def meanings(self, class_names: Sequence[str]) -> dict[str, str]:
        """The class that each output stands for; outputs are named by the class for which they were taken."""
        class_of = np.argsort(self.output_of)
        return {name: class_names[number] for name, number in zip(class_names, class_of, strict=True)}


def other_order(labels: Ints, predictions: Ints, classes: int) -> OtherOrder | None:
    """Looks for an order of the classes under which a teacher is clearly better; None if there is none.

    The exact test of McNemar (1947) looks at the images that are right under one of the two orders only: an order that
    is no better is expected to be right on half of them.

    Args:
        labels: (N,) class indices.
        predictions: (N,) class indices.
        classes: C.
    """
    first = _first_half(labels)
    gained = lost = 0
    for fitted, judged in ((first, ~first), (~first, first)):
        output_of = _fitting(labels[fitted], predictions[fitted], classes)
        better, worse = _changes(output_of, labels[judged], predictions[judged])
        gained, lost = gained + int(better.sum()), lost + int(worse.sum())
    if gained < CLEARLY * lost or as_good_as(gained, gained + lost, 0.5) >= SIGNIFICANT:
        return None
    output_of = _fitting(labels, predictions, classes)
    if (output_of == np.arange(classes)).all():  # over all images, another change may win, and be too small
        return None
    return OtherOrder(output_of, float(np.mean(output_of[labels] == predictions)))


def _first_half(labels: Ints) -> Ints:
    """Every other image of each class: (N,) bool."""
    order = np.argsort(labels, kind="stable")
    place = np.empty(len(labels), np.intp)
    place[order] = np.arange(len(labels))
    return np.asarray((place - np.searchsorted(labels[order], labels)) % 2 == 0)


def _changes(output_of: Ints, labels: Ints, predictions: Ints) -> tuple[Ints, Ints]:
    """Which images become right under an order, and which become wrong: (N,) bool each."""
    right_now, right_then = labels == predictions, output_of[labels] == predictions
    return right_then & ~right_now, right_now & ~right_then


def _fitting(labels: Ints, predictions: Ints, classes: int) -> Ints:
    """The output that stands for each class, so that as many images as possible are right (Kuhn, 1955): (C,).

    A class keeps its own output if that costs no image, or if the classes that would change places with it are not
    convincing.
    """
    wrong = labels != predictions
    errors = np.bincount(labels[wrong], minlength=classes) + np.bincount(predictions[wrong], minlength=classes)
    among = np.sort(np.argsort(-errors, kind="stable")[: min(MOST_CLASSES, np.count_nonzero(errors))])
    place = np.full(classes, -1)
    place[among] = np.arange(len(among))
    inside = (place[labels] >= 0) & (place[predictions] >= 0)
    confusion = np.zeros((len(among), len(among)), np.int64)
    np.add.at(confusion, (place[labels[inside]], place[predictions[inside]]), 1)
    # The second term prefers, of equally good orders, the one that moves fewest classes.
    worth = confusion * (len(among) + 1) + np.eye(len(among), dtype=np.int64)
    _, columns = linear_sum_assignment(worth, maximize=True)
    output_of = np.arange(classes)
    output_of[among] = among[columns]
    return _convincing(output_of, labels, predictions)


def _convincing(output_of: Ints, labels: Ints, predictions: Ints) -> Ints:
    """Undoes each cycle of classes (a in place of b, b in place of a) that the images of its classes do not support."""
    classes = np.arange(len(output_of))
    cycles, cycle_of = connected_components(coo_array((np.ones_like(classes), (classes, output_of))))
    better, worse = _changes(output_of, labels, predictions)
    gained, lost = (np.bincount(cycle_of[labels[changed]], minlength=cycles) for changed in (better, worse))
    kept = (gained >= CLEARLY * lost) & (as_good_as(gained, gained + lost, 0.5) < CONVINCING)
    return np.asarray(np.where(kept[cycle_of], output_of, classes))
