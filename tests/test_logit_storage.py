"""How logits are stored: exact where every one is kept, and how far a modelled tail is from the truth."""

import itertools
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from soft_label_files import CLASS_NAMES, INDEX, image, write_both

from pipeline.images.index import Index
from pipeline.images.views import Augmentation, Views
from pipeline.runtime.errors import DamagedError, ParameterError
from pipeline.soft_labels import logit_storage
from pipeline.soft_labels.logit_storage import Dense, TopK, softmax
from pipeline.soft_labels.reading import open_soft_targets

ULP = 2.0**-24
TEMPERATURES = (0.3, 1.0, 4.0, 40.0)


def exact(logits, temperature):
    return scipy.special.softmax(np.asarray(logits, np.float64) / temperature, axis=-1)


# Softmax


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_softmax_equals_scipys_and_sums_to_one(temperature):
    logits = np.random.default_rng(3).normal(0, 5, (3, 40, 10)).astype(np.float32)
    found = softmax(logits, temperature)
    assert found.dtype == np.float32
    # One rounding to float32, and a hair for float64's own.
    np.testing.assert_allclose(found, exact(logits, temperature), rtol=1.001 * ULP, atol=1e-45)
    # Each probability misses by at most ULP of itself, so their sum by at most ULP.
    np.testing.assert_allclose(found.astype(np.float64).sum(axis=-1), 1.0, rtol=0, atol=1.001 * ULP)
    np.testing.assert_array_equal(found.argmax(axis=-1), logits.argmax(axis=-1))


def test_softmax_ignores_a_constant_on_each_row():
    logits = np.array([[0.5, -1.0, 2.25], [8.0, 7.5, 0.0]])
    np.testing.assert_array_equal(softmax(logits + np.array([[1024.0], [-4096.0]]), 3.0), softmax(logits, 3.0))


def test_softmax_of_float16_is_that_of_the_same_numbers():
    logits = np.array([[65504.0, 65472.0, -65504.0]])
    np.testing.assert_array_equal(softmax(logits.astype(np.float16), 16.0), softmax(logits, 16.0))


def test_a_higher_temperature_is_flatter():
    logits = np.array([[3.0, 1.0, -2.0, 0.5]])
    largest = [softmax(logits, temperature).max() for temperature in (0.3, 1.0, 4.0, 40.0, 1e6)]
    assert largest == sorted(largest, reverse=True)
    assert largest[-1] == pytest.approx(0.25, abs=1e-6)


def test_a_tiny_temperature_gives_the_one_hot_largest():
    np.testing.assert_array_equal(softmax(np.array([[1.0, 3.0, 2.0]]), 1e-310), [[0.0, 1.0, 0.0]])


# Dense


LOGITS = np.random.default_rng(5).normal(0, 6, (50, 12)).astype(np.float32)


def test_dense_float32_keeps_every_bit():
    columns = Dense("float32").encode(LOGITS)
    assert list(columns) == ["logits"]
    assert columns["logits"].dtype == np.float32
    np.testing.assert_array_equal(columns["logits"], LOGITS)
    np.testing.assert_array_equal(Dense("float32").logits(columns, 12), LOGITS)


def test_dense_float16_rounds_as_numpy_does():
    columns = Dense("float16").encode(LOGITS)
    assert columns["logits"].dtype == np.float16
    np.testing.assert_array_equal(columns["logits"], LOGITS.astype(np.float16))
    decoded = Dense("float16").logits(columns, 12)
    assert decoded.dtype == np.float32
    np.testing.assert_array_equal(decoded, LOGITS.astype(np.float16).astype(np.float32))
    # To the nearest, ties to even: 2049 lies between 2048 and 2050, 2051 between 2050 and 2052.
    ties = Dense("float16").encode(np.array([[2049.0, 2051.0]], np.float32))["logits"]
    assert ties.tolist() == [[2048.0, 2052.0]]


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_dense_soft_labels_are_the_softmax_of_what_is_stored(dtype, temperature):
    kind = Dense(dtype)
    columns = kind.encode(LOGITS)
    soft = kind.soften(columns, temperature, 12)
    assert {name: values.shape[1:] for name, values in soft.items()} == {"soft": (12,)}
    np.testing.assert_allclose(
        kind.probabilities(soft, 12), exact(columns["logits"], temperature), rtol=1.001 * ULP, atol=1e-45
    )


