"""The first word of each command, and its last where Ctrl-C or SIGTERM ends it."""

import errno
import io
import itertools
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from real_project import HANGS, ROOT
from ruamel.yaml import YAML

from pipeline.cli import interruption, main
from pipeline.cli.interruption import KEPT, Announced, HungUp, Terminated
from pipeline.tools import step_speed

AT_ONCE = {"init-remote"}
"""It loads nothing that takes time."""

STAGES = {
    stage.replace("_", "-")
    for file in ("dvc.yaml", "data/sample/dvc.yaml", "data/cifar10/dvc.yaml")
    for stage in YAML(typ="safe").load(ROOT / file)["stages"]
}


def interrupted(monkeypatch, error=KeyboardInterrupt, command="init-remote"):
    def end(*_, **__):
        raise error

    monkeypatch.setattr(main.main.commands[command], "callback", end)
    arguments = {"soften": ["--temperature", "4"], "verify": ["x.h5"], "inspect": ["x.h5"], "render-views": ["views"]}
    return CliRunner().invoke(main.main, [command, *arguments.get(command, [])])


@pytest.mark.parametrize(
    ("command", "kept", "next_run"),
    [
        ("init-remote", "Nothing", "the same command"),
        ("verify", "Nothing", "the same command"),
        ("precompute", "views", "`dvc repro`"),
        ("train-teacher", "epochs", "`dvc repro`"),
        ("soften", "other stages", "`dvc repro`"),
    ],
)
def test_ctrl_c_ends_with_code_130_and_how_to_go_on(monkeypatch, command, kept, next_run):
    shown = interrupted(monkeypatch, command=command)
    assert shown.exit_code == 130
    assert shown.stdout == ""
    (line,) = [line for line in shown.stderr.splitlines() if not line.endswith(": starting")]
    assert line.startswith("Interrupted. ")
    assert kept in line.split(" kept")[0]
    assert next_run in line.split(" kept")[1]


@pytest.mark.parametrize(("error", "code", "name"), [(Terminated, 143, "SIGTERM"), (HungUp, 129, "SIGHUP")])
def test_a_signal_is_named(monkeypatch, error, code, name):
    shown = interrupted(monkeypatch, error)
    assert shown.exit_code == code
    assert re.fullmatch(f".*{name}.*\n", shown.stderr)


COMMAND = """
import os, signal, sys, time
from pathlib import Path
from pipeline.cli import interruption, main as cli
from pipeline.runtime.publish import replace_whole

def act(**_):
{act}

interruption.GRACE_SECONDS = 0.1
cli.main.commands["init-remote"].callback = act
cli.main(["init-remote"])
"""
"""A program whose command does what a test says."""


def run_command(tmp_path, act, **options):
    """What a command does and prints whose body is `act`, in a process of its own."""
    program = COMMAND.format(act=textwrap.indent(textwrap.dedent(act), "    "))
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def test_a_process_that_gets_sigterm_cleans_up_and_says_so(tmp_path):
    done = run_command(
        tmp_path,
        """
        with replace_whole(Path("out")) as partial:
            partial.write_text("half")
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        """,
    )
    assert done.returncode == 143
    assert re.fullmatch(".*SIGTERM.*\n", done.stderr)
    assert list(tmp_path.iterdir()) == []


def test_a_closed_terminal_leaves_no_file(tmp_path):
    done = run_command(
        tmp_path,
        """
        with replace_whole(Path("out")) as partial:
            partial.write_text("half")
            print(os.environ["TMPDIR"], flush=True)
            os.kill(os.getpid(), signal.SIGHUP)
            signal.pause()
        """,
    )
    assert done.returncode == 129
    assert list(tmp_path.iterdir()) == []
    assert "softlabel-" in done.stdout
    assert not Path(done.stdout.strip()).exists()


