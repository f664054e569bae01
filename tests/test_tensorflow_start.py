"""What is printed while TensorFlow loads: kept back if it loads, shown if it raises, and shown if the process dies."""

import os
import pty
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import psutil
import pytest
from real_project import ROOT, has_ended, wait_until

PROGRAM = """
import ctypes, faulthandler, os, signal, sys
import psutil
from pipeline.cli.tensorflow_start import _native_stderr_held_back

end = sys.argv[1]
print("before", file=sys.stderr, flush=True)
with _native_stderr_held_back():
    print(*(child.pid for child in psutil.Process().children()), flush=True)
    os.write(2, b"x" * 200_000 + b"\\n")  # more than a pipe holds
    ctypes.CDLL(None).dprintf(2, b"said by a library\\n")
    print("said by Python", file=sys.stderr)
    exec(end)
print("after", file=sys.stderr)
"""
DEATHS = {
    "abort": ("os.abort()", -signal.SIGABRT),
    "segmentation fault": ("ctypes.string_at(0)", -signal.SIGSEGV),
    "wrong instruction set": ("os.kill(os.getpid(), signal.SIGILL)", -signal.SIGILL),
    "kill -9": ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    "_exit": ("sys.stderr.flush(); os._exit(3)", 3),
}
LAST_WORDS = "The process ended while TensorFlow was loading"


def start(end: str, **streams) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", PROGRAM, end], cwd=ROOT, text=True, **streams)


@cache
def ended_with(end: str) -> tuple[int, str, list[int]]:
    """The exit code, everything on stderr, and the processes that were started beside it; each end is met once."""
    process = start(end, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    printed, said = process.communicate()
    return process.returncode, said, [int(pid) for pid in printed.split()]


@pytest.mark.parametrize("death", DEATHS)
def test_what_was_printed_before_the_process_died_is_shown(death):
    end, code = DEATHS[death]
    returned, said, _ = ended_with(end)
    assert returned == code
    first, long_line, *rest = said.splitlines()
    assert (first, long_line) == ("before", "x" * 200_000)
    assert rest[:2] == ["said by a library", "said by Python"]
    assert rest[-1].startswith(LAST_WORDS)


@pytest.mark.parametrize(
    ("death", "name"),
    [("abort", "Aborted"), ("segmentation fault", "Segmentation fault"), ("wrong instruction set", "Illegal instruc")],
)
def test_a_signal_is_named_with_the_line_where_it_came(death, name):
    _, said, _ = ended_with(DEATHS[death][0])
    assert f"Fatal Python error: {name}" in said
    assert 'File "<string>", line 1 in <module>' in said


def test_a_start_that_ends_well_stays_quiet():
    assert ended_with("pass")[:2] == (0, "before\nafter\n")


def test_an_exception_shows_what_was_held_back_once_and_in_front():
    code, said, _ = ended_with("raise ImportError('no library')")
    assert code == 1
    assert said.count("said by a library") == said.count("said by Python") == 1
    assert said.index("said by Python") < said.index("Traceback") < said.index("ImportError: no library")
    assert LAST_WORDS not in said


def test_ctrl_c_shows_nothing_of_it():
    _, said, _ = ended_with("raise KeyboardInterrupt")
    assert "said by" not in said


@pytest.mark.parametrize("end", ["pass", "raise ValueError", *(end for end, _ in DEATHS.values())])
def test_no_process_is_left_behind(end):
    _, _, (watcher,) = ended_with(end)
    wait_until(lambda: not psutil.pid_exists(watcher) or has_ended(psutil.Process(watcher)))


def test_a_file_gets_it_too(tmp_path):
    log = tmp_path / "log"
    with log.open("w") as file:
        start("os.abort()", stdout=subprocess.DEVNULL, stderr=file).wait()
    wait_until(lambda: LAST_WORDS in log.read_text())
    assert log.read_text().startswith("before\nxxx")
    assert "said by a library" in log.read_text()


def test_a_terminal_gets_it_too():
    master, slave = pty.openpty()
    process = start("os.abort()", stdout=subprocess.DEVNULL, stderr=slave)
    os.close(slave)
    said = b""
    while True:
        try:
            block = os.read(master, 65536)
        except OSError:  # nobody holds the terminal any more
            break
        if not block:
            break
        said += block
    os.close(master)
    assert process.wait() == -signal.SIGABRT
    assert b"said by a library" in said
    assert LAST_WORDS.encode() in said


def test_packages_hidden_from_keras_can_be_imported_afterwards():
    program = (
        "import gc, sys\n"
        "from pipeline.cli.tensorflow_start import NOT_NEEDED_BY_KERAS, start_tensorflow\n"
        "start_tensorflow()\n"
        "assert sys.modules.keys().isdisjoint(NOT_NEEDED_BY_KERAS)\n"
        "assert gc.isenabled()\n"
        "import matplotlib.pyplot, sklearn.metrics\n"
        "import keras\n"
        "print(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).count_params())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr


def test_a_closed_stderr_is_opened_on_nothing(tmp_path):
    """Otherwise the next file would be descriptor 2, and what a library prints would be written into it."""
    program = (
        "import ctypes, sys\n"
        "from pipeline.cli import main as cli\n"
        "def act(**_):\n"
        "    with open('data', 'w') as file:\n"
        "        ctypes.CDLL(None).dprintf(2, b'said by a library')\n"
        "        print('warning', file=sys.stderr)\n"
        "        print(f'descriptor {file.fileno()}')\n"
        "cli.main.commands['init-remote'].callback = act\n"
        "cli.main(['init-remote'])\n"
    )
    command = ["bash", "-c", 'PYTHONPATH="$2" exec "$0" -c "$1" 2>&-', sys.executable, program, str(ROOT)]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout.startswith("descriptor ")
    assert done.stdout != "descriptor 2\n"
    assert Path(tmp_path / "data").read_text() == ""
