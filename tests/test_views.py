"""Views: the random words, the transforms drawn from them, and what a transform does to pixels."""

import hashlib
import math

import numpy as np
import pytest

from pipeline.views import IDENTITY, Augmentation, apply_affines, draw_affine, draw_affines, philox_words

EVERYTHING = Augmentation(
    horizontal_flip=True, vertical_flip=True, rotation=0.2, translation=0.1, shear=20.0, zoom=0.3, fill_mode="nearest"
)
PAD_MODE = {"constant": "constant", "nearest": "edge", "reflect": "symmetric"}
DRAWS = 2000


def philox_4x64(counter, key):
    """Ten rounds of Philox-4x64 as published by Salmon et al. (SC 2011), on Python's integers."""
    mask = 2**64 - 1
    c, k = list(counter), list(key)
    for _ in range(10):
        first, second = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
        c = [(second >> 64) ^ c[1] ^ k[0], second & mask, (first >> 64) ^ c[3] ^ k[1], first & mask]
        k = [(k[0] + 0x9E3779B97F4A7C15) & mask, (k[1] + 0xBB67AE8584CAA73B) & mask]
    return c


def words_by_hand(count, *key):
    digest = hashlib.sha256("\0".join(map(str, key)).encode()).digest()
    halves = int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little")
    blocks = [philox_4x64([number, 0, 0, 0], halves) for number in range(1, count // 4 + 2)]
    return [word for block in blocks for word in block][:count]


def rotation(angle):
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def decompose(affine):
    """(flip x, flip y, angle, shear, scale, shift) of a transform whose angle is below a quarter turn."""
    matrix = np.asarray(affine, np.float64).reshape(2, 3)
    forward = np.linalg.inv(matrix[:, :2])  # image to view: rotation @ shear @ scale @ flip
    flip_x = np.sign(forward[0, 0])
    flip_y = np.sign(np.linalg.det(forward)) * flip_x
    scale = np.hypot(*forward[:, 0])
    angle = math.atan2(flip_x * forward[1, 0], flip_x * forward[0, 0])
    sheared = rotation(-angle) @ forward[:, 1] * flip_y / scale
    return flip_x, flip_y, angle, math.atan2(sheared[0], sheared[1]), scale, -forward @ matrix[:, 2]


def draws(augmentation, count=DRAWS):
    affines = draw_affines(augmentation, 3, [f"MHIST_{number:05}.png" for number in range(count)], 0)
    return [np.array(part) for part in zip(*map(decompose, affines), strict=True)]


def picture(height=8, width=8, channels=2, count=1, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (count, height, width, channels)).astype(np.float32)


def apply(images, affine, fill_mode="constant"):
    affines = np.tile(np.asarray(affine, np.float64), (len(images), 1))
    return apply_affines(images, affines, fill_mode).numpy()


def normalised(size):
    """The coordinates of the pixel centres: -1 and 1 are the edges of the image."""
    return (2 * np.arange(size) + 1) / size - 1


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


# The draw


@pytest.mark.parametrize(
    ("seed", "image_id", "number", "expected"),
    [
        (7, "MHIST_aaa.png", 0, [0.6792, -0.541, -0.06964, -0.5117, -0.7007, 0.0131]),
        (7, "MHIST_aaa.png", 1, [-1.0215, 0.16174, -0.17957, -0.23645, -1.004, -0.1007]),
        (123, "图像-é.png", 0, [0.6216, 0.5806, 0.012115, -0.4473, 0.706, -0.04395]),
    ],
)
def test_transforms_never_change(seed, image_id, number, expected):
    affine = draw_affine(EVERYTHING, seed, image_id, number)
    assert affine.dtype == np.float16
    # Neighbouring float16 numbers, no further: another machine's sine may tip a rounding.
    np.testing.assert_array_max_ulp(affine, np.array(expected, np.float16), maxulp=1)


def test_a_transform_undoes_flip_zoom_shear_rotation_and_shift():
    """The definition, forwards: a point of the image is flipped, zoomed, sheared, rotated, then shifted."""
    for number in range(25):
        uniform = [(word >> 11) / 2**53 for word in words_by_hand(7, 5, "a.png", number)]
        flip = np.diag([-1.0 if uniform[0] < 0.5 else 1.0, -1.0 if uniform[1] < 0.5 else 1.0])
        angle = (2 * uniform[2] - 1) * 0.2 * 2 * math.pi
        shear = np.array([[1.0, math.tan((2 * uniform[3] - 1) * math.radians(20.0))], [0.0, 1.0]])
        scale = 1 + (2 * uniform[4] - 1) * 0.3
        # A fraction of the side, which is 2 long.
        shift = [(2 * uniform[5] - 1) * 0.1 * 2, (2 * uniform[6] - 1) * 0.1 * 2]
        forward = np.eye(3)
        forward[:2, :2] = rotation(angle) @ shear * scale @ flip
        forward[:2, 2] = shift
        expected = np.linalg.inv(forward)[:2].reshape(6)
        found = draw_affine(EVERYTHING, 5, "a.png", number)
        np.testing.assert_allclose(found.astype(np.float64), expected, rtol=2.0**-10, atol=1e-7)


def test_a_draw_depends_on_its_key_alone():
    ids = [f"MHIST_{number}.png" for number in range(50)]
    together = draw_affines(EVERYTHING, 9, ids, 4)
    assert (together.shape, together.dtype) == ((50, 6), np.float16)
    np.testing.assert_array_equal(draw_affines(EVERYTHING, 9, ids[::-1], 4)[::-1], together)
    np.testing.assert_array_equal(draw_affines(EVERYTHING, 9, ids[17:21], 4), together[17:21])
    for row in (49, 0, 23):
        np.testing.assert_array_equal(draw_affine(EVERYTHING, 9, ids[row], 4), together[row])


def test_another_seed_image_or_number_is_another_draw():
    keys = [
        (seed, image_id, number) for seed in (0, 1) for image_id in ("a.png", "b.png", "A.png") for number in (0, 1, 2)
    ]
    drawn = {draw_affine(EVERYTHING, *key).tobytes() for key in keys}
    assert len(drawn) == len(keys)


def test_one_kind_of_change_does_not_move_another():
    # Each number has its own word: switching the zoom on leaves the drawn angle and shift as they were.
    turned = decompose(draw_affine(Augmentation(rotation=0.1), 1, "a.png", 0))
    both = decompose(draw_affine(Augmentation(rotation=0.1, zoom=0.2, horizontal_flip=True), 1, "a.png", 0))
    assert both[2] == pytest.approx(turned[2], abs=2e-3)
    assert both[4] != pytest.approx(1.0, abs=1e-3)


def test_ranges_over_many_draws():
    # A number below 2 rounds to float16 with an error of at most 2^-11: hence the 3e-3 on derived numbers.
    flip_x, flip_y, angle, shear, scale, shift = draws(EVERYTHING)
    limits = [
        (angle / (2 * math.pi), 0.2),
        (np.degrees(shear), 20.0),
        (scale - 1, 0.3),
        (shift[:, 0] / 2, 0.1),
        (shift[:, 1] / 2, 0.1),
    ]
    for values, limit in limits:
        rounding = 3e-3 * (180 / math.pi if limit == 20.0 else 1)
        assert np.abs(values).max() <= limit + rounding
        # Uniform: no draw in the outermost 1 % on a side has probability 0.995^2000 = 4e-5.
        assert values.max() >= 0.99 * limit - rounding
        assert values.min() <= -0.99 * limit + rounding
        # A mean of 2,000 uniform numbers from -L to L has the deviation L / sqrt(3 * 2000); five of them.
        assert abs(values.mean()) <= 5 * limit / math.sqrt(3 * DRAWS) + rounding
        # Half of them in the inner half: five deviations of a fair coin.
        assert abs(np.mean(np.abs(values) < limit / 2) - 0.5) <= 5 * 0.5 / math.sqrt(DRAWS) + 0.02
    for flips in (flip_x, flip_y):
        assert set(flips) == {-1.0, 1.0}
        assert abs(np.mean(flips)) <= 5 / math.sqrt(DRAWS)
    parts = np.array([flip_x, flip_y, angle, shear, scale, shift[:, 0], shift[:, 1]])
    # Independent of each other: a correlation of independent numbers has the deviation 1 / sqrt(2000).
    assert np.abs(np.corrcoef(parts) - np.eye(7)).max() <= 5 / math.sqrt(DRAWS)


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
    flip_x, flip_y, angle, shear, scale, shift = draws(augmentation, 100)
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
    affines = draw_affines(Augmentation(rotation=0.5), 1, [str(number) for number in range(400)], 0).astype(np.float64)
    angles = np.arctan2(affines[:, 1], affines[:, 0])
    counts, _ = np.histogram(angles, bins=8, range=(-math.pi, math.pi))
    # 400 draws in 8 bins: 50 each, deviation sqrt(400 * 1/8 * 7/8) = 6.6; five of them.
    assert np.abs(counts - 50).max() <= 33


# Whether there is anything to draw


@pytest.mark.parametrize("fill_mode", ["reflect", "nearest", "constant"])
def test_nothing_named_is_the_identity(fill_mode):
    augmentation = Augmentation(fill_mode=fill_mode)
    assert augmentation.is_identity
    affines = draw_affines(augmentation, 1, ["a.png", "b.png", "c.png"], 2)
    assert affines.dtype == np.float16
    assert affines.tolist() == [[1, 0, 0, 0, 1, 0]] * 3
    np.testing.assert_array_equal(draw_affine(augmentation, 1, "a.png", 2), IDENTITY)


@pytest.mark.parametrize(
    "change",
    [
        {"horizontal_flip": True},
        {"vertical_flip": True},
        {"rotation": 1e-3},
        {"translation": 1e-3},
        {"shear": 1e-3},
        {"zoom": 1e-3},
    ],
)
def test_anything_named_is_not_the_identity(change):
    assert not Augmentation(**change).is_identity


# What a transform does to pixels


@pytest.mark.parametrize("shape", [(8, 8), (5, 7), (28, 28), (1, 3)])
@pytest.mark.parametrize("fill_mode", PAD_MODE)
def test_the_identity_changes_no_bit(shape, fill_mode):
    images = picture(*shape, channels=3, count=2)
    np.testing.assert_array_equal(apply(images, IDENTITY, fill_mode), images)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float16, np.float64])