@pytest.mark.parametrize("kind", [Dense("float16"), TopK(1, "float16")], ids=["dense", "top-k"])
@pytest.mark.parametrize("value", [65520.0, -1e6, 1e30])
def test_what_float16_cannot_hold_is_refused_with_what_to_set(kind, value):
    logits = np.array([[0.0, 1.0, 2.0], [value, value, value]], np.float32)
    with pytest.raises(ParameterError) as refused:
        kind.encode(logits)
    assert f" {abs(value):.3g}, which float16 cannot hold" in str(refused.value)
    assert "precompute.storage to {kind: dense, dtype: float32}" in str(refused.value)


def test_the_largest_float16_is_kept():
    logits = np.array([[65504.0, -65504.0]], np.float32)
    np.testing.assert_array_equal(Dense("float16").encode(logits)["logits"], logits)


# Top k


def test_kept_logits_are_the_largest_in_order():
    columns = TopK(4, "float32").encode(LOGITS)
    order = np.argsort(LOGITS, axis=1)[:, ::-1]
    np.testing.assert_array_equal(columns["index"], order[:, :4])
    np.testing.assert_array_equal(columns["value"], np.sort(LOGITS, axis=1)[:, :-5:-1])
    rest = np.sort(LOGITS.astype(np.float64), axis=1)[:, :8]
    np.testing.assert_allclose(columns["tail_mean"], rest.mean(axis=1), rtol=2 * ULP)
    np.testing.assert_allclose(columns["tail_variance"], rest.var(axis=1), rtol=2 * ULP)
    assert columns["tail_mean"].dtype == columns["tail_variance"].dtype == np.float32


def test_top_k_columns_by_hand():
    # The others are -1, 0, 1, 2, -2: mean 0, variance (1 + 0 + 1 + 4 + 4) / 5 = 2.
    columns = TopK(2, "float16").encode(np.array([[-1.0, 0.0, 8.5, 1.0, 2.0, 3.0, -2.0]], np.float32))
    assert columns["index"].tolist() == [[2, 5]]
    assert columns["value"].tolist() == [[8.5, 3.0]]
    assert columns["value"].dtype == np.float16
    assert columns["tail_mean"].tolist() == [0.0]
    assert columns["tail_variance"].tolist() == [2.0]


@pytest.mark.parametrize(
    ("row", "index"),
    [
        ([1.0, 2.0, 2.0, 2.0, 0.0], [1, 2]),
        ([0.0, 0.0, 0.0, 0.0, 0.0], [0, 1]),
        ([1.0, 3.0, 0.0, 1.0, 1.0], [1, 0]),
    ],
)
def test_among_equal_logits_the_first_classes_are_kept(row, index):
    assert TopK(2, "float32").encode(np.array([row], np.float32))["index"].tolist() == [index]


@pytest.mark.parametrize(("classes", "dtype"), [(65536, np.uint16), (65537, np.uint32)])
def test_the_index_holds_every_class(classes, dtype):
    logits = np.zeros((1, classes), np.float32)
    logits[0, -1] = 1
    kind = TopK(2, "float32")
    columns = kind.encode(logits)
    assert columns["index"].dtype == dtype
    assert columns["index"].tolist() == [[classes - 1, 0]]
    soft = kind.soften(columns, 1.0, classes)
    assert soft["index"].dtype == dtype
    for told in (kind.columns(classes), kind.soft_columns(classes)):
        assert told["index"] == ((2,), np.dtype(dtype).name)
    assert kind.probabilities(soft, classes).argmax() == classes - 1


@pytest.mark.parametrize("k", [3, 4, 100])
def test_a_k_that_leaves_no_tail_is_refused(k):
    with pytest.raises(ParameterError, match=rf"precompute\.storage .* {k} largest .* 3 classes.*smaller k"):
        TopK(k, "float16").columns(3)
    assert TopK(2, "float16").columns(3)["value"] == ((2,), "float16")


@pytest.mark.parametrize("kind", [Dense("float32"), Dense("float16"), TopK(3, "float32"), TopK(3, "float16")], ids=str)
def test_columns_are_as_they_are_announced(kind):
    columns = kind.encode(LOGITS)
    told = kind.columns(12)
    assert {name: (values.shape[1:], values.dtype.name) for name, values in columns.items()} == told
    soft = kind.soften(columns, 2.0, 12)
    assert {name: (values.shape[1:], values.dtype.name) for name, values in soft.items()} == kind.soft_columns(12)
    assert logit_storage.of(kind.as_json()) == kind
    np.testing.assert_array_equal(kind.predictions(columns), LOGITS.argmax(axis=1))


def columns_of(value, mean, variance):
    """One row, of which the first classes are the largest."""
    return {
        "index": np.arange(len(value), dtype=np.uint16)[None],
        "value": np.array([value], np.float32),
        "tail_mean": np.array([mean], np.float32),
        "tail_variance": np.array([variance], np.float32),
    }


