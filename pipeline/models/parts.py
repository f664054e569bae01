"""The choices for the parts of a model, as params.yaml names them; `backbones` and `architectures` build the layers."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from pipeline.runtime.ranges import Number

Padding = Literal["same", "valid"]
Downsampling = Literal["stride", "max_pooling"]
Pooling = Literal["avg", "max", "flatten"]
PoolingOfTokens = Literal["avg", "max", "flatten", "token"]
"""As `Pooling`, or token: the first token of a transformer, its class token."""
PreprocessingName = Literal["none", "unit", "symmetric", "caffe"]
"""none: pixels 0 to 255 (the backbone rescales them itself); unit: pixels / 255; symmetric: pixels / 127.5 - 1; caffe:
channels in the order BGR, minus the ImageNet means 103.939, 116.779, 123.68."""


@dataclass(frozen=True)
class Standardization:
    """(pixels / 255 - mean) / std: torchvision's `Normalize` after `ToTensor`.

    Attributes:
        mean: one number for each channel, of pixels from 0 to 1.
        std: the same, the standard deviation.
    """

    mean: Annotated[list[Number], Field(min_length=1, max_length=3)]
    std: Annotated[list[Number], Field(min_length=1, max_length=3)]

    def __post_init__(self) -> None:
        """Refuses numbers that cannot belong to pixels from 0 to 1."""
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean has {len(self.mean)} number(s), std {len(self.std)}: give one each for a channel")
        if not all(0 <= mean <= 1 for mean in self.mean) or not all(0 < std <= 1 for std in self.std):
            raise ValueError("mean and std are those of pixels from 0 to 1: divide what belongs to 0 to 255 by 255")


@dataclass(frozen=True)
class Affine:
    """pixels * scale + offset, for pixels from 0 to 255, as an image converter of keras_hub computes it.

    Attributes:
        scale: one number, or one for each channel.
        offset: the same.
    """

    scale: float | list[float]
    offset: float | list[float]

    def __str__(self) -> str:
        """As a message shows it."""
        return f"(pixels * {_short(self.scale)} + {_short(self.offset)})"


def _short(numbers: float | list[float]) -> str:
    return f"[{', '.join(map(_short, numbers))}]" if isinstance(numbers, list) else f"{numbers:.4g}"


def _form(value: Any) -> str:
    # Chosen by hand, so that pydantic names the errors of one form only.
    return "$numbers" if isinstance(value, dict | Standardization) else "$name"


Numbers = Annotated[Standardization, Tag("$numbers")]
Preprocessing = Annotated[Annotated[PreprocessingName, Tag("$name")] | Numbers, Discriminator(_form)]
"""What happens to pixels, 0 to 255, before they enter a backbone."""

OwnOrOther = Annotated[Annotated[Literal["own", PreprocessingName], Tag("$name")] | Numbers, Discriminator(_form)]
"""As `Preprocessing`, or own: the one that the weights of the architecture's backbone expect."""
