"""How files get their final names: after an error or a kill, and with a second process."""

import ctypes
import errno
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock
from processes import killed, process
from real_project import HANGS

from pipeline.runtime import publish as publishing
from pipeline.runtime.errors import BusyError, MismatchError
from pipeline.runtime.publish import overlap, publish, replace_given

FINAL = Path("out/logits.h5")
PARTIAL = Path("out/logits.h5.partial")


class Stopped(BaseException):
    """Like KeyboardInterrupt, not an `Exception`."""


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def everything() -> list[str]:
    """Every path below the current folder, except the folder of locks and unfinished work."""
    paths = (path.as_posix() for path in Path().rglob("*"))
    return sorted(path for path in paths if not path.startswith(".work"))


def publish_until(error: type[BaseException], kind: str) -> None:
    """Writes half a file or half a folder, or nothing, then raises."""
    with publish(FINAL) as partial:
        if kind == "file":
            partial.write_bytes(b"half")
        elif kind == "folder":
            (partial / "below").mkdir(parents=True)
            (partial / "below" / "half").write_bytes(b"half")
        raise error


def test_file_appears_after_the_block_and_not_before():
    with publish(FINAL) as partial:
        assert not partial.exists()
        assert partial.parent == FINAL.parent  # one file system: the rename is one step
        partial.write_bytes(b"half")
        assert not FINAL.exists()
        partial.write_bytes(b"whole")
    assert everything() == ["out", "out/logits.h5"]
    assert FINAL.read_bytes() == b"whole"


def test_older_file_stays_until_the_block_ends():
    FINAL.parent.mkdir()
    FINAL.write_bytes(b"older")
    with publish(FINAL) as partial:
        partial.write_bytes(b"newer")
        assert FINAL.read_bytes() == b"older"
    assert FINAL.read_bytes() == b"newer"
    assert everything() == ["out", "out/logits.h5"]


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt, SystemExit, Stopped])
@pytest.mark.parametrize("kind", ["file", "folder", "nothing"])
@pytest.mark.parametrize("older", [False, True], ids=["no output yet", "older output"])
def test_an_exception_leaves_nothing_and_keeps_the_older_file(error, kind, older):
    FINAL.parent.mkdir()
    if older:
        FINAL.write_bytes(b"older")
    with pytest.raises(error):
        publish_until(error, kind)
    assert everything() == (["out", "out/logits.h5"] if older else ["out"])
    assert not older or FINAL.read_bytes() == b"older"


def test_a_block_that_writes_nothing_is_an_error():
    FINAL.parent.mkdir()
    FINAL.write_bytes(b"older")
    with pytest.raises(FileNotFoundError, match=r"logits\.h5\.partial"), publish(FINAL):
        pass
    assert FINAL.read_bytes() == b"older"


@pytest.mark.parametrize("stale", ["file", "folder"])
@pytest.mark.parametrize("new", ["file", "folder"])
def test_what_a_killed_run_left_behind_is_removed(stale, new):
    FINAL.parent.mkdir()
    if stale == "folder":
        (PARTIAL / "train").mkdir(parents=True)
        (PARTIAL / "train" / "stale.png").write_bytes(b"stale")
    else:
        PARTIAL.write_bytes(b"stale")
    with publish(FINAL) as partial:
        assert not partial.exists()
        if new == "folder":
            partial.mkdir()
            partial = partial / "new"
        partial.write_bytes(b"new")
    assert everything() == ["out", "out/logits.h5"] + (["out/logits.h5/new"] if new == "folder" else [])


def test_folder_replaces_folder_as_a_whole():
    folder = Path("data/split")
    for names in (["a/1", "a/2", "b/1"], ["b/1", "c/1"]):
        with publish(folder) as partial:
            for name in names:
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                (partial / name).write_text(str(names))
    assert everything() == ["data", "data/split", "data/split/b", "data/split/b/1", "data/split/c", "data/split/c/1"]
    assert (folder / "b/1").read_text() == "['b/1', 'c/1']"


CALLS = [(os, "replace"), (os, "unlink"), (os, "rmdir"), (os, "fsync"), (publishing.shutil, "rmtree")]
"""By which a folder is replaced, beside the exchange of two names."""


