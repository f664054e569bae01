"""Image files, read by Pillow: which are accepted, and their pixels. Needs no TensorFlow."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from pipeline.images.places import read_bytes
from pipeline.runtime.errors import DamagedError, UnusableError

DECODER = "Pillow"
"""The library whose pixels are used.

Soft-label files and exported files note this name without a version, so that they outlive an update. If the pixels ever
change, the name must change.
"""

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
"""The file formats that are read, by Pillow's names. The content of a file decides its format, not its name."""

MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
"""Pillow's names for pixels of at most 8 bits a channel that Pillow converts to RGB."""

BITS_PER_SAMPLE = 258
"""TIFF's tag for the bits of each channel."""

LUMA = (0.299, 0.587, 0.114)
"""The weights of red, green and blue in grey (ITU-R BT.601)."""

LUMA_THOUSANDTHS = (299.0, 587.0, 114.0)
"""The same weights as whole numbers: float32 holds their sums exactly, in whatever order a processor adds them."""

# Pillow warns of faults in a file's other parts, such as its EXIF data; faults in the pixels are errors.
warnings.filterwarnings("ignore", module=r"PIL\.")


def read_pixels(content: bytes) -> npt.NDArray[np.uint8]:
    """Pillow's pixels of an image file, not resized: (height, width, 3), values 0 to 255.

    If a file holds several pictures, the first is read. Transparency is dropped, color profiles are not applied.

    Raises:
        DamagedError: the content is not an image, or only a part of one.
        UnusableError: the image has too many pixels, more than 8 bits a channel, or a mode that is not in `MODES`; or
            there is too little memory for it.
    """
    try:
        with PIL.Image.open(io.BytesIO(content), formats=FORMATS) as image:
            _refuse_deep(image, content)
            image.load()
            image.info.pop("transparency", None)  # else `convert` looks for this color in the palette
            return np.asarray(image.convert("RGB"))
    except PIL.UnidentifiedImageError:
        raise DamagedError("not an image that Pillow can read") from None
    except PIL.Image.DecompressionBombError:
        most = 2 * (PIL.Image.MAX_IMAGE_PIXELS or 0)
        raise UnusableError(f"more than {most:,} pixels, the most that Pillow reads") from None
    except MemoryError:
        raise UnusableError("too little memory for its pixels") from None
    except UnusableError:
        raise
    except Exception as error:  # Pillow's readers raise many classes for damaged files
        raise DamagedError(f"damaged: {str(error)[:80]}") from None


def _refuse_deep(image: Any, content: bytes) -> None:
    """Refuses more than 8 bits a channel, of which Pillow would silently use the upper 8 in some formats."""
    bits = max(image.tag_v2.get(BITS_PER_SAMPLE, (1,))) if image.format == "TIFF" else 0
    bits = content[24] if image.format == "PNG" else bits
    if bits > 8:
        raise UnusableError(f"{image.format} of {bits} bits a channel")
    if image.mode not in MODES:
        raise UnusableError(f"{image.format} of Pillow's mode {image.mode}")


def read_original(place: str | Path) -> npt.NDArray[np.uint8]:
    """The pixels of one image file, wherever it lies (`places`), as `read_pixels` gives them."""
    return read_pixels(read_bytes(place))
