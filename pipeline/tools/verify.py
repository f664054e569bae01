"""Command `verify`: checks a soft-label file, and whether it belongs to the other files of the project."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.images.index import NO_LABEL, SPLITS, Index, SplitName, read_index
from pipeline.images.resize import Resize, other_pixels
from pipeline.images.views import Views
from pipeline.models.records import given_in, read_record
from pipeline.models.teacher_file import NotTrainedHere
from pipeline.runtime.digests import sha256_file
from pipeline.runtime.errors import (
    DamagedError,
    MissingError,
    PipelineError,
    UnusableError,
    all_named,
    first_few,
    one_line,
)
from pipeline.runtime.progress import Progress
from pipeline.runtime.temperatures import softened_at
from pipeline.soft_labels import softness
from pipeline.soft_labels.answers import answers_in
from pipeline.soft_labels.hdf5 import VERSION, sealed_sha256
from pipeline.soft_labels.identity import differences, other_views
from pipeline.soft_labels.layout import LOGITS_FORMAT
from pipeline.soft_labels.logit_storage import Storage
from pipeline.soft_labels.reading import Precision, Provenance, SoftLabelFile, open_soft_labels, stored_transforms
from pipeline.teacher_pass import teacher_checks
from pipeline.tools.given_files import changed_since, files_of
from pipeline.tools.row_statistics import Statistics, all_soft_labels, impossible_rows

WARNING = "warning: "


@dataclass(frozen=True)
class Parameters:
    """The parameters of params.yaml that a soft-label file should agree with.

    Attributes:
        views: the views of the training images.
        storage: how logits are stored.
        precision: the precision of the teacher's pass.
        resize: how images are resized.
        given: the teachers that were not trained here.
    """

    views: Views
    storage: Storage
    precision: Precision
    resize: Resize
    given: Sequence[NotTrainedHere] = ()


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        name: what was checked.
        ok: whether it is right; None if there was nothing to compare with.
        detail: the finding in words; that of a right check may begin with `WARNING`.
    """

    name: str
    ok: bool | None
    detail: str


def verify(
    path: Path,
    index: Path,
    teacher: Path,
    logits: Path,
    params: Parameters | PipelineError,
    largest_temperature: float = 1.0,
) -> list[Check]:
    """Checks a file of either format.

    Args:
        path: the file.
        index: `data/index.csv`; compared if it exists.
        teacher: the teacher's `.keras` file; compared if it exists.
        logits: `teacher_logits.h5`; soft targets are compared with it if it exists.
        params: the parameters that the file should agree with, or the error that says why they are not known.
        largest_temperature: the largest T at which logits will be softened.
    """
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open_soft_labels(path))
        except (MissingError, DamagedError, UnusableError) as error:
            return [Check("file", False, str(error))]
        return [
            *by_itself(file, teacher, largest_temperature),
            _data_set(file, index),
            _params(file, params),
            _teacher(file, teacher),
            *([] if isinstance(params, PipelineError) else _given(teacher, params.given)),
            *softened_from(file, logits),
        ]


def by_itself(file: SoftLabelFile, teacher: Path | None, largest_temperature: float) -> list[Check]:
    """What an open file tells without the others of its project; arguments as those of `verify`."""
    size = file.path.stat().st_size
    values = [_values(file, split) for split in SPLITS]
    possible = all(check.ok for check in values)
    return [
        Check("file", True, f"{file.format}, version {VERSION}, complete; its {size:,} bytes match their digest"),
        *_name(file),
        *values,
        *([_answers(file, teacher), _softness(file, largest_temperature)] if possible else []),
        _views_as_sampled(file),
    ]


