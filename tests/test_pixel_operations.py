"""Operations, erasing and mixing, against Pillow, SciPy, Python's colorsys, or NumPy written from docs/format.md."""

import colorsys
from fractions import Fraction

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from PIL import ImageEnhance, ImageOps
from scipy.ndimage import gaussian_filter1d

from pipeline.images.operations import OPERATIONS
from pipeline.images.pixel_operations import PIXELS_OF, apply_operations, erase, mix

LUMA = np.array([0.299, 0.587, 0.114])
LARGEST = {"posterize": 7.0, "hue": 0.5, "blur": 0.1} | dict.fromkeys(
    ["saturation", "grayscale", "solarize", "autocontrast", "equalize", "sharpness"], 1.0
)
BOTH_WAYS = ("hue", "saturation", "sharpness")
EMPTY = [0.0, 0.0, 0.0, 0.0]


def picture(height=9, width=11, channels=3, count=1, seed=0):
    """Values that are not whole, as those of a rotated view."""
    return np.random.default_rng(seed).uniform(0, 255, (count, height, width, channels)).astype(np.float32)


def whole_picture(*shape, **options):
    return np.round(picture(*shape, **options))


def apply(images, *operations):
    """The same operations, (name, strength) each, for all images."""
    codes = np.array([OPERATIONS[name].code for name, _ in operations], np.uint8)
    strengths = np.array([strength for _, strength in operations], np.float16).astype(np.float32)
    tiled = [np.tile(values, (len(images), 1)) for values in (codes, strengths)]
    return apply_operations(tf.constant(images), *tiled, {name for name, _ in operations}).numpy()


def in_pillow(images, function):
    (image,) = images
    pillow = PIL.Image.fromarray(image.astype(np.uint8).squeeze(-1) if image.shape[-1] == 1 else image.astype(np.uint8))
    return np.asarray(function(pillow), np.float64).reshape(images.shape)


# Each operation, against an implementation of others


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("strength", [-1.0, -0.5, 0.25, 1.0])
def test_saturation_equals_pillows(strength, channels):
    images = whole_picture(channels=channels)
    expected = in_pillow(images, lambda image: ImageEnhance.Color(image).enhance(1 + strength))
    # Pillow rounds grey and the result to whole numbers.
    np.testing.assert_allclose(apply(images, ("saturation", strength)), expected, rtol=0, atol=1.51)


def test_full_grayscale_equals_pillows():
    images = whole_picture()
    expected = in_pillow(images, lambda image: ImageOps.grayscale(image).convert("RGB"))
    np.testing.assert_allclose(apply(images, ("grayscale", 1.0)), expected, rtol=0, atol=0.51)