def stop_at_call(monkeypatch, number: int, after: bool, is_killed: bool) -> list[str]:
    """Lets the call of this number stop everything, before or after its work; and all later ones, if this is a kill."""
    done = []

    def stopping(name, call):
        def stopped(*given, **named):
            done.append(name)
            stops = len(done) >= number if is_killed else len(done) == number
            if not stops or (after and len(done) == number):
                result = call(*given, **named)
            if stops:
                raise Stopped(name)
            return result

        return stopped

    for module, name in CALLS:
        monkeypatch.setattr(module, name, stopping(name, getattr(module, name)))
    monkeypatch.setattr(publishing, "_exchange", stopping("exchange", publishing._exchange))
    return done


def write_split(content: str) -> None:
    with publish(Path("split")) as partial:
        for name in ("a", "b", "c"):
            (partial / name).mkdir(parents=True)
            (partial / name / "1").write_text(content)


def contents_of_split() -> list[str]:
    return [Path("split", name, "1").read_text() for name in "abc"]


@pytest.mark.parametrize("is_killed", [False, True], ids=["stopped", "killed"])
@pytest.mark.parametrize("after", [False, True], ids=["before a call", "after a call"])
@pytest.mark.parametrize("exchanges", [True, False], ids=["exchange", "two renames"])
def test_a_folder_is_replaced_whole_whatever_stops(monkeypatch, exchanges, after, is_killed):
    """The older folder was once removed before the new one had its name; then both were lost."""
    if not exchanges:
        monkeypatch.setattr(publishing, "_exchange", lambda *_: False)
    for number in range(1, 100):
        write_split("older")
        with monkeypatch.context() as patched:
            calls = stop_at_call(patched, number, after, is_killed)
            try:
                write_split("newer")
            except Stopped:
                pass
            else:
                break
        between = is_killed and not exchanges and not Path("split").exists()
        assert between or contents_of_split() in (["older"] * 3, ["newer"] * 3)
        with pytest.raises(ValueError, match="next run"), publish(Path("split")):
            raise ValueError("next run")
        assert contents_of_split() in (["older"] * 3, ["newer"] * 3)
        assert [path for path in everything() if "/" not in path] == ["split"]
    assert 10 < len(calls) < 100


@pytest.mark.parametrize("exchanges", [True, False], ids=["exchange", "two renames"])
def test_of_a_folder_that_cannot_be_removed_the_new_is_whole(monkeypatch, exchanges):
    """As one that holds a file that nobody may remove."""
    if not exchanges:
        monkeypatch.setattr(publishing, "_exchange", lambda *_: False)
    write_split("older")

    def refused(path):
        raise PermissionError(errno.EPERM, "Operation not permitted", f"{path}/b/1")

    with monkeypatch.context() as patched:
        patched.setattr(publishing.shutil, "rmtree", refused)
        with pytest.raises(PermissionError, match=r"split.*partial/b/1"):
            write_split("newer")
    assert contents_of_split() == ["newer"] * 3
    write_split("newest")
    assert [path for path in everything() if "/" not in path] == ["split"]


@pytest.mark.parametrize("exchanges", [True, False], ids=["exchange", "two renames"])
def test_a_folder_replaces_a_link_and_leaves_what_it_names(monkeypatch, exchanges):
    if not exchanges:
        monkeypatch.setattr(publishing, "_exchange", lambda *_: False)
    Path("elsewhere").mkdir()
    Path("elsewhere/kept").write_bytes(b"kept")
    Path("split").symlink_to("elsewhere")
    write_split("newer")
    assert contents_of_split() == ["newer"] * 3
    assert not Path("split").is_symlink()
    assert Path("elsewhere/kept").read_bytes() == b"kept"


def publish_empty(kind: str) -> None:
    with publish(FINAL) as partial:
        (partial.mkdir if kind == "folder" else partial.touch)()


