"""The temperature that calibrates a student (Guo et al., 2017, arXiv:1706.04599)."""

import math

import numpy as np
from scipy.optimize import minimize_scalar

from pipeline.evaluation.metrics import Floats, Ints, accuracy, negative_log_likelihood

LEAST, MOST = 0.05, 20.0
"""The range of a fitted temperature."""


def fitted(logits: Floats, labels: Ints) -> tuple[float, str | None]:
    """The T for which softmax(logits / T) has the least NLL, from `LEAST` to `MOST`.

    The NLL is convex in 1 / T, so there is one minimum. If every answer is right, there is none: the NLL falls as long
    as T does, and answers that are wrong on other images would be given with certainty. T is 1 then.

    Args:
        logits: (N, C) of the validation images.
        labels: (N,) class indices.

    Returns:
        T, and a sentence if it was not fitted or lies at an end of its range, else None.
    """
    if accuracy(logits, labels) == 1:
        return 1.0, "all answers for the validation images are right, so no temperature can be fitted: it is 1"
    found = minimize_scalar(
        lambda log_of_t: negative_log_likelihood(np.asarray(logits, np.float64) / math.exp(log_of_t), labels),
        bounds=(math.log(LEAST), math.log(MOST)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    temperature = float(np.round(math.exp(found.x), 6))
    is_inside = LEAST * 1.001 < temperature < MOST / 1.001
    return temperature, None if is_inside else f"the temperature {temperature:g} lies at an end of its range"
