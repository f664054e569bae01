"""Stage `split`'s picture: some training images of all classes, with their labels."""

import hashlib
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from matplotlib.figure import Figure

from pipeline.figures import WIDTH, Pixels, save, short, show_image, title_all
from pipeline.images import read_original
from pipeline.index import Image, Index

SIDE = 3
"""Rows and columns of the grid."""


def draw_samples(index: Index, output: Path) -> None:
    """Writes a PNG: a grid of nine training images under the names of their classes.

    Args:
        index: the data set, whose files are read.
        output: the PNG file to write.

    Raises:
        PipelineError: there are no training images.
    """
    chosen = spread_over_classes(index.split("train"), SIDE * SIDE)
    save(sample_grid([read_original(image.path) for image in chosen], [image.label for image in chosen]), output)


def spread_over_classes(images: Sequence[Image], count: int) -> list[Image]:
    """Up to `count` images, an image of each class in turn; of each class those whose id's SHA-256 is smallest.

    Of more classes than `count`, every so manieth is shown.
    """
    by_class: dict[str, list[Image]] = {}
    for image in sorted(images, key=lambda image: (image.label, hashlib.sha256(image.id.encode()).digest())):
        by_class.setdefault(image.label, []).append(image)
    classes = list(by_class.values())
    shown = [classes[number * len(classes) // count] for number in range(count)] if len(classes) > count else classes
    rounds = zip_longest(*(of_class[:count] for of_class in shown))
    return [image for one_round in rounds for image in one_round if image is not None][:count]


def sample_grid(pictures: Sequence[Pixels], labels: Sequence[str]) -> Figure:
    """Draws up to nine images in three columns.

    Args:
        pictures: the pixels of each image: (height, width, 1 or 3), values 0 to 255; the sizes may differ.
        labels: the name of each one's class.
    """
    rows = -(-len(pictures) // SIDE)
    figure = Figure(figsize=(WIDTH, 0.4 + 2.6 * rows), layout="constrained")
    for axes in figure.subplots(rows, SIDE, squeeze=False).flat:
        axes.set_axis_off()
    for axes, pixels, label in zip(figure.axes, pictures, labels, strict=False):
        show_image(axes, pixels, short(label))
    title_all(figure, "Training images and their labels")
    return figure
