"""The head of the model card: the metadata that the Hugging Face Hub reads, as YAML between two lines of dashes."""

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from pipeline.evaluation.exports import Export
from pipeline.report.licences import UNKNOWN, licence_metadata

TASK = "image-classification"
METRICS = {"accuracy": "accuracy", "auc": "roc_auc", "nll": "nll", "brier": "brier_score", "ece": "ece"}
"""The Hub's names of metrics, by those of `metrics.json`."""
TAGS = {".tflite": "tflite", ".onnx": "onnx"}
"""What a file adds to the tags, by its ending."""

DECIMALS = 4
"""Of a number: YAML 1.1 reads 1e-05, without a point, as a text."""

WIDEST = 4096
"""So long a line of YAML is not broken."""


def metadata(
    statements: Mapping[str, str | None],
    data_set: str,
    quality: Mapping[str, Mapping[str, float]],
    exports: Sequence[Export],
    *,
    is_distilled: bool,
) -> dict[str, Any]:
    """The metadata of a card.

    Args:
        statements: the section `card` of params.yaml.
        data_set: the name of the data set.
        quality: the metrics on the test images of each model that the card is about, by its name.
        exports: the exports of the students of now.
        is_distilled: whether one of the models learned from a teacher.
    """
    endings = {PurePath(name).suffix for export in exports for name in export.files}
    tags = [TASK, *(["knowledge-distillation"] if is_distilled else []), "softlabel"]
    tags += [tag for ending, tag in TAGS.items() if ending in endings]
    if statements["domain"] == "medical":
        tags.append("medical")
    language = {} if statements["language"] is None else {"language": statements["language"]}
    return {
        **licence_metadata(statements["license"] or UNKNOWN),
        **language,
        "library_name": "keras",
        "pipeline_tag": TASK,
        "tags": tags,
        "metrics": sorted({METRICS[name] for numbers in quality.values() for name in METRICS if name in numbers}),
        "model-index": [_result(name, data_set, numbers) for name, numbers in quality.items()],
    }


def as_head(values: Mapping[str, Any]) -> str:
    """Metadata as the first lines of a card.

    Every text is in quotes and in ASCII: the Hub reads YAML 1.1, in which a bare `no` is false.
    """
    yaml, text = YAML(), io.StringIO()
    yaml.width, yaml.allow_unicode = WIDEST, False
    yaml.dump(_in_quotes(values), text)
    return f"---\n{text.getvalue()}---\n"


def _in_quotes(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _in_quotes(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_in_quotes(inner) for inner in value]
    return DoubleQuotedScalarString(value) if isinstance(value, str) else value


def _result(name: str, data_set: str, numbers: Mapping[str, float]) -> dict[str, Any]:
    """The part of "model-index" on one model."""
    values = [
        {"type": METRICS[key], "value": round(value, DECIMALS), "name": key}
        for key, value in numbers.items()
        if key in METRICS
    ]
    described = {"name": data_set, "type": _identifier(data_set), "split": "test"}
    return {
        "name": name,
        "results": [{"task": {"type": TASK}, "dataset": described, "metrics": values}],
    }


def _identifier(name: str) -> str:
    """A name of letters, digits, dots, dashes and underscores."""
    return re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII).strip("-") or "data"
