"""The exported files: their quality in `results/exports/`, and their speed in `results/export_speed.json`."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.evaluation.names import Group, parsed
from pipeline.evaluation.result_files import reading
from pipeline.runtime.publish import publish

KNOWN = ("accuracy", "nll", "brier", "ece")
"""The numbers of quality that are always known; the AUC is not if the test images are of one class."""
SHARES = ("accuracy", "auc", "ece", "agreement")
"""Numbers from 0 to 1; the others are not negative."""

Numbers = Mapping[str, Any]

_reading_export = partial(
    reading,
    what="numbers of an export",
    remedy="Make them again with `dvc repro --single-item --force export`.",
)
_reading_speed = partial(
    reading,
    what="speeds of the exports",
    remedy="Measure again with `dvc repro --single-item --force measure_exports`.",
)


@dataclass(frozen=True)
class Export:
    """What was exported of one student.

    Attributes:
        item: its name in `export.students`, and of its folder: "best", "student_kl_T4_seed1".
        student: the name of the student: "student_kl_T4_seed1".
        sha256: SHA-256 of its Keras file.
        chosen: why this student, in words.
        test_images: N.
        temperature: the temperature at which its probabilities are calibrated.
        temperature_note: why the temperature is 1 or an end of its range; None: the validation images gave it.
        made_from: "dataset", the fingerprint of the index, and "export", the settings of the files; None: not known.
        keras: bytes, accuracy, auc, nll, brier and ece of the Keras student, and "calibrated".
        files: the same of each file, with precision, digest, agreement and largest_logit_difference.
    """

    item: str
    student: str
    sha256: str
    chosen: str
    test_images: int
    temperature: float
    keras: Numbers
    files: Mapping[str, Numbers]
    temperature_note: str | None = None
    made_from: Mapping[str, Any] | None = None

    @property
    def group(self) -> Group:
        """The students that differ from this one in their seed alone."""
        return parsed(self.student)[0]

    @property
    def seed(self) -> int:
        """Its seed."""
        return int(parsed(self.student)[1].removeprefix("seed "))

    @property
    def words(self) -> str:
        """The student's name for people: "student kl T=4, seed 1"."""
        return f"{self.group.words}, seed {self.seed}"


@dataclass(frozen=True)
class ExportSpeed:
    """Times of exported files and of the teacher.

    Attributes:
        device: the processor that computed.
        date: the day of the measurement in UTC, YYYY-MM-DD; empty if there was nothing to measure.
        cores: the number of its cores.
        batch_size: images in a batch.
        models: for "teacher", and for each file by "<item>/<name>": "one_thread" and "all_threads", each with
            median_ms and p95_ms; batch_images_per_second and peak_memory_mb; of a file also its digest.
    """

    device: str = ""
    date: str = ""
    cores: int = 0
    batch_size: int = 0
    models: Mapping[str, Numbers] = field(default_factory=dict)

    def of_file(self, export: Export, name: str) -> Numbers | None:
        """The times of a file; None if it was not measured, or if another version of it was."""
        times = self.models.get(f"{export.item}/{name}")
        return times if times is not None and times["digest"] == export.files[name]["digest"] else None


def read_export(folder: Path, item: str) -> Export:
    """Reads the numbers of one item of `export.students`.

    Args:
        folder: `results/exports`.
        item: the name of the item.

    Raises:
        MissingError: there is no such file.
        DamagedError: it is damaged.
    """
    path = folder / f"{item}.json"
    with _reading_export(path):
        document = json.loads(path.read_text(encoding="utf-8"))
        names = ("student", "sha256", "chosen", "test_images", "temperature", "keras", "files")
        notes = {name: document.get(name) for name in ("temperature_note", "made_from")}
        export = Export(item, **{name: document[name] for name in names}, **notes)
        _refuse_no_texts(document, ["student", "sha256", "chosen"])
        _refuse_no_texts({"temperature_note": export.temperature_note or ""}, ["temperature_note"])
        _refuse_no_numbers(document, ["test_images", "temperature"])
        if export.made_from is not None:
            _refuse_no_texts(export.made_from, ["dataset"])
            _ = export.made_from["export"]["softmax"]
        for numbers in (export.keras, *export.files.values()):
            _refuse_no_numbers(numbers, ["bytes", *KNOWN, *({"auc"} & set(numbers))])
            _refuse_no_numbers(numbers["calibrated"], ["nll", "ece"])
        for numbers in export.files.values():
            _refuse_no_numbers(numbers, ["agreement", "largest_logit_difference"])
            _refuse_no_texts(numbers, ["precision", "digest"])
        _ = export.words
        return export


def read_export_speed(path: Path) -> ExportSpeed:
    """Reads what `write_export_speed` wrote.

    Raises:
        MissingError: there is no such file.
        DamagedError: it is damaged.
    """
    with _reading_speed(path):
        document = json.loads(path.read_text(encoding="utf-8"))
        speed = ExportSpeed(**{entry.name: document[entry.name] for entry in fields(ExportSpeed)})
        _ = f"{speed.batch_size:d} {speed.cores:d}"
        for name, times in speed.models.items():
            for threads in ("one_thread", "all_threads"):
                _refuse_no_numbers(times[threads], ["median_ms", "p95_ms"])
            _refuse_no_numbers(times, ["batch_images_per_second", "peak_memory_mb"])
            _refuse_no_texts(times, [] if name == "teacher" else ["digest"])
        return speed


def write_export_speed(speed: ExportSpeed, path: Path) -> None:
    """Writes a JSON file, in one step."""
    with publish(path) as unfinished:
        unfinished.write_text(json.dumps(asdict(speed), indent=1) + "\n", encoding="utf-8")


def _refuse_no_texts(values: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raises an error that `reading` turns into a message if a value is no text."""
    for name in names:
        if not isinstance(values[name], str):
            raise TypeError(f"{name} is {values[name]!r}, not a text")


def _refuse_no_numbers(values: Numbers, names: Sequence[str]) -> None:
    """Raises an error that `reading` turns into a message if a value is no number, or out of its range."""
    for name in names:
        value, most = values[name], 1 if name in SHARES else math.inf
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{name} is {value!r}, not a number")
        if not (math.isfinite(value) and 0 <= value <= most):
            raise ValueError(f"{name} is {value!r}")
