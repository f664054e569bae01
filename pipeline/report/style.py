"""What all pictures share: saving, colors, and how images and names are shown."""

import io
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from pipeline.runtime.publish import publish

Pixels = npt.NDArray[np.uint8]
INCH = 100
"""Pixels in an inch: a figure of 8 inches is 800 pixels wide."""
WIDTH = 8.0
MOST_CLASSES = 10
LONGEST_NAME = 28

# Colors that color-blind readers can tell apart (Okabe and Ito, 2008).
BLUE, ORANGE, GREEN, VERMILION, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#999999"


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as a PNG file, the same bytes every time.

    Args:
        figure: the figure.
        path: the PNG file to write, in one step.

    Raises:
        BusyError: another process is writing it.
    """
    with publish(path) as partial, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a box is drawn instead
        # Without the name and version of matplotlib, which would change the bytes.
        figure.savefig(partial, format="png", dpi=INCH, metadata={"Software": None})


def svg(figure: Figure, name: str) -> str:
    """A figure as an SVG element for a page, the same text every time.

    Text stays text. What is drawn in black takes the color of the page's text, and the background is transparent.

    Args:
        figure: the figure.
        name: a name that no other figure of the page has, so that no two elements share an id.
    """
    settings = {"svg.fonttype": "none", "svg.hashsalt": name}  # without a salt, ids are random
    drawn = io.StringIO()
    with mpl.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the browser's fonts have more glyphs
        figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
    element = drawn.getvalue().partition("<svg")
    without_metadata = re.sub(r"<metadata>.*?</metadata>", "", element[1] + element[2], flags=re.DOTALL)
    return re.sub(r"<[^>]*>", _for_a_page, without_metadata).strip()


def _for_a_page(tag: re.Match[str]) -> str:
    """A tag without matplotlib's ids, which all figures share, and with the page's text color in place of black."""
    without = re.sub(r' id="[A-Za-z][A-Za-z0-9.]*_\d+"', "", tag[0])
    return without.replace("#000000", "currentColor")


def show_image(axes: Any, pixels: Pixels, title: str) -> None:
    """Shows pixels (height, width, 1 or 3), values 0 to 255, below a title; "$" begins no formula."""
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255)
    axes.set_axis_off()
    axes.set_title(title, fontsize=9, parse_math=False)


def title_all(figure: Any, title: str, size: int = 11) -> None:
    """Writes a title at the left edge of a figure or subfigure; "$" is shown as it is, and begins no formula."""
    figure.suptitle(title, x=0.01, ha="left", fontsize=size).set_parse_math(False)


def name_bars(axes: Any, names: Sequence[str]) -> None:
    """Writes names beside horizontal bars at 0, 1, 2 ... from top to bottom; "$" begins no formula."""
    for tick in axes.set_yticks(range(len(names)), names, fontsize=9):
        tick.label1.set_parse_math(False)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)


def short(name: str, longest: int = LONGEST_NAME) -> str:
    """A name; one of more than `longest` characters loses its middle."""
    if len(name) <= longest:
        return name
    ahead = (longest - 1) // 2
    return f"{name[:ahead]}…{name[ahead + 1 - longest :]}"


def few(values: Sequence[float], most: int) -> list[float]:
    """At most `most` of the values; of more, evenly spaced ones from the first to the last."""
    if len(values) <= most:
        return list(values)
    return [values[number * (len(values) - 1) // (most - 1)] for number in range(most)]
