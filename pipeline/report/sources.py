"""What the report's numbers come from: data set, teacher, files and versions of libraries."""

import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from pipeline.evaluation.speed import Speed
from pipeline.images.index import Index
from pipeline.soft_labels.reading import Provenance

LIBRARIES = ("softlabel", "tensorflow", "keras", "numpy", "h5py", "dvc")


def about(params: Mapping[str, Any], data: Index, origin: Provenance, speed: Speed) -> str:
    """The data set, the teacher, and the date of the last measurement, in one line.

    Args:
        params: the sections of params.yaml.
        data: the index.
        origin: the provenance in the soft-label file.
        speed: the measured speeds. No other input contains a date, so that the same inputs give the same bytes.
    """
    section = params["split"]
    return (
        f"Data set: {section['data']} (layout {section['layout']}), {len(data.images):,} images in "
        f"{len(data.class_names)} classes. Teacher: {teacher_name(origin)}. "
        f"Speeds measured on {speed.date}."
    )


def provenance(origin: Provenance, data: Index) -> list[tuple[str, str]]:
    """Names and values of all that is known about the inputs; the arguments are those of `about`."""
    counts = ", ".join(f"{len(data.split(split)):,} {split}" for split in ("train", "val", "test"))
    if without := len(data.split("train")) - len(data.labelled("train")):
        counts += f"; {without:,} of the training images have no label"
    return [
        ("Images", f"{counts}, in {len(data.class_names)} classes"),
        ("Fingerprint of the data set", origin.dataset),
        ("Teacher", teacher_name(origin)),
        ("SHA-256 of the teacher's file", origin.teacher_sha256),
        ("Views of each training image", str(origin.views["count"])),
        ("How the logits are stored", ", ".join(f"{key} {value}" for key, value in origin.storage.items())),
        ("Precision of the teacher's pass", origin.precision or "the teacher's own"),
    ]


def teacher_name(origin: Provenance) -> str:
    """The teacher's name; for an ensemble, the names of its members."""
    if origin.ensemble is None:
        return origin.teacher
    members = ", ".join(member["teacher"] for member in origin.ensemble["members"])
    return f"{members}: the average of their {origin.ensemble['average']}"


def versions() -> list[tuple[str, str]]:
    """Names and versions of the libraries that computed the page."""
    return [("Python", platform.python_version()), *((name, version(name)) for name in LIBRARIES)]
