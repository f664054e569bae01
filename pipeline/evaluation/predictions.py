"""The answers of each model to the test images: `results/predictions/<model>.csv`."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.evaluation.metrics import Floats, Ints, kl_divergences, log_losses, log_softmax
from pipeline.evaluation.result_files import NUMBER, Kind, checked_table, lines_of, reading
from pipeline.measures.slabs import slabs
from pipeline.runtime.csv_rows import csv_row
from pipeline.runtime.publish import publish

KINDS: dict[str, Kind] = {
    **dict.fromkeys(("id", "actual", "predicted"), "text"),
    "confidence": "share",
    **dict.fromkeys(("nll", "teacher_kl"), "number"),
}
COLUMNS = [*KINDS]
PROBABILITY = "probability_"
"""Prefix of the columns of probabilities; the name of the class follows."""


def prediction_table(
    ids: Sequence[str], labels: Ints, class_names: Sequence[str], logits: Floats, teacher_logits: Floats
) -> pd.DataFrame:
    """A row for each image.

    Args:
        ids: N image ids.
        labels: (N,) class indices.
        class_names: C names.
        logits: (N, C), the model's.
        teacher_logits: (N, C), its teacher's.

    Returns:
        `COLUMNS`: id, actual, predicted (class names), confidence (probability of the predicted class), nll (of the
        actual class, in nats), teacher_kl (KL(teacher || model), in nats).
    """
    names = np.array(class_names)
    predicted = names[np.argmax(logits, axis=1)]
    losses = log_losses(logits, labels), kl_divergences(logits, teacher_logits)
    columns = (ids, names[labels], predicted, np.exp(log_softmax(logits)).max(axis=1), *losses)
    return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))


def write_predictions(
    folder: Path, ids: Sequence[str], labels: Ints, class_names: Sequence[str], scores: Mapping[str, Floats]
) -> None:
    """Writes the folder in one step, a CSV file for each model.

    Its columns are those of `prediction_table`, and `probability_<class>` of each class, in the order of `class_names`.

    Args:
        folder: the folder to write.
        ids: N image ids.
        labels: (N,) class indices.
        class_names: C names.
        scores: the logits (N, C) of each model, by its name; one is "teacher".
    """
    with publish(folder) as partial:
        partial.mkdir()
        teacher = scores["teacher"]
        for name, logits in scores.items():
            with (partial / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
                file.write(csv_row([*COLUMNS, *(f"{PROBABILITY}{class_name}" for class_name in class_names)]))
                for rows in slabs(*logits.shape):
                    table = prediction_table(ids[rows], labels[rows], class_names, logits[rows], teacher[rows])
                    file.writelines(_with_probabilities(lines_of(table), logits[rows]))


def _with_probabilities(lines: Iterator[str], logits: Floats) -> Iterator[str]:
    """Appends the probabilities of C classes to each of B lines; pandas needs four times as long for them."""
    numbers = ",".join([NUMBER] * logits.shape[1])
    for line, probabilities in zip(lines, np.exp(log_softmax(logits)).tolist(), strict=True):
        yield f"{line[:-1]},{numbers % tuple(probabilities)}\n"


def read_predictions(folder: Path, name: str) -> pd.DataFrame:
    """Reads one model's table, without the probabilities of each class.

    Raises:
        MissingError: there is no such file.
        DamagedError: it cannot be read.
    """
    path = folder / f"{name}.csv"
    remedy = "Bring them back with `dvc checkout`, or make them again with `dvc repro evaluate`."
    with reading(path, "predictions", remedy):
        return checked_table(path, KINDS, {}, remedy)
