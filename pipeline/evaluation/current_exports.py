"""Which exports are of the students, settings and images that there are now; only their numbers are shown."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.evaluation.exports import Export, read_export
from pipeline.evaluation.names import Group
from pipeline.runtime.digests import sha256_file


@dataclass(frozen=True)
class Now:
    """What the numbers of an export must be of, so that they are shown.

    Attributes:
        metrics: the content of `metrics.json`.
        settings: the section `export` of params.yaml.
        dataset: the fingerprint of the index; None: there is no index to compare with.
        student_file: from the group and seed of a model to its Keras file, which is compared if it is here.
    """

    metrics: Mapping[str, Any]
    settings: Mapping[str, Any]
    dataset: str | None
    student_file: Callable[[Group, int], Path]


def read_exports(folder: Path, now: Now) -> tuple[list[Export], list[str]]:
    """The exports of the students, settings and images that there are now, and a sentence on each other one.

    Args:
        folder: `results/exports`.
        now: what they must be of.

    Raises:
        DamagedError: a file is damaged.
    """
    current, remarks = [], []
    for item in now.settings["students"]:
        if not (folder / f"{item}.json").is_file():
            remarks.append(f"There is no export {item!r} yet. Make it with `dvc repro export`.")
            continue
        export = read_export(folder, item)
        reason = _why_not_current(export, now)
        if reason is None:
            current.append(export)
        else:
            remarks.append(
                f"The export {item!r} is not shown, since {reason}. Bring it up to date with `dvc repro export`."
            )
    return current, remarks


def of_each_student(exports: Sequence[Export]) -> list[Export]:
    """The first export of each student: `best` may be a student that `export.students` also names."""
    return [*{export.student: export for export in reversed(exports)}.values()][::-1]


def _why_not_current(export: Export, now: Now) -> str | None:
    """Why the numbers of an export are not those of a student of now; None if they are."""
    if str(export.seed) not in now.metrics["models"].get(export.group.key, {}).get("seeds", {}):
        return f"there is no {export.words} any more"
    if export.test_images != (images := now.metrics["test_images"]):
        return f"it was measured on {export.test_images:,} test images, and there are {images:,} now"
    file = now.student_file(export.group, export.seed)
    if file.is_file() and sha256_file(file) != export.sha256:
        return f"the {export.words} was trained again since"
    if export.made_from is None:
        return "it does not say from which images and with which settings it was made"
    if now.dataset not in (None, export.made_from["dataset"]):
        return "it was made from other images, labels or splits"
    return _other_settings(export.made_from["export"], now.settings)


def _other_settings(made_with: Mapping[str, Any], settings: Mapping[str, Any]) -> str | None:
    """The settings of an export that params.yaml has otherwise now, in words; None if there are none."""
    wanted = {name: value for name, value in settings.items() if name != "students"}
    changed = [
        f"export.{name} {json.dumps(made_with.get(name))} (now {json.dumps(wanted.get(name))})"
        for name in sorted({*made_with, *wanted})
        if made_with.get(name) != wanted.get(name)
    ]
    return f"it was made with {', '.join(changed)}" if changed else None
