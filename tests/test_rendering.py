"""Rendering: what the transforms of a view do to pixels."""

import math

import numpy as np
import pytest
import tensorflow as tf

from pipeline.images import rendering
from pipeline.images.augmentation import Augmentation, Mixing
from pipeline.images.rendering import apply_affines, apply_colors
from pipeline.images.sampling import sample_views
from pipeline.images.transforms import IDENTITY, SAME_COLOR, Transforms

EVERYTHING = Augmentation(
    horizontal_flip=True,
    vertical_flip=True,
    rotation=0.2,
    translation=0.1,
    shear=20.0,
    zoom=0.3,
    crop_area=(0.5, 1.0),
    crop_aspect_ratio=(0.75, 4 / 3),
    fill_mode="nearest",
    brightness=0.2,
    contrast=0.4,
    channel_gain=0.1,
)
MOVES = Augmentation(rotation=0.2, translation=0.1, fill_mode="nearest")
COLOR = Augmentation(brightness=0.2, contrast=0.4, channel_gain=0.1)
PAD_MODE = {"constant": "constant", "nearest": "edge", "reflect": "symmetric"}
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
NOT_USED = np.nan


def rotation(angle):
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def picture(height=8, width=8, channels=2, count=1, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (count, height, width, channels)).astype(np.float32)


def apply(images, affine, fill_mode="constant"):
    affines = np.tile(np.asarray(affine, np.float64), (len(images), 1))
    return apply_affines(images, affines, fill_mode).numpy()


def recolor(images, gains, biases):
    colors = np.tile(np.concatenate([gains, biases]), (len(images), 1))
    return apply_colors(images, colors).numpy()


def sampled(count, augmentation=EVERYTHING, number=0):
    transforms = sample_views(augmentation, 2, [f"{row}.png" for row in range(count)], number)
    return transforms.affine, transforms.color


def render(images, affines, colors, augmentation):
    return rendering.render(images, Transforms.of((0,), affine=affines, color=colors), augmentation)


def normalised(size):
    """The coordinates of the pixel centres: -1 and 1 are the edges of the image."""
    return (2 * np.arange(size) + 1) / size - 1


def content(x, y):
    """A picture as a function of normalised coordinates, so that the right answer is known at every size."""
    return 127.5 + 60 * np.sin(3 * x + 0.5) + 60 * np.cos(2 * y - 0.3)


def interpolation_bound(height, width):
    """How far linear interpolation is from `content`.

    At most h^2 / 8 times the second derivative along each axis, with pixels h = 2 / size apart; here the
    derivatives are at most 60 * 9 and 60 * 4.
    """
    return 60 * ((2 / width) ** 2 * 9 + (2 / height) ** 2 * 4) / 8


# What a transform does to pixels


@pytest.mark.parametrize("shape", [(8, 8), (5, 7), (28, 28), (1, 3)])
@pytest.mark.parametrize("fill_mode", PAD_MODE)
def test_the_identity_changes_no_bit(shape, fill_mode):
    images = picture(*shape, channels=3, count=2)
    np.testing.assert_array_equal(apply(images, IDENTITY, fill_mode), images)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float16, np.float64])
def test_any_number_becomes_float32(dtype):
    images = picture().round().astype(dtype)
    actual = apply(images, IDENTITY)
    assert actual.dtype == np.float32
    np.testing.assert_array_equal(actual, images.astype(np.float32))


@pytest.mark.parametrize("shape", [(8, 8), (5, 7), (6, 4), (29, 28)])
@pytest.mark.parametrize("fill_mode", PAD_MODE)
def test_flips_equal_numpys(shape, fill_mode):
    images = picture(*shape)
    np.testing.assert_array_equal(apply(images, [-1, 0, 0, 0, 1, 0], fill_mode), images[:, :, ::-1])
    np.testing.assert_array_equal(apply(images, [1, 0, 0, 0, -1, 0], fill_mode), images[:, ::-1])
    np.testing.assert_array_equal(apply(images, [-1, 0, 0, 0, -1, 0], fill_mode), images[:, ::-1, ::-1])


