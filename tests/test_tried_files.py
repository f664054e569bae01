"""Files of others are read in a process of its own once for each content; what this program wrote is not tried."""

import hashlib
from pathlib import Path

import pytest

from pipeline.runtime import tried_files
from pipeline.runtime.errors import DamagedError
from pipeline.runtime.tried_files import note_as_ours, try_once, try_once_in_a_project

REMEDY = "Fetch it again."


@pytest.fixture
def tried(tmp_path, monkeypatch):
    """The paths that were tried, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    paths = []

    def note(reader, *arguments, path, **limits):
        assert arguments == (path,)
        paths.append(str(path))
        if path.read_bytes() == b"bad":
            raise DamagedError("bad")

    monkeypatch.setattr(tried_files, "run_separately", note)
    return paths


def read(name, content=b"good"):
    path = Path(name)
    path.write_bytes(content)
    try_once(reader, path, sha256=hashlib.sha256(content).hexdigest(), remedy=REMEDY)


def reader(path):
    """Is never called here."""


def other_reader(path):
    """Nor is this."""


def test_a_content_is_tried_once_whatever_its_name(tried):
    for name in ("a", "b", "a"):
        read(name)
    assert tried == ["a"]
    read("a", b"other")
    assert tried == ["a", "a"]


@pytest.mark.parametrize(("is_project", "expected"), [(True, ["a"]), (False, ["a", "a"])])
def test_outside_of_a_project_nothing_is_written(tried, is_project, expected):
    Path("a").touch()
    if is_project:
        Path(".work").mkdir()
    for _ in range(2):
        try_once_in_a_project(reader, Path("a"), sha256="0", remedy=REMEDY)
    assert tried == expected
    assert Path(".work").exists() == is_project


def test_what_cannot_be_read_is_tried_each_time(tried):
    for _ in range(2):
        with pytest.raises(DamagedError):
            read("a", b"bad")
    assert tried == ["a", "a"]


def test_another_reader_tries_again(tried):
    read("a")
    try_once(other_reader, Path("a"), sha256=hashlib.sha256(b"good").hexdigest(), remedy=REMEDY)
    assert tried == ["a", "a"]


def test_what_this_program_wrote_is_not_tried(tried):
    note_as_ours(reader, hashlib.sha256(b"good").hexdigest())
    read("a")
    assert tried == []


def test_a_large_file_may_take_longer(tried, monkeypatch):
    given = []
    monkeypatch.setattr(tried_files, "run_separately", lambda *_, seconds, **__: given.append(seconds))
    monkeypatch.setattr(tried_files, "BYTES_PER_SECOND", 2)
    read("a", b"1234567")
    try_once(reader, Path("a"), sha256="0", remedy=REMEDY, seconds=60, size=100)
    assert given == [tried_files.SECONDS + 3, 60 + 50]


def test_without_a_record_each_use_tries(tried):
    read("a")
    Path(".work/digests.sqlite").write_bytes(b"damaged")
    read("a")
    assert tried == ["a", "a"]
