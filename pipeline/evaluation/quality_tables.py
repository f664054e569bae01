"""The tables of quality: of all metrics of `metrics.json`, with their uncertainty."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.evaluation.metrics import METRICS, MetricName
from pipeline.evaluation.names import parsed
from pipeline.evaluation.text_table import Cell, Row, Table

Report = dict[str, Any]
Part = Literal["quality", "gain"]
SIGNS: dict[Part, str] = {"quality": " ", "gain": "+"}
"""The first character of a number that is not negative."""
NAMES: dict[Part, str] = {"quality": "", "gain": "gain over baseline"}
"""The name of a row; empty for that of the models."""


@dataclass(frozen=True)
class Uncertainty:
    """How numbers are written with their uncertainty.

    Attributes:
        words: what the table's title says of it, for one seed and for several seeds.
        cell: the function that writes the cell of a metric, from what `metrics.json` has of a group and the part of it
            that is shown.
    """

    words: tuple[str, str]
    cell: Callable[[Report, Part, MetricName], Cell]


def _with_deviation(report: Report, part: Part, metric: MetricName) -> Cell:
    return number_cell(report[part][metric], SIGNS[part])


def _with_interval(report: Report, part: Part, metric: MetricName) -> Cell:
    ends, sign, within = report["intervals"][part], SIGNS[part], SIGNS[part].strip()
    return Cell(
        f"{report[part][metric]['mean']:{sign}.3f}",
        f"{ends[metric][0]:{within}.3f} to {ends[metric][1]:{within}.3f}" if metric in ends else "",
    )


DEVIATIONS = Uncertainty(("", " ± standard deviation"), _with_deviation)

INTERVALS = Uncertainty(
    (" (95 % interval over test images)", " (95 % interval over seeds and test images)"), _with_interval
)


def quality_tables(document: dict[str, Any], uncertainty: Uncertainty) -> list[Table]:
    """The quality of all models, then what is computed class by class, if it was.

    Args:
        document: the content of `metrics.json`.
        uncertainty: `DEVIATIONS` or `INTERVALS`.
    """
    several_seeds = any(_models_in(report) > 1 for report in document["models"].values())
    words = uncertainty.words[several_seeds]
    first, of_classes = (_measured(document, of_classes) for of_classes in (False, True))
    lower_is_better = [
        METRICS[name].title + METRICS[name].remark for name in first if not METRICS[name].larger_is_better
    ]
    quality = Table(
        f"On {document['test_images']:,} test images: mean over seeds{words}.",
        ["model", "seeds", *(f" {METRICS[name].title}" for name in first)],
        _rows(document, first, uncertainty, with_seeds=True),
        [
            f"{', '.join(lower_is_better)}: lower is better. Agreement: with the teacher's choice.",
            "Gain over baseline: student minus the same model without a teacher, seed by seed.",
        ],
    )
    if not of_classes:
        return [quality]
    by_class = Table(
        f"By class: mean over seeds{words}.",
        ["by class", *(f" {METRICS[name].title}" for name in of_classes)],
        _rows(document, of_classes, uncertainty, with_seeds=False),
        [" ".join(["Balanced accuracy: the mean of the recalls of all classes.", *_positive_class(document)])],
    )
    return [quality, by_class]


def _measured(document: dict[str, Any], of_classes: bool) -> list[MetricName]:
    """The metrics of one of the tables that the models have."""
    known = {name for report in document["models"].values() for name in report["quality"]}
    return [name for name, metric in METRICS.items() if name in known and metric.of_classes == of_classes]


def _rows(
    document: dict[str, Any], metrics: Sequence[MetricName], uncertainty: Uncertainty, *, with_seeds: bool
) -> list[Row]:
    rows = []
    for key, report in document["models"].items():
        seeds = {"quality": str(_models_in(report)), "gain": ""}
        for part, name in NAMES.items():
            if part in report:
                first = [Cell(seeds[part])] if with_seeds else []
                cells = [uncertainty.cell(report, part, metric) for metric in metrics]
                rows.append(Row(name or parsed(key)[0].words, [*first, *cells], is_part=part == "gain"))
    return rows


def _positive_class(document: dict[str, Any]) -> list[str]:
    """A sentence on F1, sensitivity and specificity; none unless there are two classes."""
    names = [entry["class"] for entry in next(iter(document["models"].values())).get("recall", [])]
    if len(names) != 2:
        return []
    return [f"F1 and sensitivity are those of the class {names[1]!r}, specificity that of {names[0]!r}."]


def _models_in(report: Report) -> int:
    """How many models a group has: one for each seed; the teacher counts as one."""
    return len(report["seeds"]) if "seeds" in report else 1


def number_cell(value: dict[str, float], sign: str = " ") -> Cell:
    """The mean, with the standard deviation if there are several seeds."""
    deviation = f" ±{value['std']:.3f}" if "std" in value else ""
    return Cell(f"{value['mean']:{sign}.3f}{deviation}")
