"""Image files, read by Pillow: which are accepted, and their pixels. Needs no TensorFlow."""

import io
import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from pipeline.images.headers import may_unpack, refuse_costly, refuse_pixels
from pipeline.images.places import read_bytes
from pipeline.runtime.digests import sha256_bytes
from pipeline.runtime.errors import DamagedError, UnusableError, one_line
from pipeline.runtime.limits import limits
from pipeline.runtime.room import Room

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

TILE = (322, 323)
"""TIFF's tags for the width and the length of a tile, which libtiff reads as a whole."""

MOST_OF_RUNS = 4_000_000
"""The most pixels of a BMP file that is compressed by run lengths, which Pillow reads in Python."""

LARGE = 2**20
"""Pixels of a picture that asks for room (`PIXELS_AT_ONCE`)."""

AT_ONCE = 2
"""How many pictures of the most pixels may be decoded at the same time; each takes up to 2 GB by default."""

LUMA = (0.299, 0.587, 0.114)
"""The weights of red, green and blue in grey (ITU-R BT.601)."""

LUMA_THOUSANDTHS = (299.0, 587.0, 114.0)
"""The same weights as whole numbers: float32 holds their sums exactly, in whatever order a processor adds them."""

PIL.Image.MAX_IMAGE_PIXELS = None  # `limits` says it

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
    refuse_costly(content)
    try:
        with PIL.Image.open(io.BytesIO(content), formats=FORMATS) as image:
            _refuse_deep(image, content)
            _refuse_large(image)
            with _room_for(image):
                image.load()
                image.info.pop("transparency", None)  # else `convert` looks for this color in the palette
                return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    except PIL.UnidentifiedImageError:
        raise DamagedError("not an image that Pillow can read") from None
    except MemoryError:
        raise UnusableError("too little memory for its pixels") from None
    except UnusableError:
        raise
    except Exception as error:  # Pillow's readers raise many classes for damaged files
        raise DamagedError(f"damaged: {one_line(error, 80)}") from None


def _refuse_deep(image: Any, content: bytes) -> None:
    """Refuses more than 8 bits a channel, of which Pillow would silently use the upper 8 in some formats."""
    bits = max(image.tag_v2.get(BITS_PER_SAMPLE, (1,))) if image.format == "TIFF" else 0
    bits = content[24] if image.format == "PNG" else bits
    if bits > 8:
        raise UnusableError(f"{image.format} of {bits} bits a channel")
    if image.mode not in MODES:
        raise UnusableError(f"{image.format} of Pillow's mode {image.mode}")


def _refuse_large(image: Any) -> None:
    """Refuses what takes too much memory or time, from the header that Pillow has read."""
    refuse_pixels(image.height, image.width)
    if image.format == "TIFF":
        refuse_pixels(*(image.tag_v2.get(tag, 0) for tag in TILE))
    has_runs = image.format == "BMP" and image.info.get("compression") in (1, 2)
    if has_runs and image.height * image.width > MOST_OF_RUNS:
        raise UnusableError(f"a BMP file in run lengths of more than {MOST_OF_RUNS:,} pixels. Save it as PNG")


def _room_for(image: Any) -> AbstractContextManager[None]:
    pixels = image.height * image.width
    return nullcontext() if pixels < LARGE else IN_MEMORY.of(pixels, AT_ONCE * limits().image_pixels)


IN_MEMORY = Room()
"""The pixels of all large pictures that are being decoded."""


def read_original(place: str | Path) -> npt.NDArray[np.uint8]:
    """The pixels of one image file, wherever it lies (`places`), as `read_pixels` gives them."""
    return read_pixels(read_bytes(place))


def digest_of(place: str | Path) -> str:
    """SHA-256 of an image file, wherever it lies, after a look at its header: TensorFlow may decode it afterwards.

    Raises:
        MissingError, DamagedError: as `read_bytes`.
        UnusableError: it would take too much memory or time.
    """
    content = read_bytes(place)
    try:
        refuse_costly(content)
        if may_unpack(content):
            read_pixels(content)
    except (DamagedError, UnusableError) as error:
        raise UnusableError(f"the image {place} cannot be used: {error}") from None
    return sha256_bytes(content)
