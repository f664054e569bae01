"""The quality of students by temperature."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from pipeline.evaluation.metrics import MetricName
from pipeline.evaluation.names import Group, parsed

DRAWN: tuple[MetricName, ...] = ("accuracy", "auc")
"""The metrics that are drawn against the temperature."""


def students(models: Mapping[str, Any]) -> dict[Group, Any]:
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
        Columns temperature, seed and `metric`; a row for each student, by ascending temperature.
    """
    rows = [
        (float(group.temperature), int(seed), quality[metric])
        for group, report in students(models).items()
        for seed, quality in report["seeds"].items()
    ]
    return pd.DataFrame(sorted(rows), columns=["temperature", "seed", metric])