def _values(file: SoftLabelFile, split: SplitName) -> Check:
    """Whether soft labels are finite distributions, hard labels are one-hot, and no image occurs twice."""
    labels, ids, statistics = file.labels(split), file.ids(split), Statistics()
    problems = impossible_rows(file, split)
    if problems:
        return Check(f"values of {split}", False, "; ".join(problems))
    with np.errstate(invalid="ignore", over="ignore"):  # rows that are not finite are among the problems
        for _, soft_labels, of_rows in all_soft_labels(file, split):
            statistics.add(soft_labels, of_rows)
    problems += statistics.problems()
    repeated = [image_id for image_id, count in Counter(ids).items() if count > 1]
    if repeated:
        problems.append(
            f"{len(repeated)} image(s) are named more than once: {all_named(repeated, f'repeated-in-{split}')}"
        )
    temperature = f"T = {1.0 if file.temperature is None else file.temperature:g}"
    detail = (
        f"{len(ids)} image(s){_without_label(labels)}, {file.views(split).count} view(s); "
        f"{_accuracy(file, split, statistics)}"
        f"at {temperature} confidence {statistics.confidence / statistics.rows:.4f}, "
        f"entropy {statistics.entropy / statistics.rows:.4f} nats"
    )
    return Check(f"values of {split}", not problems, "; ".join([*problems, detail]))


def _accuracy(file: SoftLabelFile, split: SplitName, statistics: Statistics) -> str:
    """How often the teacher is right on the views that show one image; empty if there are none with a label."""
    if not statistics.labelled:
        return ""
    of_unmixed = " of the views that are not mixed" if file.views(split).augmentation.mixes else ""
    return f"the teacher is right on {statistics.right / statistics.labelled:.4f}{of_unmixed}; "


def _without_label(labels: npt.NDArray[np.int64]) -> str:
    count = int((labels == NO_LABEL).sum())
    return f", {count} of them without a label" if count else ""


def _answers(file: SoftLabelFile, teacher: Path | None) -> Check:
    """Whether the teacher knows the classes, and in this order.

    As in `precompute`, it is wrong if it is no better than chance on the validation images; in other splits that is a
    warning. A teacher whose stated accuracy is as low is right nevertheless.
    """
    orders: list[str] = []
    by_chance: list[str] = []
    doubtful: list[str] = []
    for split in SPLITS:
        answers = answers_in(file, split)
        if not len(answers.labels):
            continue
        if other := teacher_checks.suggests_other_order(answers, file.provenance.class_names):
            orders.append(f"of {split}, {other}")
        elif chance := teacher_checks.suggests_chance(answers):
            (by_chance if split == "val" else doubtful).append(f"of {split}, {chance}")
        elif chance := teacher_checks.may_be_chance(answers, file.provenance.class_names):
            doubtful.append(f"of {split}, {chance}")
    if not orders and not by_chance:
        if doubtful:
            return Check("answers", True, f"{WARNING}{'; '.join(doubtful)}")
        return Check("answers", True, "nothing suggests chance, or another order of the classes")
    ok = not orders and _are_as_stated(file, teacher)
    return Check("answers", ok, "; ".join(orders + by_chance) + ("; it is stated to be no better" if ok else ""))


def _are_as_stated(file: SoftLabelFile, teacher: Path | None) -> bool:
    if teacher is None or not teacher.is_file() or sha256_file(teacher) != file.provenance.teacher_sha256:
        return False
    stated = [given.get("accuracy") for given in given_in(read_record(teacher))]
    return any(teacher_checks.reaches(answers_in(file, "val"), accuracy) for accuracy in stated if accuracy is not None)


def _softness(file: SoftLabelFile, largest_temperature: float) -> Check:
    doubt = softness.doubt_about(file, largest_temperature)
    return Check("softness", True, "nothing suggests hard labels" if doubt is None else f"{WARNING}{doubt}")


def _views_as_sampled(file: SoftLabelFile) -> Check:
    """Whether the stored transforms are those that follow from the seed."""
    other = []
    for split in SPLITS:
        ids, views, labelled = file.ids(split), file.views(split), file.labels(split) != NO_LABEL
        with Progress(f"views of {split}", views.count * len(ids), "rows", short_is_silent=True) as progress:
            for view in range(views.count):
                same = stored_transforms(file.file[split], view).equal(views.sample(ids, view, labelled))
                other += [f"{ids[row]} (view {view})" for row in np.flatnonzero(~same)]
                progress.advance(len(ids))
    if other:
        return Check(
            "views", False, f"{len(other)} transform(s) are not as sampled from their seed: {first_few(other)}"
        )
    return Check("views", True, "all transforms are as sampled from their seed")


