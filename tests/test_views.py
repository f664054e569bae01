"""Views: the random words, the transforms sampled from them, and what is recorded of them."""

import json
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from philox_by_hand import fractions_by_hand, philox_4x64, words_by_hand

from pipeline.images import sampling
from pipeline.images.augmentation import Augmentation, Erasing, Mixing, Operations
from pipeline.images.random_words import philox_words
from pipeline.images.resize import DEFAULT_RESIZE, Resize, rendering_of
from pipeline.images.transforms import IDENTITY, SAME_COLOR
from pipeline.images.views import UNTOUCHED, Views

ROOT = Path(__file__).parents[1]
MOVES = Augmentation(
    horizontal_flip=True, vertical_flip=True, rotation=0.2, translation=0.1, shear=20.0, zoom=0.3, fill_mode="nearest"
)
CROP = Augmentation(
    crop_area=(0.2, 0.5), crop_aspect_ratio=(0.75, 4 / 3)
)  # no side reaches 1: sqrt(0.5 * 4 / 3) = 0.82
COLOR = Augmentation(brightness=0.2, contrast=0.4, channel_gain=0.1)
EVERYTHING = replace(
    MOVES, crop_area=(0.2, 1.0), crop_aspect_ratio=(0.5, 2.0), brightness=0.2, contrast=0.4, channel_gain=0.1
)
SAMPLES = 2000
# Dvoretzky, Kiefer, Wolfowitz: 2,000 uniform samples go beyond it with probability 2 exp(-2 * 2000 * 0.06^2) = 1e-6.
UNEVEN = 0.06
IDS = [f"MHIST_{number:05}.png" for number in range(SAMPLES)]


def rotation(angle):
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def window_by_hand(fractions, area, aspect_ratio):
    """(left, top, width, height) of the crop, as fractions of the image's sides."""
    share = area[0] + (area[1] - area[0]) * fractions[7]
    ratio = aspect_ratio[0] * (aspect_ratio[1] / aspect_ratio[0]) ** fractions[8]
    width, height = min(1.0, math.sqrt(share * ratio)), min(1.0, math.sqrt(share / ratio))
    return (1 - width) * fractions[9], (1 - height) * fractions[10], width, height


def decompose(affine):
    """(flip x, flip y, angle, shear, scale, shift) of a transform without crop, its angle below a quarter turn."""
    matrix = np.asarray(affine, np.float64).reshape(2, 3)
    forward = np.linalg.inv(matrix[:, :2])  # image to view: rotation @ shear @ scale @ flip
    flip_x = np.sign(forward[0, 0])
    flip_y = np.sign(np.linalg.det(forward)) * flip_x
    scale = np.hypot(*forward[:, 0])
    angle = math.atan2(flip_x * forward[1, 0], flip_x * forward[0, 0])
    sheared = rotation(-angle) @ forward[:, 1] * flip_y / scale
    return flip_x, flip_y, angle, math.atan2(sheared[0], sheared[1]), scale, -forward @ matrix[:, 2]


def sample_views(augmentation, seed, ids, number):
    """The affine and the color transforms of one view of each image."""
    transforms = sampling.sample_views(augmentation, seed, ids, number)
    return transforms.affine, transforms.color


def sample_view(augmentation, seed, image_id, number):
    """The affine and the color transform of one view."""
    transforms = sampling.sample_view(augmentation, seed, image_id, number)
    return transforms.affine, transforms.color


def sampled_parts(augmentation, count=SAMPLES):
    affines, _ = sample_views(augmentation, 3, IDS[:count], 0)
    return [np.array(part) for part in zip(*map(decompose, affines), strict=True)]


def windows(augmentation):
    """(width, height, x, y) of many crops: their sides as fractions, their centres in normalised coordinates."""
    affines, _ = sample_views(augmentation, 3, IDS, 0)
    a, b, tx, c, d, ty = affines.astype(np.float64).T
    assert not b.any()
    assert not c.any()
    return a, d, tx, ty


def colors(augmentation):
    """(2000, 3) gains and (2000, 3) biases."""
    _, transforms = sample_views(augmentation, 3, IDS, 0)
    return np.split(transforms.astype(np.float64), 2, axis=1)


def unevenness(values, lowest, highest):
    """Kolmogorov's distance of the values' distribution from the even one."""
    fractions = (np.sort(values) - lowest) / (highest - lowest)
    steps = np.arange(len(values) + 1) / len(values)
    return max((steps[1:] - fractions).max(), (fractions - steps[:-1]).max())


