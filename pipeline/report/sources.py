"""What the report's numbers come from: data set, teacher, files and versions of libraries."""

import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline.images.index import Index
from pipeline.soft_labels.reading import Provenance

LIBRARIES = ("softlabel", "tensorflow", "keras", "numpy", "h5py", "dvc")


def about(params: Mapping[str, Any], data: Index, origin: Provenance, inputs: Sequence[Path]) -> str:
    """The data set, the teacher, and the dates of the page's inputs, in one line.

    Args:
        params: the sections of params.yaml.
        data: the index.
        origin: the provenance in the soft-label file.
        inputs: the files that the page is made from.
    """
    section, dates = params["split"], sorted({_date(path) for path in inputs})
    return (
        f"Data set: {section['data']} (layout {section['layout']}), {len(data.images):,} images in "
        f"{len(data.class_names)} classes. Teacher: {teacher_name(origin)}. "
        f"Inputs of {' to '.join(dict.fromkeys([dates[0], dates[-1]]))}."
    )


def provenance(origin: Provenance, data: Index, inputs: Sequence[Path]) -> list[tuple[str, str]]:
    """Names and values of all that is known about the inputs; the arguments are those of `about`."""
    counts = ", ".join(f"{len(data.split(split)):,} {split}" for split in ("train", "val", "test"))
    dates = ", ".join(f"{path.name} {_date(path)}" for path in inputs)
    return [
        ("Images", f"{counts}, in {len(data.class_names)} classes"),
        ("Fingerprint of the data set", origin.dataset),
        ("Teacher", teacher_name(origin)),
        ("SHA-256 of the teacher's file", origin.teacher_sha256),
        ("Views of each training image", str(origin.views["count"])),
        ("How the logits are stored", ", ".join(f"{key} {value}" for key, value in origin.storage.items())),
        ("Precision of the teacher's pass", origin.precision or "the teacher's own"),
        ("Dates of the inputs", f"{dates} (UTC; when each was written, or fetched, where this page was made)"),
    ]


def _date(path: Path) -> str:
    """The date on which a file was written here. No file contains one, so that the same inputs give the same bytes."""
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).date().isoformat()


def teacher_name(origin: Provenance) -> str:
    """The teacher's name; for an ensemble, the names of its members."""
    if origin.ensemble is None:
        return origin.teacher
    members = ", ".join(member["teacher"] for member in origin.ensemble["members"])
    return f"{members}: the average of their {origin.ensemble['average']}"


def versions() -> list[tuple[str, str]]:
    """Names and versions of the libraries that computed the page."""
    return [("Python", platform.python_version()), *((name, version(name)) for name in LIBRARIES)]
