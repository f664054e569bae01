"""The report's curves of the students' quality against the temperature."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from pipeline.evaluation.metrics import MetricName
from pipeline.evaluation.names import Group
from pipeline.evaluation.temperatures import changing, students_of, temperature_table
from pipeline.report.style import BLUE, GREEN, GREY, ORANGE, VERMILION, few
from pipeline.runtime.temperatures import Temperature

MOST_TICKS = 7
LOSS_COLORS = (BLUE, "#CC79A7", "#56B4E9", "#F0E442", GREY, "#7A3E9D", "#8C6D31", "#1B9E77", "#B22222", "#444444")
"""The color of each loss; those of teacher and baseline are left out."""
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
    losses = list(dict.fromkeys(group.loss for group in students_of(models)))
    colors = {loss: LOSS_COLORS[number % len(LOSS_COLORS)] for number, loss in enumerate(losses)}
    _draw_students(axes, temperature_table(models, metric), metric, colors)
    _draw_changing(axes, changing(models, metric), colors)
    axes.set_xlabel("temperature T", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_baseline(axes: Any, quality: Mapping[str, float]) -> None:
    mean, deviation = quality["mean"], quality.get("std", 0.0)
    axes.axhline(mean, color=ORANGE, linestyle="-.", label="baseline")
    axes.axhspan(mean - deviation, mean + deviation, color=ORANGE, alpha=0.2, linewidth=0)


def _draw_students(axes: Any, table: pd.DataFrame, metric: MetricName, colors: Mapping[str, str]) -> None:
    """Draws the mean and standard deviation of each loss at each temperature, and each seed as a dash."""
    if table.empty:
        axes.set_xticks([])
        return
    for loss, of_loss in table.groupby("loss", sort=False):
        by_temperature = of_loss.groupby("temperature")[metric]
        mean, deviation = by_temperature.mean(), by_temperature.std().fillna(0.0)
        label = "student" if len(colors) == 1 else loss
        style = {"color": colors[str(loss)], "marker": "o", "markersize": 5, "capsize": 3}
        axes.errorbar(mean.index, mean, deviation, label=label, **style)
    if len(table) > len(table.groupby(["loss", "temperature"])):
        axes.plot(table["temperature"], table[metric], "_", color=VERMILION, markersize=9, zorder=3, label="each seed")
    temperatures = sorted(set(table["temperature"]))
    if temperatures[-1] > DECADE * temperatures[0]:
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.set_xticks(few(temperatures, MOST_TICKS), [f"{t:g}" for t in few(temperatures, MOST_TICKS)])
    axes.margins(x=0.08)


def _draw_changing(axes: Any, means: Mapping[Group, float], colors: Mapping[str, str]) -> None:
    """Draws students whose temperature changes as a level line from the one temperature to the other."""
    for group, mean in means.items():
        temperature = Temperature.parsed(group.temperature)
        label = f"{group.loss} T={group.temperature}"
        axes.plot([temperature.first, temperature.last], [mean, mean], ":", color=colors[group.loss], label=label)
