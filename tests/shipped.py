"""Numbers of exports, written by hand, for the tests of what is shown of them."""

import copy
import json
from pathlib import Path
from typing import Any

from pipeline.evaluation.exports import ExportSpeed, write_export_speed
from pipeline.params.reading import read_params

CALIBRATED = {"nll": 0.1009, "brier": 0.0512, "ece": 0.0081}
KERAS = {
    "bytes": 68_048, "accuracy": 0.9627, "auc": 0.9991, "nll": 0.1187, "brier": 0.056, "ece": 0.0117,
    "calibrated": CALIBRATED,
}  # fmt: skip
FILES = {
    "student_float32.tflite": KERAS
    | {"bytes": 41_212, "precision": "float32", "digest": "ab" * 32, "agreement": 1.0}
    | {"largest_logit_difference": 1.9e-06},
    "student_int8.tflite": KERAS
    | {"bytes": 14_568, "accuracy": 0.9607, "precision": "int8", "digest": "cd" * 32, "agreement": 0.9973}
    | {"largest_logit_difference": 0.4321},
    "student.onnx": KERAS
    | {"bytes": 40_000, "precision": "float32", "digest": "ef" * 32, "agreement": 1.0}
    | {"largest_logit_difference": 2.1e-06},
}
SETTINGS = {"calibration_images": 200, "formats": ["litert_int8", "onnx"], "max_accuracy_drop": 0.02, "softmax": False}
DATA_SET = "da" * 32
EXPORT = {
    "student": "student_kl_T4_seed1",
    "sha256": "12" * 32,
    "chosen": "the best of 3 students by validation accuracy (0.962)",
    "test_images": 1500,
    "temperature": 1.2345,
    "temperature_note": None,
    "made_from": {"dataset": DATA_SET, "export": SETTINGS},
    "class_names": ["0", "1"],
    "keras": KERAS,
    "files": FILES,
}


def times(median: float) -> dict[str, Any]:
    """Of one thread and of all: half of it."""
    return {
        "one_thread": {"median_ms": median, "p95_ms": median + 0.01},
        "all_threads": {"median_ms": median / 2, "p95_ms": median / 2 + 0.01},
        "batch_images_per_second": 12_345.6,
        "peak_memory_mb": 87.6,
    }


SPEED = ExportSpeed(
    "2 CPU cores (x86_64)",
    "2026-01-31",
    2,
    32,
    {
        "best/student_float32.tflite": times(0.04) | {"digest": "ab" * 32},
        "best/student_int8.tflite": times(0.02) | {"digest": "00" * 32},
        "teacher": times(2.5),
    },
)
"""Of one file of another version, and not of `student.onnx`."""


def export(**changes: Any) -> dict[str, Any]:
    """`EXPORT` with other values."""
    return copy.deepcopy(EXPORT) | changes


def made_now(dataset: str) -> dict[str, Any]:
    """What an export says it was made from if it was made with the params.yaml of the working directory."""
    settings = read_params(Path("params.yaml")).export.model_dump(exclude={"students"})
    return {"dataset": dataset, "export": settings}


def write_shipped(folder: Path, **items: dict[str, Any]) -> None:
    """Writes `results/exports` of some items, and `results/export_speed.json`, below a folder."""
    (folder / "results/exports").mkdir(parents=True, exist_ok=True)
    for item, document in items.items():
        (folder / f"results/exports/{item}.json").write_text(json.dumps(document), encoding="utf-8")
    write_export_speed(SPEED, folder / "results/export_speed.json")
