"""The report's table of the recall of each class."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.evaluation.names import Group
from pipeline.evaluation.text_table import Cell, Row, Table
from pipeline.report.style import short

MOST_CLASSES = 20
"""How many classes the table shows; if there are more, those with the lowest recalls."""


def recall_table(models: Mapping[str, Any], groups: Sequence[Group]) -> Table:
    """The recall of each class, a column for each group of models.

    Args:
        models: as `metrics.json` has them.
        groups: those to show. The last one chooses the classes, if not all are shown.
    """
    columns = [models[group.key]["recall"] for group in groups]
    numbers = range(len(columns[-1]))
    worst = sorted(numbers, key=lambda number: columns[-1][number].get("mean", math.inf))[:MOST_CLASSES]
    shown = [number for number in numbers if number in worst]
    rows = [
        Row(
            short(columns[0][number]["class"]),
            [Cell(f"{columns[0][number]['images']:,}"), *(_cell(of[number]) for of in columns)],
        )
        for number in shown
    ]
    left_out = len(numbers) - len(shown)
    of = f"the {len(shown)} classes with the lowest recall of the {groups[-1].words}" if left_out else "each class"
    return Table(
        f"Recall of {of} (95 % interval).",
        ["class", "test images", *(group.words for group in groups)],
        rows,
        ["Recall: of the images of a class, the share that the model finds."],
    )


def _cell(entry: Mapping[str, Any]) -> Cell:
    if "mean" not in entry:
        return Cell("")
    low, high = entry["interval"]
    return Cell(f"{entry['mean']:.3f}", f"{low:.3f} to {high:.3f}")
