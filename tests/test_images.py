"""From image files to pixels: what a decoder must give back exactly, and the closed forms of resizing."""

import io
import re
import struct
import zlib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import PIL.ExifTags
import PIL.Image
import PIL.ImageCms
import psutil
import pytest
import tensorflow as tf
from exported_files import METADATA

from pipeline.deployed.pixels import model_pixels
from pipeline.images.checks import refuse_undecodable
from pipeline.images.decoded_images import DecodedImages
from pipeline.images.decoding import decode
from pipeline.images.image_files import read_original
from pipeline.images.resize import DEFAULT_RESIZE, preprocessing
from pipeline.runtime.errors import UnusableError


def png_file(rows: np.ndarray, width: int, depth: int, color: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file written from its specification: color type 0 is grey, 2 RGB, 3 a palette."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, len(rows), depth, color, 0, 0, 0)
    content = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    inner = [(b"IHDR", header), *chunks, (b"IDAT", content), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in inner)


def png(pixels: np.ndarray) -> bytes:
    """(height, width, 1 or 3) uint8."""
    _, width, channels = pixels.shape
    return png_file(pixels, width, 8, {1: 0, 3: 2}[channels])


def bmp(pixels: np.ndarray) -> bytes:
    """A BMP file of 24 bits a pixel: rows from the bottom, blue first, padded to four bytes."""
    height, width, _ = pixels.shape
    rows = b"".join(row[:, ::-1].tobytes() + b"\0" * (-3 * width % 4) for row in pixels[::-1])
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, len(rows), 0, 0, 0, 0)
    return struct.pack("<2sIHHI", b"BM", 54 + len(rows), 0, 0, 54) + header + rows


def gif() -> bytes:
    """Two frames of one pixel: palette entry 0 (200, 10, 30), then entry 1 (1, 2, 3)."""
    palette = bytes([200, 10, 30, 1, 2, 3]) + b"\0" * 6
    screen = struct.pack("<HHBBB", 1, 1, 0b10000001, 0, 0) + palette
    # LZW with codes of 3 bits: clear (4), the entry, end (5)
    frames = [b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + bytes([2, 2, code, 1, 0]) for code in (0x44, 0x4C)]
    return b"GIF89a" + screen + b"".join(frames) + b";"


def noise(height: int, width: int, channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def write(folder: Path, pixels: list[np.ndarray]) -> list[Path]:
    files = [folder / f"{number}.png" for number in range(len(pixels))]
    for file, image in zip(files, pixels, strict=True):
        file.write_bytes(png(image))
    return files


@pytest.mark.parametrize("channels", [1, 3])
def test_lossless_file_decodes_to_exactly_its_pixels(channels):
    pixels = noise(5, 7, channels)
    decoded = decode(tf.constant(png(pixels)), (5, 7, channels))
    assert decoded.dtype == tf.uint8
    np.testing.assert_array_equal(decoded, pixels)


def test_bmp_decodes_to_exactly_its_pixels():
    pixels = noise(5, 7, 3)
    np.testing.assert_array_equal(decode(tf.constant(bmp(pixels)), (5, 7, 3)), pixels)


def test_images_whose_pixels_would_be_read_wrongly_are_refused(tmp_path):
    """A 16-bit PNG would lose its lower byte."""
    deep = tf.io.encode_png(np.full((4, 4, 1), 4095, np.uint16)).numpy()
    for name, content in {"deep.png": deep, "good.png": png(noise(4, 4, 1))}.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UnusableError, match=r"1 of 2 .*deep\.png \(PNG of 16 bits a channel\)"):
        refuse_undecodable({name: tmp_path / name for name in ("deep.png", "good.png")})


def test_animation_gives_its_first_frame():
    np.testing.assert_array_equal(decode(tf.constant(gif()), (1, 1, 3)), [[[200, 10, 30]]])


# Grey by ITU-R BT.601: 0.299 * 200 + 0.587 * 10 + 0.114 * 30 = 69.09.
@pytest.mark.parametrize(
    ("content", "grey"), [(bmp(np.full((1, 1, 3), 77, np.uint8)), 77), (gif(), 69)], ids=["bmp", "gif"]
)
def test_every_format_decodes_to_one_channel(content, grey):
    assert decode(tf.constant(content), (1, 1, 1)).numpy().tolist() == [[[grey]]]


def test_grey_file_fills_three_channels():
    grey = noise(5, 7, 1)
    np.testing.assert_array_equal(decode(tf.constant(png(grey)), (5, 7, 3)), np.repeat(grey, 3, axis=2))


