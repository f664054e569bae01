"""The folders of unfinished work: after an error or a kill, and with a second process or experiment."""

import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import killed, process
from real_project import HANGS

from pipeline.runtime import publish as publishing
from pipeline.runtime import workspace as work
from pipeline.runtime.errors import BusyError
from pipeline.runtime.publish import publish, publish_copy
from pipeline.runtime.workspace import earlier_finished, forget_finished, forget_work_of_others, in_a_copy, workspace

FINAL = Path("out/logits.h5")


class Stopped(BaseException):
    """Like KeyboardInterrupt, not an `Exception`."""


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)


def work_until_stopped(inputs: str) -> None:
    """Leaves one block in the workspace, then raises."""
    with workspace(FINAL, code=["runtime"], inputs=inputs) as folder:
        (folder / "block_0").write_bytes(b"rows")
        raise Stopped


def test_workspace_survives_an_exception_and_success():
    """A kill after the stage's end, but before DVC has noted its output, must not lose the work."""
    with pytest.raises(Stopped):
        work_until_stopped("a")
    with workspace(FINAL, code=["runtime"], inputs="a") as again:
        assert (again / "block_0").read_bytes() == b"rows"
        (again / "block_1").write_bytes(b"more")
    with workspace(FINAL, code=["runtime"], inputs="a") as later:
        assert sorted(path.name for path in later.iterdir()) == ["block_0", "block_1"]


def test_workspace_of_other_inputs_is_removed():
    with pytest.raises(Stopped):
        work_until_stopped("a")
    (stale,) = Path(".work").glob("*/*/")
    with workspace(FINAL, code=["runtime"], inputs="b") as folder:
        assert folder != stale
        assert not list(Path(".work").glob("*/*/*"))
    assert list(Path(".work").glob("*/*/")) == [folder]


@pytest.mark.parametrize(
    "other",
    [
        "data/teacher_logits.h5",
        "out/logits.h5x",
        "out/logits.h5-copy",
        "out/logits.h5/part",
    ],
)
def test_work_on_other_outputs_is_left_alone(other):
    with workspace(Path(other), code=["runtime"], inputs="a") as folder:
        (folder / "block_0").write_bytes(b"rows")
        with workspace(FINAL, code=["runtime"], inputs="b") as own:
            assert own != folder
        assert (folder / "block_0").read_bytes() == b"rows"


def test_inputs_are_compared_by_value_whatever_their_order():
    with workspace(FINAL, code=["runtime"], model={"a": 1, "b": [2, None]}, seed=3) as first:
        pass
    with workspace(FINAL, code=["runtime"], seed=3, model={"b": [2, None], "a": 1}) as again:
        assert again == first


@pytest.mark.parametrize(
    ("edited", "lost"),
    [("training/__init__", True), ("stages/split", True), ("report/__init__", False), ("stages/report", False)],
)
def test_only_an_edit_of_its_own_code_ends_unfinished_work(monkeypatch, tmp_path, edited, lost):
    """Rows of faulty code must not reach the output of corrected code; a new color in the report must cost no epoch."""
    monkeypatch.setattr(work, "CODE", Path(shutil.copytree(work.CODE, tmp_path / "code")))
    code = ["training", "stages/split.py"]
    with workspace(FINAL, code=code, inputs="a") as before:
        (before / "block_0").write_bytes(b"rows")
    with workspace(FINAL, code=code, inputs="a") as same:
        assert same == before
    with (tmp_path / "code" / f"{edited}.py").open("a") as module:
        module.write("\n")
    with workspace(FINAL, code=code, inputs="a") as still_running:
        assert still_running == before  # what runs is the code as it was when the process began
    monkeypatch.setattr(work, "AT_START", work.source())
    with workspace(FINAL, code=code, inputs="a") as after:
        assert (after != before) == lost
        assert [path.name for path in Path(".work").glob("*/*/*")] == ([] if lost else ["block_0"])


def test_work_keyed_by_an_unknown_package_raises():
    with pytest.raises(ValueError, match="absent"), workspace(FINAL, code=["absent"]):
        pass


