"""The tables behind the plots that `dvc plots show` draws: a folder of CSV files for each kind of plot."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.metrics import roc_curve

from pipeline.evaluation.curves import Curves, curve_table, measures_of
from pipeline.evaluation.metrics import Floats, Ints, reliability
from pipeline.evaluation.result_files import Kind, checked_table, reading, write_table
from pipeline.evaluation.temperatures import DRAWN, temperature_table
from pipeline.measures.unequal_classes import one_against_rest
from pipeline.runtime.publish import publish

PlotKind = Literal["roc", "confusion", "reliability"]
"""The folders that have a table for each model."""

RATES = ("false_positive_rate", "true_positive_rate")
KINDS: dict[PlotKind, dict[str, Kind]] = {
    "roc": {"class": "text", **dict.fromkeys(RATES, "share")},
    "confusion": {"actual": "text", "predicted": "text", "actual_index": "whole", "predicted_index": "whole"},
    "reliability": {"bin": "whole", "confidence": "share", "accuracy": "share", "images": "whole"},
}
"""What their columns hold."""


def write_plots(
    folder: Path,
    scores: Mapping[str, Floats],
    labels: Ints,
    class_names: list[str],
    models: Mapping[str, Any],
    curves: Sequence[Curves],
) -> None:
    """Writes `<kind>/<model>.csv`, and `temperature/<metric>.csv`.

    Args:
        folder: the folder to write, in one step.
        scores: the logits of each model on the test images, (N, C).
        labels: (N,) class indices.
        class_names: C names.
        models: as `metrics.json` has them.
        curves: those of all trainings.
    """
    with publish(folder) as partial:
        for name, logits in scores.items():
            _write(roc_points(logits, labels, class_names), partial / "roc" / f"{name}.csv")
            _write(confusion(logits, labels, class_names), partial / "confusion" / f"{name}.csv")
            _write(reliability(logits, labels), partial / "reliability" / f"{name}.csv")
        for metric in DRAWN:
            _write(temperature_table(models, metric), partial / "temperature" / f"{metric}.csv")
        for one in curves:
            for measure in measures_of(one.table):
                _write(curve_table(one.table, measure), partial / f"training_{measure}" / f"{one.name}.csv")


def confusion(logits: Floats, labels: Ints, class_names: list[str]) -> pd.DataFrame:
    """A row for each image: columns actual and predicted (class names), and the `_index` of each on the class axis."""
    names, predicted = np.array(class_names), np.argmax(logits, axis=1)
    return pd.DataFrame(
        {
            "actual": names[labels],
            "predicted": names[predicted],
            "actual_index": labels,
            "predicted_index": predicted,
        }
    )


def roc_points(logits: Floats, labels: Ints, class_names: list[str]) -> pd.DataFrame:
    """The receiver operating characteristic of the last of two classes; with more classes, of each against the rest.

    Returns:
        Columns class, false_positive_rate, true_positive_rate.
    """
    curves = []
    for number, scores in one_against_rest(logits):
        false_positive, true_positive, _ = roc_curve(labels == number, scores)
        curves.append(
            pd.DataFrame(
                {
                    "class": class_names[number],
                    "false_positive_rate": false_positive,
                    "true_positive_rate": true_positive,
                }
            )
        )
    return pd.concat(curves, ignore_index=True)


def read_plot(folder: Path, kind: PlotKind, name: str) -> pd.DataFrame:
    """Reads `<kind>/<model>.csv`.

    Raises:
        MissingError: there is no such file.
        DamagedError: it cannot be read.
    """
    path = folder / kind / f"{name}.csv"
    remedy = "Bring it back with `dvc checkout`, or make it again with `dvc repro evaluate`."
    with reading(path, "points of a plot", remedy):
        table = checked_table(path, KINDS[kind], {}, remedy)
        if kind == "roc":
            _refuse_no_curves(table)
        return table


def _refuse_no_curves(table: pd.DataFrame) -> None:
    """Raises `ValueError` if the points of a class are no curve, from left to right and from the bottom to the top."""
    for name, points in table.groupby("class"):
        if len(points) < 2 or not all(points[rate].is_monotonic_increasing for rate in RATES):
            raise ValueError(f"the points of the class {name!r} are no ROC curve")


def _write(table: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(table, path)
