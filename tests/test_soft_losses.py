"""The losses of soft labels: numbers worked out by hand, the papers' formulas in float64, and their invariances."""

import importlib.util
import math
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from pipeline.distillation import soft_losses

ROWS, CLASSES = 6, 5
NOISE = np.random.default_rng(11)
V, Z = NOISE.normal(0, 3, (2, ROWS, CLASSES))
Y = np.eye(CLASSES)[[0, 1, 2, 3, 4, 0]]
ALPHA, BETA, GAMMA = 0.7, 5.0, 1.5


# The formulas of the papers, row by row, in float64 NumPy


def softmax(x):
    powers = np.exp(x - np.max(x))
    return powers / powers.sum()


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def js_of(v, z, _y):
    return [
        (kl(p, (p + q) / 2) + kl(q, (p + q) / 2)) / 2 for p, q in zip(map(softmax, v), map(softmax, z), strict=True)
    ]


def mse_of(v, z, _y):
    return [np.mean(((b - b.mean()) - (a - a.mean())) ** 2) for a, b in zip(v, z, strict=True)]


def dkd_from(p, q, target):
    """TCKD and NCKD of one row, with the sums over the other classes written out."""
    others = [c for c in range(len(p)) if c != target]
    p_others, q_others = sum(p[c] for c in others), sum(q[c] for c in others)
    tckd = kl((p[target], p_others), (q[target], q_others))
    nckd = kl([p[c] / p_others for c in others], [q[c] / q_others for c in others])
    return ALPHA * tckd + BETA * nckd


def dkd_of(v, z, y):
    found = []
    for a, b, label in zip(v, z, y, strict=True):
        shares = label if label.any() else np.eye(len(a))[np.argmax(a)]
        found.append(sum(s * dkd_from(softmax(a), softmax(b), c) for c, s in enumerate(shares) if s > 0))
    return found


def pearson(a, b):
    a, b = a - np.mean(a), b - np.mean(b)
    return a @ b / math.sqrt(a @ a * (b @ b))


def dist_of(v, z, _y):
    p, q = np.array([*map(softmax, v)]), np.array([*map(softmax, z)])
    within_classes = 1 - np.mean([pearson(p[:, c], q[:, c]) for c in range(p.shape[1])])
    return [BETA * (1 - pearson(a, b)) + GAMMA * within_classes for a, b in zip(p, q, strict=True)]


def z_scores(x):
    return [(row - row.mean()) / math.sqrt(np.mean((row - row.mean()) ** 2)) for row in x]


def standardised_of(v, z, _y):
    return [kl(softmax(a / 2), softmax(b / 2)) for a, b in zip(z_scores(v), z_scores(z), strict=True)]


def standardised_dkd_of(v, z, y):
    return dkd_of(np.array(z_scores(v)) / 2, np.array(z_scores(z)) / 2, y)


def hard_of(v, z, _y):
    return [-math.log(softmax(b)[np.argmax(a)]) for a, b in zip(v, z, strict=True)]


def kl_of(v, z, _y):
    return [kl(softmax(a), softmax(b)) for a, b in zip(v, z, strict=True)]


def standardised(v, z):
    return soft_losses.standardised(v) / 2.0, soft_losses.standardised(z) / 2.0


LOSSES = {
    "kl": (lambda v, z, _: soft_losses.kl_divergence(tf.nn.softmax(v), z), kl_of),
    "js": (lambda v, z, _: soft_losses.jensen_shannon(tf.nn.softmax(v), z), js_of),
    "mse": (lambda v, z, _: soft_losses.squared_error(v, z), mse_of),
    "dkd": (lambda v, z, y: soft_losses.decoupled(v, z, y, ALPHA, BETA), dkd_of),
    "dist": (lambda v, z, _: soft_losses.relations(tf.nn.softmax(v), z, BETA, GAMMA), dist_of),
    "logit standardization": (
        lambda v, z, _: soft_losses.kl_divergence(tf.nn.softmax(standardised(v, z)[0]), standardised(v, z)[1]),
        standardised_of,
    ),
    "logit standardization before dkd": (
        lambda v, z, y: soft_losses.decoupled(*standardised(v, z), y, ALPHA, BETA),
        standardised_dkd_of,
    ),
    "hard": (lambda v, z, _: soft_losses.teachers_choice(tf.nn.softmax(v), z), hard_of),
}
"""Ours, of float64 tensors of logits and labels, and the paper's."""


def ours(name, v=V, z=Z, y=Y, dtype=tf.float64):
    """Losses and gradient of their sum by z."""
    v, z, y = (tf.constant(x, dtype) for x in (v, z, y))
    with tf.GradientTape() as tape:
        tape.watch(z)
        losses = LOSSES[name][0](v, z, y)
        total = tf.reduce_sum(losses)
    return losses.numpy(), tape.gradient(total, z).numpy()


