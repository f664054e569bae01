"""Temperatures as params.yaml writes them: a number, or "8to2" for one that changes over the epochs."""

import re
from dataclasses import dataclass

CHANGING = re.compile(r"(?P<first>[0-9.eE+-]+)to(?P<last>[0-9.eE+-]+)")
"""The text of a temperature that changes."""


LOWEST, HIGHEST = 0.001, 1000.0
"""Within these temperatures the gradient of every loss is right to 1 % in float32, whose rounding error of 6e-8 grows
with T in the difference of two nearly equal softened probabilities, and with 1 / T in logits / T."""

RANGE = "a temperature from 0.001 to 1000, within which gradients are right to 1 %"
"""What is expected of a temperature, in words."""


def is_in_range(temperature: float) -> bool:
    """Whether the gradients of losses are right at a temperature T."""
    return LOWEST <= temperature <= HIGHEST


def in_range(temperature: float) -> float:
    """The same temperature.

    Raises:
        ValueError: it lies outside of the range.
    """
    if not is_in_range(temperature):
        raise ValueError(f"expected {RANGE}")
    return temperature


@dataclass(frozen=True)
class Temperature:
    """The temperature T of a training: from `first` in the first epoch, in equal steps, to `last` in the last one.

    Attributes:
        first: T > 0 of the first epoch.
        last: T > 0 of the last epoch; the same as `first` for a temperature that does not change.
    """

    first: float
    last: float

    @classmethod
    def parsed(cls, written: str) -> "Temperature":
        """Reads "4" or "8to2".

        Raises:
            ValueError: it is neither.
        """
        match = CHANGING.fullmatch(written)
        if match is None:
            return cls(float(written), float(written))
        return cls(float(match["first"]), float(match["last"]))

    @property
    def changes(self) -> bool:
        """Whether it is not the same in every epoch."""
        return self.first != self.last

    @property
    def largest(self) -> float:
        """The temperature of the soft-target file: the larger one, at which probabilities lose least."""
        return max(self.first, self.last)

    def at(self, epoch: int, epochs: int) -> float:
        """T in one of some epochs, which are counted from 0; a single epoch has the first temperature."""
        return self.first + (self.last - self.first) * (epoch / max(epochs - 1, 1))


def changing(written: str) -> str:
    """The same text, of a temperature that changes.

    Raises:
        ValueError: it is no such text, or one of its temperatures lies outside of the range.
    """
    match = CHANGING.fullmatch(written)
    try:
        ends = [] if match is None else [in_range(float(end)) for end in match.groups()]
    except ValueError:
        ends = []
    if len(set(ends)) != 2:
        raise ValueError(f"expected two that differ, as in 8to2, each {RANGE}, for one that changes over the epochs")
    return written


def last_of(written: str) -> str:
    """The temperature of the last epoch, as it is written."""
    match = CHANGING.fullmatch(written)
    return match["last"] if match else written


def softened_at(written: str) -> float:
    """The temperature at which `soft_targets_T<written>.h5` is softened."""
    return Temperature.parsed(written).largest
