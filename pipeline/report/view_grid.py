"""The report's picture of views: some training images as the teacher saw them."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from pipeline.images.index import Index
from pipeline.report.sample_grid import spread_over_classes
from pipeline.report.seen_views import SeenView, untouched_and_views
from pipeline.report.style import WIDTH, Pixels, save, short, show_image, title_all
from pipeline.soft_labels.identity import Expected, refuse_other, rows_of
from pipeline.soft_labels.reading import open_logits

MOST_IMAGES = 3
MOST_VIEWS = 7
LARGEST_SIDE = 2.0
"""The largest width of one picture, in inches."""
NARROWEST = 5.0
"""The smallest width of the figure, in inches: its title must fit."""


def draw_views(logits: Path, index: Index, output: Path) -> None:
    """Writes a PNG: three training images of different classes, each untouched and in up to seven of its views.

    Args:
        logits: `teacher_logits.h5`, which stores the views' transforms.
        index: the data set, whose files are read.
        output: the PNG file to write.

    Raises:
        MissingError: there are no logits.
        DamagedError: the logits are damaged.
        MismatchError: the logits were made from other images.
    """
    chosen = spread_over_classes(index, MOST_IMAGES)
    with open_logits(logits) as file:
        refuse_other(file, index, Expected(splits=["train"]))
        count = min(file.views("train").count, MOST_VIEWS)
        rows = [int(row) for row in rows_of(file, "train", [image.id for image in chosen])]
        shown = [untouched_and_views(file, index, "train", row, count) for row in rows]
    save(view_grid(shown, [image.class_name for image in chosen]), output)


def view_grid(shown: Sequence[tuple[Pixels, Sequence[SeenView]]], class_names: Sequence[str]) -> Figure:
    """Draws a row for each image: the image itself, then its views.

    Args:
        shown: for each image its pixels (height, width, channels), values 0 to 255, and its views; channels is 1 or 3,
            the number of views the same for all.
        class_names: the class name of each image.
    """
    columns = 1 + len(shown[0][1])
    height, width = shown[0][0].shape[:2]
    side = min(WIDTH / columns, LARGEST_SIDE)
    row_height = 0.65 + side * min(height / width, 2.0)
    figure = Figure(figsize=(max(NARROWEST, columns * side), 0.4 + len(shown) * row_height), layout="constrained")
    rows = figure.subfigures(len(shown), squeeze=False)[:, 0]
    for row, (image, views), name in zip(rows, shown, class_names, strict=True):
        title_all(row, short(name, 60), size=10)
        first, *others = row.subplots(1, columns)
        show_image(first, image, "untouched")
        for number, (axes, view) in enumerate(zip(others, views, strict=True)):
            own_share = "" if view.partner is None else f" ({1 - view.partner.share:.0%})"
            show_image(axes, view.pixels, f"view {number}{own_share}")
    title = "Training images and views of them, as the teacher saw them"
    if any(view.partner is not None for _, views in shown for view in views):
        title += "\nIn brackets: the image's own share of a mixed view"
    title_all(figure, title)
    return figure
