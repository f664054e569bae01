"""Layout `webdataset`: samples of tar files, whoever wrote them, and tar files that nobody should have written."""

import gzip
import io
import json
import struct
import tarfile
from pathlib import Path

import pytest
from layouts import assert_every_key_must_be_there, assert_one_mistake, invalid, planned, png
from shard_files import write_tar

from pipeline.datasets import webdataset
from pipeline.datasets.tar_members import members_of
from pipeline.datasets.unlabelled import Unlabelled
from pipeline.datasets.webdataset import read_webdataset
from pipeline.images.places import read_bytes
from pipeline.runtime.errors import DamagedError, MissingError, ParameterError, UnusableError

SHARD = Path("raw/a-0.tar")
SECTION = {
    "layout": "webdataset",
    "data": "raw",
    "train": "a-*.tar",
    "val": None,
    "test": None,
    "label_column": "cls",
    "val_fraction": 0.25,
    "test_fraction": 0.25,
}


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)


def read(**changes):
    settings = {key: value for key, value in SECTION.items() if key != "layout"}
    return read_webdataset(**{**settings, "data": Path("raw"), "train": ["a-*.tar"], **changes})


def samples(numbers, extension="png", label="cls"):
    members = {}
    for number in numbers:
        members |= {f"{number:04}.{extension}": png(number), f"{number:04}.{label}": f"{number % 2}\n".encode()}
    return members


def write_two():
    write_tar(SHARD, samples(range(3)))
    write_tar("raw/a-1.tar", samples(range(3, 5)))


def refusal(error=UnusableError, **changes):
    with pytest.raises(error) as refused:
        read(**changes)
    return str(refused.value)


# What is read


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_samples_have_ids_labels_and_places_of_their_bytes(kind):
    write_tar(SHARD, samples(range(3)), kind)
    write_tar("raw/a-1.tar", samples(range(3, 5)), kind)
    data = read()
    assert [row.id for row in data.rows] == [
        "a-0/0000.png", "a-0/0001.png", "a-0/0002.png", "a-1/0003.png", "a-1/0004.png",
    ]  # fmt: skip
    assert [row.class_name for row in data.rows] == ["0", "1", "0", "1", "0"]
    assert [read_bytes(row.image) for row in data.rows] == [png(number) for number in range(5)]
    assert data.class_names == ["0", "1"]
    assert data.left_out == []


def test_a_tar_file_written_by_hand_is_read():
    """POSIX 1003.1: name[100] mode[8] uid[8] gid[8] size[12] mtime[12] chksum[8] typeflag linkname[100] magic[6]..."""

    def member(name, content):
        fields = [name, b"0000644\0", b"0000000\0", b"0000000\0", b"%011o\0" % len(content), b"00000000000\0"]
        rest = [b"0", b"", b"ustar\0", b"00", b"", b"", b"", b"", b""]
        layout = "100s8s8s8s12s12s8s1s100s6s2s32s32s8s8s155s12x"
        blank = struct.pack(layout, *fields, b" " * 8, *rest)
        header = struct.pack(layout, *fields, b"%06o\0 " % sum(blank), *rest)
        return header + content + bytes(-len(content) % 512)

    Path("raw").mkdir()
    parts = [member(b"x/7.v2.png", png(1)), member(b"x/7.CLS", b"b"), member(b"x/8.v2.png", png(2))]
    SHARD.write_bytes(b"".join([*parts, member(b"x/8.cls", b"a"), bytes(1024)]))
    rows = read(image_column="v2.png").rows
    assert [(row.id, row.class_name) for row in rows] == [("a-0/x/7.v2.png", "b"), ("a-0/x/8.v2.png", "a")]
    assert rows[1].image == f"raw/a-0.tar//bytes={len(parts[0]) + len(parts[1]) + 512}+{len(png(2))}"


