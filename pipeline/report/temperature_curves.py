"""The report's curves of the students' quality against the temperature."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from pipeline.evaluation.metrics import MetricName
from pipeline.evaluation.temperatures import temperature_table
from pipeline.report.style import BLUE, GREEN, ORANGE, VERMILION, few

MOST_TICKS = 7
DECADE = 10.0
"""If the largest temperature is more than ten times the smallest, the axis is logarithmic."""


def draw_temperatures(axes: Any, models: Mapping[str, Any], metric: MetricName) -> None:
    """Draws one metric of the students against T, beside those of the baseline and the teacher.

    Args:
        axes: the axes to draw on.
        models: as `metrics.json` has them; the teacher must be among them.
        metric: its name there.
    """
    axes.axhline(models["teacher"]["quality"][metric]["mean"], color=GREEN, linestyle="--", label="teacher")
    if "baseline" in models:
        _draw_baseline(axes, models["baseline"]["quality"][metric])
    _draw_students(axes, temperature_table(models, metric), metric)
    axes.set_xlabel("temperature T", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_baseline(axes: Any, quality: Mapping[str, float]) -> None:
    mean, deviation = quality["mean"], quality.get("std", 0.0)
    axes.axhline(mean, color=ORANGE, linestyle="-.", label="baseline")
    axes.axhspan(mean - deviation, mean + deviation, color=ORANGE, alpha=0.2, linewidth=0)


def _draw_students(axes: Any, table: pd.DataFrame, metric: MetricName) -> None:
    """Draws the mean and standard deviation at each temperature, and each seed as a dash."""
    if table.empty:
        axes.set_xticks([])
        return
    by_temperature = table.groupby("temperature")[metric]
    mean, deviation = by_temperature.mean(), by_temperature.std().fillna(0.0)
    axes.errorbar(mean.index, mean, deviation, color=BLUE, marker="o", markersize=5, capsize=3, label="student")
    if len(table) > len(mean):
        axes.plot(table["temperature"], table[metric], "_", color=VERMILION, markersize=9, zorder=3, label="each seed")
    temperatures = mean.index.to_list()
    if temperatures[-1] > DECADE * temperatures[0]:
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.set_xticks(few(temperatures, MOST_TICKS), [f"{t:g}" for t in few(temperatures, MOST_TICKS)])
    axes.margins(x=0.08)