def _name(file: SoftLabelFile) -> list[Check]:
    """Whether the name of a file of soft targets, by which people choose it, has the temperature of its content."""
    name = re.fullmatch(r"soft_targets_T([0-9.eE+-]+(?:to[0-9.eE+-]+)?)\.h5", file.path.name)
    if name is None or file.temperature is None:
        return []
    ok = softened_at(name[1]) == file.temperature
    detail = f"softened at temperature {file.temperature:g}" + ("" if ok else f", but its name says {name[1]}")
    return [Check("name", ok, detail)]


def _data_set(file: SoftLabelFile, index: Path) -> Check:
    if not index.is_file():
        return Check("data set", None, f"not compared: there is no {index}")
    return of_data_set(file, index, read_index)


def of_data_set(file: SoftLabelFile, index: Path, read: Callable[[Path], Index]) -> Check:
    """Whether the images, labels and classes are those of an index, which `read` reads."""
    try:
        other = differences(file, read(index))
    except (MissingError, DamagedError) as error:
        return Check("data set", False, f"cannot be compared: {error}")
    return Check("data set", not other, "; ".join(other) or f"images, labels and classes are those of {index}")


def _params(file: SoftLabelFile, params: Parameters | PipelineError) -> Check:
    if isinstance(params, PipelineError):
        return Check("params", None, f"not compared: {one_line(params)}")
    origin, views, other = file.provenance, params.views.as_json(), []
    if origin.views != views:
        other.append(other_views(origin.views, views))
    if file.storage != params.storage:
        other.append(f"is stored as {file.storage.as_json()}, expected {params.storage.as_json()}")
    computed_in: Precision = origin.precision or "float32"
    if computed_in != params.precision:
        other.append(f"the teacher computed in {computed_in}, expected {params.precision}")
    same = "the views, the storage, the precision and the resizing are those of params.yaml"
    if origin.preprocessing is None:
        same = "the views and the storage are those of params.yaml; the pixels that the teacher saw are not known"
    else:
        other += other_pixels(origin.preprocessing, params.resize)
    return Check("params", not other, "; ".join(other) or same)


def _teacher(file: SoftLabelFile, teacher: Path) -> Check:
    if not teacher.is_file():
        return Check("teacher", None, f"not compared: there is no {teacher}")
    expected, origin = sha256_file(teacher), file.provenance
    if origin.teacher_sha256 != expected:
        detail = f"another one: its file was {origin.teacher_sha256[:12]}, {teacher} is {expected[:12]}"
        return Check("teacher", False, detail)
    return Check("teacher", True, f"{in_words(origin)}, the file {teacher}")


def _given(teacher: Path, given: Sequence[NotTrainedHere]) -> list[Check]:
    files = files_of(given)
    if not files or not teacher.is_file():
        return []
    if changed := changed_since(teacher, files):
        detail = (
            f"{first_few(changed)} is not the file that the teacher was taken from: take it in again with `dvc repro "
            "--single-item --force train_teacher`, then `dvc repro`"
        )
        return [Check("given", False, detail)]
    return [Check("given", True, f"the teacher was taken from {first_few(list(map(str, files)))}")]


def in_words(origin: Provenance) -> str:
    """The teacher's name; for an ensemble, also the names and shortened fingerprints of its members."""
    if origin.ensemble is None:
        return origin.teacher
    members = ", ".join(f"{member['teacher']} {member['teacher_sha256'][:12]}" for member in origin.ensemble["members"])
    return f"{origin.teacher}, mean of the {origin.ensemble['average']} of {members}"


def softened_from(file: SoftLabelFile, logits: Path) -> list[Check]:
    """Whether soft targets were made from the file `logits`; nothing for a file of logits."""
    if file.format == LOGITS_FORMAT:
        return []
    if not logits.is_file():
        return [Check("logits", None, f"not compared: there is no {logits}")]
    try:
        expected = sealed_sha256(logits)
    except DamagedError as error:
        return [Check("logits", False, f"cannot be compared: {error}")]
    if file.logits_sha256 != expected:
        detail = f"softened from other logits, {str(file.logits_sha256)[:12]}; {logits} is {expected[:12]}"
        return [Check("logits", False, detail)]
    return [Check("logits", True, f"softened from {logits}")]


def as_text(path: Path, checks: list[Check]) -> str:
    """A line for each check, then the verdict."""
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
    """What `as_text` says, as JSON for programs."""
    return {
        "file": path.as_posix(),
        "ok": all(check.ok is not False for check in checks),
        "checks": [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in checks],
    }