def test_long_names_and_names_in_other_scripts_are_read():
    name = "ä" * 90 + "/" + "x" * 150
    for number, kind in enumerate([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]):
        members = {f"./{name}.png": png(1), f"./{name}.cls": b"a", "b.png": png(2), "b.cls": b"b"}
        write_tar(f"raw/a-{number}.tar", members, kind)
    assert [row.id for row in read().rows] == [
        "a-0/b.png", f"a-0/{name}.png", "a-1/b.png", f"a-1/{name}.png",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("column", "members", "classes"),
    [
        ("txt", {"1.txt": b" cat\r\n", "2.txt": "\ufeffdog".encode()}, ["cat", "dog"]),
        ("json:label", {"1.json": b'{"label": "cat"}', "2.json": b'{"label": "dog", "x": [1]}'}, ["cat", "dog"]),
        ("json:label", {"1.json": b'{"label": 7.0}', "2.json": b'{"label": 11}'}, ["7", "11"]),
        ("meta.json:a", {"1.meta.json": b'{"a": true}', "2.meta.json": b'{"a": false}'}, ["true", "false"]),
    ],
)
def test_labels_are_read_from_text_and_json(column, members, classes):
    write_tar(SHARD, {"1.png": png(1), "2.png": png(2), **members})
    assert [row.class_name for row in read(label_column=column).rows] == classes


