"""Images in files and in shards: every way to read them gives the same bytes, and damage is named."""

import hashlib
import io
import os
import struct
import tarfile
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from layouts import png

from pipeline.datasets.copying import take_images
from pipeline.datasets.duplicates import digests_of, equal_to_any
from pipeline.datasets.labelled import Annotation
from pipeline.images import parquet_rows, shard_bytes
from pipeline.images.checks import refuse_undecodable
from pipeline.images.decoded_images import DecodedImages
from pipeline.images.image_files import read_original
from pipeline.images.index import Image, refuse_changed
from pipeline.images.places import (
    file_of,
    is_in_shard,
    place_in_parquet,
    place_in_tar,
    read_bytes,
    reading_order,
    sha256_of,
)
from pipeline.runtime.errors import DamagedError, MismatchError, MissingError, UnusableError

COUNT = 7
CONTENTS = [png(number) for number in range(COUNT)]
TAR, PARQUET = Path("raw/a.tar"), Path("raw/a.parquet")


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("raw").mkdir()


def in_files():
    for number, content in enumerate(CONTENTS):
        Path("raw", f"{number}.png").write_bytes(content)
    return [f"raw/{number}.png" for number in range(COUNT)]


def in_a_tar():
    """Their places, with offsets counted by hand: a header of 512 bytes, then the content in blocks of 512."""
    places, offset = [], 0
    with tarfile.open(TAR, "w", format=tarfile.USTAR_FORMAT) as file:
        for number, content in enumerate(CONTENTS):
            member = tarfile.TarInfo(f"{number}.png")
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
            places.append(f"raw/a.tar//bytes={offset + 512}+{len(content)}")
            offset += 512 + -(-len(content) // 512) * 512
    return places


def in_parquet(column="image", plain=False):
    cells = CONTENTS if plain else [{"bytes": content, "path": None} for content in CONTENTS]
    pq.write_table(pa.table({"label": list(range(COUNT)), column: cells}), PARQUET, row_group_size=3)
    return [place_in_parquet(PARQUET, row, column) for row in range(COUNT)]


WAYS = [in_files, in_a_tar, in_parquet, lambda: in_parquet("a photo", plain=True)]


@pytest.mark.parametrize("write", WAYS)
def test_the_bytes_are_those_that_were_written(write):
    places = write()
    assert [read_bytes(place) for place in places] == CONTENTS
    assert [read_bytes(place) for place in reversed(places)] == CONTENTS[::-1]
    assert [sha256_of(place) for place in places] == [hashlib.sha256(content).hexdigest() for content in CONTENTS]
    np.testing.assert_array_equal(read_original(places[3]), tf.io.decode_png(CONTENTS[3]).numpy())


def test_places_are_told_from_paths():
    assert place_in_tar(Path("a/b.tar"), 512, 9) == "a/b.tar//bytes=512+9"
    assert place_in_parquet(Path("a/b.parquet"), 17) == "a/b.parquet//row=17"
    assert place_in_parquet(Path("a/b.parquet"), 17, "x//row=3") == "a/b.parquet//row=17&column=x//row=3"
    assert file_of("a/b.tar//bytes=512+9") == Path("a/b.tar")
    assert file_of("a.parquet//row=17&column=x//row=3") == Path("a.parquet")
    for path in ("a/row=17", "//server/row=17.png", "a/b.tar//bytes=512", "a.tar/bytes=1+2", Path("a.tar//row=1")):
        assert not is_in_shard(path)
        assert file_of(path) == Path(path)


@pytest.mark.parametrize("write", WAYS)
def test_decoded_images_are_the_same_from_every_place(write):
    expected = np.stack([tf.io.decode_png(content).numpy() for content in CONTENTS])
    images = DecodedImages(write(), (5, 5, 3), keep=False)
    np.testing.assert_array_equal(np.stack(list(images.decoded().as_numpy_iterator())), expected)
    np.testing.assert_array_equal(images.rows(np.array([5, 1, 1])), expected[[5, 1, 1]])
    np.testing.assert_array_equal(DecodedImages(write(), (5, 5, 3), keep=True).rows(np.array([2])), expected[[2]])


def test_files_and_shards_may_lie_in_one_index():
    mixed = [*in_files()[:2], *in_a_tar()[2:5], *in_parquet()[5:]]
    expected = np.stack([tf.io.decode_png(content).numpy() for content in CONTENTS])
    images = DecodedImages(mixed, (5, 5, 3), keep=False)
    np.testing.assert_array_equal(images.rows(np.arange(COUNT)), expected)


@pytest.mark.parametrize("write", WAYS)
def test_a_missing_file_or_shard_is_named(write):
    place = write()[0]
    file_of(place).unlink()
    with pytest.raises(MissingError, match=f"there is no file {file_of(place)}"):
        read_bytes(place)


def test_a_cut_tar_is_named():
    places = in_a_tar()
    TAR.write_bytes(TAR.read_bytes()[:1000])
    assert read_bytes(places[0]) == CONTENTS[0]
    with pytest.raises(DamagedError, match=r"raw/a.tar has 1,000 bytes, and an image of the index ends at byte"):
        read_bytes(places[1])


def test_a_shard_that_took_the_place_of_another_is_read():
    place = in_a_tar()[0]
    read_bytes(place)
    other = struct.pack("512x") + bytes(range(256))
    Path("new").write_bytes(other)
    os.replace("new", TAR)
    assert read_bytes("raw/a.tar//bytes=512+256") == bytes(range(256))


def test_parquet_files_with_other_content_are_named():
    in_parquet()
    with pytest.raises(DamagedError, match=r"raw/a.parquet has 7 rows, and no row 7"):
        read_bytes("raw/a.parquet//row=7")
    with pytest.raises(DamagedError, match=r"raw/a.parquet has no column 'label' of bytes"):
        read_bytes("raw/a.parquet//row=0&column=label")
    pq.write_table(pa.table({"image": pa.array([b"x", None])}), PARQUET)
    with pytest.raises(DamagedError, match=r"raw/a.parquet has no bytes in the column 'image' of row 1"):
        read_bytes("raw/a.parquet//row=1")
    with pytest.raises(DamagedError, match=r"raw/a.parquet has no column 'photo' of bytes"):
        read_bytes("raw/a.parquet//row=1&column=photo")
    PARQUET.write_bytes(PARQUET.read_bytes()[:-9])
    with pytest.raises(DamagedError, match=r"raw/a.parquet cannot be read as a Parquet file"):
        read_bytes("raw/a.parquet//row=0")


def test_a_flipped_bit_in_a_parquet_file_is_found():
    pq.write_table(pa.table({"image": CONTENTS}), PARQUET, compression="none", write_page_checksum=True)
    content = bytearray(PARQUET.read_bytes())
    content[content.index(CONTENTS[4][-40:])] ^= 1
    PARQUET.write_bytes(content)
    with pytest.raises(DamagedError, match=r"raw/a.parquet cannot be read as a Parquet file: .*CRC"):
        read_bytes("raw/a.parquet//row=4")


@pytest.mark.parametrize("write", WAYS[1:3])
def test_images_other_than_those_of_the_index_are_named(write):
    places = write()
    images = [Image(str(number), place, "a", "train", "", sha256_of(place)) for number, place in enumerate(places)]
    refuse_changed(images)
    changed = [*images[:4], images[4]._replace(sha256=images[5].sha256), *images[5:]]
    with pytest.raises(MismatchError, match=r"1 image file.*not those of the index: raw/a") as error:
        refuse_changed(changed)
    assert places[4] in str(error.value)
    file_of(places[0]).unlink()
    with pytest.raises(MismatchError, match="7 image file"):
        refuse_changed(images)


def test_an_image_in_a_shard_that_cannot_be_decoded_is_named():
    pq.write_table(pa.table({"image": [CONTENTS[0], b"no image", CONTENTS[1][:60]]}), PARQUET)
    files = {name: place_in_parquet(PARQUET, row) for row, name in enumerate("abc")}
    with pytest.raises(UnusableError, match=r"2 of 3 image files cannot be used: b \(not an image.*, c \(damaged"):
        refuse_undecodable(files)


def test_no_more_shards_stay_open_than_is_stated(monkeypatch):
    opened, closed = [], []
    monkeypatch.setattr(os, "open", lambda *arguments: opened.append(real_open(*arguments)) or opened[-1])
    monkeypatch.setattr(os, "close", lambda number: closed.append(number) or real_close(number))
    for number in range(shard_bytes.OPEN_FILES + 5):
        Path(f"{number}.tar").write_bytes(bytes([number]) * 10)
        assert read_bytes(f"{number}.tar//bytes=3+2") == bytes([number]) * 2
    assert len(opened) - len(closed) <= shard_bytes.OPEN_FILES


real_open, real_close = os.open, os.close


def test_row_groups_are_kept_within_a_bound(monkeypatch):
    reads = []
    real = parquet_rows._read_group
    monkeypatch.setattr(parquet_rows, "_read_group", lambda *key: reads.append(key[-1]) or real(*key))
    places = in_parquet()
    monkeypatch.setattr(parquet_rows, "KEPT_BYTES", 2**20)
    for place in [*places, *places]:
        read_bytes(place)
    assert reads == [0, 1, 2]
    monkeypatch.setattr(parquet_rows, "KEPT_BYTES", len(CONTENTS[0]))
    in_parquet()  # another file, of which no row group is kept
    for place in [places[0], places[3], places[4], places[0]]:
        read_bytes(place)
    assert reads == [0, 1, 2, 0, 1, 0]


def test_every_row_group_is_read_once_whatever_the_ids(monkeypatch):
    """By `split`, the search for copies and the comparison with the index; results are in the order of the ids."""
    reads = []
    real = parquet_rows._read_group
    monkeypatch.setattr(parquet_rows, "_read_group", lambda *key: reads.append(key[-1]) or real(*key))
    monkeypatch.setattr(parquet_rows, "KEPT_BYTES", 1)
    places = in_parquet()
    mixed = [places[number] for number in (6, 1, 4, 0, 5, 2, 3)]
    digests = [hashlib.sha256(CONTENTS[number]).hexdigest() for number in (6, 1, 4, 0, 5, 2, 3)]
    assert digests_of(mixed) == digests
    assert equal_to_any(mixed[:2], mixed[1:]) == [False, True]
    rows = [Annotation(str(number), "a", "train", None, place) for number, place in enumerate(mixed)]
    images = take_images(rows, ["train"] * COUNT, Path("new"), Path("data/split"))
    assert rows == []  # millions of them would take as much memory again
    assert [(image.id, image.path, image.sha256) for image in images] == [
        (str(number), place, digest) for number, (place, digest) in enumerate(zip(mixed, digests, strict=True))
    ]
    refuse_changed(images)
    assert reads == [*(0, 1, 2), *(0, 1), *(0, 2), *(0, 1, 2), *(0, 1, 2)]


def test_each_shard_is_read_from_its_start_to_its_end():
    """Images in files come first, in their own order; then one shard after another, by numbers and not by text."""
    tar, parquet = Path("z.tar"), Path("a.parquet")
    places = [
        place_in_tar(tar, 1024, 5),
        "file 2.png",
        place_in_parquet(parquet, 10),
        place_in_tar(tar, 512, 5),
        place_in_parquet(parquet, 9, "photo"),
        "file 1.png",
        np.zeros((2, 2), np.uint8),
    ]
    assert reading_order(places).tolist() == [1, 5, 6, 4, 2, 3, 0]
    assert reading_order([]).tolist() == []


def test_the_row_group_that_was_used_last_stays(monkeypatch):
    reads = []
    real = parquet_rows._read_group
    monkeypatch.setattr(parquet_rows, "_read_group", lambda *key: reads.append(key[-1]) or real(*key))
    places = in_parquet()
    read_bytes(places[0])
    sizes = [sum(len(content) + 4 for content in CONTENTS[first : first + 3]) for first in (0, 3)]
    monkeypatch.setattr(parquet_rows, "KEPT_BYTES", sum(sizes) + 100)
    for number in (3, 0, 6, 0):
        read_bytes(places[number])
    assert reads == [0, 1, 2]


def test_short_reads_are_continued(monkeypatch):
    place = in_a_tar()[2]
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda descriptor, count, offset: real(descriptor, min(count, 7), offset))
    assert read_bytes(place) == CONTENTS[2]


def test_threads_that_need_one_row_group_read_it_once(monkeypatch):
    entered, go_on, reads, found = threading.Event(), threading.Event(), [], []
    real = parquet_rows._read_group

    def slow(*key):
        reads.append(key[-1])
        entered.set()
        go_on.wait(60)
        return real(*key)

    monkeypatch.setattr(parquet_rows, "_read_group", slow)
    places = in_parquet()
    threads = [threading.Thread(target=lambda: found.append(read_bytes(places[1]))) for _ in range(4)]
    for thread in threads:
        thread.start()
    entered.wait(60)
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert found == [CONTENTS[1]] * 4
    assert reads == [0]


def test_a_failed_reading_is_tried_again():
    places = in_parquet()
    content = PARQUET.read_bytes()
    state = os.stat(PARQUET)
    PARQUET.write_bytes(content[:4] + bytes(len(content) // 2) + content[4 + len(content) // 2 :])
    os.utime(PARQUET, ns=(state.st_atime_ns, state.st_mtime_ns))
    with pytest.raises(DamagedError, match=r"raw/a.parquet cannot be read"):
        read_bytes(places[0])
    PARQUET.write_bytes(content)
    os.utime(PARQUET, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert read_bytes(places[0]) == CONTENTS[0]
