"""Files that were read once are not read again, until the system says that they have changed."""

import hashlib
import os
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import pytest
from processes import killed

from pipeline.runtime import seen_files
from pipeline.runtime.seen_files import differing

RECORD = Path(".work/digests.sqlite")
NAMES = [f"{number}.png" for number in range(6)]


@pytest.fixture(autouse=True)
def _settled_files_in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(seen_files, "SETTLED_SECONDS", -1.0)  # else a test would have to wait
    for name in NAMES:
        Path(name).write_text(f"content of {name}")


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def check(wanted: dict[str, str] | None = None) -> tuple[list[str], list[str]]:
    """The places that differ from their first content, or from `wanted`; and those that were read."""
    expected = {name: sha256(f"content of {name}") for name in NAMES} | (wanted or {})
    read = []

    def digest_of(place):
        read.append(place)
        return hashlib.sha256(Path(place).read_bytes()).hexdigest()

    found = list(differing(expected.items(), file_of=Path, digest_of=digest_of))
    return found, sorted(read)


def test_a_file_is_read_once():
    assert check() == ([], NAMES)
    assert check() == ([], [])


def test_more_files_than_are_looked_up_at_a_time(monkeypatch):
    monkeypatch.setattr(seen_files, "AT_ONCE", 4)
    Path("1.png").write_text("another")
    Path("5.png").unlink()
    assert check() == (["1.png", "5.png"], NAMES[:5])
    assert check() == (["1.png", "5.png"], ["1.png"])  # what differs is read again, before it is said to differ


def rewritten() -> None:
    Path("2.png").write_text("Content of 2.png")  # of the same size


def rewritten_with_the_time_of_before() -> None:
    before = os.stat("2.png")
    rewritten()
    os.utime("2.png", ns=(before.st_atime_ns, before.st_mtime_ns))  # no program sets the time of the inode's change


def replaced_by_another_file() -> None:
    Path("new").write_text("Content of 2.png")
    os.replace("new", "2.png")


@pytest.mark.parametrize("change", [rewritten, rewritten_with_the_time_of_before, replaced_by_another_file])
def test_a_change_is_seen(change):
    check()
    change()
    assert check() == (["2.png"], ["2.png"])


@pytest.mark.parametrize("touch", [lambda: os.utime("2.png"), lambda: os.link("2.png", "also")], ids=["time", "link"])
def test_a_file_of_another_time_is_read_and_found_equal(touch):
    check()
    touch()
    assert check() == ([], ["2.png"])
    assert check() == ([], [])


def test_a_file_that_has_just_changed_is_not_noted(monkeypatch):
    """A further change within one step of the file system's clock would leave no trace."""
    monkeypatch.setattr(seen_files, "SETTLED_SECONDS", 3600.0)
    assert check() == ([], NAMES)
    assert check() == ([], NAMES)


def test_a_file_that_changes_while_it_is_read_is_not_noted():
    def change_and_read(place):
        content = Path(place).read_bytes()
        Path(place).write_text("changed meanwhile")
        return hashlib.sha256(content).hexdigest()

    expected = [("2.png", sha256("content of 2.png"))]
    assert list(differing(expected, file_of=Path, digest_of=change_and_read)) == []
    assert check() == (["2.png"], NAMES)


def test_a_wrong_record_costs_time_only():
    check()
    with sqlite3.connect(RECORD) as connection:
        connection.execute("UPDATE digests SET sha256 = ?", ["0" * 64])
    assert check() == ([], NAMES)
    assert check() == ([], [])


def test_another_expectation_is_compared_with_the_file():
    check()
    assert check({"3.png": sha256("of another index")}) == (["3.png"], ["3.png"])


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"no database" * 100,
        lambda content: content[: len(content) // 2],
        lambda content: content[:100] + b"\xff" * (len(content) - 100),
    ],
    ids=["empty", "another file", "half", "overwritten"],
)
def test_a_damaged_record_is_made_again(damage):
    check()
    RECORD.write_bytes(damage(RECORD.read_bytes()))
    assert check() == ([], NAMES)
    check()
    assert check() == ([], [])


