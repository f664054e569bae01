"""What the numbers of `metrics.json` were made from, so that nobody takes them for numbers of something else.

The file is in git: in a clone it lies there before anything was computed, whatever params.yaml says by then.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.runtime.errors import MismatchError

FIRST = ("split.data", "split.layout")
"""What is told first of parameters that differ."""
MOST_TOLD = 3
LONGEST_VALUE = 40
DIGITS = 12
"""Of a fingerprint, where people read it."""

Made = Mapping[str, list[str]]


def made_from(dataset: str, teacher: str, params: Mapping[str, Any]) -> dict[str, list[str]]:
    """What `metrics.json` keeps; as lists, which DVC does not take for metrics.

    Args:
        dataset: the fingerprint of the index.
        teacher: SHA-256 of the teacher's file.
        params: the sections of params.yaml on which results depend.

    Returns:
        "dataset" and "teacher", one text each, and "params", a line for each value: "student.seeds: [1, 2, 3]".
    """
    return {"dataset": [dataset], "teacher": [teacher], "params": [*_lines("", params)]}


def _lines(path: str, value: Any) -> Iterator[str]:
    """The values below a path, each with its own path."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _lines(f"{path}.{name}" if path else str(name), inner)
    elif isinstance(value, list) and any(isinstance(inner, Mapping) for inner in value):
        for number, inner in enumerate(value):
            yield from _lines(f"{path}[{number}]", inner)
    else:
        yield f"{path}: {json.dumps(value, ensure_ascii=False)}"


def refuse_others(metrics: Path, document: Mapping[str, Any], params: Mapping[str, Any], dataset: str | None) -> None:
    """Compares what the numbers were made from with what is here now.

    Args:
        metrics: the file that they are in.
        document: its content.
        params: the sections of params.yaml on which results depend, as they are now.
        dataset: the fingerprint of the index, or None where there is none yet.

    Raises:
        PipelineError: the numbers are of other parameters or images, or do not say of which.
    """
    made = _of(metrics, document)
    if made["params"] != (now := [*_lines("", params)]):
        raise MismatchError(
            "there are no numbers yet for params.yaml as it is now. "
            f"Those of {metrics} were made with {_changes(made['params'], now)}. Make your own with `dvc repro`."
        )
    if dataset is not None and made["dataset"] != [dataset]:
        raise MismatchError(
            f"there are no numbers yet for the images of data/index.csv (fingerprint {dataset[:DIGITS]}). "
            f"Those of {metrics} are of other images, labels or splits: {whose(made)}. Make your own with `dvc repro`."
        )


def refuse_other_teacher(metrics: Path, document: Mapping[str, Any], teacher: str) -> None:
    """Compares the teacher of the numbers with one whose file has the SHA-256 `teacher`.

    Raises:
        PipelineError: it is another one.
    """
    (of_numbers,) = _of(metrics, document)["teacher"]
    if of_numbers != teacher:
        raise MismatchError(
            f"{metrics} compares students with another teacher, {of_numbers[:DIGITS]}, than the one that is here, "
            f"{teacher[:DIGITS]}. Bring it up to date with `dvc repro evaluate`."
        )


def of_unknown_images(metrics: Path, document: Mapping[str, Any]) -> str:
    """What is told above the numbers where no index says which images there are."""
    return (
        f"These numbers came with {metrics}, and are of {whose(_of(metrics, document))}.\n"
        "There is no data/index.csv yet to compare your images with: `dvc repro` makes numbers of your own."
    )


def whose(made: Made) -> str:
    """The data set in words."""
    values = dict(line.split(": ", 1) for line in made["params"])
    return f"{_shown(values.get('split.data'))}, fingerprint {made['dataset'][0][:DIGITS]}"


def _of(metrics: Path, document: Mapping[str, Any]) -> Made:
    made = document.get("made_from")
    if not isinstance(made, Mapping) or not all(made.get(name) for name in ("dataset", "teacher", "params")):
        raise MismatchError(
            f"{metrics} does not say of which data and parameters its numbers are: an earlier version of this program "
            "wrote it. Make it again with `dvc repro`."
        )
    return made


def _changes(before: list[str], now: list[str]) -> str:
    was, is_now = (dict(line.split(": ", 1) for line in lines) for lines in (before, now))
    changed = [path for path in dict.fromkeys([*FIRST, *is_now, *was]) if was.get(path) != is_now.get(path)]
    told = [f"{path} {_shown(was.get(path))} (now {_shown(is_now.get(path))})" for path in changed[:MOST_TOLD]]
    return ", ".join(told) + (f" and {len(changed) - MOST_TOLD} more" if len(changed) > MOST_TOLD else "")


def _shown(value: str | None) -> str:
    if value is None:
        return "not there"
    text = value.strip('"') or "''"
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"
