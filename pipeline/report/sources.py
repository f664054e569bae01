"""What the report says of where its numbers come from."""

import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline.images.index import Index
from pipeline.soft_labels.reading import Provenance

LIBRARIES = ("softlabel", "tensorflow", "keras", "numpy", "h5py", "dvc")


def about(params: Mapping[str, Any], data: Index, made: Provenance, inputs: Sequence[Path]) -> str:
    """The data set, the teacher, and the dates of the page's inputs, in one line.

    Args:
        params: the sections of params.yaml.
        data: the index.
        made: of the soft-label file.
        inputs: the files that the page is made from.
    """
    section, dates = params["split"], sorted({_date(path) for path in inputs})
    return (
        f"Data set: {section['data']} (layout {section['layout']}), {len(data.images):,} images in "
        f"{len(data.class_names)} classes. Teacher: {teacher_name(made)}. "
        f"Inputs of {' to '.join(dict.fromkeys([dates[0], dates[-1]]))}."
    )


def provenance(made: Provenance, data: Index, inputs: Sequence[Path]) -> list[tuple[str, str]]:
    """Names and values of everything that is known; arguments as above."""
    counts = ", ".join(f"{len(data.split(split)):,} {split}" for split in ("train", "val", "test"))
    dates = ", ".join(f"{path.name} {_date(path)}" for path in inputs)
    return [
        ("Images", f"{counts}, in {len(data.class_names)} classes"),
        ("Fingerprint of the data set", made.dataset),
        ("Teacher", teacher_name(made)),
        ("SHA-256 of the teacher's file", made.teacher_sha256),
        ("Views of each training image", str(made.views["count"])),
        ("How the logits are stored", ", ".join(f"{key} {value}" for key, value in made.storage.items())),
        ("Precision of the teacher's pass", made.precision or "the teacher's own"),
        ("Dates of the inputs", f"{dates} (UTC; when each was written, or fetched, where this page was made)"),
    ]


def _date(path: Path) -> str:
    """No file carries a date, so that the same inputs give the same bytes; what is left is when it was written here."""
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).date().isoformat()


def teacher_name(made: Provenance) -> str:
    """The teacher's model, or its members."""
    if made.ensemble is None:
        return made.teacher
    members = ", ".join(member["teacher"] for member in made.ensemble["members"])
    return f"{members}: the average of their {made.ensemble['average']}"


def versions() -> list[tuple[str, str]]:
    """Names and versions of what computed the page."""
    return [("Python", platform.python_version()), *((name, version(name)) for name in LIBRARIES)]
