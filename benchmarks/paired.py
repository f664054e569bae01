"""Paired timing: variants take turns in one process, so that a machine whose speed drifts slows all of them alike."""

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.stats import binom


def interleaved(
    variants: Mapping[str, Callable[[], object]],
    rounds: int,
    warm_up: int = 1,
    before: Mapping[str, Callable[[], object]] | None = None,
) -> dict[str, list[float]]:
    """Times every variant once in each round. The order changes, so no variant always follows the same other one.

    Args:
        variants: what to run, by name. A variant must have finished its work when it returns.
        rounds: how many rounds are counted.
        warm_up: rounds before these, which are not counted (tracing, caches).
        before: by the same names, what to do before a variant each time; it is not timed.

    Returns:
        Seconds of each variant in each round.
    """
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(warm_up + rounds):
        for name in np.random.default_rng(number).permutation(list(variants)):
            if before is not None:
                before[name]()
            taken = seconds_of(variants[name])
            if number >= warm_up:
                seconds[name].append(taken)
    return seconds


def seconds_of(work: Callable[[], object]) -> float:
    """How long it takes once."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """The first divided by the second, round by round."""
    return [a / b for a, b in zip(above, below, strict=True)]


def spread(values: Sequence[float], digits: int = 3) -> str:
    """The median, and in brackets the quartiles, with `digits` significant digits."""
    low, median, high = np.percentile(values, [25, 50, 75])
    return f"{_written(median, digits)} ({_written(low, digits)} to {_written(high, digits)})"


def interval_of_median(values: Sequence[float], digits: int = 4) -> str:
    """An interval that contains the median of the distribution with at least 95 % confidence, as in the sign test.

    "-" for five values or fewer, which cannot give that confidence.
    """
    if len(values) < 6:
        return "-"
    ordered = sorted(values)
    below = max(0, int(binom.ppf(0.025, len(ordered), 0.5)) - 1)
    return f"{_written(ordered[below], digits)} to {_written(ordered[-1 - below], digits)}"


def _written(value: float, digits: int) -> str:
    decimals = max(0, digits - 1 - int(np.floor(np.log10(abs(value))))) if value else 0
    return f"{value:,.{decimals}f}"