def bits(affine_and_color):
    return tuple(transform.tobytes() for transform in affine_and_color)


# The random words


def test_philox_reference_gives_the_published_answer():
    # kat_vectors of Random123: philox4x64, 10 rounds, counter and key zero.
    assert [f"{word:016x}" for word in philox_4x64([0] * 4, [0] * 2)] == [
        "16554d9eca36314c",
        "db20fe9d672d0fdc",
        "d7e772cee186176b",
        "7e68b68aec7ba23b",
    ]


@pytest.mark.parametrize("key", [(7, "MHIST_aaa", 0), (0, "é", 3), (7,), (2**63, "a b/c", 10**9)])
def test_words_are_philox_keyed_by_the_digest(key):
    words = philox_words(9, *key)
    assert words.dtype == np.uint64
    assert words.tolist() == words_by_hand(9, *key)


@pytest.mark.parametrize(
    ("key", "first"),
    [
        ((7, "MHIST_aaa", 0), [0xE938B0FC732AA6F4, 0xD402ED1122FCA152, 0x6841A152C5DB19F5, 0x4C74BFAF0919EB95]),
        ((0, "é", 3), [0x44AA3328A6043BAB, 0x00D472589BF542B7, 0x71077F02006630E6, 0x7C0A002EC92104E3]),
    ],
)
def test_words_never_change(key, first):
    assert philox_words(4, *key).tolist() == first


def test_more_words_begin_with_the_same_words():
    np.testing.assert_array_equal(philox_words(40, 1, "a")[:3], philox_words(3, 1, "a"))


def test_parts_of_a_key_do_not_run_together():
    keys = [(1, "11", 1), (11, "1", 1), (1, "1", 11), (111, "1"), (1, "111"), (1, "1 1", 1)]
    assert len({philox_words(1, *key)[0] for key in keys}) == len(keys)


def test_words_leave_numpys_global_state_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    philox_words(5, 1, "a")
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


# The sample


@pytest.mark.parametrize(
    ("augmentation", "seed", "image_id", "number", "expected"),
    [
        (MOVES, 7, "MHIST_aaa.png", 0, [0.6792, -0.541, -0.06964, -0.5117, -0.7007, 0.0131]),
        (MOVES, 7, "MHIST_aaa.png", 1, [-1.0215, 0.16174, -0.17957, -0.23645, -1.004, -0.1007]),
        (MOVES, 123, "图像-é.png", 0, [0.6216, 0.5806, 0.012115, -0.4473, 0.706, -0.04395]),
        (CROP, 7, "MHIST_aaa.png", 0, [0.6826, 0, -0.284, 0, 0.5757, -0.1273]),
        (CROP, 7, "MHIST_aaa.png", 1, [0.497, 0, -0.342, 0, 0.512, -0.0419]),
        (CROP, 123, "图像-é.png", 0, [0.555, 0, 0.2668, 0, 0.663, -0.03976]),
    ],
)
def test_transforms_never_change(augmentation, seed, image_id, number, expected):
    affine, color = sample_view(augmentation, seed, image_id, number)
    assert affine.dtype == np.float16
    # At most to the neighbouring float16 number: another machine's sine may change a rounding.
    np.testing.assert_array_max_ulp(affine, np.array(expected, np.float16), maxulp=1)
    assert color.tobytes() == SAME_COLOR.tobytes()


@pytest.mark.parametrize(
    ("seed", "image_id", "number", "expected_affine", "expected_color"),
    [
        (
            7,
            "MHIST_aaa.png",
            0,
            [0.679, -0.541, -0.06964, -0.3523, -0.4822, -0.0845],
            [1.425, 1.255, 1.23, -0.08075, -0.0598, -0.05676],
        ),
        (
            7,
            "MHIST_aaa.png",
            1,
            [-0.5796, 0.0918, -0.3962, -0.1442, -0.6123, -0.0949],
            [1.267, 1.27, 1.478, -0.077, -0.0774, -0.10535],
        ),
        (
            123,
            "图像-é.png",
            0,
            [0.4045, 0.378, 0.2177, -0.446, 0.704, -0.04416],
            [1.234, 1.231, 1.161, -0.2515, -0.2512, -0.2456],
        ),
    ],
)
def test_transforms_with_everything_on_never_change(seed, image_id, number, expected_affine, expected_color):
    affine, color = sample_view(EVERYTHING, seed, image_id, number)
    assert (affine.dtype, color.dtype) == (np.float16, np.float16)
    np.testing.assert_array_max_ulp(affine, np.array(expected_affine, np.float16), maxulp=1)
    # Sums and products alone, which IEEE 754 fixes to the last bit.
    np.testing.assert_array_equal(color, np.array(expected_color, np.float16))