@pytest.mark.parametrize("root", [None, "elsewhere"])
def test_work_lies_below_dvc_root(monkeypatch, root):
    if root:
        monkeypatch.setenv("DVC_ROOT", root)
    with workspace(FINAL, code=["runtime"], inputs="a") as folder:
        assert folder.is_dir()
        assert folder.parent.resolve() == Path(root or ".").resolve() / ".work/out-logits.h5"
        assert re.fullmatch("[0-9a-f]{16}", folder.name)
    assert any(Path(".work").glob("*/")) == (root is None)  # but for locks


def test_a_published_copy_stays_in_the_work_folder():
    FINAL.parent.mkdir()
    FINAL.write_bytes(b"older")
    with workspace(FINAL, code=["runtime"], inputs="a") as folder:
        finished = folder / "finished.h5"
        finished.write_bytes(b"rows")
        publish_copy(finished, FINAL)
        assert FINAL.read_bytes() == finished.read_bytes() == b"rows"
        FINAL.unlink()  # as DVC does before it runs the stage
        publish_copy(finished, FINAL)
        assert FINAL.read_bytes() == finished.read_bytes() == b"rows"
    assert [*Path("out").iterdir()] == [FINAL]


def test_damage_to_a_published_file_spares_the_work_folder():
    """They were once two names of one file, and the repairing command published the damage again."""
    with workspace(FINAL, code=["runtime"], inputs="a") as folder:
        finished = folder / "finished.h5"
        finished.write_bytes(b"rows")
        publish_copy(finished, FINAL)
        with FINAL.open("r+b") as file:
            file.write(b"R")
        assert finished.read_bytes() == b"rows"


def test_finished_work_is_forgotten_and_unfinished_work_is_not():
    with workspace(FINAL, code=["runtime"], inputs="a") as folder:
        (folder / "finished.h5").write_bytes(b"rows")
        (folder / "state.npz").write_bytes(b"epoch 3")
        forget_finished(FINAL)  # while somebody is at work, nothing goes
        assert (folder / "finished.h5").is_file()
    forget_finished(FINAL, Path("out/another.h5"))
    assert [path.name for path in folder.iterdir()] == ["state.npz"]


def finish(inputs: str, content: bytes = b"rows") -> Path:
    """Leaves a finished file and other work in the workspace of some inputs."""
    with workspace(FINAL, code=["runtime"], inputs=inputs) as folder:
        (folder / "finished.h5").write_bytes(content)
        (folder / "unfinished.h5").write_bytes(b"half")
        (folder / "blocks").mkdir()
        (folder / "blocks" / "0").write_bytes(b"half")
    return folder


def test_earlier_finished_work_stays_until_new_work_is_done():
    """Finished rows may still be right; unfinished work of other inputs has no use."""
    before = finish("a")
    with workspace(FINAL, code=["runtime"], inputs="b") as folder:
        assert folder != before
        assert [path.name for path in before.iterdir()] == ["finished.h5"]
        assert earlier_finished(FINAL) == [before / "finished.h5"]
    assert not before.exists()
    assert earlier_finished(FINAL) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, Stopped])
def test_earlier_finished_work_outlives_stopped_work(error):
    before = finish("a")

    def work(inputs):
        with workspace(FINAL, code=["runtime"], inputs=inputs):
            raise error

    for inputs in ("b", "c"):
        with pytest.raises(error):
            work(inputs)
        assert earlier_finished(FINAL) == [before / "finished.h5"]
    with workspace(FINAL, code=["runtime"], inputs="a") as again:
        assert (again / "finished.h5").read_bytes() == b"rows"


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL exists on POSIX only")
def test_what_other_inputs_finished_outlives_a_killed_process():
    before = finish("a")
    killed(
        "with workspace(Path('out/logits.h5'), code=['runtime'], inputs='b') as folder:\n"
        "    (folder / 'block_0').write_bytes(b'x')"
    )
    assert earlier_finished(FINAL) == [before / "finished.h5"]
    with workspace(FINAL, code=["runtime"], inputs="b") as folder:
        assert (folder / "block_0").read_bytes() == b"x"
    assert not before.exists()


