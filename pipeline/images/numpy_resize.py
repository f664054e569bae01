"""Resizes images as `decoding.decode` does, by NumPy alone: for programs without TensorFlow.

Each method sums in float32 in the order of TensorFlow's own kernel for it, so that the same values round to the same
uint8. A method weighs pixels along one axis, then along the other.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.images.image_files import LUMA_THOUSANDTHS

Floats32 = npt.NDArray[np.float32]
Taps = tuple[npt.NDArray[np.intp], Floats32]
"""Of each of some new pixels along one axis: (new, K) indices of old pixels, and (new, K) weights of these."""

ROWS, COLUMNS = 0, 1
HALF = np.float32(0.5)
PI = np.float32(3.14159265359)
VALUES_AT_ONCE = 2**16
"""How many pixels become grey at a time."""

TABLE = 1024
"""TensorFlow's bicubic kernel without antialiasing rounds the place between two pixels to 1 / `TABLE`."""


def resized(
    pixels: npt.NDArray[np.uint8], input_shape: Sequence[int], *, method: str, antialias: bool, fit: str
) -> npt.NDArray[np.uint8]:
    """Resizes one image.

    Args:
        pixels: (height, width, 3) uint8, as `image_files.read_pixels` gives them.
        input_shape: (height, width, channels) of the result, in pixels; channels is 1 or 3.
        method: a name in `METHODS`.
        antialias: whether the image is smoothed as it is made smaller.
        fit: a name in `FITS`.

    Returns:
        A uint8 array of `input_shape`.
    """
    *size, channels = input_shape
    image: Any = pixels
    if channels == 1:
        image = _grey(pixels)
    if list(image.shape[:2]) != size:
        image = FITS[fit](image, size, lambda part, to: METHODS[method](part, to, antialias))
    # Clipped, because bicubic and Lanczos interpolation go beyond 0 and 255.
    return np.asarray(np.clip(np.round(image), 0, 255), np.uint8)


