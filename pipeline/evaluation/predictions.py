"""The answers of each model to the test images: `results/predictions/<model>.csv`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.evaluation.metrics import Floats, Ints, kl_divergences, log_losses, log_softmax
from pipeline.evaluation.result_files import reading, write_table
from pipeline.runtime.publish import publish

COLUMNS = ["id", "actual", "predicted", "confidence", "nll", "teacher_kl"]
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
        Columns id, actual, predicted (class names), confidence (probability of the predicted class), nll (of the actual
        class, in nats), teacher_kl (KL(teacher || model), in nats), and `probability_<class>` of each class, in the
        order of `class_names`.
    """
    names = np.array(class_names)
    probabilities = np.exp(log_softmax(logits))
    predicted = names[np.argmax(logits, axis=1)]
    losses = log_losses(logits, labels), kl_divergences(logits, teacher_logits)
    columns = (ids, names[labels], predicted, probabilities.max(axis=1), *losses)
    answers = pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))
    of_classes = pd.DataFrame(probabilities, columns=[f"{PROBABILITY}{name}" for name in class_names])
    return pd.concat([answers, of_classes], axis=1)


def write_predictions(
    folder: Path, ids: Sequence[str], labels: Ints, class_names: Sequence[str], scores: Mapping[str, Floats]
) -> None:
    """Writes the folder in one step, a CSV file for each model's `prediction_table`.

    Args:
        folder: the folder to write.
        ids: N image ids.
        labels: (N,) class indices.
        class_names: C names.
        scores: the logits (N, C) of each model, by its name; one is "teacher".
    """
    with publish(folder) as partial:
        partial.mkdir()
        for name, logits in scores.items():
            table = prediction_table(ids, labels, class_names, logits, scores["teacher"])
            write_table(table, partial / f"{name}.csv")


def read_predictions(folder: Path, name: str) -> pd.DataFrame:
    """Reads one model's table, without the probabilities of each class.

    Raises:
        MissingError: there is no such file.
        DamagedError: it cannot be read.
    """
    path = folder / f"{name}.csv"
    remedy = "Bring them back with `dvc checkout`, or make them again with `dvc repro evaluate`."
    with reading(path, "predictions", remedy):
        # pandas would make a number of the id "007", and a missing value of the class "NA".
        texts = dict.fromkeys(["id", "actual", "predicted"], str)
        return pd.read_csv(path, usecols=COLUMNS, dtype=texts, keep_default_na=False)[COLUMNS]