def test_finished_files_of_equal_inputs_come_in_a_fixed_order():
    with pytest.raises(Stopped):
        work_until_stopped("a")
    assert earlier_finished(FINAL) == []
    first = finish("a")
    zeros = first.with_name("0" * 16)
    zeros.mkdir()
    for folder in (first, zeros):
        for name in ("finished.keras", "finished.csv"):
            (folder / name).write_bytes(b"model")
    actual = [path.relative_to(first.parent).as_posix() for path in earlier_finished(FINAL)]
    of_first = [f"{first.name}/finished.{suffix}" for suffix in ("csv", "h5", "keras")]
    assert actual == [f"{zeros.name}/finished.csv", f"{zeros.name}/finished.keras", *of_first]


@pytest.mark.parametrize("other", ["data/teacher_logits.h5", "out/logits.h5x", "out/logits", "out/logits.h5/part"])
def test_finished_files_of_other_outputs_are_not_found(other):
    finish("a")
    assert earlier_finished(Path(other)) == []
    with workspace(Path(other), code=["runtime"], inputs="b"):
        assert len(earlier_finished(FINAL)) == 1
    assert len(earlier_finished(FINAL)) == 1


def test_finished_files_are_looked_for_below_dvc_root(monkeypatch):
    finish("a")
    monkeypatch.setenv("DVC_ROOT", "elsewhere")
    assert earlier_finished(FINAL) == []
    finished = finish("a") / "finished.h5"
    assert earlier_finished(FINAL) == [finished]
    assert finished.is_relative_to("elsewhere")


def test_a_forgotten_file_is_not_found():
    finish("a")
    forget_finished(FINAL)
    assert earlier_finished(FINAL) == []


@pytest.mark.slow
def test_a_second_process_is_refused_while_the_first_works(monkeypatch):
    monkeypatch.setattr(publishing, "LOCK_SECONDS", 0.2)
    first = process(
        "with workspace(Path('out/logits.h5'), code=['runtime'], inputs='a') as folder:\n"
        "    (folder / 'block_0').write_bytes(b'rows')\n"
        "    print(folder, flush=True)\n"
        "    sys.stdin.read()"
    )
    with first:
        held = Path(first.stdout.readline().strip())
        for inputs in ("a", "b"):
            with pytest.raises(BusyError) as refused, workspace(FINAL, code=["runtime"], inputs=inputs):
                pytest.fail("two processes at work on one output")
            assert re.search(r"another process .*out/logits\.h5\. Wait .*, or stop it", str(refused.value))
        assert (held / "block_0").read_bytes() == b"rows"  # the refused ones removed nothing
        with workspace(Path("out/other.h5"), code=["runtime"], inputs="a") as other:
            assert other.is_dir()
        first.communicate("", timeout=HANGS)
    assert first.returncode == 0
    with workspace(FINAL, code=["runtime"], inputs="a") as folder:
        assert (folder / "block_0").read_bytes() == b"rows"


@pytest.mark.slow
def test_a_lock_is_waited_for_while_its_owner_ends(monkeypatch):
    """The owner may be a stage that is about to end."""
    assert publishing.LOCK_SECONDS == 5.0
    monkeypatch.setattr(publishing, "LOCK_SECONDS", float(HANGS))  # a busy machine may take longer than that
    ending = process(
        "import time\n"
        "with workspace(Path('out/logits.h5'), code=['runtime'], inputs='a') as folder:\n"
        "    print('at work', flush=True)\n"
        "    time.sleep(1)\n"
        "    (folder / 'block_0').write_bytes(b'rows')"
    )
    assert ending.stdout.readline() == "at work\n"
    with workspace(FINAL, code=["runtime"], inputs="a") as folder:
        assert (folder / "block_0").read_bytes() == b"rows"
    ending.communicate(timeout=HANGS)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL exists on POSIX only")
def test_a_killed_process_leaves_its_work_and_no_lock():
    killed(
        "with workspace(Path('out/logits.h5'), code=['runtime'], inputs='a') as folder:\n"
        "    (folder / 'block_0').write_bytes(b'rows')"
    )
    with workspace(FINAL, code=["runtime"], inputs="a") as folder:
        assert (folder / "block_0").read_bytes() == b"rows"


