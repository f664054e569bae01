"""From the bytes of an image file to the pixels that an exported file takes."""

from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.deployed.metadata import Metadata
from pipeline.images.image_files import DECODER, read_pixels
from pipeline.images.numpy_resize import FITS, METHODS, resized
from pipeline.runtime.errors import MismatchError

RESIZE: dict[str, list[str] | list[bool]] = {"method": [*METHODS], "antialias": [True, False], "fit": [*FITS]}
"""What says how an image is resized, and the values that this version knows."""


def refuse_other_preprocessing(metadata: Metadata) -> None:
    """Checks that this version prepares images as a file wants them.

    Raises:
        MismatchError: it does not.
    """
    decoder: Any = metadata.preprocessing.get("decoder")
    resize: Any = metadata.preprocessing.get("resize")
    has_its_keys = isinstance(resize, dict) and set(resize) == set(RESIZE)
    if decoder != DECODER or not has_its_keys or any(resize[name] not in known for name, known in RESIZE.items()):
        raise MismatchError(
            f"the model takes images that {decoder} decodes and that are resized by {resize}; this program has "
            f"{DECODER} and {', '.join(METHODS)}. Install the version of softlabel that wrote the file."
        )


def model_pixels(content: bytes, metadata: Metadata) -> npt.NDArray[np.uint8]:
    """Decodes and resizes one image, as every stage does; see `numpy_resize`.

    Args:
        content: the bytes of the image file.
        metadata: of the exported file; `refuse_other_preprocessing` must have accepted it.

    Returns:
        (height, width, channels) of the file's input.

    Raises:
        DamagedError: the content is not an image, or only a part of one.
        UnusableError: it has too many pixels, more than 8 bits a channel, or an unknown mode.
    """
    return resized(read_pixels(content), metadata.input_shape, **metadata.preprocessing["resize"])