@pytest.mark.parametrize("size", [5, 8, 28])
def test_quarter_turns_equal_numpys(size):
    # The view's (x, y) shows the image's (-y, x): numpy's one turn against the clock, with y pointing down.
    images = picture(size, size)
    np.testing.assert_array_equal(apply(images, [0, -1, 0, 1, 0, 0]), np.rot90(images, 1, axes=(1, 2)))
    np.testing.assert_array_equal(apply(images, [-1, 0, 0, 0, -1, 0]), np.rot90(images, 2, axes=(1, 2)))
    np.testing.assert_array_equal(apply(images, [0, 1, 0, -1, 0, 0]), np.rot90(images, 3, axes=(1, 2)))


def test_flip_then_turn_is_one_transform():
    # The transform of a view is the transforms of its steps multiplied in reverse: first flipped, then turned.
    images = picture()
    flip, turn = np.diag([-1.0, 1.0]), np.array([[0.0, -1.0], [1.0, 0.0]])
    composed = np.column_stack([flip @ turn, [0.0, 0.0]]).reshape(6)
    np.testing.assert_array_equal(apply(images, composed), np.rot90(images[:, :, ::-1], 1, axes=(1, 2)))


@pytest.mark.parametrize("fill_mode", PAD_MODE)
@pytest.mark.parametrize(("right", "down"), [(1, 0), (0, 1), (-3, 2), (6, -2), (-7, 0), (5, -4), (8, 8), (-11, 0)])
def test_whole_pixel_shifts_equal_padded_arrays(fill_mode, right, down):
    """A shift by k pixels is 2 k / size in normalised coordinates, exact in binary."""
    images = picture(4, 8)
    padded = np.pad(images, [(0, 0), (16, 16), (16, 16), (0, 0)], PAD_MODE[fill_mode])
    actual = apply(images, [1, 0, 2 * right / 8, 0, 1, 2 * down / 4], fill_mode)
    np.testing.assert_array_equal(actual, padded[:, 16 + down : 20 + down, 16 + right : 24 + right])


@pytest.mark.parametrize("fill_mode", PAD_MODE)
@pytest.mark.parametrize(("top", "left"), [(0, 0), (2, 3), (4, 8), (6, 8)])
def test_a_crop_of_whole_pixels_equals_a_slice(fill_mode, top, left):
    # A third of each side, magnified three times: every third pixel of the view, from the second on, is a pixel's own.
    images = picture(9, 12)
    centre_x, centre_y = 2 * (left + 2) / 12 - 1, 2 * (top + 1.5) / 9 - 1
    actual = apply(images, [1 / 3, 0, centre_x, 0, 1 / 3, centre_y], fill_mode)
    expected = images[:, top : top + 3, left : left + 4]
    # Coordinates up to 12 round by a few times 2^-21, neighbours differ by up to 255.
    np.testing.assert_allclose(actual[:, 1::3, 1::3], expected, rtol=0, atol=2 * 255 * 8 * 2.0**-21)


def test_a_crop_then_a_flip_is_the_mirrored_slice():
    images = picture(9, 12)
    centre_x, centre_y = 2 * (3 + 2) / 12 - 1, 2 * (2 + 1.5) / 9 - 1
    actual = apply(images, [-1 / 3, 0, centre_x, 0, 1 / 3, centre_y])
    expected = images[:, 2:5, 3:7][:, :, ::-1]
    np.testing.assert_allclose(actual[:, 1::3, 1::3], expected, rtol=0, atol=2 * 255 * 8 * 2.0**-21)


def test_a_sampled_crop_shows_nothing_beyond_the_edge():
    # White pictures with black beyond: a view's outermost pixel centres lie less than half a pixel of the image beyond
    # the image's own, so that at least a half of each axis, a quarter in a corner, is white.
    affines, _ = sampled(50, Augmentation(crop_area=(0.1, 1.0), crop_aspect_ratio=(0.5, 2.0)))
    views = apply_affines(np.full((50, 16, 16, 1), 255.0), affines, "constant").numpy()
    assert views.min() >= 255 / 4