def slope(function, z, step=1e-5):
    """The gradient of a sum, by central differences: the error is step^2 times a third derivative."""
    found = np.zeros_like(z)
    for place in np.ndindex(z.shape):
        moved = np.zeros_like(z)
        moved[place] = step
        found[place] = (np.sum(function(z + moved)) - np.sum(function(z - moved))) / (2 * step)
    return found


MIXED = np.array([[0.3, 0.7, 0, 0, 0], [0, 0, 0, 0.5, 0.5], *Y[2:]])
BARE = Y * np.array([0, 1, 0, 1, 1, 1])[:, None]


@pytest.mark.parametrize("y", [Y, MIXED, BARE], ids=["labelled", "mixed", "unlabelled"])
@pytest.mark.parametrize("name", LOSSES)
def test_value_and_gradient_are_those_of_the_paper(name, y):
    losses, gradient = ours(name, y=y)
    formula = LOSSES[name][1]
    np.testing.assert_allclose(losses, formula(V, Z, y), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(gradient, slope(lambda z: formula(V, z, y), Z), rtol=1e-5, atol=1e-6)


IN_PYTORCH = (
    f"""
import numpy as np
import torch
from torch.nn import functional

ROWS, CLASSES, ALPHA, BETA, GAMMA = {ROWS}, {CLASSES}, {ALPHA}, {BETA}, {GAMMA}
"""
    + """
given = np.load("given.npz")
v, labels = torch.tensor(given["v"]), torch.tensor(given["y"]).argmax(1)
p = v.softmax(1)


def divergence(p, q):
    return functional.kl_div(q.log(), p, reduction="none").sum(1)


def correlation(a, b, dim):
    return functional.cosine_similarity(a - a.mean(dim, True), b - b.mean(dim, True), dim=dim)


def decoupled(z):
    others = torch.ones_like(v, dtype=torch.bool).scatter(1, labels[:, None], False)
    r, s = (x[others].reshape(ROWS, -1).softmax(1) for x in (v, z))
    b, c = (torch.stack([x.softmax(1)[~others], 1 - x.softmax(1)[~others]], 1) for x in (v, z))
    return ALPHA * divergence(b, c) + BETA * divergence(r, s)


def js(z):
    m = (p + z.softmax(1)) / 2
    return (divergence(p, m) + divergence(z.softmax(1), m)) / 2


losses = {
    "kl": lambda z: divergence(p, z.softmax(1)),
    "js": js,
    "mse": lambda z: functional.mse_loss(z - z.mean(1, True), v - v.mean(1, True), reduction="none").mean(1),
    "dkd": decoupled,
    "dist": lambda z: BETA * (1 - correlation(p, z.softmax(1), 1))
    + GAMMA * (1 - correlation(p, z.softmax(1), 0).mean()),
    "logit standardization": lambda z: divergence(
        *((functional.layer_norm(x, (CLASSES,), eps=0.0) / 2).softmax(1) for x in (v, z))
    ),
    "hard": lambda z: functional.cross_entropy(z, v.argmax(1), reduction="none"),
}
found = {}
for name, loss in losses.items():
    z = torch.tensor(given["z"], requires_grad=True)
    of_rows = loss(z)
    of_rows.sum().backward()
    found |= {name: of_rows.detach().numpy(), "gradient of " + name: z.grad.numpy()}
np.savez("found.npz", **found)
"""
)
"""In a process of its own: beside TensorFlow, PyTorch may crash."""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed (`pip install torch`)")
def test_value_and_gradient_are_those_of_pytorch(tmp_path):
    np.savez(tmp_path / "given.npz", v=V, z=Z, y=Y)
    subprocess.run([sys.executable, "-c", IN_PYTORCH], cwd=tmp_path, check=True)
    with np.load(tmp_path / "found.npz") as found:
        for name in [name for name in LOSSES if name != "logit standardization before dkd"]:
            losses, gradient = ours(name)
            np.testing.assert_allclose(losses, found[name], rtol=1e-6, atol=1e-9, err_msg=name)
            np.testing.assert_allclose(gradient, found[f"gradient of {name}"], rtol=1e-5, atol=1e-8, err_msg=name)


# Numbers worked out by hand


def logs(*rows):
    """Logits whose softmax is these probabilities."""
    return np.log(rows)


def test_jensen_shannon_by_hand():
    # p = (1/2, 1/2), q = (1/4, 3/4), m = (3/8, 5/8). KL(p || m) = ln(4/3) / 2 + ln(4/5) / 2 = 0.03226926;
    # KL(q || m) = ln(2/3) / 4 + 3 ln(6/5) / 4 = 0.03537489. Their mean is 0.03382208.
    losses, _ = ours("js", logs([0.5, 0.5]), logs([0.25, 0.75]), np.eye(2)[:1])
    assert losses == pytest.approx([0.03382208], abs=1e-8)


def test_squared_error_by_hand():
    # Less their means, v is (2, -1, -1) and z is (0, 1, -1): (4 + 4 + 0) / 3.
    losses, gradient = ours("mse", [[3.0, 0, 0]], [[1.0, 2, 0]], [[1.0, 0, 0]])
    assert losses == pytest.approx([8 / 3])
    np.testing.assert_allclose(gradient, [[-4 / 3, 4 / 3, 0]], atol=1e-12)  # 2 (z - v) / 3


def test_decoupled_by_hand():
    # p = (1/2, 1/4, 1/4), q = (1/4, 1/2, 1/4), t = 0: b = (1/2, 1/2), b' = (1/4, 3/4): ln(4/3) / 2 = 0.14384104;
    # r = (1/2, 1/2), r' = (2/3, 1/3): ln(9/8) / 2 = 0.05889152. 0.7 of the first and 5 times the second: 0.39514632.
    losses, _ = ours("dkd", logs([0.5, 0.25, 0.25]), logs([0.25, 0.5, 0.25]), np.eye(3)[:1])
    assert losses == pytest.approx([0.39514632], abs=2e-8)


def test_relations_by_hand():
    # Each row's q is p stretched about 1/3: correlation 1. Over the two rows, the first two classes go together, and
    # the third does not vary: it counts as uncorrelated. 1 - (1 + 1 + 0) / 3 = 1/3, times gamma = 1.5.
    p, q = [[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]], [[0.6, 0.2, 0.2], [0.2, 0.6, 0.2]]
    losses, gradient = ours("dist", logs(*p), logs(*q), np.eye(3)[:2])
    assert losses == pytest.approx([0.5, 0.5], abs=1e-6)
    assert np.isfinite(gradient).all()
    # Each row the other way round, correlation -1; so are the first and the last class over the rows, and the middle
    # one does not vary. 5 (1 + 1) + 1.5 (1 + 2/3) = 12.5.
    p, q = [[1 / 2, 1 / 3, 1 / 6], [1 / 6, 1 / 3, 1 / 2]], [[1 / 6, 1 / 3, 1 / 2], [1 / 2, 1 / 3, 1 / 6]]
    losses, _ = ours("dist", logs(*p), logs(*q), np.eye(3)[:2])
    assert losses == pytest.approx([12.5] * 2, abs=1e-6)


def test_standardised_by_hand():
    # (1, 2, 3) has the mean 2 and the deviation sqrt(2/3).
    found = soft_losses.standardised(tf.constant([[1.0, 2, 3]], tf.float64)).numpy()
    np.testing.assert_allclose(found, [[-math.sqrt(1.5), 0, math.sqrt(1.5)]], rtol=1e-6)


def test_the_least_norm_takes_off_what_it_says():
    # p and q are 1/2 +- 1e-4 / sqrt(2), the norm of each row less its mean is 1e-4, and 1e-8 their product: as much as
    # the least one. 1e-8 / sqrt(1e-16 + 1e-16) = 0.70710678, in place of a correlation of 1.
    p = tf.constant([[0.5 + 1e-4 / math.sqrt(2), 0.5 - 1e-4 / math.sqrt(2)]], tf.float64)
    losses = soft_losses.relations(p, tf.math.log(p), 1.0, 0.0).numpy()
    assert losses == pytest.approx([1 - 0.70710678], rel=1e-6)


def test_the_least_variance_is_added_to_that_of_logits():
    # (2a, 0) with a^2 = 1e-7 has the variance 1e-7: a / sqrt(1e-7 + 1e-7) = 0.70710678, in place of 1.
    found = soft_losses.standardised(tf.constant([[4e-7**0.5, 0.0]], tf.float64)).numpy()
    np.testing.assert_allclose(found, [[0.70710678, -0.70710678]], rtol=1e-7)


def test_the_teachers_choice_by_hand():
    # It is the second class, of which softmax(0, ln 3, 0) is 3/5.
    losses, gradient = ours("hard", logs([0.2, 0.5, 0.3]), [[0, math.log(3), 0]], [[1.0, 0, 0]])
    assert losses == pytest.approx([-math.log(0.6)])
    np.testing.assert_allclose(gradient, [[0.2, -0.4, 0.2]], atol=1e-12)


# What holds for any logits


@pytest.mark.parametrize("name", LOSSES)
def test_a_constant_in_the_logits_changes_nothing(name):
    shift = np.array([5.0, -3, 100, 0.5, -40, 7])[:, None]
    plain, slope_of_plain = ours(name)
    for moved in (ours(name, v=V + shift), ours(name, z=Z + shift)):
        np.testing.assert_allclose(moved[0], plain, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(moved[1], slope_of_plain, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "hard"])
def test_a_student_with_its_teachers_logits_has_nothing_to_learn(name):
    losses, gradient = ours(name, z=V)
    np.testing.assert_allclose(losses, np.zeros(ROWS), atol=1e-7)
    np.testing.assert_allclose(gradient, np.zeros((ROWS, CLASSES)), atol=1e-7)


@pytest.mark.parametrize("name", ["logit standardization", "logit standardization before dkd"])
def test_standardised_logits_tell_nothing_of_their_size(name):
    np.testing.assert_allclose(ours(name, v=3 * V, z=Z / 2)[0], ours(name)[0], rtol=1e-6)


def test_decoupled_is_kl_where_beta_is_the_others_share():
    """Zhao et al., equation 6: KL = TCKD + (1 - p_t) NCKD."""
    for row in range(ROWS):
        v, z, y = V[row : row + 1], Z[row : row + 1], Y[row : row + 1]
        others = 1 - softmax(v[0]) @ y[0]
        found = soft_losses.decoupled(*(tf.constant(x) for x in (v, z, y)), 1.0, others).numpy()
        np.testing.assert_allclose(found, kl_of(v, z, y), rtol=1e-9)


def test_decoupled_of_two_classes_is_kl():
    v, z, y = V[:, :2], Z[:, :2], np.eye(2)[[0, 1, 0, 1, 0, 1]]
    np.testing.assert_allclose(ours("dkd", v, z, y)[0], ALPHA * np.array(kl_of(v, z, y)), rtol=1e-9)


def test_a_sure_teacher_still_tells_of_the_other_classes():
    """In float32, where 1 - p_t is 0: t leads by 40, and the others are 1 and 0, against 0 and 1 of the student."""
    v, z, y = [[40.0, 1, 0]], [[40.0, 0, 1]], [[1.0, 0, 0]]
    losses, gradient = ours("dkd", v, z, y, tf.float32)
    share = math.e / (1 + math.e)  # r = (share, 1 - share), r' the other way round
    assert losses == pytest.approx([BETA * (2 * share - 1)], rel=1e-5)
    np.testing.assert_allclose(gradient, [[0, -BETA * (2 * share - 1), BETA * (2 * share - 1)]], atol=1e-5)


def test_jensen_shannon_is_symmetric_and_at_most_log_2():
    np.testing.assert_allclose(ours("js", V, Z)[0], ours("js", Z, V)[0], rtol=1e-9)
    far, gradient = ours("js", [[400.0, 0, 0]], [[0.0, 400, 0]], [[1.0, 0, 0]], tf.float32)
    assert far == pytest.approx([math.log(2)], rel=1e-6)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(("name", "share"), [("js", 1 / 8), ("kl", 1 / 2)])
def test_at_high_temperatures_t_squared_makes_it_a_share_of_mse(name, share):
    """Hinton et al., section 2.1; the next term of the series is smaller by logits / T, 10 / 10,000."""
    t = 10_000.0
    losses, gradient = ours(name, V / t, Z / t)
    mse, slope_of_mse = ours("mse")
    np.testing.assert_allclose(t**2 * losses, share * mse, rtol=1e-2)
    np.testing.assert_allclose(t**2 * gradient / t, share * slope_of_mse, rtol=1e-2, atol=1e-3)


def test_the_gradient_of_correlations_does_not_fall_with_t():
    """So T^2 would make it larger and larger. By z it is 1 / T of that by z / T."""
    sizes = [np.abs(ours("dist", V / t, Z / t)[1] / t).max() for t in (10.0, 20.0, 40.0)]
    assert sizes[0] / 1.5 < sizes[1] < 1.5 * sizes[0]
    assert sizes[1] / 1.5 < sizes[2] < 1.5 * sizes[1]
    falling = [np.abs(ours("kl", V / t, Z / t)[1] / t).max() for t in (10.0, 40.0)]
    assert falling[1] < falling[0] / 12


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    ("v", "z"),
    [
        (np.full((3, 4), 2.0), np.zeros((3, 4))),
        (np.eye(4)[:3] * 300, -np.eye(4)[:3] * 300),
        (np.arange(4.0)[None], np.ones((1, 4))),
    ],
    ids=["equal logits", "opposite and sure", "one row"],
)
def test_no_row_makes_a_number_that_is_not_finite(name, v, z):
    losses, gradient = ours(name, v, z, np.eye(4)[: len(v)], tf.float32)
    assert np.isfinite(losses).all()
    assert np.isfinite(gradient).all()