def test_a_transform_undoes_all_its_parts():
    """The definition, forwards: a point of the image is cropped, flipped, zoomed, sheared, rotated, then shifted."""
    for number in range(25):
        fractions = fractions_by_hand(5, "a.png", number)
        left, top, width, height = window_by_hand(fractions, (0.2, 1.0), (0.5, 2.0))
        flip = np.diag([-1.0 if fractions[0] < 0.5 else 1.0, -1.0 if fractions[1] < 0.5 else 1.0])
        angle = (2 * fractions[2] - 1) * 0.2 * 2 * math.pi
        shear = np.array([[1.0, math.tan((2 * fractions[3] - 1) * math.radians(20.0))], [0.0, 1.0]])
        scale = 1 + (2 * fractions[4] - 1) * 0.3
        turned = np.eye(3)
        turned[:2, :2] = rotation(angle) @ shear * scale @ flip
        # A fraction of the side, which is 2 long.
        turned[:2, 2] = [(2 * fractions[5] - 1) * 0.1 * 2, (2 * fractions[6] - 1) * 0.1 * 2]
        # The crop takes its left edge to -1 and its right edge to 1.
        centre = [2 * left + width - 1, 2 * top + height - 1]
        cropped = np.array([[1 / width, 0, -centre[0] / width], [0, 1 / height, -centre[1] / height], [0, 0, 1]])
        expected = np.linalg.inv(turned @ cropped)[:2].reshape(6)
        actual, _ = sample_view(EVERYTHING, 5, "a.png", number)
        np.testing.assert_allclose(actual.astype(np.float64), expected, rtol=2.0**-10, atol=1e-7)


def test_one_kind_of_change_does_not_move_another():
    # Each number has its own word: switching the zoom on leaves the sampled angle and shift as they were.
    turned = decompose(sample_view(Augmentation(rotation=0.1), 1, "a.png", 0)[0])
    both = decompose(sample_view(Augmentation(rotation=0.1, zoom=0.2, horizontal_flip=True), 1, "a.png", 0)[0])
    assert both[2] == pytest.approx(turned[2], abs=2e-3)
    assert both[4] != pytest.approx(1.0, abs=1e-3)


def test_affine_and_color_do_not_move_each_other():
    affines, same_colors = sample_views(replace(EVERYTHING, brightness=0, contrast=0, channel_gain=0), 1, IDS[:50], 0)
    untouched, changed = sample_views(COLOR, 1, IDS[:50], 0)
    both = sample_views(EVERYTHING, 1, IDS[:50], 0)
    assert bits(both) == (affines.tobytes(), changed.tobytes())
    assert bits((untouched, same_colors)) == (IDENTITY.tobytes() * 50, SAME_COLOR.tobytes() * 50)


def test_sampled_numbers_are_even_over_their_ranges():
    # A number below 2 rounds to float16 with an error of at most 2^-11: hence the 3e-3 on derived numbers.
    flip_x, flip_y, angle, shear, scale, shift = sampled_parts(MOVES)
    limits = [
        (angle / (2 * math.pi), 0.2, 3e-3),
        (np.degrees(shear), 20.0, math.degrees(3e-3)),
        (scale - 1, 0.3, 3e-3),
        (shift[:, 0] / 2, 0.1, 3e-3),
        (shift[:, 1] / 2, 0.1, 3e-3),
    ]
    for values, limit, rounding in limits:
        assert np.abs(values).max() <= limit + rounding
        # Uniform: no sample in the outermost 1 % on a side has probability 0.995^2000 = 4e-5.
        assert values.max() >= 0.99 * limit - rounding
        assert values.min() <= -0.99 * limit + rounding
        assert unevenness(values, -limit, limit) <= UNEVEN
    for flips in (flip_x, flip_y):
        assert set(flips) == {-1.0, 1.0}
        assert abs(np.mean(flips)) <= 5 / math.sqrt(SAMPLES)
    parts = np.array([flip_x, flip_y, angle, shear, scale, shift[:, 0], shift[:, 1]])
    # Independent of each other: a correlation of independent numbers has the deviation 1 / sqrt(2000).
    assert np.abs(np.corrcoef(parts) - np.eye(7)).max() <= 5 / math.sqrt(SAMPLES)


