"""The quality of students by temperature."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

METRICS = {"accuracy": "accuracy", "auc": "AUC"}

STUDENT = "student_T"


def temperature_table(models: Mapping[str, Any], metric: str) -> pd.DataFrame:
    """One metric of each student.

    Args:
        models: as `metrics.json` has them.
        metric: its key there.

    Returns:
        Columns temperature, seed, and `metric`: a row for each student, the temperatures ascending.
    """
    rows = [
        (float(group.removeprefix(STUDENT)), int(seed), quality[metric])
        for group, report in models.items()
        if group.startswith(STUDENT)
        for seed, quality in report["seeds"].items()
    ]
    return pd.DataFrame(sorted(rows), columns=["temperature", "seed", metric])
