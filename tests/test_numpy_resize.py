"""Resizing by NumPy gives the pixels of TensorFlow, but for a rounding of the last bit of float32."""

import math
import tracemalloc
from fractions import Fraction
from itertools import product
from typing import get_args

import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_sample_image

from pipeline.images import numpy_resize
from pipeline.images.decoding import resized as by_tensorflow
from pipeline.images.numpy_resize import FITS, METHODS, resized
from pipeline.images.resize import Fit, Method, Resize

ALL = [*product(get_args(Method), [True, False])]
SHAPES = {"stretch": (17, 23), "crop": (24, 9), "pad": (11, 30)}
EQUAL = 0.9999
"""The least share of equal values. Among 13.5 million, one was unequal; libraries promise none of their last bits."""


def pictures(count):
    """Of 1 to 90 pixels a side; every third has five colors, whose means lie exactly between two values."""
    numbers = np.random.default_rng(5)
    sides = numbers.integers(1, np.resize([4, 30, 90], count) + 1, (2, count)).T
    steps = np.resize([1, 1, 64], count)
    return [
        (numbers.integers(0, 256 // step, (*size, 3)) * step).astype(np.uint8)
        for size, step in zip(sides, steps, strict=True)
    ]


def expected(images, input_shape, resize):
    """As a stage resizes: in a graph that does not know the sizes."""
    signature = tf.TensorSpec((None, None, 3), tf.uint8)
    data = tf.data.Dataset.from_generator(lambda: images, output_signature=signature)
    return [*data.map(lambda image: by_tensorflow(image, input_shape, resize)).as_numpy_iterator()]


def refuse_unequal(found, wanted):
    levels = np.abs(np.concatenate([np.subtract(*pair, dtype=int).ravel() for pair in zip(found, wanted, strict=True)]))
    assert levels.max() <= 1
    assert np.mean(levels == 0) >= EQUAL


def test_all_methods_and_fits_are_known():
    assert set(METHODS) == set(get_args(Method))
    assert set(FITS) == set(get_args(Fit))


@pytest.mark.parametrize(("method", "antialias"), ALL)
def test_pixels_are_those_of_tensorflow(method, antialias):
    images = pictures(30)
    for (fit, size), channels in zip(SHAPES.items(), (3, 1, 3), strict=True):
        found = [resized(image, (*size, channels), method=method, antialias=antialias, fit=fit) for image in images]
        assert {(each.shape, each.dtype) for each in found} == {((*size, channels), np.dtype(np.uint8))}
        refuse_unequal(found, expected(images, (*size, channels), Resize(method, antialias, fit)))


@pytest.mark.parametrize("method", get_args(Method))
def test_a_photograph_is_that_of_tensorflow(method):
    photograph = load_sample_image("flower.jpg")[:, :300]
    found = resized(photograph, (224, 224, 3), method=method, antialias=True, fit="crop")
    refuse_unequal([found], expected([photograph], (224, 224, 3), Resize(method, True, "crop")))


@pytest.mark.parametrize(("method", "antialias"), ALL)
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (5, 7), (50, 70)])
def test_one_color_stays_that_color(method, antialias, size):
    """The weights of each new pixel sum to 1, also at the edges and where a side has one pixel."""
    image = np.broadcast_to(np.uint8([200, 3, 255]), (*size, 3))
    for target in ((1, 1, 3), (9, 4, 3), (5, 70, 3)):
        found = resized(image, target, method=method, antialias=antialias, fit="stretch")
        np.testing.assert_array_equal(found, np.broadcast_to(image[0, 0], target))


def test_an_area_is_the_mean_of_what_it_covers():
    """Of five pixels, the first of two new ones covers two and a half: (0 + 100 + 200 / 2) / 2.5 = 80."""
    image = np.repeat(np.uint8([[0, 100, 200, 50, 10]])[..., None], 3, axis=2)
    found = resized(image, (1, 2, 3), method="area", antialias=False, fit="stretch")
    np.testing.assert_array_equal(found[0, :, 0], [80, 64])


def test_a_line_is_cropped_to_one_pixel():
    """Where a part of the aspect ratio is thinner than a pixel."""
    image = np.repeat(np.uint8([[10], [20], [30]])[..., None], 3, axis=2)
    for size, one_line in (((1, 40), image), ((40, 1), image.swapaxes(0, 1))):
        found = resized(one_line, (*size, 3), method="bilinear", antialias=True, fit="crop")
        np.testing.assert_array_equal(found, np.full((*size, 3), 20))


def test_the_sine_is_that_of_float64_rounded():
    angles = np.linspace(0, 3 * np.pi, 10_000, dtype=np.float32)
    exact = np.array([math.sin(float(angle)) for angle in angles])
    found = numpy_resize._sine(angles)
    assert found.dtype == np.float32
    assert (np.abs(found - exact) / np.spacing(np.abs(exact).astype(np.float32))).max() < 0.51


def test_the_middle_of_lanczos_is_one():
    """TensorFlow takes 1 up to a distance of 1 / 1000, in place of 0 / 0; behind it, sin(x) / x is a little less."""
    found = numpy_resize._lanczos(np.float32([0, 5e-4, 1e-3, 1.1e-3]))
    assert found[:3].tolist() == [1, 1, 1]
    assert 0.99999 < found[3] < 1


def test_a_table_of_weights_is_made_of_doubles():
    """Of the 301st of 1,000 new pixels among 1,001 old ones, in fractions; its place is rounded to 1 / 1024."""
    indices, weights = numpy_resize._table_taps(1001, 1000)
    place = (Fraction(2 * 300 + 1, 2)) * Fraction(1001, 1000) - Fraction(1, 2)
    x = Fraction(round((place - math.floor(place)) * 1024), 1024)
    outer = [-(d**3) / 2 + Fraction(5, 2) * d**2 - 4 * d + 2 for d in (1 + x, 2 - x)]
    inner = [Fraction(3, 2) * d**3 - Fraction(5, 2) * d**2 + 1 for d in (x, 1 - x)]
    exact = [outer[0], inner[0], inner[1], outer[1]]
    assert indices[300].tolist() == [math.floor(place) + number for number in (-1, 0, 1, 2)]
    np.testing.assert_allclose(weights[300], np.array(exact, float), rtol=2e-7)


def test_a_large_image_takes_little_memory():
    """Four bytes of grey for each pixel, and not the twelve of three colors as well; blocks of rows give the same."""
    image = np.random.default_rng(1).integers(0, 256, (1500, 1000, 3)).astype(np.uint8)
    tracemalloc.start()
    found = resized(image, (4, 4, 1), method="area", antialias=True, fit="stretch")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 8 * image.shape[0] * image.shape[1]
    grey = image.astype(int) @ [299, 587, 114] / 1000
    expected_grey = grey.reshape(4, 375, 4, 250).mean(axis=(1, 3))
    np.testing.assert_allclose(found[..., 0], expected_grey, atol=1)


def test_an_image_of_the_right_size_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr(numpy_resize, "METHODS", {})
    (image,) = pictures(1)
    np.testing.assert_array_equal(resized(image, image.shape, method="area", antialias=True, fit="pad"), image)


def test_black_is_added_on_both_sides():
    image = np.full((4, 8, 3), 90, np.uint8)
    found = resized(image, (8, 8, 3), method="bilinear", antialias=True, fit="pad")
    assert found[:, :, 0].tolist() == [[0] * 8] * 2 + [[90] * 8] * 4 + [[0] * 8] * 2
