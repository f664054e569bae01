"""The report's picture of the data: training images of every class, with their labels."""

import hashlib
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from pipeline.images.image_files import read_original
from pipeline.images.index import Image, Index
from pipeline.report.style import INCH, WIDTH, Pixels, save, short, show_image, title_all

SIDE = 3
"""Rows and columns of the grid that is drawn if it has a place for every class."""

MOST_ROWS_OF_ONE_CLASS = 20
IN_A_ROW = 8
"""Up to 20 classes have a row of 8 images each."""

NAMES = {IN_A_ROW: (90, 1), 10: (15, 2), 16: (9, 3)}
"""The characters in a line and the lines that a class name may take, by the number of columns."""

LINE_HEIGHT = 0.13
TITLE_HEIGHT = 0.35
GAP = 0.02
"""Inches: the height of a line of a name, that of the figure's title, and the space around an image."""

MOST_CLASSES_SHOWN = 1000
TITLE = "Training images and their labels"


def draw_samples(index: Index, output: Path) -> None:
    """Writes a PNG: training images under the names of their classes, at least one of each class.

    Up to nine classes share nine places, up to 20 have a row each, and up to 1,000 have one small image each; with more
    classes, evenly spaced ones are shown.

    Args:
        index: the data set, whose files are read.
        output: the PNG file to write.

    Raises:
        DamagedError: the index has no training images.
    """
    classes = by_class(index)
    if len(classes) <= SIDE * SIDE:
        chosen = spread_over_classes(index, SIDE * SIDE)
        figure = sample_grid([read_original(image.path) for image in chosen], [image.class_name for image in chosen])
    elif len(classes) <= MOST_ROWS_OF_ONE_CLASS:
        figure = small_tiles([of_class[:IN_A_ROW] for of_class in classes], IN_A_ROW)
    else:
        shown = spread_over_classes(index, MOST_CLASSES_SHOWN)[: len(classes)]
        columns = 10 if len(shown) <= 200 else 16
        title = TITLE if len(shown) == len(classes) else f"{TITLE}: {len(shown):,} of {len(classes):,} classes"
        rows = [shown[start : start + columns] for start in range(0, len(shown), columns)]
        figure = small_tiles(rows, columns, title)
    save(figure, output)


def by_class(index: Index) -> list[list[Image]]:
    """The labelled training images of each class that has any, in the order of the class axis.

    Within a class, images are sorted by the SHA-256 of their ids.
    """
    images = index.labelled("train")
    classes: list[list[Image]] = [[] for _ in index.class_names]
    for image, number in zip(images, index.labels(images), strict=True):
        classes[number].append(image)
    for of_class in classes:
        of_class.sort(key=lambda image: hashlib.sha256(image.id.encode()).digest())
    return [of_class for of_class in classes if of_class]


def spread_over_classes(index: Index, count: int) -> list[Image]:
    """Up to `count` training images, taken from one class after the other.

    With more classes than `count`, evenly spaced ones are shown.
    """
    classes = by_class(index)
    shown = [classes[number * len(classes) // count] for number in range(count)] if len(classes) > count else classes
    rounds = zip_longest(*(of_class[:count] for of_class in shown))
    return [image for one_round in rounds for image in one_round if image is not None][:count]


def sample_grid(pictures: Sequence[Pixels], class_names: Sequence[str]) -> Figure:
    """Draws up to nine images in three columns.

    Args:
        pictures: the pixels of each image: (height, width, 1 or 3), values 0 to 255; the sizes may differ.
        class_names: the class name of each image.
    """
    rows = -(-len(pictures) // SIDE)
    figure = Figure(figsize=(WIDTH, 0.4 + 2.6 * rows), layout="constrained")
    for axes in figure.subplots(rows, SIDE, squeeze=False).flat:
        axes.set_axis_off()
    for axes, pixels, name in zip(figure.axes, pictures, class_names, strict=False):
        show_image(axes, pixels, short(name))
    title_all(figure, TITLE)
    return figure


def small_tiles(rows: Sequence[Sequence[Image]], columns: int, title: str = TITLE) -> Figure:
    """Draws many small images in rows, all in one pair of axes, since hundreds of axes would take long.

    Args:
        rows: the images; the name of a class is written above its first image.
        columns: the number of places in a row; a key of `NAMES`.
        title: the figure's title.
    """
    characters, lines = NAMES[columns]
    tile, name_height = WIDTH / columns, 2 * GAP + lines * LINE_HEIGHT
    height = TITLE_HEIGHT + len(rows) * (tile + name_height)
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.text(0.08, TITLE_HEIGHT / 2, title, fontsize=11, va="center")
    before = None
    for number, row in enumerate(rows, 1):
        top = TITLE_HEIGHT + number * (tile + name_height) - tile
        for place, image in enumerate(row):
            if image.class_name != before:
                name = _wrapped(short(image.class_name, characters * lines), characters)
                axes.text(place * tile + GAP, top - GAP, name, fontsize=7, parse_math=False)
            before = image.class_name
            _show_tile(axes, image, place * tile + GAP, top + GAP, tile - 2 * GAP)
    axes.set(xlim=(0, WIDTH), ylim=(height, 0))
    axes.set_axis_off()
    return figure


def _wrapped(name: str, characters: int) -> str:
    return "\n".join(name[start : start + characters] for start in range(0, len(name), characters))


def _show_tile(axes: Any, image: Image, left: float, top: float, side: float) -> None:
    """Shows an image in the middle of a square. Of a large image, only every `step`-th pixel is drawn."""
    pixels = read_original(image.path)
    step = max(1, min(pixels.shape[:2]) // int(2 * side * INCH))
    height, width = (side * length / max(pixels.shape[:2]) for length in pixels.shape[:2])
    left, top = left + (side - width) / 2, top + (side - height) / 2
    # A copy: a view of the pixels would keep the whole image in memory until the figure is saved.
    axes.imshow(pixels[::step, ::step].copy(), extent=(left, left + width, top + height, top), aspect="auto")
