"""Training curves: parts of the loss and accuracy, epoch by epoch."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from pipeline.evaluation.names import Group
from pipeline.evaluation.result_files import Kind, checked_table, reading
from pipeline.measures.best_epoch import COLUMNS, SelectBy, best_epoch
from pipeline.runtime.errors import MismatchError

Measure = Literal["loss", "cross_entropy", "soft_loss", "accuracy", "balanced_accuracy", "auc"]
MEASURES: dict[Measure, str] = {
    "loss": "loss",
    "cross_entropy": "hard-label loss (nats)",
    "soft_loss": "soft-label loss (nats)",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "auc": "AUC",
}
"""The columns of `results/history/*.csv` that are drawn, with their names for people. Each has a twin that begins with
`val_`: the same on the validation images; the last two have it alone, where a training selects by them."""


RECORDED: dict[str, Kind] = {
    "member": "whole",
    **dict.fromkeys([column for measure in MEASURES for column in (measure, f"val_{measure}")], "number"),
}
"""The columns that a training may have recorded, and what each holds."""


@dataclass(frozen=True)
class Curves:
    """The course of one training.

    Attributes:
        group: the group of the model.
        name: the name of the model's file: "student_kl_T4_seed1".
        table: a row for each epoch: epoch (from 1), phase, and some of `MEASURES`.
    """

    group: Group
    name: str
    table: pd.DataFrame


def read_curves(history: Path, models: Mapping[Group, Sequence[str]]) -> list[Curves]:
    """Reads the training curves of models. A teacher that was not trained here has empty curves, which are left out.

    Args:
        history: the folder of CSV files.
        models: for each group the names of its files, without `.csv`. The file of an ensemble has a column `member`
            with the number of the model to which a row belongs.

    Raises:
        MissingError: a file is missing.
        DamagedError: a file cannot be read.
    """
    return [
        Curves(group, model, table)
        for group, names in models.items()
        for name in names
        for model, table in _by_member(group, name, _read(history / f"{name}.csv"))
        if len(table)
    ]


def best_epochs(
    group: Group, curves: Sequence[Curves], rules: Mapping[str, SelectBy], otherwise: SelectBy
) -> dict[str, dict[str, tuple[int, int]]]:
    """The best and the last epoch of each training of a group, for `metrics.json`.

    Args:
        group: the group.
        curves: those of all trainings.
        rules: what chose the best epoch, by the name of a training.
        otherwise: what chose it in the others.

    Returns:
        {"best_epochs": {name: (best, last)}}; empty for a teacher that was not trained here.

    Raises:
        MismatchError: a training did not record the measure.
    """
    epochs = {}
    for training in curves:
        if training.group == group:
            best = best_row(training, rules.get(training.name, otherwise))
            epochs[training.name] = (int(best["epoch"]), len(training.table))
    return {"best_epochs": epochs} if epochs else {}


def best_row(training: Curves, rule: SelectBy) -> Mapping[Hashable, Any]:
    """The row of the best epoch of a training.

    Raises:
        MismatchError: the training did not record the measure.
    """
    if missing := [name for name in (COLUMNS[rule], COLUMNS["cross_entropy"]) if name not in training.table]:
        raise MismatchError(
            f"the training curves of {training.name} have no {missing[0]}, and params.yaml says select_by: "
            f"{rule}. The model was trained with another select_by: train it again with `dvc repro`."
        )
    return best_epoch(training.table.to_dict("records"), rule)


def measures_of(table: pd.DataFrame) -> list[Measure]:
    """The `MEASURES` that a training recorded, on training or validation images."""
    return [measure for measure in MEASURES if {measure, f"val_{measure}"} & set(table)]


def curve_table(table: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """The columns epoch, `measure` and `val_<measure>`, without those that the training did not record."""
    return table[[column for column in ("epoch", measure, f"val_{measure}") if column in table]]


def _by_member(group: Group, name: str, table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    if "member" not in table:
        return [(name, table)]
    return [(group.member(number), table[table["member"] == number]) for number in table["member"].unique()]


def _read(path: Path) -> pd.DataFrame:
    remedy = "Bring them back with `dvc checkout`, or make them again with `dvc repro`."
    with reading(path, "training curves", remedy):
        table = checked_table(path, {"epoch": "whole", "phase": "whole"}, RECORDED, remedy)
        if table.duplicated(["epoch", *({"member"} & set(table))]).any():
            raise ValueError("an epoch stands more than once")
        return table
