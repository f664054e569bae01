"""What operations, erasing and mixing do to pixels; docs/format.md gives the formulas.

All functions take batches of (B, height, width, channels) float32 values from 0 to 255, of 1 or 3 channels, and give
the same shape. What becomes of an image does not depend on the others of its batch: every sum is taken in the same
order, and without matrix products.
"""

from collections.abc import Callable, Collection
from typing import Any

import tensorflow as tf

from pipeline.images.image_files import LUMA
from pipeline.images.operations import OPERATIONS

WHITE = 255.0
MID_GREY = 127.5
TRUNCATE = 3.0
"""How many sigmas a blur reaches."""


def apply_operations(images: Any, operation: Any, strength: Any, used: Collection[str]) -> Any:
    """Applies K operations to each image, one after another.

    Args:
        images: (B, height, width, channels) float32; channels is known.
        operation: (B, K) whole numbers, codes of `OPERATIONS` or 0; K is known.
        strength: (B, K) float32.
        used: the names of the operations that may occur; all others change nothing.

    Returns:
        (B, height, width, channels) float32.
    """
    names = sorted(used, key=lambda name: OPERATIONS[name].code)
    part_of = [0] * 256
    for part, name in enumerate(names, start=1):
        part_of[OPERATIONS[name].code] = part
    for codes, strengths in zip(tf.unstack(operation, axis=1), tf.unstack(strength, axis=1), strict=True):
        part = tf.where(strengths == 0.0, 0, tf.gather(part_of, tf.cast(codes, tf.int32)))
        images = _apply_in_parts(images, part, strengths, [PIXELS_OF[name] for name in names])
    return images


def _apply_in_parts(images: Any, part: Any, strengths: Any, functions: list[Callable[[Any, Any], Any]]) -> Any:
    """Applies function p - 1 to the images of part p; those of part 0 stay as they are."""
    count = 1 + len(functions)
    pixels, rows = tf.dynamic_partition(images, part, count), tf.range(tf.shape(images)[0])
    s = [values[:, None, None, None] for values in tf.dynamic_partition(strengths, part, count)]
    changed = [
        tf.clip_by_value(tf.ensure_shape(function(before, by), [None, *images.shape[1:]]), 0.0, WHITE)
        for function, before, by in zip(functions, pixels[1:], s[1:], strict=True)
    ]
    together = tf.dynamic_stitch(tf.dynamic_partition(rows, part, count), [pixels[0], *changed])
    return tf.ensure_shape(together, images.shape)


def _grey(images: Any) -> Any:
    red, green, blue = tf.unstack(images, axis=-1)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue)[..., None]


def _only_of_colors(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda images, s: images if images.shape[-1] == 1 else function(images, s)


def hue(images: Any, s: Any) -> Any:
    """Turns hues of HSV (Smith, SIGGRAPH 1978) by s (B, 1, 1, 1) turns."""
    h, saturation, value = tf.unstack(tf.image.rgb_to_hsv(images), axis=-1)
    h += s[..., 0]
    return tf.image.hsv_to_rgb(tf.stack([h - tf.floor(h), saturation, value], axis=-1))


def saturation(images: Any, s: Any) -> Any:
    """Moves colors away from their grey by a factor of 1 + s (B, 1, 1, 1)."""
    return images + s * (images - _grey(images))


def grayscale(images: Any, s: Any) -> Any:
    """Moves colors to their grey by a share of s (B, 1, 1, 1)."""
    return saturation(images, -s)


def solarize(images: Any, s: Any) -> Any:
    """Inverts the values of at least 256 (1 - s), s (B, 1, 1, 1)."""
    return tf.where(images >= 256.0 * (1.0 - s), WHITE - images, images)


def posterize(images: Any, s: Any) -> Any:
    """Clears the lowest s (B, 1, 1, 1) of eight bits; s is a whole number."""
    step = tf.gather([2.0**bits for bits in range(9)], tf.clip_by_value(tf.cast(s, tf.int32), 0, 8))
    return step * tf.floor(images / step)


def autocontrast(images: Any, s: Any) -> Any:
    """Stretches each channel to 0 and 255, by a share of s (B, 1, 1, 1)."""
    lowest = tf.reduce_min(images, axis=[1, 2], keepdims=True)
    extent = tf.reduce_max(images, axis=[1, 2], keepdims=True) - lowest
    # Where all values are equal, rounding may have left a difference, which must not be stretched.
    stretched = (images - lowest) * (WHITE / tf.maximum(extent, 1.0))
    return tf.where(extent < 1.0, images, images + s * (stretched - images))


def equalize(images: Any, s: Any) -> Any:
    """Spreads the values of each channel evenly over 0 to 255, by a share of s (B, 1, 1, 1)."""
    shape = tf.shape(images)
    channels = shape[0] * shape[3]
    first = tf.reshape(256 * tf.range(channels), [shape[0], 1, 1, shape[3]])
    level = first + tf.clip_by_value(tf.cast(tf.floor(images + 0.5), tf.int32), 0, 255)
    size = 256 * channels
    counts = tf.math.bincount(tf.reshape(level, [-1]), minlength=size, maxlength=size)
    counts = tf.reshape(counts, [channels, 256])
    darker = tf.cumsum(counts, axis=1, exclusive=True)
    # As many as are darker than the brightest level that occurs: `darker` does not grow behind it.
    others = tf.reduce_max(tf.where(counts > 0, darker, 0), axis=1, keepdims=True)
    spread = WHITE * tf.cast(darker, tf.float32) / tf.cast(tf.maximum(others, 1), tf.float32)
    even = tf.gather(tf.reshape(spread, [-1]), level)
    alone = tf.reshape(others == 0, [shape[0], 1, 1, shape[3]])
    return tf.where(alone, images, images + s * (even - images))


def sharpness(images: Any, s: Any) -> Any:
    """Moves values away from the mean of their 3 x 3 neighbours by a factor of 1 + s (B, 1, 1, 1)."""
    padded = tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]])
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    all_nine = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    smooth = (all_nine + 4.0 * images) / 13.0
    sizes = tf.shape(images)[1:3]
    y, x = tf.range(sizes[0])[:, None, None], tf.range(sizes[1])[None, :, None]
    is_inner = (y > 0) & (y < sizes[0] - 1) & (x > 0) & (x < sizes[1] - 1)
    return tf.where(is_inner, images + s * (images - smooth), images)


