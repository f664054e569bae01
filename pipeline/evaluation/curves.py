"""Training curves: parts of the loss and accuracy, epoch by epoch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from pipeline.evaluation.names import Group
from pipeline.runtime.errors import DamagedError, MissingError

Measure = Literal["loss", "cross_entropy", "soft_loss", "accuracy"]
MEASURES: dict[Measure, str] = {
    "loss": "loss",
    "cross_entropy": "hard-label loss (nats)",
    "soft_loss": "soft-label loss (nats)",
    "accuracy": "accuracy",
}
"""The columns of `results/history/*.csv` that are drawn, beside the same on validation images (`val_`)."""


@dataclass(frozen=True)
class Curves:
    """How one training went.

    Attributes:
        group: that of the model.
        name: of the model, as its file is called: "student_T4_seed1".
        table: a row for each epoch: epoch (from 1), phase, and some of `MEASURES`.
    """

    group: Group
    name: str
    table: pd.DataFrame


def read_curves(history: Path, models: Mapping[Group, Sequence[str]]) -> list[Curves]:
    """Reads the training curves of models; the empty ones of a teacher that was not trained here are left out.

    Args:
        history: the folder of CSV files.
        models: for each group the names of its files, without `.csv`. The file of an ensemble has a column `member`,
            which says to which model a row belongs.

    Raises:
        PipelineError: a file is missing or cannot be read.
    """
    return [
        Curves(group, trained, table)
        for group, names in models.items()
        for name in names
        for trained, table in _by_member(group, name, _read(history / f"{name}.csv"))
        if len(table)
    ]


def measures_of(table: pd.DataFrame) -> list[Measure]:
    """Those of `MEASURES` that a training recorded."""
    return [measure for measure in MEASURES if {measure, f"val_{measure}"} & set(table)]


def curve_table(table: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """Those of the columns epoch, the measure and its `val_` that there are."""
    return table[[column for column in ("epoch", measure, f"val_{measure}") if column in table]]


def _by_member(group: Group, name: str, table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    if "member" not in table:
        return [(name, table)]
    return [(group.member(number), table[table["member"] == number]) for number in table["member"].unique()]


def _read(path: Path) -> pd.DataFrame:
    remedy = "Bring them back with `dvc checkout`, or make them again with `dvc repro`."
    if not path.is_file():
        raise MissingError(f"the training curves {path} cannot be read: there is no such file. {remedy}")
    try:
        table = pd.read_csv(path)
        _ = table[["epoch", "phase"]]
    except (OSError, ValueError, KeyError) as error:
        raise DamagedError(f"the training curves {path} cannot be read: {error}. {remedy}") from None
    return table