def test_any_number_becomes_float32(dtype):
    images = picture().round().astype(dtype)
    found = apply(images, IDENTITY)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, images.astype(np.float32))


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


def shifted_and_expected(fill_mode, right, down):
    """A 4 x 8 picture shifted by whole pixels, 2 k / size each in normalised coordinates, exact in binary."""
    images = picture(4, 8)
    padded = np.pad(images, [(0, 0), (16, 16), (16, 16), (0, 0)], PAD_MODE[fill_mode])
    found = apply(images, [1, 0, 2 * right / 8, 0, 1, 2 * down / 4], fill_mode)
    return found, padded[:, 16 + down : 20 + down, 16 + right : 24 + right]


@pytest.mark.parametrize("fill_mode", PAD_MODE)
@pytest.mark.parametrize(("right", "down"), [(1, 0), (0, 1), (-3, 2), (6, -2)])
def test_whole_pixel_shifts_equal_padded_arrays(fill_mode, right, down):
    found, expected = shifted_and_expected(fill_mode, right, down)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("fill_mode", ["constant", "nearest", "reflect"])
@pytest.mark.parametrize(("right", "down"), [(-7, 0), (5, -4), (8, 8), (-11, 0)])
def test_whole_pixel_shifts_of_about_a_picture_equal_padded_arrays(fill_mode, right, down):
    found, expected = shifted_and_expected(fill_mode, right, down)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("fill_mode", ["constant", "nearest", "reflect"])