def blur(images: Any, s: Any) -> Any:
    """Blurs by a Gaussian, whose sigma is a share of s (B, 1, 1, 1) of each side."""
    return _blurred(_blurred(images, s, axis=2), s, axis=1)


def _blurred(images: Any, s: Any, axis: int) -> Any:
    """Along one axis, mirrored beyond the edge.

    All weights beyond an image's own reach are 0, so that the loop may be as long as the batch needs.
    """
    side = tf.shape(images)[axis]
    sigma = s * tf.cast(side, tf.float32)
    reach = tf.floor(TRUNCATE * sigma + 0.5)
    most = tf.cast(tf.reduce_max(tf.concat([[0.0], tf.reshape(reach, [-1])], axis=0)), tf.int32)
    margins = [[most, most] if number == axis else [0, 0] for number in range(4)]
    mirrored = tf.pad(images, margins, "SYMMETRIC")

    def shifted(by: Any) -> Any:
        begin = [most + by if number == axis else 0 for number in range(4)]
        return tf.slice(mirrored, begin, tf.shape(images))

    def add(distance: Any, total: Any, weights: Any) -> tuple[Any, Any, Any]:
        d = tf.cast(distance, tf.float64)
        # In float64: the last bit of a float32's exp depends on its place among the images.
        weight = tf.cast(tf.exp(-0.5 * tf.square(d / tf.cast(sigma, tf.float64))), tf.float32)
        weight = tf.where(tf.cast(d, tf.float32) <= reach, weight, 0.0)
        total += weight * (shifted(-distance) + shifted(distance))
        return distance + 1, tf.ensure_shape(total, images.shape), weights + 2.0 * weight

    _, total, weights = tf.while_loop(
        lambda distance, *_: distance <= most, add, (tf.constant(1), images, tf.ones_like(s))
    )
    return total / weights


PIXELS_OF: dict[str, Callable[[Any, Any], Any]] = {
    "blur": blur,
    "hue": _only_of_colors(hue),
    "saturation": _only_of_colors(saturation),
    "grayscale": _only_of_colors(grayscale),
    "solarize": solarize,
    "posterize": posterize,
    "autocontrast": autocontrast,
    "equalize": equalize,
    "sharpness": sharpness,
}


def erase(images: Any, boxes: Any) -> Any:
    """Fills a box of each image with mid-grey (random erasing: Zhong et al., arXiv:1708.04896).

    Args:
        images: (B, height, width, channels) float32.
        boxes: (B, 4) left, top, right and bottom edge, from -1 to 1; an empty box erases nothing.
    """
    return tf.where(_inside(boxes, tf.shape(images)), MID_GREY, images)


def mix(images: Any, partners: Any, own_share: Any, boxes: Any) -> Any:
    """Mixes each image with its partner, in every pixel (mixup) or in a box (CutMix).

    Sources: mixup: Zhang et al., arXiv:1710.09412; CutMix: Yun et al., arXiv:1905.04899.

    Args:
        images: (B, height, width, channels) float32.
        partners: the same; a view that is not mixed may have any finite pixels here.
        own_share: (B,) lambda, the share of the image itself; 1: not mixed. Not used where a box is.
        boxes: (B, 4), as in `erase`: where CutMix shows the partner; empty for mixup, and for a view that is not mixed.
    """
    left, top, right, bottom = tf.unstack(tf.cast(boxes, tf.float32)[:, :, None, None, None], axis=1)
    by_pixel = tf.cast(own_share, tf.float32)[:, None, None, None]
    inside = _inside(boxes, tf.shape(images))
    own = tf.where((left < right) & (top < bottom), 1.0 - tf.cast(inside, tf.float32), by_pixel)
    return own * images + (1.0 - own) * partners


def _inside(boxes: Any, shape: Any) -> Any:
    """Which pixels have their centre in a box: (B, height, width, 1) booleans.

    Pixel j of n has its centre at (2 j + 1 - n) / n. Both sides are compared times n, which rounds no number.
    """
    left, top, right, bottom = tf.unstack(tf.cast(boxes, tf.float32)[:, :, None], axis=1)
    height, width = shape[1], shape[2]
    n, m = tf.cast(width, tf.float32), tf.cast(height, tf.float32)
    x = 2.0 * tf.range(n)[None] + 1.0 - n
    y = 2.0 * tf.range(m)[None] + 1.0 - m
    columns = (left * n <= x) & (x < right * n)
    rows = (top * m <= y) & (y < bottom * m)
    return (rows[:, :, None] & columns[:, None, :])[..., None]