def test_grayscale_of_a_share_lies_between():
    images = picture()
    grey = (images @ LUMA)[..., None]
    np.testing.assert_allclose(apply(images, ("grayscale", 0.25)), 0.75 * images + 0.25 * grey, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("strength", [0.125, 0.5, 1.0])
def test_solarize_equals_pillows(strength, channels):
    images = whole_picture(channels=channels)
    expected = in_pillow(images, lambda image: ImageOps.solarize(image, int(256 * (1 - strength))))
    np.testing.assert_array_equal(apply(images, ("solarize", strength)), expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bits", range(1, 8))
def test_posterize_equals_pillows(bits, channels):
    images = whole_picture(channels=channels)
    expected = in_pillow(images, lambda image: ImageOps.posterize(image, 8 - bits))
    np.testing.assert_array_equal(apply(images, ("posterize", bits)), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_autocontrast_equals_pillows(channels):
    images = np.round(40 + 0.5 * picture(channels=channels))
    expected = in_pillow(images, ImageOps.autocontrast)
    np.testing.assert_allclose(apply(images, ("autocontrast", 1.0)), expected, rtol=0, atol=1.01)  # Pillow cuts off


@pytest.mark.parametrize("channels", [1, 3])
def test_equalize_equals_pillows(channels):
    # 5 brightest and 4 x 255 other pixels in each channel: Pillow's whole-numbered step is 4, without a rest.
    values = np.random.default_rng(1).integers(20, 130, (1025, channels))
    values[:5] = 200
    images = values.reshape(1, 25, 41, channels).astype(np.float32)
    expected = in_pillow(images, ImageOps.equalize)
    np.testing.assert_allclose(apply(images, ("equalize", 1.0)), expected, rtol=0, atol=0.51)  # Pillow rounds


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("strength", [-1.0, -0.5, 0.5, 1.0])
def test_sharpness_equals_pillows(strength, channels):
    images = whole_picture(channels=channels)
    expected = in_pillow(images, lambda image: ImageEnhance.Sharpness(image).enhance(1 + strength))
    np.testing.assert_allclose(apply(images, ("sharpness", strength)), expected, rtol=0, atol=1.51)


@pytest.mark.parametrize("strength", [-0.5, -0.1, 0.25, 0.5])
def test_hue_equals_that_of_pythons_colorsys(strength):
    images, strength = picture(), float(np.float16(strength))
    expected = [
        colorsys.hsv_to_rgb((h + strength) % 1, s, v)
        for h, s, v in (colorsys.rgb_to_hsv(*map(float, pixel)) for pixel in images.reshape(-1, 3))
    ]
    np.testing.assert_allclose(apply(images, ("hue", strength)).reshape(-1, 3), expected, rtol=0, atol=1e-3)


def test_a_third_turn_of_hue_makes_red_green():
    red = np.array([200.0, 50.0, 50.0], np.float32).reshape(1, 1, 1, 3)
    np.testing.assert_allclose(apply(red, ("hue", 1 / 3)).ravel(), [50, 200, 50], atol=0.5)  # 1 / 3 in float16


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(9, 11), (12, 5), (1, 1), (2, 40)])
@pytest.mark.parametrize("strength", [0.01, 0.06, 0.1])
def test_blur_equals_that_of_scipy(strength, height, width, channels):
    images, share = picture(height, width, channels), float(np.float16(strength))
    along_x = gaussian_filter1d(images.astype(np.float64), share * width, axis=2, mode="reflect", truncate=3.0)
    expected = gaussian_filter1d(along_x, share * height, axis=1, mode="reflect", truncate=3.0)
    np.testing.assert_allclose(apply(images, ("blur", strength)), expected, rtol=0, atol=1e-3)


# Values that are not whole, from the document


def test_solarize_and_posterize_of_any_values():
    images = picture()
    np.testing.assert_array_equal(apply(images, ("solarize", 0.5)), np.where(images >= 128, 255 - images, images))
    np.testing.assert_array_equal(apply(images, ("posterize", 3)), images // 8 * 8)


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_autocontrast_of_any_values(strength):
    images = 40 + 0.5 * picture(count=3)
    low, high = images.min((1, 2), keepdims=True), images.max((1, 2), keepdims=True)
    stretched = 255 * (images - low) / (high - low)
    expected = (1 - strength) * images + strength * stretched
    np.testing.assert_allclose(apply(images, ("autocontrast", strength)), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_equalize_of_any_values(strength):
    images = 40 + 0.1 * picture(count=3)
    expected = np.empty_like(images)
    for image, even in zip(images, expected, strict=True):
        for channel in range(3):
            level = np.floor(image[..., channel] + 0.5)
            darker = (level[..., None] > level.ravel()).sum(axis=-1)
            even[..., channel] = 255 * darker / (level.size - (level == level.max()).sum())
    actual = apply(images, ("equalize", strength))
    np.testing.assert_allclose(actual, (1 - strength) * images + strength * expected, rtol=0, atol=1e-3)


def test_three_equalized_values_are_known():
    # 10 and 20 are darker than 30.4 and 29.6, which count as one: 0 of 2, 1 of 2, 2 of 2.
    images = np.array([10, 29.6, 30.4, 20], np.float32).reshape(1, 2, 2, 1)
    np.testing.assert_allclose(apply(images, ("equalize", 1.0)).ravel(), [0, 255, 255, 127.5])


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0, 1], [0, 255]), ([3, 9], [0, 255]), ([0, 0, 10, 20], [0, 0, 170, 255]), ([254, 255], [0, 255])],
)
def test_few_equalized_values_are_known(values, expected):
    """A value becomes 255 times the pixels that are darker, of all that are darker than the brightest."""
    images = np.array(values, np.float32).reshape(1, 1, -1, 1)
    np.testing.assert_allclose(apply(images, ("equalize", 1.0)).ravel(), expected)


def test_contrast_of_one_level_is_stretched():
    images = np.array([100, 101, 100.5], np.float32).reshape(1, 1, 3, 1)
    np.testing.assert_allclose(apply(images, ("autocontrast", 1.0)).ravel(), [0, 255, 127.5])


# All operations


def test_the_table_and_the_functions_have_the_same_names():
    assert list(PIXELS_OF) == list(OPERATIONS) == [*sorted(LARGEST, key=lambda name: OPERATIONS[name].code)]
    assert [operation.code for operation in OPERATIONS.values()] == list(range(1, 10))
    assert {name: operation.limit for name, operation in OPERATIONS.items()} == LARGEST


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_strength_of_zero_changes_no_bit(name):
    images = picture()
    np.testing.assert_array_equal(apply(images, (name, 0.0)), images)


