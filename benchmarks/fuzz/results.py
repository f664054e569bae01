"""Results, which come with a clone or over a shared remote: numbers, exports, speeds, curves, predictions, packs."""

import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from benchmarks.fuzz.structure import changed_json, changed_table
from benchmarks.fuzz.target import Target
from pipeline.evaluation.comparison import comparison, comparison_in_markdown, read_metrics
from pipeline.evaluation.complete_metrics import refuse_incomplete
from pipeline.evaluation.curves import best_epochs, best_row, curve_table, measures_of, read_curves
from pipeline.evaluation.description import read_description
from pipeline.evaluation.dvc_plots import read_plot
from pipeline.evaluation.export_tables import export_tables
from pipeline.evaluation.exports import ExportSpeed, read_export, read_export_speed
from pipeline.evaluation.made_from import of_unknown_images, refuse_others
from pipeline.evaluation.names import BASELINE, TEACHER
from pipeline.evaluation.predictions import read_predictions
from pipeline.evaluation.speed import read_speed
from pipeline.evaluation.temperatures import DRAWN, students_of, temperature_table
from pipeline.models.logit_tables import read_logit_table
from pipeline.report.recall_table import recall_table
from pipeline.report.verdict import own_accuracy, verdict
from pipeline.runtime.csv_rows import csv_rows
from pipeline.runtime.errors import MismatchError
from pipeline.tools.pack_files import CARD, CHECKSUMS, INDEX, LOGITS, read_checksums, read_pack_index
from pipeline.tools.pack_files import COLUMNS as PACK
from pipeline.tools.student_resize import exported_from
from pipeline.tools.verify_pack import licenses_in, metadata_in

ROOT = Path(__file__).parents[2]
WORDS = (b"null", b"[]", b"{}", b'"', b"1e400", b"NaN", b"-1", b"9" * 30, b"true", b",", b"\n", b"\0")
SECONDS = {"median_ms": 1.5, "p95_ms": 2.0}
SPEED = {"one_thread": SECONDS, "all_threads": SECONDS, "batch_images_per_second": 10.0, "peak_memory_mb": 99.0}


def run_metrics(path: Path) -> None:
    """Tells all that the table, the report and the card tell of the numbers."""
    document = read_metrics(path)
    comparison(path)
    comparison_in_markdown(path)
    models = document["models"]
    students = students_of(models)
    refuse_incomplete(path, models, students)
    for student in students:
        verdict(models, student, document["test_images"])
        recall_table(models, [TEACHER, BASELINE, student])
    for metric in DRAWN:
        temperature_table(models, metric)
    of_unknown_images(path, document)
    with suppress(MismatchError):
        refuse_others(path, document, {"split": {"data": "raw"}}, None)


def run_export(path: Path) -> None:
    """Tells what the table and the card tell of an export."""
    export = read_export(path.parent, path.stem)
    own_accuracy(export)
    for table in export_tables([export], {"models": {}}, ExportSpeed(), in_probabilities=False):
        table.texts()


def run_curves(path: Path) -> None:
    """Chooses the best epoch, and makes the tables of plots."""
    curves = read_curves(path.parent, {TEACHER: [path.stem]})
    for one in curves:
        best_row(one, "accuracy")
        [curve_table(one.table, measure) for measure in measures_of(one.table)]
    best_epochs(TEACHER, curves, {}, "accuracy")


def read_roc(path: Path) -> None:
    """Reads the points of ROC curves."""
    folder = path.parent / "roc"
    folder.mkdir(exist_ok=True)
    shutil.copy(path, folder)
    read_plot(path.parent, "roc", path.stem)


