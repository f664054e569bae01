"""Tar files of samples, as WebDataset writes them."""

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

from hypothesis import strategies as st

from benchmarks.fuzz.shards import as_data_set
from benchmarks.fuzz.target import Target

FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
TYPES = b"0\x001234567LKSxgXDVM?"
NUMBERS = (0, 1, 511, 512, 513, 2**20, 2**33, 2**62, -1)
RECORDS = (b"path", b"size", b"linkpath", b"hdrcharset", b"GNU.sparse.map", b"GNU.sparse.major", b"mtime")
NAMES = (
    "1.png",
    "1.cls",
    "../1.png",
    "/1.png",
    "a/" * 200 + "1.png",
    "\x1b[2J.png",
    "caf\udce9.png",
    "",
    ".",
    "1.json",
)


def seeds() -> list[bytes]:
    """A file of three samples in each format of tar."""
    files = []
    for kind in FORMATS:
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w", format=kind) as file:
            for number in range(3):
                _add(file, f"{number}.png", b"pixels")
                _add(file, f"{number}.cls", str(number % 2).encode())
        files.append(content.getvalue())
    return files


def _add(file: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    file.addfile(member, io.BytesIO(content))


def run(path: Path) -> None:
    """Reads the data set, as `split` does."""
    from pipeline.datasets.webdataset import read_webdataset

    read_webdataset(**as_data_set(path), label_column="cls")


def inputs(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Some headers of any type, size and name with right checksums, in front of a seed's members."""
    record = st.builds(_record, st.sampled_from(RECORDS), st.sampled_from(NUMBERS) | st.text(max_size=9))
    content = st.binary(max_size=40) | st.lists(record, max_size=3).map(b"".join)
    member = st.builds(
        _member,
        st.sampled_from(NAMES) | st.text(max_size=9),
        st.sampled_from([bytes([kind]) for kind in TYPES]),
        st.sampled_from(NUMBERS) | st.none(),
        content,
    )
    front = st.builds(bytes.__mul__, st.lists(member, max_size=4).map(b"".join), st.sampled_from((1, 1, 1, 2, 500)))
    return st.builds(bytes.__add__, front, st.sampled_from(seeds))


def _record(key: bytes, value: object) -> bytes:
    """A record of a PAX header, whose length may be wrong."""
    return b"%d %s=%s\n" % (len(key) + 10, key, str(value).encode(errors="replace"))


def _member(name: str, kind: bytes, size: int | None, content: bytes) -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, len(content) if size is None else size
    header = member.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    return header[-512:] + content.ljust(-(-len(content) // 512) * 512, b"\0")


TARGETS = {"tar": Target(seeds=seeds, run=run, inputs=inputs, file="shard.tar")}
