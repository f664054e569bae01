"""What image files declare is looked at before a decoder takes memory or time for it: hostile files of each kind."""

import io
import os
import struct
import threading
import zlib
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest

from pipeline.images.checks import refuse_undecodable
from pipeline.images.headers import LARGE_SCANS, MOST_EXIF, MOST_PARTS, MOST_SCANS
from pipeline.images.image_files import MOST_OF_RUNS, digest_of, read_pixels
from pipeline.images.index import Image, refuse_changed
from pipeline.images.places import read_bytes
from pipeline.runtime.digests import sha256_bytes
from pipeline.runtime.errors import MismatchError, UnusableError
from pipeline.runtime.limits import DEFAULT, VARIABLE, in_environment
from pipeline.runtime.room import Room

SIDE = 23_000
"""23,000 x 23,000 pixels are 529 million."""

COMMENT = b"\xff\xfe"


def encoded(kind: str, side: int = 8, mode: str = "RGB", **options: object) -> bytes:
    content = io.BytesIO()
    PIL.Image.new(mode, (side, side)).save(content, kind, **options)
    return content.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(chunks: bytes) -> bytes:
    """A PNG file with chunks behind its header."""
    content = encoded("PNG")
    return content[:33] + chunks + content[33:]


def segment(marker: bytes, data: bytes) -> bytes:
    return marker + struct.pack(">H", len(data) + 2) + data


def jpeg_with(segments: bytes) -> bytes:
    """A JPEG file with segments before all others."""
    return b"\xff\xd8" + segments + encoded("JPEG")[2:]


def tiff(*tags: tuple[int, int]) -> bytes:
    """A TIFF file of 8 x 8 grey pixels; further tags have one LONG each."""
    of_picture = [(256, 8), (257, 8), (258, 8), (262, 1), (277, 1), (278, 8), (273, 8), (279, 64)]
    entries = sorted((dict(of_picture) | dict(tags)).items())
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", tag, 4, 1, n) for tag, n in entries)
    return b"II*\0" + struct.pack("<I", 72) + b"\x80" * 64 + directory + b"\0\0\0\0"


def scans_of(content: bytes) -> list[bytes]:
    """The parts of a progressive JPEG file: what stands before its first scan, and each scan without the end."""
    return content.removesuffix(b"\xff\xd9").split(b"\xff\xda")


def declaring(kind: str, side: int) -> bytes:
    """A small file whose header says that the picture has this side."""
    if kind == "PNG":
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    if kind in ("JPEG", "progressive JPEG"):
        content = encoded("JPEG", progressive=kind != "JPEG")
        start = content.index(b"\xff\xc0" if kind == "JPEG" else b"\xff\xc2") + 5
        return content[:start] + struct.pack(">HH", side, side) + content[start + 4 :]
    if kind == "GIF":
        return b"GIF89a" + struct.pack("<HH", side, side) + encoded("GIF", mode="P")[10:]
    if kind == "BMP":
        content = encoded("BMP")
        return content[:18] + struct.pack("<ii", side, side) + content[26:]
    if kind == "TIFF":
        return tiff((256, side), (257, side))
    header = b"VP8X" + struct.pack("<II", 10, 0) + (side - 1).to_bytes(3, "little") + (side - 1).to_bytes(3, "little")
    body = header + encoded("WEBP", lossless=True)[12:]
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


KINDS = ("PNG", "JPEG", "progressive JPEG", "GIF", "BMP", "TIFF", "WEBP")


@pytest.mark.parametrize("kind", KINDS[:-1])  # a side of 23,000 is more than WebP can say
def test_declared_pixels_are_refused(kind):
    content = declaring(kind, SIDE)
    assert len(content) < 2000
    with pytest.raises(UnusableError, match=r"23,000 x 23,000, more than 100,000,000 pixels.*limits.image_megapixels"):
        read_pixels(content)