@pytest.mark.parametrize("name", ["hue", "saturation", "grayscale"])
def test_operations_of_colors_leave_grey(name):
    images = picture(channels=1)
    np.testing.assert_array_equal(apply(images, (name, LARGEST[name])), images)
    equal = np.repeat(np.round(images), 3, axis=-1)
    np.testing.assert_allclose(apply(equal, (name, LARGEST[name])), equal, atol=1e-4)


@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - {"solarize", "posterize"}))
@pytest.mark.parametrize("value", [0.0, 99.7, 255.0])
def test_an_image_of_one_value_stays(name, value):
    noise = 2e-5 * np.random.default_rng(0).choice([-1, 1], (1, 9, 11, 1))  # as rounding leaves it
    images = np.clip(np.repeat(value + noise, 3, axis=-1), 0, 255).astype(np.float32)
    np.testing.assert_allclose(apply(images, (name, LARGEST[name])), images, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", BOTH_WAYS)
def test_results_are_cut_to_0_and_255(name):
    images = whole_picture(count=2) > 127
    for strength in (-LARGEST[name], LARGEST[name]):
        actual = apply(255 * images.astype(np.float32), (name, strength))
        assert actual.min() >= 0
        assert actual.max() <= 255


@pytest.mark.parametrize("name", OPERATIONS)
def test_images_of_two_rows_or_columns_are_allowed(name):
    for height, width in [(1, 1), (2, 2), (1, 5), (4, 1)]:
        assert np.isfinite(apply(picture(height, width), (name, LARGEST[name]))).all()


def test_operations_follow_one_another():
    images = picture()
    first = apply(images, ("solarize", 0.5))
    np.testing.assert_array_equal(
        apply(images, ("solarize", 0.5), ("sharpness", 1.0)), apply(first, ("sharpness", 1.0))
    )
    assert np.abs(apply(images, ("sharpness", 1.0), ("solarize", 0.5)) - apply(first, ("sharpness", 1.0))).max() > 9


def drawn(count, places=2, seed=3):
    """Codes and strengths of each kind and of none."""
    generator = np.random.default_rng(seed)
    names = [None, *OPERATIONS]
    operation = generator.integers(0, len(names), (count, places)).astype(np.uint8)
    largest = np.array([0.0, *LARGEST.values()])[[0, *(1 + list(LARGEST).index(name) for name in OPERATIONS)]]
    strength = (generator.uniform(0, 1, (count, places)) * largest[operation]).astype(np.float16)
    strength[operation == OPERATIONS["posterize"].code] = 3
    return operation, strength.astype(np.float32)


@tf.function(
    input_signature=[
        tf.TensorSpec((None, None, None, 3)),  # as an affine transform leaves it
        tf.TensorSpec((None, 2), tf.uint8),
        tf.TensorSpec((None, 2)),
    ]
)
def in_a_graph(images, operation, strength):
    """As trainings and the teacher's pass compute it."""
    return apply_operations(images, operation, strength, OPERATIONS)


def test_an_image_does_not_depend_on_its_batch():
    images, (operation, strength) = picture(count=60), drawn(60)
    assert set(operation.ravel()) == {0, *range(1, 10)}
    together = in_a_graph(images, operation, strength).numpy()
    for size in (1, 7):
        batches = [slice(start, start + size) for start in range(0, 60, size)]
        parts = [in_a_graph(images[rows], operation[rows], strength[rows]) for rows in batches]
        np.testing.assert_array_equal(np.concatenate(parts), together)
    assert in_a_graph.get_concrete_function().output_shapes.as_list() == [None, None, None, 3]
    untouched = (operation == 0).all(axis=1)
    assert untouched.any()
    np.testing.assert_array_equal(together[untouched], images[untouched])
    outside_of_a_graph = apply_operations(tf.constant(images), operation, strength, OPERATIONS)
    np.testing.assert_allclose(outside_of_a_graph, together, rtol=0, atol=1e-3)


def test_codes_of_no_operation_change_nothing():
    images, codes = picture(count=3), np.array([[10], [77], [255]], np.uint8)
    np.testing.assert_array_equal(
        apply_operations(tf.constant(images), codes, np.ones((3, 1), np.float32), OPERATIONS), images
    )


def test_operations_that_are_not_used_change_nothing():
    images, (operation, strength) = picture(count=60), drawn(60, places=1)
    changed = apply_operations(tf.constant(images), operation, strength, {"sharpness"}).numpy() != images
    np.testing.assert_array_equal(changed.any(axis=(1, 2, 3)), operation[:, 0] == OPERATIONS["sharpness"].code)


# How strengths are drawn

UNIFORM = np.array([0.0, 0.25, 0.5, 0.9])


@pytest.mark.parametrize("name", BOTH_WAYS)
def test_strengths_either_way(name):
    np.testing.assert_allclose(OPERATIONS[name].draw(UNIFORM, 0.5), [-0.5, -0.25, 0.0, 0.4])


@pytest.mark.parametrize("name", ["blur", "solarize"])
def test_strengths_up_to_the_largest(name):
    np.testing.assert_allclose(OPERATIONS[name].draw(UNIFORM, 0.1), [0.0, 0.025, 0.05, 0.09])


@pytest.mark.parametrize("name", ["grayscale", "autocontrast", "equalize"])
def test_strengths_that_are_fixed(name):
    np.testing.assert_array_equal(OPERATIONS[name].draw(UNIFORM, 0.5), [0.5] * 4)


def test_posterize_drops_0_to_all_bits_with_equal_chances():
    uniform = np.arange(800) / 800
    np.testing.assert_array_equal(np.bincount(OPERATIONS["posterize"].draw(uniform, 7.0).astype(int)), [100] * 8)
    assert OPERATIONS["posterize"].draw(np.array([1 - 2**-53]), 7.0) == 7
    assert OPERATIONS["posterize"].draw(np.array([1 - 2**-53]), 3.6) == 4


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_randaugments_strengths_are_allowed(operation):
    assert 0 < operation.at_magnitude_10 <= operation.limit


# Erasing and mixing


def inside(box, height, width):
    """In exact fractions, as the document says."""
    left, top, right, bottom = map(Fraction, map(float, np.float16(box)))
    centre = [[Fraction(2 * j + 1, n) - 1 for j in range(n)] for n in (height, width)]
    return np.array([[left <= x < right and top <= y < bottom for x in centre[1]] for y in centre[0]])


BOXES = [
    (-1, -1, 1, 1), (-0.5, -0.25, 0.5, 0.75), (0.125, -1, 0.375, 0.2), (-1.5, -0.3, -0.9, 2), (0.3, 0.3, 0.3, 0.9),
    (0.5, -1, -0.5, 1), (0.01, 0.01, 0.02, 0.02), EMPTY,
]  # fmt: skip


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 5), (28, 28), (1, 3)])
def test_a_box_holds_the_pixels_whose_centres_it_holds(height, width):
    images = np.repeat(picture(height, width), len(BOXES), axis=0)
    actual = erase(tf.constant(images), np.array(BOXES, np.float16)).numpy()
    for image, erased, box in zip(images, actual, BOXES, strict=True):
        np.testing.assert_array_equal(erased, np.where(inside(box, height, width)[..., None], 127.5, image))


