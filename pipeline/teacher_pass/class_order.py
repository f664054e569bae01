"""Whether a teacher's outputs mean the classes in another order than that of the class axis.

The best of all orders fits anything where images are few. So each half of the images is judged by the order that fits
the other half, and only orders count under which many images become right and few wrong.
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
"""How rarely an order that is no better may seem so."""

CLEARLY = 3
"""So many images must become right for each that becomes wrong: a weak teacher that confuses two classes may have one
for one, one whose outputs are in another order has many."""

CONVINCING = 0.1
"""As `SIGNIFICANT`, for classes that change places in one cycle, given that the order as a whole is significant."""

MOST_CLASSES = 2048
"""Those with most errors, of which another order is looked for: their counts take 32 MiB."""


@dataclass(frozen=True)
class OtherOrder:
    """An order of the classes under which a teacher is clearly better.

    Attributes:
        output_of: (C,), for each class the number of the output that means it.
        accuracy: under this order.
    """

    output_of: Ints
    accuracy: float

    def meanings(self, class_names: Sequence[str]) -> dict[str, str]:
        """For each output, by the class that it was taken for, the class that it means."""
        class_of = np.argsort(self.output_of)
        return {name: class_names[number] for name, number in zip(class_names, class_of, strict=True)}


def other_order(labels: Ints, predictions: Ints, classes: int) -> OtherOrder | None:
    """Looks for an order of the classes under which a teacher is clearly better; None if there is none.

    Of the images that are right under one of two orders only, an order that is no better has half (the exact test of
    McNemar, 1947).

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
    if (output_of == np.arange(classes)).all():
        return None
    return OtherOrder(output_of, float(np.mean(output_of[labels] == predictions)))


def _first_half(labels: Ints) -> Ints:
    """Every other image of each class: (N,) bool."""
    order = np.argsort(labels, kind="stable")
    place = np.empty(len(labels), np.intp)
    place[order] = np.arange(len(labels))
    return np.asarray((place - np.searchsorted(labels[order], labels)) % 2 == 0)


def _changes(output_of: Ints, labels: Ints, predictions: Ints) -> tuple[Ints, Ints]:
    """Which images become right under an order, and which wrong: (N,) bool each."""
    now, then = labels == predictions, output_of[labels] == predictions
    return then & ~now, now & ~then


def _fitting(labels: Ints, predictions: Ints, classes: int) -> Ints:
    """For each class the output that means it: (C,). As many images as possible are right (Kuhn, 1955).

    A class keeps its own output unless that costs an image, and unless the classes that would change places with it
    are convincing.
    """
    wrong = labels != predictions
    errors = np.bincount(labels[wrong], minlength=classes) + np.bincount(predictions[wrong], minlength=classes)
    among = np.sort(np.argsort(-errors, kind="stable")[: min(MOST_CLASSES, np.count_nonzero(errors))])
    place = np.full(classes, -1)
    place[among] = np.arange(len(among))
    inside = (place[labels] >= 0) & (place[predictions] >= 0)
    confusion = np.zeros((len(among), len(among)), np.int64)
    np.add.at(confusion, (place[labels[inside]], place[predictions[inside]]), 1)
    worth = confusion * (len(among) + 1) + np.eye(len(among), dtype=np.int64)  # of equals, that which moves fewest
    _, columns = linear_sum_assignment(worth, maximize=True)
    output_of = np.arange(classes)
    output_of[among] = among[columns]
    return _convincing(output_of, labels, predictions)


def _convincing(output_of: Ints, labels: Ints, predictions: Ints) -> Ints:
    """Puts back the classes of each cycle (a in the place of b, b in that of a) whose images do not speak for it."""
    classes = np.arange(len(output_of))
    cycles, cycle_of = connected_components(coo_array((np.ones_like(classes), (classes, output_of))))
    better, worse = _changes(output_of, labels, predictions)
    gained, lost = (np.bincount(cycle_of[labels[changed]], minlength=cycles) for changed in (better, worse))
    kept = (gained >= CLEARLY * lost) & (as_good_as(gained, gained + lost, 0.5) < CONVINCING)
    return np.asarray(np.where(kept[cycle_of], output_of, classes))
