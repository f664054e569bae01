"""What holds for the tests themselves."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    "begin",
    [lambda: subprocess.run([sys.executable, "-c", ""], check=True), os.fork, lambda: os.system("true")],  # noqa: S605
    ids=["subprocess", "fork", "system"],
)
def test_a_test_without_the_mark_slow_starts_no_process(begin):
    with pytest.raises(RuntimeError, match=r"@pytest\.mark\.slow"):
        begin()


@pytest.mark.slow
def test_a_slow_test_starts_processes():
    assert subprocess.run([sys.executable, "-c", "print(1)"], check=True, capture_output=True).stdout == b"1\n"


UNDER_NOHUP = """
import os, signal, subprocess, sys
import conftest

signals = [signal.SIGHUP, signal.SIGINT, signal.SIGTERM]
for number in signals:
    os.kill(os.getpid(), number)
started = f"import signal; print([signal.getsignal(number) is signal.SIG_IGN for number in {[*map(int, signals)]}])"
subprocess.run([sys.executable, "-c", started], check=True)
"""


@pytest.mark.slow
def test_what_tests_start_hears_signals_that_the_tests_ignore():
    def ignore():
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)

    tests = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", UNDER_NOHUP],
        env=os.environ | {"PYTHONPATH": f"{tests.parent}{os.pathsep}{tests}"},
        preexec_fn=ignore,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[False, False, False]\n"


def test_every_test_has_a_name_of_at_most_sixty_characters():
    files = Path(__file__).parent.glob("test_*.py")
    tests = [name for file in files for name in re.findall(r"(?m)^ *def (test_\w+)", file.read_text(encoding="utf-8"))]
    assert len(tests) > 1000
    assert [name for name in tests if len(name) > 60] == []
