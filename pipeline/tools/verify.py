"""Command `verify`: everything that can be known about a soft-label file, checked."""

import re
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.images.index import SPLITS, SplitName, read_index
from pipeline.images.resize import Resize, other_pixels
from pipeline.images.views import Views
from pipeline.runtime.digests import sha256_file
from pipeline.runtime.errors import PipelineError, all_named, first_few
from pipeline.runtime.progress import Progress
from pipeline.soft_labels import softness
from pipeline.soft_labels.answers import answers_in
from pipeline.soft_labels.hdf5 import VERSION, sealed_sha256
from pipeline.soft_labels.identity import differences, other_views
from pipeline.soft_labels.logit_storage import Storage
from pipeline.soft_labels.reading import LOGITS_FORMAT, Provenance, SoftLabelFile, open_soft_labels, slabs
from pipeline.teacher_pass import teacher_checks
from pipeline.tools.row_statistics import Statistics, impossible_rows, probabilities_of

WARNING = "warning: "

Wanted = tuple[Views, Storage, str, Resize]


@dataclass(frozen=True)
class Check:
    """One thing that was checked.

    Attributes:
        name: what.
        ok: whether it holds; None if there was nothing to compare with.
        detail: the finding, in words; of a check that holds it may begin with `WARNING`.
    """

    name: str
    ok: bool | None
    detail: str


def verify(
    path: Path, index: Path, teacher: Path, logits: Path, wanted: Wanted | None, largest_temperature: float = 1.0
) -> list[Check]:
    """Checks a file of either format.

    Args:
        path: the file.
        index: `data/index.csv`; compared if it is there.
        teacher: the teacher's `.keras` file; compared if it is there.
        logits: `teacher_logits.h5`; soft targets are compared with it if it is there.
        wanted: the views, the storage, the teacher's precision and the resizing that the file should have; None if
            not known.
        largest_temperature: at which logits will be softened.
    """
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open_soft_labels(path))
        except PipelineError as error:
            return [Check("file", False, str(error))]
        size = path.stat().st_size
        values = [_values(file, split) for split in SPLITS]
        sound = all(check.ok for check in values)
        return [
            Check("file", True, f"{file.format}, version {VERSION}, complete; its {size:,} bytes match their digest"),
            *_name(file),
            *values,
            *([_answers(file, teacher), _softness(file, largest_temperature)] if sound else []),
            _views_as_drawn(file),
            *_belongings(file, index, teacher, logits, wanted),
        ]


def _values(file: SoftLabelFile, split: SplitName) -> Check:
    """Finite, distributions, one-hot, each image once."""
    labels, ids, found = file.labels(split), file.ids(split), Statistics()
    problems = impossible_rows(file, split)
    if problems:
        return Check(f"values of {split}", False, "; ".join(problems))
    views = file.views(split).count
    with (
        np.errstate(invalid="ignore", over="ignore"),
        Progress(f"values of {split}", views * len(ids), "rows", short_is_silent=True) as progress,
    ):
        for view in range(views):
            for rows in slabs(len(ids)):
                found.add(probabilities_of(file, split, view, rows), labels[rows])
                progress.advance(rows.stop - rows.start)
    problems += found.problems()
    repeated = [image_id for image_id, count in Counter(ids).items() if count > 1]
    if repeated:
        problems.append(
            f"{len(repeated)} image(s) are named more than once: {all_named(repeated, f'repeated-in-{split}')}"
        )
    temperature = f"T = {1.0 if file.temperature is None else file.temperature:g}"
    detail = (
        f"{len(ids)} image(s), {file.views(split).count} view(s); "
        f"the teacher is right on {found.right / found.rows:.4f}; "
        f"at {temperature} confidence {found.confidence / found.rows:.4f}, "
        f"entropy {found.entropy / found.rows:.4f} nats"
    )
    return Check(f"values of {split}", not problems, "; ".join([*problems, detail]))


def _answers(file: SoftLabelFile, teacher: Path) -> Check:
    """Whether they are those of a teacher that knows the classes, in their order; or, but for the order, as stated.

    Chance is judged as `precompute` judges it, by the validation images; elsewhere it is a warning.
    """
    orders: list[str] = []
    by_chance: list[str] = []
    doubtful: list[str] = []
    for split in SPLITS:
        answers = answers_in(file, split)
        if other := teacher_checks.speaks_of_order(answers, file.provenance.class_names):
            orders.append(f"of {split}, {other}")
        elif found := teacher_checks.speaks_of_chance(answers):
            (by_chance if split == "val" else doubtful).append(f"of {split}, {found}")
        elif found := teacher_checks.may_be_chance(answers, file.provenance.class_names):
            doubtful.append(f"of {split}, {found}")
    if not orders and not by_chance:
        if doubtful:
            return Check("answers", True, f"{WARNING}{'; '.join(doubtful)}")
        return Check("answers", True, "nothing speaks for chance, or for another order of the classes")
    ok = not orders and _are_as_stated(file, teacher)
    return Check("answers", ok, "; ".join(orders + by_chance) + ("; it is stated to be no better" if ok else ""))


def _are_as_stated(file: SoftLabelFile, teacher: Path) -> bool:
    if not teacher.is_file() or sha256_file(teacher) != file.provenance.teacher_sha256:
        return False
    from pipeline.models import keras_files  # only a file that seems wrong is worth the seconds in which Keras starts

    record = keras_files.read_record(teacher) or {}
    records = [record, *(member["record"] or {} for member in record.get("members", []))]
    stated = [one["given"].get("accuracy") for one in records if one.get("given")]
    return any(teacher_checks.reaches(answers_in(file, "val"), accuracy) for accuracy in stated if accuracy is not None)


