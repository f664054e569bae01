"""Views: the random affine transforms of an image, drawn by key and applied alike by every model.

A transform is six numbers (a, b, tx, c, d, ty) in normalised image coordinates: x and y run from -1 at
the left and top edge to 1 at the right and bottom edge. The point (x, y) of the view shows the point
(a x + b y + tx, c x + d y + ty) of the image, so a transform fits every image size; where height and
width differ, a rotation turns the picture squeezed to a square. It is drawn in float64, rounded once to
float16, and used as rounded.

The draw takes raw 64-bit words from the counter-based generator Philox (Salmon et al., SC 2011), keyed
by SHA-256 of (seed, image id, number): it depends on nothing else, neither on order nor on batch size
nor on NumPy's distributions.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

IDENTITY = np.array([1, 0, 0, 0, 1, 0], np.float16)


@dataclass(frozen=True)
class Augmentation:
    """How far a view may depart from its image; what is not named is off.

    Attributes:
        horizontal_flip: mirror left and right in half of the views.
        vertical_flip: mirror top and bottom in half of the views.
        rotation: largest angle either way, in turns (0.25 = 90 degrees).
        translation: largest shift either way along each axis, as a fraction of the image's side.
        shear: largest shear angle either way, in degrees.
        zoom: largest change of scale; the scale is drawn from 1 - zoom to 1 + zoom (2 = twice as large).
        fill_mode: what lies beyond the edge: "reflect", "nearest" or "constant" (black).
    """

    horizontal_flip: bool = False
    vertical_flip: bool = False
    rotation: float = 0.0
    translation: float = 0.0
    shear: float = 0.0
    zoom: float = 0.0
    fill_mode: str = "reflect"

    @property
    def is_identity(self) -> bool:
        """True when every view is the image itself."""
        return self == Augmentation(fill_mode=self.fill_mode)


def philox_words(count: int, *key: str | int) -> npt.NDArray[np.uint64]:
    """`count` random 64-bit words that depend on the key alone, the same on every machine for ever."""
    digest = hashlib.sha256("\0".join(map(str, key)).encode()).digest()
    words: npt.NDArray[np.uint64] = np.random.Philox(key=int.from_bytes(digest[:16], "little")).random_raw(count)
    return words


def draw_affine(augmentation: Augmentation, seed: int, image_id: str, number: int) -> npt.NDArray[np.float16]:
    """Draws the transform of one view.

    The view is made by flipping the image, then zooming, shearing, rotating and shifting it about its
    centre.

    Args:
        augmentation: the ranges.
        seed: of the whole set of views.
        image_id: the image.
        number: of the view (or epoch).

    Returns:
        (6,) float16.
    """
    words = philox_words(7, seed, image_id, number)
    uniform = (words >> np.uint64(11)) * 2.0**-53
    either_way = 2.0 * uniform - 1.0
    flip_x = -1.0 if augmentation.horizontal_flip and uniform[0] < 0.5 else 1.0
    flip_y = -1.0 if augmentation.vertical_flip and uniform[1] < 0.5 else 1.0
    angle = 2.0 * math.pi * augmentation.rotation * either_way[2]
    shear = math.radians(augmentation.shear) * either_way[3]
    scale = 1.0 + augmentation.zoom * either_way[4]
    shift = 2.0 * augmentation.translation * either_way[5:7]
    # From the view back to the image: undo the shift, the rotation, the shear, the zoom and the flip.
    cos, sin = math.cos(angle), math.sin(angle)
    unrotate = np.array([[cos, sin], [-sin, cos]])
    unshear = np.array([[1.0, -math.tan(shear)], [0.0, 1.0]])
    matrix = np.diag([flip_x, flip_y]) @ unshear @ unrotate / scale
    return np.column_stack([matrix, -matrix @ shift]).astype(np.float16).reshape(6)


def draw_affines(
    augmentation: Augmentation, seed: int, image_ids: Sequence[str], number: int
) -> npt.NDArray[np.float16]:
    """One transform for each image: (N, 6) float16."""
    if augmentation.is_identity:
        return np.tile(IDENTITY, (len(image_ids), 1))
    draws = [draw_affine(augmentation, seed, image_id, number) for image_id in image_ids]
    return np.array(draws, np.float16).reshape(-1, 6)


def apply_affines(images: Any, affines: Any, fill_mode: str) -> Any:
    """Applies one transform to each image with one bilinear interpolation.

    Args:
        images: (B, height, width, channels), any numeric dtype.
        affines: (B, 6).
        fill_mode: as in `Augmentation`.

    Returns:
        (B, height, width, channels) float32.
    """
    shape = tf.shape(images)
    height, width = tf.cast(shape[1], tf.float32), tf.cast(shape[2], tf.float32)
    a, b, tx, c, d, ty = tf.unstack(tf.cast(affines, tf.float32), axis=1)
    # Pixel j of n has its centre at the normalised coordinate (2 j + 1) / n - 1.
    to_x, to_y = b * width / height, c * height / width
    from_x = (a * (1.0 - width) + to_x * (1.0 - height) + (tx + 1.0) * width - 1.0) / 2.0
    from_y = (to_y * (1.0 - width) + d * (1.0 - height) + (ty + 1.0) * height - 1.0) / 2.0
    zero = tf.zeros_like(a)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),
        transforms=tf.stack([a, to_x, from_x, to_y, d, from_y, zero, zero], axis=1),
        output_shape=shape[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode=fill_mode.upper(),
    )
