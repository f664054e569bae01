"""What an error of the system tells the user."""

import errno
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from real_project import ROOT

from pipeline.cli.main import main
from pipeline.runtime.disk_errors import in_words, mount_of
from pipeline.runtime.publish import publish, refuse_full_disk


def refused(number: int, *names: str) -> OSError:
    error = OSError(number, os.strerror(number), *names)
    assert error.errno == number
    return error


def test_a_full_disk_is_named_with_its_room(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(2**30, 2**30, 3 * 2**19))
    told = in_words(refused(errno.ENOSPC, str(tmp_path / "no/such/x.h5")))
    assert told == (
        f"the system refused: [Errno 28] No space left on device: '{tmp_path}/no/such/x.h5'; the disk at "
        f"{mount_of(tmp_path)} has 1.5 MiB free. Make room there, then run again."
    )


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EDQUOT, ["Disk quota exceeded", " MiB free. ", "quota"]),
        (errno.EROFS, ["Read-only file system", "mount it for writing"]),
        (errno.EACCES, ["Permission denied", "permission"]),
        (errno.EIO, ["Input/output error", "damaged"]),
        (errno.ESTALE, ["Stale file handle", "mount it again"]),
        (errno.ENOTCONN, ["mount it again"]),
        (errno.ENOLCK, ["knows no locks"]),
        (errno.EFBIG, ["File too large", "Check the disk and the permissions."]),
    ],
)
def test_what_to_do_depends_on_the_error(number, words):
    told = in_words(refused(number, "data/x.h5"))
    assert told.startswith("the system refused: [Errno ")
    assert "'data/x.h5'" in told
    assert [each for each in words if each not in told] == []
    assert "\n" not in told


def test_an_error_without_number_and_file_is_told_too():
    assert in_words(OSError("odd")) == "the system refused: odd. Check the disk and the permissions."


def test_of_a_full_disk_without_a_file_no_room_is_told():
    """As of what is printed, which once named the disk of the current folder."""
    told = in_words(refused(errno.ENOSPC))
    assert told == "the system refused: [Errno 28] No space left on device. Make room there, then run again."


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="this system has no /proc")
def test_of_two_files_the_disk_of_the_second_is_told(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(2**30, 2**30, 0))
    error = OSError(errno.ENOSPC, "No space left on device", "/from", None, "/proc/to")
    assert "; the disk at /proc has 0.0 MiB free" in in_words(error)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="this system has no /proc")
def test_the_disk_of_a_link_is_that_of_what_it_names(tmp_path):
    (tmp_path / "link").symlink_to("/proc")
    assert mount_of(tmp_path / "link/file") == Path("/proc")


def test_without_temporary_files_a_command_still_reads(monkeypatch, tmp_path):
    """The disk of the project and those of temporary files can only be read."""

    def none_usable():
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    monkeypatch.setattr(tempfile, "gettempdir", none_usable)
    result = CliRunner().invoke(main, ["params"])
    assert (result.exit_code, "split:" in result.stdout) == (0, True), result.output


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="this system has no /proc")
def test_a_mounted_disk_is_found_from_a_file_that_is_not_there():
    assert mount_of(Path("/proc/no such/folder/file")) == Path("/proc")
    assert mount_of(Path("/no such folder")) == Path("/")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_without_room_names_the_output(monkeypatch, tmp_path, number):
    def full(*_):
        raise refused(number)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"3\.0 MiB are needed: 'out/x\.h5'$"):
        refuse_full_disk(Path("out/x.h5"), 3 * 2**20)
    with pytest.raises(OSError, match=r"'out/x\.h5'$"), publish(Path("out/x.h5")):
        raise refused(number)
