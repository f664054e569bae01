"""Rendering: applies the stored transforms of views to pixels, in the same way for teacher and student."""

from typing import Any

import tensorflow as tf

from pipeline.images.augmentation import Augmentation, FillMode
from pipeline.images.image_files import LUMA
from pipeline.images.pixel_operations import apply_operations, erase, mix
from pipeline.images.transforms import NO_BOX, Transforms, rendered_fields


def render(images: Any, transforms: Transforms, augmentation: Augmentation) -> Any:
    """Renders one view of each image, not mixed with another.

    Args:
        images: (B, height, width, channels), values 0 to 255, any numeric dtype.
        transforms: (B, ...).
        augmentation: says which transforms are in use, and the fill mode.

    Returns:
        (B, height, width, channels) float32.
    """
    pixels = tf.cast(images, tf.float32)
    if augmentation.moves:
        pixels = apply_affines(pixels, transforms.affine, augmentation.fill_mode)
    if augmentation.recolors:
        pixels = apply_colors(pixels, transforms.color)
    if augmentation.operations is not None:
        strength = tf.cast(transforms.strength, tf.float32)
        pixels = apply_operations(pixels, transforms.operation, strength, augmentation.operations.strengths)
    if augmentation.erasing is not None:
        pixels = erase(pixels, transforms.erased)
    pixels.set_shape(images.shape)
    return pixels


def render_pictures(images: Any, partner: Any, augmentation: Augmentation, *transforms: Any) -> Any:
    """Renders and mixes views.

    Args:
        images: the images of P pictures, as `transforms.Pictures` names them: (P, height, width, channels), values 0 to
            255, any numeric dtype.
        partner: (R,) the place among the pictures of each view's partner.
        augmentation: as in `render`.
        *transforms: of the P pictures, the arrays of `Pictures.arrays` behind `partner`.

    Returns:
        R views: (R, height, width, channels) float32.
    """
    named = dict.fromkeys(Transforms.__dataclass_fields__)
    of_pictures = Transforms(**named | dict(zip(rendered_fields(augmentation), transforms, strict=True)))
    pixels = render(images, of_pictures, augmentation)
    if not augmentation.mixes:
        return pixels
    count = tf.shape(partner)[0]
    no_boxes = tf.tile(tf.cast(NO_BOX[None], tf.float32), [count, 1])
    boxes = no_boxes if of_pictures.box is None else of_pictures.box[:count]
    return mix(pixels[:count], tf.gather(pixels, partner), of_pictures.own_share[:count], boxes)


def signature(augmentation: Augmentation) -> list[Any]:
    """The `tf.TensorSpec` of each of the arrays that `Pictures.arrays` returns."""
    of_views = {"own_share": ()}
    wide = {"affine": 6, "color": 6, "erased": 4, "box": 4}
    count = 0 if augmentation.operations is None else augmentation.operations.count
    shapes = [of_views.get(name, (wide.get(name, count),)) for name in rendered_fields(augmentation)]
    return [tf.TensorSpec((None,), tf.int64), *(tf.TensorSpec((None, *shape), tf.float32) for shape in shapes)]


def apply_affines(images: Any, affines: Any, fill_mode: FillMode) -> Any:
    """Applies one affine transform to each image, with one bilinear interpolation.

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
    # 2.7 times as fast as `keras.ops.image.affine_transform`, with the same fill modes.
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),
        transforms=tf.stack([a, to_x, from_x, to_y, d, from_y, zero, zero], axis=1),
        output_shape=shape[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode=fill_mode.upper(),
    )


def apply_colors(images: Any, colors: Any) -> Any:
    """Applies one color transform to each image, and clips the values to 0 and 255.

    Grey images take the mean of the three channels' gains and biases, weighted by `LUMA`. For an image whose channels
    are equal, this gives the grey of the transformed image, unless a channel is clipped.

    Args:
        images: (B, height, width, channels) float32, values 0 to 255; channels is known, 1 or 3.
        colors: (B, 6).

    Returns:
        (B, height, width, channels) float32.
    """
    gains, biases = tf.split(tf.cast(colors, tf.float32), 2, axis=1)
    if images.shape[-1] == 1:
        # Not a matrix product: the last bit of its sums would depend on the number of images.
        gains, biases = (tf.reduce_sum(values * LUMA, axis=1, keepdims=True) for values in (gains, biases))
    changed = images * gains[:, None, None, :] + 255.0 * biases[:, None, None, :]
    return tf.clip_by_value(changed, 0.0, 255.0)
