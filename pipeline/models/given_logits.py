"""Takes in the answers of another program's teacher: checks them against the data set, and puts them in order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.models.given_teacher import order_of_classes
from pipeline.models.logit_tables import LogitTable, read_logit_table
from pipeline.models.stored_answers import Ints, StoredAnswers
from pipeline.models.teacher_file import GivenLogits
from pipeline.runtime.errors import MismatchError, MissingError, UnusableError, all_named, nearest, quoted
from pipeline.runtime.text_files import parsed_json

RENDERING = {"input_shape", "decoder", "resize", "seed", "augmentation"}
PARTNERS = "partners"
"""What `softlabel render-views` says of the views that it writes; the last of mixed views only."""


@dataclass(frozen=True)
class TakenIn:
    """The answers of a table, as this program uses them.

    Attributes:
        answers: the answers to images of the data set.
        kind: what the table holds: "logits" or "probabilities".
        notes: what was done to the table and what its user should know, one item each.
    """

    answers: StoredAnswers
    kind: str
    notes: list[str]


def refuse_missing_table(file: Path) -> None:
    """Checks that a table of logits exists.

    Raises:
        MissingError: it does not.
    """
    if not file.is_file():
        raise MissingError(
            f"there is no table of logits at {file}. Put it there, or name another file in train_teacher.logits."
        )


def taken_in(teacher: GivenLogits, class_names: Sequence[str], ids: Sequence[str]) -> TakenIn:
    """Reads a table, and takes those rows and columns that belong to the data set.

    Args:
        teacher: the teacher.
        class_names: the C classes of the data set, in the order of the class axis.
        ids: the ids of all images, each once.

    Raises:
        MissingError: there is no such file.
        DamagedError: it cannot be read.
        UnusableError: it holds no logits or probabilities.
        MismatchError: it is of other classes, or has no answer to an image.
        ParameterError: what is stated does not fit the table.
    """
    refuse_missing_table(teacher.file)
    table = read_logit_table(teacher.file)
    notes = [f"{len(table.ids):,} rows of {table.kind} are read"]
    columns = _columns(teacher, table, class_names)
    if (others := table.logits.shape[1] - len(columns)) > 0:
        notes.append(f"{others} class(es) that the data set does not have are left out")
    rows, views = _rows(teacher.file, table, ids)
    if (unused := len(table.ids) - len(rows)) > 0:
        notes.append(f"{unused:,} rows are of images that the data set does not have, or of views behind a missing one")
    logits = np.ascontiguousarray(table.logits[rows][:, columns])
    answers = StoredAnswers(list(ids), views, logits, _rendering(teacher.file, table.rendering))
    return TakenIn(answers, table.kind, notes)


def _columns(teacher: GivenLogits, table: LogitTable, class_names: Sequence[str]) -> list[int]:
    """The number of the column of each class of the data set."""
    named = table.class_names
    if (
        teacher.classes is None
        and named is not None
        and (lacking := [name for name in class_names if name not in named])
    ):
        near = nearest(lacking[0], named)
        raise MismatchError(
            f"{teacher.file} lacks {len(lacking)} of the data set's classes: {quoted(lacking)}; it has {quoted(named)}."
            + (f" Is {near!r} there {lacking[0]!r} here?" if near else "")
            + " Name its classes as data/index.csv does, or say in train_teacher.classes which is which."
        )
    return order_of_classes(teacher, None if named is None else [*named], class_names, table.logits.shape[1])


def _rows(file: Path, table: LogitTable, ids: Sequence[str]) -> tuple[Ints, Ints]:
    """The rows of the data set's images, in the order of `ids` and of the views, and how many views each image has."""
    position = {image_id: number for number, image_id in enumerate(ids)}
    of_image = np.array([position.get(image_id, -1) for image_id in table.ids], np.int64)
    order = np.lexsort((table.views, of_image))
    order = order[of_image[order] >= 0]
    images, views = of_image[order], table.views[order]
    # Views are numbered from 0: the place of a row among those of its image is its view, up to the first missing one.
    place = np.arange(len(order)) - np.searchsorted(images, images)
    kept = place == views
    counts = np.bincount(images[kept], minlength=len(ids))
    if not counts.all():
        _refuse_later_views(file, views)
        missing = [image_id for image_id, count in zip(ids, counts, strict=True) if not count]
        raise MismatchError(
            f"{file} has no row for {len(missing)} of {len(ids)} images (view 0): "
            f"{all_named(missing, 'without-logits')}. Expected an answer to each image of data/index.csv, under its id "
            f"there. Add the missing rows, or correct their ids{_example(table, ids)}." + _other_views(images, counts)
        )
    return order[kept], counts


def _refuse_later_views(file: Path, views: Ints) -> None:
    """Refuses views that are numbered from 1, or from another number, in every row."""
    if len(views) and (first := int(views.min())) > 0:
        raise MismatchError(
            f"{file} has no row of view 0: its views begin at {first}. Number them from 0, so that the first view of "
            "each image, or its only one, is view 0."
        )


def _other_views(images: Ints, counts: Ints) -> str:
    """Says, at the end of a message, how many of the images without a view 0 have other views."""
    others = int(((counts == 0) & (np.bincount(images, minlength=len(counts)) > 0)).sum())
    return f" {others} of them have rows of other views alone: number the views of each image from 0." if others else ""


def _example(table: LogitTable, ids: Sequence[str]) -> str:
    return "" if set(table.ids) & set(ids) else f"; the file has ids such as {table.ids[0]!r}"


def _rendering(file: Path, text: str | None) -> Mapping[str, Any] | None:
    if text is None:
        return None
    try:
        rendering = parsed_json(text)
        whole = isinstance(rendering, dict) and set(rendering) | {PARTNERS} == RENDERING | {PARTNERS}
    except ValueError:
        whole = False
    if not whole:
        raise UnusableError(
            f"{file} says of its views {text[:100]!r}; expected the text that `softlabel render-views` writes as "
            "`rendering`. Copy it unchanged, or leave it out."
        )
    return dict(rendering)