@pytest.mark.parametrize("older", ["file", "folder", "link to a folder"])
def test_a_file_replaces_no_folder_and_a_folder_no_file(older):
    """A picture with the name of the folder of all data once took its place."""
    kept = FINAL if older == "file" else FINAL / "kept"
    if older == "link to a folder":
        Path("elsewhere").mkdir()
        FINAL.parent.mkdir()
        FINAL.symlink_to("../elsewhere")
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(b"kept")
    before = everything()
    with pytest.raises(MismatchError, match=r"out/logits\.h5 is a (file|folder)"):
        publish_empty("folder" if older == "file" else "file")
    assert everything() == before
    assert kept.read_bytes() == b"kept"


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("data/split", "data/split", True),
        ("data", "data/split/a.npz", True),
        ("data/../data/split", "data", True),
        ("link/split", "data/split", True),
        (".", "data/split", True),
        ("nowhere", "nowhere/below", True),
        ("data/split", "data/split_of_mine", False),
        ("data/raw", "data/split", False),
        ("loop", "data/split", False),
    ],
)
def test_places_overlap_if_one_holds_the_other(one, other, expected):
    Path("data/split").mkdir(parents=True)
    Path("link").symlink_to("data")
    Path("loop").symlink_to("loop")
    assert overlap(Path(one), Path(other)) == overlap(Path(other), Path(one)) == expected


