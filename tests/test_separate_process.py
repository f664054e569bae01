"""A function in a process of its own: what comes back, and what ends it."""

import importlib
import math
import os
import posix
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from real_project import HANGS

from pipeline.models.logit_formats import one_kind
from pipeline.runtime.errors import DamagedError, UnusableError, one_line
from pipeline.runtime.separate_process import run_separately

FILE = {"path": Path("theirs.bin"), "remedy": "Write it again."}


def test_the_value_of_a_function_comes_back():
    assert run_separately(one_line, "two\nlines", **FILE) == "two lines"
    assert run_separately(os.path.basename, Path("folder", "file"), **FILE) == "file"


def test_it_finds_modules_where_this_process_does(tmp_path, monkeypatch):
    (tmp_path / "elsewhere_named.py").write_text("def three():\n    return 3\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    assert run_separately(importlib.import_module("elsewhere_named").three, **FILE) == 3


def test_what_it_prints_is_not_taken_for_its_value(capfd):
    assert run_separately(print, "words", **FILE) is None
    assert capfd.readouterr() == ("", "")


def test_an_error_of_ours_comes_back_as_it_is():
    with pytest.raises(UnusableError, match=r"^table\.csv has both logits and probabilities\. Leave one"):
        run_separately(one_kind, Path("table.csv"), ["logits", "probabilities"], **FILE)


def test_another_error_is_told_in_one_line():
    with pytest.raises(DamagedError, match=r"^theirs\.bin cannot be read: ValueError: .*\. Write it again\.$"):
        run_separately(int, "no number\n" * 1000, **FILE)


@pytest.mark.parametrize(
    ("function", "argument", "name"),
    [(posix._exit, 3, "code 3"), (signal.raise_signal, signal.SIGSEGV, "SIGSEGV"), (signal.raise_signal, 6, "SIGABRT")],
    ids=["exit", "segmentation fault", "abort"],
)
def test_a_crash_is_told(function, argument, name):
    with pytest.raises(DamagedError, match=rf"^theirs\.bin cannot be read: the library .* crashed \({name}\)\. Write"):
        run_separately(function, argument, **FILE)


def test_a_loop_without_end_in_c_is_ended():
    with pytest.raises(UnusableError, match=r"^theirs\.bin was not read within 1 s "):
        run_separately(math.factorial, 10**9, seconds=1, **FILE)


def test_waiting_without_end_is_ended(monkeypatch):
    monkeypatch.setattr("pipeline.runtime.separate_process.WAITING", 1)
    with pytest.raises(UnusableError, match="was not read within 1 s "):
        run_separately(time.sleep, HANGS, seconds=1, **FILE)


@pytest.mark.skipif(sys.platform != "linux", reason="no limit of memory there")
def test_too_much_memory_is_told():
    with pytest.raises(UnusableError, match=r"^theirs\.bin takes more than 1\.0 GiB of memory to be read\. Write"):
        run_separately(bytes, 2**31, memory=2**30, **FILE)


@pytest.mark.skipif(sys.platform != "linux", reason="it ends later there")
def test_it_ends_with_the_process_that_started_it():
    program = f"""
import math
from pathlib import Path
from pipeline.runtime.separate_process import run_separately
run_separately(math.factorial, 10**9, path=Path("x"), remedy="y", seconds={HANGS})
"""
    with subprocess.Popen([sys.executable, "-c", program]) as parent:
        started = psutil.Process(parent.pid)
        end = time.monotonic() + HANGS
        while not (children := started.children()) and time.monotonic() < end:
            time.sleep(0.05)
        parent.kill()
    assert psutil.wait_procs(children, timeout=HANGS)[1] == []
    assert len(children) == 1