def test_half_a_pixel_beyond_the_edge_is_interpolated(fill_mode):
    # Columns 10, 20, 30, 50 shifted by half a pixel: column 0 lies between what is left of the edge and 10.
    images = np.array([10.0, 20.0, 30.0, 50.0]).reshape(1, 1, 4, 1)
    found = apply(images, [1, 0, -0.25, 0, 1, 0], fill_mode)
    beyond = {"constant": 0.0, "nearest": 10.0, "reflect": 10.0}[fill_mode]
    np.testing.assert_array_equal(found.ravel(), [(beyond + 10) / 2, 15.0, 25.0, 40.0])


def test_halving_the_coordinates_magnifies_twice():
    # Pixel j of the view lies at (2 j + 1) / 8 - 1 and shows half of that, (2 j + 1) / 16 - 1/2. Image pixel k lies at
    # (2 k + 1) / 8 - 1, so k = j / 2 + 1.75. Every row is the numbers 0 to 7, so that a value is a column.
    images = np.tile(np.arange(8.0)[None, None, :, None], (1, 8, 1, 1))
    found = apply(images, [0.5, 0, 0, 0, 0.5, 0])
    np.testing.assert_array_equal(found[0, 3, :, 0], [1.75, 2.25, 2.75, 3.25, 3.75, 4.25, 4.75, 5.25])


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
    """A picture given as a function of normalised coordinates, so that the right answer is known at every size.

    Linear interpolation errs by at most h^2 / 8 times the second derivative along each axis, with pixels
    h = 2 / size apart; here the derivatives are at most 9 and 4.
    """

    def content(x, y):
        return np.sin(3 * x + 0.5) + np.cos(2 * y - 0.3)

    height, width = shape
    x, y = np.meshgrid(normalised(width), normalised(height))
    # Turned by 0.4, magnified 1.6 times, shifted: no corner reaches beyond 0.95, so that nothing is filled.
    (a, b), (c, d) = rotation(0.4) / 1.6
    tx, ty = 0.07, -0.05
    assert abs(a) + abs(b) + abs(tx) < 0.95
    found = apply(content(x, y)[None, :, :, None], [a, b, tx, c, d, ty])[0, :, :, 0]
    expected = content(a * x + b * y + tx, c * x + d * y + ty)
    bound = ((2 / width) ** 2 * 9 + (2 / height) ** 2 * 4) / 8
    rounding = 1e-5  # of coordinates up to 96 in float32, times a slope of at most 3 * 2 / 48 a pixel
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound + rounding)


