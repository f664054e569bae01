"""The losses of soft labels: what a student is told by the teacher, one pure function each.

All take and return arrays of B rows and C classes, of Keras' backend. The teacher's p are probabilities, softened at T;
u are the student's logits divided by its temperature.
"""

from typing import Any

from keras import ops


def kl_divergence(p: Any, u: Any) -> Any:
    """KL(p || softmax(u)) of each row in nats (Hinton et al., arXiv:1503.02531): (B, C) and (B, C) become (B,).

    It is computed from log-softmax, and so stays exact where Keras' own loss clips probabilities at 1e-7.
    """
    # p log p is 0 for p = 0; the logarithm of 0 would make it NaN.
    log_probabilities = ops.log(ops.where(p > 0.0, p, 1.0))
    return ops.sum(p * (log_probabilities - ops.log_softmax(u, axis=-1)), axis=-1)


def cross_entropy(p: Any, u: Any) -> Any:
    """-sum p log softmax(u) of each row in nats: (B, C) and (B, C) become (B,).

    It is larger than the KL divergence by the entropy of p, and has the same gradient.
    """
    return -ops.sum(p * ops.log_softmax(u, axis=-1), axis=-1)