def test_jpeg_is_close_to_its_original():
    """Grey steps of 8 levels an 8x8 block are what JPEG keeps exactly, up to rounding and quantisation."""
    blocks = np.arange(16, dtype=np.uint8).reshape(4, 4, 1) * 16
    pixels = blocks.repeat(8, axis=0).repeat(8, axis=1)
    content = tf.io.encode_jpeg(pixels, quality=95)
    decoded = decode(content, (32, 32, 1)).numpy().astype(int)
    assert np.abs(decoded - pixels).max() <= 2
    smooth = np.stack(np.meshgrid(*[np.linspace(30, 220, 32)] * 2), axis=2).mean(axis=2, keepdims=True)
    rgb = np.repeat(smooth, 3, axis=2).round().astype(np.uint8)
    decoded = decode(tf.io.encode_jpeg(rgb, quality=95), (32, 32, 3)).numpy().astype(int)
    assert np.abs(decoded - rgb).max() <= 4


def saved(image: PIL.Image.Image, kind: str, **options) -> bytes:
    """What Pillow writes."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def picture(mode: str, height: int = 37, width: int = 53) -> PIL.Image.Image:
    """A smooth picture, as a JPEG file holds one well, in one of Pillow's modes."""
    colors = PIL.Image.fromarray(noise(6, 8, 4), "RGBA").resize((width, height), PIL.Image.Resampling.BICUBIC)
    return colors.convert("RGB").quantize(40) if mode == "P" else colors.convert(mode)