def _grey(pixels: npt.NDArray[np.uint8]) -> Floats32:
    """(height, width, 1): some rows at a time, since the three colors in float32 have twelve times their bytes."""
    grey = np.empty((*pixels.shape[:2], 1), np.float32)
    rows = max(VALUES_AT_ONCE // pixels.shape[1], 1)
    for top in range(0, len(pixels), rows):
        colors = pixels[top : top + rows].astype(np.float32)
        grey[top : top + rows, :, 0] = (colors @ np.array(LUMA_THOUSANDTHS, np.float32)) / np.float32(1000)
    return grey


Resizer = Callable[[Any, Sequence[int]], Any]
"""Brings a (height, width, channels) image to (height, width), whatever the aspect ratios."""


def _stretched(image: Any, size: Sequence[int], resize: Resizer) -> Any:
    return resize(image, size)


def _cropped(image: Any, size: Sequence[int], resize: Resizer) -> Any:
    """The largest centred part with the aspect ratio of `size`, resized."""
    height, width = image.shape[:2]
    height_for_width = int(np.float32(width * size[0]) / np.float32(size[1]))
    width_for_height = int(np.float32(height * size[1]) / np.float32(size[0]))
    part = max(min(height_for_width, height), 1), max(min(width_for_height, width), 1)
    top, left = (height - part[0]) // 2, (width - part[1]) // 2
    return resize(image[top : top + part[0], left : left + part[1]], size)


def _padded(image: Any, size: Sequence[int], resize: Resizer) -> Any:
    """The whole image, resized, centred on black."""
    sides, target = np.array(image.shape[:2], np.float32), np.array(size, np.float32)
    within = sides / (sides / target).max()
    inner = np.maximum(within.astype(int), 1)  # an image of one line keeps its line
    top, left = ((target - within) / 2).astype(int)
    padded = np.zeros((*size, image.shape[2]), np.float32)
    padded[top : top + inner[0], left : left + inner[1]] = resize(image, inner.tolist())
    return padded


FITS: Mapping[str, Callable[[Any, Sequence[int], Resizer], Any]] = {
    "stretch": _stretched,
    "crop": _cropped,
    "pad": _padded,
}


def _nearest(image: Any, size: Sequence[int], antialias: bool) -> Any:
    for axis in (ROWS, COLUMNS):
        places = (_numbers(size[axis]) + HALF) * _scale(image.shape[axis], size[axis])
        image = image.take(np.minimum(places.astype(np.intp), image.shape[axis] - 1), axis)
    return image


def _bilinear(image: Any, size: Sequence[int], antialias: bool) -> Any:
    if antialias:
        return _weighed(image, size, lambda old, new: _kernel_taps(_triangle, 1, old, new, antialias))
    for axis in (COLUMNS, ROWS):
        lower, share = _places(image.shape[axis], size[axis])
        upper = np.minimum(np.where(share > 0, lower + 1, lower), image.shape[axis] - 1)
        first, second = (image.take(np.maximum(at, 0), axis).astype(np.float32) for at in (lower, upper))
        image = first + (second - first) * _along(share, axis)
    return image


def _bicubic(image: Any, size: Sequence[int], antialias: bool) -> Any:
    if antialias:
        return _weighed(image, size, lambda old, new: _kernel_taps(_keys, 2, old, new, antialias))
    return _weighed(image, size, _table_taps)


def _lanczos3(image: Any, size: Sequence[int], antialias: bool) -> Any:
    return _weighed(image, size, lambda old, new: _kernel_taps(_lanczos, 3, old, new, antialias))


def _area(image: Any, size: Sequence[int], antialias: bool) -> Any:
    height_scale, width_scale = (_scale(old, new) for old, new in zip(image.shape[:2], size, strict=True))
    return _weighed(image, size, _area_taps, (COLUMNS, ROWS)) * (np.float32(1) / (height_scale * width_scale))


METHODS: Mapping[str, Callable[[Any, Sequence[int], bool], Any]] = {
    "nearest": _nearest,
    "bilinear": _bilinear,
    "bicubic": _bicubic,
    "lanczos3": _lanczos3,
    "area": _area,
}


def _weighed(
    image: Any, size: Sequence[int], taps: Callable[[int, int], Taps], axes: Sequence[int] = (ROWS, COLUMNS)
) -> Any:
    """The weighted sums along both axes, one after the other; `taps` takes the old and the new number of pixels."""
    for axis in axes:
        indices, weights = taps(image.shape[axis], size[axis])
        total: Any = np.float32(0)
        for index, weight in zip(indices.T, weights.T, strict=True):
            total = total + image.take(index, axis) * _along(weight, axis)
        image = total
    return image


def _kernel_taps(kernel: Callable[[Floats32], Any], radius: int, old: int, new: int, antialias: bool) -> Taps:
    """Of TensorFlow's ScaleAndTranslate: an even function of the distance, wider where an image is made smaller."""
    step = np.float32(1) / (np.float32(new) / np.float32(old))
    widening = max(step, np.float32(1)) if antialias else np.float32(1)
    centres = (_numbers(new) + HALF) * step
    reach = np.float32(radius) * widening
    first = np.clip(np.ceil(centres - reach - HALF), 0, old - 1).astype(np.intp)
    last = np.clip(np.floor(centres + reach - HALF), 0, old - 1).astype(np.intp)
    indices = first[:, None] + np.arange((last - first).max() + 1)
    distances = np.abs((indices.astype(np.float32) + HALF - centres[:, None]) * (np.float32(1) / widening))
    return _normalized(indices, np.where(indices <= last[:, None], kernel(distances), np.float32(0)), old)


def _table_taps(old: int, new: int) -> Taps:
    """Of TensorFlow's ResizeBicubic: the same function as `_keys`, at places that are rounded."""
    lower, share = _places(old, new)
    rounded = np.round(share * np.float32(TABLE)).astype(np.float64) / TABLE  # its table is made of doubles
    distances = np.stack([1 + rounded, rounded, 1 - rounded, 2 - rounded], axis=1)
    indices = lower[:, None] + np.arange(-1, 3)
    within = (indices >= 0) & (indices < old)
    return _normalized(np.maximum(indices, 0), np.where(within, _keys(distances), 0).astype(np.float32), old)


def _area_taps(old: int, new: int) -> Taps:
    """Of TensorFlow's ResizeArea: the part of each old pixel that a new one covers."""
    scale = _scale(old, new)
    start, end = (_numbers(new) * scale)[:, None], ((_numbers(new) + np.float32(1)) * scale)[:, None]
    first = np.floor(start).astype(np.intp)
    indices = first + np.arange((np.ceil(end).astype(np.intp) - first).max())
    left, right = indices.astype(np.float32), (indices + 1).astype(np.float32)
    covered = np.where(left < start, np.where(right > end, scale, right - start), np.minimum(end - left, 1))
    return np.minimum(indices, old - 1), np.where(left < end, covered, np.float32(0)).astype(np.float32)


def _normalized(indices: Any, weights: Any, old: int) -> Taps:
    """The same taps with indices below `old`, and weights whose sum is 1."""
    sums = np.add.accumulate(weights, axis=1)[:, -1:]  # one after another, unlike `sum`
    return np.minimum(indices, old - 1), weights * (np.float32(1) / sums)


def _triangle(distance: Floats32) -> Any:
    return np.maximum(np.float32(1) - distance, 0)


def _keys(distance: Any) -> Any:
    """Cubic convolution with a = -1/2 (Keys, 1981), in the precision of `distance`."""
    outer = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    inner = (1.5 * distance - 2.5) * distance * distance + 1
    return np.where(distance >= 2, 0, np.where(distance >= 1, outer, inner))


def _lanczos(distance: Floats32) -> Any:
    """The sinc function, windowed by its middle lobe, three times as wide."""
    x, radius = np.maximum(distance, np.float32(1e-3)), np.float32(3)
    waves = radius * _sine(PI * x) * _sine(PI * x / radius) / (PI * PI * x * x)
    return np.where(distance > radius, np.float32(0), np.where(distance <= 1e-3, np.float32(1), waves))


def _sine(angle: Floats32) -> Floats32:
    return np.sin(angle, dtype=np.float64).astype(np.float32)  # NumPy's sine of float32 is less exact than C's


def _places(old: int, new: int) -> tuple[npt.NDArray[np.intp], Floats32]:
    """Where the centres of new pixels lie among those of old ones: (new,) the one before, from -1, and the rest."""
    place = (_numbers(new) + HALF) * _scale(old, new) - HALF
    lower = np.floor(place)
    return lower.astype(np.intp), place - lower


def _scale(old: int, new: int) -> np.float32:
    return np.float32(old) / np.float32(new)


def _numbers(count: int) -> Floats32:
    return np.arange(count, dtype=np.float32)


def _along(values: Floats32, axis: int) -> Floats32:
    return values[:, None, None] if axis == ROWS else values[None, :, None]