def test_smallest_largest_and_sum_by_hand():
    dense = Dense("float32").encode(np.array([[-1.0, 3.0, 0.5], [2.0, 2.0, 8.0]], np.float32))
    assert np.stack(Dense("float32").extent(dense, 3)).tolist() == [[-1, 2], [3, 8], [2.5, 12]]
    # Of the mean of seven others, 0 lies below all that is kept, and 3.5 above 3: 6 + 4 + 3 + 7 * 0, and + 7 * 3.5.
    for mean, smallest, total in ((0, 0, 13), (3.5, 3, 37.5)):
        found = TopK(3, "float32").extent(columns_of([6, 4, 3], mean, 1), 10)
        assert np.stack(found).tolist() == [[smallest], [6], [total]]


def test_an_index_of_a_class_too_many_is_refused():
    kind = TopK(2, "float32")
    soft = {"index": np.array([[2, 3]], np.uint16), "probability": np.array([[0.5, 0.25]]), "tail": np.array([0.25])}
    with pytest.raises(DamagedError, match="class 3 of 3 classes"):
        kind.probabilities(soft, 3)
    assert kind.probabilities(soft, 4).tolist() == [[0.125, 0.125, 0.5, 0.25]]


def test_top_k_soft_labels_are_the_golden_ones():
    soft = TopK(3, "float32").soften(columns_of([6, 4, 3], 0, 2.25), 2.0, 10)
    expected = [[0.4966368123957157, 0.18270247300930234, 0.11081465148546174]]
    np.testing.assert_allclose(soft["probability"], expected, rtol=2 * ULP)
    np.testing.assert_allclose(soft["tail"], [0.2098460631095202], rtol=2 * ULP)
    dense = TopK(3, "float32").probabilities(soft, 10)
    np.testing.assert_allclose(dense, [expected[0] + [0.2098460631095202 / 7] * 7], rtol=3 * ULP)


@pytest.mark.parametrize("temperature", [0.5, 4.0, 20.0])
@pytest.mark.parametrize(
    ("value", "mean", "variance"),
    [([6, 4, 3], 0, 2.25), ([9, 5, 4.5], 4, 1), ([2, 1, 0], -3, 16), ([12, 0, -1], -8, 0.25), ([3, 3, 3], 3, 0.5)],
    ids=str,
)
def test_the_tail_is_that_of_a_cut_off_normal_distribution(value, mean, variance, temperature):
    """E[exp(v / T)] by numerical integration over the density below the smallest kept logit."""
    soft = TopK(3, "float32").soften(columns_of(value, mean, variance), temperature, 100)
    deviation, largest = math.sqrt(variance), value[0]

    def weighted(v):
        return scipy.stats.norm.pdf(v, mean, deviation) * math.exp((v - largest) / temperature)

    lowest = min(mean, value[-1]) - 40 * deviation
    edges = np.linspace(lowest, value[-1], 41)
    integral = sum(scipy.integrate.quad(weighted, *ends)[0] for ends in itertools.pairwise(edges))
    tail = 97 * integral / scipy.stats.norm.cdf(value[-1], mean, deviation)
    # Whatever the distribution, not below what its mean gives (Jensen).
    tail = max(tail, 97 * math.exp((mean - largest) / temperature))
    total = tail + sum(math.exp((v - largest) / temperature) for v in value)
    assert soft["tail"][0] == pytest.approx(tail / total, rel=1e-6)
    np.testing.assert_allclose(
        soft["probability"][0], [math.exp((v - largest) / temperature) / total for v in value], rtol=1e-6
    )


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_equal_logits_in_the_tail_make_it_exact(temperature):
    random = np.random.default_rng(1)
    logits = np.repeat(random.normal(-2, 1, (20, 1)), 30, axis=1).astype(np.float32)
    for row in logits:
        row[random.choice(30, 4, replace=False)] += random.uniform(0.5, 8, 4).astype(np.float32)
    kind = TopK(4, "float32")
    soft = kind.soften(kind.encode(logits), temperature, 30)
    np.testing.assert_allclose(kind.probabilities(soft, 30), exact(logits, temperature), rtol=2e-6, atol=1e-40)


TEMPERATURE = st.floats(-3, 6).map(lambda power: 10.0**power)
ROWS = arrays.arrays(np.float32, (4, 9), elements=st.floats(-200, 200, width=32))


