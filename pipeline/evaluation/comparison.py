"""The comparison of teacher, baselines and students from `metrics.json`: as text, as Markdown, and for the report."""

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.evaluation.cautions import about_unlabelled, cautions
from pipeline.evaluation.export_tables import Shipped
from pipeline.evaluation.metrics_form import Metrics
from pipeline.evaluation.names import TEACHER, parsed, temperature_of
from pipeline.evaluation.quality_tables import DEVIATIONS, INTERVALS, Uncertainty, number_cell, quality_tables
from pipeline.evaluation.result_files import checked_json, reading
from pipeline.evaluation.speed import Speed
from pipeline.evaluation.text_table import Cell, Row, Table, as_markdown, as_text
from pipeline.runtime.errors import DamagedError

WIDTH = 117
"""Characters of a line of text below the tables."""

CORRELATIONS = {"pearson": "Pearson", "spearman": "Spearman"}

NOT_KNOWN = Cell("not known")
NOTHING = Shipped()

Report = dict[str, Any]

REMEDY = "Make it again with `dvc repro --single-item --force evaluate`."


@dataclass(frozen=True)
class Tables:
    """The tables of a comparison.

    Attributes:
        quality: one or two, `quality_tables.quality_tables`.
        costs: parameters, operations, size and speed.
        votes: what the annotators' votes show; none if nobody voted.
    """

    quality: list[Table]
    costs: Table
    votes: list[Table]

    @property
    def all(self) -> list[Table]:
        """All tables, in their order on paper."""
        return [*self.quality, self.costs, *self.votes]


def comparison(metrics: Path, shipped: Shipped = NOTHING) -> str:
    """Quality and cost of teacher, baselines and students as text, and of the exported files.

    Args:
        metrics: `metrics.json`.
        shipped: the exports.

    Raises:
        MissingError: there are no metrics yet.
        DamagedError: they are damaged.
    """
    first, *others = [*tables(metrics, DEVIATIONS).all, *shipped.tables]
    texts = [f"{first.title}\n\n{as_text(first)}", *map(as_text, others)]
    sentences = [*cautions_on(metrics), *shipped.remarks]
    return "\n\n".join([*texts, *(textwrap.fill(sentence, WIDTH) for sentence in sentences)])


def comparison_in_markdown(metrics: Path, shipped: Shipped = NOTHING) -> str:
    """The same, with 95 % intervals, as Markdown for GitHub and GitLab.

    Args:
        metrics: `metrics.json`.
        shipped: the exports.

    Raises:
        MissingError: there are no metrics yet.
        DamagedError: they are damaged.
    """
    shown = [*tables(metrics, INTERVALS).all, *shipped.tables]
    return "\n\n".join([*map(as_markdown, shown), *cautions_on(metrics), *shipped.remarks])


def tables(metrics: Path, uncertainty: Uncertainty, speed: Speed | None = None) -> Tables:
    """The tables of quality and of cost, and those of the annotators' votes if there are any.

    Args:
        metrics: `metrics.json`.
        uncertainty: `DEVIATIONS` or `INTERVALS`.
        speed: adds a column for each of its batch sizes to the table of cost.

    Raises:
        MissingError: there are no metrics yet.
        DamagedError: they are damaged.
    """
    document = read_metrics(metrics)
    models = document["models"]
    if uncertainty is INTERVALS:
        _refuse_without_intervals(metrics, models)
    return Tables(quality_tables(document, uncertainty), _costs(models, speed), _votes(models))


def _refuse_without_intervals(metrics: Path, models: dict[str, Report]) -> None:
    for key, report in models.items():
        if not {"quality", "gain"} & set(report) <= set(report.get("intervals", {})):
            raise DamagedError(f"{metrics} is damaged, the metrics of {key} have no intervals. {REMEDY}")


def cautions_on(metrics: Path) -> list[str]:
    """The sentences of `cautions`, for below the tables.

    Raises:
        MissingError: there are no metrics yet.
        DamagedError: they are damaged.
    """
    document = read_metrics(metrics)
    return [*about_unlabelled(document), *cautions(document["models"])]


def read_metrics(path: Path) -> dict[str, Any]:
    """Reads `metrics.json`.

    Raises:
        MissingError: there are no metrics yet.
        DamagedError: they are damaged.
        MismatchError: they are of an earlier version.
    """
    with reading(path, "metrics", REMEDY, "Make them with `dvc repro`."):
        document: dict[str, Any] = checked_json(path, Metrics, REMEDY)
        return document


def _costs(models: dict[str, Report], speed: Speed | None) -> Table:
    batch_sizes = speed.batch_sizes if speed else []
    return Table(
        "What the models cost.",
        [
            *("model", "parameters", "trainable", "MFLOPs an image", "MB on disk"),
            *(f"images/s, {size} at a time" for size in batch_sizes),
        ],
        [Row(parsed(key)[0].words, [*_cost(report), *_rates(key, speed)]) for key, report in models.items()],
        ["A multiply-add counts as two FLOPs."],
        numbers=True,
    )


def _votes(models: dict[str, Report]) -> list[Table]:
    """Two tables of what the annotators' votes show of the models; none if nobody voted."""
    reports = {parsed(key)[0].words: report["votes"] for key, report in models.items() if "votes" in report}
    if not reports:
        return []
    sizes = {name: level["images"] for report in reports.values() for name, level in report["levels"].items()}
    counts = Row("images", [Cell(f" {images:,}") for images in sizes.values()])
    accuracies = [
        Row(name, [number_cell(report["levels"][level]["accuracy"]) for level in sizes])
        for name, report in reports.items()
    ]
    correlations = [
        Row(
            name,
            [
                Cell(temperature_of(key)),
                *(number_cell(values[kind]) if kind in values else Cell("") for kind in CORRELATIONS),
            ],
        )
        for name, report in reports.items()
        for key, values in report["correlation"].items()
    ]
    return [
        Table(
            "Where annotators agreed, and where not.",
            ["annotators' votes", *(f" {level}" for level in sizes)],
            [counts, *accuracies],
            ["Accuracy by how many annotators chose one class and how many the other, the majority first."],
        ),
        Table(
            "Doubt of models and annotators.",
            ["model", "at T", *(f" {kind}" for kind in CORRELATIONS.values())],
            correlations,
            ["Correlation of the probability of the positive class, softened at T, with the share of votes for it."],
        ),
    ]


def _cost(report: Report) -> list[Cell]:
    counts = report.get("parameters", {})
    millions = [report[name] / 1e6 if name in report else None for name in ("flops", "file_bytes")]
    return [
        *(NOT_KNOWN if count is None else Cell(f"{count:,}") for count in map(counts.get, ("total", "trainable"))),
        *(NOT_KNOWN if number is None else Cell(f"{number:,.2f}") for number in millions),
    ]


def _rates(key: str, speed: Speed | None) -> list[Cell]:
    """Images a second, one for each batch size; baselines and students have the same architecture."""
    if speed is None:
        return []
    measured = "teacher" if parsed(key)[0] == TEACHER else "student"
    rates = speed.images_per_second.get(measured)
    return [NOT_KNOWN for _ in speed.batch_sizes] if rates is None else [Cell(f"{rate:,.0f}") for rate in rates]