def test_left_and_top_edge_belong_to_a_box():
    # Four columns have their centres at -0.75, -0.25, 0.25 and 0.75.
    erased = erase(tf.zeros((1, 1, 4, 1)), [[-0.25, -1.0, 0.75, 1.0]]).numpy().ravel()
    np.testing.assert_array_equal(erased, [0, 127.5, 127.5, 0])


def test_mixup_is_the_weighted_mean_of_two_images():
    images, partners = picture(count=3), picture(count=3, seed=1)
    share = np.array([0.25, 0.5, 0.9], np.float16)
    weight = share.astype(np.float64)[:, None, None, None]
    actual = mix(tf.constant(images), tf.constant(partners), share, np.array([EMPTY] * 3, np.float16))
    np.testing.assert_allclose(actual, weight * images + (1 - weight) * partners, rtol=0, atol=1e-4)


@pytest.mark.parametrize("box", [EMPTY, (0.5, -1, -0.5, 1), (-1, 0.25, 1, 0.25), (0.25, -1, 0.25, 1)])
def test_every_empty_box_means_mixup(box):
    images, partners = picture(), picture(seed=1)
    actual = mix(tf.constant(images), tf.constant(partners), [0.5], [box])
    np.testing.assert_allclose(actual, (images + partners) / 2, rtol=0, atol=1e-4)


def test_cutmix_shows_the_partner_in_the_box():
    images, partners = picture(8, 8), picture(8, 8, seed=1)
    actual = mix(tf.constant(images), tf.constant(partners), [0.9], [[-0.5, 0.0, 0.25, 1.0]]).numpy()
    expected = images.copy()
    expected[:, 4:, 2:5] = partners[:, 4:, 2:5]
    np.testing.assert_array_equal(actual, expected)


def test_a_view_that_is_not_mixed_keeps_its_bits():
    images, partners = picture(count=2), picture(count=2, seed=1)
    actual = mix(tf.constant(images), tf.constant(partners), [1.0, 0.5], [EMPTY, EMPTY]).numpy()
    np.testing.assert_array_equal(actual[0], images[0])
    assert (actual[1] != images[1]).all()


def test_the_box_is_the_same_place_at_every_size():
    box = [[-0.5, -0.5, 0.5, 0.5]]
    for side in (4, 8, 64):
        erased = erase(tf.zeros((1, side, side, 1)), box).numpy()
        assert (erased > 0).mean() == 0.25
