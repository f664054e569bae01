"""The form of a JPEG file: what decides in which way a decoder turns its numbers into pixels."""

import re
from collections.abc import Iterator
from typing import NamedTuple

SEQUENTIAL = (0xC0, 0xC1)
"""The markers of frames (SOF) whose picture comes in one pass, coded by Huffman: baseline and extended."""

DEFINE_TABLES, START_OF_SCAN, DEFINE_RESTARTS, APP0, ADOBE = 0xDB, 0xDA, 0xDD, 0xE0, 0xEE
ALONE = (0x01, *range(0xD0, 0xD8))
"""The markers that no segment follows."""

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
    adobe: int | None
    """Adobe's number of the colour transform."""


def form_of(content: bytes) -> JpegForm | None:
    """The form of a JPEG file.

    Returns:
        The form; None for a progressive file or another that is not `SEQUENTIAL`, a file of several scans, a very small
        picture, and a file with other markers than a sound one has.
    """
    frame, fine_tables, restarts, jfif, adobe = b"", False, False, False, None
    for marker, segment, end in _segments(content):
        if marker in SEQUENTIAL and len(segment) > 6 and not frame:
            sides = int.from_bytes(segment[1:3], "big"), int.from_bytes(segment[3:5], "big")
            if min(sides) < SMALL_SIDE:
                return None
            frame = bytes([marker, segment[0]]) + segment[5:]
        elif marker == START_OF_SCAN:
            if not frame or _end_of_scan(content, end) != END_OF_IMAGE:
                return None
            return JpegForm(frame, fine_tables, restarts, jfif, adobe)
        elif marker == DEFINE_TABLES:
            fine_tables = fine_tables or any(byte >> 4 for byte in segment[:1])
        elif marker == DEFINE_RESTARTS:
            restarts = any(segment)
        elif marker == APP0:
            jfif = jfif or segment.startswith(b"JFIF\0")
        elif marker == ADOBE and segment.startswith(b"Adobe") and len(segment) >= 12:
            adobe = segment[11]
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return None
    return None


def _end_of_scan(content: bytes, start: int) -> bytes | None:
    found = END_OF_SCAN.search(content, start)
    return found and found.group()


def _segments(content: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Each marker of a file's head, the bytes of its segment, and where they end."""
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xFF or marker in ALONE:
            at += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(content[at + 2 : at + 4], "big")
        if length < 2:
            return
        end = at + 2 + length
        yield marker, content[at + 4 : end], end
        at = end
