"""The exported files: their quality in `results/exports/`, and their speed in `results/export_speed.json`."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.evaluation.names import Group, parsed
from pipeline.evaluation.result_files import reading
from pipeline.runtime.digests import sha256_file
from pipeline.runtime.publish import publish

QUALITY = ("accuracy", "nll", "brier", "ece")
"""The numbers of a file that are always known; the AUC is not if the test images are of one class."""

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
        export = Export(item, **{name: document[name] for name in names})
        _ = export.words
        _refuse_no_numbers(document, ["temperature", "test_images"])
        for numbers in (export.keras, *export.files.values()):
            _refuse_no_numbers(numbers, ["bytes", *QUALITY, *({"auc"} & set(numbers))])
            _refuse_no_numbers(numbers["calibrated"], ["nll", "ece"])
        for numbers in export.files.values():
            _refuse_no_numbers(numbers, ["agreement", "largest_logit_difference"])
            _ = [numbers["precision"].encode(), numbers["digest"].encode()]
        return export


def read_exports(
    folder: Path,
    items: Sequence[str],
    metrics: Mapping[str, Any],
    student_file: Callable[[Group, int], Path] | None = None,
) -> tuple[list[Export], list[str]]:
    """The exports of the students that there are now, and a sentence on each other one.

    An item without numbers is left out: it was not exported yet.

    Args:
        folder: `results/exports`.
        items: `export.students`.
        metrics: the content of `metrics.json`.
        student_file: from the group and seed of a model to its Keras file, to compare it if it is here; None: not.

    Raises:
        DamagedError: a file is damaged.
    """
    there = [read_export(folder, item) for item in items if (folder / f"{item}.json").is_file()]
    reasons = {export.item: _why_not_current(export, metrics, student_file) for export in there}
    current = [export for export in there if reasons[export.item] is None]
    return current, [
        f"The export {item!r} is not shown, since {reason}. Bring it up to date with `dvc repro export`."
        for item, reason in reasons.items()
        if reason is not None
    ]


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
            _ = name == "teacher" or times["digest"].encode()
        return speed


def write_export_speed(speed: ExportSpeed, path: Path) -> None:
    """Writes a JSON file, in one step."""
    with publish(path) as unfinished:
        unfinished.write_text(json.dumps(asdict(speed), indent=1) + "\n", encoding="utf-8")


def _why_not_current(
    export: Export, metrics: Mapping[str, Any], student_file: Callable[[Group, int], Path] | None
) -> str | None:
    """Why the numbers of an export are not those of a student of now; None if they are."""
    if str(export.seed) not in metrics["models"].get(export.group.key, {}).get("seeds", {}):
        return f"there is no {export.words} any more"
    if export.test_images != metrics["test_images"]:
        return f"it was measured on {export.test_images:,} test images, and there are {metrics['test_images']:,} now"
    file = None if student_file is None else student_file(export.group, export.seed)
    if file is not None and file.is_file() and sha256_file(file) != export.sha256:
        return f"the {export.words} was trained again since"
    return None


def _refuse_no_numbers(values: Numbers, names: Sequence[str]) -> None:
    """Raises an error that `reading` turns into a message if a value is no number from 0 on."""
    for name in names:
        if isinstance(values[name], bool) or not 0 <= values[name] < math.inf:
            raise ValueError(f"{name} is {values[name]!r}")