def packed_png(depth: int, color: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """Four rows of four noisy bytes, of pixels of `depth` bits."""
    return png_file(noise(4, 4, 1), 32 // depth, depth, color, *chunks)


def rgb_png_of_16_bits() -> bytes:
    """Pillow cannot write such a file, and reads its upper bytes without a warning."""
    return tf.io.encode_png(noise(4, 4, 3).astype(np.uint16) * 257).numpy()


RGB, FRAMES = picture("RGB"), [picture("P"), picture("P", 20, 20)]
TURNED = PIL.Image.Exif()
TURNED[PIL.ExifTags.Base.Orientation] = 6
PROFILE = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("LAB")).tobytes()
PALETTE = b"PLTE", noise(16, 3, 1).tobytes()
FILES = {
    "jpeg": saved(RGB, "JPEG", quality=30),
    "jpeg of full color": saved(RGB, "JPEG", quality=95, subsampling=0),
    "jpeg, colors halved once": saved(RGB, "JPEG", subsampling=1),
    "jpeg, progressive": saved(RGB, "JPEG", progressive=True),
    "jpeg, progressive and grey": saved(picture("L"), "JPEG", progressive=True),
    "jpeg, grey": saved(picture("L"), "JPEG"),
    "jpeg, RGB inside": saved(RGB, "JPEG", keep_rgb=True),
    "jpeg, CMYK": saved(picture("CMYK"), "JPEG"),
    "jpeg with restart markers": saved(RGB, "JPEG", restart_marker_blocks=3),
    "jpeg of one pixel": saved(picture("RGB", 1, 1), "JPEG"),
    "jpeg on its side": saved(RGB, "JPEG", exif=TURNED),
    "jpeg with a profile": saved(RGB, "JPEG", icc_profile=PROFILE),
    "png": saved(RGB, "PNG"),
    "png, grey": saved(picture("L"), "PNG"),
    "png, black and white": saved(picture("1"), "PNG"),
    "png, grey of 2 bits": packed_png(2, 0),
    "png, grey of 4 bits": packed_png(4, 0),
    "png, palette of 4 bits": packed_png(4, 3, PALETTE),
    "png, palette": saved(picture("P"), "PNG"),
    "png, transparent palette": saved(picture("P"), "PNG", transparency=bytes(range(40))),
    "png, one transparent color": saved(RGB, "PNG", transparency=RGB.getpixel((0, 0))),
    "png, RGBA": saved(picture("RGBA"), "PNG"),
    "png, grey and alpha": saved(picture("LA"), "PNG"),
    "png with gamma": packed_png(4, 0, (b"gAMA", struct.pack(">I", 90910))),
    "png, animated": saved(RGB, "PNG", save_all=True, append_images=[picture("RGB").rotate(180)]),
    "bmp": saved(RGB, "BMP"),
    "bmp, 32 bits": saved(picture("RGBA"), "BMP"),
    "bmp, palette": saved(picture("P"), "BMP"),
    "bmp, grey": saved(picture("L"), "BMP"),
    "gif": saved(picture("P"), "GIF", interlace=0),
    "gif, interlaced": saved(picture("P"), "GIF", interlace=1),
    "gif, transparent": saved(picture("P"), "GIF", transparency=3),
    "gif, animated": saved(FRAMES[0], "GIF", save_all=True, append_images=[FRAMES[0].rotate(180)]),
    "tiff": saved(RGB, "TIFF"),
    "tiff, grey": saved(picture("L"), "TIFF"),
    "tiff, black and white": saved(picture("1"), "TIFF"),
    "tiff, palette": saved(picture("P"), "TIFF"),
    "tiff, RGBA": saved(picture("RGBA"), "TIFF"),
    "tiff, CMYK": saved(picture("CMYK"), "TIFF"),
    "tiff, deflated": saved(RGB, "TIFF", compression="tiff_adobe_deflate"),
    "tiff, JPEG inside": saved(RGB, "TIFF", compression="jpeg"),
    "tiff of two pages": saved(RGB, "TIFF", save_all=True, append_images=[picture("L", 9, 9)]),
    "tiff on its side": saved(RGB, "TIFF", exif=TURNED),
    "webp": saved(RGB, "WEBP"),
    "webp, lossless": saved(RGB, "WEBP", lossless=True),
    "webp, RGBA": saved(picture("RGBA"), "WEBP"),
    "webp, animated": saved(RGB, "WEBP", save_all=True, append_images=[RGB.rotate(180)]),
}  # fmt: skip
"""A file of every kind that is read."""


def by_pillow(content: bytes) -> np.ndarray:
    with PIL.Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture(scope="module")
def decoded() -> dict[str, np.ndarray]:
    """The pixels of each file; those of one size by one graph."""
    shapes = {kind: by_pillow(content).shape for kind, content in FILES.items()}
    pixels = {}
    for shape in set(shapes.values()):
        kinds = [kind for kind in FILES if shapes[kind] == shape]
        pixels |= zip(kinds, in_a_graph([FILES[kind] for kind in kinds], shape), strict=True)
    return pixels


@pytest.mark.parametrize("kind", FILES)
def test_pixels_are_those_of_pillow(tmp_path, decoded, kind):
    """Those that the installed version gives to any user."""
    file = tmp_path / "an image"
    file.write_bytes(FILES[kind])
    refuse_undecodable({"an image": file})
    np.testing.assert_array_equal(decoded[kind], by_pillow(FILES[kind]))
    np.testing.assert_array_equal(read_original(file), by_pillow(FILES[kind]))


def in_a_graph(contents: list[bytes], shape: tuple[int, ...]) -> np.ndarray:
    """Decoded as a stage does it, by `tf.data`: the graph of a `tf.function` rounds some grey values otherwise."""
    return np.array(list(tf.data.Dataset.from_tensor_slices(contents).map(lambda content: decode(content, shape))))


def test_an_exported_file_sees_the_same_pixels():
    """Also of files of four components, of a palette, and of a photograph that lies on its side."""
    metadata = replace(METADATA, preprocessing=preprocessing((7, 5, 3), DEFAULT_RESIZE))
    contents = [*FILES.values()]
    found = np.array([model_pixels(content, metadata) for content in contents])
    unequal = np.abs(np.subtract(found, in_a_graph(contents, (7, 5, 3)), dtype=int))
    assert unequal.max() <= 1
    assert np.mean(unequal == 0) > 0.99


def test_frames_transparency_and_orientation_of_an_image(decoded):
    """The first picture, its colors without alpha, as they are stored; Pillow turns a TIFF file by its orientation."""
    first, alpha = np.asarray(RGB), np.asarray(picture("RGBA"))
    for kind in ("png, animated", "tiff of two pages"):
        np.testing.assert_array_equal(decoded[kind], first)
    np.testing.assert_array_equal(decoded["png, RGBA"], alpha[:, :, :3])
    assert alpha[:, :, 3].std() > 10
    np.testing.assert_array_equal(decoded["jpeg on its side"], decoded["jpeg with a profile"])
    np.testing.assert_array_equal(decoded["tiff on its side"], np.rot90(first, -1))


SCAN = b"\xff\xda"
REFUSED = {
    "PNG of 16 bits a channel": rgb_png_of_16_bits(),
    "TIFF of 16 bits a channel": saved(PIL.Image.fromarray(noise(4, 4, 1)[:, :, 0].astype(np.uint16)), "TIFF"),
    "TIFF of 32 bits a channel": saved(PIL.Image.fromarray(noise(4, 4, 1)[:, :, 0].astype(np.float32)), "TIFF"),
    "TIFF of Pillow's mode LAB": saved(PIL.Image.fromarray(noise(4, 4, 3), "LAB"), "TIFF"),
    "not an image": saved(RGB, "PPM"),
    "damaged": FILES["webp"][:-20],
    "unfinished": SCAN.join(FILES["jpeg, progressive"].split(SCAN)[:3]) + b"\xff\xd9",
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_refusal_says_why(tmp_path, reason):
    file = tmp_path / "a.png"
    file.write_bytes(REFUSED[reason])
    with pytest.raises(UnusableError, match=rf"^1 of 1 .*a\.png \({re.escape(reason)}"):
        refuse_undecodable({"a.png": file})


def test_grey_is_the_exact_weighted_sum_rounded_to_even():
    """One division of whole numbers: every processor rounds it alike, even in the middle between two values."""
    some = noise(1000, 1000, 3).reshape(-1, 3)
    between = some[some.astype(int) @ [299, 587, 114] % 1000 == 500]
    assert len(between) > 900
    colors = np.concatenate([between, some[:3000], [[0, 0, 0], [255, 255, 255]]])
    thousandths = [299 * r + 587 * g + 114 * b for r, g, b in colors.tolist()]
    expected = [round(Fraction(value, 1000)) for value in thousandths]
    assert in_a_graph([png(colors[None].astype(np.uint8))], (1, len(colors), 1)).ravel().tolist() == expected


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_of_the_right_size_equals_its_resized_form(channels):
    """Decoding then leaves out the resizer, and must still round grey as a resized image."""
    pixels = noise(19, 23, 3)
    weights = np.float32([0.299, 0.587, 0.114])
    grey_or_colors = pixels if channels == 3 else np.tensordot(pixels.astype(np.float32), weights, axes=1)[..., None]
    through = tf.raw_ops.ScaleAndTranslate(
        images=grey_or_colors[None].astype(np.float32), size=[19, 23], scale=[1.0, 1.0], translation=[0.0, 0.0],
        kernel_type="triangle", antialias=True,
    )[0]  # fmt: skip
    np.testing.assert_array_equal(decode(tf.constant(png(pixels)), (19, 23, channels)), np.round(through))


@pytest.mark.parametrize("size", [(3, 5), (6, 8), (13, 16), (29, 1)])
def test_constant_image_stays_constant_at_every_size(size):
    color = np.array([200, 3, 255], np.uint8)
    resized = decode(tf.constant(png(np.broadcast_to(color, (6, 8, 3)).copy())), (*size, 3))
    np.testing.assert_array_equal(resized, np.broadcast_to(color, (*size, 3)))


def test_enlarging_interpolates_between_pixel_centres():
    """New centres lie a quarter pixel from the old ones; beyond the outer centres the edge goes on."""
    pixels = np.array([[[0], [100]]], np.uint8)
    np.testing.assert_array_equal(decode(tf.constant(png(pixels)), (1, 4, 1))[0, :, 0], [0, 25, 75, 100])


def test_halving_a_checkerboard_follows_the_closed_form():
    """Halving weighs two pixels 3/8 and their two neighbours 1/8: a block keeps 1/2 of its contrast.

    At the border one neighbour is missing: weights 3/7, 3/7, 1/7 keep 5/7. A checkerboard is
    (1 + s(x) s(y)) / 2 with s = +-1, so the kept contrasts of the two axes multiply.
    """
    sign = np.array([1, -1, 1, -1])
    board = np.kron((1 + np.outer(sign, sign)) // 2, np.ones((2, 2))) * 255
    kept = sign * np.array([5 / 7, 1 / 2, 1 / 2, 5 / 7])
    expected = np.rint(255 * (1 + np.outer(kept, kept)) / 2)
    assert expected[1, 1] == 159  # 255 * 5/8 = 159.375
    assert expected[1, 2] == 96  # 255 * 3/8 = 95.625: rounded, not cut
    resized = decode(tf.constant(png(board[:, :, None].astype(np.uint8))), (4, 4, 1))
    np.testing.assert_array_equal(resized[:, :, 0], expected)


def leave_memory_for(size, monkeypatch):
    """A quarter of the available memory is for pixels."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=4 * size))


@pytest.mark.parametrize("shape", [(6, 4, 1), (9, 10, 3)])
@pytest.mark.parametrize("limit", [None, 0])
def test_rows_are_the_same_from_memory_and_from_files(tmp_path, monkeypatch, shape, limit):
    pixels = [noise(6, 4, shape[2], seed) for seed in range(5)]
    files = write(tmp_path, pixels)
    kept = DecodedImages(files, shape, keep=True).rows([3, 0, 0, 4])
    if limit is not None:
        leave_memory_for(limit, monkeypatch)
    read = DecodedImages([str(file) for file in files], shape, keep=limit is not None).rows([3, 0, 0, 4])
    assert kept.dtype == read.dtype == tf.uint8
    assert kept.shape == read.shape == (4, *shape)
    np.testing.assert_array_equal(kept, read)
    if shape[:2] == (6, 4):
        np.testing.assert_array_equal(read, [pixels[3], pixels[0], pixels[0], pixels[4]])


@pytest.mark.parametrize(
    ("keep", "limit", "in_memory"),
    [(True, 2 * 6 * 4, True), (True, 2 * 6 * 4 - 1, False), (True, 0, False), (False, 2 * 6 * 4, False)],
)
def test_only_what_is_read_again_and_fits_is_kept(tmp_path, monkeypatch, keep, limit, in_memory):
    leave_memory_for(limit, monkeypatch)
    pixels = [noise(6, 4, 1, seed) for seed in range(2)]
    files = write(tmp_path, pixels)
    images = DecodedImages(files, (6, 4, 1), keep=keep)
    for file in files:
        file.unlink()
    if in_memory:
        np.testing.assert_array_equal(images.rows([1, 0]), pixels[::-1])
    else:
        with pytest.raises(tf.errors.NotFoundError):
            images.rows([1, 0])


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize(("size", "lengths"), [(3, [3, 3, 1]), (100, [7])])
def test_batches_hold_every_image_in_order(tmp_path, keep, size, lengths):
    pixels = [noise(4, 6, 3, seed) for seed in range(7)]
    images = DecodedImages(write(tmp_path, pixels), (4, 6, 3), keep=keep)
    batches = list(images.batches(size).as_numpy_iterator())
    assert len(images) == 7
    assert [len(batch) for batch in batches] == lengths
    assert {batch.dtype for batch in batches} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(np.concatenate(batches), pixels)


def test_order_holds_across_blocks_and_slow_files(tmp_path):
    """600 images are more than are decoded at once; the large ones take longer than those behind them."""
    values = np.arange(600) % 251
    sides = np.where(np.arange(600) % 100 == 0, 600, 1)
    files = write(tmp_path, [np.full((s, s, 1), v, np.uint8) for s, v in zip(sides, values, strict=True)])
    kept = DecodedImages(files, (1, 1, 1), keep=True).rows(np.arange(600))
    np.testing.assert_array_equal(np.ravel(kept), values)
    read = DecodedImages(files, (1, 1, 1), keep=False).batches(64).as_numpy_iterator()
    np.testing.assert_array_equal(np.ravel(np.concatenate(list(read))), values)


def test_refuses_files_that_are_no_images_by_name(tmp_path):
    good = png(noise(16, 16, 3))
    jpeg = tf.io.encode_jpeg(noise(16, 16, 3)).numpy()
    damaged = bytearray(good)
    damaged[len(good) // 2] ^= 0xFF  # the checksum no longer holds
    contents = {
        "0.png": good,
        "bad1.png": b"no image",
        "bad2.png": b"",
        "bad3.png": good[: len(good) // 2],
        "bad4.png": good[:-12],
        "bad5.png": bytes(damaged),
        "bad6.jpg": jpeg[: len(jpeg) // 2],
        "bad7.jpg": jpeg[:-2],
        "bad8.bmp": bmp(noise(4, 4, 3))[:-1],
        "8.jpg": jpeg,
        "9.png": jpeg,  # the content counts, not the name
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    files = {name: tmp_path / name for name in contents}
    with pytest.raises(UnusableError) as refused:
        refuse_undecodable(files)
    message = str(refused.value)
    assert message.startswith("8 of 11 image files ")
    assert "bad1.png (not an image" in message
    assert re.search(r"Replace .*8 bits a channel \(PNG, JPEG, BMP, GIF, TIFF or WebP\), or remove", message)
    assert not any(f" {name} (" in message for name in ("0.png", "8.jpg", "9.png"))
    for name in ("bad3.png", "bad4.png", "bad5.png", "bad6.jpg", "bad7.jpg", "bad8.bmp"):
        with pytest.raises(UnusableError, match=rf"1 of 2 .*: {name} \(damaged"):
            refuse_undecodable({"0.png": tmp_path / "0.png", name: tmp_path / name})