@pytest.mark.parametrize("kind", KINDS)
def test_the_limit_is_that_of_the_parameter(kind, monkeypatch):
    name = "JPEG" if "JPEG" in kind else kind
    content = encoded(name, 10, "P" if kind == "GIF" else "RGB", **({"progressive": True} if "prog" in kind else {}))
    for pixels, is_read in ((100, True), (99, False)):
        monkeypatch.setenv(VARIABLE, in_environment(replace(DEFAULT, image_pixels=pixels))[VARIABLE])
        if is_read:
            assert read_pixels(content).shape == (10, 10, 3)
        else:
            with pytest.raises(UnusableError, match="10 x 10, more than 99 pixels"):
                read_pixels(content)


def test_pillow_has_no_other_limit():
    assert PIL.Image.MAX_IMAGE_PIXELS is None


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_what_tensorflow_decodes_is_looked_at_first(kind, tmp_path):
    """An index and its images may come from elsewhere: no stage `split` of this machine has seen them."""
    content, path = declaring(kind, SIDE), tmp_path / "bomb"
    path.write_bytes(content)
    image = Image("bomb", str(path), "cat", "train", "", sha256_bytes(content))
    with pytest.raises(UnusableError, match=r"bomb cannot be used: 23,000 x 23,000"):
        refuse_changed([image])
    path.write_bytes(encoded("PNG"))
    with pytest.raises(MismatchError):
        refuse_changed([image])


def test_split_names_every_large_image(tmp_path):
    files = {kind: tmp_path / f"{number}" for number, kind in enumerate(KINDS[:-1])}
    for kind, file in files.items():
        file.write_bytes(declaring(kind, SIDE))
    with pytest.raises(UnusableError, match=r"6 of 6 image files cannot be used: PNG \(23,000 x 23,000"):
        refuse_undecodable(files)


def test_a_small_picture_in_a_huge_tile():
    with pytest.raises(UnusableError, match="40,000 x 40,000"):
        read_pixels(tiff((322, 40_000), (323, 40_000), (324, 8), (325, 64)))
    assert read_pixels(tiff()).shape == (8, 8, 3)


