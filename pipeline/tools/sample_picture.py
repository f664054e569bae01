"""Command `inspect --sample`: draws the views of one image, each beside its soft labels at several temperatures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pipeline.images.index import NO_LABEL, SPLITS, SplitName, read_index
from pipeline.report.seen_views import SeenView, untouched_and_views
from pipeline.report.style import MOST_CLASSES, name_bars, save, short, show_image, title_all
from pipeline.runtime.errors import ParameterError
from pipeline.soft_labels.layout import LOGITS_FORMAT
from pipeline.soft_labels.reading import SoftLabelFile, open_soft_labels, slabs

MOST_VIEWS = 8
TEMPERATURES = (1.0, 2.0, 4.0, 8.0)
"""At which logits are shown if the user names none."""
COLORS = ("#08306b", "#2171b5", "#6baed6", "#c6dbef", "#a8a8a8", "#636363")
"""From dark to light blue, then greys: a higher temperature is paler."""


def draw_sample(path: Path, image_id: str, index: Path, temperatures: Sequence[float], output: Path) -> None:
    """Writes a PNG: a row for each view, with the picture that the teacher saw, its partner and its soft labels.

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
        _, seen = untouched_and_views(file, data, split, row, shown)
        bars = [
            [file.soft_labels(split, view, slice(row, row + 1), temperature)[0] for temperature in temperatures]
            for view in range(shown)
        ]
        figure = _figure(file, split, row, seen, np.array(bars), temperatures)
    save(figure, output)


def _find(file: SoftLabelFile, image_id: str) -> tuple[SplitName, int]:
    for split in SPLITS:
        for rows in slabs(file.count(split)):
            ids = file.ids(split, rows)
            if image_id in ids:
                return split, rows.start + ids.index(image_id)
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
    file: SoftLabelFile,
    split: SplitName,
    row: int,
    seen: Sequence[SeenView],
    bars: Any,
    temperatures: Sequence[float],
) -> Figure:
    """Draws a row for each of V views; bars: (V, temperatures, C)."""
    names, labels = file.provenance.class_names, file.labels(split)
    classes = np.sort(np.argsort(-bars.mean(axis=(0, 1)), kind="stable")[:MOST_CLASSES])
    height = max(1.9, 0.2 + 0.13 * len(classes) * (len(temperatures) + 1))
    figure = Figure(figsize=(9, 0.9 + height * len(seen)), layout="constrained")
    pictures = 2 if any(view.partner is not None for view in seen) else 1
    axes = figure.subplots(len(seen), pictures + 1, squeeze=False, width_ratios=[1] * pictures + [2.6])
    thickness = 0.8 / len(temperatures)
    for number, (view, (left, *others)) in enumerate(zip(seen, axes, strict=True)):
        show_image(left, view.pixels, f"view {number}")
        *middle, right = others
        for empty in middle:
            _show_partner(empty, view)
        for each, temperature in enumerate(temperatures):
            places = np.arange(len(classes)) + (each - (len(temperatures) - 1) / 2) * thickness
            color = COLORS[each % len(COLORS)]
            right.barh(places, bars[number, each, classes], thickness, color=color, label=f"T = {temperature:g}")
        told = _hard_label(labels, row, view)
        name_bars(right, [f"{names[k]} ({told[k]})" if k in told else names[k] for k in classes])
        right.set_xlim(0, 1)
        right.tick_params(axis="x", labelsize=8)
    axes[-1][-1].set_xlabel("probability that the teacher gives, softened", fontsize=9)
    handles, texts = axes[0][-1].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside upper right", ncols=len(temperatures), fontsize=9)
    (image_id,), teacher = file.ids(split, slice(row, row + 1)), file.provenance.teacher
    without = ", no label" if labels[row] == NO_LABEL else ""
    title_all(figure, f"{image_id} ({split}{without}) as seen by {teacher}")
    return figure


def _show_partner(axes: Any, view: SeenView) -> None:
    if view.partner is None:
        axes.set_axis_off()
    else:
        show_image(axes, view.partner.pixels, f"{view.partner.share:.0%} of {short(view.partner.image_id, 22)}")


def _hard_label(labels: Any, row: int, view: SeenView) -> dict[int, str]:
    """What stands beside the classes of a view's hard label: "label", or the share of each if it is mixed."""
    if labels[row] == NO_LABEL:
        return {}
    if view.partner is None or labels[view.partner.row] == labels[row]:
        return {int(labels[row]): "label"}
    share = view.partner.share
    return {int(labels[row]): f"{1 - share:.0%} of the label", int(labels[view.partner.row]): f"{share:.0%}"}