def test_a_second_signal_does_not_stop_the_cleaning_up(tmp_path):
    done = run_command(
        tmp_path,
        """
        try:
            os.kill(os.getpid(), signal.SIGINT)
            signal.pause()
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            Path("cleaned up").touch()
        """,
    )
    assert done.returncode == 130
    assert re.fullmatch("Interrupted.*\n", done.stderr)
    assert (tmp_path / "cleaned up").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_what_does_not_hear_of_it(tmp_path, number):
    """As while TensorFlow compiles: only the thread of the clock has a chance to run."""
    done = run_command(
        tmp_path,
        f"""
        signal.pthread_sigmask(signal.SIG_BLOCK, [{number}])
        if os.fork() == 0:
            time.sleep(0.2)
            os.kill(os.getppid(), {number})
            os._exit(0)
        time.sleep({HANGS})
        """,
    )
    assert done.returncode == 128 + number
    assert re.fullmatch("(Interrupted|Ended by SIGTERM)[.] .*\n", done.stderr)


@pytest.mark.parametrize(
    "afterwards",
    [
        f"time.sleep({HANGS})",
        'raise ValueError("Error building a validator")',  # as pydantic, of whatever is raised while it builds one
    ],
)
def test_a_signal_ends_what_makes_something_else_of_the_error(tmp_path, afterwards):
    done = run_command(
        tmp_path,
        f"""
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        except BaseException:
            {afterwards}
        """,
    )
    assert done.returncode == 143
    assert re.fullmatch(".*SIGTERM.*\n", done.stderr)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("seconds", [0.1, HANGS])
def test_a_signal_waits_until_a_module_in_c_is_imported(tmp_path, number, seconds):
    """Some of these modules crash if an error comes up meanwhile; one that takes long is ended with the process."""
    done = run_command(
        tmp_path,
        f"""
        from importlib.machinery import ExtensionFileLoader, ModuleSpec
        from importlib.util import module_from_spec
        interruption.GRACE_SECONDS = 1.5 if {seconds} < 1 else 0.2

        def imported(*_):
            try:
                os.kill(os.getpid(), {number})
                time.sleep({seconds})
            except BaseException:
                print("crashes", flush=True)
            Path("imported").touch()
        import importlib._bootstrap_external as external
        external._bootstrap._call_with_frames_removed = imported
        with replace_whole(Path("out")) as partial:
            partial.write_text("half")
            module_from_spec(ModuleSpec("in_c", ExtensionFileLoader("in_c", "in_c.so")))
            time.sleep({HANGS})
        """,
    )
    assert (done.returncode, done.stdout) == (128 + number, "")
    assert re.fullmatch("(Interrupted|Ended by SIGTERM)[.] .*\n", done.stderr)
    names = [path.name for path in tmp_path.iterdir()]
    assert names == ["imported"] if seconds < 1 else "imported" not in names


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["descriptor", "handler"])
def test_a_signal_that_comes_after_the_last_act_has_its_code(tmp_path, number, moment):
    """While what surrounds the command is put back: at its first call, and before the last handler of a signal."""
    done = run_command(
        tmp_path,
        f"""
        def coming(name, at):
            set_before, calls = getattr(signal, name), []
            def come(*arguments, **options):
                calls.append(1)
                if len(calls) == at:
                    os.kill(os.getpid(), {number})
                return set_before(*arguments, **options)
            setattr(signal, name, come)
        coming(*{{"descriptor": ("set_wakeup_fd", 1), "handler": ("signal", 1)}}["{moment}"])
        """,
    )
    assert done.returncode == 128 + number
    assert re.fullmatch("(Interrupted|Ended by SIGTERM)[.] .*\n", done.stderr)


def test_a_signal_in_a_callback_of_the_collector_shows_nothing(tmp_path):
    """As one of jax, which Keras imports: Python shows an error of it, and goes on."""
    done = run_command(
        tmp_path,
        f"""
        import gc
        def callback(*_):
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000):
                pass
        gc.callbacks.append(callback)
        gc.collect()
        time.sleep({HANGS})
        """,
    )
    assert done.returncode == 130
    assert re.fullmatch("Interrupted.*\n", done.stderr)


def test_the_last_words_come_once_though_threads_go_on(tmp_path):
    done = run_command(
        tmp_path,
        f"""
        import threading
        threading.Thread(target=time.sleep, args=[{HANGS}]).start()
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
        """,
    )
    assert done.returncode == 143
    assert re.fullmatch(".*SIGTERM.*\n", done.stderr)


