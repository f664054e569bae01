"""What holds for the tests themselves."""

import os
import re
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


def test_every_test_has_a_name_of_at_most_sixty_characters():
    files = Path(__file__).parent.glob("test_*.py")
    tests = [name for file in files for name in re.findall(r"(?m)^ *def (test_\w+)", file.read_text(encoding="utf-8"))]
    assert len(tests) > 1000
    assert [name for name in tests if len(name) > 60] == []