@pytest.mark.parametrize(
    ("augmentation", "free"),
    [
        (Augmentation(horizontal_flip=True), {"flip_x"}),
        (Augmentation(vertical_flip=True), {"flip_y"}),
        (Augmentation(rotation=0.2), {"angle"}),
        (Augmentation(shear=20.0), {"shear"}),
        (Augmentation(zoom=0.3), {"scale"}),
        (Augmentation(translation=0.1), {"shift_x", "shift_y"}),
    ],
)
def test_what_is_not_named_is_off(augmentation, free):
    flip_x, flip_y, angle, shear, scale, shift = sampled_parts(augmentation, 100)
    parts = {
        "flip_x": flip_x - 1,
        "flip_y": flip_y - 1,
        "angle": angle,
        "shear": shear,
        "scale": scale - 1,
        "shift_x": shift[:, 0],
        "shift_y": shift[:, 1],
    }
    assert {name for name, values in parts.items() if np.abs(values).max() > 3e-3} == free


def test_a_half_turn_either_way_reaches_every_angle():
    affines, _ = sample_views(Augmentation(rotation=0.5), 1, IDS[:400], 0)
    a, b, *_ = affines.astype(np.float64).T
    angles = np.arctan2(b, a)
    counts, _ = np.histogram(angles, bins=8, range=(-math.pi, math.pi))
    # 400 samples in 8 bins: 50 each, deviation sqrt(400 * 1/8 * 7/8) = 6.6; five of them.
    assert np.abs(counts - 50).max() <= 33


# The crop


def test_a_crop_is_the_window_of_its_words():
    """Its left and top edge, width and height are computed by hand; some are cut to the image's side."""
    area, aspect_ratio = (0.3, 1.0), (0.5, 2.0)
    for number in range(25):
        left, top, width, height = window_by_hand(fractions_by_hand(5, "a.png", number), area, aspect_ratio)
        expected = [width, 0, 2 * left + width - 1, 0, height, 2 * top + height - 1]
        actual, _ = sample_view(Augmentation(crop_area=area, crop_aspect_ratio=aspect_ratio), 5, "a.png", number)
        np.testing.assert_allclose(actual.astype(np.float64), expected, rtol=2.0**-11, atol=1e-7)


@pytest.mark.parametrize(
    ("crop_area", "crop_aspect_ratio"),
    [((0.2, 0.5), (0.75, 4 / 3)), ((0.01, 1.0), (1.0, 1.0)), ((0.08, 1.0), (0.1, 10.0)), ((1.0, 1.0), (0.25, 4.0))],
)
def test_a_crop_lies_within_the_image(crop_area, crop_aspect_ratio):
    width, height, x, y = windows(Augmentation(crop_area=crop_area, crop_aspect_ratio=crop_aspect_ratio))
    rounding = 2.0**-11  # 2^-12 for the side and as much for the centre, both below 1
    for side, centre in [(width, x), (height, y)]:
        assert (side > 0).all()
        # The view's edges, -1 and 1, show the points centre - side and centre + side.
        assert (centre - side).min() >= -1 - rounding
        assert (centre + side).max() <= 1 + rounding


def test_areas_and_aspect_ratios_and_places_of_crops_are_even():
    width, height, x, y = windows(CROP)
    area, log_ratio = width * height, np.log(width / height)
    # Each side rounds by at most 2^-11 of itself.
    assert 0.2 * (1 - 2.0**-10) <= area.min() < 0.203
    assert 0.497 < area.max() <= 0.5 * (1 + 2.0**-10)
    assert -math.log(4 / 3) - 2.0**-10 <= log_ratio.min() < -0.99 * math.log(4 / 3)
    assert 0.99 * math.log(4 / 3) < log_ratio.max() <= math.log(4 / 3) + 2.0**-10
    place_x, place_y = x / (1 - width), y / (1 - height)
    assert unevenness(area, 0.2, 0.5) <= UNEVEN
    assert unevenness(log_ratio, -math.log(4 / 3), math.log(4 / 3)) <= UNEVEN
    assert unevenness(place_x, -1, 1) <= UNEVEN
    assert unevenness(place_y, -1, 1) <= UNEVEN
    parts = np.array([area, log_ratio, place_x, place_y])
    assert np.abs(np.corrcoef(parts) - np.eye(4)).max() <= 5 / math.sqrt(SAMPLES)


