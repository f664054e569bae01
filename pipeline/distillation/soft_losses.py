"""The losses of soft labels: what a student is told by the teacher, one pure function each.

All take and return arrays of B rows and C classes, of Keras' backend. Of the teacher, v are the logits and
p = softmax(v / T) the probabilities; of the student, z are the logits and u = z / T, mostly with the same T. A constant
that is added to all logits of a row changes no loss.
"""

from typing import Any

import keras
from keras import ops

OUT_OF_REACH = -1e9
"""In place of a logit, it takes a class out of a softmax."""

LEAST_NORM = 1e-8
"""Vectors whose norms have a smaller product count as uncorrelated, as in the code of the authors of DIST."""

LEAST_VARIANCE = 1e-7
"""It is added to the variance of logits, so that those of a row that are all equal can be standardised."""


def kl_divergence(p: Any, u: Any) -> Any:
    """KL(p || softmax(u)) of each row in nats (Hinton et al., arXiv:1503.02531): (B, C) and (B, C) become (B,).

    It is computed from log-softmax, and so stays exact where Keras' own loss clips probabilities at 1e-7.
    """
    return ops.sum(p * (_log(p) - ops.log_softmax(u, axis=-1)), axis=-1)


def cross_entropy(p: Any, u: Any) -> Any:
    """-sum p log softmax(u) of each row in nats: (B, C) and (B, C) become (B,).

    It is larger than the KL divergence by the entropy of p, and has the same gradient.
    """
    return -ops.sum(p * ops.log_softmax(u, axis=-1), axis=-1)


def jensen_shannon(p: Any, u: Any) -> Any:
    """The Jensen-Shannon divergence of each row in nats (Lin, 1991): (B, C) and (B, C) become (B,).

        KL(p || m) / 2 + KL(q || m) / 2  with q = softmax(u), m = (p + q) / 2

    It is at most log 2, so a row on which teacher and student disagree counts less than with KL. Near p = q it is a
    quarter of KL.
    """
    log_q = ops.log_softmax(u, axis=-1)
    q = ops.exp(log_q)
    log_m = _log((p + q) / 2)
    return ops.sum(p * (_log(p) - log_m) + q * (log_q - log_m), axis=-1) / 2


def squared_error(v: Any, z: Any) -> Any:
    """The mean over classes of (z - v)^2 of each row (Ba and Caruana, arXiv:1312.6184): (B, C) and (B, C) become (B,).

    Both have their own mean taken off first, since a constant means nothing. At high temperatures, T^2 KL tends to half
    of it (Hinton et al., arXiv:1503.02531, section 2.1).
    """
    return ops.mean((_centred(z) - _centred(v)) ** 2, axis=-1)


def decoupled(v: Any, u: Any, y: Any, alpha: float, beta: float) -> Any:
    """Decoupled knowledge distillation in nats (Zhao et al., arXiv:2203.08679): (B, C) each become (B,).

        alpha KL(b || b') + beta KL(r || r')

    with b = (p_t, 1 - p_t), the teacher's probabilities of the labelled class t and of all others, and r = its
    probabilities of the other classes, made to sum to 1; b' and r' are the student's. The KL divergence has 1 - p_t in
    place of beta, so a teacher that is sure of the label hardly tells of the other classes there.

    With a mixed label (l of class i, 1 - l of class j) it is l times the loss for t = i, plus 1 - l times that for
    t = j. A row without a label has the teacher's choice as t. With two classes, the second term is 0.

    Args:
        v: the teacher's logits divided by T.
        u: the student's logits divided by its temperature.
        y: one-hot labels, or mixed ones of two classes; 0 without a label.
        alpha: the weight of the first term.
        beta: the weight of the second term.
    """
    label = ops.where(ops.sum(y, axis=-1, keepdims=True) > 0.0, y, _one_hot(ops.argmax(v, axis=-1), v))
    shares, targets = ops.top_k(label, 2)
    terms = [shares[:, n] * _decoupled_from(v, u, _one_hot(targets[:, n], v), alpha, beta) for n in (0, 1)]
    return terms[0] + terms[1]


def _decoupled_from(v: Any, u: Any, target: Any, alpha: float, beta: float) -> Any:
    """`decoupled` for one target class in each row, one-hot."""
    of_teacher, of_student = (_margin(x, target) for x in (v, u))
    binary = sum(
        ops.exp(ops.log_sigmoid(sign * of_teacher))
        * (ops.log_sigmoid(sign * of_teacher) - ops.log_sigmoid(sign * of_student))
        for sign in (1.0, -1.0)
    )
    others = [ops.where(target > 0.0, OUT_OF_REACH, x) for x in (v, u)]
    return alpha * binary + beta * kl_divergence(ops.softmax(others[0], axis=-1), others[1])


def _margin(x: Any, target: Any) -> Any:
    """log(p_t / (1 - p_t)) of p = softmax(x), from which both follow without a difference of near numbers: (B,)."""
    others = ops.logsumexp(ops.where(target > 0.0, OUT_OF_REACH, x), axis=-1)
    return ops.sum(ops.where(target > 0.0, x, 0.0), axis=-1) - others


def relations(p: Any, u: Any, beta: float, gamma: float) -> Any:
    """DIST (Huang et al., arXiv:2205.10536): (B, C) and (B, C) become (B,).

        beta (1 - r(p, q)) + gamma (1 - mean over classes of r(p of the class, q of the class))  with q = softmax(u)

    Here r is Pearson's correlation: in the first term over the classes of one row; in the second over the rows of the
    batch, which makes it the same number for each row, and one that depends on who else is in the batch. It is blind to
    the scale of the probabilities, and so asks less of a student that is far weaker than its teacher.
    """
    q = ops.softmax(u, axis=-1)
    within_rows = 1.0 - _correlation(p, q, axis=1)
    within_classes = 1.0 - ops.mean(_correlation(p, q, axis=0))
    return beta * within_rows + gamma * within_classes


def _correlation(a: Any, b: Any, axis: int) -> Any:
    a, b = (x - ops.mean(x, axis=axis, keepdims=True) for x in (a, b))
    norms = ops.sum(a * a, axis=axis) * ops.sum(b * b, axis=axis)
    return ops.sum(a * b, axis=axis) / ops.sqrt(norms + LEAST_NORM**2)


def standardised(x: Any) -> Any:
    """(x - mean) / standard deviation of each row (Sun et al., arXiv:2403.01427): (B, C) stays (B, C).

    In front of a loss, it tells the student which logits are large, and not how large logits are.
    """
    centred = _centred(x)
    return centred / ops.sqrt(ops.mean(centred**2, axis=-1, keepdims=True) + LEAST_VARIANCE)


def teachers_choice(p: Any, z: Any) -> Any:
    """-log softmax(z) of the teacher's most probable class, in nats (Touvron et al., arXiv:2012.12877).

    (B, C) and (B, C) become (B,). No temperature up to 1,000 changes it. Of equal probabilities the first counts.
    """
    return cross_entropy(_one_hot(ops.argmax(p, axis=-1), p), z)


def _log(p: Any) -> Any:
    """The logarithm, but 0 for 0: p log p is 0 there, and the logarithm would make it NaN."""
    return ops.log(ops.where(p > 0.0, p, 1.0))


def _one_hot(chosen: Any, like: Any) -> Any:
    """One-hot rows of the classes (B,), of the shape and dtype of `like`."""
    return ops.one_hot(chosen, like.shape[-1], dtype=keras.backend.standardize_dtype(like.dtype))


def _centred(x: Any) -> Any:
    return x - ops.mean(x, axis=-1, keepdims=True)
