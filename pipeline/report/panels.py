"""The panels of the report: figures small enough for a phone, each of one thing; `captions` gives them words."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import auc

from pipeline.evaluation.curves import MEASURES, Curves, Measure, measures_of
from pipeline.evaluation.metrics import MetricName
from pipeline.evaluation.names import Group, Role
from pipeline.report.style import BLUE, GREEN, GREY, ORANGE, VERMILION, short
from pipeline.report.temperature_curves import draw_temperatures

SIZE = (4.2, 3.3)
"""Width and height in inches; a wider figure would be illegible on a phone."""

COLORS: dict[Role, str] = {"teacher": GREEN, "student": BLUE, "baseline": ORANGE}
STYLES: dict[Role, str] = {"teacher": "--", "student": "-", "baseline": "-."}
CLASS_COLORS = (BLUE, ORANGE, GREEN, VERMILION, "#CC79A7")
"""Colors of the curves of single classes; when all colors are used, dashed curves follow."""
LEGEND_ROW = 0.17
"""The height of a row of the legend, in inches."""
MOST_CURVES = 2 * len(CLASS_COLORS)
MOST_CLASSES_WITH_NUMBERS = 12
GRID = np.linspace(0.0, 1.0, 201)

Floats = npt.NDArray[np.float64]


def temperature_panel(models: Mapping[str, Any], metric: MetricName) -> Figure:
    """One metric of the students against T; `models` as `metrics.json` has them."""
    figure, axes = _panel()
    draw_temperatures(axes, models, metric)
    return _with_legend(figure)


def training_panel(curves: Sequence[Curves], groups: Mapping[Role, Group], measure: Measure) -> Figure:
    """One measure of all trainings by epoch: the mean over seeds, strong on validation, faint on training images.

    Args:
        curves: those of all trainings.
        groups: the group whose curves are drawn, for each role.
        measure: the measure to draw.
    """
    figure, axes = _panel()
    for role, group in groups.items():
        tables = [one.table for one in curves if one.group == group and measure in measures_of(one.table)]
        for column, width, alpha in ((measure, 1.0, 0.6), (f"val_{measure}", 1.8, 1.0)):
            lines = [table.set_index("epoch")[column] for table in tables if column in table]
            if lines:
                mean = pd.concat(lines).groupby(level=0).mean()
                label = role if column != measure else None
                marker = "o" if len(mean) == 1 else None
                style = {"color": COLORS[role], "lw": width, "alpha": alpha, "marker": marker, "markersize": 3}
                axes.plot(mean.index, mean, STYLES[role], label=label, **style)
    axes.set_xlabel("epoch", fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    return _with_legend(figure)


def measures_in(curves: Sequence[Curves], groups: Mapping[Role, Group]) -> dict[Measure, str]:
    """The measures that some of these groups have recorded, with their names for people."""
    recorded = {measure for one in curves if one.group in groups.values() for measure in measures_of(one.table)}
    return {measure: name for measure, name in MEASURES.items() if measure in recorded}


def roc_panel(tables: Mapping[Role, Sequence[pd.DataFrame]]) -> Figure:
    """The receiver operating characteristic, the mean over classes and seeds.

    Args:
        tables: the `dvc_plots.roc_points` of each seed, for each role.
    """
    figure, axes = _panel()
    _draw_diagonal(axes, "guessing")
    for role, of_seeds in tables.items():
        mean = np.mean([_rates_on_grid(points) for table in of_seeds for _, points in table.groupby("class")], axis=0)
        # From the origin: at a false positive rate of 0 the mean is the upper end of a step.
        axes.plot([0.0, *GRID], [0.0, *mean], STYLES[role], color=COLORS[role], linewidth=1.8, label=role)
    axes.set_xlabel("false positive rate", fontsize=9)
    axes.set_ylabel("true positive rate", fontsize=9)
    return _with_legend(figure)


def class_roc_panel(tables: Sequence[pd.DataFrame], areas: Mapping[str, float]) -> Figure:
    """The receiver operating characteristic of each class against the others, the mean over seeds.

    Args:
        tables: the `dvc_plots.roc_points` of each seed.
        areas: the area under the curve of each class to draw.
    """
    figure, axes = _panel(LEGEND_ROW * len(areas) / 2)
    _draw_diagonal(axes, "guessing")
    for number, (name, area) in enumerate(areas.items()):
        rates = np.mean([_rates_on_grid(table[table["class"] == name]) for table in tables], axis=0)
        color, style = CLASS_COLORS[number % len(CLASS_COLORS)], ("-", "--")[number // len(CLASS_COLORS)]
        label = f"{area:.3f} {short(name, 18)}"  # a label that began with "_" would be left out
        axes.plot([0.0, *GRID], [0.0, *rates], style, color=color, linewidth=1.4, label=label)
    axes.set_xlabel("false positive rate", fontsize=9)
    axes.set_ylabel("true positive rate", fontsize=9)
    return _with_legend(figure, columns=2)


def areas_of_classes(tables: Sequence[pd.DataFrame], class_names: Sequence[str]) -> dict[str, float]:
    """The area under the ROC curve of each class: the mean over seeds.

    Args:
        tables: the `dvc_plots.roc_points` of each seed.
        class_names: C names.
    """
    points = [dict(list(table.groupby("class"))) for table in tables]
    areas = {
        name: [auc(of_seed[name]["false_positive_rate"], of_seed[name]["true_positive_rate"]) for of_seed in points]
        for name in class_names
    }
    return {name: float(np.mean(of_seeds)) for name, of_seeds in areas.items()}


def few_classes(areas: Mapping[str, float]) -> dict[str, float]:
    """The classes that a figure shows: at most `MOST_CURVES`, those with the smallest areas, in their order."""
    worst = sorted(areas, key=lambda name: areas[name])[:MOST_CURVES]
    return {name: area for name, area in areas.items() if name in worst}


def _rates_on_grid(points: pd.DataFrame) -> Floats:
    """The true positive rate at each false positive rate of `GRID`; at a step of the curve, its upper end."""
    false_positive, true_positive = (points[f"{kind}_positive_rate"].to_numpy() for kind in ("false", "true"))
    # np.interp needs each false positive rate once.
    upper = np.concatenate([false_positive[1:] != false_positive[:-1], [True]])
    return np.asarray(np.interp(GRID, false_positive[upper], true_positive[upper]))


def reliability_panel(tables: Mapping[Role, Sequence[pd.DataFrame]]) -> Figure:
    """How often answers of similar confidence are right, over all seeds; a larger point stands for more images.

    Args:
        tables: the `metrics.reliability` of each seed, for each role.
    """
    figure, axes = _panel()
    _draw_diagonal(axes, "confidence is right")
    for role, of_seeds in tables.items():
        table = pd.concat(of_seeds)
        weights = table["images"]
        sums = (
            pd.DataFrame(
                {
                    "bin": table["bin"],
                    "confidence": table["confidence"] * weights,
                    "accuracy": table["accuracy"] * weights,
                    "images": weights,
                }
            )
            .groupby("bin")
            .sum()
        )
        x, y = sums["confidence"] / sums["images"], sums["accuracy"] / sums["images"]
        sizes = 8 + 90 * sums["images"] / sums["images"].sum()
        axes.plot(x, y, STYLES[role], color=COLORS[role], linewidth=1.0, label=role)
        axes.scatter(x, y, sizes, color=COLORS[role], alpha=0.8, linewidth=0)
    axes.set_xlabel("confidence", fontsize=9)
    axes.set_ylabel("share that is right", fontsize=9)
    return _with_legend(figure)


def confusion_panel(predictions: Sequence[pd.DataFrame], class_names: Sequence[str]) -> Figure:
    """The share of each actual class's images for which each class was chosen, over all seeds.

    Args:
        predictions: a table with the columns actual and predicted for each seed.
        class_names: C names.
    """
    position = {name: number for number, name in enumerate(class_names)}
    counts = np.zeros((len(class_names), len(class_names)))
    for table in predictions:
        np.add.at(counts, (table["actual"].map(position), table["predicted"].map(position)), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axes = _panel()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    with_numbers = len(class_names) <= MOST_CLASSES_WITH_NUMBERS
    if with_numbers:
        for (row, column), share in np.ndenumerate(shares):
            if share > 0:
                color = "white" if share > 0.5 else "#08306b"
                percent = f"{100 * share:.0f}" if share >= 0.005 else "<1"
                axes.text(column, row, percent, ha="center", va="center", fontsize=7, color=color)
    numbers = range(len(class_names)) if with_numbers else []
    names = [short(class_names[number], 12) for number in numbers]
    for axis, turned in ((axes.xaxis, 45 if any(len(name) > 2 for name in names) else 0), (axes.yaxis, 0)):
        axis.set_ticks(numbers, names, fontsize=8, rotation=turned)
        for tick in axis.get_major_ticks():
            tick.label1.set_parse_math(False)
    axes.set_xlabel("predicted", fontsize=9)
    axes.set_ylabel("actual", fontsize=9)
    axes.spines[:].set_visible(False)
    return figure


def _panel(below: float = 0.0) -> tuple[Figure, Any]:
    """A figure that is `below` inches higher than `SIZE`, for its legend."""
    figure = Figure(figsize=(SIZE[0], SIZE[1] + below), layout="constrained")
    axes = figure.add_subplot()
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _with_legend(figure: Figure, columns: int = 4) -> Figure:
    """Adds a legend below the axes, where it hides nothing; "$" is shown as it is, and begins no formula."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    place = {"loc": "outside lower center", "ncols": columns, "columnspacing": 1.2}
    for text in figure.legend(handles, labels, **place, fontsize=8, frameon=False).get_texts():
        text.set_parse_math(False)
    return figure


def _draw_diagonal(axes: Any, label: str) -> None:
    axes.plot([0, 1], [0, 1], ":", color=GREY, linewidth=1.2, label=label)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
