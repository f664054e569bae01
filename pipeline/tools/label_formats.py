"""Labelled images as text: a table for people, CSV or JSON lines for programs. Lines are made as they are asked for."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from pipeline.runtime.csv_rows import csv_row
from pipeline.tools.predict import Labelled

Labels = Iterable[Labelled]

PROBABILITY = "probability_"
"""Prefix of the columns of a CSV file; the name of the class follows, as in `results/predictions`."""

MOST_COLUMNS = 10
"""A table shows the probability of each class up to so many, and of the predicted class alone if there are more."""


def as_table(labels: Labels, class_names: Sequence[str]) -> Iterator[str]:
    """A line for each image, which ends in its path: so no line must wait for a longer path."""
    names = [on_one_line(name) for name in class_names]
    all_shown = len(names) <= MOST_COLUMNS
    columns = names if all_shown else ["probability"]
    first = max(len(name) for name in ["predicted", *names])
    widths = [max(len(column), 6) for column in columns]
    header = [column.rjust(width) for column, width in zip(columns, widths, strict=True)]
    yield "  ".join(["predicted".ljust(first), *header, "image"]) + "\n"
    for label in labels:
        shown = label.probabilities if all_shown else [label.probabilities[label.predicted]]
        numbers = [f"{value:.4f}".rjust(width) for value, width in zip(shown, widths, strict=True)]
        yield "  ".join([names[label.predicted].ljust(first), *numbers, on_one_line(label.path)]) + "\n"


def on_one_line(text: str) -> str:
    """A text without characters that could move the cursor."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def as_csv(labels: Labels, class_names: Sequence[str]) -> Iterator[str]:
    """Columns path, predicted and one of probabilities for each class; the numbers are exact."""
    yield csv_row(["path", "predicted", *(f"{PROBABILITY}{name}" for name in class_names)])
    for label in labels:
        yield csv_row([label.path, class_names[label.predicted], *map(repr, label.probabilities.tolist())])


def as_json_lines(labels: Labels, class_names: Sequence[str]) -> Iterator[str]:
    """An object for each image: path, predicted, and probabilities by class; the numbers are exact."""
    for label in labels:
        probabilities = dict(zip(class_names, label.probabilities.tolist(), strict=True))
        told = {"path": label.path, "predicted": class_names[label.predicted], "probabilities": probabilities}
        yield json.dumps(told) + "\n"


FORMATS: Mapping[str, Callable[[Labels, Sequence[str]], Iterator[str]]] = {
    "table": as_table,
    "csv": as_csv,
    "jsonl": as_json_lines,
}