@settings(max_examples=100, deadline=None, database=None)
@given(ROWS, TEMPERATURE, st.integers(1, 8), st.sampled_from(["float32", "float16"]))
def test_soft_labels_are_distributions_at_every_temperature(logits, temperature, k, dtype):
    for kind in (TopK(k, dtype), Dense(dtype)):
        with warnings.catch_warnings(), np.errstate(over="raise", invalid="raise", divide="raise"):
            warnings.simplefilter("error")
            soft = kind.soften(kind.encode(logits), temperature, 9)
        dense = kind.probabilities(soft, 9).astype(np.float64)
        assert np.isfinite(dense).all()
        assert (dense >= 0).all()
        np.testing.assert_allclose(dense.sum(axis=1), 1, rtol=0, atol=4 * ULP)


@settings(max_examples=100, deadline=None, database=None)
@given(ROWS, TEMPERATURE, st.integers(1, 8))
def test_the_tail_lies_between_its_mean_and_the_least_kept_logit(logits, temperature, k):
    """Jensen's inequality below, and no logit of the tail above the smallest that is kept."""
    kind = TopK(k, "float32")
    columns = kind.encode(logits)
    soft = kind.soften(columns, temperature, 9)
    value = columns["value"].astype(np.float64)
    mean = np.minimum(columns["tail_mean"].astype(np.float64), value[:, -1])
    kept = np.exp((value - value[:, :1]) / temperature).sum(axis=1)
    for logit, holds in ((mean, np.greater_equal), (value[:, -1], np.less_equal)):
        tail = (9 - k) * np.exp((logit - value[:, 0]) / temperature)
        slack = 4 * ULP * (1 if holds is np.less_equal else -1)
        assert holds(soft["tail"], tail / (kept + tail) * (1 + slack) + np.sign(slack) * 1e-44).all()


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("constant", [1024.0, -4096.0])
def test_a_constant_added_to_all_logits_changes_nothing(temperature, constant):
    """Eighths, so that the sums are exact; the tail's mean is rounded to float32: to 2^-12 near 4096."""
    logits = np.round(LOGITS * 8) / 8
    kind = TopK(3, "float32")
    before = kind.soften(kind.encode(logits), temperature, 12)
    after = kind.soften(kind.encode(logits + np.float32(constant)), temperature, 12)
    np.testing.assert_array_equal(after["index"], before["index"])
    tolerance = 2.0**-12 / temperature
    np.testing.assert_allclose(after["probability"], before["probability"], rtol=tolerance)
    np.testing.assert_allclose(after["tail"], before["tail"], rtol=2 * tolerance)


def test_a_shift_of_what_is_stored_changes_nothing():
    kind = TopK(3, "float32")
    before = kind.soften(columns_of([6, 4, 3], 0, 2.25), 2.0, 10)
    after = kind.soften(columns_of([1006, 1004, 1003], 1000, 2.25), 2.0, 10)
    np.testing.assert_allclose(after["tail"], before["tail"], rtol=ULP)
    np.testing.assert_allclose(after["probability"], before["probability"], rtol=ULP)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_logits_of_a_top_k_file_have_its_soft_labels_at_one(dtype):
    kind = TopK(3, dtype)
    columns = kind.encode(LOGITS)
    logits = kind.logits(columns, 12)
    assert logits.dtype == np.float32
    soft = kind.probabilities(kind.soften(columns, 1.0, 12), 12)
    np.testing.assert_allclose(softmax(logits, 1.0), soft, rtol=1e-5)


# A thousand classes of real images, through the files


@pytest.fixture(scope="module")
def real():
    """(100, 1000) logits of a classifier on views that it did not see (benchmarks/real_logits.py)."""
    with np.load(Path(__file__).parent / "golden/real_logits_1000.npz") as file:
        return file["logits"].astype(np.float32)


def soft_labels_through_files(folder, logits, stored_as, temperature):
    """What a student is told of each row, and what the file says of the tail's mass."""
    images = [image("train", 0)._replace(id=f"{number:03d}") for number in range(100)]
    classes = (*CLASS_NAMES, *(f"class {number}" for number in range(997)))
    _, path = write_both(
        folder,
        temperature,
        index=Index([*images, *INDEX.split("val"), *INDEX.split("test")]),
        views=Views(1, 0, Augmentation()),
        stored_as=stored_as,
        logits=lambda views, count, classes: logits[None, :count],
        class_names=classes,
    )
    with open_soft_targets(path) as file:
        columns = file.columns("train", 0)
        return file.storage.probabilities(columns, file.classes), columns


def divergence(true, model):
    """Mean KL(true || model) over rows, in nats; what is 0 counts as the smallest float32."""
    model = np.maximum(model.astype(np.float64), np.finfo(np.float32).tiny)
    return float(np.mean(np.sum(scipy.special.rel_entr(true, model), axis=1)))