def test_a_side_longer_than_the_images_is_cut_to_it():
    # The whole area at another shape: the longer side is the image's own, the shorter one the root of the ratio.
    width, height, x, y = windows(Augmentation(crop_aspect_ratio=(0.25, 4.0)))
    assert (np.maximum(width, height) == 1).all()
    # A side that just rounds to 1 may leave a place of up to 2^-12.
    assert np.abs(x[width == 1]).max() <= 2.0**-12
    assert np.abs(y[height == 1]).max() <= 2.0**-12
    # log width - log height is even from -log 2 to log 2: half of log 1/4 to log 4.
    assert unevenness(np.log(width / height), -math.log(2), math.log(2)) <= UNEVEN


def test_an_area_of_one_number_is_that_area():
    width, height, x, y = windows(Augmentation(crop_area=(0.25, 0.25)))
    assert (width == 0.5).all()
    assert (height == 0.5).all()
    assert unevenness(x, -0.5, 0.5) <= UNEVEN
    assert unevenness(y, -0.5, 0.5) <= UNEVEN


def test_a_flip_mirrors_what_the_crop_shows():
    cropped, _ = sample_views(CROP, 1, IDS[:50], 0)
    flipped, _ = sample_views(replace(CROP, horizontal_flip=True), 1, IDS[:50], 0)
    mirrored = flipped[:, 0] < 0
    assert 0 < mirrored.sum() < 50
    np.testing.assert_array_equal(flipped[~mirrored], cropped[~mirrored])
    np.testing.assert_array_equal(flipped[mirrored], cropped[mirrored] * np.float16([-1, 1, 1, 1, 1, 1]))


# The colors


def test_no_zero_of_a_transform_has_a_sign():
    """Or equal views would have other bytes."""
    flips = Augmentation(horizontal_flip=True, vertical_flip=True)
    affine = sampling.sample_views(flips, 1, IDS[:100], 0).affine
    assert len(np.unique(affine, axis=0)) == 4
    assert not np.signbit(affine[affine == 0]).any()


def test_a_color_is_contrast_then_channel_gain_then_brightness():
    """The definition, of values from 0 to 1; a gain and a bias are its slope and its value at 0."""
    for number in range(25):
        either_way = [2 * fraction - 1 for fraction in fractions_by_hand(5, "a.png", number)[11:]]
        contrast = 1 + 0.4 * either_way[1]
        black, white = ([], [])
        for channel in either_way[2:]:
            dark, bright = ((value - 0.5) * contrast + 0.5 for value in (0.0, 1.0))
            black.append(dark * (1 + 0.1 * channel) + 0.2 * either_way[0])
            white.append(bright * (1 + 0.1 * channel) + 0.2 * either_way[0])
        expected = [*np.subtract(white, black), *black]
        _, actual = sample_view(COLOR, 5, "a.png", number)
        np.testing.assert_allclose(actual.astype(np.float64), expected, rtol=2.0**-10, atol=1e-7)


def test_brightness_adds_the_same_to_every_channel():
    gains, biases = colors(Augmentation(brightness=0.2))
    assert (gains == 1).all()
    assert (biases == biases[:, :1]).all()
    assert np.abs(biases).max() <= 0.2 + 2.0**-13
    assert unevenness(biases[:, 0], -0.2, 0.2) <= UNEVEN


def test_contrast_keeps_mid_grey():
    gains, biases = colors(Augmentation(contrast=0.4))
    assert (gains == gains[:, :1]).all()
    assert np.abs(gains - 1).max() <= 0.4 + 2.0**-11
    assert unevenness(gains[:, 0], 0.6, 1.4) <= UNEVEN
    # 0.5 gain + bias = 0.5. A gain up to 2 rounds by 2^-11 and counts half, a bias up to 1/4 rounds by 2^-13.
    assert np.abs(0.5 * gains + biases - 0.5).max() <= 2.0**-12 + 2.0**-13


def test_channel_gain_keeps_black_and_is_each_channels_own():
    gains, biases = colors(Augmentation(channel_gain=0.1))
    assert not biases.any()
    assert np.abs(gains - 1).max() <= 0.1 + 2.0**-11
    for channel in range(3):
        assert unevenness(gains[:, channel], 0.9, 1.1) <= UNEVEN
    assert np.abs(np.corrcoef(gains.T) - np.eye(3)).max() <= 5 / math.sqrt(SAMPLES)


# What a sample depends on


def test_a_sample_depends_on_its_key_alone():
    ids = IDS[:50]
    together = sample_views(EVERYTHING, 9, ids, 4)
    backwards = sample_views(EVERYTHING, 9, ids[::-1], 4)
    some = sample_views(EVERYTHING, 9, ids[17:21], 4)
    for kind in range(2):
        assert (together[kind].shape, together[kind].dtype) == ((50, 6), np.float16)
        np.testing.assert_array_equal(backwards[kind][::-1], together[kind])
        np.testing.assert_array_equal(some[kind], together[kind][17:21])
        for row in (49, 0, 23):
            np.testing.assert_array_equal(sample_view(EVERYTHING, 9, ids[row], 4)[kind], together[kind][row])


