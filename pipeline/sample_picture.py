"""Command `inspect --sample`: one image's views, each beside its soft labels at several temperatures."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from pipeline.artifacts import publish
from pipeline.errors import PipelineError
from pipeline.images import Images
from pipeline.index import SPLITS, Image, Index, read_index, refuse_changed
from pipeline.rendering import render
from pipeline.soft_labels import LOGITS_FORMAT, SoftLabelFile, open_soft_labels

MOST_VIEWS = 8
MOST_CLASSES = 10
SMALLEST_SIDE = 160
COLOURS = ("#08306b", "#2171b5", "#6baed6", "#c6dbef", "#a8a8a8", "#636363")
"""Dark to light blue, then greys: the higher the temperature, the paler."""


def draw_sample(path: Path, image_id: str, index: Path, temperatures: Sequence[float], output: Path) -> None:
    """Writes a PNG: a row for each view, with the picture that the teacher saw and its soft labels.

    Args:
        path: a file of either format; soft targets are shown at their own temperature only.
        image_id: the image.
        index: `data/index.csv`, which knows where the image is.
        temperatures: T of each bar, for a logits file.
        output: the PNG file to write.

    Raises:
        PipelineError: a file is missing or damaged, or knows no such image.
    """
    data = read_index(index)
    with open_soft_labels(path) as file:
        split, row = _find(file, image_id)
        shown = min(file.views(split).count, MOST_VIEWS)
        pictures = _pictures(file, data, split, row, shown)
        if file.format != LOGITS_FORMAT:
            temperatures = [float(file.temperature or 1.0)]
        bars = [[_soft_labels(file, split, view, row, t) for t in temperatures] for view in range(shown)]
        figure = _figure(file, split, row, pictures, np.array(bars), temperatures)
    with publish(output) as partial, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a box is drawn instead
        figure.savefig(partial, format="png", dpi=100, metadata={"Software": None})


def _find(file: SoftLabelFile, image_id: str) -> tuple[str, int]:
    for split in SPLITS:
        ids = file.ids(split)
        if image_id in ids:
            return split, ids.index(image_id)
    raise PipelineError(f"{file.path} knows no image {image_id!r}. The ids are in data/index.csv, such as {ids[0]!r}.")


def _pictures(file: SoftLabelFile, data: Index, split: str, row: int, count: int) -> npt.NDArray[np.uint8]:
    """The views as the teacher saw them, or larger where that is too small to look at: (V, height, width, 3)."""
    height, width, channels = file.provenance.preprocessing["input_shape"]
    scale = max(1, -(-SMALLEST_SIDE // min(height, width)))
    image = _image(file, data, split, row)
    pixels = Images([image.path], (height * scale, width * scale, channels), keep=False).rows([0])
    transforms = [file.transforms(split, view) for view in range(count)]
    affines = np.array([affine[row] for affine, _ in transforms])
    colours = np.array([colour[row] for _, colour in transforms])
    views = render(np.repeat(pixels, count, axis=0), affines, colours, file.views(split).augmentation)
    rounded: npt.NDArray[np.uint8] = np.clip(np.round(np.asarray(views)), 0, 255).astype(np.uint8)
    return rounded


def _image(file: SoftLabelFile, data: Index, split: str, row: int) -> Image:
    """The image of a row, if its file is the one that the teacher saw."""
    image_id, content = file.ids(split)[row], file.image_sha256(split)[row]
    image = next((image for image in data.images if image.id == image_id), None)
    if image is None or image.sha256 != content:
        raise PipelineError(
            f"the index knows no image {image_id!r} with the content that {file.path} was made from. "
            f"Bring it up to date with `dvc repro {file.stage}`."
        )
    refuse_changed([image])
    return image


def _soft_labels(file: SoftLabelFile, split: str, view: int, row: int, temperature: float) -> Any:
    columns = file.columns(split, view, slice(row, row + 1))
    if file.format == LOGITS_FORMAT:
        columns = file.storage.soften(columns, temperature, file.classes)
    return file.storage.probabilities(columns, file.classes)[0]


def _figure(
    file: SoftLabelFile, split: str, row: int, pictures: Any, bars: Any, temperatures: Sequence[float]
) -> Figure:
    """Rows of views; bars: (V, temperatures, C)."""
    names, label = file.provenance.class_names, int(file.labels(split)[row])
    classes = np.sort(np.argsort(-bars.mean(axis=(0, 1)), kind="stable")[:MOST_CLASSES])
    height = max(1.9, 0.2 + 0.13 * len(classes) * (len(temperatures) + 1))
    figure = Figure(figsize=(9, 0.9 + height * len(pictures)), layout="constrained")
    axes = figure.subplots(len(pictures), 2, squeeze=False, width_ratios=[1, 2.6])
    thickness = 0.8 / len(temperatures)
    for view, (left, right) in enumerate(axes):
        picture = pictures[view]
        left.imshow(picture[..., 0] if picture.shape[-1] == 1 else picture, cmap="gray", vmin=0, vmax=255)
        left.set_axis_off()
        left.set_title(f"view {view}", fontsize=9)
        for number, temperature in enumerate(temperatures):
            places = np.arange(len(classes)) + (number - (len(temperatures) - 1) / 2) * thickness
            colour = COLOURS[number % len(COLOURS)]
            right.barh(places, bars[view, number, classes], thickness, color=colour, label=f"T = {temperature:g}")
        ticks = [f"{names[k]} (label)" if k == label else names[k] for k in classes]
        for tick in right.set_yticks(range(len(classes)), ticks, fontsize=9):
            tick.label1.set_parse_math(False)
        right.invert_yaxis()
        right.set_xlim(0, 1)
        right.tick_params(axis="x", labelsize=8)
        right.spines[["top", "right"]].set_visible(False)
    axes[-1][1].set_xlabel("probability that the teacher gives, softened", fontsize=9)
    handles, labels = axes[0][1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(temperatures), fontsize=9)
    image_id, teacher = file.ids(split)[row], file.provenance.teacher
    title = figure.suptitle(f"{image_id} ({split}) as seen by {teacher}", x=0.01, ha="left", fontsize=11)
    title.set_parse_math(False)
    return figure
