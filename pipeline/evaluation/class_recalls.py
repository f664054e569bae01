"""The recall of each class: of its images, the share that a model finds."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from pipeline.evaluation.metrics import Floats, Ints, over_seeds
from pipeline.evaluation.uncertainty import share_interval
from pipeline.measures.unequal_classes import recalls

Recall = dict[str, Any]


def class_recalls(of_seeds: Iterable[Floats], labels: Ints, class_names: Sequence[str]) -> list[Recall]:
    """The recall of each class in the models of all seeds.

    Args:
        of_seeds: the logits (N, C) of each seed.
        labels: (N,) class indices.
        class_names: C names.

    Returns:
        For each class "class" (its name), "images" (how many it has) and, if it has some, the `metrics.Estimate` of the
        recall and "interval", the two ends of its 95 % interval. A list, since DVC would show the entries of a
        dictionary as metrics, as many as there are classes.
    """
    both = [(recalls(logits, labels), np.argmax(logits, axis=1) == labels) for logits in of_seeds]
    shares, right = np.stack([one for one, _ in both]), np.stack([one for _, one in both]).astype(np.float64)
    entries: list[Recall] = []
    for number, name in enumerate(class_names):
        rows = labels == number
        entry: Recall = {"class": name, "images": int(np.count_nonzero(rows))}
        if rows.any():
            entry |= over_seeds({"recall": float(share)} for share in shares[:, number])["recall"]
            entry["interval"] = share_interval(right[:, rows])
        entries.append(entry)
    return entries
