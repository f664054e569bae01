"""The report's picture of softening: one test image's soft labels at rising temperatures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy import special

from pipeline.evaluation.metrics import Floats, log_softmax
from pipeline.images.image_files import read_original
from pipeline.images.index import Index
from pipeline.report.style import (
    BLUE,
    GREY,
    MOST_CLASSES,
    ORANGE,
    WIDTH,
    Pixels,
    few,
    name_bars,
    save,
    short,
    show_image,
    title_all,
)
from pipeline.soft_labels.reading import open_logits, slabs

PANELS_A_ROW = 3
MOST_TEMPERATURES = 9
QUANTILE = 0.75
"""The image that is shown lies at this quantile of the entropies: the teacher has some doubt about it."""


def draw_softening(logits: Path, index: Index, temperatures: Sequence[float], output: Path) -> None:
    """Writes a PNG: a test image about which the teacher has some doubt, and its soft labels at each temperature.

    Args:
        logits: `teacher_logits.h5`, made from this data set.
        index: the data set, whose files are read.
        temperatures: T of each panel, above 0; of more than nine, nine are shown.
        output: the PNG file to write.

    Raises:
        MissingError: there are no logits.
        DamagedError: the logits are damaged.
    """
    with open_logits(logits) as file:
        parts = (file.storage.logits(file.columns("test", 0, rows), file.classes) for rows in slabs(file.count("test")))
        row = some_doubt(np.concatenate([entropies(logits) for logits in parts]))
        shown = few(sorted(set(temperatures)), MOST_TEMPERATURES)
        soft_labels = {t: file.soft_labels("test", 0, slice(row, row + 1), t)[0] for t in shown}
        image_id, label = file.ids("test")[row], int(file.labels("test")[row])
    image = next(image for image in index.split("test") if image.id == image_id)
    pixels = read_original(image.path)
    save(softening_figure(image_id, pixels, soft_labels, index.class_names, label), output)


def entropies(logits: Floats) -> Floats:
    """The entropy of each row of logits (N, C) at T = 1, in nats: (N,)."""
    return np.asarray(special.entr(np.exp(log_softmax(logits))).sum(axis=1))


def some_doubt(of_rows: Floats) -> int:
    """The first of N entropies that is nearest to their upper quartile."""
    return int(np.argmin(np.abs(of_rows - np.quantile(of_rows, QUANTILE))))


def softening_figure(
    image_id: str, pixels: Pixels, soft_labels: Mapping[float, Floats], class_names: Sequence[str], label: int
) -> Figure:
    """Draws an image, and a bar chart of its soft labels for each temperature.

    Args:
        image_id: the image's id.
        pixels: (height, width, 1 or 3), values 0 to 255.
        soft_labels: (C,) probabilities for each temperature T.
        class_names: C names.
        label: the index of the labelled class.
    """
    rows = -(-len(soft_labels) // PANELS_A_ROW)
    columns = -(-len(soft_labels) // rows)
    kept = np.sort(np.argsort(-next(iter(soft_labels.values())), kind="stable")[:MOST_CLASSES])
    names = [short(class_names[number]) for number in kept]
    colors = [ORANGE if number == label else BLUE for number in kept]
    if others := len(class_names) - len(kept):
        names.append(f"{others} others")
        colors.append(GREY)
    figure = Figure(figsize=(WIDTH, 0.8 + rows * (0.5 + 0.19 * max(len(names), 4))), layout="constrained")
    grid = figure.add_gridspec(rows, 1 + columns, width_ratios=[1.4, *[1] * columns])
    show_image(figure.add_subplot(grid[:, 0]), pixels, "untouched")
    for number, (temperature, probabilities) in enumerate(soft_labels.items()):
        row, column = divmod(number, columns)
        axes = figure.add_subplot(grid[row, 1 + column])
        values = [float(probabilities[number]) for number in kept]
        _draw_bars(axes, [*values, max(0.0, 1 - sum(values))][: len(names)], colors)
        axes.set_title(f"T = {temperature:g}", fontsize=9)
        name_bars(axes, names if column == 0 else [""] * len(names))
    title_all(figure, f"Soft labels of {short(image_id, 40)} (test)")
    hint = "orange: the labelled class" if label in kept else f"labelled {short(class_names[label])}, one of the others"
    figure.supxlabel(f"softened probability; {hint}", fontsize=9).set_parse_math(False)
    return figure


def _draw_bars(axes: Any, values: Sequence[float], colors: Sequence[str]) -> None:
    """Horizontal bars with their values beside them."""
    bars = axes.barh(range(len(values)), values, 0.75, color=colors)
    axes.bar_label(bars, fmt="%.3f", padding=2, fontsize=7)
    axes.set_xlim(0, 1.4)  # room for the value beside a bar of 1
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"], fontsize=8)