def test_work_of_others_goes_and_locks_and_other_names_stay():
    for name in ("m/a_of_1.keras", "m/a_of_2.keras", "m/a.keras", "m/b_of_1.keras"):
        with workspace(Path(name), code=["runtime"]) as folder:
            (folder / "finished.keras").write_text(name)
    forget_work_of_others([Path("m/a_of_2.keras")], "m/a_of_*.keras")
    left = {path.parent.parent.name for path in Path(".work").glob("*/*/finished.keras")}
    assert left == {"m-a_of_2.keras", "m-a.keras", "m-b_of_1.keras"}


# Experiments: DVC runs each in a copy of the repository, and names the repository in DVC_ROOT


@pytest.fixture
def copies(tmp_path, monkeypatch):
    """Two copies of a repository; this process is in the first."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    for name in ("one", "two"):
        (tmp_path / ".dvc/tmp/exps" / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / ".dvc/tmp/exps/one")
    return tmp_path / ".dvc/tmp/exps"


def test_an_experiment_forgets_nothing_that_others_finished(copies, monkeypatch):
    finished = copies.parents[2] / ".work/out-file.h5/0123456789abcdef/finished.h5"
    finished.parent.mkdir(parents=True)
    finished.touch()
    forget_finished(Path("out/file.h5"))
    assert finished.exists()
    in_the_repository(monkeypatch, copies)
    forget_finished(Path("out/file.h5"))
    assert not finished.exists()


@pytest.mark.parametrize("root", [".", "..", "elsewhere"])
def test_only_a_copy_below_dvcs_folder_is_one(tmp_path, monkeypatch, root):
    """A dvc.yaml in a folder below the repository's root, or a DVC_ROOT that was inherited, makes no experiment."""
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    monkeypatch.setenv("DVC_ROOT", root)
    assert not in_a_copy()


def in_the_repository(monkeypatch, copies):
    monkeypatch.chdir(copies.parents[2])