@pytest.mark.parametrize("augmentation", [EVERYTHING, Augmentation()])
def test_no_images_have_no_samples(augmentation):
    affines, sampled_colors = sample_views(augmentation, 9, [], 4)
    assert affines.shape == sampled_colors.shape == (0, 6)
    assert affines.dtype == sampled_colors.dtype == np.float16


def test_threads_sample_what_one_samples():
    ids = IDS[:400]
    alone = [bits(sample_view(EVERYTHING, 9, image_id, 4)) for image_id in ids]
    with ThreadPoolExecutor(8) as threads:
        together = threads.map(lambda image_id: bits(sample_view(EVERYTHING, 9, image_id, 4)), ids)
        assert list(together) == alone


ANOTHER_PROCESS = """
from pipeline.images.augmentation import Augmentation
from pipeline.images.sampling import sample_views
sampled = sample_views({augmentation}, 9, {ids}, 4)
for transforms in (sampled.affine, sampled.color):
    print(transforms.tobytes().hex())
"""


@pytest.mark.slow
def test_another_process_samples_the_same():
    program = ANOTHER_PROCESS.format(augmentation=EVERYTHING, ids=IDS[:50])
    finished = subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, capture_output=True, text=True)
    here = sample_views(EVERYTHING, 9, IDS[:50], 4)
    assert finished.stdout.split() == [transforms.tobytes().hex() for transforms in here]


def test_another_seed_image_or_number_is_another_sample():
    keys = [
        (seed, image_id, number) for seed in (0, 1) for image_id in ("a.png", "b.png", "A.png") for number in (0, 1, 2)
    ]
    affines, sampled_colors = zip(*(bits(sample_view(EVERYTHING, *key)) for key in keys), strict=True)
    assert len(set(affines)) == len(set(sampled_colors)) == len(keys)


@pytest.mark.slow
def test_views_import_no_tensorflow():
    program = "import sys, pipeline.images.views; print({'tensorflow', 'keras'} & set(sys.modules))"
    finished = subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, capture_output=True, text=True)
    assert finished.stdout.strip() == "set()"


# Whether there is anything to sample


@pytest.mark.parametrize("fill_mode", ["reflect", "nearest", "constant"])
def test_nothing_named_is_the_identity(fill_mode):
    augmentation = Augmentation(fill_mode=fill_mode)
    assert (augmentation.is_identity, augmentation.moves, augmentation.recolors) == (True, False, False)
    affines, sampled_colors = sample_views(augmentation, 1, ["a.png", "b.png", "c.png"], 2)
    assert affines.dtype == sampled_colors.dtype == np.float16
    assert affines.tolist() == [[1, 0, 0, 0, 1, 0]] * 3
    assert sampled_colors.tolist() == [[1, 1, 1, 0, 0, 0]] * 3
    assert bits(sample_view(augmentation, 1, "a.png", 2)) == bits((IDENTITY, SAME_COLOR))


@pytest.mark.parametrize(
    ("change", "moves", "recolors"),
    [
        ({"horizontal_flip": True}, True, False),
        ({"vertical_flip": True}, True, False),
        ({"rotation": 1e-3}, True, False),
        ({"translation": 1e-3}, True, False),
        ({"shear": 1e-3}, True, False),
        ({"zoom": 1e-3}, True, False),
        ({"crop_area": (0.99, 1.0)}, True, False),
        ({"crop_area": (0.99, 0.99)}, True, False),
        ({"crop_aspect_ratio": (0.99, 1.0)}, True, False),
        ({"crop_aspect_ratio": (1.0, 1.01)}, True, False),
        ({"brightness": 1e-3}, False, True),
        ({"contrast": 1e-3}, False, True),
        ({"channel_gain": 1e-3}, False, True),
        ({"zoom": 1e-3, "contrast": 1e-3}, True, True),
        ({"operations": Operations(1, magnitude=1.0)}, False, False),
        ({"erasing": Erasing(0.1)}, False, False),
        ({"mixup": Mixing(1.0, 0.1)}, False, False),
        ({"cutmix": Mixing(1.0, 0.1)}, False, False),
    ],
)
def test_anything_named_moves_or_recolors(change, moves, recolors):
    augmentation = Augmentation(**change)
    assert (augmentation.moves, augmentation.recolors, augmentation.is_identity) == (moves, recolors, False)
    affines, sampled_colors = sample_views(augmentation, 1, IDS[:20], 0)
    assert (affines != IDENTITY).any() == moves
    assert (sampled_colors != SAME_COLOR).any() == recolors


