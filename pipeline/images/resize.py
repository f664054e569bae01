"""How an image file becomes a model's input: `images.resize` of params.yaml, and what files note of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pipeline.images.image_files import DECODER
from pipeline.images.index import Index
from pipeline.images.views import Views
from pipeline.runtime.digests import fingerprint
from pipeline.runtime.errors import DamagedError
from pipeline.runtime.ranges import Flag

Method = Literal["nearest", "bilinear", "bicubic", "lanczos3", "area"]
Fit = Literal["stretch", "crop", "pad"]


@dataclass(frozen=True)
class Resize:
    """How a decoded image is brought to a model's input size, for teacher and student alike.

    Attributes:
        method: the interpolation, by the name that Keras gives it.
        antialias: whether an image is smoothed as it is made smaller; Keras' own loader does not do so. It makes no
            difference to the methods "nearest" and "area".
        fit: how an image of another aspect ratio is treated: "stretch" changes its ratio, "crop" cuts off equal parts
            on both sides, "pad" adds black on both sides.
    """

    method: Method
    antialias: Flag
    fit: Fit

    def as_json(self) -> dict[str, Any]:
        """The values of the attributes, by name."""
        return asdict(self)

    @classmethod
    def of_file(cls, preprocessing: dict[str, Any]) -> "Resize":
        """How the images of a soft-label file were resized, from its `preprocessing`.

        Raises:
            DamagedError: an older version made the file and did not note it.
        """
        try:
            return cls(**preprocessing["resize"])
        except (KeyError, TypeError):
            raise DamagedError(
                "the soft labels do not say how images were resized, because an older version made them: `resize` is "
                f"{preprocessing.get('resize')!r}, expected method, antialias and fit. Make them anew with `dvc repro`."
            ) from None


DEFAULT_RESIZE = Resize("bilinear", True, "stretch")


def preprocessing(input_shape: Sequence[int], resize: Resize) -> dict[str, Any]:
    """What a soft-label file notes of its images: (height, width, channels) of the input, the decoder, the resizing."""
    return {"input_shape": list(input_shape), "decoder": DECODER, "resize": resize.as_json()}


def rendering_of(input_shape: Sequence[int], resize: Resize, views: Views, data: Index | None = None) -> str:
    """Everything that decides the pixels of a view but its image and number, as one line of JSON.

    Tables of logits from other programs carry this text. Equal pixels have equal texts: the number of views is not in
    it, the seed is null if nothing is drawn, and the training images are named only if views are mixed.

    Args:
        input_shape: (height, width, channels) of the views, in pixels.
        resize: how images are brought to that size.
        views: the views of the training images.
        data: the index, from whose training images partners are drawn; needed if views are mixed.
    """
    drawn = views.as_json()
    decides = {
        **preprocessing(input_shape, resize),
        "seed": None if views.augmentation.is_identity else drawn["seed"],
        "augmentation": drawn["augmentation"],
    }
    if views.augmentation.mixes:
        pool = [] if data is None else data.split("train")
        decides["partners"] = fingerprint(images=[(image.id, image.sha256, image.is_labelled) for image in pool])
    return json.dumps(decides, sort_keys=True, ensure_ascii=False)


def other_pixels(stored: Mapping[str, Any], expected: Resize) -> list[str]:
    """Which values of a file's `preprocessing` differ from today's decoder and resizing; one text, or none.

    The input size is not compared: the student's may differ from the teacher's.
    """
    now, then = _flat(preprocessing((), expected)), _flat(stored)
    unequal = [f"{name} {then.get(name)}, expected {value}" for name, value in now.items() if then.get(name) != value]
    return [f"was made from other pixels: {'; '.join(unequal)}"] if unequal else []


def _flat(preprocessing: Mapping[str, Any]) -> dict[str, Any]:
    resize = preprocessing.get("resize")
    values = resize if isinstance(resize, dict) else {}  # an older version wrote a text
    return {"decoder": preprocessing.get("decoder")} | {f"resize.{name}": value for name, value in values.items()}
