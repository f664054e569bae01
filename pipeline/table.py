"""The comparison table, from `metrics.json`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError

QUALITY = {
    "accuracy": "accuracy",
    "auc": "AUC",
    "nll": "NLL",
    "brier": "Brier",
    "ece": "ECE",
    "teacher_agreement": "agreement",
    "teacher_kl": "KL",
}
CORRELATIONS = {"pearson": "Pearson", "spearman": "Spearman"}


def comparison(metrics: Path) -> str:
    """Quality and cost of teacher, baseline and students as text.

    Raises:
        PipelineError: there are no metrics yet, or they are damaged.
    """
    if not metrics.is_file():
        raise PipelineError(f"there are no metrics at {metrics}. Make them with `dvc repro`.")
    try:
        return _tables(json.loads(metrics.read_text(encoding="utf-8")))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise PipelineError(
            f"{metrics} is damaged ({error!r}). Make it again with `dvc repro --single-item --force evaluate`."
        ) from None


def _tables(document: dict[str, Any]) -> str:
    quality = [["model", "seeds", *(f" {name}" for name in QUALITY.values())]]
    cost = [["model", "parameters", "trainable", "MFLOPs an image", "MB on disk"]]
    for key, report in document["models"].items():
        name = _name(key)
        quality.append([name, str(len(report.get("seeds", [0]))), *_cells(report["quality"])])
        if "gain" in report:
            quality.append(["  less baseline", "", *_cells(report["gain"], sign="+")])
        cost.append([name, *_cost(report)])
    return "\n".join(
        [
            f"On {document['test_images']} test images: mean over seeds ± standard deviation.",
            "",
            *aligned(quality, str.ljust),
            "",
            "NLL, Brier, ECE, KL (teacher || model, nats): lower is better. Agreement: with the teacher's choice.",
            "Less baseline: student minus the same model without a teacher, seed by seed.",
            "",
            *aligned(cost, str.rjust),
            "",
            "A multiply-add counts as two FLOPs.",
            *_votes(document["models"]),
        ]
    )


def _votes(models: dict[str, Any]) -> list[str]:
    """What the annotators' votes tell of the models that have some; nothing where nobody voted."""
    reports = {_name(key): report["votes"] for key, report in models.items() if "votes" in report}
    if not reports:
        return []
    sizes = {level: found["images"] for report in reports.values() for level, found in report["levels"].items()}
    head = ["annotators' votes", *(f" {level}" for level in sizes)]
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
        "",
        *aligned([head, counts, *accuracies], str.ljust),
        "",
        "Accuracy where so many annotators agreed with each other, the majority first.",
        "",
        *aligned([["model", "at T", *(f" {kind}" for kind in CORRELATIONS.values())], *correlations], str.ljust),
        "",
        "Correlation of the probability of the positive class, softened at T, with the share of votes for it.",
    ]


def _name(key: str) -> str:
    return key.replace("_T", " T=")


def _optional(value: float | dict[str, float] | None) -> str:
    return "" if value is None else _number(value, " ")


def _cells(quality: dict[str, Any], sign: str = " ") -> list[str]:
    return [_number(quality[metric], sign) for metric in QUALITY]


def _cost(report: dict[str, Any]) -> list[str]:
    counts = report["parameters"]
    megaflops, megabytes = report["flops"] / 1e6, report["file_bytes"] / 1e6
    return [f"{counts['total']:,}", f"{counts['trainable']:,}", f"{megaflops:,.2f}", f"{megabytes:,.2f}"]


def _number(value: float | dict[str, float], sign: str) -> str:
    if isinstance(value, dict):
        spread = f" ±{value['std']:.3f}" if "std" in value else ""
        return f"{value['mean']:{sign}.3f}{spread}"
    return f"{value:{sign}.3f}"


def aligned(rows: list[list[str]], justify: Callable[[str, int], str]) -> list[str]:
    """Rows as lines of text: the first column to the left, a rule below the first row."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [justify(cell, width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return [lines[0], "-" * len(lines[0]), *lines[1:]]
