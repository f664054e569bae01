"""What holds for the tests themselves."""

import ast
import os
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
    files = sorted(Path(__file__).parent.glob("test_*.py"))
    parsed = {path.name: ast.walk(ast.parse(path.read_text(encoding="utf-8"))) for path in files}
    functions = [
        (file, node.name) for file, nodes in parsed.items() for node in nodes if isinstance(node, ast.FunctionDef)
    ]
    tests = [(file, name) for file, name in functions if name.startswith("test_")]
    assert len(tests) > 1000
    assert [test for test in tests if len(test[1]) > 60] == []
