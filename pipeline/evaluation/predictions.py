"""What each model answers for each test image: `results/predictions/<model>.csv`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.evaluation.metrics import Floats, Ints, kl_divergences, log_losses, log_softmax
from pipeline.runtime.errors import DamagedError, MissingError
from pipeline.runtime.publish import publish

COLUMNS = ["id", "actual", "predicted", "confidence", "nll", "teacher_kl"]
PROBABILITY = "probability_"
"""The name of a column of probabilities begins so; the name of the class follows."""


def prediction_table(
    ids: Sequence[str], labels: Ints, class_names: Sequence[str], logits: Floats, teacher_logits: Floats
) -> pd.DataFrame:
    """A row for each image.

    Args:
        ids: N image ids.
        labels: (N,) class indices.
        class_names: C names.
        logits: (N, C) of one model.
        teacher_logits: (N, C) of its teacher.

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
        folder: to write.
        ids: N image ids.
        labels: (N,) class indices.
        class_names: C names.
        scores: for each model its logits (N, C); one is called "teacher".
    """
    with publish(folder) as partial:
        partial.mkdir()
        for name, logits in scores.items():
            table = prediction_table(ids, labels, class_names, logits, scores["teacher"])
            table.to_csv(partial / f"{name}.csv", index=False, lineterminator="\n", float_format="%.6g")


def read_predictions(folder: Path, name: str) -> pd.DataFrame:
    """Reads one model's table without the probabilities of each class; ids and class names as texts.

    Raises:
        PipelineError: it is missing or cannot be read.
    """
    path = folder / f"{name}.csv"
    texts = dict.fromkeys(["id", "actual", "predicted"], str)
    remedy = "Bring them back with `dvc checkout`, or make them again with `dvc repro evaluate`."
    if not path.is_file():
        raise MissingError(f"the predictions {path} cannot be read: there is no such file. {remedy}")
    try:
        return pd.read_csv(path, usecols=COLUMNS, dtype=texts, keep_default_na=False)[COLUMNS]
    except (OSError, ValueError, KeyError) as error:
        raise DamagedError(f"the predictions {path} cannot be read: {error}. {remedy}") from None
