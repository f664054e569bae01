"""The quality of students by temperature."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from pipeline.evaluation.metrics import MetricName
from pipeline.evaluation.names import Group, parsed
from pipeline.runtime.temperatures import Temperature

DRAWN: tuple[MetricName, ...] = ("accuracy", "auc")
"""The metrics that are drawn against the temperature."""


def students_of(models: Mapping[str, Any]) -> dict[Group, Any]:
    """The groups of students, with what `metrics.json` says of them, in its order.

    Args:
        models: as `metrics.json` has them.
    """
    groups = {parsed(key)[0]: report for key, report in models.items()}
    return {group: report for group, report in groups.items() if group.role == "student"}


def temperature_table(models: Mapping[str, Any], metric: MetricName) -> pd.DataFrame:
    """One metric of each student.

    Args:
        models: as `metrics.json` has them.
        metric: its name there.

    Returns:
        Columns loss, temperature, seed and `metric`; a row for each student of a temperature that does not change, by
        loss, then by ascending temperature.
    """
    rows = [
        (group.loss, Temperature.parsed(group.temperature).first, int(seed), quality[metric])
        for group, report in students_of(models).items()
        for seed, quality in report["seeds"].items()
        if not Temperature.parsed(group.temperature).changes
    ]
    return pd.DataFrame(sorted(rows), columns=["loss", "temperature", "seed", metric])


def changing(models: Mapping[str, Any], metric: MetricName) -> dict[Group, float]:
    """One metric of each group of students whose temperature changes, the mean over seeds; as `temperature_table`."""
    return {
        group: float(report["quality"][metric]["mean"])
        for group, report in students_of(models).items()
        if Temperature.parsed(group.temperature).changes
    }