# What is recorded of a set of views


def ranges(smallest, largest):
    ends = st.floats(smallest, largest)
    return st.tuples(ends, ends).map(sorted).map(tuple)


MIXED_VIEWS = st.builds(Mixing, st.floats(0.01, 100), st.floats(0.01, 0.5))
STRENGTHS = st.dictionaries(st.sampled_from(["blur", "solarize", "hue"]), st.floats(0.01, 0.1), min_size=1)
OPERATIONS_OF_VIEWS = st.builds(Operations, st.integers(1, 8), of=STRENGTHS) | st.builds(
    Operations, st.integers(1, 8), magnitude=st.floats(0.5, 10)
)
SETS_OF_VIEWS = st.builds(
    Views,
    count=st.integers(1, 1000),
    seed=st.integers(0, 2**63),
    augmentation=st.builds(
        Augmentation,
        horizontal_flip=st.booleans(),
        vertical_flip=st.booleans(),
        rotation=st.floats(0, 0.5),
        translation=st.floats(0, 1),
        shear=st.floats(0, 60),
        zoom=st.floats(0, 0.9),
        crop_area=st.just((1.0, 1.0)) | ranges(0.01, 1),
        crop_aspect_ratio=st.just((1.0, 1.0)) | ranges(0.1, 10),
        fill_mode=st.sampled_from(["reflect", "nearest", "constant"]),
        brightness=st.floats(0, 1),
        contrast=st.floats(0, 1),
        channel_gain=st.floats(0, 1),
        operations=st.none() | OPERATIONS_OF_VIEWS,
        erasing=st.none() | st.builds(Erasing, st.floats(0.1, 1), ranges(0.01, 1), ranges(0.1, 10)),
        mixup=st.none() | MIXED_VIEWS,
        cutmix=st.none() | MIXED_VIEWS,
    ),
)


def whole(augmentation):
    """With the strengths that a magnitude stands for."""
    operations = augmentation.operations
    if operations is None:
        return augmentation
    return replace(augmentation, operations=Operations(operations.count, of=operations.strengths))


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(views=SETS_OF_VIEWS)
def test_a_set_of_views_outlives_json(views):
    stored = json.loads(json.dumps(views.as_json(), allow_nan=False))
    assert stored == views.as_json()
    again = Views.from_json(stored)
    assert replace(again, augmentation=whole(again.augmentation)) == replace(
        views, augmentation=whole(views.augmentation)
    )
    assert again.as_json() == stored
    assert hash(again) == hash(views)
    off = asdict(Augmentation())
    on = {name for name, value in asdict(views.augmentation).items() if value != off[name]}
    assert set(stored["augmentation"]) == on


@pytest.mark.parametrize(
    ("taken", "refused"),
    [
        ({"crop_area": [0.01, 1.0]}, {"crop_area": [0.0099, 1.0]}),
        ({"crop_area": [0.5, 0.5]}, {"crop_area": [0.5, 0.4999]}),
        ({"crop_area": [1.0, 1.0]}, {"crop_area": [1.0, 1.0001]}),
        ({"crop_aspect_ratio": [0.1, 10.0]}, {"crop_aspect_ratio": [0.0999, 10.0]}),
        ({"crop_aspect_ratio": [10.0, 10.0]}, {"crop_aspect_ratio": [10.0, 10.0001]}),
        ({"operations": {"count": 1, "of": {"hue": 0.5}}}, {"operations": {"count": 1, "of": {"hue": 0.5001}}}),
        ({"operations": {"count": 1, "of": {"hue": 0.0001}}}, {"operations": {"count": 1, "of": {"hue": 0.0}}}),
        ({"operations": {"count": 1, "magnitude": 10.0}}, {"operations": {"count": 1}}),
        (
            {"operations": {"count": 1, "of": {"hue": 0.5}}},
            {"operations": {"count": 1, "magnitude": 1.0, "of": {"hue": 0.5}}},
        ),
        ({"operations": {"count": 1, "of": {"hue": 0.5}}}, {"operations": {"count": 1, "of": {}}}),
        ({"erasing": {"share": 1.0}}, {"erasing": {"share": "1.0"}}),
        (
            {"mixup": {"alpha": 1.0, "share": 0.75}, "cutmix": {"alpha": 1.0, "share": 0.25}},
            {"mixup": {"alpha": 1.0, "share": 0.75}, "cutmix": {"alpha": 1.0, "share": 0.2501}},
        ),
    ],
)
def test_each_range_is_taken_to_its_end_and_no_further(taken, refused):
    described = Augmentation.from_json(taken).as_json()
    assert Augmentation.from_json(described).as_json() == described
    with pytest.raises(ValueError, match=r"expected|at most|names no operation|valid number"):
        Augmentation.from_json(refused)


