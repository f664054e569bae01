"""The exported files: their quality in `results/exports/`, and their speed in `results/export_speed.json`."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from pipeline.evaluation.export_form import ExportForm, ExportSpeedForm
from pipeline.evaluation.names import Group, parsed
from pipeline.evaluation.result_files import checked_json, reading
from pipeline.runtime.publish import publish

Numbers = Mapping[str, Any]

EXPORT_AGAIN = "Make them again with `dvc repro --single-item --force export`."
MEASURE_AGAIN = "Measure again with `dvc repro --single-item --force measure_exports`."


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
    with reading(path, "numbers of an export", EXPORT_AGAIN):
        document = checked_json(path, ExportForm, EXPORT_AGAIN)
        names = ("student", "sha256", "chosen", "test_images", "temperature", "keras", "files")
        notes = {name: document.get(name) for name in ("temperature_note", "made_from")}
        return Export(item, **{name: document[name] for name in names}, **notes)


def read_export_speed(path: Path) -> ExportSpeed:
    """Reads what `write_export_speed` wrote.

    Raises:
        MissingError: there is no such file.
        DamagedError: it is damaged.
    """
    with reading(path, "speeds of the exports", MEASURE_AGAIN):
        document = checked_json(path, ExportSpeedForm, MEASURE_AGAIN)
        return ExportSpeed(**{entry.name: document[entry.name] for entry in fields(ExportSpeed)})


def write_export_speed(speed: ExportSpeed, path: Path) -> None:
    """Writes a JSON file, in one step."""
    with publish(path) as unfinished:
        unfinished.write_text(json.dumps(asdict(speed), indent=1) + "\n", encoding="utf-8")
