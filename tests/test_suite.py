"""What holds for the tests themselves."""

import os
import subprocess
import sys

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
