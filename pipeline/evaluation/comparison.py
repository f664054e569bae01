"""The comparison of teacher, baselines and students from `metrics.json`: as text, as Markdown, and for the report."""

import json
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.evaluation.cautions import cautions, model_name
from pipeline.evaluation.text_table import Table, aligned
from pipeline.runtime.errors import DamagedError, MissingError

QUALITY = {
    "accuracy": "accuracy",
    "auc": "AUC",
    "nll": "NLL",
    "brier": "Brier",
    "ece": "ECE",
    "teacher_agreement": "agreement",
    "teacher_kl": "KL",
}

WIDTH = 117
"""Characters of a line of text below the tables."""

CORRELATIONS = {"pearson": "Pearson", "spearman": "Spearman"}


@dataclass(frozen=True)
class Estimates:
    """How numbers are written with their uncertainty.

    Attributes:
        words: what is written behind them, of one seed and of several.
        cells: a cell for each of `QUALITY`, from a report of `metrics.json`, its "quality" or "gain", and the sign to
            write.
    """

    words: tuple[str, str]
    cells: Callable[[dict[str, Any], str, str], list[str]]


def _with_deviations(report: dict[str, Any], key: str, sign: str) -> list[str]:
    return [_number(report[key][metric], sign) for metric in QUALITY]


def _with_intervals(report: dict[str, Any], key: str, sign: str) -> list[str]:
    ends, within = report["intervals"][key], sign.strip()
    return [
        f"{_mean(report[key][metric]):{sign}.3f}"
        + (f" ({ends[metric][0]:{within}.3f} to {ends[metric][1]:{within}.3f})" if metric in ends else "")
        for metric in QUALITY
    ]


DEVIATIONS = Estimates(("", " ± standard deviation"), _with_deviations)

INTERVALS = Estimates(
    (" (95 % interval over test images)", " (95 % interval over seeds and test images)"), _with_intervals
)


def comparison(metrics: Path) -> str:
    """Quality and cost of teacher, baseline and students as text.

    Raises:
        PipelineError: there are no metrics yet, or they are damaged.
    """
    shown = tables(metrics, DEVIATIONS)
    texts = [_as_text(table, with_title=number == 0) for number, table in enumerate(shown)]
    return "\n\n".join([*texts, *(textwrap.fill(said, WIDTH) for said in cautions_on(metrics))])


def comparison_in_markdown(metrics: Path) -> str:
    """As `comparison`, with intervals, as Markdown that GitHub and GitLab draw.

    Raises:
        PipelineError: there are no metrics yet, or they are damaged.
    """
    return "\n\n".join([*map(_as_markdown, tables(metrics, INTERVALS)), *cautions_on(metrics)])


def tables(metrics: Path, estimates: Estimates) -> list[Table]:
    """The tables of quality, of cost, and, where there are any, of the annotators' votes.

    Args:
        metrics: `metrics.json`.
        estimates: `DEVIATIONS` or `INTERVALS`.

    Raises:
        PipelineError: there are no metrics yet, or they are damaged.
    """
    document = read_metrics(metrics)
    models = document["models"]
    with _refusing_damage(metrics):
        return [_quality(document, estimates), _costs(models), *_votes(models)]


def cautions_on(metrics: Path) -> list[str]:
    """The sentences of `cautions.cautions`, which belong below the tables.

    Raises:
        PipelineError: there are no metrics yet, or they are damaged.
    """
    models = read_metrics(metrics)["models"]
    with _refusing_damage(metrics):
        return cautions(models)


def read_metrics(path: Path) -> dict[str, Any]:
    """Reads `metrics.json`.

    Raises:
        PipelineError: there are no metrics yet, or they are damaged.
    """
    if not path.is_file():
        raise MissingError(f"there are no metrics at {path}. Make them with `dvc repro`.")
    with _refusing_damage(path):
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        _ = document["models"].items()
        return document


@contextmanager
def _refusing_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise DamagedError(
            f"{path} is damaged ({error!r}). Make it again with `dvc repro --single-item --force evaluate`."
        ) from None