@pytest.mark.parametrize("fill_mode", ["constant", "nearest", "reflect"])
def test_a_drawn_view_is_one_bilinear_interpolation(fill_mode):
    """Against bilinear sampling of the padded picture in float64."""
    count, height, width, pad = 12, 9, 12, 40
    images = picture(height, width, count=count)
    affines = draw_affines(EVERYTHING, 1, [f"{number}.png" for number in range(count)], 0)
    found = apply_affines(images, affines, fill_mode)
    assert found.dtype == np.float32
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
        np.testing.assert_allclose(found[row], expected, rtol=0, atol=2 * 255 * 16 * 32 * 2.0**-24)


@pytest.mark.parametrize("fill_mode", PAD_MODE)
def test_a_view_stays_within_the_range_of_its_image(fill_mode):
    images = picture(12, 12, count=20) / 2 + 60  # 60 to 187.5
    affines = draw_affines(EVERYTHING, 2, [str(number) for number in range(20)], 0)
    views = apply_affines(images, affines, fill_mode).numpy()
    assert views.shape == images.shape
    lowest = 0.0 if fill_mode == "constant" else images.min()
    assert views.min() >= lowest - 255 * 2.0**-22
    assert views.max() <= images.max() + 255 * 2.0**-22
    if fill_mode == "constant":
        assert (views == 0.0).any()


def test_a_view_does_not_depend_on_its_batch():
    images = picture(10, 14, count=9)
    affines = draw_affines(EVERYTHING, 2, [str(number) for number in range(9)], 1)
    together = apply_affines(images, affines, "reflect").numpy()
    for row in range(9):
        alone = apply_affines(images[row : row + 1], affines[row : row + 1], "reflect").numpy()
        np.testing.assert_array_equal(alone[0], together[row])
    order = np.random.default_rng(0).permutation(9)
    np.testing.assert_array_equal(apply_affines(images[order], affines[order], "reflect").numpy(), together[order])


def test_stored_float16_transforms_lose_nothing():
    # What was drawn is already rounded, so that the stored numbers replay the very same view.
    images = picture(10, 10)
    affine = draw_affine(EVERYTHING, 2, "a.png", 0)
    stored = np.frombuffer(affine.tobytes(), np.float16)
    replayed = apply_affines(images, stored[None].astype(np.float32), "nearest")
    np.testing.assert_array_equal(replayed, apply_affines(images, affine[None], "nearest"))
