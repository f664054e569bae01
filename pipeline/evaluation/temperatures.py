"""The quality of students by temperature."""

from collections.abc import Mapping
from typing import Any, Literal

import pandas as pd

from pipeline.evaluation.names import Group, parsed

Metric = Literal["accuracy", "auc"]
METRICS: dict[Metric, str] = {"accuracy": "accuracy", "auc": "AUC"}
"""The metrics that are drawn against the temperature, and what people call them."""


def students(models: Mapping[str, Any]) -> dict[Group, Any]:
    """The students of each temperature, with what `metrics.json` says of them, in its order.

    Args:
        models: as `metrics.json` has them.
    """
    groups = {parsed(key)[0]: report for key, report in models.items()}
    return {group: report for group, report in groups.items() if group.role == "student"}


def temperature_table(models: Mapping[str, Any], metric: Metric) -> pd.DataFrame:
    """One metric of each student.

    Args:
        models: as `metrics.json` has them.
        metric: its key there.

    Returns:
        Columns temperature, seed, and `metric`: a row for each student, the temperatures ascending.
    """
    rows = [
        (float(group.temperature), int(seed), quality[metric])
        for group, report in students(models).items()
        for seed, quality in report["seeds"].items()
    ]
    return pd.DataFrame(sorted(rows), columns=["temperature", "seed", metric])