def experiment(copies: Path, program: str) -> subprocess.Popen[str]:
    """Another experiment, in the second copy, which works on the output until its input is closed."""
    imports = "import os, sys\nfrom pathlib import Path\n"
    imports += "from pipeline.runtime.publish import *\nfrom pipeline.runtime.workspace import *\n"
    running = subprocess.Popen(
        [sys.executable, "-c", imports + program],
        cwd=copies / "two",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stdout.readline() == "at work\n"
    return running


FINISHES = """
with workspace(Path('out/logits.h5'), code=['runtime'], inputs='a') as folder:
    print('at work', flush=True)
    sys.stdin.read()
    (folder / 'finished.h5').write_bytes(b'rows')
    publish_copy(folder / 'finished.h5', Path('out/logits.h5'))
"""


def test_unfinished_work_of_an_experiment_outlives_its_copy(copies, monkeypatch):
    with pytest.raises(Stopped):
        work_until_stopped("a")
    monkeypatch.chdir(copies / "two")
    shutil.rmtree(copies / "one")
    with workspace(FINAL, code=["runtime"], inputs="a") as folder:
        assert (folder / "block_0").read_bytes() == b"rows"
    in_the_repository(monkeypatch, copies)
    with workspace(FINAL, code=["runtime"], inputs="a") as folder:
        assert (folder / "block_0").read_bytes() == b"rows"


class Stderr(io.StringIO):
    """Takes the place of stderr, and acts when this process says that it waits for another."""

    def __init__(self, when_waiting: Callable[[], None]) -> None:
        super().__init__()
        self.when_waiting = when_waiting

    def write(self, text: str) -> int:
        if "waiting for another process" in text:
            self.when_waiting()
        return super().write(text)


@pytest.mark.slow
def test_an_experiment_waits_and_takes_what_another_finished(copies, monkeypatch):
    monkeypatch.setattr(publishing, "LOCK_SECONDS", 0.2)
    with experiment(copies, FINISHES) as other:
        monkeypatch.setattr("sys.stderr", stderr := Stderr(other.stdin.close))
        with workspace(FINAL, code=["runtime"], inputs="a") as folder:
            assert (folder / "finished.h5").read_bytes() == b"rows"
            publish_copy(folder / "finished.h5", FINAL)
    assert stderr.getvalue().count("out/logits.h5") == 1
    assert FINAL.read_bytes() == (copies / "two" / FINAL).read_bytes() == b"rows"


@pytest.mark.slow
def test_an_experiment_resumes_the_killed_one_it_waited_for(copies, monkeypatch):
    monkeypatch.setattr(publishing, "LOCK_SECONDS", 0.2)
    begun = FINISHES.replace("print(", "(folder / 'block_0').write_bytes(b'half'); print(")
    with experiment(copies, begun) as other:
        monkeypatch.setattr("sys.stderr", Stderr(other.kill))
        with workspace(FINAL, code=["runtime"], inputs="a") as folder:
            assert [path.name for path in folder.iterdir()] == ["block_0"]


@pytest.mark.slow
def test_experiments_of_other_inputs_run_at_once_and_keep_work(copies, monkeypatch, capsys):
    """For example two architectures, which have the same output in two copies."""
    with pytest.raises(Stopped):
        work_until_stopped("c")
    with experiment(copies, FINISHES) as other:
        with workspace(FINAL, code=["runtime"], inputs="b") as folder:
            (folder / "finished.h5").write_bytes(b"others")
            publish_copy(folder / "finished.h5", FINAL)
        other.communicate("", timeout=HANGS)
    assert other.returncode == 0
    assert capsys.readouterr().err == ""
    assert FINAL.read_bytes() == b"others"
    assert (copies / "two" / FINAL).read_bytes() == b"rows"
    work = copies.parents[2] / ".work/out-logits.h5"
    assert sorted(path.name for path in work.glob("*/*")) == ["block_0", "finished.h5", "finished.h5"]


@pytest.mark.slow
def test_the_repository_keeps_only_work_of_running_experiments(copies, monkeypatch):
    """It treats them like its own work of other inputs."""
    with pytest.raises(Stopped):
        work_until_stopped("c")
    forget_work_of_others([], "out/*.h5")  # an experiment removes nothing
    work = copies.parents[2] / ".work/out-logits.h5"
    assert len(list(work.glob("*/*"))) == 1
    begun = FINISHES.replace("print(", "(folder / 'state.npz').write_bytes(b'half'); print(")
    in_the_repository(monkeypatch, copies)
    with experiment(copies, begun) as other:
        with workspace(FINAL, code=["runtime"], inputs="b"):
            assert [path.name for path in work.glob("*/*")] == ["state.npz"]
        forget_work_of_others([], "out/*.h5")
        assert [path.name for path in work.glob("*/*")] == ["state.npz"]
        forget_finished(FINAL)
        other.communicate("", timeout=HANGS)
    assert other.returncode == 0
    forget_work_of_others([], "out/*.h5")
    assert list(work.glob("*/")) == []


@pytest.mark.slow
def test_the_repository_does_not_wait_for_an_experiment(copies, monkeypatch):
    """Its user would not know why nothing happens."""
    monkeypatch.setattr(publishing, "LOCK_SECONDS", 0.2)
    in_the_repository(monkeypatch, copies)
    with experiment(copies, FINISHES) as other:
        with (
            pytest.raises(BusyError, match=r"out/logits\.h5"),
            workspace(FINAL, code=["runtime"], inputs="a"),
        ):
            pass
        other.communicate("", timeout=HANGS)


@pytest.mark.slow
def test_a_second_process_in_the_same_copy_is_refused(copies, monkeypatch):
    monkeypatch.setattr(publishing, "LOCK_SECONDS", 0.2)
    with experiment(copies, FINISHES) as other:
        monkeypatch.chdir(copies / "two")
        for inputs in ("a", "b"):
            with (
                pytest.raises(BusyError, match=r"out/logits\.h5"),
                workspace(FINAL, code=["runtime"], inputs=inputs),
            ):
                pass
        other.communicate("", timeout=HANGS)


@pytest.mark.slow
def test_two_experiments_publish_one_output_at_the_same_time(copies, monkeypatch):
    monkeypatch.setattr(publishing, "LOCK_SECONDS", 0.2)
    program = (
        "with publish(Path('out/logits.h5')) as partial:\n"
        "    print('at work', flush=True)\n    sys.stdin.read()\n    partial.write_bytes(b'two')"
    )
    with experiment(copies, program) as other:
        with publish(FINAL) as partial:
            partial.write_bytes(b"one")
        other.communicate("", timeout=HANGS)
    assert FINAL.read_bytes() == b"one"
    assert (copies / "two" / FINAL).read_bytes() == b"two"