def test_an_erased_box_is_by_default_that_of_torchvision():
    """`RandomErasing` of torchvision: 2 to 33 % of the area, 0.3 to 3.3 as wide as high."""
    assert Erasing(0.5) == Erasing(0.5, (0.02, 0.33), (0.3, 3.3))


def test_operations_that_are_equal_count_once():
    some = [Operations(2, {"hue": 0.05, "blur": 0.005}), Operations(2, {"blur": 0.005, "hue": 0.05})]
    assert len({*some, Operations(1, {"hue": 0.05, "blur": 0.005})}) == 2


def test_what_is_off_is_left_out():
    augmentation = Augmentation(horizontal_flip=True, zoom=0.25, crop_area=(0.5, 1.0), contrast=0.0)
    assert Views(count=3, seed=5, augmentation=augmentation).as_json() == {
        "count": 3,
        "seed": 5,
        "augmentation": {"horizontal_flip": True, "zoom": 0.25, "crop_area": [0.5, 1.0]},
    }


def test_a_magnitude_is_recorded_as_the_strengths_that_it_means():
    """So a file says all that decides its views, whatever a later version takes a magnitude for."""
    described = Augmentation(operations=Operations(2, magnitude=5.0)).as_json()
    assert list(described["operations"]) == ["count", "of"]
    assert described["operations"]["of"]["posterize"] == 2.0
    assert Augmentation(operations=Operations(2, of=described["operations"]["of"])).as_json() == described


def test_untouched_is_one_view_with_nothing_on():
    assert UNTOUCHED.augmentation.is_identity
    assert UNTOUCHED.as_json() == {"count": 1, "seed": 0, "augmentation": {}}
    assert Views.from_json({"count": 1, "seed": 0, "augmentation": {}}) == UNTOUCHED


def test_a_rendering_is_one_line_that_says_what_decides_pixels():
    views = Views(count=3, seed=5, augmentation=Augmentation(rotation=0.25, crop_area=(0.5, 1.0), fill_mode="constant"))
    text = rendering_of((28, 20, 1), Resize("bicubic", False, "pad"), views)
    assert text == (
        '{"augmentation": {"crop_area": [0.5, 1.0], "fill_mode": "constant", "rotation": 0.25}, "decoder": "Pillow", '
        '"input_shape": [28, 20, 1], "resize": {"antialias": false, "fit": "pad", "method": "bicubic"}, "seed": 5}'
    )


def test_equal_pixels_have_equal_renderings_and_others_do_not():
    moved = Views(count=3, seed=5, augmentation=Augmentation(rotation=0.25))
    text = rendering_of((28, 20, 1), DEFAULT_RESIZE, moved)
    assert rendering_of([28, 20, 1], DEFAULT_RESIZE, replace(moved, count=7)) == text
    others = [
        rendering_of((20, 28, 1), DEFAULT_RESIZE, moved),
        rendering_of((28, 20, 1), replace(DEFAULT_RESIZE, fit="crop"), moved),
        rendering_of((28, 20, 1), DEFAULT_RESIZE, replace(moved, seed=6)),
        rendering_of((28, 20, 1), DEFAULT_RESIZE, replace(moved, augmentation=Augmentation(rotation=0.125))),
    ]
    assert len({text, *others}) == 5
    still = rendering_of((28, 20, 1), DEFAULT_RESIZE, UNTOUCHED)
    assert still == rendering_of((28, 20, 1), DEFAULT_RESIZE, Views(1, 9, Augmentation(fill_mode="nearest")))
    assert json.loads(still)["seed"] is None


@pytest.mark.parametrize(
    ("count", "augmentation", "is_poor"),
    [(1, Augmentation(rotation=0.2), True), (2, Augmentation(rotation=0.2), False), (1, Augmentation(), False)],
)
def test_one_distorted_view_of_each_image_is_advised_against(count, augmentation, is_poor):
    advice = Views(count, 1, augmentation).advice
    assert (advice is not None) == is_poor
    assert not is_poor or advice.startswith("views.count is 1 with an augmentation")
