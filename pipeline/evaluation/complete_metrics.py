"""Whether `metrics.json` has all that the report and the model card tell of teacher, students and baselines."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.evaluation.names import BASELINE, TEACHER, Group
from pipeline.evaluation.temperatures import DRAWN
from pipeline.runtime.errors import MismatchError

GAINS = ("gain", "less_teacher")


def refuse_incomplete(metrics: Path, models: Mapping[str, Any], students: Iterable[Group]) -> None:
    """Checks that what is told and drawn of each group of models is there.

    Args:
        metrics: `metrics.json`.
        models: as it has them.
        students: the groups of students that are told of.

    Raises:
        MismatchError: a group or something of a group is missing.
    """
    for group in (TEACHER, BASELINE, *students):
        missing = group.key if group.key not in models else _missing(group, models[group.key], models[TEACHER.key])
        if missing:
            raise MismatchError(f"{metrics} lacks {missing}. Bring it up to date with `dvc repro evaluate`.")


def _missing(group: Group, report: Mapping[str, Any], teacher: Mapping[str, Any]) -> str | None:
    """What a report lacks, in words; None if it is complete."""
    if not {*DRAWN, "ece"} <= set(report["quality"]):
        return f"metrics of {group.key}"
    recalls, of_teacher = (one.get("recall", []) for one in (report, teacher))
    if not recalls or [one["class"] for one in recalls] != [one["class"] for one in of_teacher]:
        return f"the recalls of {group.key}"
    if not all("interval" in one for one in recalls if "mean" in one):
        return f"intervals of the recalls of {group.key}"
    if "parameters" in teacher and "parameters" not in report:
        return f"the parameters of {group.key}"
    if group == TEACHER:
        return None
    if not all({*DRAWN} <= set(quality) for quality in report["seeds"].values()):
        return f"metrics of the seeds of {group.key}"
    gains = [report.get("gain", {}), *(report.get("intervals", {}).get(part, {}) for part in GAINS)]
    if group != BASELINE and not all("accuracy" in part for part in gains):
        return f"the gain of {group.key}"
    return None
