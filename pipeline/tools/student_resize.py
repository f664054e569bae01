"""Whether images are resized for a student as they were for its training: its `.keras` file does not say how."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.deployed.formats import FILES
from pipeline.deployed.seal import unsealed, unsealed_folder
from pipeline.evaluation.comparison import read_metrics
from pipeline.evaluation.metrics_form import MadeFrom
from pipeline.images.resize import Resize
from pipeline.runtime.digests import sha256_file
from pipeline.runtime.errors import DamagedError, MismatchError
from pipeline.runtime.text_files import parsed_json, read_json


def refuse_other_resize(path: Path, resize: Resize, exports: Path, metrics: Path | None) -> None:
    """Compares today's resizing with that of files made from a student, and of the run that measured it.

    Args:
        path: the student's `.keras` file.
        resize: `images.resize` of params.yaml.
        exports: the folder of exported files.
        metrics: `metrics.json`, if it has numbers of this file.

    Raises:
        MismatchError: they differ.
        DamagedError: one of these files cannot be read.
    """
    today = resize.as_json()
    for told_by, then in [*_of_exports(path, exports), *_of_metrics(metrics)]:
        if then != today:
            in_order = {name: then.get(name) for name in today}
            raise MismatchError(
                f"{path}: images.resize of params.yaml is {_words(today)}, but {told_by} says that the images of this "
                f"student are resized by {_words(in_order)}. Give images.resize that value back, or bring all files up "
                "to date with `dvc repro`."
            )


def _of_exports(path: Path, exports: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A file of each export of this student, and its resizing."""
    reports = sorted(exports.glob("*/export.json"))
    sha256 = sha256_file(path) if reports and path.is_file() else ""
    for report in reports:
        if exported_from(report)["sha256"] == sha256:
            files = (report.with_name(name) for name in FILES.values())
            for file in [file for file in files if file.exists()][:1]:  # they were made together
                told = unsealed_folder(file) if file.is_dir() else unsealed(file.read_bytes(), file)
                yield file, told.preprocessing["resize"]


def exported_from(report: Path) -> dict[str, Any]:
    """What `export.json` tells of the student: "sha256" and "temperature".

    Raises:
        DamagedError: it cannot be read.
    """
    remedy = "Make it again with `dvc repro export`."
    told = read_json(report, remedy)
    try:
        return {"sha256": str(told["sha256"]), "temperature": float(told["temperature"])}
    except (ValueError, LookupError, TypeError):
        raise DamagedError(f"{report} cannot be read: it lacks sha256 or temperature. {remedy}") from None


def _of_metrics(metrics: Path | None) -> Iterator[tuple[Path, dict[str, Any]]]:
    if metrics is None:
        return
    prefix = "images.resize."
    try:
        lines = MadeFrom.model_validate(read_metrics(metrics).get("made_from")).params
        told = [line.removeprefix(prefix).split(": ", 1) for line in lines if line.startswith(prefix)]
        then = {name: parsed_json(value) for name, value in told}
    except ValueError:  # an older version did not note it
        return
    if then:
        yield metrics, then


def _words(resize: dict[str, Any]) -> str:
    return ", ".join(f"{name} {json.dumps(value)}" for name, value in resize.items())
