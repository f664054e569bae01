"""What ships: tables of the exported files, beside the Keras student and the teacher."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.evaluation.current_exports import Now, of_each_student, read_exports
from pipeline.evaluation.exports import Export, ExportSpeed, read_export_speed
from pipeline.evaluation.names import TEACHER
from pipeline.evaluation.text_table import Cell, Row, Table

NOT_MEASURED = Cell("not measured")
NONE = Cell("")
MILLISECONDS = ("median_ms", "p95_ms")
SHOWN = ("accuracy", "auc", "nll", "ece")
HEADER = (
    *("what ships", "precision", "MB", "accuracy", "AUC", "NLL", "ECE", "calibrated ECE"),
    *("agreement", "largest difference"),
)

Numbers = Mapping[str, Any]


@dataclass(frozen=True)
class Shipped:
    """What is shown of the exports.

    Attributes:
        exports: those of the students, settings and images of now.
        tables: `export_tables`.
        remarks: a sentence on each export that is not shown.
    """

    exports: Sequence[Export] = ()
    tables: Sequence[Table] = ()
    remarks: Sequence[str] = ()


def read_shipped(folder: Path, speed: Path, now: Now) -> Shipped:
    """Reads the exports and their times.

    Args:
        folder: `results/exports`.
        speed: `export_speed.json`; if it is not there, nothing was measured.
        now: what the exports must be of.

    Raises:
        DamagedError: a file is damaged.
    """
    exports, remarks = read_exports(folder, now)
    times = read_export_speed(speed) if exports and speed.is_file() else ExportSpeed()
    tables = export_tables(exports, now.metrics, times, in_probabilities=now.settings["softmax"])
    return Shipped(exports, tables, remarks)


def export_tables(
    exports: Sequence[Export], metrics: Mapping[str, Any], speed: ExportSpeed, *, in_probabilities: bool
) -> list[Table]:
    """Two tables, of quality and of speed; none without exports.

    Args:
        exports: those of the students of now.
        metrics: the content of `metrics.json`.
        speed: the measured times; a file without times is said not to be measured.
        in_probabilities: whether the files give probabilities in place of logits.
    """
    if not exports:
        return []
    return [_quality(exports, metrics["models"], in_probabilities), *_speeds(exports, speed)]


def _quality(exports: Sequence[Export], models: Numbers, in_probabilities: bool) -> Table:
    rows = [Row(TEACHER.words, [NONE, *_of_teacher(models[TEACHER.key])])] if TEACHER.key in models else []
    for student in of_each_student(exports):
        rows.append(Row(student.words, [Cell("float32"), *_measured(student.keras), NONE, NONE]))
        rows += [
            Row(_place(export, name, exports), [Cell(numbers["precision"]), *_answers(numbers)], is_part=True)
            for export in exports
            if export.student == student.student
            for name, numbers in export.files.items()
        ]
    compared = "log-probability" if in_probabilities else "logit"
    return Table(
        f"What ships, on {exports[0].test_images:,} test images.",
        list(HEADER),
        rows,
        [
            "Each file was run in its own runtime.",
            f"Agreement: with the Keras student's choices. Largest difference: largest {compared} difference from it.",
            f"Calibrated ECE: of logits / T. {' '.join(map(_temperature, of_each_student(exports)))}",
        ],
        numbers=True,
    )


def _speeds(exports: Sequence[Export], speed: ExportSpeed) -> Iterator[Table]:
    """The table of times; none if nothing was measured."""
    if not speed.models:
        return
    rows = [Row(TEACHER.words, _times(speed.models.get(TEACHER.key)))]
    for export in exports:
        rows += [Row(_place(export, name, exports), _times(speed.of_file(export, name))) for name in export.files]
    yield Table(
        "What ships: time and memory.",
        [
            *("time and memory", "ms, one thread", "95 %", f"ms, all {speed.cores} threads", "95 %"),
            *(f"images/s, {speed.batch_size} at a time", "peak MB"),
        ],
        rows,
        [
            f"Measured on {speed.device} on {speed.date}.",
            "One image at a time: the median of the calls, and their 95th percentile. A batch: with all threads.",
            "Peak MB: the most memory of a process of its own that loaded runtime and file and labelled images.",
        ],
        numbers=True,
    )


def _temperature(export: Export) -> str:
    origin = export.temperature_note or "from the validation images"
    return f"T of {export.words}: {export.temperature:.3f} ({origin})."


def _place(export: Export, name: str, exports: Sequence[Export]) -> str:
    """The name of a file, with its folder if there are several exports."""
    return name if len(exports) == 1 else f"{export.item}/{name}"


def _of_teacher(report: Numbers) -> list[Cell]:
    quality = report["quality"]
    numbers = {name: quality[name]["mean"] for name in SHOWN if name in quality}
    size = {"bytes": report["file_bytes"]} if "file_bytes" in report else {}
    return [*_cells(numbers | size), NONE, NONE, NONE]


def _measured(numbers: Numbers) -> list[Cell]:
    return [*_cells(numbers), _cell(numbers["calibrated"], "ece")]


def _cells(numbers: Numbers) -> list[Cell]:
    size = f"{numbers['bytes'] / 1e6:,.3f}" if "bytes" in numbers else ""
    return [Cell(size), *(_cell(numbers, name) for name in SHOWN)]


def _cell(numbers: Numbers, name: str) -> Cell:
    return NONE if numbers.get(name) is None else Cell(f"{numbers[name]:.3f}")


def _answers(numbers: Numbers) -> list[Cell]:
    closeness = Cell(f"{numbers['agreement']:.3f}"), Cell(f"{numbers['largest_logit_difference']:.2g}")
    return [*_measured(numbers), *closeness]


def _times(times: Numbers | None) -> list[Cell]:
    if times is None:
        return [NOT_MEASURED, *[NONE] * 5]
    return [
        *(Cell(f"{times[threads][name]:,.3f}") for threads in ("one_thread", "all_threads") for name in MILLISECONDS),
        Cell(f"{times['batch_images_per_second']:,.0f}"),
        Cell(f"{times['peak_memory_mb']:,.0f}"),
    ]