def documents(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Other values, and keys removed, repeated and moved."""
    return changed_json([json.loads(seed) for seed in seeds])


def tables(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Rows of any length, and other fields, with numbers of any size."""
    numbers = st.floats().map(str) | st.integers().map(str)
    return changed_table(seeds, st.text(max_size=10) | numbers | st.sampled_from(["", "0", "1", "nan", "1e999", "a"]))


def json_target(*values: Any, run: Callable[[Path], object], file: str) -> Target:
    """A target whose files are JSON documents."""
    contents = [json.dumps(value, indent=1).encode() for value in values]
    return Target(seeds=lambda: contents, run=run, inputs=documents, file=file, words=WORDS)


def csv_target(*rows: Sequence[Sequence[object]], run: Callable[[Path], object], file: str) -> Target:
    """A target whose files are tables."""
    contents = ["".join(csv_rows(table)).encode() for table in rows]
    return Target(seeds=lambda: contents, run=run, inputs=tables, file=file, words=WORDS)


def in_repository(file: str) -> Any:
    """The content of a file of results."""
    return json.loads((ROOT / "results" / file).read_text(encoding="utf-8"))


CURVES: list[list[object]] = [
    ["epoch", "phase", "loss", "accuracy", "val_loss", "val_accuracy", "val_cross_entropy"],
    [1, 1, 0.5, 0.5, 0.5, 0.5, 0.5],
    [2, 1, 0.25, 0.75, 0.25, 0.75, 0.25],
]
PACK_FILES = (LOGITS, INDEX, CARD, CHECKSUMS, "soft_targets_T4.h5")
MEMBERS = [[*CURVES[0], "member"], [*CURVES[1], 0], [*CURVES[1], 1]]
TARGETS = {
    "metrics": json_target(in_repository("metrics.json"), run=run_metrics, file="metrics.json"),
    "export_report": json_target(in_repository("exports/best.json"), run=run_export, file="best.json"),
    "export_speed": json_target(
        {"device": "CPU", "date": "2026-11-26", "cores": 2, "batch_size": 32}
        | {"models": {"teacher": SPEED, "best/student.onnx": SPEED | {"digest": "ab"}}},
        run=read_export_speed,
        file="export_speed.json",
    ),
    "speed": json_target(
        {"device": "CPU", "date": "2026-11-26", "batch_sizes": [1, 64], "images_per_second": {"student": [1.0, 2.0]}},
        run=read_speed,
        file="speed.json",
    ),
    "teacher_description": json_target(
        {"sha256": "ab", "cost": {"parameters": {"total": 5, "trainable": 5}, "file_bytes": 9}}
        | {"architecture": {"class_name": "Functional"}, "classes": 2},
        run=read_description,
        file="teacher.json",
    ),
    "curves": csv_target(CURVES, MEMBERS, run=run_curves, file="teacher.csv"),
    "predictions": csv_target(
        [["id", "actual", "predicted", "confidence", "nll", "teacher_kl"], ["a", "x", "y", 0.5, 0.7, 0.1]],
        run=lambda path: read_predictions(path.parent, path.stem),
        file="teacher.csv",
    ),
    "roc": csv_target(
        [["class", "false_positive_rate", "true_positive_rate"], ["a", 0, 0], ["a", 0.5, 0.5], ["a", 1, 1]],
        run=read_roc,
        file="teacher.csv",
    ),
    "logits_csv": csv_target(
        [["id", "view", "logit:x", "logit:y", "rendering"], ["a", 0, 0.5, 1, "{}"], ["b", 0, -1e3, 2e-5, "{}"]],
        [["id", "probability:x", "probability:y"], ["a", 0.25, 0.75], ["b", 1, 0]],
        run=read_logit_table,
        file="logits.csv",
    ),
    "export_origin": json_target({"sha256": "ab", "temperature": 4.0}, run=exported_from, file="export.json"),
    "pack_index": csv_target(
        [PACK, ["a.png", "train", 0, "x", "ab"], ["b.png", "val", 1, "y", "cd"], ["c.png", "test", "", "", "ef"]],
        run=lambda path: read_pack_index(path, ["x", "y"]),
        file="index.csv",
    ),
    "pack_checksums": Target(
        seeds=lambda: [b"".join(f"{number:064x}  {name}\n".encode() for number, name in enumerate(PACK_FILES))],
        run=read_checksums,
        words=WORDS,
    ),
    "pack_card": Target(
        seeds=lambda: [b"---\nlicense: mit\n---\n# Pack\n", b"---\nlicense: [mit, other]\n---\n# Pack\n"],
        run=lambda path: licenses_in(metadata_in(path.read_text("utf-8", "replace")) or {"license": None}),
        words=(*WORDS, b"&a ", b"*a", b"!!int ''", b"---\n", b"\n- ", b"0x_"),
    ),
}  # fmt: skip
