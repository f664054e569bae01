"""How an image file becomes a model's input, as `images.resize` in params.yaml says it and soft-label files note it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pipeline.runtime.errors import DamagedError
from pipeline.runtime.ranges import Flag

DECODER = "Pillow"
"""Whose pixels an image file holds. Part of the files' identity: a change of the pixels changes this name."""

Method = Literal["nearest", "bilinear", "bicubic", "lanczos3", "area"]
Fit = Literal["stretch", "crop", "pad"]


@dataclass(frozen=True)
class Resize:
    """How a decoded image is brought to a model's input size, for teacher and student alike.

    Attributes:
        method: the interpolation, by the name that Keras gives it.
        antialias: whether a larger image is smoothed as it is made smaller; Keras' own loader does not. It has no
            meaning with the methods "nearest" and "area".
        fit: what happens to another aspect ratio: "stretch" changes it, "crop" cuts off what is too much, evenly on
            both sides, "pad" adds black on both sides.
    """

    method: Method
    antialias: Flag
    fit: Fit

    def as_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self)

    @classmethod
    def of_file(cls, preprocessing: dict[str, Any]) -> "Resize":
        """What the `preprocessing` of a soft-label file says.

        Raises:
            DamagedError: the file is older than that.
        """
        try:
            return cls(**preprocessing["resize"])
        except (KeyError, TypeError):
            raise DamagedError(
                f"the soft labels do not say how images were resized ({preprocessing.get('resize')!r}): they were made "
                "by an older version. Make them anew with `dvc repro`."
            ) from None


DEFAULT_RESIZE = Resize("bilinear", True, "stretch")


def preprocessing(input_shape: Sequence[int], resize: Resize) -> dict[str, Any]:
    """What a soft-label file says of its images: the input's (height, width, channels), the decoder, the resizing."""
    return {"input_shape": list(input_shape), "decoder": DECODER, "resize": resize.as_json()}


def other_pixels(found: dict[str, Any], expected: Resize) -> str | None:
    """How a file's `preprocessing` departs from today's decoder and resizing, in words; None if it does not.

    The input size is left out: that of the student may be another one.
    """
    now = _flat(preprocessing((), expected))
    then = _flat(found)
    unequal = [f"{name} {then.get(name)}, expected {value}" for name, value in now.items() if then.get(name) != value]
    return f"was made from other pixels: {'; '.join(unequal)}" if unequal else None


def _flat(described: dict[str, Any]) -> dict[str, Any]:
    resized = described.get("resize")
    named = resized if isinstance(resized, dict) else {}
    return {"decoder": described.get("decoder")} | {f"resize.{name}": value for name, value in named.items()}