def _softness(file: SoftLabelFile, largest_temperature: float) -> Check:
    found = softness.doubt_about(file, largest_temperature)
    return Check("softness", True, "nothing speaks of hard labels" if found is None else f"{WARNING}{found}")


def _views_as_drawn(file: SoftLabelFile) -> Check:
    """The stored transforms against new draws from the seed."""
    other = []
    for split in SPLITS:
        ids, views = file.ids(split), file.views(split)
        with Progress(f"views of {split}", views.count * len(ids), "rows", short_is_silent=True) as progress:
            for view in range(views.count):
                stored_affines, stored_colours = file.transforms(split, view)
                for rows in slabs(len(ids)):
                    affines, colours = views.draw(ids[rows], view)
                    same = (stored_affines[rows] == affines).all(1)
                    same &= (stored_colours[rows] == colours).all(1)
                    other += [f"{ids[rows][number]} (view {view})" for number in np.flatnonzero(~same)]
                    progress.advance(rows.stop - rows.start)
    if other:
        return Check("views", False, f"{len(other)} transform(s) are not as drawn from their seed: {first_few(other)}")
    return Check("views", True, "all transforms are as drawn from their seed")


def _belongings(file: SoftLabelFile, index: Path, teacher: Path, logits: Path, wanted: Wanted | None) -> list[Check]:
    """Whether it belongs to the data set, the views, the teacher and the logits that are there."""
    checks = [_data_set(file, index), _wanted(file, wanted), _teacher(file, teacher)]
    return checks if file.format == LOGITS_FORMAT else [*checks, _logits(file, logits)]


def _name(file: SoftLabelFile) -> list[Check]:
    """The temperature in a file's name, where there is one."""
    named = re.fullmatch(r"soft_targets_T([0-9.eE+-]+)\.h5", file.path.name)
    if named is None or file.temperature is None:
        return []
    ok = float(named[1]) == file.temperature
    return [Check("name", ok, f"softened at temperature {file.temperature:g}" + ("" if ok else f", not {named[1]}"))]


def _data_set(file: SoftLabelFile, index: Path) -> Check:
    if not index.is_file():
        return Check("data set", None, f"not compared: there is no {index}")
    try:
        found = differences(file, read_index(index))
    except PipelineError as error:
        return Check("data set", None, f"not compared: {error}")
    return Check("data set", not found, "; ".join(found) or f"images, labels and classes are those of {index}")


def _wanted(file: SoftLabelFile, wanted: Wanted | None) -> Check:
    if wanted is None:
        return Check("params", None, "not compared: there is no valid params.yaml")
    views, storage, precision, resize = wanted
    found = [other_views(file.provenance.views, views.as_json())] if file.provenance.views != views.as_json() else []
    if file.storage != storage:
        found.append(f"is stored as {file.storage.as_json()}, expected {storage.as_json()}")
    computed_in = file.provenance.precision or "float32"
    if computed_in != precision:
        found.append(f"the teacher computed in {computed_in}, expected {precision}")
    if departure := other_pixels(file.provenance.preprocessing, resize):
        found.append(departure)
    as_wanted = "the views, the storage, the precision and the resizing are those of params.yaml"
    return Check("params", not found, "; ".join(found) or as_wanted)


def _teacher(file: SoftLabelFile, teacher: Path) -> Check:
    if not teacher.is_file():
        return Check("teacher", None, f"not compared: there is no {teacher}")
    expected, made = sha256_file(teacher), file.provenance
    if made.teacher_sha256 != expected:
        detail = f"another one: its file was {made.teacher_sha256[:12]}, {teacher} is {expected[:12]}"
        return Check("teacher", False, detail)
    return Check("teacher", True, f"{in_words(made)}, the file {teacher}")


def in_words(made: Provenance) -> str:
    """The teacher's name; of an ensemble, those of its members with the beginnings of their fingerprints."""
    if made.ensemble is None:
        return made.teacher
    members = ", ".join(f"{member['teacher']} {member['teacher_sha256'][:12]}" for member in made.ensemble["members"])
    return f"{made.teacher}, mean of the {made.ensemble['average']} of {members}"


def _logits(file: SoftLabelFile, logits: Path) -> Check:
    if not logits.is_file():
        return Check("logits", None, f"not compared: there is no {logits}")
    try:
        expected = sealed_sha256(logits)
    except PipelineError as error:
        return Check("logits", None, f"not compared: {error}")
    if file.logits_sha256 != expected:
        detail = f"softened from other logits, {str(file.logits_sha256)[:12]}; {logits} is {expected[:12]}"
        return Check("logits", False, detail)
    return Check("logits", True, f"softened from {logits}")


def as_text(path: Path, checks: list[Check]) -> str:
    """One line a check, then the verdict."""
    words = {True: "ok", False: "WRONG", None: "-"}
    width = max(len(check.name) for check in checks)
    lines = [f"{words[check.ok]:<6}{check.name:<{width + 2}}{check.detail}" for check in checks]
    wrong, open_ = ([check.name for check in checks if check.ok is ok] for ok in (False, None))
    verdict = f"{path} is not sound: {', '.join(wrong)}." if wrong else f"{path} is sound."
    if warned := [check.name for check in checks if check.detail.startswith(WARNING)]:
        verdict += f" Warning: {', '.join(warned)}."
    if open_:
        verdict += f" Not compared: {', '.join(open_)}."
    return "\n".join([*lines, verdict])


def as_json(path: Path, checks: list[Check]) -> dict[str, Any]:
    """The same for programs."""
    return {
        "file": path.as_posix(),
        "ok": all(check.ok is not False for check in checks),
        "checks": [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in checks],
    }
