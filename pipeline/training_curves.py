"""Stage `evaluate`'s training curves: parts of the loss and accuracy, epoch by epoch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.best_epoch import best_epoch
from pipeline.errors import PipelineError
from pipeline.figures import BLUE, GREY, ORANGE, WIDTH, title_all

MEASURES = {
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
        group: the kind of model: "teacher", "baseline", "student_T4" ...
        name: of the model, as its file is called: "student_T4_seed1".
        table: a row for each epoch: epoch (from 1), phase, and some of `MEASURES`.
    """

    group: str
    name: str
    table: pd.DataFrame

    def best_epoch(self) -> int:
        """The epoch whose weights are kept."""
        return int(best_epoch(self.table.to_dict("records"))["epoch"])


def read_curves(history: Path, models: Mapping[str, Sequence[str]]) -> list[Curves]:
    """Reads the training curves of models; those of a teacher that was not trained here are empty and left out.

    Args:
        history: the folder of CSV files.
        models: for each group the names of its files, without `.csv`. A file of several models has a column
            `member`, by which they are told apart.

    Raises:
        PipelineError: a file is missing or cannot be read.
    """
    return [
        Curves(group, member, table)
        for group, names in models.items()
        for name in names
        for member, table in _by_member(name, _read(history / f"{name}.csv"))
        if len(table)
    ]


def measures_of(table: pd.DataFrame) -> list[str]:
    """Those of `MEASURES` that a training recorded."""
    return [measure for measure in MEASURES if {measure, f"val_{measure}"} & set(table)]


def curve_table(table: pd.DataFrame, measure: str) -> pd.DataFrame:
    """The columns epoch, the measure, and `val_` of it, as far as they are there."""
    return table[[column for column in ("epoch", measure, f"val_{measure}") if column in table]]


def training_figure(curves: Sequence[Curves]) -> Figure:
    """Draws a row of panels for each group, and a panel for each measure that any of them has.

    Args:
        curves: of all trainings, groups in the order of the rows.
    """
    groups = list(dict.fromkeys(one.group for one in curves))
    measures = [measure for measure in MEASURES if any(measure in measures_of(one.table) for one in curves)]
    figure = Figure(figsize=(WIDTH, 0.9 + 1.5 * max(len(groups), 1)), layout="constrained")
    title_all(figure, "Training curves")
    if not measures:
        figure.text(0.5, 0.4, "no model was trained here", ha="center", fontsize=10)
        return figure
    panels = figure.subplots(len(groups), len(measures), squeeze=False)
    for row, group in zip(panels, groups, strict=True):
        of_group = [one.table for one in curves if one.group == group]
        for axes, measure in zip(row, measures, strict=True):
            _draw_panel(axes, of_group, measure)
        row[0].set_ylabel(group.replace("_T", "\nT = "), fontsize=9, fontweight="bold")
    for axes, measure in zip(panels[0], measures, strict=True):
        axes.set_title(MEASURES[measure], fontsize=9)
    for axes in panels[-1]:
        axes.set_xlabel("epoch", fontsize=9)
    legend = {text: line for axes in panels.flat for line, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(legend.values(), legend.keys(), loc="outside lower center", ncols=5, fontsize=9, frameon=False)
    return figure


def _draw_panel(axes: Any, tables: Sequence[pd.DataFrame], measure: str) -> None:
    """One measure of one group: each model faint, the mean strong, and where phases begin."""
    drawn = [table for table in tables if measure in measures_of(table)]
    if not drawn:
        axes.set_axis_off()
        return
    for start in _phase_starts(drawn[0]):
        axes.axvline(start - 0.5, color=GREY, linestyle=":", linewidth=1, label="next phase")
    for column, label, colour, width in (
        (measure, "training", ORANGE, 1.0),
        (f"val_{measure}", "validation", BLUE, 1.8),
    ):
        lines = [table.set_index("epoch")[column] for table in drawn if column in table]
        if len(lines) > 1:
            for line in lines:
                axes.plot(line.index, line, color=colour, linewidth=0.8, alpha=0.35, label=f"{label}, each model")
        if lines:
            mean = pd.concat(lines).groupby(level=0).mean()
            marker = "o" if len(mean) == 1 else None
            axes.plot(mean.index, mean, color=colour, linewidth=width, marker=marker, markersize=3, label=label)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def _phase_starts(table: pd.DataFrame) -> list[int]:
    """The epochs with which all phases but the first begin."""
    return [int(epoch) for epoch in table["epoch"][table["phase"].diff() > 0]]


def _by_member(name: str, table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    if "member" not in table:
        return [(name, table)]
    return [(f"{name}_member{number}", table[table["member"] == number]) for number in table["member"].unique()]


def _read(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path)
        _ = table[["epoch", "phase"]]
    except (OSError, ValueError, KeyError) as error:
        raise PipelineError(
            f"the training curves {path} cannot be read: {error}. "
            "Bring them back with `dvc checkout`, or make them again with `dvc repro`."
        ) from None
    return table
