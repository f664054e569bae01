"""What an image file says of itself, looked at before a decoder is asked: its pixels, and how long it takes to read.

A decoder believes a header: it takes memory for all pixels, and time for all parts, however small the file is.
"""

import re
from collections.abc import Iterator

from pipeline.runtime.errors import UnusableError
from pipeline.runtime.limits import limits, raised_by

PNG = b"\x89PNG"
JPEG = b"\xff\xd8\xff"

MOST_PARTS = 100_000
"""Of a PNG or JPEG file: its chunks or segments. Pillow reads a hundred thousand a second."""

MOST_EXIF = 2**20
"""Bytes of EXIF data in all segments of a JPEG file. Pillow copies all earlier ones for each."""

MOST_SCANS = 500
"""Of a JPEG file; programs write about ten."""

LARGE_SCANS = 15
"""How often a progressive JPEG file may go over as many pixels as an image may have."""

COMPRESSED_TEXT = (b"zTXt", b"iTXt", b"iCCP")
"""The chunks of a PNG file that may unpack to a thousand times their size."""

MARKER = re.compile(rb"\xff([^\x00\x01\xff\xd0-\xd7])")
"""The start of a segment of a JPEG file. In the numbers of a scan, a byte of 255 is followed by 0 or a restart."""

FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""The markers that begin a picture, each with its way of coding."""

SEQUENTIAL = (0xC0, 0xC1)
"""Of these, baseline and extended: each number is coded in one go, by Huffman's codes."""

END, SCAN, EXIF = 0xD9, 0xDA, 0xE1


def refuse_pixels(height: int, width: int) -> None:
    """Checks the size that an image file declares.

    Raises:
        UnusableError: it has too many pixels.
    """
    most = limits().image_pixels
    if height * width > most:
        raise UnusableError(f"{width:,} x {height:,}, more than {most:,} pixels. {raised_by('image_pixels')}")


def refuse_costly(content: bytes) -> None:
    """Looks at the header of a PNG or JPEG file, the formats that TensorFlow reads too, which has no limits of its own.

    Raises:
        UnusableError: it declares too many pixels, or has so many parts that reading it would take minutes.
    """
    if content.startswith(PNG):
        refuse_pixels(_number(content[20:24]), _number(content[16:20]))
        for number, _ in enumerate(_chunks(content)):
            _refuse_more(number, MOST_PARTS, "chunks")
    elif content.startswith(JPEG):
        _refuse_costly_jpeg(content)


def may_unpack(content: bytes) -> bool:
    """Whether an image is a PNG file with compressed texts, of which Pillow refuses large ones, and TensorFlow none."""
    return content.startswith(PNG) and any(kind in COMPRESSED_TEXT for kind in _chunks(content))


def _refuse_costly_jpeg(content: bytes) -> None:
    frame, exif, scans = b"", 0, 0
    is_in_one_scan = False
    for number, (marker, segment, _) in enumerate(jpeg_segments(content)):
        _refuse_more(number, MOST_PARTS, "segments")
        if marker in FRAMES and not frame:
            frame = segment
            refuse_pixels(_number(segment[1:3]), _number(segment[3:5]))
            is_in_one_scan = marker in SEQUENTIAL
        elif marker == EXIF and segment.startswith(b"Exif"):
            exif += len(segment)
            _refuse_more(exif, MOST_EXIF, "bytes of EXIF data")
        elif marker == SCAN:
            if is_in_one_scan and segment[:1] == frame[5:6]:
                return  # all components are in it, so decoders accept no other scan
            scans += 1
            most = LARGE_SCANS * limits().image_pixels // (_number(frame[1:3]) * _number(frame[3:5]) or 1)
            _refuse_more(scans, min(most, MOST_SCANS), "scans")


def _refuse_more(count: int, most: int, of_what: str) -> None:
    if count > most:
        raise UnusableError(f"more than {most:,} {of_what}: reading it would take too long. Save it again")


def _chunks(content: bytes) -> Iterator[bytes]:
    """The name of each chunk of a PNG file."""
    at = 8
    while kind := content[at + 4 : at + 8]:
        yield kind
        at += 12 + _number(content[at : at + 4])


def jpeg_segments(content: bytes) -> Iterator[tuple[int, bytes, int]]:
    """The marker and the bytes of each segment of a JPEG file, and where it ends.

    As in libjpeg, other bytes may lie between segments.
    """
    at = 2
    while (found := MARKER.search(content, at)) and found[1][0] != END:
        start = found.end()
        at = start + max(_number(content[start : start + 2]), 2)
        yield found[1][0], content[start + 2 : at], at


def _number(big_endian: bytes) -> int:
    return int.from_bytes(big_endian, "big")
