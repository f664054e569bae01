"""The form of a JPEG file: what decides in which way a decoder turns its numbers into pixels."""

import re
from typing import NamedTuple

from pipeline.images.headers import FRAMES, SCAN, SEQUENTIAL, jpeg_segments

DEFINE_TABLES, DEFINE_RESTARTS, APP0, ADOBE = 0xDB, 0xDD, 0xE0, 0xEE

END_OF_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7]")
"""What ends the numbers of a scan: a marker that is none of restarts'. In them, a byte of 255 is followed by 0."""

END_OF_IMAGE = b"\xff\xd9"

SMALL_SIDE = 16
"""The side of the largest block that is decoded at once. A smaller picture is all edge, where decoders differ most."""


class JpegForm(NamedTuple):
    """What a file says of the steps from coefficients to pixels (ITU-T T.81, JFIF, and Adobe's segment APP14)."""

    frame: bytes
    """Of the frame: its marker, the bits of a sample, and the components, each with its name and its sampling."""
    fine_tables: bool
    """Whether a quantisation table has 16 bits."""
    restarts: bool
    jfif: bool
    adobe: bytes | None
    """Adobe's number of the colour transform."""


def form_of(content: bytes) -> JpegForm | None:
    """The form of a JPEG file.

    Returns:
        The form; None for a progressive file or another that is not `SEQUENTIAL`, a file of several scans, a very small
        picture, and a file with other markers or bytes than a sound one has.
    """
    frame, fine_tables, restarts, jfif, adobe = b"", False, False, False, None
    last = 2
    for marker, segment, end in jpeg_segments(content):
        if content[last : last + 2] != bytes([0xFF, marker]):
            return None
        last = end
        if marker in FRAMES:
            if marker not in SEQUENTIAL or frame or _shorter_side(segment) < SMALL_SIDE:
                return None
            frame = bytes([marker, segment[0]]) + segment[5:]
        elif marker == SCAN:
            is_whole = frame and _end_of_scan(content, end) == END_OF_IMAGE
            return JpegForm(frame, fine_tables, restarts, jfif, adobe) if is_whole else None
        elif marker == DEFINE_TABLES:
            fine_tables = fine_tables or segment[:1] >= b"\x10"
        elif marker == DEFINE_RESTARTS:
            restarts = any(segment)
        elif marker == APP0:
            jfif = jfif or segment.startswith(b"JFIF\0")
        elif marker == ADOBE and segment.startswith(b"Adobe"):
            adobe = segment[11:12]
    return None


def _shorter_side(frame: bytes) -> int:
    return min(int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big"))


def _end_of_scan(content: bytes, start: int) -> bytes | None:
    found = END_OF_SCAN.search(content, start)
    return found and found.group()
