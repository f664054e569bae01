"""Images of each format, as Pillow and TensorFlow read them."""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
import PIL.Image
from hypothesis import strategies as st

from benchmarks.fuzz.target import Target
from pipeline.runtime.limits import Limits, in_environment

SHAPE = (8, 8, 3)
KINDS: tuple[tuple[str, str, dict[str, object]], ...] = (
    ("PNG", "RGB", {}),
    ("PNG", "P", {}),
    ("JPEG", "RGB", {}),
    ("JPEG", "L", {"progressive": True}),
    ("JPEG", "CMYK", {}),
    ("BMP", "RGB", {}),
    ("GIF", "P", {}),
    ("TIFF", "RGB", {}),
    ("TIFF", "L", {"compression": "tiff_lzw"}),
    ("TIFF", "RGB", {"compression": "jpeg"}),
    ("WEBP", "RGB", {"lossless": True}),
    ("WEBP", "RGB", {}),
)
WORDS = (
    b"\xff\xd8",
    b"\xff\xda",
    b"\xff\xc0",
    b"\xff\xc2",
    b"IHDR",
    b"IDAT",
    b"zTXt",
    b"VP8X",
    b"ANIM",
    b"II*\0",
    b"!\xfe",
)
SIDES = (0, 1, 7, 255, 256, 1000, 1001, 23_000, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1)


def seeds() -> list[bytes]:
    """A small picture in each format."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 17, 3), np.uint8)
    contents = []
    for kind, mode, options in KINDS:
        content = io.BytesIO()
        PIL.Image.fromarray(pixels).convert(mode).save(content, kind, **options)
        contents.append(content.getvalue())
    return contents


def run(path: Path) -> None:
    """Looks at the image, and decodes it, as `split` and the stages behind it do."""
    import tensorflow as tf

    from pipeline.images.checks import refuse_undecodable
    from pipeline.images.decoding import decode
    from pipeline.images.image_files import digest_of, read_original

    with patch.dict(os.environ, in_environment(Limits(image_pixels=10**6))):
        digest_of(path)
        refuse_undecodable({path.name: path})
        read_original(path)
        decode(tf.constant(path.read_bytes()), SHAPE)


def inputs(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """A seed with another number of one, two or four bytes near its start, where headers are."""
    number = st.tuples(
        st.integers(0, 200), st.sampled_from((1, 2, 4)), st.sampled_from(("big", "little")), st.sampled_from(SIDES)
    )
    return st.builds(_with_numbers, st.sampled_from(seeds), st.lists(number, min_size=1, max_size=3))


def _with_numbers(content: bytes, numbers: list[tuple[int, int, str, int]]) -> bytes:
    for at, size, order, value in numbers:
        part = (value % 256**size).to_bytes(size, "big" if order == "big" else "little")
        content = content[:at] + part + content[at + size :]
    return content


TARGETS = {"images": Target(seeds=seeds, run=run, inputs=inputs, file="image", words=WORDS)}