@pytest.mark.parametrize(("fill_mode", "beyond"), [("constant", 0.0), ("nearest", 10.0), ("reflect", 10.0)])
def test_half_a_pixel_beyond_the_edge_is_interpolated(fill_mode, beyond):
    # Columns 10, 20, 30, 50 shifted by half a pixel: column 0 lies between what is left of the edge and 10.
    images = np.array([10.0, 20.0, 30.0, 50.0]).reshape(1, 1, 4, 1)
    actual = apply(images, [1, 0, -0.25, 0, 1, 0], fill_mode)
    np.testing.assert_array_equal(actual.ravel(), [(beyond + 10) / 2, 15.0, 25.0, 40.0])


def test_halving_the_coordinates_magnifies_twice():
    # Pixel j of the view lies at (2 j + 1) / 8 - 1 and shows half of that, (2 j + 1) / 16 - 1/2. Image pixel k lies at
    # (2 k + 1) / 8 - 1, so k = j / 2 + 1.75. Every row is the numbers 0 to 7, so that a value is a column.
    images = np.tile(np.arange(8.0)[None, None, :, None], (1, 8, 1, 1))
    actual = apply(images, [0.5, 0, 0, 0, 0.5, 0])
    np.testing.assert_array_equal(actual[0, 3, :, 0], [1.75, 2.25, 2.75, 3.25, 3.75, 4.25, 4.75, 5.25])