@pytest.mark.skipif(sys.platform != "linux", reason="names the flushed file through /proc")
def test_content_reaches_the_disk_before_the_name_does(monkeypatch):
    """A crash of the machine between rename and flush would leave an empty file under the final name."""
    steps = []
    flush, rename = os.fsync, os.replace

    def noted_flush(descriptor):
        steps.append(("flush", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
        flush(descriptor)

    def noted_rename(source, target):
        steps.append(("rename", Path(target).name))
        rename(source, target)

    monkeypatch.setattr(publishing.os, "fsync", noted_flush)
    monkeypatch.setattr(publishing.os, "replace", noted_rename)
    with publish(Path("split")) as partial:
        (partial / "train").mkdir(parents=True)
        for name in ("1", "train/2"):
            (partial / name).write_bytes(b"x")
    renamed = steps.index(("rename", "split"))
    assert {("flush", "1"), ("flush", "2")} <= set(steps[:renamed])
    assert steps[renamed + 1 :] == [("flush", Path.cwd().name)]


def write_folder(files: int) -> None:
    with publish(Path("split")) as partial:
        (partial / "train").mkdir(parents=True)
        for number in range(files):
            (partial / "train" / str(number)).write_bytes(b"x")


@pytest.mark.skipif(sys.platform != "linux", reason="Linux has a call that flushes a file system and waits for it")
@pytest.mark.parametrize(("files", "calls"), [(10, 0), (publishing.FLUSHED_ONE_BY_ONE + 10, 1)])
def test_many_files_are_flushed_together_before_the_name(monkeypatch, files, calls):
    """4 ms for each file by itself made an hour and a half of a million."""
    flushed, whole, flush = [], publishing._flush_file_system, os.fsync
    monkeypatch.setattr(publishing.os, "fsync", lambda descriptor: flushed.append(descriptor) or flush(descriptor))
    found = []

    def flush_file_system(folder):
        assert not Path("split").exists()
        assert len(list(folder.glob("train/*"))) == files
        found.append(whole(folder))
        return found[-1]

    monkeypatch.setattr(publishing, "_flush_file_system", flush_file_system)
    write_folder(files)
    assert found == [True] * calls
    assert len(flushed) == (1 if calls else files + 3)  # the folder above; and each file and the two folders


def test_without_that_call_every_file_is_flushed(monkeypatch):
    flushed, flush = [], os.fsync
    monkeypatch.setattr(publishing.sys, "platform", "another")
    monkeypatch.setattr(publishing.os, "fsync", lambda descriptor: flushed.append(descriptor) or flush(descriptor))
    write_folder(publishing.FLUSHED_ONE_BY_ONE + 10)
    assert len(flushed) == publishing.FLUSHED_ONE_BY_ONE + 10 + 3


@pytest.mark.skipif(sys.platform != "linux", reason="Linux has a call that flushes a file system and waits for it")
def test_a_file_system_that_cannot_be_flushed_is_an_error(monkeypatch):
    def refused(descriptor):
        ctypes.set_errno(errno.EIO)
        return -1

    monkeypatch.setattr(publishing.ctypes, "CDLL", lambda *_, **__: SimpleNamespace(syncfs=refused))
    with pytest.raises(OSError, match=r"Input/output.*split\.partial"):
        write_folder(publishing.FLUSHED_ONE_BY_ONE + 10)
    assert everything() == []


@pytest.mark.skipif(sys.platform != "linux", reason="names the flushed file through /proc")
def test_a_file_that_cannot_be_flushed_is_an_error(monkeypatch):
    flush = os.fsync

    def refuse_one(descriptor):
        if Path(os.readlink(f"/proc/self/fd/{descriptor}")).name == "30":
            raise OSError(5, "Input/output error")
        flush(descriptor)

    monkeypatch.setattr(publishing.os, "fsync", refuse_one)

    def write_many():
        with publish(Path("split")) as partial:
            partial.mkdir()
            for number in range(40):
                (partial / str(number)).write_bytes(b"x")

    with pytest.raises(OSError, match="Input/output"):
        write_many()
    assert everything() == []


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL exists on POSIX only")
@pytest.mark.parametrize("older", [False, True], ids=["no output yet", "older output"])
def test_a_killed_process_leaves_no_final_file(older):
    FINAL.parent.mkdir()
    if older:
        FINAL.write_bytes(b"older")
    killed("with publish(Path('out/logits.h5')) as partial:\n    partial.write_bytes(b'half')")
    assert PARTIAL.read_bytes() == b"half"  # the kill came in the middle
    assert FINAL.exists() == older
    assert not older or FINAL.read_bytes() == b"older"
    with publish(FINAL) as partial:
        partial.write_bytes(b"whole")
    assert everything() == ["out", "out/logits.h5"]
    assert FINAL.read_bytes() == b"whole"


def test_who_is_patient_waits_without_a_limit_and_says_so(tmp_path, capsys, monkeypatch):
    """Another object holds the lock, as another process would; it lets go when the waiting has been told."""
    held = FileLock(tmp_path / "lock")
    held.acquire()
    told = sys.stderr

    class Told:
        def write(self, text):
            held.release(force=True)
            return told.write(text)

        def flush(self):
            told.flush()

    monkeypatch.setattr(sys, "stderr", Told())
    with (
        publishing.locked(FINAL, tmp_path / "lock", seconds=0, patient=True),
        pytest.raises(BusyError),
        publishing.locked(FINAL, tmp_path / "lock", seconds=0),
    ):
        pass
    assert capsys.readouterr().err == "waiting for another process that is making the same out/logits.h5\n"


@pytest.mark.slow
def test_a_second_process_may_not_publish_the_same_output(monkeypatch):
    """Two writers once renamed each other's half-written files."""
    monkeypatch.setattr(publishing, "LOCK_SECONDS", 0.2)
    holder = process(
        "with publish(Path('out/logits.h5')) as partial:\n"
        "    partial.write_bytes(b'half')\n"
        "    print('writing', flush=True)\n"
        "    sys.stdin.read()\n"
        "    partial.write_bytes(b'whole')"
    )
    assert holder.stdout.readline() == "writing\n"
    with pytest.raises(BusyError, match=r"out/logits\.h5"), publish(FINAL):
        pass
    with publish(Path("out/another.h5")) as partial:
        partial.write_bytes(b"at the same time")
    holder.communicate("", timeout=HANGS)
    assert FINAL.read_bytes() == b"whole"
    with publish(FINAL) as partial:
        partial.write_bytes(b"later")
    assert FINAL.read_bytes() == b"later"


@pytest.mark.parametrize("writing", [publish, replace_given])
def test_a_full_disk_names_the_file(writing):
    """`write` of an open file raises an error that names none."""
    with pytest.raises(OSError, match=r"No space left on device: 'out/logits\.h5'$"), writing(FINAL):
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("writing", [publish, replace_given])
def test_an_error_that_names_a_file_keeps_the_name(writing):
    with pytest.raises(OSError, match=r"No space left on device: 'another\.h5'$"), writing(FINAL):
        raise OSError(errno.ENOSPC, "No space left on device", "another.h5")


def test_a_link_to_a_given_file_stays_one():
    Path("elsewhere").mkdir()
    Path("elsewhere/labels.csv").write_text("older")
    Path("labels.csv").symlink_to("elsewhere/labels.csv")
    with replace_given(Path("labels.csv")) as partial:
        partial.write_text("newer")
    assert Path("labels.csv").is_symlink()
    assert Path("elsewhere/labels.csv").read_text() == "newer"
    assert everything() == ["elsewhere", "elsewhere/labels.csv", "labels.csv"]