def test_a_record_of_another_shape_is_made_again():
    check()
    with sqlite3.connect(RECORD) as connection:
        connection.execute("DROP TABLE digests")
        connection.execute("CREATE TABLE digests (name TEXT)")
    connection.close()
    assert check() == ([], NAMES)
    check()
    assert check() == ([], [])


def test_a_record_that_cannot_be_made_is_done_without():
    RECORD.mkdir(parents=True)
    assert check() == ([], NAMES)
    assert check() == ([], NAMES)


def test_a_record_in_use_is_done_without(monkeypatch):
    """Another process writes for longer than one waits."""
    check()
    monkeypatch.setattr(seen_files, "WAIT_SECONDS", 0.01)
    other = sqlite3.connect(RECORD, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert check() == ([], NAMES)
    other.close()
    assert check() == ([], [])


def test_without_the_record_all_files_are_read():
    check()
    RECORD.unlink()
    assert check() == ([], NAMES)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL exists on POSIX only")
def test_a_kill_while_noting_costs_time_only():
    check()
    Path("2.png").touch()
    killed(
        "if True:\n"
        "    from pipeline.runtime import seen_files\n"
        "    record = seen_files.SeenFiles(Path('.work/digests.sqlite'))\n"
        "    record._connection.execute('DELETE FROM digests')\n"
        "    record._connection.execute('INSERT INTO digests VALUES (?, ?, ?)', ['2.png', '', ''])"
    )
    assert check() == ([], ["2.png"])  # what was not committed has not happened


def test_an_experiment_in_a_copy_notes_nothing(tmp_path, monkeypatch):
    copy = tmp_path / ".dvc/tmp/exps/one"
    copy.mkdir(parents=True)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.chdir(copy)
    for name in NAMES:
        Path(name).write_text(f"content of {name}")
    assert check() == ([], NAMES)
    assert check() == ([], NAMES)


YEAR = 365 * 86_400


@pytest.mark.parametrize("jump", [-YEAR, -2 * 10**9, 10 * YEAR], ids=["a year back", "before 1970", "ten years on"])
def test_a_change_is_seen_whatever_the_clock_says(monkeypatch, jump):
    """The clock jumps, then a file of the same size is put in the place of another, with the times of that."""
    monkeypatch.setattr(seen_files, "SETTLED_SECONDS", 2.0)
    real = seen_files.time.time_ns
    check()
    monkeypatch.setattr(seen_files.time, "time_ns", lambda: real() + int(jump * 1e9))
    assert check()[0] == []
    rewritten_with_the_time_of_before()
    assert check()[0] == ["2.png"]
    assert check()[0] == ["2.png"]


def test_a_file_of_the_future_is_read_in_every_stage(monkeypatch):
    """As after a clock that was set back: whether its times are those of its last change cannot be known."""
    monkeypatch.setattr(seen_files, "SETTLED_SECONDS", 2.0)
    monkeypatch.setattr(seen_files.time, "time_ns", lambda: os.stat("0.png").st_mtime_ns - YEAR * 10**9)
    assert check() == ([], NAMES)
    assert check() == ([], NAMES)


def test_a_file_whose_inode_has_just_changed_is_not_noted(monkeypatch):
    """Its time of modification is an old one, which a program has set."""
    monkeypatch.setattr(seen_files, "SETTLED_SECONDS", 3600.0)
    for name in NAMES:
        os.utime(name, ns=(0, 10**18))
    assert check() == ([], NAMES)
    assert check() == ([], NAMES)


def test_another_inode_is_another_state(monkeypatch):
    """Two files may have one size and the same times, as where a file system counts in steps of two seconds."""
    states = []
    for inode in (4, 5):
        found = SimpleNamespace(st_size=1, st_mtime_ns=2, st_ctime_ns=3, st_ino=inode)
        with monkeypatch.context() as patched:
            patched.setattr(seen_files.os, "stat", lambda _, found=found: found)
            states.append(seen_files.state_of("2.png"))
    assert states[0] != states[1]