# Measured. Of the sums 0.341, 0.446 and 0.206 are lost by any even spread.
@pytest.mark.parametrize(
    ("temperature", "measured", "mass_error"), [(1.0, 0.352, 0.038), (2.0, 0.450, 0.028), (4.0, 0.206, 0.003)]
)
def test_distance_of_top_10_from_the_true_soft_labels(tmp_path, real, temperature, measured, mass_error):
    true = exact(real, temperature)
    found, columns = soft_labels_through_files(tmp_path, real, TopK(10, "float16"), temperature)
    distance = divergence(true, found)
    assert distance == pytest.approx(measured, abs=0.001)
    kept = np.zeros_like(true, bool)
    np.put_along_axis(kept, columns["index"].astype(int), True, axis=1)
    mass = np.where(kept, 0, true).sum(axis=1)
    even = np.where(kept, true, mass[:, None] / 990)
    assert divergence(true, even) <= distance < divergence(true, even) + 0.015
    renormalised = np.where(kept, true / (1 - mass[:, None]), 0)
    assert distance < divergence(true, renormalised) / 40
    assert np.mean(np.abs(columns["tail"] - mass)) == pytest.approx(mass_error, abs=0.001)


@pytest.mark.parametrize(("temperature", "measured"), [(1.0, 2.3e-7), (2.0, 7.6e-8), (4.0, 1.6e-8)])
def test_distance_of_dense_float16_from_the_true_soft_labels(tmp_path, real, temperature, measured):
    """The stored logits are float16 already, so noise of their own last place is added: all of it is rounded off."""
    noise = np.random.default_rng(0).normal(0, 1e-3, real.shape).astype(np.float32)
    found, _ = soft_labels_through_files(tmp_path, real + noise, Dense("float16"), temperature)
    assert divergence(exact(real + noise, temperature), found) == pytest.approx(measured, rel=0.2, abs=1e-8)


def test_dense_float32_is_the_truth(tmp_path, real):
    found, _ = soft_labels_through_files(tmp_path, real, Dense("float32"), 2.0)
    np.testing.assert_allclose(found, exact(real, 2.0), rtol=1.001 * ULP)


@pytest.mark.parametrize("temperature", [1e-300, 5e-324])
def test_topk_softens_at_the_coldest_temperatures(temperature):
    kind = TopK(2, "float32")
    soft = kind.soften(kind.encode(np.array([[1, 3, 2, 0]], np.float32)), temperature, 4)
    np.testing.assert_array_equal(kind.probabilities(soft, 4), [[0, 1, 0, 0]])


def test_a_tail_whose_variance_float32_cannot_hold_is_refused():
    logits = np.array([[1e30, 1e25, -1e25, 1e25, -1e25]], np.float32)
    with pytest.raises(ParameterError, match="cannot hold"):
        TopK(1, "float32").encode(logits)


def test_a_row_is_softened_alike_alone_and_among_thousands():
    """Rows are taken a few hundred at a time; none is lost, mixed up or rounded otherwise at the seams."""
    logits = np.random.default_rng(5).normal(0, 4, (700, 1000)).astype(np.float16)
    together = softmax(logits, 2.0)
    for row in (0, 261, 262, 263, 523, 524, 525, 699):
        np.testing.assert_array_equal(together[row], softmax(logits[row], 2.0))
        np.testing.assert_allclose(
            together[row], scipy.special.softmax(logits[row].astype(np.float64) / 2.0), rtol=1e-6
        )


@pytest.mark.parametrize("k", [1, 3, 6])
@pytest.mark.parametrize("values", [[0.0], [-1.0, 0.0, 0.5], [-0.0, 0.0, 65504.0], range(-50, 50)], ids=str)
def test_the_largest_logits_are_those_that_python_sorts_first(monkeypatch, values, k):
    """Also of more rows than are searched at once; of equal logits, those of the first classes."""
    monkeypatch.setattr(logit_storage, "CACHED_NUMBERS", 5 * 7)
    logits = np.random.default_rng(k).choice(values, (23, 7)).astype(np.float32)
    columns = TopK(k, "float16").encode(logits)
    for row, of_row in enumerate(logits.tolist()):
        order = sorted(range(7), key=lambda number, of_row=of_row: -of_row[number])
        tail = [of_row[number] for number in order[k:]]
        assert columns["index"][row].tolist() == order[:k]
        assert columns["value"][row].tolist() == [of_row[number] for number in order[:k]]
        assert columns["tail_mean"][row] == pytest.approx(sum(tail) / len(tail), rel=1e-6)
        assert columns["tail_variance"][row] == pytest.approx(np.var(tail), rel=1e-6)