def test_names_of_classes_and_groups_are_used():
    members = samples(range(4))
    members |= {f"{number:04}.json": json.dumps({"patient": number // 2}).encode() for number in range(4)}
    write_tar(SHARD, members)
    data = read(class_names=["healthy", "ill"], group_column="json:patient")
    assert [(row.class_name, row.group) for row in data.rows] == [
        ("healthy", "0"), ("ill", "0"), ("healthy", "1"), ("ill", "1"),
    ]  # fmt: skip


def test_shards_name_their_splits_by_braces_lists_and_wildcards():
    for name in ("a-08", "a-09", "a-10", "in/b-x", "in/b-y", "c-1"):
        write_tar(f"raw/{name}.tar", samples(range(2)))
    Path("raw/notes.txt").write_text("x")
    Path("raw/._c-1.tar").write_text("macOS")
    shards = {"train": ["a-{08..10}.tar"], "val": ["in/b-{x,y}.tar"], "test": ["?-1.tar"]}
    data = read(**shards, val_fraction=None, test_fraction=None)
    assert [(row.id[:6], row.partition) for row in data.rows[::2]] == [
        ("a-08/0", "train"), ("a-09/0", "train"), ("a-10/0", "train"), ("c-1/00", "test"),
        ("in/b-x", "val"), ("in/b-y", "val"),
    ]  # fmt: skip
    assert data.drawn == {}
    assert data.left_out == ["notes.txt"]


def test_samples_without_a_label_are_refused_used_or_left_out():
    write_tar(
        SHARD, samples(range(3)) | {"7.png": png(7), "8.png": png(8), "8.cls": b"-1", "9.png": png(9), "9.cls": b""}
    )
    message = refusal()
    assert "3 of 6 images in shards of raw have no label in 'cls'" in message
    assert "a-0/7.png, a-0/8.png, a-0/9.png" in message
    assert "split.unlabelled: {rows: true}" in message
    used = read(unlabelled=Unlabelled(rows=True)).rows
    assert [row.id for row in used if not row.is_labelled] == ["a-0/7.png", "a-0/8.png", "a-0/9.png"]
    assert len(read(unlabelled=Unlabelled(rows=False)).rows) == 3
    assert "6 of 6 images" in refusal(label_column="txt", unlabelled=Unlabelled(rows=True))


def test_minus_one_is_a_label_where_it_has_a_name():
    write_tar(SHARD, samples(range(2)) | {"8.png": png(8), "8.cls": b"-1"})
    names = {"-1": "unsure", "0": "healthy", "1": "ill"}
    assert [row.class_name for row in read(class_names=names).rows] == ["healthy", "ill", "unsure"]


def test_no_image_is_read_for_its_label(monkeypatch):
    write_two()
    reads = []
    monkeypatch.setattr(
        "pipeline.datasets.webdataset.read_range", lambda file, offset, length: reads.append(length) or b"0" * length
    )
    monkeypatch.setattr("pipeline.datasets.webdataset.written", lambda text: str(len(reads) % 2))
    read()
    assert reads == [2] * 5


def test_the_plan_counts_samples_and_a_file_names_their_classes():
    write_tar(SHARD, samples(range(40)))
    Path("raw/names.json").write_text('["healthy", "ill"]')
    said = planned(SECTION | {"class_names": "names.json"})
    assert said.startswith("40 images in 2 classes: ")
    assert read(class_names=Path("names.json")).left_out == []


# What is left out or refused


@pytest.mark.parametrize("named", ["JPG", "jpg", ".JPG"])
def test_extensions_are_named_in_any_case_with_or_without_dot(named):
    write_tar(SHARD, {"1.JPG": png(1), "1.CLS": b"0", "1.png": png(2), "2.jpg": png(3), "2.cls": b"1"})
    rows = read(image_column=named, label_column=".cls").rows
    assert [(row.id, row.class_name) for row in rows] == [("a-0/1.JPG", "0"), ("a-0/2.jpg", "1")]


def test_a_member_that_is_too_large_for_an_image_is_refused(monkeypatch):
    write_two()
    assert webdataset.LARGEST_IMAGE == 2_147_483_647
    monkeypatch.setattr(webdataset, "LARGEST_IMAGE", len(png(0)) - 1)
    assert "'0000.png' in raw/a-0.tar has" in refusal()


def test_names_with_several_dots_are_told_by_their_fields():
    write_tar(SHARD, samples(range(2)) | samples(range(5, 7), "v2.png"))
    assert "a-0.tar: 0005.v2.png (field 'v2.png' of a sample without an image)" in read().left_out
    write_tar(SHARD, samples(range(5, 7), "v2.png"))
    message = refusal(MissingError)
    assert "field 'v2.png'" in message
    assert "a field is what stands behind the first dot of a name" in message
    assert len(read(image_column="v2.png").rows) == 2


def test_links_devices_and_other_members_are_left_out_by_name():
    Path("raw").mkdir()
    Path("secret.png").write_bytes(png(9))
    with tarfile.open(SHARD, "w") as file:
        for name, content in (samples(range(2)) | {"readme": b"x", ".hidden.png": b"x", "only.cls": b"1"}).items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
        kinds = {
            "5.png": tarfile.SYMTYPE,
            "6.png": tarfile.LNKTYPE,
            "7.png": tarfile.CHRTYPE,
            "8.png": tarfile.FIFOTYPE,
        }
        for name, kind in kinds.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "../secret.png" if kind == tarfile.SYMTYPE else "0000.png"
            file.addfile(member)
    data = read()
    assert [row.id for row in data.rows] == ["a-0/0000.png", "a-0/0001.png"]
    assert sorted(data.left_out) == [
        "a-0.tar: .hidden.png", *(f"a-0.tar: {n}.png (a link or no plain file)" for n in (5, 6, 7, 8)),
        "a-0.tar: only.cls (field 'cls' of a sample without an image)", "a-0.tar: readme",
    ]  # fmt: skip
    assert {path.name for path in Path("raw").iterdir()} == {"a-0.tar"}


def test_a_file_with_holes_is_left_out():
    """Its bytes in the tar file are not those of the file."""
    Path("raw").mkdir()
    with tarfile.open(SHARD, "w", format=tarfile.PAX_FORMAT) as file:
        for name, content in samples(range(2)).items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
        holes = tarfile.TarInfo("5.png")
        holes.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": "9"}
        file.addfile(holes)
    assert read().left_out == ["a-0.tar: 5.png (a link or no plain file)"]


def test_folders_are_no_members_that_are_left_out():
    """As `tar -c folder` writes them, before what they hold."""
    Path("raw").mkdir()
    with tarfile.open(SHARD, "w") as file:
        folder = tarfile.TarInfo("in")
        folder.type = tarfile.DIRTYPE
        file.addfile(folder)
        for name, content in samples(range(2)).items():
            member = tarfile.TarInfo(f"in/{name}")
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    data = read()
    assert [row.id for row in data.rows] == ["a-0/in/0000.png", "a-0/in/0001.png"]
    assert data.left_out == []


def test_members_are_not_kept(monkeypatch):
    write_tar(SHARD, {f"{number}.txt": b"" for number in range(50)})
    opened = []
    real = tarfile.open
    monkeypatch.setattr(tarfile, "open", lambda *a, **settings: opened.append(real(*a, **settings)) or opened[-1])
    for _ in members_of(SHARD):
        assert len(vars(opened[0])["members"]) <= 1


@pytest.mark.parametrize("name", ["../1.png", "/etc/1.png", "x/../1.png", "a\\1.png", "a\n1.png", "x//1.png"])
def test_names_that_lead_outside_are_refused(name):
    write_tar(SHARD, samples(range(2)) | {name: png(1), name.replace("png", "cls"): b"1"})
    assert "1 image(s) in shards of raw have a name that cannot be used" in refusal()


def test_members_that_occur_twice_are_refused():
    Path("raw").mkdir()
    with tarfile.open(SHARD, "w") as file:
        for name in ("1.png", "1.cls", "2.png", "1.png"):
            file.addfile(tarfile.TarInfo(name))
    assert "raw/a-0.tar holds 1 member(s) more than once: '1.png'" in refusal()


def test_images_of_two_shards_that_share_an_id_are_refused():
    write_tar("raw/a.tar", {"b/1.png": png(1), "b/1.cls": b"0"})
    write_tar("raw/a/b.tar", {"1.png": png(1), "1.cls": b"1"})
    message = refusal(train=["a.tar", "a/b.tar"])
    assert "1 name(s) belong to more than one image in the shards of raw: a/b/1.png" in message


def test_a_sample_of_several_images_needs_the_name_of_one():
    write_tar(SHARD, samples(range(2)) | samples(range(2), "jpg"))
    assert "'0000' of raw/a-0.tar has several images: png, jpg" in refusal()
    assert [row.id for row in read(image_column="jpg").rows] == ["a-0/0000.jpg", "a-0/0001.jpg"]
    assert "no sample in the shards of raw has an image" in refusal(MissingError, image_column="webp")


@pytest.mark.parametrize(
    ("content", "column", "words"),
    [
        (b"\xff\xfe", "txt", "'1.txt' in raw/a-0.tar is not text in UTF-8"),
        (b"{", "json:a", "'1.json' in raw/a-0.tar is not a JSON object"),
        (b"[1]", "json:a", "'1.json' in raw/a-0.tar is not a JSON object"),
        (b"[" * 100_000, "json:a", "'1.json' in raw/a-0.tar is not a JSON object"),
        (b'{"a": [1, 2]}', "json:a", "'1.json' in raw/a-0.tar has list under 'a'; expected one text or number"),
        (b"x" * (2**20 + 1), "txt", "'1.txt' in raw/a-0.tar has 1,048,577 bytes"),
        (b"a/b", "txt", "has labels that cannot name a folder: 'a/b'"),
    ],
)
def test_fields_that_are_no_labels_are_refused(content, column, words):
    field = column.partition(":")[0]
    write_tar(SHARD, {"1.png": png(1), f"1.{field}": content, "2.png": png(2), f"2.{field}": b'{"a": 1}'})
    assert words in refusal(label_column=column)


# Damage


def test_compressed_shards_are_refused_with_the_reason():
    write_two()
    content = SHARD.read_bytes()
    SHARD.write_bytes(gzip.compress(content))
    assert "raw/a-0.tar is compressed by gzip, so no image in it has a place" in refusal()
    SHARD.rename("raw/a-0.tar.gz")
    assert "split.train names 1 file(s) that do not end in .tar: raw/a-0.tar.gz" in refusal(train=["a-0.tar.gz"])


def test_a_shard_that_is_cut_anywhere_is_damaged():
    """A cut between two members leaves a valid tar file but for its end mark, which Python's reader does not miss."""
    write_tar(SHARD, samples(range(2)), tarfile.USTAR_FORMAT)
    content = SHARD.read_bytes()
    end = 4 * 1024
    assert not any(content[end:])
    for size in [*range(0, end, 256), end - 1, end, end + 511]:
        SHARD.write_bytes(content[:size])
        assert "raw/a-0.tar" in refusal(DamagedError), size
    SHARD.write_bytes(content[: end + 512])
    assert len(read().rows) == 2


def test_a_damaged_header_and_a_second_archive_are_damage():
    write_tar(SHARD, samples(range(2)), tarfile.USTAR_FORMAT)
    content = bytearray(SHARD.read_bytes())
    content[2048 + 3] ^= 1
    SHARD.write_bytes(content)
    assert "raw/a-0.tar goes on behind byte 2,048 with something that is no member" in refusal(DamagedError)
    write_tar(SHARD, samples(range(2)), tarfile.USTAR_FORMAT)
    SHARD.write_bytes(SHARD.read_bytes() * 2)
    assert "or another tar file" in refusal(DamagedError)


@pytest.mark.parametrize("content", [b"", b"x" * 2000, bytes(300), b"\x89PNG" + bytes(2000)])
def test_what_is_no_tar_file_is_named(content):
    Path("raw").mkdir()
    SHARD.write_bytes(content)
    assert "raw/a-0.tar" in refusal(DamagedError)


def test_a_member_of_negative_size_ends_in_an_error():
    """Base 256 of GNU tar can state a negative size, which lets a reader go round in circles (CVE-2025-8194)."""
    write_tar(SHARD, samples(range(2)), tarfile.GNU_FORMAT)
    content = bytearray(SHARD.read_bytes())
    content[124:136] = b"\xff" * 10 + b"\xfc\x00"
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content[:512])
    SHARD.write_bytes(content)
    with pytest.raises(DamagedError, match=r"raw/a-0\.tar"):
        list(members_of(SHARD))


def test_members_that_lie_over_each_other_are_damage(monkeypatch):
    """Whatever a version of Python's reader makes of a header: it must go on behind the member before."""
    write_tar(SHARD, samples(range(1)), tarfile.USTAR_FORMAT)
    whole = tarfile.TarFile.next

    def back(file):
        member = whole(file)
        if member is not None and member.offset:
            member.offset = 0
        return member

    monkeypatch.setattr(tarfile.TarFile, "next", back)
    assert "raw/a-0.tar has members that lie over each other, such as '0000.cls'" in refusal(DamagedError)


def header(name, size, kind=tarfile.REGTYPE):
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", [b"L", b"K", b"x", b"g"])
@pytest.mark.parametrize("size", [2**21, 2**40, 2**62])
def test_a_header_that_states_a_huge_name_is_damage(kind, size):
    write_tar(SHARD, samples(range(2)))
    SHARD.write_bytes(header("././@LongLink", size, kind) + SHARD.read_bytes())
    assert f"raw/a-0.tar cannot be read as a tar file: a header of {size:,} bytes" in refusal(DamagedError)


def test_a_header_of_digits_takes_no_time():
    """Python before 3.11.10 takes hours for these: CVE-2024-6232."""
    write_tar(SHARD, samples(range(2)))
    SHARD.write_bytes(header("././@PaxHeader", 2**20, b"x") + b"1" * 2**20 + SHARD.read_bytes())
    assert "raw/a-0.tar cannot be read as a tar file: a header of digits alone" in refusal(DamagedError)


@pytest.mark.parametrize("kind", [b"L", b"x", b"g"])
def test_headers_that_follow_each_other_without_end_are_damage(kind):
    write_tar(SHARD, samples(range(2)))
    content = b"a\0" if kind == b"L" else b"12 path=abc\n"
    SHARD.write_bytes(
        (header("././@Header", len(content), kind) + content.ljust(512, b"\0")) * 3000 + SHARD.read_bytes()
    )
    assert "raw/a-0.tar cannot be read as a tar file: maximum recursion depth" in refusal(DamagedError)


@pytest.mark.parametrize("size", [3000, 2**33, 10**14, 2**62])
def test_a_member_that_goes_on_behind_the_file_is_cut_off(size):
    write_tar(SHARD, samples(range(2)), tarfile.USTAR_FORMAT)
    content = SHARD.read_bytes()[:4096]
    SHARD.write_bytes(content + header("2.png", size) + bytes(1024))
    assert f"raw/a-0.tar is cut off: its member '2.png' has {size:,} bytes" in refusal(DamagedError)


def test_a_size_in_a_pax_header_counts():
    Path("raw").mkdir()
    with tarfile.open(SHARD, "w", format=tarfile.PAX_FORMAT) as file:
        member = tarfile.TarInfo("1.png")
        member.pax_headers = {"size": "99999999999999"}
        file.addfile(member)
    assert "raw/a-0.tar is cut off: its member '1.png' has 99,999,999,999,999 bytes" in refusal(DamagedError)


@pytest.mark.parametrize("name", ["caf\udce9.txt", "\x1b[31mred\x07.txt", "two\nlines.txt", "only.cls"])
def test_names_in_messages_are_quoted(name):
    Path("raw").mkdir()
    with tarfile.open(SHARD, "w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as file:
        file.addfile(tarfile.TarInfo(name))
    message = refusal(MissingError)
    assert message.isprintable()
    assert name.encode("unicode_escape").decode()[:3] in message
    write_tar(SHARD, samples(range(2)) | {"x\ny.png": png(1)})
    assert refusal().isprintable()


def test_every_flipped_byte_gives_the_same_rows_or_an_error():
    write_tar(SHARD, {"1.png": b"A", "1.cls": b"0", "2.png": b"B", "2.cls": b"1"}, tarfile.USTAR_FORMAT)
    content, expected = SHARD.read_bytes(), [row.image for row in read().rows]
    for place in range(0, 4096, 13):
        SHARD.write_bytes(content[:place] + bytes([content[place] ^ 0x41]) + content[place + 1 :])
        try:
            assert [row.image for row in read().rows] == expected
        except (DamagedError, UnusableError):
            continue


# Which shards


def test_missing_shards_are_named():
    write_two()
    assert "there is no shard raw/a-2.tar" in refusal(MissingError, train=["a-{0..2}.tar"])
    assert "no shard fits raw/b-*.tar" in refusal(MissingError, val=["b-*.tar"], val_fraction=None)
    assert "there is no folder nowhere" in refusal(MissingError, data=Path("nowhere"))


def test_a_shard_in_two_splits_is_refused():
    write_two()
    message = refusal(test=["a-1.tar"], test_fraction=None)
    assert "1 shard(s) belong to more than one split, or twice to one: a-1.tar (train and test)" in message


def test_a_link_that_leaves_the_data_is_refused():
    write_two()
    write_tar("elsewhere.tar", samples(range(2)))
    Path("raw/a-2.tar").symlink_to(Path("elsewhere.tar").absolute())
    assert "raw/a-2.tar leads outside raw by a link" in refusal()


def test_braces_that_count_down_are_refused():
    write_two()
    assert "{5..2}" in refusal(ParameterError, train=["a-{5..2}.tar"])


def test_braces_that_mean_too_many_shards_are_refused():
    write_two()
    assert "split names 10,000,000,000 shards" in refusal(ParameterError, train=["{0..99999}-{0..99999}.tar"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train": []}, ["split.train"]),
        ({"train": "../a.tar"}, ["split.train", "inside it"]),
        ({"test": ["a.tar", "/x.tar"], "test_fraction": None}, ["split.test", "inside it"]),
        ({"train": "pipe:curl https://x/a.tar"}, ["split.train", "expected files in split.data"]),
        ({"val": "a.tar"}, ["split.val_fraction", "expected null"]),
        ({"unlabelled": {"folder": "x"}}, ["split.unlabelled.folder", "unknown key"]),
        ({"label_column": None}, ["split.label_column"]),
    ],
)
def test_impossible_settings_are_refused(change, words):
    assert_one_mistake(SECTION | change, words)


def test_every_key_without_a_default_must_be_there():
    assert_every_key_must_be_there(SECTION, but={"layout"})
    assert "split.layout" in invalid({key: value for key, value in SECTION.items() if key != "layout"})