@pytest.mark.parametrize("angle", [0.1, 0.7, 2.0, -3.0])
@pytest.mark.parametrize("size", [5, 29])
def test_turning_keeps_the_centre(angle, size):
    images = picture(size, size)
    (a, b), (c, d) = rotation(angle)
    centre = apply(images, [a, b, 0, c, d, 0])[:, size // 2, size // 2]
    # The centre's coordinate rounds by a few times size * 2^-24; a pixel further the value differs by 255 at most.
    np.testing.assert_allclose(centre, images[:, size // 2, size // 2], rtol=0, atol=255 * 16 * size * 2.0**-24)


@pytest.mark.parametrize("shape", [(32, 32), (64, 64), (40, 64), (96, 48)])
def test_a_transform_lands_on_the_same_content_at_every_size(shape):
    height, width = shape
    x, y = np.meshgrid(normalised(width), normalised(height))
    # Turned by 0.4, magnified 1.6 times, shifted: no corner reaches beyond 0.95, so that nothing is filled.
    (a, b), (c, d) = rotation(0.4) / 1.6
    tx, ty = 0.07, -0.05
    assert abs(a) + abs(b) + abs(tx) < 0.95
    actual = apply(content(x, y)[None, :, :, None], [a, b, tx, c, d, ty])[0, :, :, 0]
    expected = content(a * x + b * y + tx, c * x + d * y + ty)
    rounding = 60e-5  # of coordinates up to 96 in float32, times a slope of at most 60 * 3 * 2 / 48 a pixel
    np.testing.assert_allclose(actual, expected, rtol=0, atol=interpolation_bound(height, width) + rounding)


@pytest.mark.parametrize("shape", [(32, 32), (64, 64), (40, 64), (96, 48)])
def test_a_sampled_view_lands_on_the_same_content_at_every_size(shape):
    """Moved, cropped and recolored, wherever the view shows a point between the image's pixel centres."""
    height, width = shape
    x, y = np.meshgrid(normalised(width), normalised(height))
    affines, colors = sampled(20)
    images = np.tile(content(x, y)[None, :, :, None], (20, 1, 1, 3))
    actual = render(images, affines, colors, EVERYTHING).numpy()
    for row, (a, b, tx, c, d, ty) in enumerate(affines.astype(np.float64)):
        seen_x, seen_y = a * x + b * y + tx, c * x + d * y + ty
        inside = (np.abs(seen_x) < 1 - 1 / width) & (np.abs(seen_y) < 1 - 1 / height)
        assert inside.mean() > 0.5
        gains, biases = np.split(colors[row].astype(np.float64), 2)
        expected = np.clip(content(seen_x, seen_y)[..., None] * gains + 255 * biases, 0, 255)
        bound = (interpolation_bound(height, width) + 60e-5) * max(gains)
        np.testing.assert_allclose(actual[row][inside], expected[inside], rtol=0, atol=bound)


@pytest.mark.parametrize("fill_mode", PAD_MODE)
def test_a_sampled_view_is_one_bilinear_interpolation(fill_mode):
    """Against bilinear sampling of the padded picture in float64."""
    count, height, width, pad = 12, 9, 12, 40
    images = picture(height, width, count=count)
    affines, _ = sampled(count)
    actual = apply_affines(images, affines, fill_mode)
    assert actual.dtype == np.float32
    padded = np.pad(images, [(0, 0), (pad, pad), (pad, pad), (0, 0)], PAD_MODE[fill_mode]).astype(np.float64)
    x, y = np.meshgrid(normalised(width), normalised(height))
    for row, (a, b, tx, c, d, ty) in enumerate(affines.astype(np.float64)):
        column = ((a * x + b * y + tx + 1) * width - 1) / 2 + pad
        line = ((c * x + d * y + ty + 1) * height - 1) / 2 + pad
        left, top = np.floor(column).astype(int), np.floor(line).astype(int)
        u, v = (column - left)[..., None], (line - top)[..., None]
        source = padded[row]
        expected = (1 - v) * ((1 - u) * source[top, left] + u * source[top, left + 1]) + v * (
            (1 - u) * source[top + 1, left] + u * source[top + 1, left + 1]
        )
        # Coordinates below 32 keep an error of about 16 roundings of 2^-19; neighbours differ by up to 255.
        np.testing.assert_allclose(actual[row], expected, rtol=0, atol=2 * 255 * 16 * 32 * 2.0**-24)


@pytest.mark.parametrize(("fill_mode", "lowest"), [("reflect", 60), ("nearest", 60), ("constant", 0)])
def test_a_view_stays_within_the_range_of_its_image(fill_mode, lowest):
    images = picture(12, 12, count=20) / 2 + 60  # 60 to 187.5
    affines, _ = sampled(20)
    views = apply_affines(images, affines, fill_mode).numpy()
    assert views.shape == images.shape
    assert views.min() >= lowest - 255 * 2.0**-22
    assert views.max() <= images.max() + 255 * 2.0**-22


def test_beyond_the_edge_constant_is_black():
    affines, _ = sampled(20)
    views = apply_affines(np.full((20, 12, 12, 1), 60.0), affines, "constant").numpy()
    assert (views == 0.0).any()


def test_stored_float16_transforms_lose_nothing():
    # What was sampled is already rounded, so the stored numbers give the very same view.
    images = picture(10, 10, channels=3)
    affines, colors = sampled(1)
    stored = [np.frombuffer(part.tobytes(), np.float16)[None].astype(np.float32) for part in (affines, colors)]
    replayed = render(images, *stored, EVERYTHING)
    np.testing.assert_array_equal(replayed, render(images, affines, colors, EVERYTHING))


# What a transform does to colors


def test_a_color_is_a_gain_and_a_bias_of_each_channel():
    images = np.array([[100.0, 100.0, 100.0], [0.0, 160.0, 255.0]]).reshape(1, 1, 2, 3).astype(np.float32)
    actual = recolor(images, [1.5, 1.0, 0.5], [0.25, -0.5, 0.125])
    assert actual.dtype == np.float32
    # 100 * 1.5 + 255 / 4, 100 - 255 / 2 (cut), 100 / 2 + 255 / 8; then 0, 160 and 255.
    assert actual.tolist() == [[[[213.75, 0.0, 81.875], [63.75, 32.5, 159.375]]]]


def test_what_leaves_the_range_is_cut_at_black_and_white():
    images = np.array([0.0, 50.0, 85.0, 170.0, 250.0, 255.0]).reshape(1, 1, 6, 1).astype(np.float32)
    darker, lighter = recolor(images, [1.0] * 3, [-0.5] * 3), recolor(images, [2.0] * 3, [0.0] * 3)
    assert darker.ravel().tolist() == [0.0, 0.0, 0.0, 42.5, 122.5, 127.5]
    assert lighter.ravel().tolist() == [0.0, 100.0, 170.0, 255.0, 255.0, 255.0]


def test_each_image_has_its_own_color():
    images = picture(5, 7, channels=3, count=30)
    _, colors = sampled(30, COLOR)
    gains, biases = np.split(colors.astype(np.float64)[:, None, None], 2, axis=-1)
    expected = np.clip(images * gains + 255 * biases, 0, 255)
    # Product and sum, below 512, round by 2^-16 each.
    np.testing.assert_allclose(apply_colors(images, colors), expected, rtol=0, atol=2.0**-15)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_same_color_changes_no_bit(channels):
    images = picture(9, 12, channels=channels, count=5)
    np.testing.assert_array_equal(recolor(images, SAME_COLOR[:3], SAME_COLOR[3:]), images)


def test_sampled_contrast_keeps_mid_grey():
    images = np.full((50, 2, 3, 3), 127.5, np.float32)
    _, colors = sampled(50, Augmentation(contrast=0.4))
    # The float16 gain is 2^-11 off, the bias 2^-13.
    np.testing.assert_allclose(apply_colors(images, colors), 127.5, rtol=0, atol=127.5 * 2.0**-11 + 255 * 2.0**-13)


def test_brightness_moves_mid_grey_by_its_share_of_white():
    images = np.full((50, 2, 3, 3), 127.5, np.float32)
    _, colors = sampled(50, Augmentation(brightness=0.25))
    expected = 127.5 + 255 * colors[:, 3].astype(np.float64)
    actual = apply_colors(images, colors).numpy()
    np.testing.assert_allclose(actual, np.broadcast_to(expected[:, None, None, None], actual.shape), rtol=2.0**-23)
    assert 127.5 - 63.75 <= actual.min() < 70
    assert 185 < actual.max() <= 127.5 + 63.75


def test_grey_is_the_luma_of_the_transformed_colors():
    """Where the channels are equal, and nothing is cut."""
    grey = picture(9, 12, channels=1, count=30) / 4 + 95  # 95 to 159: 0.6 * 0.9 to 1.4 * 1.1 times that, less 51, fits
    _, colors = sampled(30, COLOR)
    colored = apply_colors(np.repeat(grey, 3, axis=-1), colors).numpy()
    assert colored.min() > 0
    assert colored.max() < 255
    actual = apply_colors(grey, colors).numpy()
    assert actual.shape == grey.shape
    np.testing.assert_allclose(actual[..., 0], colored.astype(np.float64) @ LUMA, rtol=0, atol=2.0**-14)


def test_grey_weighs_the_channels_as_the_eye_does():
    images = np.full((1, 1, 1, 1), 100.0, np.float32)
    weights = [float(recolor(images, gains, [0.0] * 3)[0, 0, 0, 0]) for gains in np.eye(3)]
    np.testing.assert_allclose(weights, [29.9, 58.7, 11.4], rtol=2.0**-22)
    shifts = [float(recolor(0 * images, [1.0] * 3, biases)[0, 0, 0, 0]) for biases in np.eye(3)]
    np.testing.assert_allclose(shifts, [76.245, 149.685, 29.07], rtol=2.0**-22)


# The whole view


def test_a_view_is_moved_then_recolored():
    images = picture(9, 12, channels=3, count=6)
    affines, colors = sampled(6)
    moved = apply_affines(images, affines, "nearest")
    np.testing.assert_array_equal(
        render(images, affines, colors, EVERYTHING).numpy(), apply_colors(moved, colors).numpy()
    )


def test_what_lies_beyond_the_edge_is_recolored_with_the_rest():
    augmentation = Augmentation(translation=0.5, brightness=0.5, fill_mode="constant")
    # Shifted by half the width: the left half is black, and 255 / 4 lighter.
    actual = render(
        np.full((1, 4, 4, 1), 100, np.uint8), [[1, 0, -1, 0, 1, 0]], [[1, 1, 1, 0.25, 0.25, 0.25]], augmentation
    )
    np.testing.assert_array_equal(actual[0, :, :, 0], [[63.75, 63.75, 163.75, 163.75]] * 4)


def test_only_what_is_on_is_done():
    images = picture(9, 12, channels=3, count=6)
    affines, colors = sampled(6)
    not_used = np.full((6, 6), NOT_USED)
    np.testing.assert_array_equal(
        render(images, affines, not_used, MOVES).numpy(), apply_affines(images, affines, "nearest").numpy()
    )
    np.testing.assert_array_equal(render(images, not_used, colors, COLOR).numpy(), apply_colors(images, colors).numpy())


def test_views_that_are_not_mixed_are_those_of_their_images():
    images, (_, colors) = picture(3, 4, channels=3, count=2), sampled(2)
    views = rendering.render_pictures(images, [0, 1], COLOR, colors)
    np.testing.assert_array_equal(views.numpy(), apply_colors(images, colors).numpy())


def test_views_are_blended_with_their_partners():
    """Of three pictures two are views; the first is its own partner, the second shows 0.25 of itself."""
    images = picture(3, 4, channels=3, count=3).astype(np.float32)
    blended = Augmentation(mixup=Mixing(alpha=1.0, share=0.5))
    views = rendering.render_pictures(images, [0, 2], blended, [1.0, 0.25, 1.0])
    expected = [images[0], 0.25 * images[1] + 0.75 * images[2]]
    np.testing.assert_allclose(views.numpy(), expected, rtol=1e-6)
    with pytest.raises(ValueError, match="zip"):
        rendering.render_pictures(images, [0, 2], blended)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_nothing_on_changes_no_bit(dtype):
    images = picture(9, 12, channels=3, count=6).astype(dtype)
    not_used = np.full((6, 6), NOT_USED)
    actual = render(images, not_used, not_used, Augmentation()).numpy()
    assert actual.dtype == np.float32
    assert actual.tobytes() == images.astype(np.float32).tobytes()


@pytest.mark.parametrize("channels", [1, 3])
def test_everything_on_but_sampled_as_nothing_changes_no_bit(channels):
    images = picture(9, 12, channels=channels, count=6).astype(np.uint8)
    actual = render(images, np.tile(IDENTITY, (6, 1)), np.tile(SAME_COLOR, (6, 1)), EVERYTHING).numpy()
    assert actual.dtype == np.float32
    assert actual.tobytes() == images.astype(np.float32).tobytes()


@pytest.mark.parametrize("fill_mode", PAD_MODE)
def test_the_fill_mode_is_the_augmentations(fill_mode):
    images = picture(4, 8, channels=3)
    shift = np.array([[1, 0, -0.75, 0, 1, 0]])  # three pixels of eight
    expected = np.pad(images, [(0, 0), (0, 0), (3, 0), (0, 0)], PAD_MODE[fill_mode])[:, :, :8]
    actual = render(images, shift, shift, Augmentation(translation=0.5, fill_mode=fill_mode))
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("augmentation", [EVERYTHING, MOVES, COLOR, Augmentation()])
@pytest.mark.parametrize("shape", [(None, 9, 12, 3), (None, 9, 12, 1), (4, 9, 12, 3), (None, None, None, 3)])
def test_the_static_shape_is_kept(augmentation, shape):
    traced = tf.function(lambda *tensors: render(*tensors, augmentation)).get_concrete_function(
        tf.TensorSpec(shape, tf.uint8), tf.TensorSpec((None, 6), tf.float16), tf.TensorSpec((None, 6), tf.float16)
    )
    assert traced.structured_outputs.shape.as_list() == list(shape)
    assert traced.structured_outputs.dtype == tf.float32


@pytest.mark.parametrize("channels", [1, 3])
def test_a_view_does_not_depend_on_its_batch(channels):
    count = 33
    images = picture(10, 14, channels=channels, count=count)
    affines, colors = sampled(count, number=1)
    together = render(images, affines, colors, EVERYTHING).numpy()
    for row in range(count):
        only = slice(row, row + 1)
        alone = render(images[only], affines[only], colors[only], EVERYTHING).numpy()
        np.testing.assert_array_equal(alone[0], together[row])
    order = np.random.default_rng(0).permutation(count)
    shuffled = render(images[order], affines[order], colors[order], EVERYTHING).numpy()
    np.testing.assert_array_equal(shuffled, together[order])