def test_exif_data_in_many_segments():
    part = segment(b"\xff\xe1", b"Exif\0\0" + bytes(65_000))
    assert read_pixels(jpeg_with(part)).shape == (8, 8, 3)
    other = segment(b"\xff\xe1", b"http://ns.adobe.com/xmp/extension/\0" + bytes(65_000))
    assert read_pixels(jpeg_with(other * (MOST_EXIF // 65_000 + 1))).shape == (8, 8, 3)
    with pytest.raises(UnusableError, match="bytes of EXIF data"):
        read_pixels(jpeg_with(part * (MOST_EXIF // 65_000 + 1)))


@pytest.mark.parametrize("between", [b"", b"junk"])  # which libjpeg passes over
def test_too_many_parts(between):
    with pytest.raises(UnusableError, match="100,000 segments"):
        read_pixels(jpeg_with((segment(COMMENT, b"") + between) * (MOST_PARTS + 1)))
    with pytest.raises(UnusableError, match="100,000 chunks"):
        read_pixels(png_with(chunk(b"prVt", b"") * (MOST_PARTS + 1)))


@pytest.mark.parametrize("hidden", [b"", segment(COMMENT, b"\xff\xd9")])
def test_scans_are_counted(hidden):
    head, *scans = scans_of(encoded("JPEG", progressive=True))
    last = hidden + b"\xff\xda" + scans[-1]
    whole = b"\xff\xda".join([head, *scans])
    assert read_pixels(whole + last * (MOST_SCANS - len(scans)) + b"\xff\xd9").shape == (8, 8, 3)
    with pytest.raises(UnusableError, match="500 scans"):
        read_pixels(whole + last * (MOST_SCANS - len(scans) + 1) + b"\xff\xd9")


def test_a_large_picture_has_few_scans(monkeypatch):
    monkeypatch.setenv(VARIABLE, in_environment(replace(DEFAULT, image_pixels=64))[VARIABLE])
    head, *scans = scans_of(encoded("JPEG", progressive=True))
    content = b"\xff\xda".join([head, *scans, *scans[-1:] * (LARGE_SCANS + 1 - len(scans))]) + b"\xff\xd9"
    with pytest.raises(UnusableError, match=f"more than {LARGE_SCANS} scans"):
        read_pixels(content)


def test_what_follows_the_end_of_a_jpeg_file_is_no_scan():
    assert read_pixels(encoded("JPEG", progressive=True) + b"\xff\xda\0\2" * 1000).shape == (8, 8, 3)


def test_compressed_texts_that_tensorflow_would_unpack(tmp_path):
    bomb = png_with(chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(2**21))))
    (tmp_path / "text.png").write_bytes(bomb)
    with pytest.raises(UnusableError, match=r"text.png cannot be used: damaged: Decompressed data too large"):
        digest_of(tmp_path / "text.png")
    (tmp_path / "text.png").write_bytes(png_with(chunk(b"zTXt", b"k\0\0" + zlib.compress(b"a text"))))
    assert digest_of(tmp_path / "text.png") == sha256_bytes((tmp_path / "text.png").read_bytes())


def test_run_lengths_are_read_in_small_pictures_alone():
    def runs(side: int, bits: int = 8, kind: int = 1) -> bytes:
        rows = b"".join(b"\xff\1" * (side // 255) + bytes([side % 255, 1, 0, 0]) for _ in range(side)) + b"\0\1"
        info = struct.pack("<IiiHHIIiiII", 40, side, side, 1, bits, kind, len(rows), 0, 0, 256, 0) + bytes(1024)
        return b"BM" + struct.pack("<IHHI", 1078 + len(rows), 0, 0, 1078) + info + rows

    assert read_pixels(runs(300)).shape == (300, 300, 3)
    with pytest.raises(UnusableError, match="in run lengths"):
        read_pixels(runs(int(MOST_OF_RUNS**0.5) + 1))
    with pytest.raises(UnusableError, match="in run lengths"):
        read_pixels(runs(int(MOST_OF_RUNS**0.5) + 1, 4, 2))


def test_files_of_too_many_bytes_are_not_read(tmp_path):
    with (tmp_path / "large.jpg").open("wb") as file:
        file.truncate(10 * 10**9)  # no block of the disk is written
    with pytest.raises(UnusableError, match=r"10,000,000,000 bytes.*limits.image_megabytes"):
        read_bytes(tmp_path / "large.jpg")
    with pytest.raises(UnusableError, match=r"600,000,000 bytes"):
        read_bytes(f"{tmp_path}/large.jpg//bytes=5+600000000")


def test_a_pipe_is_no_image(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UnusableError, match="pipe or a device"):
        read_bytes(tmp_path / "pipe.png")


def test_room_is_shared_and_a_large_one_goes_in_alone():
    room, inside, most = Room(), [0], [0]
    guard = threading.Lock()

    def take(amount: int) -> None:
        for _ in range(50):
            with room.of(amount, 10):
                with guard:
                    inside[0] += amount
                    most[0] = max(most[0], inside[0])
                    assert inside[0] in (25, *range(11))
                with guard:
                    inside[0] -= amount

    threads = [threading.Thread(target=take, args=[amount]) for amount in (3, 4, 6, 10, 25)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert inside == [0]
    assert most == [25]


def test_large_pictures_take_their_room(monkeypatch):
    taken = []
    monkeypatch.setattr("pipeline.images.image_files.IN_MEMORY.of", lambda *room: taken.append(room) or nullcontext())
    for side in (8, 1024):
        assert np.all(read_pixels(encoded("PNG", side)) == 0)
    assert taken == [(2**20, 2 * DEFAULT.image_pixels)]