def _quality(document: dict[str, Any], estimates: Estimates) -> Table:
    rows = []
    for key, report in document["models"].items():
        rows.append([model_name(key), str(len(report.get("seeds", [0]))), *estimates.cells(report, "quality", " ")])
        if "gain" in report:
            rows.append(["  less baseline", "", *estimates.cells(report, "gain", "+")])
    several = any(len(report.get("seeds", [0])) > 1 for report in document["models"].values())
    return Table(
        f"On {document['test_images']:,} test images: mean over seeds{estimates.words[several]}.",
        ["model", "seeds", *(f" {name}" for name in QUALITY.values())],
        rows,
        [
            "NLL, Brier, ECE, KL (teacher || model, nats): lower is better. Agreement: with the teacher's choice.",
            "Less baseline: student minus the same model without a teacher, seed by seed.",
        ],
    )


def _costs(models: dict[str, Any]) -> Table:
    return Table(
        "What the models cost.",
        ["model", "parameters", "trainable", "MFLOPs an image", "MB on disk"],
        [[model_name(key), *_cost(report)] for key, report in models.items()],
        ["A multiply-add counts as two FLOPs."],
        numbers=True,
    )


def _votes(models: dict[str, Any]) -> list[Table]:
    """What the annotators' votes tell of the models that have some; nothing where nobody voted."""
    reports = {model_name(key): report["votes"] for key, report in models.items() if "votes" in report}
    if not reports:
        return []
    sizes = {level: found["images"] for report in reports.values() for level, found in report["levels"].items()}
    counts = ["images", *(f" {images:,}" for images in sizes.values())]
    accuracies = [
        [name, *(_number(report["levels"][level]["accuracy"], " ") for level in sizes)]
        for name, report in reports.items()
    ]
    correlations = [
        [name, key.removeprefix("T"), *(_optional(found.get(kind)) for kind in CORRELATIONS)]
        for name, report in reports.items()
        for key, found in report["correlation"].items()
    ]
    return [
        Table(
            "Where annotators agreed, and where not.",
            ["annotators' votes", *(f" {level}" for level in sizes)],
            [counts, *accuracies],
            ["Accuracy where so many annotators agreed with each other, the majority first."],
        ),
        Table(
            "Doubt of models and annotators.",
            ["model", "at T", *(f" {kind}" for kind in CORRELATIONS.values())],
            correlations,
            ["Correlation of the probability of the positive class, softened at T, with the share of votes for it."],
        ),
    ]


def _optional(value: float | dict[str, float] | None) -> str:
    return "" if value is None else _number(value, " ")


def _cost(report: dict[str, Any]) -> list[str]:
    counts = report["parameters"]
    megaflops, megabytes = report["flops"] / 1e6, report["file_bytes"] / 1e6
    return [f"{counts['total']:,}", f"{counts['trainable']:,}", f"{megaflops:,.2f}", f"{megabytes:,.2f}"]


def _mean(value: float | dict[str, float]) -> float:
    return value["mean"] if isinstance(value, dict) else value


def _number(value: float | dict[str, float], sign: str) -> str:
    spread = f" ±{value['std']:.3f}" if isinstance(value, dict) and "std" in value else ""
    return f"{_mean(value):{sign}.3f}{spread}"


def _as_text(table: Table, with_title: bool) -> str:
    rows = aligned([table.header, *table.rows], str.rjust if table.numbers else str.ljust)
    return "\n".join([*([table.title, ""] if with_title else []), *rows, "", *table.notes])


def _as_markdown(table: Table) -> str:
    rule = ["---", *["---:" if table.numbers else "---"] * (len(table.header) - 1)]
    rows = [table.header, rule, *([_markdown_cell(cell) for cell in row] for row in table.rows)]
    lines = ["| " + " | ".join(cell.strip() for cell in row) + " |" for row in rows]
    return "\n".join([f"**{table.title}**", "", *lines, "", *table.notes])


def _markdown_cell(cell: str) -> str:
    return cell.replace("|", "\\|")
