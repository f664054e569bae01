"""Whether the numbers of `metrics.json` belong to the data set, the teacher and the parameters of this folder.

The file is in git, so a clone has it before anything was computed there, whatever its params.yaml says.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from pipeline.evaluation.metrics_form import MadeFrom
from pipeline.runtime.digests import sha256_file
from pipeline.runtime.errors import MismatchError, first_few

FIRST = ("split.data", "split.layout")
"""Parameters that a message names first if they differ."""
MOST_NAMED = 3
LONGEST_VALUE = 40
DIGITS = 12
"""The first characters of a fingerprint that a message shows."""

Origin = Mapping[str, list[str]]
"""The part "made_from" of `metrics.json`."""


def made_from(
    dataset: str, teacher: str, params: Mapping[str, Any], files: Collection[str] = ()
) -> dict[str, list[str]]:
    """The part "made_from" of `metrics.json`.

    Args:
        dataset: the fingerprint of the index.
        teacher: SHA-256 of the teacher's file.
        params: the sections of params.yaml on which results depend.
        files: SHA-256 of the files of `student.model` from which students and baselines were trained.

    Returns:
        "dataset" and "teacher", one text each, and "params", a line for each value: "student.seeds: [1, 2, 3]"; if
        there are files, also "files".
    """
    # Lists of one, since DVC would show a text as a metric, but no list.
    origin = {"dataset": [dataset], "teacher": [teacher], "params": [*_lines("", params)]}
    return origin | ({"files": sorted(set(files))} if files else {})


def _lines(path: str, value: Any) -> Iterator[str]:
    """A line for each value below a path: the value's own path, and the value as JSON."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _lines(f"{path}.{name}" if path else str(name), inner)
    elif isinstance(value, list) and any(isinstance(inner, Mapping) for inner in value):
        for number, inner in enumerate(value):
            yield from _lines(f"{path}[{number}]", inner)
    else:
        yield f"{path}: {json.dumps(value, ensure_ascii=False)}"


def refuse_others(metrics: Path, document: Mapping[str, Any], params: Mapping[str, Any], dataset: str | None) -> None:
    """Compares what the numbers were made from with the parameters and images as they are now.

    Args:
        metrics: the path of `metrics.json`.
        document: its content.
        params: the sections of params.yaml on which results depend, as they are now.
        dataset: the fingerprint of the index, or None if there is no index yet.

    Raises:
        MismatchError: the numbers belong to other parameters or images, or do not say to which.
    """
    origin = _of(metrics, document)
    if origin["params"] != (now := [*_lines("", params)]):
        raise MismatchError(
            "there are no numbers yet for params.yaml as it is now. "
            f"Those of {metrics} were made with {_changes(origin['params'], now)}. Make your own with `dvc repro`."
        )
    if dataset is not None and origin["dataset"] != [dataset]:
        raise MismatchError(
            f"there are no numbers yet for the images of data/index.csv (fingerprint {dataset[:DIGITS]}). "
            f"Those of {metrics} are of other images, labels or splits: {_data_set(origin)}. "
            "Make your own with `dvc repro`."
        )


def refuse_other_teacher(metrics: Path, document: Mapping[str, Any], teacher: str) -> None:
    """Compares the teacher of the numbers with the one whose file has the SHA-256 `teacher`.

    Raises:
        MismatchError: they differ.
    """
    (of_numbers,) = _of(metrics, document)["teacher"]
    if of_numbers != teacher:
        raise MismatchError(
            f"{metrics} compares students with another teacher, {of_numbers[:DIGITS]}, than the one that is here, "
            f"{teacher[:DIGITS]}. Bring it up to date with `dvc repro evaluate`."
        )


def refuse_other_files(metrics: Path, document: Mapping[str, Any], files: Sequence[Path]) -> None:
    """Compares the files of `student.model` with those from which students and baselines were trained.

    DVC does not watch these files. Nothing is compared if one of them is not here, or if the numbers name none.

    Raises:
        MismatchError: they differ.
    """
    trained_from = _of(metrics, document).get("files")
    if trained_from is None or not files or not all(file.is_file() for file in files):
        return
    if trained_from != sorted({sha256_file(file) for file in files}):
        raise MismatchError(
            f"the numbers of {metrics} are of students or baselines that were trained from other files than those of "
            f"student.model that are here now: {first_few([str(file) for file in files])}. Train all of them again "
            "with `dvc repro --single-item --force train_student train_baseline`, then `dvc repro`."
        )


def of_unknown_images(metrics: Path, document: Mapping[str, Any]) -> str:
    """Two lines that are shown above the numbers while there is no index to compare them with."""
    return (
        f"These numbers came with {metrics}, and are of {_data_set(_of(metrics, document))}.\n"
        "There is no data/index.csv yet to compare your images with: `dvc repro` makes numbers of your own."
    )


def _data_set(origin: Origin) -> str:
    """The data set of the numbers in words."""
    values = dict(line.split(": ", 1) for line in origin["params"])
    return f"{_shown(values.get('split.data'))}, fingerprint {origin['dataset'][0][:DIGITS]}"


def _of(metrics: Path, document: Mapping[str, Any]) -> Origin:
    origin = document.get("made_from")
    try:
        MadeFrom.model_validate(origin)
    except ValidationError:
        raise MismatchError(
            f"{metrics} does not say of which data and parameters its numbers are: an earlier version of this program "
            "wrote it. Make it again with `dvc repro`."
        ) from None
    return cast(Origin, origin)


def _changes(before: list[str], now: list[str]) -> str:
    was, is_now = (dict(line.split(": ", 1) for line in lines) for lines in (before, now))
    changed = [path for path in dict.fromkeys([*FIRST, *is_now, *was]) if was.get(path) != is_now.get(path)]
    changes = [f"{path} {_shown(was.get(path))} (now {_shown(is_now.get(path))})" for path in changed[:MOST_NAMED]]
    return ", ".join(changes) + (f" and {len(changed) - MOST_NAMED} more" if len(changed) > MOST_NAMED else "")


def _shown(value: str | None) -> str:
    if value is None:
        return "not there"
    text = value.strip('"') or "''"
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"