def test_under_nohup_a_command_works_on(tmp_path):
    done = run_command(
        tmp_path,
        "os.kill(os.getpid(), signal.SIGINT); print('done')",
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert (done.returncode, done.stdout) == (0, "done\n")


IMPORTING = """
import os, signal, sys

class Signal:
    def find_spec(self, name, path=None, target=None):
        if name == "pipeline.cli.main":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Signal())
from pipeline.__main__ import main
main()
"""


def test_ctrl_c_while_modules_are_imported_shows_no_traceback(tmp_path):
    command = [sys.executable, "-c", IMPORTING]
    done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, b"")


ENDING = """
import atexit, os, sys
from pipeline.__main__ import main
from pipeline.cli import main as cli

def act(**_):
    raise KeyboardInterrupt

class Imported:
    def __del__(self, write=os.write):
        write(1, b"torn down")

cli.main.commands["init-remote"].callback = act
sys.imported = Imported()
atexit.register(lambda: os.write(1, b"tidied up"))
sys.argv[1:] = ["init-remote"]
main()
"""


def test_after_ctrl_c_nothing_that_was_imported_is_torn_down(tmp_path):
    command = [sys.executable, "-c", ENDING]
    done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (130, b"tidied up")


def test_what_is_kept_is_told_of_every_stage_and_of_nothing_else():
    assert set(KEPT) == {*STAGES, "sweep"}


@pytest.mark.parametrize("command", main.main.commands)
def test_what_takes_time_to_load_is_announced(command):
    assert isinstance(main.main.commands[command], Announced) == (command not in AT_ONCE)


FIRST_WORDS = """
import sys

class Terminal:
    def write(self, text):
        print(repr(text), sorted({"numpy", "pydantic", "h5py", "tensorflow", "ruamel.yaml"} & set(sys.modules)))
        sys.exit()
    def flush(self): pass
    def isatty(self): return False

from pipeline.cli.main import main
sys.stderr = Terminal()
main()
"""


@pytest.mark.parametrize("command", ["precompute", "plan", "verify x.h5", "predict x.tflite x.png"])
def test_the_first_word_comes_before_anything_is_loaded(tmp_path, command):
    done = subprocess.run(
        [sys.executable, "-c", FIRST_WORDS, *command.split()],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == f"'{command.split()[0]}: starting' []\n"


@pytest.mark.parametrize("arguments", [["precompute", "--help"], ["precompute", "--batch"], ["soften"]])
def test_help_and_wrong_use_announce_nothing(arguments):
    assert "starting" not in CliRunner().invoke(main.main, arguments).output


def test_without_a_terminal_the_last_words_are_lost(monkeypatch):
    class Gone(io.StringIO):
        def write(self, text):
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(sys, "stderr", Gone())
    assert interruption.report_interruption("split", HungUp()) == 129


def test_a_terminal_gets_the_last_words_on_a_line_of_their_own(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert interruption.report_interruption("plan", KeyboardInterrupt()) == 130
    assert re.fullmatch("\nInterrupted.*\n", capsys.readouterr().err)


def test_a_measurement_tells_of_each_batch_that_takes_long(monkeypatch, capsys):
    """Batches of 40, 10, 1.5 and 1.5 seconds: two warm up, and two seconds are reached with the next two."""
    ends = itertools.accumulate([0, 40, 0, 10, 0, 1.5, 0, 1.5])
    monkeypatch.setattr(step_speed, "time", SimpleNamespace(perf_counter=lambda: next(ends)))
    assert step_speed._seconds(lambda: None) == 1.5
    assert capsys.readouterr().err.splitlines() == [
        "  40.0 s, to warm up", "  10.0 s, to warm up", "  1.5 s, timed", "  1.5 s, timed",
    ]  # fmt: skip


def test_a_measurement_is_silent_about_fast_batches(monkeypatch, capsys):
    ends = itertools.count(0, 0.25)
    monkeypatch.setattr(step_speed, "time", SimpleNamespace(perf_counter=lambda: next(ends)))
    assert step_speed._seconds(lambda: None) == 0.25
    assert capsys.readouterr().err == ""
