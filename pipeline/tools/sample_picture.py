"""Command `inspect --sample`: draws the views of one image, each beside its soft labels at several temperatures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pipeline.images.index import NO_LABEL, SPLITS, SplitName, read_index
from pipeline.report.seen_views import untouched_and_views
from pipeline.report.style import MOST_CLASSES, name_bars, save, show_image, title_all
from pipeline.runtime.errors import ParameterError
from pipeline.soft_labels.layout import LOGITS_FORMAT
from pipeline.soft_labels.reading import SoftLabelFile, open_soft_labels

MOST_VIEWS = 8
TEMPERATURES = (1.0, 2.0, 4.0, 8.0)
"""At which logits are shown if the user names none."""
COLORS = ("#08306b", "#2171b5", "#6baed6", "#c6dbef", "#a8a8a8", "#636363")
"""From dark to light blue, then greys: a higher temperature is paler."""


def draw_sample(path: Path, image_id: str, index: Path, temperatures: Sequence[float], output: Path) -> None:
    """Writes a PNG: a row for each view, with the picture that the teacher saw and its soft labels.

    Args:
        path: a file of either format; soft targets are shown at their own temperature.
        image_id: the id of the image.
        index: `data/index.csv`, which has the path of the image.
        temperatures: T of each bar, if the file holds logits; none takes `TEMPERATURES`.
        output: the PNG file to write.

    Raises:
        MissingError: a file is missing.
        DamagedError: a file is damaged.
        MismatchError: the image is not the one from which the file was made.
        ParameterError: the file has no such image, or soft targets of another temperature.
    """
    data = read_index(index)
    with open_soft_labels(path) as file:
        split, row = _find(file, image_id)
        temperatures = _drawn(file, temperatures)
        shown = min(file.views(split).count, MOST_VIEWS)
        _, pictures = untouched_and_views(file, data, split, row, shown)
        bars = [
            [file.soft_labels(split, view, slice(row, row + 1), temperature)[0] for temperature in temperatures]
            for view in range(shown)
        ]
        figure = _figure(file, split, row, pictures, np.array(bars), temperatures)
    save(figure, output)


def _find(file: SoftLabelFile, image_id: str) -> tuple[SplitName, int]:
    for split in SPLITS:
        ids = file.ids(split)
        if image_id in ids:
            return split, ids.index(image_id)
    raise ParameterError(f"{file.path} has no image {image_id!r}. The ids are in data/index.csv, such as {ids[0]!r}.")


def _drawn(file: SoftLabelFile, temperatures: Sequence[float]) -> Sequence[float]:
    """The temperatures of the bars. Soft targets have one of their own, and no other can be had from them."""
    if file.format == LOGITS_FORMAT:
        return temperatures or TEMPERATURES
    own = float(file.temperature or 1.0)
    if set(temperatures) - {own}:
        raise ParameterError(
            f"{file.path} holds soft labels at temperature {own:g} alone; they cannot be drawn at "
            f"{', '.join(f'{temperature:g}' for temperature in temperatures)}. Leave --temperature out, or draw from "
            "the file of logits, teacher_logits.h5."
        )
    return [own]


def _figure(
    file: SoftLabelFile, split: SplitName, row: int, pictures: Any, bars: Any, temperatures: Sequence[float]
) -> Figure:
    """Draws a row for each view; pictures: (V, height, width, channels), bars: (V, temperatures, C)."""
    names, label = file.provenance.class_names, int(file.labels(split)[row])
    classes = np.sort(np.argsort(-bars.mean(axis=(0, 1)), kind="stable")[:MOST_CLASSES])
    height = max(1.9, 0.2 + 0.13 * len(classes) * (len(temperatures) + 1))
    figure = Figure(figsize=(9, 0.9 + height * len(pictures)), layout="constrained")
    axes = figure.subplots(len(pictures), 2, squeeze=False, width_ratios=[1, 2.6])
    thickness = 0.8 / len(temperatures)
    for view, (left, right) in enumerate(axes):
        show_image(left, pictures[view], f"view {view}")
        for number, temperature in enumerate(temperatures):
            places = np.arange(len(classes)) + (number - (len(temperatures) - 1) / 2) * thickness
            color = COLORS[number % len(COLORS)]
            right.barh(places, bars[view, number, classes], thickness, color=color, label=f"T = {temperature:g}")
        ticks = [f"{names[k]} (label)" if k == label else names[k] for k in classes]
        name_bars(right, ticks)
        right.set_xlim(0, 1)
        right.tick_params(axis="x", labelsize=8)
    axes[-1][1].set_xlabel("probability that the teacher gives, softened", fontsize=9)
    handles, labels = axes[0][1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(temperatures), fontsize=9)
    image_id, teacher = file.ids(split)[row], file.provenance.teacher
    without = ", no label" if label == NO_LABEL else ""
    title_all(figure, f"{image_id} ({split}{without}) as seen by {teacher}")
    return figure
